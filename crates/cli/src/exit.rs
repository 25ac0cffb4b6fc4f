//! Exit codes, given in this one place, and how a failed command ends.

use std::{fmt, io::Write as _, process::ExitCode};

use vintner_ops::{Fault, OpsError};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// A store or a run failed, and the same command can work later; or `verify` or `doctor` found something wrong.
    Failed = 1,
    /// The user's input is at fault: the repo, the flags, the entity rows.
    Input = 2,
    /// `plan --exit-code` found changes.
    Changes = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The last lines of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  a store or a run failed; `verify` found differences, `doctor` something broken
  2  the input is at fault: the repo, the flags, the entity rows
  3  `plan --exit-code` found changes";

/// Why a command could not be done.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// The user's input is at fault.
    pub(crate) fn input(message: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Input,
            message: message.to_string(),
        }
    }

    /// A store, a file system or a network failed.
    pub(crate) fn store(message: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.to_string(),
        }
    }

    /// The command has already said what is wrong.
    pub(crate) fn told(exit: Exit) -> Self {
        Self {
            exit,
            message: String::new(),
        }
    }

    /// What went wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says on stderr what went wrong, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(std::io::stderr(), "error: {}", self.message);
        }
        self.exit.into()
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        let exit = match error.fault {
            Fault::Request | Fault::NotFound | Fault::Data => Exit::Input,
            Fault::Stale
            | Fault::Behind
            | Fault::Busy
            | Fault::Full
            | Fault::Store
            | Fault::Internal => Exit::Failed,
        };
        Self {
            exit,
            message: error.chain(),
        }
    }
}

/// Writing to stdout failed. A reader that has gone away (`| head`) is no failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::told(Exit::Done),
            _ => Self::store(format!("could not write the answer: {error}")),
        }
    }
}
