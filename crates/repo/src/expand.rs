//! `${VAR}` and `${VAR:-default}` in a text. `$${` stands for `${` itself.
//!
//! A default takes the place of a variable that is not set or is empty, as in a shell. What a variable holds is not
//! expanded again.

use std::ops::Range;

/// Where the values of variables come from.
pub(crate) type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What is wrong with one `${…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadVariable {
    /// Its bytes in the text.
    pub(crate) at: Range<usize>,
    /// What is wrong with it.
    pub(crate) reason: Reason,
}

/// Why a `${…}` cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No variable of that name is set, and there is no default.
    Undefined(String),
    /// There is no `}`.
    Unclosed,
    /// What stands for the name is no name of a variable.
    Name(String),
}

/// The text with its variables expanded, or all that is wrong with them.
pub(crate) fn expand(text: &str, env: &Env) -> Result<String, Vec<BadVariable>> {
    let mut expanded = String::with_capacity(text.len());
    let mut wrong = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        if text[..start].ends_with('$') && start > at {
            expanded.push_str(&text[at..start - 1]);
            expanded.push_str("${");
            at = start + 2;
            continue;
        }
        expanded.push_str(&text[at..start]);
        let inside = &text[start + 2..];
        let Some(length) = inside.find('}') else {
            wrong.push(BadVariable {
                at: start..text.len(),
                reason: Reason::Unclosed,
            });
            at = text.len();
            break;
        };
        at = start + 2 + length + 1;
        match variable(&inside[..length], env) {
            Ok(value) => expanded.push_str(&value),
            Err(reason) => wrong.push(BadVariable {
                at: start..at,
                reason,
            }),
        }
    }
    expanded.push_str(&text[at..]);
    if wrong.is_empty() {
        Ok(expanded)
    } else {
        Err(wrong)
    }
}

/// The value of what stands between the braces.
fn variable(inside: &str, env: &Env) -> Result<String, Reason> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Reason::Name(name.to_owned()));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Reason::Undefined(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_expanded_once() {
        for (text, want) in [
            ("", ""),
            ("plain $ {x} $5", "plain $ {x} $5"),
            ("redis://${HOST}:1", "redis://db:1"),
            ("${HOST}${HOST}", "dbdb"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-}", ""),
            ("${HOST:-x}", "db"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NESTED}", "${HOST}"),
            ("$${HOST}", "${HOST}"),
            ("ü$${HOST}${HOST}ü", "ü${HOST}dbü"),
        ] {
            assert_eq!(expand(text, &env), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place() {
        let wrong = expand("a ${NONE} ${} ${b c} ${x", &env).unwrap_err();
        let found: Vec<_> = wrong
            .iter()
            .map(|bad| (bad.at.clone(), &bad.reason))
            .collect();
        assert_eq!(
            found,
            [
                (2..9, &Reason::Undefined("NONE".into())),
                (10..13, &Reason::Name(String::new())),
                (14..20, &Reason::Name("b c".into())),
                (21..24, &Reason::Unclosed),
            ]
        );
    }
}
