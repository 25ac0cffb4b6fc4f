//! Makes a planned dataset.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::internal_datafusion_err,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{ExecutionPlan, displayable, stream::RecordBatchStreamAdapter},
};
use futures::StreamExt;

use super::{DatasetPlan, EntityRows, HistoricalError, split::PlannedSplit};
use crate::{
    feature_table::FeatureTable,
    join::{JoinCounts, PitJoinExec, external},
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
        let join = Arc::new(match self.lint {
            true => join.with_lint(),
            false => join,
        });
        let rows = join.execute(0, context)?;
        let rows = match &self.split {
            Some(split) => with_parts(rows, split.clone(), &self.schema),
            None => rows,
        };
        Ok(DatasetRun { rows, join })
    }
}

/// The rows, each with the part that it is in.
fn with_parts(
    rows: SendableRecordBatchStream,
    split: PlannedSplit,
    schema: &SchemaRef,
) -> SendableRecordBatchStream {
    let (of_rows, mut first_row) = (SchemaRef::clone(schema), 0);
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let with_part = split.add(&batch, &of_rows, first_row);
        first_row += batch.num_rows();
        with_part.map_err(external)
    });
    Box::pin(RecordBatchStreamAdapter::new(
        SchemaRef::clone(schema),
        rows,
    ))
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
