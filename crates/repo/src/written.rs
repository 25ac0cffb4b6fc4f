//! Where in the file each character of a scalar's text is written.
//!
//! YAML folds lines, takes indentation away and resolves escapes, so a position in the SQL of a query is not a
//! position in the file. What YAML adds or removes is white space only, apart from quotes and escapes; so the two
//! texts are walked side by side over the characters that are not white space.

use crate::{
    node::{Node, Style},
    place::Span,
};

/// For one scalar, the byte of the file at which each character of its text begins.
pub(crate) struct Written<'t> {
    text: &'t str,
    /// One byte of the file for each character of `text`, and the end of the last one that is not white space.
    bytes: Vec<usize>,
}

impl<'t> Written<'t> {
    /// How `node` is written in `file`. None when it is no scalar, or the two do not agree.
    pub(crate) fn of(node: &'t Node, file: &str) -> Option<Self> {
        let scalar = node.scalar()?;
        let mut source = Source::new(scalar.style, node.span, file)?;
        let mut bytes = Vec::with_capacity(scalar.text.len() + 1);
        for wanted in scalar.text.chars() {
            if wanted.is_whitespace() {
                bytes.push(source.white_space());
                continue;
            }
            let (at, found) = source.next_visible()?;
            if found != wanted {
                return None;
            }
            bytes.push(at);
        }
        bytes.push(source.at);
        Some(Self {
            text: &scalar.text,
            bytes,
        })
    }

    /// The span of the file in which these bytes of the scalar's text are written.
    pub(crate) fn span(&self, start: usize, end: usize) -> Option<Span> {
        let characters = |to: usize| Some(self.text.get(..to)?.chars().count());
        let (first, past) = (characters(start)?, characters(end)?);
        let from = *self.bytes.get(first)?;
        // The end of the last character, not the start of the next one, which may be on another line.
        let to = match past.checked_sub(1).filter(|last| *last >= first) {
            None => from,
            Some(last) => {
                let length = self.text.chars().nth(last)?.len_utf8();
                let next = *self.bytes.get(past)?;
                next.min(self.bytes.get(last)? + length).max(from)
            }
        };
        Some(Span::new(from, to))
    }

    /// The span in the file of the word at a line and column of the text, both from 1 and in characters, as SQL
    /// parsers count them. A position past the end is the end.
    pub(crate) fn word(&self, line: u64, column: u64) -> Option<Span> {
        let line = usize::try_from(line).ok()?.checked_sub(1)?;
        let column = usize::try_from(column).ok()?.checked_sub(1)?;
        let mut lines = self.text.split_inclusive('\n');
        let line_start: usize = lines.by_ref().take(line).map(str::len).sum();
        let Some(content) = lines.next().map(|line| line.trim_end_matches('\n')) else {
            return self.bytes.last().map(|end| Span::at(*end));
        };
        let within = content
            .char_indices()
            .nth(column)
            .map_or(content.len(), |(at, _)| at);
        let start = line_start + within;
        self.span(start, start + word_length(&content[within..]))
    }
}

/// The length of the SQL word that a text begins with: a name, a number, a quoted name, or one character.
fn word_length(text: &str) -> usize {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    match text.chars().next() {
        None => 0,
        Some(quote @ ('"' | '\'' | '`')) => text[1..].find(quote).map_or(1, |closing| closing + 2),
        Some(first) if in_word(first) => text.find(|c| !in_word(c)).unwrap_or(text.len()),
        Some(first) => first.len_utf8(),
    }
}

/// The scalar as the file has it, read forwards.
struct Source<'f> {
    file: &'f str,
    style: Style,
    at: usize,
    end: usize,
}

impl<'f> Source<'f> {
    /// Starts inside the quotes, if there are any.
    fn new(style: Style, span: Span, file: &'f str) -> Option<Self> {
        let quotes = match style {
            Style::Plain | Style::Block => 0,
            Style::SingleQuoted | Style::DoubleQuoted => 1,
        };
        let (at, end) = (span.start + quotes, span.end.checked_sub(quotes)?);
        file.get(at..end)?;
        Some(Self {
            file,
            style,
            at,
            end,
        })
    }

    /// The next character that is not white space, resolved, and the byte at which it is written.
    fn next_visible(&mut self) -> Option<(usize, char)> {
        loop {
            let start = self.at;
            let (character, length) = self.peek()?;
            self.at += length;
            if let Some(visible) = character.filter(|c| !c.is_whitespace()) {
                return Some((start, visible));
            }
        }
    }

