//! The offline store: one Delta table per view version, written by whole commits.
//!
//! Start at [`OfflineStore`]; [`Table`] is one Delta table, [`TableState`] one version of it, [`Change`] what the
//! next version does. [`layout`] says which columns a view's table has, [`OpenTable`] reads them.
//!
//! * Holds always: a version is written with put-if-absent on top of exactly the version it was planned from. A
//!   data file without a commit is invisible. A commit is all or nothing, on a local folder also after a power cut.
//! * Not here: what to write ([`crate::materialize`]).

pub mod error;
pub mod layout;
pub mod store;
pub mod table;

mod change;
mod data_files;
pub(crate) mod deletions;
mod file_name;
pub(crate) mod progress;
mod scan;
mod stats;
mod upload;
mod waits;

#[cfg(test)]
pub(crate) mod faulty;

pub use change::{Change, Columns, Effect};
pub use deletions::{DeletionWatch, Deletions, KeyDigest};
pub use error::DeltaError;
pub use layout::ViewLayout;
pub use scan::OpenTable;
pub use store::OfflineStore;
pub use table::{DataFile, Table, TableState};

pub(crate) use change::{AddedFile, AddedFiles, checkpoint, checkpoint_when_due};
pub(crate) use data_files::{Arrangement, DataFiles, TARGET_BYTES, Written};
pub(crate) use file_name::Origin;
pub(crate) use scan::at_least_of;
pub(crate) use upload::Upload;
pub(crate) use waits::Waits;
