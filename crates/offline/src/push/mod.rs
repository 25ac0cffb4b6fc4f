//! Rows that are pushed: made into rows of a view, and appended to its table beside those that runs compute.
//!
//! Start at [`checked_rows`], which is pure, and at [`PushTable`], which makes one commit of many pushes.
//!
//! * Holds always: all rows of a push are in one commit, or none is. Of a producer's pushes each is in the table once,
//!   however often it comes. No run replaces what was pushed: it lies in files of its own.
//! * Not here: which pushes share a commit, the online store (`vintner-ops`).

mod file;
mod row_error;
mod rows;
mod table;
mod ties;

#[cfg(test)]
pub(crate) mod tests;

pub use file::{FileBatches, PushFile, PushFileError};
pub use row_error::RowError;
pub use rows::{CLOCK_TOLERANCE, checked_rows, wanted_columns};
pub use table::{Appended, Producer, Push, PushTable};
pub use ties::wins_or_equals;
