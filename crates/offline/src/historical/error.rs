//! What can go wrong with a training dataset.

use std::{fmt, io, path::PathBuf};

use arrow::{datatypes::DataType, error::ArrowError};
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;
use vintner_core::{ColumnName, JoinKey, ViewId};
use vintner_registry::selection::Suggestion;

use vintner_join::EntityValueError;

/// Why a training dataset cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HistoricalError {
    /// The columns of the entity rows do not fit what is asked for. Everything that is wrong with them, a line each.
    #[error("{}", lines(.0))]
    EntityRows(Vec<EntityRowsProblem>),
    /// A value of the entity rows cannot be used.
    #[error(transparent)]
    EntityValue(#[from] EntityValueError),
    /// The name of a file does not say what is in it.
    #[error(
        "`{0}` does not end in .parquet, .csv, .arrow, .feather or .ipc, so its format is not known"
    )]
    Format(PathBuf),
    /// A file of entity rows cannot be read.
    #[error("could not read the entity rows in `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: FileError,
    },
    /// A column of a type that a file of the asked-for format cannot hold.
    #[error(
        "a {format} file cannot hold the column `{column}` of type {found}; write Parquet or Arrow instead"
    )]
    Unwritable {
        /// The format.
        format: super::FileFormat,
        /// The column.
        column: String,
        /// Its type.
        found: DataType,
    },
    /// The result cannot be written. Nothing is left of it.
    #[error("could not write the result to `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: FileError,
    },
    /// The engine failed: a store, a table, or memory.
    #[error("could not join the entity rows")]
    Engine(#[source] DataFusionError),
}

/// What happened to a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// CSV or Arrow.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// Parquet.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
}

/// One thing that is wrong with the columns of entity rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntityRowsProblem {
    /// A join key is missing.
    #[error("the entity rows have no column `{}`, the join key of {}{suggestion}", .key.name, quoted(.views))]
    MissingKey {
        /// The join key.
        key: JoinKey,
        /// The views that have it.
        views: Vec<ViewId>,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// A join key of another type.
    #[error("the column `{}` of the entity rows is of type {found}, but it is the {} join key of {}; cast it", .key.name, .key.key_type, quoted(.views))]
    KeyType {
        /// The join key.
        key: JoinKey,
        /// The views that have it.
        views: Vec<ViewId>,
        /// The column's type.
        found: DataType,
    },
    /// The column that was named for the time is missing.
    #[error("the entity rows have no column `{name}`, which was named as their time{suggestion}")]
    MissingTime {
        /// The name.
        name: String,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// There is no column that could be the time.
    #[error(
        "the entity rows have no timestamp column; add one, `event_timestamp`, with the moment that each row asks about"
    )]
    NoTime,
    /// Several columns could be the time.
    #[error(
        "the entity rows have several timestamp columns, {}; say which one with --timestamp-column, or name it `event_timestamp`",
        quoted(.0)
    )]
    AmbiguousTime(
        /// The columns.
        Vec<String>,
    ),
    /// The column of the time is of another type.
    #[error(
        "the column `{name}` of the entity rows is of type {found}, which is no time; {advice}"
    )]
    TimeType {
        /// The column.
        name: String,
        /// Its type.
        found: DataType,
        /// What to do.
        advice: NotATime,
    },
    /// A column that the result would have twice.
    #[error(
        "the entity rows have a column `{name}`, and so has the result; rename theirs{}",
        match is_full { true => "", false => ", or ask for `view__feature` names with --full-names" }
    )]
    Collision {
        /// The name.
        name: String,
        /// Whether it is a `view__feature` name already.
        is_full: bool,
    },
    /// A column with the name of the one that a split adds.
    #[error(
        "a split adds the column `split`, and the training rows have one of that name already; rename it in the entity \
         rows, or ask for `view__feature` names with --full-names if it is a feature"
    )]
    SplitTaken,
    /// A column to split by is missing.
    #[error("the entity rows have no column `{name}`, which they shall be split by{suggestion}")]
    MissingSplit {
        /// The name.
        name: ColumnName,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// A column to split by is of a type that is not hashed.
    #[error(
        "the column `{name}` of the entity rows is of type {found}, which rows cannot be split by; give booleans, integers, \
         text or bytes"
    )]
    SplitType {
        /// The name.
        name: ColumnName,
        /// Its type.
        found: DataType,
    },
    /// A column that the entity rows have twice.
    #[error("the entity rows have two columns `{0}`; rename or leave out one of them")]
    Duplicate(String),
}

/// Why a column is no time, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotATime {
    /// It is text.
    Text,
    /// It is a number.
    Number,
    /// It is anything else.
    Other,
}

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => {
                "parse it into a timestamp; in a CSV file, write every time like 2013-01-01T06:00:00Z"
            }
            Self::Number => "convert it to a timestamp, since a number does not say its unit",
            Self::Other => "give a timestamp or a date",
        })
    }
}

fn lines(problems: &[EntityRowsProblem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn quoted<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(|item| format!("`{item}`")).collect();
    match items.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        items => items.concat(),
    }
}

/// Errors that have come through the engine come out again; its own become [`HistoricalError::Engine`].
impl From<DataFusionError> for HistoricalError {
    fn from(err: DataFusionError) -> Self {
        match err {
            DataFusionError::Context(_, inner) => (*inner).into(),
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(inner) => match inner.downcast::<EntityValueError>() {
                    Ok(ours) => Self::EntityValue(*ours),
                    Err(inner) => match inner.downcast::<DataFusionError>() {
                        Ok(engine) => (*engine).into(),
                        Err(inner) => Self::Engine(DataFusionError::External(inner)),
                    },
                },
            },
            DataFusionError::ArrowError(inner, backtrace) => match *inner {
                ArrowError::ExternalError(inner) => DataFusionError::External(inner).into(),
                inner => Self::Engine(DataFusionError::ArrowError(Box::new(inner), backtrace)),
            },
            err => Self::Engine(err),
        }
    }
}
