//! Saved training datasets: what is kept of one, so that the same rows can be made again.
//!
//! Start at [`Dataset`], the manifest. [`Datasets`] is where a project's are, [`KeptRowsWriter`] keeps the entity rows,
//! [`RowsHasher`] tells whether rows are the same rows, [`Gone`] says why a dataset cannot be made again, [`Unsaved`]
//! is what a save that died has left.
//!
//! * Holds always: a dataset exists when its manifest does, which is written last and once; it never changes after that.
//! * Not here: the join ([`crate::historical`]), the registry, whom a dataset is for.

mod content_hash;
mod error;
mod kept_rows;
mod manifest;
mod store;
mod unsaved;

#[cfg(test)]
mod tests;

pub use content_hash::{ContentHash, RowsHasher, UnsupportedColumn};
pub use error::{DatasetError, Gone};
pub use kept_rows::KeptRowsWriter;
pub use manifest::{Dataset, KeptRows, ResultRows, TableRead};
pub use store::Datasets;
pub use unsaved::Unsaved;
