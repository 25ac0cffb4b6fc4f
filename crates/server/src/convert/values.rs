//! Columns of values as [`v1::Values`].
//!
//! A null takes one number in `nulls`; its place in the array holds the zero of the type.

use vintner_core::{FeatureType, ScalarType, Timestamp, Value};
use vintner_proto::{
    convert::ConvertError,
    v1::{self, values::Column},
};

use super::{missing, wrong};

/// The message of a column.
///
/// # Errors
/// [`ConvertError`] when a value has another type than the column.
pub(super) fn encode(
    feature_type: FeatureType,
    values: Vec<Option<Value>>,
) -> Result<v1::Values, ConvertError> {
    match feature_type {
        FeatureType::Scalar(scalar) => encode_scalars(scalar, values),
        FeatureType::List(element) => encode_lists(element, values),
    }
}

/// The type and the values of a column.
///
/// # Errors
/// [`ConvertError`] when no array is set, or the lengths and nulls do not fit each other.
pub(super) fn decode(
    message: v1::Values,
) -> Result<(FeatureType, Vec<Option<Value>>), ConvertError> {
    match message.column.ok_or_else(no_array)? {
        Column::Lists(lists) => decode_lists(*lists, &message.nulls),
        scalars => {
            let (scalar, values) = decode_scalars(scalars, &message.nulls)?;
            Ok((FeatureType::Scalar(scalar), values))
        }
    }
}

/// How many rows a column has; 0 for one without an array.
pub(crate) fn row_count(message: &v1::Values) -> usize {
    message.column.as_ref().map_or(0, |column| match column {
        Column::Bools(array) => array.values.len(),
        Column::Int32s(array) => array.values.len(),
        Column::Int64s(array) => array.values.len(),
        Column::Float32s(array) => array.values.len(),
        Column::Float64s(array) => array.values.len(),
        Column::Strings(array) => array.values.len(),
        Column::ByteStrings(array) => array.values.len(),
        Column::Timestamps(array) => array.micros.len(),
        Column::Lists(array) => array.lengths.len(),
    })
}

/// Indexes of what is null.
pub(super) fn null_rows<T>(values: &[Option<T>]) -> Result<Vec<u32>, ConvertError> {
    let rows = values.iter().enumerate();
    rows.filter(|(_, value)| value.is_none())
        .map(|(row, _)| narrow(row))
        .collect()
}

/// For each row whether it is null.
///
/// # Errors
/// [`ConvertError`] when the indexes do not ascend or leave the column.
pub(super) fn null_mask(
    field: &str,
    rows: usize,
    nulls: &[u32],
) -> Result<Vec<bool>, ConvertError> {
    let mut mask = vec![false; rows];
    let mut next = 0;
    for &row in nulls {
        let row = row as usize;
        if row < next {
            return Err(wrong("does not ascend").within(field));
        }
        *mask.get_mut(row).ok_or_else(|| {
            wrong(format!("names the row {row}, but there are {rows} rows")).within(field)
        })? = true;
        next = row + 1;
    }
    Ok(mask)
}

fn encode_scalars(
    scalar: ScalarType,
    values: Vec<Option<Value>>,
) -> Result<v1::Values, ConvertError> {
    let nulls = null_rows(&values)?;
    macro_rules! array {
        ($variant:ident, $read:expr) => {
            values
                .into_iter()
                .map(|value| match value {
                    None => Ok(Default::default()),
                    Some(Value::$variant(value)) => Ok($read(value)),
                    Some(other) => Err(other_type(FeatureType::Scalar(scalar), &other)),
                })
                .collect::<Result<_, _>>()?
        };
    }
    let column = match scalar {
        ScalarType::Bool => Column::Bools(v1::Bools {
            values: array!(Bool, |v| v),
        }),
        ScalarType::Int32 => Column::Int32s(v1::Int32s {
            values: array!(Int32, |v| v),
        }),
        ScalarType::Int64 => Column::Int64s(v1::Int64s {
            values: array!(Int64, |v| v),
        }),
        ScalarType::Float32 => Column::Float32s(v1::Float32s {
            values: array!(Float32, |v| v),
        }),
        ScalarType::Float64 => Column::Float64s(v1::Float64s {
            values: array!(Float64, |v| v),
        }),
        ScalarType::String => Column::Strings(v1::Strings {
            values: array!(String, |v| v),
        }),
        ScalarType::Bytes => Column::ByteStrings(v1::ByteStrings {
            values: array!(Bytes, |v| v),
        }),
        ScalarType::Timestamp => Column::Timestamps(v1::Timestamps {
            micros: array!(Timestamp, Timestamp::micros),
        }),
    };
    Ok(v1::Values {
        column: Some(column),
        nulls,
    })
}

