//! What can go wrong with the care for a table.

use datafusion::error::DataFusionError;
use vintner_core::ViewId;

use crate::delta::DeltaError;

/// Why a table could not be compacted or vacuumed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The table cannot be read or written.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The rows could not be read or sorted.
    #[error("could not read and sort the rows of {view}; its table is as it was before")]
    Sort {
        /// The view.
        view: ViewId,
        /// The cause.
        source: Box<DataFusionError>,
    },
    /// Other writers were always first.
    #[error(
        "others rewrote the table of {view} {attempts} times while {doing}; try again when less is written"
    )]
    Busy {
        /// The view.
        view: ViewId,
        /// How often it was tried.
        attempts: u32,
        /// What was done to the table.
        doing: &'static str,
    },
    /// The files could not be listed or deleted.
    #[error("could not {what} the files of {table} at {location}")]
    Files {
        /// `list` or `delete`.
        what: &'static str,
        /// The table: a view, or the name of an operational one.
        table: String,
        /// The table's place.
        location: String,
        /// The cause.
        source: object_store::Error,
    },
}
