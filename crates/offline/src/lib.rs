//! The batch engine: sources, materialization into Delta tables, and the point-in-time join.
//!
//! Start at [`planner`], which decides what a view's query means, at [`materialize`], which brings a view's Delta table
//! up to date, and at [`historical`], which makes training datasets with the operator in [`join`]; [`datasets`] keeps what is
//! needed to make one again.
//!
//! * Holds always: a Delta table is the system of record; everything online can be made again from it.
//! * Units: times in microseconds UTC, sizes in bytes.
//! * Not here: the registry's storage, the online store, transports. The only crate that uses DataFusion and Delta by
//!   itself.

pub mod datasets;
pub mod delta;
pub mod feature_table;
pub mod historical;
pub mod join;
pub mod maintenance;
pub mod materialize;
mod parquet_file;
pub mod planner;
pub mod push;
pub mod runs;
pub mod sources;
pub mod spine;
pub mod stream;
