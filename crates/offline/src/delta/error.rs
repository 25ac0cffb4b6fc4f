//! What can go wrong with a Delta table.

use deltalake::DeltaTableError;
use vintner_core::Timestamp;

/// The cause of an error, which is printed after it.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a table could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The configured place is no path and no URL of an object store.
    #[error(
        "could not open the offline store `{location}`, which is a folder or a URL like s3://bucket/folder"
    )]
    Location {
        /// What was configured.
        location: String,
        /// Why not.
        source: Cause,
    },
    /// The table's log or data could not be read.
    #[error("could not read the table of {table} at {location}")]
    Read {
        /// Whose table.
        table: String,
        /// Where it is.
        location: String,
        /// The cause.
        source: Cause,
    },
    /// Data files or the commit could not be written. The table is as it was.
    #[error("could not write the table of {table} at {location}; the table is as it was before")]
    Write {
        /// Whose table.
        table: String,
        /// Where it is.
        location: String,
        /// The cause.
        source: Cause,
    },
    /// Somebody else has written the version that this change was to become.
    #[error(
        "version {version} of the table of {table} was written by somebody else meanwhile; plan again"
    )]
    Conflict {
        /// Whose table.
        table: String,
        /// The version that both wanted to write.
        version: u64,
    },
    /// A version was asked for that the table does not have, or no longer has.
    #[error("the table of {table} has no version {version}; its newest is {newest}")]
    NoSuchVersion {
        /// Whose table.
        table: String,
        /// The version asked for.
        version: u64,
        /// The newest version, if there is a table at all.
        newest: Newest,
    },
    /// The columns do not make a Delta table.
    #[error(
        "the columns do not make a Delta table, in which upper and lower case name the same column"
    )]
    Columns {
        /// The cause.
        source: Cause,
    },
    /// A column of the table has a type that the view does not have.
    #[error(
        "the column `{column}` of the table of {table} is {found}, and the view says {wanted}; \
         the table was changed by something else, so write it again with --full-refresh"
    )]
    Type {
        /// Whose table.
        table: String,
        /// The column.
        column: String,
        /// The table's type.
        found: String,
        /// The view's type.
        wanted: String,
    },
}

/// The newest version of a table, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest(pub Option<u64>);

impl std::fmt::Display for Newest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(version) => version.fmt(f),
            None => f.write_str("none, since nothing has been written yet"),
        }
    }
}

impl DeltaError {
    /// Whether another writer was first, so that planning again and running again is the thing to do.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

/// Event times of rows, from the first to the last, both inclusive; as exact as the statistics that they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRange {
    /// No row is earlier.
    pub first: Timestamp,
    /// No row is later.
    pub last: Timestamp,
}

/// Unwraps the library's own wrappings, so that the chain of causes does not say one thing twice.
pub(super) fn cause(error: DeltaTableError) -> Cause {
    match error {
        DeltaTableError::ObjectStore { source } => Box::new(source),
        DeltaTableError::GenericError { source } => source,
        other => Box::new(other),
    }
}
