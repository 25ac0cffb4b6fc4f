//! The result: the entity rows as they came, and beside them the values of their slots.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array},
    compute::interleave,
    datatypes::SchemaRef,
};
use datafusion::error::{DataFusionError, Result};
use vintner_core::arrow_values;

use super::{entity_index::EntityIndex, entity_rows::EntityRows, spec::JoinSpec, winners::Visible};

/// One output column.
#[derive(Debug, Clone)]
pub(super) struct OutputFeature {
    view: usize,
    /// The feature's place in its view.
    feature: usize,
    /// One value: what a missing one becomes.
    fallback: ArrayRef,
    /// Whether a null becomes it too.
    replaces_nulls: bool,
}

/// The result, batch by batch.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) schema: SchemaRef,
    /// What is still to be given, and the memory that it is in.
    pub(super) entity_rows: EntityRows,
    pub(super) views: Vec<(Arc<EntityIndex>, Visible)>,
    pub(super) features: Vec<OutputFeature>,
    /// The most rows that a batch has.
    pub(super) batch_rows: usize,
    /// How many entity rows have been given.
    pub(super) given: usize,
}

impl OutputFeature {
    /// The output columns of a join, in their order.
    pub(super) fn all(spec: &JoinSpec) -> Result<Vec<Self>> {
        let resolve = |output| {
            let (feature, feature_type) = spec.feature(output).map_err(plan_error)?;
            let fallback = match &output.default {
                Some(default) => arrow_values::column(feature_type, std::iter::once(Some(default))),
                None => new_null_array(&feature_type.arrow(), 1),
            };
            Ok(Self {
                view: output.view,
                feature,
                fallback,
                replaces_nulls: output.default.is_some(),
            })
        };
        spec.outputs.iter().map(resolve).collect()
    }
}

fn plan_error(err: super::SpecError) -> DataFusionError {
    DataFusionError::Plan(err.to_string())
}

impl Iterator for Output {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.entity_rows.batches.pop_front()?;
        let (now, later) = match batch.num_rows() > self.batch_rows {
            true => (
                batch.slice(0, self.batch_rows),
                Some(batch.slice(self.batch_rows, batch.num_rows() - self.batch_rows)),
            ),
            false => (batch, None),
        };
        if let Some(later) = later {
            self.entity_rows.batches.push_front(later);
        }
        let joined = self.joined(&now);
        self.given += now.num_rows();
        Some(joined)
    }
}

impl Output {
    fn joined(&self, entity_rows: &RecordBatch) -> Result<RecordBatch> {
        let rows = self.given..self.given + entity_rows.num_rows();
        // Where each entity row's values are, per view: in source 0 there is only the fallback, then come the chunks.
        let picks: Vec<Vec<(usize, usize)>> = self
            .views
            .iter()
            .map(|(index, visible)| {
                let pick = |row| match index.slot(row).and_then(|slot| visible.row(slot)) {
                    Some((chunk, row)) => (chunk + 1, row),
                    None => (0, 0),
                };
                rows.clone().map(pick).collect()
            })
            .collect();
        let mut columns = entity_rows.columns().to_vec();
        for output in &self.features {
            let (_, visible) = &self.views[output.view];
            columns.push(output.column(visible, &picks[output.view])?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(entity_rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            SchemaRef::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}

impl OutputFeature {
    fn column(&self, visible: &Visible, picks: &[(usize, usize)]) -> Result<ArrayRef> {
        let mut sources: Vec<&dyn Array> = vec![self.fallback.as_ref()];
        sources.extend(visible.columns(self.feature));
        if !self.replaces_nulls {
            return Ok(interleave(&sources, picks)?);
        }
        let unless_null = |&(source, row): &(usize, usize)| match sources[source].is_null(row) {
            true => (0, 0),
            false => (source, row),
        };
        let picks: Vec<_> = picks.iter().map(unless_null).collect();
        Ok(interleave(&sources, &picks)?)
    }
}
