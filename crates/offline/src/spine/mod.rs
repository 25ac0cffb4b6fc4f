//! Entity rows that nobody has sent: every key that is known at some moments, or the rows of a query.
//!
//! Start at [`KnownKeys`] and [`query_rows()`]. [`Snapshots`] are moments at equal distances.
//!
//! * Holds always: which keys are known depends on the rows of the tables alone; [`vintner_core::VisibilityRule`] says
//!   from when on a row counts.
//! * Not here: what a query means ([`crate::planner::plan_entity_query`]), and what is joined with the rows
//!   ([`crate::historical`]).

mod known_keys;
mod query_rows;
mod snapshots;

#[cfg(test)]
mod tests;

pub use known_keys::{DifferentKeys, KnownKeys};
pub use query_rows::query_rows;
pub use snapshots::{Snapshots, SnapshotsError};
