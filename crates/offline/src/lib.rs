//! The batch engine: sources, materialization into Delta tables, and the point-in-time join.

pub mod delta;
pub mod join;
pub mod materialize;
pub mod planner;
pub mod runs;
pub mod sources;
