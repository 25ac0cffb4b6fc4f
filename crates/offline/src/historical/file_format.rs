//! Which format a file of rows has, by its name.

use std::{fmt, path::Path};

use super::HistoricalError;

/// A format that entity rows are read from and results are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// Apache Parquet: `.parquet`.
    Parquet,
    /// Comma-separated values with a header line: `.csv`.
    Csv,
    /// The Arrow IPC file format: `.arrow`, `.feather`, `.ipc`.
    Arrow,
}

impl FileFormat {
    /// The format that a file's extension names, in upper or lower case.
    ///
    /// # Errors
    /// [`HistoricalError::Format`] for any other extension.
    pub fn of(path: &Path) -> Result<Self, HistoricalError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("arrow" | "feather" | "ipc") => Ok(Self::Arrow),
            _ => Err(HistoricalError::Format(path.to_owned())),
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "Parquet",
            Self::Csv => "CSV",
            Self::Arrow => "Arrow",
        })
    }
}