    /// The byte of the next white space, if white space is next; it is passed. Else where reading is.
    fn white_space(&mut self) -> usize {
        let start = self.at;
        if let Some((Some(character), length)) = self.peek()
            && character.is_whitespace()
            && character != '\n'
        {
            self.at += length;
        }
        start
    }

    /// The next character, resolved (none for an escaped line break), and how many bytes it is written in.
    fn peek(&self) -> Option<(Option<char>, usize)> {
        let rest = self.file.get(self.at..self.end)?;
        let first = rest.chars().next()?;
        match (self.style, first) {
            (Style::SingleQuoted, '\'') => Some((Some('\''), 2)),
            (Style::DoubleQuoted, '\\') => escape(&rest[1..]).map(|(c, length)| (c, length + 1)),
            _ => Some((Some(first), first.len_utf8())),
        }
    }
}

/// What the text behind a `\` stands for, and how long it is. Source: YAML 1.2, section 5.7.
fn escape(text: &str) -> Option<(Option<char>, usize)> {
    let first = text.chars().next()?;
    let coded = |digits: usize| {
        let code = u32::from_str_radix(text.get(1..=digits)?, 16).ok()?;
        Some((Some(char::from_u32(code)?), digits + 1))
    };
    let character = match first {
        'x' => return coded(2),
        'u' => return coded(4),
        'U' => return coded(8),
        '\r' | '\n' => return Some((None, 1)),
        '0' => '\0',
        'a' => '\x07',
        'b' => '\x08',
        't' => '\t',
        'n' => '\n',
        'v' => '\x0b',
        'f' => '\x0c',
        'r' => '\r',
        'e' => '\x1b',
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        other => other,
    };
    Some((Some(character), first.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    /// The text of the file that is underlined for a position in the scalar `q`.
    fn underlined(file: &str, line: u64, column: u64) -> String {
        let loaded = yaml::load(file);
        assert_eq!(loaded.problems, [], "{file}");
        let node = loaded.documents[0].get("q").unwrap();
        let written = Written::of(node, file).unwrap();
        let span = written.word(line, column).unwrap();
        format!("{}:{}", span.start, &file[span.range()])
    }

    #[test]
    fn a_position_in_the_text_is_found_in_the_file_however_it_is_written() {
        for (file, line, column, want) in [
            ("q: SELECT a, bad", 1, 11, "13:bad"),
            ("q: SELECT a,\n   bad", 1, 11, "16:bad"),
            ("q: 'SELECT ''x'', bad'", 1, 13, "18:bad"),
            ("q: \"SELECT \\\"x\\\",\\n  bad\"", 2, 3, "21:bad"),
            ("q: \"SELECT \\\n  \\u00e4, bad\"", 1, 11, "23:bad"),
            ("q: |\n  SELECT a,\n\n    bad\n", 3, 3, "22:bad"),
            ("q: |-\r\n  SELECT a,\r\n    bad\r\n", 2, 3, "24:bad"),
            ("q: >\n  SELECT a,\n  bad\n", 1, 11, "19:bad"),
            ("q: >2\n   SELECT ü,\n\n  bad\n", 3, 1, "23:bad"),
            ("q: |1\n   SELECT bad\n", 1, 10, "16:bad"),
            ("q: !!str |\n  SELECT bad\n", 1, 8, "20:bad"),
            ("q: &x >\n  SELECT bad\n", 1, 8, "17:bad"),
            ("{q: \"SELECT bad\"}", 1, 8, "12:bad"),
            ("q: SELECT \"bad name\" x", 1, 8, "10:\"bad name\""),
            ("q: SELECT (bad", 1, 8, "10:("),
            ("q: SELECT bad", 1, 99, "13:"), // past the end of the line
            ("q: SELECT bad", 9, 1, "13:"),  // past the end of the text
            ("q: SELECT bad", 1, 7, "9: "),
        ] {
            assert_eq!(underlined(file, line, column), want, "{file:?}");
        }
    }

    #[test]
    fn positions_that_are_none_have_no_place() {
        let file = "q: SELECT bad";
        let loaded = yaml::load(file);
        let written = Written::of(loaded.documents[0].get("q").unwrap(), file).unwrap();
        assert_eq!(written.word(0, 0), None);
        assert_eq!(written.word(u64::MAX, 1), Some(Span::at(13)));
    }
}
