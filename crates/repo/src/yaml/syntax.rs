//! What is wrong with a text that is not YAML, in plain words.

use crate::{code, place::Span};

/// One thing in a file that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) span: Span,
    /// The diagnostic's code.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: &'static str,
}

/// The parser's words, what they mean, and what to do. The first row whose words are part of the parser's counts.
const WORDS: &[(&str, &str, &str)] = &[
    (
        "mapping values are not allowed",
        "a `:` does not belong here",
        "quote a text that contains `: `; otherwise check the indentation of this line",
    ),
    (
        "illegal placement of ':'",
        "a `:` does not belong here",
        "close the bracket or brace that was opened before; quote a text that contains `: `",
    ),
    (
        "did not find expected key",
        "this line is indented neither like the keys above it nor like a value of one",
        "begin all keys of one mapping in the same column",
    ),
    (
        "did not find expected '-'",
        "an element of the list was expected here",
        "begin each element with `- `, all in the same column",
    ),
    (
        "expected ',' or '}'",
        "a `,` or a `}` was expected here",
        "close the brace; quote a text that contains any of `{}[],`, as in url: \"${REDIS_URL}\"",
    ),
    (
        "expected ',' or ']'",
        "a `,` or a `]` was expected here",
        "close the bracket; quote a text that contains any of `{}[],`",
    ),
    (
        "indentation in quoted scalar",
        "the quoted text that begins here is not closed, or its next line is not indented",
        "close the quote; write a quote inside single quotes twice",
    ),
    (
        "found unexpected end of stream",
        "the quoted text that begins here is not closed",
        "close the quote; write a quote inside single quotes twice",
    ),
    (
        "found unexpected document indicator",
        "the quoted text that begins here is not closed before the next document",
        "close the quote; write a quote inside single quotes twice",
    ),
    (
        "unknown escape character",
        "the quoted text that begins here has a `\\` before a letter that has no such form",
        "write `\\\\`, or use single quotes, in which a `\\` is itself",
    ),
    (
        "trailing content after double-quoted",
        "something stands behind the closing quote",
        "put all of the text between the quotes; write a quote inside double quotes as `\\\"`",
    ),
    (
        "unexpected character",
        "a text without quotes cannot begin with this character",
        "quote the text",
    ),
    (
        "unknown anchor",
        "this document has no anchor of that name",
        "set it with `&name` earlier in the same document; quote a text that begins with `*`",
    ),
    (
        "block sequence entries are not allowed",
        "a list cannot begin here",
        "begin the list on the next line, or write it as [a, b]; quote a text that begins with `- `",
    ),
    (
        "indentation in flow construct",
        "a line inside brackets or braces is not indented, or they are not closed",
        "close the bracket or brace, or indent the line",
    ),
    (
        "wrongly indented line in block scalar",
        "this line is indented less than the first line of its block",
        "indent all lines of the block as far as its first one",
    ),
    (
        "unprintable character",
        "YAML does not allow this control character",
        "remove it; in double quotes it can be written as `\\x00`",
    ),
    (
        "recursion limit exceeded",
        TOO_DEEP,
        "close the brackets before this one",
    ),
    (
        "unexpected eof",
        "the file ends in the middle of something",
        "close the brackets, braces and quotes that are open",
    ),
];

const TOO_DEEP: &str = "lists and mappings lie too deep in each other";

impl Problem {
    /// What the parser found at a byte of the text.
    pub(super) fn of(info: &str, text: &str, at: usize) -> Self {
        if let Some(span) = tab(info, text, at) {
            return Self {
                span,
                code: code::TAB,
                message: "a tab is used for indentation".to_owned(),
                help: "indent with spaces; YAML does not allow tabs there",
            };
        }
        let words = WORDS.iter().find(|(theirs, ..)| info.contains(theirs));
        let (message, help) = match words {
            Some((_, message, help)) => ((*message).to_owned(), *help),
            None => (
                format!("this is not YAML: {info}"),
                "see https://yaml.org/spec/1.2.2 for how YAML is written",
            ),
        };
        Self {
            span: word_at(text, at),
            code: code::YAML_SYNTAX,
            message,
            help,
        }
    }

    pub(super) fn too_deep(span: Span) -> Self {
        Self {
            span,
            code: code::YAML_SYNTAX,
            message: TOO_DEEP.to_owned(),
            help: "no definition needs more than four levels; close the brackets before this one",
        }
    }

    pub(super) fn alias_of_itself(span: Span) -> Self {
        Self {
            span,
            code: code::YAML_SYNTAX,
            message: "an alias stands inside the very thing that it names".to_owned(),
            help: "write the value out",
        }
    }

    pub(super) fn too_many_aliases(span: Span) -> Self {
        Self {
            span,
            code: code::YAML_SYNTAX,
            message: "the aliases of this file stand for too many values".to_owned(),
            help: "write the values out",
        }
    }
}

/// The tab that indents the line of `at`, or the line after it when the parser complains of a tab.
fn tab(info: &str, text: &str, at: usize) -> Option<Span> {
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let next_line = text.get(at..)?.find('\n').map(|end| at + end + 1);
    let candidates = [Some(line_start), next_line.filter(|_| info.contains("tab"))];
    candidates.into_iter().flatten().find_map(|start| {
        let line = text.get(start..)?;
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        let tab = line.get(..indentation)?.find('\t')?;
        Some(Span::new(start + tab, start + indentation))
    })
}

/// The word or the one character at a byte; at the end of the text the last character that is not white space.
fn word_at(text: &str, at: usize) -> Span {
    let rest = text.get(at..).unwrap_or_default();
    if rest.trim().is_empty() {
        let end = text.trim_end().len();
        let last = text.trim_end().chars().next_back();
        return Span::new(end - last.map_or(0, char::len_utf8), end);
    }
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
    let first = rest.chars().next().filter(|c| !c.is_control());
    Span::new(at, at + word.max(first.map_or(0, char::len_utf8)))
}
