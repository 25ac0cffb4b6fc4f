//! The result: entity rows as they came, and beside them the values of their slots.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array},
    compute::interleave,
    datatypes::SchemaRef,
};
use vintner_core::arrow_values;

use crate::{
    entity_index::EntityIndex, error::Result, spec::JoinSpec, values::Values, winners::Winners,
};

/// One output column.
#[derive(Debug, Clone)]
pub struct OutputFeature {
    view: usize,
    /// The feature's place among those of its view that are asked for.
    feature: usize,
    /// One value: what a missing one becomes.
    fallback: ArrayRef,
    /// Whether a null becomes it too.
    replaces_nulls: bool,
}

/// What one view has to say of the entity rows.
#[derive(Debug)]
pub struct ViewAnswer {
    /// The entity rows by the view's keys.
    pub index: Arc<EntityIndex>,
    /// Which rows are seen.
    pub winners: Winners,
    /// Their values.
    pub values: Values,
}

impl OutputFeature {
    /// The output columns of a join, in their order.
    ///
    /// # Errors
    /// [`crate::SpecError`] when the description contradicts itself.
    pub fn all(spec: &JoinSpec) -> Result<Vec<Self>> {
        let asked: Vec<Vec<usize>> = (0..spec.views.len()).map(|view| spec.asked(view)).collect();
        let resolve = |output| {
            let (place, feature_type) = spec.feature(output)?;
            let fallback = match &output.default {
                Some(default) => arrow_values::column(feature_type, std::iter::once(Some(default))),
                None => new_null_array(&feature_type.arrow(), 1),
            };
            let mut asked = asked[output.view].iter();
            Ok(Self {
                view: output.view,
                feature: asked.position(|asked| *asked == place).unwrap_or_default(),
                fallback,
                replaces_nulls: output.default.is_some(),
            })
        };
        spec.outputs.iter().map(resolve).collect()
    }
}

/// Entity rows with their features. `first_row` is the number of the first of them among those that the answers are
/// about.
///
/// # Errors
/// None but a bug: that the answers are of other columns than the output.
pub fn output_batch(
    schema: &SchemaRef,
    features: &[OutputFeature],
    views: &[ViewAnswer],
    entity_rows: &RecordBatch,
    first_row: usize,
) -> Result<RecordBatch> {
    let rows = first_row..first_row + entity_rows.num_rows();
    // Where each entity row's values are, per view: in source 0 there is only the fallback, then come the chunks.
    let picks: Vec<Vec<(usize, usize)>> = views
        .iter()
        .map(|view| {
            let pick = |row| match view.winner(row) {
                Some(winner) => {
                    let (chunk, row) = view.values.place(winner);
                    (chunk + 1, row)
                }
                None => (0, 0),
            };
            rows.clone().map(pick).collect()
        })
        .collect();
    let mut columns = entity_rows.columns().to_vec();
    for output in features {
        columns.push(output.column(&views[output.view].values, &picks[output.view])?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(entity_rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        SchemaRef::clone(schema),
        columns,
        &options,
    )?)
}

impl ViewAnswer {
    fn winner(&self, entity_row: usize) -> Option<u32> {
        self.winners.of(self.index.slot(entity_row)?)
    }

    /// How many entity rows see a row.
    pub fn matched_rows(&self) -> usize {
        let rows = 0..self.index.rows();
        rows.filter(|row| self.winner(*row).is_some()).count()
    }

    /// For how many entity rows each of the first so many features that are asked for is null, since it is null in the
    /// row that they see, or since they see none. Defaults do not count.
    pub(crate) fn nulls(&self, features: usize) -> Vec<usize> {
        let of = |feature| {
            let columns: Vec<&dyn Array> = self.values.columns(feature).collect();
            let is_there = |row: &usize| {
                let place = self.winner(*row).map(|winner| self.values.place(winner));
                place.is_some_and(|(chunk, row)| columns[chunk].is_valid(row))
            };
            let rows = 0..self.index.rows();
            rows.filter(|row| !is_there(row)).count()
        };
        (0..features).map(of).collect()
    }

    /// The bytes that are held, without the index, which other views share.
    pub fn memory(&self) -> usize {
        self.winners.memory() + self.values.memory()
    }
}

impl OutputFeature {
    fn column(&self, values: &Values, picks: &[(usize, usize)]) -> Result<ArrayRef> {
        let mut sources: Vec<&dyn Array> = vec![self.fallback.as_ref()];
        sources.extend(values.columns(self.feature));
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
