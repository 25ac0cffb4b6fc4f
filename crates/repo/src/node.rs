//! A YAML document as a tree whose nodes know where they stand.
//!
//! Not here: reading the text ([`crate::yaml`]) and what a node should be ([`crate::decode`]).

use crate::place::Span;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes: YAML decides by the text what it is.
    Plain,
    /// `'…'`.
    SingleQuoted,
    /// `"…"`.
    DoubleQuoted,
    /// `|` or `>`.
    Block,
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where it stands, tags and anchors left aside.
    pub(crate) span: Span,
    /// What it is.
    pub(crate) data: Data,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file, with every key as often as it is there.
    Mapping(Vec<(Node, Node)>),
}

/// A single value: its text with quotes, escapes and indentation taken away.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// The text.
    pub(crate) text: String,
    /// How it is written.
    pub(crate) style: Style,
    /// Tagged `!!str`: text, however it looks.
    pub(crate) is_text: bool,
}

/// What YAML takes a scalar for. Source: the core schema of YAML 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number, as written.
    Integer(&'a str),
    /// A number with a point, an exponent, or no end, as written.
    Float(&'a str),
    /// Text.
    Text(&'a str),
}

impl Scalar {
    /// What YAML takes it for.
    pub(crate) fn meaning(&self) -> Meaning<'_> {
        let text = self.text.as_str();
        if self.is_text || self.style != Style::Plain {
            return Meaning::Text(text);
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" => Meaning::Bool(true),
            "false" | "False" | "FALSE" => Meaning::Bool(false),
            _ if is_integer(text) => Meaning::Integer(text),
            _ if is_float(text) => Meaning::Float(text),
            _ => Meaning::Text(text),
        }
    }
}

impl Node {
    /// The scalar, when it is one.
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.data {
            Data::Scalar(scalar) => Some(scalar),
            Data::List(_) | Data::Mapping(_) => None,
        }
    }

    /// The entries, when it is a mapping.
    pub(crate) fn entries(&self) -> Option<&[(Node, Node)]> {
        match &self.data {
            Data::Mapping(entries) => Some(entries),
            Data::Scalar(_) | Data::List(_) => None,
        }
    }

    /// The elements, when it is a list.
    pub(crate) fn elements(&self) -> Option<&[Node]> {
        match &self.data {
            Data::List(elements) => Some(elements),
            Data::Scalar(_) | Data::Mapping(_) => None,
        }
    }

    /// The text of a scalar, whatever YAML takes it for; keys are compared by it.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_str())
    }

    /// The first entry with this key.
    pub(crate) fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        self.entries()?
            .iter()
            .find(|(name, _)| name.text() == Some(key))
    }

    /// The value of the first entry with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Whether it is a scalar that says nothing.
    pub(crate) fn is_null(&self) -> bool {
        self.scalar()
            .is_some_and(|scalar| scalar.meaning() == Meaning::Null)
    }

    /// What it is, for people: "a list", "the number 3".
    pub(crate) fn described(&self) -> String {
        match &self.data {
            Data::List(_) => "a list".to_owned(),
            Data::Mapping(_) => "a mapping".to_owned(),
            Data::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => "nothing".to_owned(),
                Meaning::Bool(_) => format!("the boolean `{}`", scalar.text),
                Meaning::Integer(text) | Meaning::Float(text) => format!("the number `{text}`"),
                // The text itself may be a secret.
                Meaning::Text(_) => "a text".to_owned(),
            },
        }
    }
}

fn is_integer(text: &str) -> bool {
    let all =
        |digits: &str, is: fn(&char) -> bool| !digits.is_empty() && digits.chars().all(|c| is(&c));
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, char::is_ascii_hexdigit);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |c| ('0'..='7').contains(c));
    }
    all(
        text.strip_prefix(['+', '-']).unwrap_or(text),
        char::is_ascii_digit,
    )
}

fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => true,
        ".nan" | ".NaN" | ".NAN" => unsigned == text,
        // Rust reads `inf` and `infinity` too, which YAML does not.
        _ => unsigned.contains(|c: char| c.is_ascii_digit()) && unsigned.parse::<f64>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_means_what_the_core_schema_says() {
        for (text, want) in [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("true", Meaning::Bool(true)),
            ("yes", Meaning::Text("yes")), // YAML 1.1 took it for true
            ("-12", Meaning::Integer("-12")),
            ("0x1F", Meaning::Integer("0x1F")),
            ("1e3", Meaning::Float("1e3")),
            (".5", Meaning::Float(".5")),
            ("-.inf", Meaning::Float("-.inf")),
            ("inf", Meaning::Text("inf")),
            ("6h", Meaning::Text("6h")),
            ("2013-01-01", Meaning::Text("2013-01-01")),
            ("+", Meaning::Text("+")),
        ] {
            let mut scalar = Scalar {
                text: text.to_owned(),
                style: Style::Plain,
                is_text: false,
            };
            assert_eq!(scalar.meaning(), want, "{text:?}");
            scalar.style = Style::SingleQuoted;
            assert_eq!(scalar.meaning(), Meaning::Text(text), "'{text}'");
        }
    }
}
