//! Training datasets: entity rows in, the same rows with features out.
//!
//! Start at [`plan_dataset`], which is pure: from a selection of features and the columns of the entity rows it makes
//! a [`DatasetPlan`], or says everything that is wrong with them. [`DatasetPlan::execute`] reads the entity rows and
//! the views' tables and gives the result as a stream. [`EntityRows`] come from a file, a stream or from memory;
//! [`ResultFile`] writes a result whole or not at all.
//!
//! * Holds always: the result is exactly the entity rows, in their order, with their columns unchanged in type and
//!   value, then one column per selected feature, in the order asked for, then the part that the row is in, if the rows
//!   are split.
//! * Not here: the join itself ([`crate::join`]), which features a request means ([`vintner_registry::selection`]),
//!   which version of a table is read.

mod arrow_rows;
mod csv_types;
mod entity_rows;
mod error;
pub(crate) mod even_batches;
mod file_format;
mod plan;
mod result_file;
mod run;
mod split;

#[cfg(test)]
mod tests;

pub use entity_rows::EntityRows;
pub use error::{EntityRowsProblem, HistoricalError, NotATime};
pub use file_format::FileFormat;
pub use plan::{DatasetOptions, DatasetPlan, plan_dataset};
pub use result_file::{ResultFile, Written};
pub use run::DatasetRun;
pub use split::{Split, SplitError};
