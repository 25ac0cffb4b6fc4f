//! What can be wrong with a source's data. Every message names the source, the file and what to do.

use std::{error::Error, fmt};

use datafusion::error::DataFusionError;
use vintner_core::{FeatureType, SourceName};
use vintner_registry::model::SourceFormat;

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file or folder.
    #[error(
        "the source `{name}` has no data: there is no file or folder `{path}`; correct its `path`, or put the data there"
    )]
    Missing {
        /// The source.
        name: SourceName,
        /// The path as the repo writes it.
        path: String,
    },
    /// The glob matches no file.
    #[error("the source `{name}` has no data: no file matches `{pattern}`; correct its `path`")]
    NoMatch {
        /// The source.
        name: SourceName,
        /// The glob as the repo writes it.
        pattern: String,
    },
    /// The folder has no file of the source's format.
    #[error(
        "the source `{name}` has no data: the folder `{path}` has no {} file{}",
        extensions(*.format),
        .instead.as_ref().map(|file| format!(", only others such as `{file}`; name the files with a glob, or set `format`")).unwrap_or_default()
    )]
    EmptyFolder {
        /// The source.
        name: SourceName,
        /// The folder as the repo writes it.
        path: String,
        /// The source's format.
        format: SourceFormat,
        /// A file that is there instead.
        instead: Option<String>,
    },
    /// A file without a single byte, or without the rows that would show its columns.
    #[error("the file `{file}` of the source `{name}` is empty; write it again, or remove it")]
    EmptyFile {
        /// The source.
        name: SourceName,
        /// The file.
        file: String,
    },
    /// The store refuses to let the data be read.
    #[error(
        "no permission to read `{file}` of the source `{name}`; give the user that runs Vintner the right to read it"
    )]
    Denied {
        /// The source.
        name: SourceName,
        /// The file or folder.
        file: String,
    },
    /// A file that is not, or no longer, of its format.
    #[error(
        "`{file}` of the source `{name}` is not a whole {} file; write it again, or correct the source's `format`",
        format_name(*.format)
    )]
    Corrupt {
        /// The source.
        name: SourceName,
        /// The file.
        file: String,
        /// The format it should have.
        format: SourceFormat,
        /// What the reader says.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// A line that does not have as many values as the header has columns, or is no JSON object.
    #[error(
        "line {line} of `{file}` of the source `{name}` cannot be read: {reason}; correct the line"
    )]
    Line {
        /// The source.
        name: SourceName,
        /// The file.
        file: String,
        /// The line, the first one being 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A value that the column's type cannot hold.
    #[error(
        "the value {value} in `{column}`{} of `{file}` of the source `{name}` is not of type {wanted}; correct it, \
         or change the column's type and apply again",
        .line.map(|line| format!(", line {line}")).unwrap_or_default()
    )]
    Value {
        /// The source.
        name: SourceName,
        /// The file.
        file: String,
        /// The line, where the format has lines.
        line: Option<usize>,
        /// The column.
        column: String,
        /// The value.
        value: String,
        /// The type it should have.
        wanted: FeatureType,
    },
    /// Two files that give one column different types.
    #[error(
        "the files of the source `{name}` differ: `{column}` is {first} and {second}; write one of them again"
    )]
    DifferentTypes {
        /// The source.
        name: SourceName,
        /// The column.
        column: String,
        /// What it is in one file.
        first: Box<TypeIn>,
        /// What it is in another.
        second: Box<TypeIn>,
    },
    /// A column that one file has and another has not.
    #[error(
        "the files of the source `{name}` differ: `{present}` has the column `{column}`, `{missing}` has not; \
         write it again with the column, or move it out of the source"
    )]
    DifferentColumns {
        /// The source.
        name: SourceName,
        /// The column.
        column: String,
        /// A file that has it.
        present: String,
        /// A file that has not.
        missing: String,
    },
    /// A column whose type is another than it was at `apply`.
    #[error(
        "the source `{name}` has changed since it was applied: `{column}` was {was} and is {now} in `{file}`; \
         run `plan` to see what that means and `apply` to accept it, or write the file as before"
    )]
    TypeChanged {
        /// The source.
        name: SourceName,
        /// The column.
        column: String,
        /// Its type at `apply`.
        was: FeatureType,
        /// Its type now.
        now: String,
        /// A file in which that is so.
        file: String,
    },
    /// A column that was there at `apply` and is gone.
    #[error(
        "the source `{name}` has changed since it was applied: `{file}` has no column `{column}`{}; \
         write the file with that column, or take it out of the queries and apply again",
        .nearest.as_ref().map(|near| format!(" (it has `{near}`)")).unwrap_or_default()
    )]
    Vanished {
        /// The source.
        name: SourceName,
        /// The column.
        column: String,
        /// A file in which that is so.
        file: String,
        /// A column of the file with nearly that name.
        nearest: Option<String>,
    },
    /// A path that is no URL of a known store.
    #[error("the path `{path}` of the source `{name}` is not one that Vintner can open: {reason}")]
    Path {
        /// The source.
        name: SourceName,
        /// The path as the repo writes it.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder that is no Delta table.
    #[error(
        "`{path}` of the source `{name}` is not a Delta table (it has no `_delta_log`); correct its `path` or its `format`"
    )]
    NotDelta {
        /// The source.
        name: SourceName,
        /// The path as the repo writes it.
        path: String,
    },
    /// The Delta table cannot be read.
    #[error("the Delta table `{path}` of the source `{name}` could not be read")]
    Delta {
        /// The source.
        name: SourceName,
        /// The path as the repo writes it.
        path: String,
        /// What Delta Lake says.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The store failed.
    #[error("`{file}` of the source `{name}` could not be read")]
    Read {
        /// The source.
        name: SourceName,
        /// The file or folder.
        file: String,
        /// What the store says.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
}

/// The type of a column in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeIn {
    /// The type.
    pub feature_type: FeatureType,
    /// The file.
    pub file: String,
}

impl fmt::Display for TypeIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in `{}`", self.feature_type, self.file)
    }
}

impl SourceError {
    /// The source's error inside an error of the engine, for who ran a plan over [`super::Sources::table`].
    pub fn within(error: &DataFusionError) -> Option<&Self> {
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = match error.downcast_ref::<DataFusionError>() {
                // Boxes and shared errors are not part of the chain of sources by themselves.
                Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
                Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
                Some(DataFusionError::Context(_, inner)) => Some(inner.as_ref()),
                _ => error.source(),
            };
        }
        None
    }
}

impl From<SourceError> for DataFusionError {
    fn from(error: SourceError) -> Self {
        Self::External(Box::new(error))
    }
}

/// The format's name, for people.
pub(super) const fn format_name(format: SourceFormat) -> &'static str {
    match format {
        SourceFormat::Parquet => "Parquet",
        SourceFormat::Csv => "CSV",
        SourceFormat::Json => "JSON",
        SourceFormat::Delta => "Delta",
    }
}

fn extensions(format: SourceFormat) -> String {
    let all: Vec<String> = super::listing::extensions(format)
        .iter()
        .map(|extension| format!("`.{extension}`"))
        .collect();
    all.join(" or ")
}
