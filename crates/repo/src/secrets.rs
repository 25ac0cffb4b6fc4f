//! Passwords and keys that are written in clear where `${VAR}` belongs.
//!
//! Not here: covering them where text is shown; that is [`crate::place::SourceFile`].

use crate::{
    code,
    diagnostic::Diagnostic,
    node::{Data, Node},
    place::{Place, Span},
    written::Written,
};

/// One secret in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    /// Where it is written, quotes left aside.
    pub(crate) span: Span,
    /// The variable that could hold it.
    variable: String,
    what: &'static str,
}

impl Secret {
    pub(crate) fn warning(&self, place: Place) -> Diagnostic {
        Diagnostic::warning(
            code::SECRET_IN_CLEAR,
            place,
            format!("{} is written in clear", self.what),
        )
        .label("in clear")
        .help(format!(
            "put it in the environment and write ${{{}}} here",
            self.variable
        ))
    }
}

/// The secrets of a deployment, in which any field may hold one.
pub(crate) fn of_deployment(document: &Node, file: &str) -> Vec<Secret> {
    let mut found = Vec::new();
    walk(document, file, &mut found);
    found
}

/// The secrets of a definition: in its own fields, its path and its tags. The keys of `join_keys` and `features` are
/// names of columns, and what stands behind them are types.
pub(crate) fn of_definition(document: &Node, file: &str) -> Vec<Secret> {
    let mut found = Vec::new();
    for (key, value) in document.entries().unwrap_or_default() {
        match key.text().unwrap_or_default() {
            "path" => in_url(value, file, &mut found),
            "tags" => {
                for (key, value) in value.entries().unwrap_or_default() {
                    under_key(key.text().unwrap_or_default(), value, file, &mut found);
                }
            }
            name => {
                under_key(name, value, file, &mut found);
            }
        }
    }
    found
}

/// Where URLs in a text have passwords, for texts that are not YAML.
pub(crate) fn of_text(text: &str) -> Vec<Span> {
    passwords(text)
        .map(|(start, end)| Span::new(start, end))
        .collect()
}

fn walk(node: &Node, file: &str, found: &mut Vec<Secret>) {
    match &node.data {
        Data::Scalar(_) => in_url(node, file, found),
        Data::List(elements) => elements
            .iter()
            .for_each(|element| walk(element, file, found)),
        Data::Mapping(entries) => {
            for (key, value) in entries {
                if !under_key(key.text().unwrap_or_default(), value, file, found) {
                    walk(value, file, found);
                }
            }
        }
    }
}

/// Takes a value whose key says that it is secret; says whether it did.
fn under_key(name: &str, value: &Node, file: &str, found: &mut Vec<Secret>) -> bool {
    let clear = value
        .text()
        .filter(|text| says_secret(name) && !value.is_null() && !text.is_empty())
        .filter(|text| !text.contains("${"));
    let Some(text) = clear else { return false };
    let span = Written::of(value, file)
        .and_then(|written| written.span(0, text.len()))
        .unwrap_or(value.span);
    let letter = |c: char| match c {
        _ if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    };
    found.push(Secret {
        span,
        variable: name.chars().map(letter).collect(),
        what: "a secret",
    });
    true
}

/// A scalar that is a URL with a password.
fn in_url(node: &Node, file: &str, found: &mut Vec<Secret>) {
    let Some(text) = node.text() else { return };
    for (start, end) in passwords(text) {
        let span = Written::of(node, file)
            .and_then(|written| written.span(start, end))
            .unwrap_or(node.span);
        let scheme = text.split("://").next().unwrap_or_default();
        let variable = if scheme.starts_with("redis") {
            "REDIS_PASSWORD"
        } else {
            "PASSWORD"
        };
        found.push(Secret {
            span,
            variable: variable.to_owned(),
            what: "the password of a URL",
        });
    }
}

/// The bytes of each `PASSWORD` in `scheme://user:PASSWORD@host`, except for variables.
fn passwords(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.match_indices("://").filter_map(|(at, separator)| {
        let start = at + separator.len();
        let authority = text[start..]
            .split(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\''))
            .next()?;
        let (user_info, _) = authority.rsplit_once('@')?;
        let (user, password) = user_info.split_once(':')?;
        let is_clear = !password.is_empty() && !password.contains("${");
        let begins = start + user.len() + 1;
        is_clear.then_some((begins, begins + password.len()))
    })
}

/// Whether a key's words say that its value is secret: `db_password`, `accessKey`, but not `tokenizer`.
fn says_secret(name: &str) -> bool {
    let words = words(name);
    let is = |wanted: &[&str]| words.windows(wanted.len()).any(|found| found == wanted);
    let one = [
        "password",
        "passwords",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "secrets",
        "token",
        "tokens",
        "credential",
        "credentials",
        "apikey",
    ];
    one.iter().any(|word| is(&[word]))
        || [
            ["access", "key"],
            ["api", "key"],
            ["private", "key"],
            ["account", "key"],
        ]
        .iter()
        .any(|pair| is(pair))
}

/// The words of a key, in lower case: parted by anything that is no letter, and before a capital after a small one.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for c in name.chars() {
        let starts_word = !c.is_alphanumeric() || (c.is_uppercase() && after_small);
        if starts_word {
            words.push(String::new());
        }
        after_small = c.is_lowercase();
        if let Some(word) = words.last_mut()
            && c.is_alphanumeric()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_by_its_words_that_it_is_secret() {
        for (name, want) in [
            ("password", true),
            ("db_password", true),
            ("aws_secret_access_key", true),
            ("accessKey", true),
            ("apiToken", true),
            ("token", true),
            ("tokenizer", false),
            ("key", false),
            ("join_keys", false),
            ("secretary", false),
            ("", false),
        ] {
            assert_eq!(says_secret(name), want, "{name}");
        }
    }

    #[test]
    fn passwords_of_urls_are_found() {
        for (text, want) in [
            ("redis://:pw@host", Some("pw")),
            ("redis://me:p@w@host/0", Some("p@w")),
            ("redis://me:p:w@host", Some("p:w")),
            ("redis://me@host", None),
            ("redis://host:6379", None),
            ("redis://:${PW}@host", None),
            ("redis://:@host", None),
            ("s3://bucket/a:b@c", None),
            ("see http://a b:c@d", None),
        ] {
            let found = passwords(text).next().map(|(start, end)| &text[start..end]);
            assert_eq!(found, want, "{text}");
        }
    }
}
