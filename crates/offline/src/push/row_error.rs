//! Why rows are refused.

use vintner_core::{FeatureType, Timestamp, ViewId};

use super::rows::CLOCK_TOLERANCE;

/// What is wrong with rows that are pushed. Rows are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A column that the view does not have.
    #[error("`{column}` is no column of {view}; {hint}")]
    Unknown {
        /// The view.
        view: ViewId,
        /// The column.
        column: String,
        /// What to do.
        hint: String,
    },
    /// A column that the view has and the rows do not.
    #[error("the column `{column}` of {view} is missing, {what}")]
    Missing {
        /// The view.
        view: ViewId,
        /// The column.
        column: String,
        /// What it is, and what to do.
        what: String,
    },
    /// Two columns of one name.
    #[error("the column `{column}` is there twice")]
    Twice {
        /// The column.
        column: String,
    },
    /// A value that the column's type cannot hold.
    #[error("row {row}, column `{column}`: {value} is not of type {wanted}")]
    Value {
        /// The row.
        row: u64,
        /// The column.
        column: String,
        /// The value, as text.
        value: String,
        /// The type that it should have.
        wanted: FeatureType,
    },
    /// A null where there must be a value.
    #[error("row {row}, column `{column}`: it is null, and a join key or an event time never is")]
    Null {
        /// The row.
        row: u64,
        /// The column.
        column: String,
    },
    /// A time that has not come.
    #[error(
        "row {row}, column `{column}`: {at} is in the future, it is {now} here; \
         no more than {} s are taken for a clock that goes wrong", CLOCK_TOLERANCE.as_secs()
    )]
    Future {
        /// The row.
        row: u64,
        /// The column.
        column: String,
        /// The time.
        at: Timestamp,
        /// The present moment.
        now: Timestamp,
    },
}
