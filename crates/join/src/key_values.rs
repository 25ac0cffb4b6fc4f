//! The values of each join key that entity rows ask about, to tell which parts of a table can have them.

use vintner_core::{EntityKey, KeySchema, KeyValue};

use crate::error::Result;

/// The distinct values of one join key, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyValues {
    /// Integers of either width.
    Integers(Vec<i64>),
    /// Text or bytes, in the order of bytes.
    Bytes(Vec<Box<[u8]>>),
    /// Of a type whose values part nothing.
    Any,
}

impl KeyValues {
    /// Whether one of the integers is within two bounds, both inclusive. A bound that is not known excludes nothing.
    pub fn integer_within(&self, least: Option<i64>, greatest: Option<i64>) -> bool {
        match self {
            Self::Integers(values) => within(values, least.as_ref(), greatest.as_ref()),
            Self::Bytes(_) | Self::Any => true,
        }
    }

    /// Whether one of the texts is within two bounds, both inclusive. A bound that is not known excludes nothing.
    pub fn bytes_within(&self, least: Option<&[u8]>, greatest: Option<&[u8]>) -> bool {
        match self {
            Self::Bytes(values) => {
                let from = least.map_or(0, |least| values.partition_point(|v| **v < *least));
                values
                    .get(from)
                    .is_some_and(|v| greatest.is_none_or(|greatest| **v <= *greatest))
            }
            Self::Integers(_) | Self::Any => true,
        }
    }

    /// Those of a single integer join key.
    pub(crate) fn of_integers(keys: impl Iterator<Item = i64>) -> Self {
        let mut values: Vec<i64> = keys.collect();
        values.sort_unstable();
        Self::Integers(values)
    }

    /// Those of a single text join key.
    pub(crate) fn of_bytes<'a>(keys: impl Iterator<Item = &'a Box<[u8]>>) -> Self {
        let mut values: Vec<Box<[u8]>> = keys.cloned().collect();
        values.sort_unstable();
        Self::Bytes(values)
    }

    /// Those of each join key, from encoded keys.
    pub(crate) fn of_encoded<'a>(
        schema: &KeySchema,
        keys: impl Iterator<Item = &'a Box<[u8]>>,
    ) -> Result<Vec<Self>> {
        let mut columns: Vec<Vec<KeyValue>> = vec![Vec::new(); schema.len()];
        for key in keys {
            let values = EntityKey::from_bytes(key.clone())
                .decode(schema)
                .map_err(|err| arrow::error::ArrowError::ExternalError(Box::new(err)))?;
            for (column, value) in columns.iter_mut().zip(values) {
                column.push(value);
            }
        }
        Ok(columns.into_iter().map(Self::of_values).collect())
    }

    fn of_values(mut values: Vec<KeyValue>) -> Self {
        values.sort_unstable();
        values.dedup();
        let integer = |value: &KeyValue| match value {
            KeyValue::Int32(value) => Some(i64::from(*value)),
            KeyValue::Int64(value) => Some(*value),
            KeyValue::Bool(_) | KeyValue::String(_) | KeyValue::Bytes(_) => None,
        };
        let text = |value: &KeyValue| match value {
            KeyValue::String(value) => Some(value.as_bytes().into()),
            KeyValue::Bytes(value) => Some(value.as_slice().into()),
            KeyValue::Bool(_) | KeyValue::Int32(_) | KeyValue::Int64(_) => None,
        };
        if let Some(integers) = values.iter().map(integer).collect() {
            return Self::Integers(integers);
        }
        match values.iter().map(text).collect() {
            Some(texts) => Self::Bytes(texts),
            None => Self::Any,
        }
    }
}

fn within<T: Ord>(values: &[T], least: Option<&T>, greatest: Option<&T>) -> bool {
    let from = least.map_or(0, |least| values.partition_point(|v| v < least));
    values
        .get(from)
        .is_some_and(|v| greatest.is_none_or(|greatest| v <= greatest))
}

#[cfg(test)]
mod tests {
    use vintner_core::JoinKey;

    use super::*;

    #[test]
    fn both_bounds_are_inclusive_and_an_unknown_one_excludes_nothing() {
        let values = KeyValues::of_integers([30, 10, 20].into_iter());
        for (least, greatest, want) in [
            (Some(10), Some(10), true),
            (Some(11), Some(19), false),
            (Some(11), Some(20), true),
            (Some(30), Some(99), true),
            (Some(31), Some(99), false),
            (Some(i64::MIN), Some(9), false),
            (None, Some(9), false),
            (None, Some(10), true),
            (Some(30), None, true),
            (Some(31), None, false),
            (None, None, true),
        ] {
            assert_eq!(
                values.integer_within(least, greatest),
                want,
                "{least:?} to {greatest:?}"
            );
        }
        let keys: [Box<[u8]>; 2] = [b"b"[..].into(), b"d"[..].into()];
        let values = KeyValues::of_bytes(keys.iter());
        for (least, greatest, want) in [
            (Some("a"), Some("az"), false),
            (Some("a"), Some("b"), true),
            (Some("b"), Some("c"), true),
            (Some("ba"), Some("c"), false),
            (Some("e"), None, false),
            (None, Some("a"), false),
        ] {
            let bytes = |text: Option<&'static str>| text.map(str::as_bytes);
            let found = values.bytes_within(bytes(least), bytes(greatest));
            assert_eq!(found, want, "{least:?} to {greatest:?}");
        }
        // Nobody asks about anything.
        assert!(!KeyValues::of_integers(std::iter::empty()).integer_within(None, None));
    }

    #[test]
    fn composite_keys_have_the_values_of_each_join_key() {
        let key = |name: &str, key_type: &str| JoinKey {
            name: name.parse().unwrap(),
            key_type: key_type.parse().unwrap(),
        };
        let schema = KeySchema::new(vec![
            key("a", "int32"),
            key("b", "string"),
            key("c", "bool"),
        ])
        .unwrap();
        let keys = [(2, "x", true), (1, "y", false), (2, "y", true)].map(|(a, b, c)| {
            let values = [
                KeyValue::Int32(a),
                KeyValue::String(b.into()),
                KeyValue::Bool(c),
            ];
            let key = EntityKey::encode(&schema, &values).unwrap();
            Box::<[u8]>::from(key.as_bytes())
        });
        let found = KeyValues::of_encoded(&schema, keys.iter()).unwrap();
        let want = [
            KeyValues::Integers(vec![1, 2]),
            KeyValues::Bytes(vec![b"x"[..].into(), b"y"[..].into()]),
            KeyValues::Any,
        ];
        assert_eq!(found, want);
    }
}
