//! What goes wrong in an operation, by whose fault it is.

use std::error::Error;

/// Whose fault an error is, and whether the same call can work later. Transports turn it into their codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The request is wrong; the same call fails again.
    Request,
    /// What the request names does not exist.
    NotFound,
    /// Somebody else was first; plan again.
    Stale,
    /// A store does not hold yet what the request demands to see; the same call works once it does.
    Behind,
    /// The user's data is wrong: a source file, entity rows.
    Data,
    /// More waits to be done than can wait; the same call can work later.
    Busy,
    /// A store has no room for what is to be written; the same call works once it has.
    Full,
    /// A store or its network failed; the same call can work later.
    Store,
    /// Vintner is at fault.
    Internal,
}

/// An operation's error: a message for people, whose fault it is, and the error that caused it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct OpsError {
    /// Whose fault it is.
    pub fault: Fault,
    /// What was tried, on what, and what to do.
    pub message: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl OpsError {
    /// An error without a cause.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
            source: None,
        }
    }

    /// The message of another error, with its cause.
    pub fn from_error(fault: Fault, error: impl Error + Send + Sync + 'static) -> Self {
        Self {
            fault,
            message: error.to_string(),
            source: Some(Box::new(Cause(Box::new(error)))),
        }
    }

    /// The message and its causes in one line, see [`chain`].
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error's message and every cause that adds something, joined by `: `.
pub fn chain(error: &dyn Error) -> String {
    let mut text = plain(&error.to_string()).to_owned();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        let message = plain(&message);
        if !text.contains(message) {
            text.push_str(": ");
            text.push_str(message);
        }
        next = cause.source();
    }
    text
}

/// A message without the words `Generic S3 error: `, which `object_store` puts before the cause and which say nothing.
fn plain(message: &str) -> &str {
    let rest = message.strip_prefix("Generic ");
    match rest.and_then(|rest| rest.split_once(" error: ")) {
        Some((store, cause)) if !store.contains(' ') => cause,
        _ => message,
    }
}

/// Hands on an error whose own message is already told.
#[derive(Debug)]
struct Cause(Box<dyn Error + Send + Sync>);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Told {
        message: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn a_chain_says_nothing_twice_and_nothing_empty() {
        let chained = |messages: &[&'static str]| {
            let told = messages.iter().rev().fold(None, |source, message| {
                Some(Box::new(Told { message, source }))
            });
            chain(&*told.unwrap())
        };
        for (messages, want) in [
            (&["could not read"][..], "could not read"),
            (&["could not read", "no disk"], "could not read: no disk"),
            (
                &["could not read: no disk", "no disk"],
                "could not read: no disk",
            ),
            (
                &["could not read", "Generic S3 error: no net", "no net"],
                "could not read: no net",
            ),
            (&["Generic S3 error: no net", "no net"], "no net"),
            (
                &["a", "Generic thing or other error: b"],
                "a: Generic thing or other error: b",
            ),
        ] {
            assert_eq!(chained(messages), want);
        }
    }
}
