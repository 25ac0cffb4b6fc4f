//! A column of values of one type, some of them null: how feature vectors and their keys are held between a store and
//! a transport.
//!
//! The arrays are plain vectors, so that a column becomes a message, or is read from one, without a copy. Not here:
//! Arrow, which batches use ([`crate::arrow_values`]).

use crate::{
    feature_type::{FeatureType, ScalarType},
    time::Timestamp,
    value::{ScalarRef, Value},
};

/// A column. Equal columns have equal values bit for bit, and the same nulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    values: ColumnValues,
    nulls: Vec<u32>,
}

/// One element per row; where the row is null it has no meaning, and is the type's zero.
#[derive(Clone, Debug)]
pub enum ColumnValues {
    /// True or false.
    Bool(Vec<bool>),
    /// Signed, 32 bits.
    Int32(Vec<i32>),
    /// Signed, 64 bits.
    Int64(Vec<i64>),
    /// IEEE 754, 32 bits.
    Float32(Vec<f32>),
    /// IEEE 754, 64 bits.
    Float64(Vec<f64>),
    /// UTF-8.
    String(Vec<String>),
    /// Any bytes.
    Bytes(Vec<Vec<u8>>),
    /// Instants.
    Timestamp(Vec<Timestamp>),
    /// Lists, laid end to end.
    List {
        /// How many elements each row's list has; 0 where the row is null.
        lengths: Vec<u32>,
        /// The elements of all rows, of a scalar type.
        elements: Box<Column>,
    },
}

/// Why parts do not make a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// The rows that are null are out of order, or one is there twice.
    #[error("nulls: does not ascend")]
    NullsDescend,
    /// A row that there is not is null.
    #[error("nulls: names the row {row}, but there are {rows} rows")]
    NullBeyond {
        /// The row.
        row: u32,
        /// How many rows there are.
        rows: usize,
    },
    /// The lengths of lists do not add up to the elements.
    #[error("`lengths` adds up to {counted}, but there are {elements} elements")]
    Lengths {
        /// Their sum.
        counted: u64,
        /// How many elements there are.
        elements: usize,
    },
    /// A null row has a list.
    #[error("`lengths` gives a null row elements")]
    NullWithElements,
    /// A list's elements are lists.
    #[error("`elements` is a column of lists; a list's element is never a list itself")]
    NestedList,
    /// A value of another type than the column.
    #[error("a column of type {wanted} has a value of type {found}")]
    Type {
        /// The column's type.
        wanted: FeatureType,
        /// The value's.
        found: FeatureType,
    },
    /// A list for a column of another type.
    #[error("a column of type {0} has a list")]
    NotLists(FeatureType),
    /// More rows than a column can have.
    #[error("a column of {0} rows is too long")]
    TooLong(usize),
}

impl Column {
    /// A column without rows, with room for some.
    pub fn with_capacity(feature_type: FeatureType, rows: usize) -> Self {
        let values = match feature_type {
            FeatureType::Scalar(scalar) => match scalar {
                ScalarType::Bool => ColumnValues::Bool(Vec::with_capacity(rows)),
                ScalarType::Int32 => ColumnValues::Int32(Vec::with_capacity(rows)),
                ScalarType::Int64 => ColumnValues::Int64(Vec::with_capacity(rows)),
                ScalarType::Float32 => ColumnValues::Float32(Vec::with_capacity(rows)),
                ScalarType::Float64 => ColumnValues::Float64(Vec::with_capacity(rows)),
                ScalarType::String => ColumnValues::String(Vec::with_capacity(rows)),
                ScalarType::Bytes => ColumnValues::Bytes(Vec::with_capacity(rows)),
                ScalarType::Timestamp => ColumnValues::Timestamp(Vec::with_capacity(rows)),
            },
            FeatureType::List(element) => ColumnValues::List {
                lengths: Vec::with_capacity(rows),
                elements: Box::new(Self::with_capacity(FeatureType::Scalar(element), rows)),
            },
        };
        Self {
            values,
            nulls: Vec::new(),
        }
    }

    /// The column of these values and of the rows that are null, in ascending order.
    ///
    /// # Errors
    /// [`ColumnError`] when the parts contradict each other.
    pub fn new(values: ColumnValues, nulls: Vec<u32>) -> Result<Self, ColumnError> {
        let rows = values.len();
        if u32::try_from(rows).is_err() {
            return Err(ColumnError::TooLong(rows));
        }
        if !nulls.is_sorted_by(|a, b| a < b) {
            return Err(ColumnError::NullsDescend);
        }
        if let Some(&row) = nulls.last().filter(|&&row| row as usize >= rows) {
            return Err(ColumnError::NullBeyond { row, rows });
        }
        if let ColumnValues::List { lengths, elements } = &values {
            if let FeatureType::List(_) = elements.feature_type() {
                return Err(ColumnError::NestedList);
            }
            let counted: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
            if counted != elements.len() as u64 {
                return Err(ColumnError::Lengths {
                    counted,
                    elements: elements.len(),
                });
            }
            let full = |&row: &u32| lengths.get(row as usize) != Some(&0);
            if nulls.iter().any(full) {
                return Err(ColumnError::NullWithElements);
            }
        }
        Ok(Self { values, nulls })
    }

