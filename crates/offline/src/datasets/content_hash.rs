//! A hash of rows that depends on the rows alone: names, types and values of the columns, in order, whatever the batches
//! they come in and however Arrow lays them out in memory.
//!
//! Each column has two BLAKE3 streams. `presence` takes a byte per row: 1, or 0 for null. `values` takes the values that are
//! not null: fixed-width ones as little-endian bytes (floats by their bits), booleans as a byte, text and bytes with their
//! length before them (8 bytes, little endian). A list gives its length to `values`, and its elements to a column of their
//! own; a struct has a column for each field. A dictionary is hashed as what it stands for. The hash of the rows is BLAKE3
//! over the number of rows, then per column its name, its type and its streams' hashes.

use std::{fmt, str::FromStr};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, make_array},
    compute::{cast, filter},
    datatypes::{DataType, Field, FieldRef, Schema},
    error::ArrowError,
};
use blake3::Hasher;

/// Tells this way of hashing from any later one.
const FORMAT: &[u8] = b"vintner rows 1";

/// A hash of rows. Written `blake3:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash(blake3::Hash);

/// A text that is no [`ContentHash`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no hash of rows, which is `blake3:` and 64 hexadecimal digits")]
pub struct NotAHash(String);

/// A column whose values have no canonical form here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a dataset with the column `{column}` of type {found} cannot be saved; cast it to a plain type"
)]
pub struct UnsupportedColumn {
    /// The column.
    pub column: String,
    /// Its type.
    pub found: DataType,
}

/// Hashes rows as they come.
#[derive(Debug)]
pub struct RowsHasher {
    columns: Vec<(String, ColumnHasher)>,
    rows: u64,
}

#[derive(Debug)]
struct ColumnHasher {
    type_word: String,
    presence: Hasher,
    values: Hasher,
    children: Vec<ColumnHasher>,
}

impl RowsHasher {
    /// Begins to hash rows with these columns.
    ///
    /// # Errors
    /// [`UnsupportedColumn`] for unions and the like.
    pub fn new(schema: &Schema) -> Result<Self, UnsupportedColumn> {
        let column = |field: &FieldRef| {
            let hasher = ColumnHasher::new(field.data_type()).ok_or_else(|| UnsupportedColumn {
                column: field.name().clone(),
                found: field.data_type().clone(),
            })?;
            Ok((field.name().clone(), hasher))
        };
        Ok(Self {
            columns: schema
                .fields()
                .iter()
                .map(column)
                .collect::<Result<_, _>>()?,
            rows: 0,
        })
    }

    /// The rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the next rows, which have the columns that were told.
    ///
    /// # Errors
    /// When they have others.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        if batch.num_columns() != self.columns.len() {
            return Err(other_columns());
        }
        self.rows += batch.num_rows() as u64;
        for ((_, hasher), column) in self.columns.iter_mut().zip(batch.columns()) {
            hasher.update(column)?;
        }
        Ok(())
    }

    /// The hash of all rows.
    pub fn finish(&self) -> ContentHash {
        let mut whole = Hasher::new();
        let mut text = |bytes: &[u8]| {
            whole.update(&length(bytes.len()));
            whole.update(bytes);
        };
        text(FORMAT);
        text(&self.rows.to_le_bytes());
        for (name, column) in &self.columns {
            text(name.as_bytes());
            text(column.finish().as_bytes());
        }
        ContentHash(whole.finalize())
    }
}

