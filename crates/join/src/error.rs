//! Why a join cannot be made.

use vintner_core::{JoinKey, ViewId};

use crate::{entity_columns::EntityValueError, spec::SpecError};

/// Why a join cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The description contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A value of the entity rows that cannot be used.
    #[error(transparent)]
    Value(#[from] EntityValueError),
    /// A column that the entity rows do not have.
    #[error("the entity rows have no column `{0}`")]
    MissingColumn(String),
    /// A column of the entity rows that is no join key of that type.
    #[error(
        "the column `{}` of the entity rows has the type {found}, which is no {}",
        join_key.name,
        join_key.key_type
    )]
    KeyColumn {
        /// The join key.
        join_key: JoinKey,
        /// The column's type.
        found: arrow::datatypes::DataType,
    },
    /// A column of the entity rows that says no moment.
    #[error("the column `{column}` of the entity rows has the type {found}, which is no timestamp")]
    TimeColumn {
        /// The column.
        column: String,
        /// Its type.
        found: arrow::datatypes::DataType,
    },
    /// A view's row without a key or a time, which only a foreign writer can have left.
    #[error(
        "the rows of {view} have a null, or another type, in the column `{column}`; nothing but Vintner may \
         write to its table"
    )]
    FeatureRow {
        /// The view.
        view: ViewId,
        /// The column.
        column: String,
    },
    /// More rows than there are numbers for.
    #[error("more than {most} {what} cannot be joined at once; split them")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        most: u64,
    },
    /// Columns that do not fit together.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

/// What the functions of this crate give.
pub type Result<T, E = JoinError> = std::result::Result<T, E>;
