//! A view's table as the point-in-time join reads it: Parquet files, in units that are read apart and by address.
//!
//! Start at [`FeatureTable`], which says which files there are. [`units`] opens those that can have needed rows and
//! cuts them up: a unit is a row group, less the pages that cannot have any. [`read`] reads a unit's columns.
//! `first_event` says when a table's history begins.
//!
//! * Holds always: what is left out cannot count for any entity row, as the statistics of the files prove. A
//!   statistic that is missing or not known to be right leaves nothing out.
//! * Not here: what counts ([`vintner_core::VisibilityRule`]), how the table is written ([`crate::delta`]).

mod file_reader;
mod first_event;
pub(crate) mod read;
pub(crate) mod units;

pub use units::Pruned;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use object_store::ObjectStore;
use vintner_core::Timestamp;

/// The data files of one version of a view's table.
#[derive(Clone)]
pub struct FeatureTable {
    /// The URL of its folder.
    pub(crate) location: Arc<str>,
    /// Its folder.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The files, in the order of their paths.
    pub(crate) files: Arc<[FeatureFile]>,
    /// How many bytes of them have been read.
    bytes_read: Arc<AtomicU64>,
}

/// One data file, as the table's log describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureFile {
    /// The path, relative to the table.
    pub path: String,
    /// The size.
    pub bytes: u64,
    /// The number of rows, if the log says.
    pub rows: Option<u64>,
    /// The first and the last event time that a row can have, if the log says.
    pub events: Option<(Timestamp, Timestamp)>,
}

impl FeatureTable {
    /// These files of a table's folder, whose URL is `location`.
    pub fn new(location: &str, objects: Arc<dyn ObjectStore>, mut files: Vec<FeatureFile>) -> Self {
        // The order decides addresses, and with them nothing that a user sees.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self {
            location: location.into(),
            objects,
            files: files.into(),
            bytes_read: Arc::default(),
        }
    }

    /// A table that has not been written yet.
    pub fn empty(location: &str) -> Self {
        let nothing = Arc::new(object_store::memory::InMemory::new());
        Self::new(location, nothing, Vec::new())
    }

    /// How many bytes of the files have been read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The URL of its folder.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The files.
    pub fn files(&self) -> &[FeatureFile] {
        &self.files
    }
}

impl fmt::Debug for FeatureTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FeatureTable({} files in {})",
            self.files.len(),
            self.location
        )
    }
}