impl ColumnHasher {
    fn new(data_type: &DataType) -> Option<Self> {
        let fields: Vec<&FieldRef> = match data_type {
            DataType::Dictionary(_, values) => return Self::new(values),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _) => vec![item],
            DataType::Struct(fields) => fields.iter().collect(),
            _ => vec![],
        };
        let children = fields.into_iter().map(|field| Self::new(field.data_type()));
        Some(Self {
            type_word: type_word(data_type)?,
            presence: Hasher::new(),
            values: Hasher::new(),
            children: children.collect::<Option<_>>()?,
        })
    }

    fn update(&mut self, column: &ArrayRef) -> Result<(), ArrowError> {
        if let DataType::Dictionary(_, values) = column.data_type() {
            return self.update(&cast(column, values)?);
        }
        let Some(nulls) = column
            .logical_nulls()
            .filter(|nulls| nulls.null_count() > 0)
        else {
            self.presence.update(&vec![1; column.len()]);
            return self.update_values(column);
        };
        let presence: Vec<u8> = nulls.iter().map(u8::from).collect();
        self.presence.update(&presence);
        let present = BooleanArray::new(nulls.into_inner(), None);
        self.update_values(&filter(column, &present)?)
    }

    /// Takes values of which none is null.
    fn update_values(&mut self, column: &ArrayRef) -> Result<(), ArrowError> {
        let mut bytes = Vec::new();
        match column.data_type() {
            DataType::Null => {}
            DataType::Boolean => {
                bytes.extend((0..column.len()).map(|row| u8::from(column.as_boolean().value(row))));
            }
            DataType::Utf8 => texts(&mut bytes, column.as_string::<i32>().iter()),
            DataType::LargeUtf8 => texts(&mut bytes, column.as_string::<i64>().iter()),
            DataType::Utf8View => texts(&mut bytes, column.as_string_view().iter()),
            DataType::Binary => texts(&mut bytes, column.as_binary::<i32>().iter()),
            DataType::LargeBinary => texts(&mut bytes, column.as_binary::<i64>().iter()),
            DataType::BinaryView => texts(&mut bytes, column.as_binary_view().iter()),
            DataType::FixedSizeBinary(_) => {
                texts(&mut bytes, column.as_fixed_size_binary().iter());
            }
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                list.offsets()
                    .lengths()
                    .for_each(|items| bytes.extend(length(items)));
                let items = list.iter().flatten();
                self.update_items(items)?;
            }
            DataType::LargeList(_) => {
                let list = column.as_list::<i64>();
                list.offsets()
                    .lengths()
                    .for_each(|items| bytes.extend(length(items)));
                self.update_items(list.iter().flatten())?;
            }
            DataType::FixedSizeList(..) => {
                self.update_items(column.as_fixed_size_list().iter().flatten())?;
            }
            DataType::Map(..) => {
                let map = column.as_map();
                map.offsets()
                    .lengths()
                    .for_each(|items| bytes.extend(length(items)));
                let entries = map
                    .iter()
                    .flatten()
                    .map(|entries| make_array(entries.to_data()));
                self.update_items(entries)?;
            }
            DataType::Struct(_) => {
                let fields = column.as_struct().columns();
                if fields.len() != self.children.len() {
                    return Err(other_columns());
                }
                for (child, field) in self.children.iter_mut().zip(fields) {
                    child.update(field)?;
                }
            }
            other => {
                let width = other.primitive_width().ok_or_else(other_columns)?;
                let data = column.to_data();
                let (from, to) = (data.offset() * width, (data.offset() + data.len()) * width);
                let buffer = data.buffers().first().map(|buffer| buffer.as_slice());
                let values = buffer.and_then(|buffer| buffer.get(from..to));
                self.values.update(values.ok_or_else(other_columns)?);
            }
        }
        self.values.update(&bytes);
        Ok(())
    }

    fn update_items(&mut self, lists: impl Iterator<Item = ArrayRef>) -> Result<(), ArrowError> {
        let child = self.children.first_mut().ok_or_else(other_columns)?;
        for items in lists {
            child.update(&items)?;
        }
        Ok(())
    }

    fn finish(&self) -> blake3::Hash {
        let mut whole = Hasher::new();
        whole.update(&length(self.type_word.len()));
        whole.update(self.type_word.as_bytes());
        whole.update(self.presence.finalize().as_bytes());
        whole.update(self.values.finalize().as_bytes());
        for child in &self.children {
            whole.update(child.finish().as_bytes());
        }
        whole.finalize()
    }
}

/// What values of a type are, however they are laid out; none for types that are not hashed.
fn type_word(data_type: &DataType) -> Option<String> {
    let named = |field: &Field| {
        Some(format!(
            "{}: {}",
            field.name(),
            type_word(field.data_type())?
        ))
    };
    Some(match data_type {
        DataType::Null => "null".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "bytes".to_owned(),
        DataType::Timestamp(unit, zone) => {
            format!("timestamp {unit:?} {}", zone.as_deref().unwrap_or("none"))
        }
        DataType::List(item) | DataType::LargeList(item) => {
            format!("list<{}>", type_word(item.data_type())?)
        }
        DataType::FixedSizeList(item, items) => {
            format!("list<{}; {items}>", type_word(item.data_type())?)
        }
        DataType::Map(entries, _) => format!("map<{}>", type_word(entries.data_type())?),
        DataType::Struct(fields) => {
            let fields: Option<Vec<_>> = fields.iter().map(|field| named(field)).collect();
            format!("struct<{}>", fields?.join(", "))
        }
        DataType::Dictionary(_, values) => type_word(values)?,
        other if other.primitive_width().is_some() => format!("{other:?}").to_lowercase(),
        _ => return None,
    })
}

fn texts<T: AsRef<[u8]>>(bytes: &mut Vec<u8>, texts: impl Iterator<Item = Option<T>>) {
    for text in texts.flatten() {
        bytes.extend(length(text.as_ref().len()));
        bytes.extend(text.as_ref());
    }
}

fn length(items: usize) -> [u8; 8] {
    (items as u64).to_le_bytes()
}

fn other_columns() -> ArrowError {
    ArrowError::SchemaError("rows have other columns than were told before they came".to_owned())
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.0.to_hex())
    }
}

impl FromStr for ContentHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.strip_prefix("blake3:");
        let hash = digits.and_then(|digits| blake3::Hash::from_hex(digits).ok());
        hash.map(Self).ok_or_else(|| NotAHash(text.to_owned()))
    }
}
