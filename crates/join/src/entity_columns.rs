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
use vintner_core::{JoinKey, KeyType, Timestamp};

use crate::error::{JoinError, Result};

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
///
/// # Errors
/// [`JoinError::Value`] for a value that the type does not have; [`JoinError::KeyColumn`] for a column that
/// [`key_type_fits`] refuses.
pub fn key_column(column: &ArrayRef, join_key: &JoinKey, first_row: usize) -> Result<ArrayRef> {
    let wanted = join_key.key_type.arrow();
    if *column.data_type() == wanted {
        return Ok(ArrayRef::clone(column));
    }
    if !key_type_fits(column.data_type(), join_key.key_type) {
        return Err(JoinError::KeyColumn {
            join_key: join_key.clone(),
            found: column.data_type().clone(),
        });
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
        Some(row) => Err(JoinError::Value(EntityValueError {
            row: first_row + row + 1,
            column: join_key.name.to_string(),
            value: array_value_to_string(column, row)?,
            wanted: format!("its join key's type {}", join_key.key_type),
        })),
    }
}

/// A column as moments; none where it is null. `first_row` is the number of rows before this column's first, for errors.
///
/// # Errors
/// [`JoinError::Value`] for a moment that cannot be held; [`JoinError::TimeColumn`] for a column that
/// [`time_type_fits`] refuses.
pub fn times(column: &ArrayRef, name: &str, first_row: usize) -> Result<Vec<Option<Timestamp>>> {
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
            return Err(JoinError::TimeColumn {
                column: name.to_owned(),
                found: found.clone(),
            });
        }
    };
    let lost = (0..column.len()).find(|&row| micros[row].is_none() && column.is_valid(row));
    match lost {
        None => Ok(micros
            .into_iter()
            .map(|t| t.map(Timestamp::from_micros))
            .collect()),
        // Such a time is beyond the years that have a name, so it is shown as the number that it is.
        Some(row) => {
            let numbers = arrow::compute::cast(column, &DataType::Int64)?;
            Err(JoinError::Value(EntityValueError {
                row: first_row + row + 1,
                column: name.to_owned(),
                value: format!(
                    "{} as {}",
                    array_value_to_string(&numbers, row)?,
                    column.data_type()
                ),
                wanted: "a timestamp in microseconds".to_owned(),
            }))
        }
    }
}

