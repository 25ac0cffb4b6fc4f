//! Key and time columns of entity rows, of whatever Arrow types they come, as the join needs them.
//!
//! Holds always: a conversion keeps the value or is an error that names the row; nothing becomes null, wraps or is
//! rounded to another key. Times finer than a microsecond are cut off downwards.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::{CastOptions, cast_with_options},
    datatypes::{
        DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    },
    util::display::array_value_to_string,
};
use datafusion::error::{DataFusionError, Result};
use vintner_core::{JoinKey, KeyType, Timestamp};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A value of the entity rows that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "entity row {row} has `{value}` in the column `{column}`, which does not fit {wanted}; correct or leave out that row"
)]
pub struct EntityValueError {
    /// The row; the first one is 1.
    pub row: usize,
    /// The column.
    pub column: String,
    /// The value.
    pub value: String,
    /// What it should be.
    pub wanted: String,
}

/// Whether a column of an Arrow type can be a join key's: its values are the key's values, in a wider or a narrower
/// type of the same sort.
pub fn key_type_fits(found: &DataType, key_type: KeyType) -> bool {
    match found {
        DataType::Null => true,
        DataType::Dictionary(_, values) => key_type_fits(values, key_type),
        DataType::Boolean => key_type == KeyType::Bool,
        found if found.is_integer() => matches!(key_type, KeyType::Int32 | KeyType::Int64),
        // Text is its own bytes, as on the command line.
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            matches!(key_type, KeyType::String | KeyType::Bytes)
        }
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => key_type == KeyType::Bytes,
        _ => false,
    }
}

/// Whether a column of an Arrow type can say which moment an entity row asks about: a timestamp of any unit and zone
/// (without a zone: UTC), or a date, which is its midnight in UTC.
pub fn time_type_fits(found: &DataType) -> bool {
    match found {
        DataType::Null | DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => true,
        DataType::Dictionary(_, values) => time_type_fits(values),
        _ => false,
    }
}

/// A column as its join key's type. `first_row` is the number of rows before this column's first, for errors.
pub(super) fn key_column(
    column: &ArrayRef,
    join_key: &JoinKey,
    first_row: usize,
) -> Result<ArrayRef> {
    let wanted = join_key.key_type.arrow();
    if *column.data_type() == wanted {
        return Ok(ArrayRef::clone(column));
    }
    if !key_type_fits(column.data_type(), join_key.key_type) {
        return Err(DataFusionError::Plan(format!(
            "the column `{}` of the entity rows has the type {}, which is no {}",
            join_key.name,
            column.data_type(),
            join_key.key_type
        )));
    }
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    let cast = cast_with_options(column, &wanted, &options)?;
    let before = column.logical_nulls();
    let lost = (0..column.len())
        .find(|&row| cast.is_null(row) && before.as_ref().is_none_or(|nulls| nulls.is_valid(row)));
    match lost {
        None => Ok(cast),
        Some(row) => Err(unusable(
            column,
            row,
            first_row,
            join_key.name.as_str(),
            format!("its join key's type {}", join_key.key_type),
        )),
    }
}

/// A column as moments; none where it is null.
pub(super) fn times(
    column: &ArrayRef,
    name: &str,
    first_row: usize,
) -> Result<Vec<Option<Timestamp>>> {
    let micros: Vec<Option<i64>> = match column.data_type() {
        DataType::Null => return Ok(vec![None; column.len()]),
        DataType::Dictionary(_, values) if time_type_fits(values) => {
            let unpacked = arrow::compute::cast(column, values)?;
            return times(&unpacked, name, first_row);
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            let seconds = column.as_primitive::<TimestampSecondType>().iter();
            scaled(seconds, SECOND)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let millis = column.as_primitive::<TimestampMillisecondType>().iter();
            scaled(millis, 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().iter();
            scaled(micros, 1)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = column.as_primitive::<TimestampNanosecondType>().iter();
            nanos.map(|t| t.map(|t| t.div_euclid(1_000))).collect()
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().iter();
            scaled(days.map(|day| day.map(i64::from)), DAY)
        }
        DataType::Date64 => {
            let millis = column.as_primitive::<Date64Type>().iter();
            scaled(millis, 1_000)
        }
        found => {
            return Err(DataFusionError::Plan(format!(
                "the column `{name}` of the entity rows has the type {found}, which is no timestamp"
            )));
        }
    };
    let lost = (0..column.len()).find(|&row| micros[row].is_none() && column.is_valid(row));
    match lost {
        None => Ok(micros
            .into_iter()
            .map(|t| t.map(Timestamp::from_micros))
            .collect()),
        Some(row) => Err(unusable(
            column,
            row,
            first_row,
            name,
            "a timestamp in microseconds".to_owned(),
        )),
    }
}

fn scaled(values: impl Iterator<Item = Option<i64>>, by: i64) -> Vec<Option<i64>> {
    values
        .map(|value| value.and_then(|value| value.checked_mul(by)))
        .collect()
}

fn unusable(
    column: &ArrayRef,
    row: usize,
    first_row: usize,
    name: &str,
    wanted: String,
) -> DataFusionError {
    DataFusionError::External(Box::new(EntityValueError {
        row: first_row + row + 1,
        column: name.to_owned(),
        // A time that does not fit may be one that cannot be written as a date either.
        value: array_value_to_string(column, row)
            .unwrap_or_else(|_| "a value too large".to_owned()),
        wanted,
    }))
}
