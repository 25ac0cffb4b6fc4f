//! What is wrong with a view's definition: data, all of it at once, each with its place.

use std::fmt;

use vintner_core::{FeatureName, ViewName};

/// One mistake in a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanProblem {
    /// The view.
    pub view: ViewName,
    /// Where in its definition.
    pub at: ProblemPlace,
    /// What kind of mistake, for programs: `plan::unknown_column`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do, where that is not plain from the message.
    pub help: Option<String>,
}

/// A place in a view's definition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemPlace {
    /// Characters of the query.
    Query {
        /// The line of the query's text, the first being 1.
        line: u64,
        /// The character of the line, the first being 1.
        column: u64,
        /// How many characters it is; at least 1.
        length: u64,
    },
    /// The query as a whole.
    QueryWhole,
    /// A field of the view, by its name in YAML.
    Field(&'static str),
    /// A feature of the view's contract.
    Feature(FeatureName),
}

/// `view: message (help)` for logs and tests; what people see is drawn by the caller with the place in the file.
impl fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}: {} [{}]",
            self.view, self.at, self.message, self.code
        )?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ProblemPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query {
                line,
                column,
                length,
            } => {
                write!(f, "query line {line}, column {column}, length {length}")
            }
            Self::QueryWhole => f.write_str("query"),
            Self::Field(field) => write!(f, "field `{field}`"),
            Self::Feature(feature) => write!(f, "feature `{feature}`"),
        }
    }
}

/// What a query is for: that decides what it can read, and how its mistakes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryFor {
    /// A feature view's rows, from sources.
    View,
    /// A dataset's entity rows, from feature views and sources.
    EntityRows,
}

impl QueryFor {
    /// The query, as the beginning of a sentence.
    pub(super) const fn query(self) -> &'static str {
        match self {
            Self::View => "a view's query",
            Self::EntityRows => "a query for entity rows",
        }
    }

    /// What it can read.
    pub(super) const fn tables(self) -> &'static str {
        match self {
            Self::View => "the declared sources",
            Self::EntityRows => "the feature views and sources",
        }
    }

    /// What is wrong with a table that it cannot read.
    pub(super) const fn not_a_table(self) -> &'static str {
        match self {
            Self::View => "is not a declared source",
            Self::EntityRows => "is neither a feature view nor a source",
        }
    }
}

/// A mistake before it is known whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) at: ProblemPlace,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Finding {
    pub(super) fn new(at: ProblemPlace, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            at,
            code,
            message: message.into(),
            help: None,
        }
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds `did you mean`, if there is a near name.
    #[must_use]
    pub(super) fn nearest(
        self,
        text: &str,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        let names: Vec<String> = names.into_iter().map(|n| n.as_ref().to_owned()).collect();
        let nearest = vintner_core::nearest::nearest(text, names.iter().map(String::as_str));
        match nearest {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None if names.is_empty() => self,
            None => {
                let mut shown: Vec<String> =
                    names.iter().take(20).map(|n| format!("`{n}`")).collect();
                if names.len() > shown.len() {
                    shown.push("…".to_owned());
                }
                self.help(format!("there are {}", shown.join(", ")))
            }
        }
    }

    pub(super) fn of(self, view: &ViewName) -> PlanProblem {
        PlanProblem {
            view: view.clone(),
            at: self.at,
            code: self.code,
            message: self.message,
            help: self.help,
        }
    }
}
