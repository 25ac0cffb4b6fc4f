//! Columns of values as [`v1::Values`]: the arrays are moved, not copied.
//!
//! A null takes one number in `nulls`; its place in the array holds the zero of the type.

use vintner_core::{Column, ColumnError, ColumnValues, Timestamp};
use vintner_proto::{
    convert::ConvertError,
    v1::{self, values::Column as Array},
};

use super::{missing, wrong};

/// The message of a column.
pub(super) fn encode(column: Column) -> v1::Values {
    let (values, nulls) = column.into_parts();
    let array = match values {
        ColumnValues::Bool(values) => Array::Bools(v1::Bools { values }),
        ColumnValues::Int32(values) => Array::Int32s(v1::Int32s { values }),
        ColumnValues::Int64(values) => Array::Int64s(v1::Int64s { values }),
        ColumnValues::Float32(values) => Array::Float32s(v1::Float32s { values }),
        ColumnValues::Float64(values) => Array::Float64s(v1::Float64s { values }),
        ColumnValues::String(values) => Array::Strings(v1::Strings { values }),
        ColumnValues::Bytes(values) => Array::ByteStrings(v1::ByteStrings { values }),
        ColumnValues::Timestamp(instants) => Array::Timestamps(v1::Timestamps {
            micros: instants.into_iter().map(Timestamp::micros).collect(),
        }),
        ColumnValues::List { lengths, elements } => Array::Lists(Box::new(v1::Lists {
            lengths,
            elements: Some(Box::new(encode(*elements))),
        })),
    };
    v1::Values {
        column: Some(array),
        nulls,
    }
}

/// The column of a message.
///
/// # Errors
/// [`ConvertError`] when no array is set, or the lengths and nulls do not fit each other.
pub(super) fn decode(message: v1::Values) -> Result<Column, ConvertError> {
    let values = match message.column.ok_or_else(no_array)? {
        Array::Bools(array) => ColumnValues::Bool(array.values),
        Array::Int32s(array) => ColumnValues::Int32(array.values),
        Array::Int64s(array) => ColumnValues::Int64(array.values),
        Array::Float32s(array) => ColumnValues::Float32(array.values),
        Array::Float64s(array) => ColumnValues::Float64(array.values),
        Array::Strings(array) => ColumnValues::String(array.values),
        Array::ByteStrings(array) => ColumnValues::Bytes(array.values),
        Array::Timestamps(array) => {
            let instants = array.micros.into_iter().map(Timestamp::from_micros);
            ColumnValues::Timestamp(instants.collect())
        }
        Array::Lists(lists) => {
            let elements = lists.elements.ok_or_else(|| missing("elements"))?;
            if let Some(Array::Lists(_)) = elements.column {
                return Err(wrong(ColumnError::NestedList));
            }
            ColumnValues::List {
                lengths: lists.lengths,
                elements: Box::new(decode(*elements)?),
            }
        }
    };
    Column::new(values, message.nulls).map_err(wrong)
}

/// How many rows a column has; 0 for one without an array.
pub(crate) fn row_count(message: &v1::Values) -> usize {
    message.column.as_ref().map_or(0, |column| match column {
        Array::Bools(array) => array.values.len(),
        Array::Int32s(array) => array.values.len(),
        Array::Int64s(array) => array.values.len(),
        Array::Float32s(array) => array.values.len(),
        Array::Float64s(array) => array.values.len(),
        Array::Strings(array) => array.values.len(),
        Array::ByteStrings(array) => array.values.len(),
        Array::Timestamps(array) => array.micros.len(),
        Array::Lists(array) => array.lengths.len(),
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

fn narrow(number: usize) -> Result<u32, ConvertError> {
    u32::try_from(number)
        .map_err(|_| wrong(format!("a column of {number} rows is too long to send")))
}

fn no_array() -> ConvertError {
    wrong("a column has none of its arrays set, so it has no type")
}
