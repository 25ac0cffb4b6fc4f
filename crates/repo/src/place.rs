//! Where something stands in a file: a span of bytes, and the line and column that people count in.

use std::{fmt, ops::Range, sync::Arc};

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A stretch of a file's text, in bytes. Inside a [`SourceFile`] it never reaches past the text and never splits a
/// character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one; never before `start`.
    pub end: usize,
}

impl Span {
    /// The span from `start` to `end`, or the empty one at `start` when `end` lies before it.
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// The empty span before the byte `at`.
    pub fn at(at: usize) -> Self {
        Self::new(at, at)
    }

    /// The bytes as a range.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// One file of the repo, as diagnostics show it.
///
/// Passwords are covered with asterisks where the text is shown, so that a report in a build log gives none away.
pub struct SourceFile {
    path: String,
    text: String,
    shown: String,
    line_starts: Vec<usize>,
}

impl SourceFile {
    /// The file at `path` relative to the repo root. The spans in `secrets` are not shown to anyone.
    pub(crate) fn new(path: &str, text: &str, secrets: &[Span]) -> Arc<Self> {
        let mut file = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            shown: String::new(),
            line_starts: line_starts(text),
        };
        file.shown = covered(text, secrets.iter().map(|span| file.inside(*span)));
        Arc::new(file)
    }

    /// The path relative to the repo root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole text, passwords and all.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line and the column of a byte, both from 1; columns count characters.
    pub fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let byte = self.inside(Span::at(byte)).start;
        let line = self.line_starts.partition_point(|start| *start <= byte);
        let start = self
            .line_starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let column = self
            .text
            .get(start..byte)
            .map_or(1, |before| before.chars().count() + 1);
        (line.max(1), column)
    }

    /// The span cut down to the text and to whole characters.
    fn inside(&self, span: Span) -> Span {
        let floor = |byte: usize| {
            let mut byte = byte.min(self.text.len());
            while !self.text.is_char_boundary(byte) {
                byte -= 1;
            }
            byte
        };
        Span::new(floor(span.start), floor(span.end))
    }
}

/// The path alone; the text may hold passwords.
impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceFile").field(&self.path).finish()
    }
}

impl SourceCode for SourceFile {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let contents = self
            .shown
            .as_str()
            .read_span(span, lines_before, lines_after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.path.clone(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}

/// Where something stands: a file and a span in it.
#[derive(Clone)]
pub struct Place {
    file: Arc<SourceFile>,
    span: Span,
}

impl Place {
    /// The place of `span` in `file`, cut down to the file's text.
    pub(crate) fn new(file: &Arc<SourceFile>, span: Span) -> Self {
        Self {
            file: Arc::clone(file),
            span: file.inside(span),
        }
    }

    /// The file.
    pub fn file(&self) -> &Arc<SourceFile> {
        &self.file
    }

    /// The span in the file's text.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The line that it begins in, from 1.
    pub fn line(&self) -> usize {
        self.file.line_and_column(self.span.start).0
    }

    /// The column that it begins in, from 1, in characters.
    pub fn column(&self) -> usize {
        self.file.line_and_column(self.span.start).1
    }

    /// The text that stands there.
    pub fn text(&self) -> &str {
        self.file.text.get(self.span.range()).unwrap_or_default()
    }

    /// Whether both are in one file.
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        self.file.path == other.file.path
    }
}

/// As `path:line:column`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.file.line_and_column(self.span.start);
        write!(f, "{}:{line}:{column}", self.file.path)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.same_file(other) && self.span == other.span
    }
}

impl Eq for Place {}

/// Where each line begins. Lines end in `\n`, `\r\n` or `\r`, as YAML has it.
fn line_starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let ends = bytes
        .iter()
        .enumerate()
        .filter(|(at, byte)| match byte {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        })
        .map(|(at, _)| at + 1);
    std::iter::once(0).chain(ends).collect()
}

/// The text with each byte of the spans turned into an asterisk, so that all other bytes keep their places.
fn covered(text: &str, spans: impl Iterator<Item = Span>) -> String {
    let mut shown = text.to_owned();
    for span in spans {
        let stars = "*".repeat(span.end - span.start);
        shown.replace_range(span.range(), &stars);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let file = SourceFile::new("a.yaml", "a: ü b\r\nc\rd\n", &[]);
        for (byte, want) in [
            (0, (1, 1)),
            (3, (1, 4)),
            (5, (1, 5)), // after the two bytes of the umlaut
            (9, (2, 1)),
            (11, (3, 1)),
            (13, (4, 1)),
            (99, (4, 1)),
        ] {
            assert_eq!(file.line_and_column(byte), want, "byte {byte}");
        }
    }

    #[test]
    fn a_place_never_leaves_its_file_nor_splits_a_character() {
        let file = SourceFile::new("a.yaml", "ü", &[]);
        assert_eq!(Place::new(&file, Span::new(1, 9)).text(), "ü");
        assert_eq!(Place::new(&file, Span::new(7, 9)).text(), "");
    }

    #[test]
    fn secrets_are_covered_where_the_text_is_shown() {
        let file = SourceFile::new("a.yaml", "key: hidden, x: 1", &[Span::new(5, 11)]);
        assert_eq!(file.shown, "key: ******, x: 1");
        assert_eq!(file.text(), "key: hidden, x: 1");
    }
}
