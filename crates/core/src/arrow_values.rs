//! Between [`Value`]s and Arrow columns of exactly [`FeatureType::arrow`].
//!
//! Not here: casts from other Arrow types; the batch engine makes them at the source's edge.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
    builder::{BinaryBuilder, BooleanBuilder, ListBuilder, PrimitiveBuilder, StringBuilder},
    cast::AsArray,
    types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::Field;

use crate::{
    entity_key::KeyValue,
    feature_type::{FeatureType, ScalarType},
    time::Timestamp,
    value::Value,
};

/// The value in a row of a column; none for null, and for a column that has another type than asked for.
pub fn value_at(column: &dyn Array, feature_type: FeatureType, row: usize) -> Option<Value> {
    if row >= column.len() || column.is_null(row) {
        return None;
    }
    match feature_type {
        FeatureType::Scalar(scalar) => Some(match scalar {
            ScalarType::Bool => Value::Bool(column.as_boolean_opt()?.value(row)),
            ScalarType::Int32 => Value::Int32(column.as_primitive_opt::<Int32Type>()?.value(row)),
            ScalarType::Int64 => Value::Int64(column.as_primitive_opt::<Int64Type>()?.value(row)),
            ScalarType::Float32 => {
                Value::Float32(column.as_primitive_opt::<Float32Type>()?.value(row))
            }
            ScalarType::Float64 => {
                Value::Float64(column.as_primitive_opt::<Float64Type>()?.value(row))
            }
            ScalarType::String => {
                Value::String(column.as_string_opt::<i32>()?.value(row).to_owned())
            }
            ScalarType::Bytes => Value::Bytes(column.as_binary_opt::<i32>()?.value(row).to_vec()),
            ScalarType::Timestamp => Value::Timestamp(Timestamp::from_micros(
                column
                    .as_primitive_opt::<TimestampMicrosecondType>()?
                    .value(row),
            )),
        }),
        FeatureType::List(element) => {
            let items = column.as_list_opt::<i32>()?.value(row);
            let item_type = FeatureType::Scalar(element);
            Some(Value::List(
                element,
                (0..items.len())
                    .map(|i| value_at(&items, item_type, i))
                    .collect(),
            ))
        }
    }
}

/// A column of values of one type. A value of another type becomes null; callers give none.
pub fn column<'a>(
    feature_type: FeatureType,
    values: impl Iterator<Item = Option<&'a Value>>,
) -> ArrayRef {
    macro_rules! collect {
        ($array:ty, $variant:ident, $read:expr) => {
            Arc::new(
                values
                    .map(|value| match value {
                        Some(Value::$variant(v)) => Some($read(v)),
                        _ => None,
                    })
                    .collect::<$array>(),
            )
        };
    }
    match feature_type {
        FeatureType::Scalar(scalar) => match scalar {
            ScalarType::Bool => collect!(BooleanArray, Bool, |v: &bool| *v),
            ScalarType::Int32 => collect!(Int32Array, Int32, |v: &i32| *v),
            ScalarType::Int64 => collect!(Int64Array, Int64, |v: &i64| *v),
            ScalarType::Float32 => collect!(Float32Array, Float32, |v: &f32| *v),
            ScalarType::Float64 => collect!(Float64Array, Float64, |v: &f64| *v),
            ScalarType::String => collect!(StringArray, String, |v: &'a String| v.as_str()),
            ScalarType::Bytes => collect!(BinaryArray, Bytes, |v: &'a Vec<u8>| v.as_slice()),
            ScalarType::Timestamp => {
                let micros: TimestampMicrosecondArray = values
                    .map(|value| match value {
                        Some(Value::Timestamp(v)) => Some(v.micros()),
                        _ => None,
                    })
                    .collect();
                Arc::new(micros.with_timezone("UTC"))
            }
        },
        FeatureType::List(element) => list_column(element, values),
    }
}

fn list_column<'a>(
    element: ScalarType,
    lists: impl Iterator<Item = Option<&'a Value>>,
) -> ArrayRef {
    let field = Field::new("item", element.arrow(), true);
    macro_rules! build {
        ($builder:expr, $variant:ident, $read:expr) => {{
            let mut builder = ListBuilder::new($builder).with_field(field);
            for list in lists {
                let Some(Value::List(_, items)) = list else {
                    builder.append_null();
                    continue;
                };
                for item in items {
                    match item {
                        Some(Value::$variant(v)) => builder.values().append_value($read(v)),
                        _ => builder.values().append_null(),
                    }
                }
                builder.append(true);
            }
            Arc::new(builder.finish())
        }};
    }
    match element {
        ScalarType::Bool => build!(BooleanBuilder::new(), Bool, |v: &bool| *v),
        ScalarType::Int32 => build!(PrimitiveBuilder::<Int32Type>::new(), Int32, |v: &i32| *v),
        ScalarType::Int64 => build!(PrimitiveBuilder::<Int64Type>::new(), Int64, |v: &i64| *v),
        ScalarType::Float32 => build!(
            PrimitiveBuilder::<Float32Type>::new(),
            Float32,
            |v: &f32| *v
        ),
        ScalarType::Float64 => build!(
            PrimitiveBuilder::<Float64Type>::new(),
            Float64,
            |v: &f64| *v
        ),
        ScalarType::String => build!(StringBuilder::new(), String, |v: &'a String| v.as_str()),
        ScalarType::Bytes => build!(BinaryBuilder::new(), Bytes, |v: &'a Vec<u8>| v.as_slice()),
        ScalarType::Timestamp => build!(
            PrimitiveBuilder::<TimestampMicrosecondType>::new().with_timezone("UTC"),
            Timestamp,
            |v: &Timestamp| v.micros()
        ),
    }
}

impl From<KeyValue> for Value {
    fn from(value: KeyValue) -> Self {
        match value {
            KeyValue::Bool(v) => Self::Bool(v),
            KeyValue::Int32(v) => Self::Int32(v),
            KeyValue::Int64(v) => Self::Int64(v),
            KeyValue::String(v) => Self::String(v),
            KeyValue::Bytes(v) => Self::Bytes(v),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_goes_into_a_column_and_back() {
        use Value as V;
        let scalars = [
            V::Bool(true),
            V::Int32(-1),
            V::Int64(i64::MIN),
            V::Float32(f32::NAN),
            V::Float64(-0.0),
            V::String("é".into()),
            V::Bytes(vec![0, 255]),
            V::Timestamp(Timestamp::from_micros(-1)),
        ];
        let lists = scalars.iter().map(|value| {
            let FeatureType::Scalar(element) = value.feature_type() else {
                unreachable!("a scalar")
            };
            V::List(element, vec![Some(value.clone()), None])
        });
        for value in scalars.iter().cloned().chain(lists) {
            let feature_type = value.feature_type();
            let built = column(feature_type, [Some(&value), None].into_iter());
            assert_eq!(*built.data_type(), feature_type.arrow());
            assert_eq!(value_at(&built, feature_type, 0), Some(value));
            assert_eq!(value_at(&built, feature_type, 1), None);
        }
    }

    #[test]
    fn an_empty_list_is_not_a_null() {
        let empty = Value::List(ScalarType::Int32, vec![]);
        let built = column(empty.feature_type(), [Some(&empty), None].into_iter());
        assert_eq!(value_at(&built, empty.feature_type(), 0), Some(empty));
    }
}
