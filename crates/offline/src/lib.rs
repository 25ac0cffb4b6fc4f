//! The batch engine.

pub mod planner;
pub mod sources;
