//! Entity keys: the values of a view's join keys for one entity, and their one canonical byte encoding.
//!
//! The encoding is the online key, the join's grouping key and the unit of comparison, so it must never change for
//! a given version byte. Layout:
//!
//! ```text
//! 0x01                                  version of the encoding
//! per join key, in the order of their names:
//!   bool    0x01, 0x00 or 0x01
//!   int32   0x02, 4 bytes big-endian, sign bit flipped
//!   int64   0x03, 8 bytes big-endian, sign bit flipped
//!   string  0x04, UTF-8, each 0x00 written as 0x00 0xFF, then 0x00 0x00
//!   bytes   0x05, as string
//! ```
//!
//! Two keys are equal exactly when their bytes are, no key's bytes are the beginning of another's of the same
//! schema, and byte order is the order of the values.

use std::{borrow::Borrow, fmt, str::FromStr};

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int32Array, Int64Array, StringArray, cast::AsArray,
};
use arrow_schema::DataType;
use smallvec::SmallVec;

use crate::{
    column::{Column, ColumnValues},
    feature_type::{FeatureType, ScalarType, UnknownType},
    name::ColumnName,
    schema::KeySchema,
};

const VERSION: u8 = 1;
/// In the place of a value's tag: there is none. No key has it.
const NULL: u8 = 0;

/// A type that a join key can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// True or false.
    Bool,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// UTF-8.
    String,
    /// Any bytes.
    Bytes,
}

/// The value of one join key; never null.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyValue {
    /// True or false.
    Bool(bool),
    /// Signed, 32 bits.
    Int32(i32),
    /// Signed, 64 bits.
    Int64(i64),
    /// UTF-8.
    String(String),
    /// Any bytes.
    Bytes(Vec<u8>),
}

/// One entity's join key values, encoded as the module describes. `Ord` is the order of the values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey(SmallVec<[u8; INLINE]>);

/// A key of so many bytes takes no place of its own on the heap: two integers, or a text of 20 bytes.
const INLINE: usize = 24;

/// What is wrong with a key, its text or its columns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A type that join keys do not have.
    #[error("`{0}` is not a join key type; the types are bool, int32, int64, string and bytes")]
    Type(String),
    /// A text that is no value of the type.
    #[error("`{text}` is not a value of the {key_type} join key `{name}`")]
    Value {
        /// The join key.
        name: ColumnName,
        /// Its type.
        key_type: KeyType,
        /// The text.
        text: String,
    },
    /// Bytes that are no encoded key of the schema.
    #[error("these {length} bytes are not an entity key: {reason} at byte {at}")]
    Corrupt {
        /// How many bytes there are.
        length: usize,
        /// Where decoding stopped.
        at: usize,
        /// What was found there.
        reason: &'static str,
    },
    /// A column that has another type than its join key.
    #[error("the column of the {key_type} join key `{name}` has the type {found}")]
    Column {
        /// The join key.
        name: ColumnName,
        /// Its type.
        key_type: KeyType,
        /// The column's.
        found: DataType,
    },
    /// Another number of columns or values than join keys.
    #[error("{found} values for {wanted} join keys")]
    Count {
        /// How many join keys there are.
        wanted: usize,
        /// How many values came.
        found: usize,
    },
}

impl KeyType {
    /// Every key type.
    pub const ALL: [Self; 5] = [
        Self::Bool,
        Self::Int32,
        Self::Int64,
        Self::String,
        Self::Bytes,
    ];

    /// The same type among the feature types.
    pub const fn scalar(self) -> ScalarType {
        match self {
            Self::Bool => ScalarType::Bool,
            Self::Int32 => ScalarType::Int32,
            Self::Int64 => ScalarType::Int64,
            Self::String => ScalarType::String,
            Self::Bytes => ScalarType::Bytes,
        }
    }

    /// The Arrow type that columns of this join key have everywhere in Vintner.
    pub fn arrow(self) -> DataType {
        self.scalar().arrow()
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Bool => 1,
            Self::Int32 => 2,
            Self::Int64 => 3,
            Self::String => 4,
            Self::Bytes => 5,
        }
    }
}

impl TryFrom<ScalarType> for KeyType {
    type Error = KeyError;

    fn try_from(scalar: ScalarType) -> Result<Self, KeyError> {
        Self::ALL
            .into_iter()
            .find(|key_type| key_type.scalar() == scalar)
            .ok_or_else(|| KeyError::Type(scalar.to_string()))
    }
}