    /// The column of these values, all of one type.
    ///
    /// # Errors
    /// [`ColumnError::Type`] for a value of another type.
    pub fn of(
        feature_type: FeatureType,
        values: impl IntoIterator<Item = Option<Value>>,
    ) -> Result<Self, ColumnError> {
        let values = values.into_iter();
        let mut column = Self::with_capacity(feature_type, values.size_hint().0);
        for value in values {
            column.push(value.as_ref())?;
        }
        Ok(column)
    }

    /// The values and the rows that are null.
    pub fn into_parts(self) -> (ColumnValues, Vec<u32>) {
        (self.values, self.nulls)
    }

    /// The values; where a row is null they have no meaning.
    pub fn values(&self) -> &ColumnValues {
        &self.values
    }

    /// The rows that are null, in ascending order.
    pub fn nulls(&self) -> &[u32] {
        &self.nulls
    }

    /// The type of the values.
    pub fn feature_type(&self) -> FeatureType {
        FeatureType::Scalar(match &self.values {
            ColumnValues::Bool(_) => ScalarType::Bool,
            ColumnValues::Int32(_) => ScalarType::Int32,
            ColumnValues::Int64(_) => ScalarType::Int64,
            ColumnValues::Float32(_) => ScalarType::Float32,
            ColumnValues::Float64(_) => ScalarType::Float64,
            ColumnValues::String(_) => ScalarType::String,
            ColumnValues::Bytes(_) => ScalarType::Bytes,
            ColumnValues::Timestamp(_) => ScalarType::Timestamp,
            ColumnValues::List { elements, .. } => {
                return match elements.feature_type() {
                    FeatureType::Scalar(element) | FeatureType::List(element) => {
                        FeatureType::List(element)
                    }
                };
            }
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a row is null.
    pub fn is_null(&self, row: usize) -> bool {
        !self.nulls.is_empty()
            && u32::try_from(row).is_ok_and(|row| self.nulls.binary_search(&row).is_ok())
    }

    /// The value of a row; none where it is null, and beyond the last row. Cost of a list: the rows before it.
    pub fn get(&self, row: usize) -> Option<Value> {
        if self.is_null(row) {
            return None;
        }
        Some(match &self.values {
            ColumnValues::Bool(values) => Value::Bool(*values.get(row)?),
            ColumnValues::Int32(values) => Value::Int32(*values.get(row)?),
            ColumnValues::Int64(values) => Value::Int64(*values.get(row)?),
            ColumnValues::Float32(values) => Value::Float32(*values.get(row)?),
            ColumnValues::Float64(values) => Value::Float64(*values.get(row)?),
            ColumnValues::String(values) => Value::String(values.get(row)?.clone()),
            ColumnValues::Bytes(values) => Value::Bytes(values.get(row)?.clone()),
            ColumnValues::Timestamp(values) => Value::Timestamp(*values.get(row)?),
            ColumnValues::List { lengths, elements } => {
                let FeatureType::Scalar(element) = elements.feature_type() else {
                    return None;
                };
                let length = *lengths.get(row)? as usize;
                let start: usize = lengths.iter().take(row).map(|&n| n as usize).sum();
                let items = (start..start + length).map(|at| elements.get(at));
                Value::List(element, items.collect())
            }
        })
    }

    /// The values of all rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<Value>> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Adds a null.
    pub fn push_null(&mut self) {
        // A column has no more rows than the numbers of `nulls` can name: `new` holds it, and no memory has more.
        self.nulls.extend(u32::try_from(self.len()));
        match &mut self.values {
            ColumnValues::Bool(values) => values.push(false),
            ColumnValues::Int32(values) => values.push(0),
            ColumnValues::Int64(values) => values.push(0),
            ColumnValues::Float32(values) => values.push(0.0),
            ColumnValues::Float64(values) => values.push(0.0),
            ColumnValues::String(values) => values.push(String::new()),
            ColumnValues::Bytes(values) => values.push(Vec::new()),
            ColumnValues::Timestamp(values) => values.push(Timestamp::from_micros(0)),
            ColumnValues::List { lengths, .. } => lengths.push(0),
        }
    }

    /// Adds a value, or a null.
    ///
    /// # Errors
    /// [`ColumnError::Type`] for a value of another type; then the column is not to be used further.
    pub fn push(&mut self, value: Option<&Value>) -> Result<(), ColumnError> {
        match (value, value.and_then(ScalarRef::of)) {
            (None, _) => {
                self.push_null();
                Ok(())
            }
            (_, Some(scalar)) => self.push_scalar(scalar),
            (Some(Value::List(element, items)), _)
                if self.feature_type() == FeatureType::List(*element) =>
            {
                // A list within a list is nothing that a scalar column takes.
                let other = |value: &Value| ColumnError::Type {
                    wanted: FeatureType::Scalar(*element),
                    found: value.feature_type(),
                };
                let items = items.iter().map(|item| match item {
                    None => Ok(None),
                    Some(value) => ScalarRef::of(value).map(Some).ok_or_else(|| other(value)),
                });
                self.push_list(items)
            }
            (Some(value), _) => Err(self.other(value.feature_type())),
        }
    }

    /// Adds a scalar.
    ///
    /// # Errors
    /// [`ColumnError::Type`] when the column is of another type; then nothing is added.
    #[inline]
    pub fn push_scalar(&mut self, value: ScalarRef<'_>) -> Result<(), ColumnError> {
        match (&mut self.values, value) {
            (ColumnValues::Bool(values), ScalarRef::Bool(value)) => values.push(value),
            (ColumnValues::Int32(values), ScalarRef::Int32(value)) => values.push(value),
            (ColumnValues::Int64(values), ScalarRef::Int64(value)) => values.push(value),
            (ColumnValues::Float32(values), ScalarRef::Float32(value)) => values.push(value),
            (ColumnValues::Float64(values), ScalarRef::Float64(value)) => values.push(value),
            (ColumnValues::String(values), ScalarRef::String(value)) => {
                values.push(value.to_owned());
            }
            (ColumnValues::Bytes(values), ScalarRef::Bytes(value)) => values.push(value.to_vec()),
            (ColumnValues::Timestamp(values), ScalarRef::Timestamp(value)) => values.push(value),
            _ => return Err(self.other(FeatureType::Scalar(value.scalar_type()))),
        }
        Ok(())
    }

    /// Adds a list.
    ///
    /// # Errors
    /// Those of the items, and [`ColumnError`] when the column is not of such lists; then the column is not to be used
    /// further.
    pub fn push_list<'a, E: From<ColumnError>>(
        &mut self,
        items: impl Iterator<Item = Result<Option<ScalarRef<'a>>, E>>,
    ) -> Result<(), E> {
        let found = self.feature_type();
        let ColumnValues::List { lengths, elements } = &mut self.values else {
            return Err(ColumnError::NotLists(found).into());
        };
        let before = elements.len();
        for item in items {
            match item? {
                Some(scalar) => elements.push_scalar(scalar)?,
                None => elements.push_null(),
            }
        }
        let length = elements.len() - before;
        lengths.push(u32::try_from(length).map_err(|_| ColumnError::TooLong(length))?);
        Ok(())
    }

    fn other(&self, found: FeatureType) -> ColumnError {
        ColumnError::Type {
            wanted: self.feature_type(),
            found,
        }
    }
}

impl ColumnValues {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Float32(values) => values.len(),
            Self::Float64(values) => values.len(),
            Self::String(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Timestamp(values) => values.len(),
            Self::List { lengths, .. } => lengths.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Floats are equal when their bits are.
impl PartialEq for ColumnValues {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int32(a), Self::Int32(b)) => a == b,
            (Self::Int64(a), Self::Int64(b)) => a == b,
            (Self::Float32(a), Self::Float32(b)) => a
                .iter()
                .map(|v| v.to_bits())
                .eq(b.iter().map(|v| v.to_bits())),
            (Self::Float64(a), Self::Float64(b)) => a
                .iter()
                .map(|v| v.to_bits())
                .eq(b.iter().map(|v| v.to_bits())),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (
                Self::List {
                    lengths: a,
                    elements: b,
                },
                Self::List {
                    lengths: c,
                    elements: d,
                },
            ) => a == c && b == d,
            _ => false,
        }
    }
}

impl Eq for ColumnValues {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_there() {
        let list = FeatureType::List(ScalarType::String);
        let text = |text: &str| Some(Value::String(text.into()));
        for (feature_type, values) in [
            (
                FeatureType::Scalar(ScalarType::Float64),
                vec![
                    Some(Value::Float64(f64::NAN)),
                    None,
                    Some(Value::Float64(-0.0)),
                ],
            ),
            (
                list,
                vec![
                    None,
                    Some(Value::List(ScalarType::String, vec![text("a"), None])),
                    Some(Value::List(ScalarType::String, vec![])),
                    Some(Value::List(ScalarType::String, vec![text("b")])),
                ],
            ),
        ] {
            let column = Column::of(feature_type, values.clone()).unwrap();
            assert_eq!(column.feature_type(), feature_type);
            assert_eq!(column.iter().collect::<Vec<_>>(), values);
            assert_eq!(column.get(values.len()), None);
            let (parts, nulls) = column.clone().into_parts();
            assert_eq!(Column::new(parts, nulls), Ok(column));
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let mut column = Column::with_capacity(FeatureType::List(ScalarType::Int32), 0);
        for wrong in [
            Value::Int32(1),
            Value::List(ScalarType::Int64, vec![]),
            Value::List(
                ScalarType::Int32,
                vec![Some(Value::Int32(1)), Some(Value::Int64(1))],
            ),
        ] {
            assert!(matches!(
                column.push(Some(&wrong)),
                Err(ColumnError::Type { .. })
            ));
        }
    }
}
