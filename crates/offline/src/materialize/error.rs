//! Why a run failed.

use datafusion::error::DataFusionError;
use vintner_core::ViewId;

use super::plan::PlanError;
use crate::{delta::DeltaError, planner, sources::SourceError};

/// Why a run failed. The table is as it was before the run.
#[derive(Debug, thiserror::Error)]
pub enum MaterializeError {
    /// The request cannot be met, or would lose rows.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A source cannot be read, or is not what it was when the view was applied.
    #[error("could not materialize {view}")]
    Source {
        /// The view.
        view: ViewId,
        /// The cause.
        #[source]
        source: Box<SourceError>,
    },
    /// The query does not plan over the sources as they are now.
    #[error("could not plan the query of {view}")]
    Query {
        /// The view.
        view: ViewId,
        /// The cause.
        #[source]
        source: Box<planner::PlanError>,
    },
    /// The query failed while it ran.
    #[error("could not compute the rows of {view}")]
    Compute {
        /// The view.
        view: ViewId,
        /// The cause.
        #[source]
        source: Box<DataFusionError>,
    },
    /// The table could not be read or written, or others kept writing it first.
    #[error("could not materialize {view}")]
    Delta {
        /// The view.
        view: ViewId,
        /// The cause.
        #[source]
        source: DeltaError,
    },
}

impl MaterializeError {
    /// Whether another writer was first, so that planning again and running again is the thing to do.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Delta { source, .. } if source.is_conflict())
    }
}