fn encode_lists(
    element: ScalarType,
    values: Vec<Option<Value>>,
) -> Result<v1::Values, ConvertError> {
    let nulls = null_rows(&values)?;
    let mut lengths = Vec::with_capacity(values.len());
    let mut elements = Vec::new();
    for value in values {
        match value {
            None => lengths.push(0),
            Some(Value::List(found, items)) if found == element => {
                lengths.push(narrow(items.len())?);
                elements.extend(items);
            }
            Some(other) => return Err(other_type(FeatureType::List(element), &other)),
        }
    }
    Ok(v1::Values {
        column: Some(Column::Lists(Box::new(v1::Lists {
            lengths,
            elements: Some(Box::new(encode_scalars(element, elements)?)),
        }))),
        nulls,
    })
}

fn decode_scalars(
    column: Column,
    nulls: &[u32],
) -> Result<(ScalarType, Vec<Option<Value>>), ConvertError> {
    fn read<T>(
        values: Vec<T>,
        nulls: &[u32],
        make: impl Fn(T) -> Value,
    ) -> Result<Vec<Option<Value>>, ConvertError> {
        let mask = null_mask("nulls", values.len(), nulls)?;
        let cells = values.into_iter().zip(mask);
        Ok(cells
            .map(|(value, null)| (!null).then(|| make(value)))
            .collect())
    }
    Ok(match column {
        Column::Bools(a) => (ScalarType::Bool, read(a.values, nulls, Value::Bool)?),
        Column::Int32s(a) => (ScalarType::Int32, read(a.values, nulls, Value::Int32)?),
        Column::Int64s(a) => (ScalarType::Int64, read(a.values, nulls, Value::Int64)?),
        Column::Float32s(a) => (ScalarType::Float32, read(a.values, nulls, Value::Float32)?),
        Column::Float64s(a) => (ScalarType::Float64, read(a.values, nulls, Value::Float64)?),
        Column::Strings(a) => (ScalarType::String, read(a.values, nulls, Value::String)?),
        Column::ByteStrings(a) => (ScalarType::Bytes, read(a.values, nulls, Value::Bytes)?),
        Column::Timestamps(a) => (
            ScalarType::Timestamp,
            read(a.micros, nulls, |micros| {
                Value::Timestamp(Timestamp::from_micros(micros))
            })?,
        ),
        Column::Lists(_) => {
            return Err(wrong(
                "`elements` is a column of lists; a list's element is never a list itself",
            ));
        }
    })
}

fn decode_lists(
    lists: v1::Lists,
    nulls: &[u32],
) -> Result<(FeatureType, Vec<Option<Value>>), ConvertError> {
    let elements = lists.elements.ok_or_else(|| missing("elements"))?;
    let column = elements.column.ok_or_else(no_array)?;
    let (element, items) = decode_scalars(column, &elements.nulls)?;
    let mask = null_mask("nulls", lists.lengths.len(), nulls)?;
    let counted: u64 = lists.lengths.iter().map(|&length| u64::from(length)).sum();
    if counted != items.len() as u64 {
        return Err(wrong(format!(
            "`lengths` adds up to {counted}, but there are {} elements",
            items.len()
        )));
    }
    let mut items = items.into_iter();
    let rows = lists.lengths.into_iter().zip(mask);
    let values = rows.map(|(length, null)| match (length, null) {
        (0, true) => Ok(None),
        (_, true) => Err(wrong("`lengths` gives a null row elements")),
        (length, false) => {
            let items = items.by_ref().take(length as usize).collect();
            Ok(Some(Value::List(element, items)))
        }
    });
    let values = values.collect::<Result<_, _>>()?;
    Ok((FeatureType::List(element), values))
}

fn narrow(number: usize) -> Result<u32, ConvertError> {
    u32::try_from(number)
        .map_err(|_| wrong(format!("a column of {number} rows is too long to send")))
}

fn no_array() -> ConvertError {
    wrong("a column has none of its arrays set, so it has no type")
}

fn other_type(wanted: FeatureType, value: &Value) -> ConvertError {
    wrong(format!(
        "a column of type {wanted} has a value of type {}",
        value.feature_type()
    ))
}