fn scaled(values: impl Iterator<Item = Option<i64>>, by: i64) -> Vec<Option<i64>> {
    values
        .map(|value| value.and_then(|value| value.checked_mul(by)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{
            BinaryArray, BooleanArray, Date32Array, Date64Array, DictionaryArray,
            FixedSizeBinaryArray, Float64Array, Int8Array, Int32Array, Int64Array,
            LargeBinaryArray, LargeStringArray, NullArray, StringArray, StringViewArray,
            TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
            TimestampSecondArray, UInt64Array,
        },
        datatypes::Int8Type,
    };

    use super::*;

    fn key(key_type: KeyType) -> JoinKey {
        JoinKey {
            name: "k".parse().unwrap(),
            key_type,
        }
    }

    fn dictionary(values: &[Option<&str>]) -> ArrayRef {
        let values: DictionaryArray<Int8Type> = values.iter().copied().collect();
        Arc::new(values)
    }

    #[test]
    fn keys_come_in_any_type_that_holds_their_values() {
        let int32: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
        let int64: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"a"[..]), None]));
        let bools: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
        let fixed = [Some(b"a"), None].into_iter();
        let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 1).unwrap();
        let cases: Vec<(ArrayRef, KeyType, &ArrayRef)> = vec![
            (Arc::clone(&int32), KeyType::Int32, &int32),
            (Arc::clone(&int32), KeyType::Int64, &int64),
            (Arc::clone(&int64), KeyType::Int32, &int32),
            (
                Arc::new(Int8Array::from(vec![Some(7), None])),
                KeyType::Int64,
                &int64,
            ),
            (
                Arc::new(UInt64Array::from(vec![Some(7), None])),
                KeyType::Int64,
                &int64,
            ),
            (
                Arc::new(LargeStringArray::from(vec![Some("a"), None])),
                KeyType::String,
                &text,
            ),
            (
                Arc::new(StringViewArray::from(vec![Some("a"), None])),
                KeyType::String,
                &text,
            ),
            (dictionary(&[Some("a"), None]), KeyType::String, &text),
            (Arc::clone(&text), KeyType::Bytes, &bytes),
            (
                Arc::new(LargeBinaryArray::from(vec![Some(&b"a"[..]), None])),
                KeyType::Bytes,
                &bytes,
            ),
            (Arc::new(fixed), KeyType::Bytes, &bytes),
            (Arc::clone(&bools), KeyType::Bool, &bools),
        ];
        for (column, key_type, want) in cases {
            let found = key_column(&column, &key(key_type), 0).unwrap();
            assert_eq!(
                found.as_ref(),
                want.as_ref(),
                "{} as {key_type}",
                column.data_type()
            );
        }
        let nulls: ArrayRef = Arc::new(NullArray::new(2));
        for key_type in KeyType::ALL {
            let found = key_column(&nulls, &key(key_type), 0).unwrap();
            assert_eq!(found.null_count(), 2);
        }
    }

    #[test]
    fn a_type_that_says_something_else_is_no_key() {
        for (found, key_type) in [
            (DataType::Float64, KeyType::Int64),
            (DataType::Decimal128(10, 0), KeyType::Int64),
            (DataType::Int64, KeyType::String),
            (DataType::Utf8, KeyType::Int64),
            (DataType::Int8, KeyType::Bool),
            (DataType::Boolean, KeyType::Int32),
            (DataType::Binary, KeyType::String),
            (DataType::Date32, KeyType::Int32),
        ] {
            assert!(!key_type_fits(&found, key_type), "{found} as {key_type}");
        }
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        assert!(key_column(&floats, &key(KeyType::Int64), 0).is_err());
        assert!(times(&floats, "t", 0).is_err());
    }

    #[test]
    fn a_moment_is_a_timestamp_or_a_date_packed_or_not() {
        let packed = |values| DataType::Dictionary(Box::new(DataType::Int8), Box::new(values));
        let moments = [
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())),
            DataType::Date32,
            DataType::Date64,
            DataType::Null,
        ];
        for moment in moments {
            assert!(time_type_fits(&moment), "{moment}");
            assert!(time_type_fits(&packed(moment.clone())), "packed {moment}");
        }
        for other in [
            DataType::Int64,
            DataType::Utf8,
            DataType::Time32(TimeUnit::Second),
        ] {
            assert!(!time_type_fits(&other), "{other}");
            assert!(!time_type_fits(&packed(other.clone())), "packed {other}");
        }
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(1), None]));
        let days = arrow::compute::cast(&days, &packed(DataType::Date32)).unwrap();
        let want = [Some(Timestamp::from_micros(86_400_000_000)), None];
        assert_eq!(times(&days, "t", 0).unwrap(), want);
        // The type in the error is the column's own.
        let err = times(&dictionary(&[Some("a")]), "t", 0).unwrap_err();
        insta::assert_snapshot!(err, @"the column `t` of the entity rows has the type Dictionary(Int8, Utf8), which is no timestamp");
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_with_its_row() {
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(5_000_000_000)]));
        let err = key_column(&keys, &key(KeyType::Int32), 100).unwrap_err();
        insta::assert_snapshot!(err.to_string(), @"entity row 103 has `5000000000` in the column `k`, which does not fit its join key's type int32; correct or leave out that row");
        let err = times(
            &(Arc::new(Date32Array::from(vec![i32::MAX])) as ArrayRef),
            "when",
            100,
        )
        .unwrap_err();
        insta::assert_snapshot!(err.to_string(), @"entity row 101 has `2147483647 as Date32` in the column `when`, which does not fit a timestamp in microseconds; correct or leave out that row");
        let dates: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), Some(i32::MAX)]));
        let err = times(&dates, "when", 0).unwrap_err();
        insta::assert_snapshot!(err.to_string(), @"entity row 2 has `2147483647 as Date32` in the column `when`, which does not fit a timestamp in microseconds; correct or leave out that row");
        let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MIN]));
        let err = times(&seconds, "when", 0).unwrap_err();
        insta::assert_snapshot!(err.to_string(), @"entity row 1 has `-9223372036854775808 as Timestamp(s)` in the column `when`, which does not fit a timestamp in microseconds; correct or leave out that row");
    }

    #[test]
    fn times_of_every_unit_become_microseconds_and_finer_ones_are_cut_off_downwards() {
        let day = 86_400_000_000;
        let naive: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![5]));
        let zoned: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![5]).with_timezone("+02:00"));
        let nanos = TimestampNanosecondArray::from(vec![-1, -1_000, -1_001, 999, 1_000]);
        let cases: Vec<(ArrayRef, Vec<i64>)> = vec![
            (naive, vec![5]),
            (zoned, vec![5]),
            (Arc::new(nanos), vec![-1, -1, -2, 0, 1]),
            (
                Arc::new(TimestampMillisecondArray::from(vec![-1, 1])),
                vec![-1_000, 1_000],
            ),
            (
                Arc::new(TimestampSecondArray::from(vec![-1, 1])),
                vec![-1_000_000, 1_000_000],
            ),
            (Arc::new(Date32Array::from(vec![-1, 1])), vec![-day, day]),
            (Arc::new(Date64Array::from(vec![86_400_000])), vec![day]),
        ];
        for (column, want) in cases {
            let found = times(&column, "t", 0).unwrap();
            let want: Vec<_> = want
                .into_iter()
                .map(|t| Some(Timestamp::from_micros(t)))
                .collect();
            assert_eq!(found, want, "{}", column.data_type());
        }
        let nulls: ArrayRef = Arc::new(NullArray::new(1));
        assert_eq!(times(&nulls, "t", 0).unwrap(), [None]);
        let null: ArrayRef = Arc::new(TimestampSecondArray::from(vec![None, Some(0)]));
        assert_eq!(
            times(&null, "t", 0).unwrap(),
            [None, Some(Timestamp::from_micros(0))]
        );
    }
}
