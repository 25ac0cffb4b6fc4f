//! Runs against small worlds: files in a temporary folder, tables in memory.

mod delta_source;
mod faults;
mod online;
mod plans;
mod properties;
mod runs;
pub(crate) mod world;
