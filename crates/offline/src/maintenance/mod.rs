//! Care for the tables: [`compact_view`] puts rows into few files that scans can skip, [`vacuum_view`] deletes what no
//! version needs any more, [`drop_table`] a whole table, [`delete_entities`] the rows of some entities.
//!
//! * Holds always: no row comes, goes or changes but by [`drop_table`] and [`delete_entities`]. What fails or dies half way leaves the table as it was, or as it is to
//!   be. Readers and writers may go on meanwhile.
//! * Not here: when it is done, and for which views.

mod compact;
mod delete;
mod drop;
mod error;
pub(crate) mod leftovers;
mod plan;
mod time_ranges;
mod vacuum;

#[cfg(test)]
mod tests;

pub use compact::{Compaction, MaintenanceContext, compact_view};
pub use delete::{Deletion, Mode, delete_entities, deletion_reason};
pub use drop::{TableFiles, drop_table, table_files};
pub use error::MaintenanceError;
pub use vacuum::{DeletedFile, KeptFile, Pin, Vacuum, VacuumRequest, vacuum_runs, vacuum_view};

pub(crate) use vacuum::{Age, delete_objects, micros};
