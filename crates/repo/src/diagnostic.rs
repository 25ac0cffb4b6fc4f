//! One mistake in the repo, or one thing to be warned of: what is wrong, where, and what to do.

use std::fmt;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode, ThemeCharacters};

use crate::place::Place;

/// Whether a diagnostic stops the repo from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// How [`Diagnostic::render`] draws a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The widest line, in columns.
    pub width: usize,
    /// With ANSI colours.
    pub color: bool,
    /// Lines and marks drawn with Unicode rather than ASCII.
    pub unicode: bool,
}

/// For a pipe or a file: 100 columns, no colours, Unicode.
impl Default for Rendering {
    fn default() -> Self {
        Self {
            width: 100,
            color: false,
            unicode: true,
        }
    }
}

/// One mistake, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    code: &'static str,
    message: String,
    help: Option<String>,
    label: String,
    place: Place,
    others: Vec<Other>,
    elsewhere: Vec<Elsewhere>,
}

/// A second place in the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    place: Place,
    label: String,
}

/// A second place in another file; miette shows one file per diagnostic.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Elsewhere(Other);

impl Diagnostic {
    /// A mistake at `place`. The code never changes its meaning.
    pub fn error(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            help: None,
            label: "here".to_owned(),
            place,
            others: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// Something at `place` to be warned of.
    pub fn warning(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, place, message)
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With these words under the underlined text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With a second place that has to do with it.
    #[must_use]
    pub fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        let other = Other {
            place,
            label: label.into(),
        };
        if other.place.same_file(&self.place) {
            self.others.push(other);
        } else {
            self.elsewhere.push(Elsewhere(other));
        }
        self
    }

    /// Whether it stops the repo from being used.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The code, like `repo::unknown_field`; see [`crate::code`].
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The file, relative to the repo root.
    pub fn file(&self) -> &str {
        self.place.file().path()
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.place.line()
    }

    /// The column, from 1, in characters.
    pub fn column(&self) -> usize {
        self.place.column()
    }

    /// The report that people read: the message, the lines of the file with the text underlined, and the help.
    pub fn render(&self, rendering: Rendering) -> String {
        let mut characters = if rendering.unicode {
            ThemeCharacters::unicode()
        } else {
            ThemeCharacters::ascii()
        };
        // The severity is a word, which survives pipes, screen readers and searches better than a symbol.
        characters.error = "error:".to_owned();
        characters.warning = "warning:".to_owned();
        characters.advice = "note:".to_owned();
        let styles = if rendering.color {
            miette::ThemeStyles::ansi()
        } else {
            miette::ThemeStyles::none()
        };
        let mut report = String::new();
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme { characters, styles })
            .with_width(rendering.width.max(20))
            .with_links(false)
            .with_show_related_as_nested(true)
            .without_syntax_highlighting();
        match handler.render_report(&mut report, self) {
            Ok(()) => report,
            Err(fmt::Error) => format!("{self}\n  at {}\n", self.place),
        }
    }
}

/// The message alone.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        source_code(&self.place)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        source_code(&self.place)?;
        let first =
            LabeledSpan::new_primary_with_span(Some(self.label.clone()), self.place.span().range());
        let others = self.others.iter().map(Other::labeled);
        Some(Box::new(std::iter::once(first).chain(others)))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        (!self.elsewhere.is_empty()).then(|| {
            Box::new(
                self.elsewhere
                    .iter()
                    .map(|other| other as &dyn miette::Diagnostic),
            ) as Box<dyn Iterator<Item = &dyn miette::Diagnostic>>
        })
    }
}

impl Other {
    fn labeled(&self) -> LabeledSpan {
        LabeledSpan::new_with_span(Some(self.label.clone()), self.place.span().range())
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.label)
    }
}

impl std::error::Error for Elsewhere {}

impl miette::Diagnostic for Elsewhere {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Advice)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        source_code(&self.0.place)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        source_code(&self.0.place)?;
        let place =
            LabeledSpan::new_with_span(Some("here".to_owned()), self.0.place.span().range());
        Some(Box::new(std::iter::once(place)))
    }
}

/// The file to show, unless it has no text to show.
fn source_code(place: &Place) -> Option<&dyn SourceCode> {
    (!place.file().text().is_empty()).then(|| place.file().as_ref() as &dyn SourceCode)
}
