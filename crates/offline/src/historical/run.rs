//! Makes a planned dataset.

use std::{fmt, sync::Arc};

use datafusion::{
    common::internal_datafusion_err,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{ExecutionPlan, displayable},
};

use super::{DatasetPlan, EntityRows, HistoricalError};
use crate::{
    feature_table::FeatureTable,
    join::{JoinCounts, PitJoinExec},
};

/// A dataset that is being made: a stream of rows, and what has been counted on the way.
pub struct DatasetRun {
    /// The result. Dropping it stops all reading. Its errors become [`HistoricalError`] by `from`.
    pub rows: SendableRecordBatchStream,
    /// What makes it, and counts. Keep a clone to ask for the counts after the stream has been used up.
    pub join: Arc<PitJoinExec>,
}

impl DatasetPlan {
    /// Begins to make the dataset, from entity rows with the planned columns and one table per planned view, in the
    /// plan's order.
    ///
    /// # Errors
    /// When the entity rows have other columns than were planned for.
    pub fn execute(
        &self,
        context: Arc<TaskContext>,
        entity_rows: EntityRows,
        tables: Vec<FeatureTable>,
    ) -> Result<DatasetRun, HistoricalError> {
        if *entity_rows.schema() != self.entity_schema {
            return Err(internal_datafusion_err!(
                "the entity rows have other columns than the dataset was planned for"
            )
            .into());
        }
        let join = Arc::clone(&self.join);
        let join = PitJoinExec::try_new(join, entity_rows.into_plan()?, tables.into())?;
        let join = Arc::new(join);
        Ok(DatasetRun {
            rows: join.execute(0, context)?,
            join,
        })
    }
}

impl DatasetRun {
    /// What has been counted so far.
    pub fn counts(&self) -> JoinCounts {
        self.join.counts()
    }

    /// The physical plan, for people.
    pub fn explain(&self) -> String {
        displayable(self.join.as_ref()).indent(false).to_string()
    }
}

impl fmt::Debug for DatasetRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatasetRun")
            .field("join", &self.join)
            .finish_non_exhaustive()
    }
}