impl FromStr for KeyType {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let scalar: ScalarType = text
            .parse()
            .map_err(|UnknownType(text)| KeyError::Type(text))?;
        scalar.try_into()
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scalar().fmt(f)
    }
}

impl KeyValue {
    /// The value's type.
    pub const fn key_type(&self) -> KeyType {
        match self {
            Self::Bool(_) => KeyType::Bool,
            Self::Int32(_) => KeyType::Int32,
            Self::Int64(_) => KeyType::Int64,
            Self::String(_) => KeyType::String,
            Self::Bytes(_) => KeyType::Bytes,
        }
    }

    /// Reads a value from text, as the command line gives it. Bytes are the text's own bytes.
    ///
    /// # Errors
    /// [`KeyError::Value`] when the text is no such value.
    pub fn parse(text: &str, name: &ColumnName, key_type: KeyType) -> Result<Self, KeyError> {
        let wrong = || KeyError::Value {
            name: name.clone(),
            key_type,
            text: text.to_owned(),
        };
        Ok(match key_type {
            KeyType::Bool => Self::Bool(text.parse().map_err(|_| wrong())?),
            KeyType::Int32 => Self::Int32(text.parse().map_err(|_| wrong())?),
            KeyType::Int64 => Self::Int64(text.parse().map_err(|_| wrong())?),
            KeyType::String => Self::String(text.to_owned()),
            KeyType::Bytes => Self::Bytes(text.as_bytes().to_vec()),
        })
    }
}

/// For people: text as it is, bytes in hexadecimal after `0x`.
impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::Int32(v) => v.fmt(f),
            Self::Int64(v) => v.fmt(f),
            Self::String(v) => f.pad(v),
            Self::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl EntityKey {
    /// Encodes the values of a schema's join keys, in the schema's order.
    ///
    /// # Errors
    /// [`KeyError`] when the number or the types of the values are not the schema's.
    pub fn encode(schema: &KeySchema, values: &[KeyValue]) -> Result<Self, KeyError> {
        if values.len() != schema.len() {
            return Err(KeyError::Count {
                wanted: schema.len(),
                found: values.len(),
            });
        }
        let mut bytes = vec![VERSION];
        for (join_key, value) in schema.join_keys().iter().zip(values) {
            if value.key_type() != join_key.key_type {
                return Err(KeyError::Column {
                    name: join_key.name.clone(),
                    key_type: join_key.key_type,
                    found: value.key_type().arrow(),
                });
            }
            match value {
                KeyValue::Bool(v) => put_bool(&mut bytes, *v),
                KeyValue::Int32(v) => put_int32(&mut bytes, *v),
                KeyValue::Int64(v) => put_int64(&mut bytes, *v),
                KeyValue::String(v) => put_text(&mut bytes, KeyType::String, v.as_bytes()),
                KeyValue::Bytes(v) => put_text(&mut bytes, KeyType::Bytes, v),
            }
        }
        Ok(Self::from_bytes(bytes))
    }

    /// The values in the schema's order.
    ///
    /// # Errors
    /// [`KeyError::Corrupt`] when the bytes are no key of the schema.
    pub fn decode(&self, schema: &KeySchema) -> Result<Vec<KeyValue>, KeyError> {
        let mut reader = Reader {
            bytes: &self.0,
            at: 0,
        };
        if reader.take::<1>()? != [VERSION] {
            return Err(reader.corrupt("an unknown version"));
        }
        let mut values = Vec::with_capacity(schema.len());
        for join_key in schema.join_keys() {
            if reader.take::<1>()? != [join_key.key_type.tag()] {
                return Err(reader.corrupt("a value of another type"));
            }
            values.push(match join_key.key_type {
                KeyType::Bool => KeyValue::Bool(match reader.take::<1>()? {
                    [0] => false,
                    [1] => true,
                    _ => return Err(reader.corrupt("a bool that is neither 0 nor 1")),
                }),
                KeyType::Int32 => KeyValue::Int32(i32::from_be_bytes(reader.take()?) ^ i32::MIN),
                KeyType::Int64 => KeyValue::Int64(i64::from_be_bytes(reader.take()?) ^ i64::MIN),
                KeyType::Bytes => KeyValue::Bytes(reader.text()?),
                KeyType::String => KeyValue::String(
                    String::from_utf8(reader.text()?)
                        .map_err(|_| reader.corrupt("text that is not UTF-8"))?,
                ),
            });
        }
        if reader.at != self.0.len() {
            return Err(reader.corrupt("more bytes than the join keys have"));
        }
        Ok(values)
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key with these bytes, unchecked until it is decoded: for keys read back from a store.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self(SmallVec::from_slice(bytes.as_ref()))
    }
}

