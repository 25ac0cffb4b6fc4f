//! Which types the columns of a CSV file are read as.
//!
//! A column gets a type only when every value of it is written the way that type is, so that nothing is lost: `007`
//! stays text. The types are found by reading the whole file, since a file must not fail in its last line because of
//! what was guessed from its first.

use std::{fs::File, io::BufReader, path::Path, sync::Arc};

use arrow::{
    array::AsArray,
    compute::kernels::cast_utils::Parser,
    csv::{ReaderBuilder, reader::Format},
    datatypes::{
        DataType, Date32Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit,
        TimestampMicrosecondType,
    },
};
use vintner_core::{JoinKey, KeyType};
use vintner_join::EntityValueError;

use super::error::FileError;
use crate::sources::is_padded;

/// The types that a value is tried as, the narrowest first.
const KINDS: [Kind; 6] = [
    Kind::Bool,
    Kind::Int,
    Kind::Float,
    Kind::Date,
    Kind::Time,
    Kind::ZonedTime,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Float,
    Date,
    Time,
    ZonedTime,
}

/// The columns of a CSV file with a header line: join keys in their types, all others by what is in them. A column
/// without any value is of type null, which fits wherever a key or a time is wanted.
///
/// # Errors
/// When the file cannot be read or is no CSV, and [`EntityValueError`] for a value that is not of its key's type.
pub(super) fn schema(path: &Path, keys: &[JoinKey]) -> Result<SchemaRef, CsvError> {
    let header = Format::default().with_header(true);
    let (names, _) = header.infer_schema(BufReader::new(File::open(path)?), Some(0))?;
    let names: Vec<&String> = names.fields().iter().map(|field| field.name()).collect();
    let text = names
        .iter()
        .map(|name| Field::new(*name, DataType::Utf8, true));
    let text = Arc::new(Schema::new(text.collect::<Vec<_>>()));
    let mut columns: Vec<Column> = names.iter().map(|name| Column::new(name, keys)).collect();
    let batches = ReaderBuilder::new(text)
        .with_header(true)
        .build_buffered(BufReader::new(File::open(path)?))?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch?;
        for (values, column) in batch.columns().iter().zip(&mut columns) {
            for (row, value) in values.as_string::<i32>().iter().enumerate() {
                let fits = value.is_none_or(|value| column.take(value));
                if let (false, Some(value), Some(key_type)) = (fits, value, column.key_type) {
                    return Err(CsvError::Key(EntityValueError {
                        row: rows + row + 1,
                        column: column.name.clone(),
                        value: value.to_owned(),
                        wanted: format!("its join key's type {key_type}"),
                    }));
                }
            }
        }
        rows += batch.num_rows();
    }
    let typed = columns
        .iter()
        .map(|column| Field::new(&column.name, column.arrow(), true));
    Ok(Arc::new(Schema::new(typed.collect::<Vec<_>>())))
}

/// Why a CSV file has no columns that can be used.
#[derive(Debug)]
pub(super) enum CsvError {
    File(FileError),
    Key(EntityValueError),
}

impl<T: Into<FileError>> From<T> for CsvError {
    fn from(err: T) -> Self {
        Self::File(err.into())
    }
}

/// What has been seen of a column.
struct Column {
    name: String,
    key_type: Option<KeyType>,
    /// Which kinds all values so far are; none before the first value.
    kinds: Option<Vec<Kind>>,
}

impl Column {
    fn new(name: &str, keys: &[JoinKey]) -> Self {
        let key = keys.iter().find(|key| key.name.as_str() == name);
        Self {
            name: name.to_owned(),
            key_type: key.map(|key| key.key_type),
            kinds: None,
        }
    }

    /// Takes a value into account. False for one that is not of the key's type.
    fn take(&mut self, value: &str) -> bool {
        let kinds = self.kinds.get_or_insert_with(|| KINDS.to_vec());
        kinds.retain(|kind| kind.holds(value));
        match self.key_type {
            Some(KeyType::Bool) => {
                value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
            }
            Some(KeyType::Int32 | KeyType::Int64) => Int64Type::parse(value).is_some(),
            Some(KeyType::String | KeyType::Bytes) | None => true,
        }
    }

    fn arrow(&self) -> DataType {
        match (self.key_type, &self.kinds) {
            (_, None) => DataType::Null,
            (Some(key_type), Some(_)) => of_key(key_type),
            (None, Some(kinds)) => kinds.first().map_or(DataType::Utf8, |kind| kind.arrow()),
        }
    }
}

/// Whole numbers are read as wide as they come, so that one that does not fit its key is told by its row. Bytes are
/// the text's own.
fn of_key(key_type: KeyType) -> DataType {
    match key_type {
        KeyType::Bool => DataType::Boolean,
        KeyType::Int32 | KeyType::Int64 => DataType::Int64,
        KeyType::String | KeyType::Bytes => DataType::Utf8,
    }
}

impl Kind {
    fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::ZonedTime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    fn holds(self, value: &str) -> bool {
        match self {
            Self::Bool => value == "true" || value == "false",
            Self::Int => Int64Type::parse(value).is_some_and(|int| int.to_string() == value),
            Self::Float => Float64Type::parse(value).is_some() && is_plain(value),
            Self::Date => value.len() == 10 && Date32Type::parse(value).is_some(),
            Self::Time => is_time(value) && !is_zoned(value),
            Self::ZonedTime => is_time(value) && is_zoned(value),
        }
    }
}

/// Whether a number is not a code or too long a number in disguise: no zero at the front that it does not need, no
/// plus sign, and when it is whole, one that a float holds exactly.
fn is_plain(number: &str) -> bool {
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit());
    let fits = match is_whole {
        true => digits.parse().is_ok_and(|whole: u64| whole <= EXACT),
        false => digits.starts_with(|first: char| first.is_ascii_digit() || first == '.'),
    };
    fits && !is_padded(number)
}

fn is_time(value: &str) -> bool {
    value.len() > 10 && TimestampMicrosecondType::parse(value).is_some()
}

/// Whether a time says its zone after the date and the hour: `Z`, or an offset.
fn is_zoned(time: &str) -> bool {
    let clock = time.get(10..).unwrap_or_default();
    clock.contains(['Z', 'z', '+', '-'])
}
