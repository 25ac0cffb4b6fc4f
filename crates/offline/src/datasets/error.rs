//! What can go wrong with saved datasets.

use std::fmt;

use arrow::error::ArrowError;
use vintner_core::{DatasetName, RegistryVersion, Timestamp, ViewId};
use vintner_registry::selection::Suggestion;

use super::UnsupportedColumn;
use crate::delta::DeltaError;

/// Why a dataset could not be saved, found or made again.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The name is taken.
    #[error(
        "there is already a dataset `{name}`, saved at {created_at} by {author}; datasets never change, so choose another name"
    )]
    Taken {
        /// The name.
        name: DatasetName,
        /// When the other one was saved.
        created_at: Timestamp,
        /// By whom.
        author: String,
    },
    /// There is no such dataset.
    #[error("there is no dataset `{name}`{suggestion}")]
    Unknown {
        /// The name.
        name: DatasetName,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// A column that has no canonical form.
    #[error(transparent)]
    Column(#[from] UnsupportedColumn),
    /// The rows themselves, or their kept file, are not as they should be.
    #[error("could not {what} of the dataset `{name}` at {location}")]
    Rows {
        /// What was tried.
        what: &'static str,
        /// The dataset.
        name: DatasetName,
        /// Where datasets are.
        location: String,
        /// What happened.
        source: ArrowError,
    },
    /// The manifest is damaged, or of a later version.
    #[error("the manifest of the dataset `{name}` at {location} cannot be read")]
    Manifest {
        /// The dataset.
        name: DatasetName,
        /// Where datasets are.
        location: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kept entity rows are not those that were saved.
    #[error(
        "the kept entity rows of the dataset `{name}` at {location} are not those that were saved; restore the file `{file}` from a backup"
    )]
    Changed {
        /// The dataset.
        name: DatasetName,
        /// Where datasets are.
        location: String,
        /// The file.
        file: String,
    },
    /// What is needed to make the dataset again is gone.
    #[error("the dataset `{name}` cannot be made again:\n{}", lines(.gone))]
    Gone {
        /// The dataset.
        name: DatasetName,
        /// Everything that is gone.
        gone: Vec<Gone>,
    },
    /// The store did not answer, or refused.
    #[error("could not {what} at {location}")]
    Store {
        /// What was tried.
        what: String,
        /// Where datasets are.
        location: String,
        /// The store's own error.
        source: object_store::Error,
    },
    /// A view's table.
    #[error(transparent)]
    Delta(#[from] DeltaError),
}

/// Something that a dataset was made from and that is not there any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The registry version.
    #[error("registry version {version} cannot be read: {reason}")]
    Registry {
        /// The version.
        version: RegistryVersion,
        /// Why not.
        reason: String,
    },
    /// The kept entity rows.
    #[error("its entity rows are gone: there is no `{file}` in its folder")]
    EntityRows {
        /// The file.
        file: String,
    },
    /// The version is not in the log of the table, or there is no table.
    #[error("version {version} of the table of {view} is not in its log any more")]
    Version {
        /// The view version.
        view: ViewId,
        /// The version of its table.
        version: u64,
    },
    /// There is another table at the place.
    #[error(
        "the table of {view} is another one than was read: it was deleted and made anew, and version {version} of the old one is gone"
    )]
    Table {
        /// The view version.
        view: ViewId,
        /// The version of its table.
        version: u64,
    },
    /// Data files of the version.
    #[error(
        "{} of {of} data files of version {version} of the table of {view} are gone, {}; `vacuum` keeps what datasets need once they are saved",
        .missing.len(), some(.missing)
    )]
    Files {
        /// The view version.
        view: ViewId,
        /// The version of its table.
        version: u64,
        /// The files, by their paths in the table.
        missing: Vec<String>,
        /// How many files the version has.
        of: usize,
    },
}

fn lines(gone: &[Gone]) -> String {
    let lines: Vec<_> = gone.iter().map(|gone| format!("- {gone}")).collect();
    lines.join("\n")
}

/// A few of the paths.
fn some(paths: &[String]) -> impl fmt::Display {
    let mut text = paths
        .iter()
        .take(3)
        .map(|path| format!("`{path}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if paths.len() > 3 {
        text.push_str(" and more");
    }
    text
}
