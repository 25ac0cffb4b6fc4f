//! The registry: what is applied, in versions that never change.
//!
//! Start at [`model::Snapshot`], one whole version. [`selection`] answers which columns a request asks for.
//!
//! * Holds always: a [`model::Snapshot`] is resolved; its readers look facts up and plan nothing.
//! * Units: instants and durations are microseconds, instants are UTC.
//! * Not here: YAML, SQL, Arrow, the data itself.

pub mod change;
pub mod codec;
pub mod model;
pub mod plan;
pub mod selection;
pub mod store;

#[cfg(test)]
mod fixture;
