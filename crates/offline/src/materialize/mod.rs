//! Materialization: what a view's query gives, put into its Delta table, and from there to the online store.
//!
//! Start at [`materialize_view`]. A run looks at what the sources hold and what the table was made from, makes a
//! [`RunPlan`] of it ([`plan_run`], a pure function), and executes that in one commit. [`online_rows`] then gives the
//! rows that the online store should have, and [`ExpectedRows`] the same a part at a time, to compare.
//!
//! * Holds always: one run leaves what many leave. The commit that writes rows says what was read for them, so a run
//!   that dies at any moment leaves the table either before or after, and the next run goes on from there.
//! * A concurrent run of the same view is a conflict, upon which this one looks again and plans again.
//! * Times: microseconds UTC. Windows have their start inside and their end outside.
//! * Not here: the query's plan ([`crate::planner`]), the online store, and which views run when.

mod admission;
mod error;
mod execute;
mod expected;
mod input;
mod key_range;
mod lanes;
mod latest;
mod news;
mod online;
mod plan;
mod progress;
mod request;
mod run;

#[cfg(test)]
pub(crate) mod tests;

pub use admission::RowCounts;
pub use error::MaterializeError;
pub use expected::{ExpectedPart, ExpectedRows, table_keys};
pub use key_range::{KeyRange, key_hash};
pub use online::{OnlineCursor, OnlineLoad, online_rows};
pub use plan::{Action, Found, FoundTable, PartBatch, PlanError, RunPlan, plan_run};
pub use progress::{Progress, SourcePart};
pub use request::{EventWindow, MaterializeRequest, RequestError, ViewSelection};
pub use run::{MaterializeContext, RunEvent, ViewRun, materialize_view};
