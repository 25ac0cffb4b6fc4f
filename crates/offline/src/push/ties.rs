//! Which of two rows of equal times counts, as the join decides it.

use arrow::{array::RecordBatch, error::ArrowError};
use vintner_join::TieBreak;
use vintner_registry::model::ViewRevision;

use crate::delta::ViewLayout;

/// Whether a row wins over another one of the same times, or is the same. Both batches have the layout of the view.
///
/// # Errors
/// When a batch does not have the layout's columns.
pub fn wins_or_equals(
    view: &ViewRevision,
    (batch, row): (&RecordBatch, usize),
    (other, other_row): (&RecordBatch, usize),
) -> Result<bool, ArrowError> {
    let features = view.features.iter();
    let features: Vec<_> = features.map(|f| (f.name.clone(), f.feature_type)).collect();
    let places = ViewLayout::of(view).features();
    let columns = |batch: &RecordBatch| {
        let columns = batch.columns().get(places.clone());
        columns.map(<[_]>::to_vec).ok_or_else(|| {
            ArrowError::SchemaError("the features of the view are not there".to_owned())
        })
    };
    let rows = TieBreak::new(&features).between(&columns(batch)?, &columns(other)?)?;
    Ok(rows.compare(row, other_row).is_ge())
}