/// Keys are found by their bytes.
impl Borrow<[u8]> for EntityKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EntityKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The key columns of one record batch, checked once, to encode any of its rows.
#[derive(Debug)]
pub struct KeyColumns<'a>(Vec<KeyColumn<'a>>);

#[derive(Debug)]
enum KeyColumn<'a> {
    Bool(&'a BooleanArray),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    String(&'a StringArray),
    Bytes(&'a BinaryArray),
    Values(&'a Column),
}

impl<'a> KeyColumns<'a> {
    /// The columns of a schema's join keys, in the schema's order, each of exactly [`KeyType::arrow`].
    ///
    /// # Errors
    /// [`KeyError`] when the number or the types of the columns are not the schema's.
    pub fn new(schema: &KeySchema, columns: &[&'a ArrayRef]) -> Result<Self, KeyError> {
        if columns.len() != schema.len() {
            return Err(KeyError::Count {
                wanted: schema.len(),
                found: columns.len(),
            });
        }
        let typed = schema
            .join_keys()
            .iter()
            .zip(columns)
            .map(|(join_key, column)| {
                match join_key.key_type {
                    KeyType::Bool => column.as_boolean_opt().map(KeyColumn::Bool),
                    KeyType::Int32 => column.as_primitive_opt().map(KeyColumn::Int32),
                    KeyType::Int64 => column.as_primitive_opt().map(KeyColumn::Int64),
                    KeyType::String => column.as_string_opt().map(KeyColumn::String),
                    KeyType::Bytes => column.as_binary_opt().map(KeyColumn::Bytes),
                }
                .ok_or_else(|| KeyError::Column {
                    name: join_key.name.clone(),
                    key_type: join_key.key_type,
                    found: column.data_type().clone(),
                })
            });
        typed.collect::<Result<_, _>>().map(Self)
    }

    /// The columns of a schema's join keys outside Arrow, in the schema's order, each of the join key's type.
    ///
    /// # Errors
    /// [`KeyError`] when the number or the types of the columns are not the schema's.
    pub fn of_values(schema: &KeySchema, columns: &[&'a Column]) -> Result<Self, KeyError> {
        if columns.len() != schema.len() {
            return Err(KeyError::Count {
                wanted: schema.len(),
                found: columns.len(),
            });
        }
        let typed = schema.join_keys().iter().zip(columns);
        let typed = typed.map(|(join_key, column)| {
            let found = column.feature_type();
            if found != FeatureType::Scalar(join_key.key_type.scalar()) {
                return Err(KeyError::Column {
                    name: join_key.name.clone(),
                    key_type: join_key.key_type,
                    found: found.arrow(),
                });
            }
            Ok(KeyColumn::Values(column))
        });
        typed.collect::<Result<_, _>>().map(Self)
    }

    /// Replaces `bytes` with the key of a row. False, and `bytes` is of no use, when one of its values is null.
    pub fn encode_row(&self, row: usize, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        bytes.push(VERSION);
        self.0.iter().all(|column| column.put(row, bytes))
    }

    /// Replaces `bytes` with what stands for a row whose values may be null: as its key, with 0x00 in place of a null
    /// value. No key, and never looked up: it tells rows with equal values from others.
    pub fn encode_nullable_row(&self, row: usize, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.push(VERSION);
        for column in &self.0 {
            if !column.put(row, bytes) {
                bytes.push(NULL);
            }
        }
    }

    /// The key of a row; none when one of its values is null.
    pub fn key(&self, row: usize) -> Option<EntityKey> {
        let mut bytes = Vec::new();
        self.encode_row(row, &mut bytes)
            .then(|| EntityKey::from_bytes(bytes))
    }
}

impl KeyColumn<'_> {
    /// Puts the value of a row; false when it is null.
    fn put(&self, row: usize, bytes: &mut Vec<u8>) -> bool {
        let put = match self {
            Self::Bool(a) => a.is_valid(row).then(|| put_bool(bytes, a.value(row))),
            Self::Int32(a) => a.is_valid(row).then(|| put_int32(bytes, a.value(row))),
            Self::Int64(a) => a.is_valid(row).then(|| put_int64(bytes, a.value(row))),
            Self::String(a) => a
                .is_valid(row)
                .then(|| put_text(bytes, KeyType::String, a.value(row).as_bytes())),
            Self::Bytes(a) => a
                .is_valid(row)
                .then(|| put_text(bytes, KeyType::Bytes, a.value(row))),
            Self::Values(column) => put_value(column, row, bytes),
        };
        put.is_some()
    }
}

/// Puts the value of a row; none when it is null, or no key's.
fn put_value(column: &Column, row: usize, bytes: &mut Vec<u8>) -> Option<()> {
    if column.is_null(row) {
        return None;
    }
    match column.values() {
        ColumnValues::Bool(values) => values.get(row).map(|&v| put_bool(bytes, v)),
        ColumnValues::Int32(values) => values.get(row).map(|&v| put_int32(bytes, v)),
        ColumnValues::Int64(values) => values.get(row).map(|&v| put_int64(bytes, v)),
        ColumnValues::String(values) => values
            .get(row)
            .map(|v| put_text(bytes, KeyType::String, v.as_bytes())),
        ColumnValues::Bytes(values) => values.get(row).map(|v| put_text(bytes, KeyType::Bytes, v)),
        ColumnValues::Float32(_)
        | ColumnValues::Float64(_)
        | ColumnValues::Timestamp(_)
        | ColumnValues::List { .. } => None,
    }
}

fn put_bool(bytes: &mut Vec<u8>, value: bool) {
    bytes.extend([KeyType::Bool.tag(), u8::from(value)]);
}

fn put_int32(bytes: &mut Vec<u8>, value: i32) {
    bytes.push(KeyType::Int32.tag());
    bytes.extend((value ^ i32::MIN).to_be_bytes());
}

fn put_int64(bytes: &mut Vec<u8>, value: i64) {
    bytes.push(KeyType::Int64.tag());
    bytes.extend((value ^ i64::MIN).to_be_bytes());
}

fn put_text(bytes: &mut Vec<u8>, key_type: KeyType, text: &[u8]) {
    bytes.push(key_type.tag());
    // Texts seldom have a zero byte, and one without is copied whole.
    for (at, part) in text.split(|&byte| byte == 0).enumerate() {
        if at > 0 {
            bytes.extend([0, 0xFF]);
        }
        bytes.extend_from_slice(part);
    }
    bytes.extend([0, 0]);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], KeyError> {
        let taken = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>());
        let taken = *taken.ok_or_else(|| self.corrupt("the end"))?;
        self.at += N;
        Ok(taken)
    }

    fn text(&mut self) -> Result<Vec<u8>, KeyError> {
        let mut text = Vec::new();
        loop {
            match self.take::<1>()? {
                [0] => match self.take::<1>()? {
                    [0] => return Ok(text),
                    [0xFF] => text.push(0),
                    _ => {
                        return Err(self.corrupt("a zero byte that is neither escaped nor the end"));
                    }
                },
                [byte] => text.push(byte),
            }
        }
    }

    fn corrupt(&self, reason: &'static str) -> KeyError {
        KeyError::Corrupt {
            length: self.bytes.len(),
            at: self.at,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::schema::JoinKey;

    fn schema(types: &[KeyType]) -> KeySchema {
        let join_keys = types.iter().enumerate().map(|(i, &key_type)| JoinKey {
            name: format!("k{i}").parse().unwrap(),
            key_type,
        });
        KeySchema::new(join_keys.collect()).unwrap()
    }

    fn hex(key: &EntityKey) -> String {
        key.as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    #[test]
    fn golden_vectors() {
        use KeyValue as V;
        for (values, want) in [
            (vec![V::Bool(true)], "010101"),
            (vec![V::Int32(1)], "010280000001"),
            (vec![V::Int32(-1)], "01027fffffff"),
            (vec![V::Int64(1)], "01038000000000000001"),
            (vec![V::Int64(i64::MIN)], "01030000000000000000"),
            (vec![V::String("JFK".into())], "01044a464b0000"),
            (vec![V::String(String::new())], "01040000"),
            (vec![V::String("é".into())], "0104c3a90000"),
            (vec![V::Bytes(vec![0, 0xFF])], "010500ffff0000"),
            (
                vec![V::String("JFK".into()), V::String("LAX".into())],
                "01044a464b0000044c41580000",
            ),
            (
                vec![V::Int64(7), V::Bool(false), V::Bytes(vec![])],
                "0103800000000000000701000500 00",
            ),
        ] {
            let types: Vec<_> = values.iter().map(V::key_type).collect();
            let key = EntityKey::encode(&schema(&types), &values).unwrap();
            assert_eq!(hex(&key), want.replace(' ', ""), "{values:?}");
        }
    }

    #[test]
    fn values_that_are_not_the_schemas_are_refused() {
        let schema = schema(&[KeyType::Int64]);
        assert!(EntityKey::encode(&schema, &[]).is_err());
        assert!(EntityKey::encode(&schema, &[KeyValue::Int32(1)]).is_err());
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        assert!(KeyColumns::new(&schema, &[&column]).is_err());
    }

    #[test]
    fn a_row_with_a_null_has_no_key() {
        let schema = schema(&[KeyType::String, KeyType::Int32]);
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None]));
        let columns = KeyColumns::new(&schema, &[&names, &numbers]).unwrap();
        let want = EntityKey::encode(&schema, &[KeyValue::String("a".into()), KeyValue::Int32(1)])
            .unwrap();
        assert_eq!(
            [columns.key(0), columns.key(1), columns.key(2)],
            [Some(want), None, None]
        );
    }

    #[test]
    fn a_null_is_told_from_every_value() {
        let schema = schema(&[KeyType::String, KeyType::Int32]);
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(""), None]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(0), None, None]));
        let columns = KeyColumns::new(&schema, &[&names, &numbers]).unwrap();
        let mut bytes = Vec::new();
        for (row, want) in [
            "010461000002800000 01",
            "01000280000000",
            "0104000000",
            "010000",
        ]
        .into_iter()
        .enumerate()
        {
            columns.encode_nullable_row(row, &mut bytes);
            let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, want.replace(' ', ""), "row {row}");
        }
    }

    fn value(key_type: KeyType) -> BoxedStrategy<KeyValue> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(0xFE), Just(0xFF), Just(b'a')];
        match key_type {
            KeyType::Bool => any::<bool>().prop_map(KeyValue::Bool).boxed(),
            KeyType::Int32 => prop_oneof![Just(i32::MIN), Just(-1), Just(0), Just(i32::MAX)]
                .prop_map(KeyValue::Int32)
                .boxed(),
            KeyType::Int64 => prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(i64::MAX)]
                .prop_map(KeyValue::Int64)
                .boxed(),
            KeyType::String => "[\u{0}\u{1}aé]{0,3}".prop_map(KeyValue::String).boxed(),
            KeyType::Bytes => prop::collection::vec(byte, 0..4)
                .prop_map(KeyValue::Bytes)
                .boxed(),
        }
    }

    fn two_keys() -> impl Strategy<Value = (Vec<KeyType>, Vec<KeyValue>, Vec<KeyValue>)> {
        prop::collection::vec(prop::sample::select(KeyType::ALL.to_vec()), 1..4).prop_flat_map(
            |types| {
                let one = types.iter().map(|&t| value(t)).collect::<Vec<_>>();
                (Just(types), one.clone(), one)
            },
        )
    }

    proptest! {
        #[test]
        fn bytes_order_and_equality_are_those_of_the_values((types, a, b) in two_keys()) {
            let schema = schema(&types);
            let (x, y) = (EntityKey::encode(&schema, &a).unwrap(), EntityKey::encode(&schema, &b).unwrap());
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert!(x == y || !y.as_bytes().starts_with(x.as_bytes()));
            prop_assert_eq!(x.decode(&schema).unwrap(), a);
        }

        #[test]
        fn no_bytes_make_decoding_panic((types, a, _) in two_keys(), cut in 0usize..12, flip in 0usize..12, with in any::<u8>()) {
            let schema = schema(&types);
            let mut bytes = EntityKey::encode(&schema, &a).unwrap().as_bytes().to_vec();
            let length = bytes.len();
            bytes[flip % length] ^= with;
            bytes.truncate(length - cut.min(length));
            if let Ok(values) = EntityKey::from_bytes(bytes.clone()).decode(&schema) {
                let again = EntityKey::encode(&schema, &values).unwrap();
                prop_assert_eq!(again.as_bytes(), &bytes[..]);
            }
        }
    }
}
