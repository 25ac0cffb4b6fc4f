//! What comes in a push, as rows of the view's table: every column in its type, every time come.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType},
};
use vintner_core::{FeatureType, ScalarType, Timestamp, nearest::nearest};
use vintner_registry::model::ViewRevision;

use super::row_error::RowError;
use crate::{delta::ViewLayout, sources::normalise};

/// How far ahead of this machine's clock a row's time may be.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The columns that a push to a view has, each in its type; `created_timestamp` may be left out.
pub fn wanted_columns(view: &ViewRevision) -> SchemaRef {
    let layout = ViewLayout::of(view);
    let fields = layout.arrow().fields().iter();
    // Nulls are found later, with their rows.
    let fields = fields.map(|field| Field::new(field.name(), field.data_type().clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows with exactly the columns of [`ViewLayout`]. Columns are found by name, in any order. A row without a created
/// time gets `now`. `before` is how many rows came before these, for the numbers of rows in errors.
///
/// # Errors
/// [`RowError`]: an unknown or a missing column, a value that the column's type cannot hold, a null in a join key or an
/// event time, or a time that is further in the future than [`CLOCK_TOLERANCE`].
pub fn checked_rows(
    view: &ViewRevision,
    batch: &RecordBatch,
    now: Timestamp,
    before: u64,
) -> Result<RecordBatch, RowError> {
    let layout = ViewLayout::of(view);
    check_names(view, &layout, batch)?;
    let columns = layout.arrow().fields().iter().enumerate();
    let columns = columns.map(|(place, field)| {
        let name = field.name();
        let column = match batch.column_by_name(name) {
            Some(column) => typed(name, column, field.data_type(), before)?,
            // The check of names leaves only this one out.
            None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
        };
        match place {
            place if place == layout.created() => {
                let created = filled(&column, now);
                come(name, &created, now, before)?;
                Ok(Arc::new(created) as ArrayRef)
            }
            place if place < layout.created() => {
                no_nulls(name, &column, before)?;
                if let Some(events) = column.as_primitive_opt::<TimestampMicrosecondType>() {
                    come(name, events, now, before)?;
                }
                Ok(column)
            }
            _ => Ok(column),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, RowError>>()?;
    RecordBatch::try_new(Arc::clone(layout.arrow()), columns).map_err(|error| RowError::Unknown {
        view: view.id.clone(),
        column: String::new(),
        hint: error.to_string(),
    })
}

fn check_names(
    view: &ViewRevision,
    layout: &ViewLayout,
    batch: &RecordBatch,
) -> Result<(), RowError> {
    let known = || layout.arrow().fields().iter().map(|f| f.name().as_str());
    let schema = batch.schema();
    let mut given = BTreeSet::new();
    for field in schema.fields() {
        let name = field.name().as_str();
        if !given.insert(name) {
            let column = name.to_owned();
            return Err(RowError::Twice { column });
        }
        if !known().any(|known| known == name) {
            return Err(RowError::Unknown {
                view: view.id.clone(),
                column: name.to_owned(),
                hint: match nearest(name, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it has {}", known().collect::<Vec<_>>().join(", ")),
                },
            });
        }
    }
    let missing = known().enumerate().find(|(place, name)| {
        let is_optional = *place == layout.created();
        !is_optional && !given.contains(name)
    });
    let Some((place, name)) = missing else {
        return Ok(());
    };
    Err(RowError::Missing {
        view: view.id.clone(),
        column: name.to_owned(),
        what: match place {
            place if place < layout.keys() => "which is a join key".to_owned(),
            place if place == layout.event() => "which says when each row was true".to_owned(),
            _ => "which is a feature; give it nulls to say that there is no value".to_owned(),
        },
    })
}

/// A column in its type.
fn typed(
    name: &str,
    column: &ArrayRef,
    wanted: &DataType,
    before: u64,
) -> Result<ArrayRef, RowError> {
    let wanted = FeatureType::holding(wanted).unwrap_or(FeatureType::Scalar(ScalarType::String));
    let is_time = wanted == FeatureType::Scalar(ScalarType::Timestamp);
    if is_time && column.data_type().is_numeric() && column.null_count() < column.len() {
        // Nobody knows which unit it would be.
        let row = (0..column.len()).find(|row| column.is_valid(*row));
        return Err(RowError::Value {
            row: before + row.unwrap_or(0) as u64 + 1,
            column: name.to_owned(),
            value: "a number".to_owned(),
            wanted,
        });
    }
    normalise(name, column, wanted).map_err(|lossy| RowError::Value {
        row: before + lossy.row as u64 + 1,
        column: lossy.column,
        value: lossy.value,
        wanted: lossy.wanted,
    })
}

fn no_nulls(name: &str, column: &ArrayRef, before: u64) -> Result<(), RowError> {
    match (0..column.len()).find(|row| column.is_null(*row)) {
        Some(row) if column.null_count() > 0 => Err(RowError::Null {
            row: before + row as u64 + 1,
            column: name.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn come(
    name: &str,
    times: &TimestampMicrosecondArray,
    now: Timestamp,
    before: u64,
) -> Result<(), RowError> {
    let tolerance = i64::try_from(CLOCK_TOLERANCE.as_micros()).unwrap_or(0);
    let latest = now.micros().saturating_add(tolerance);
    match times.values().iter().position(|at| *at > latest) {
        None => Ok(()),
        Some(row) => Err(RowError::Future {
            row: before + row as u64 + 1,
            column: name.to_owned(),
            at: Timestamp::from_micros(times.value(row)),
            now,
        }),
    }
}

fn filled(created: &ArrayRef, now: Timestamp) -> TimestampMicrosecondArray {
    let created = created.as_primitive::<TimestampMicrosecondType>();
    let filled = created.iter().map(|at| at.unwrap_or(now.micros()));
    TimestampMicrosecondArray::from_iter_values(filled).with_timezone("UTC")
}
