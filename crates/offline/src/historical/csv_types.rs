//! Which types the columns of a CSV file are read as.
//!
//! A column gets a type only when every value of it is written the way that type is, so that nothing is lost: `007`
//! stays text. The types are found by reading the whole file, since a file must not fail in its last line because of
//! what was guessed from its first.

use std::{collections::BTreeMap, fs::File, io::BufReader, path::Path, sync::Arc};

use arrow::{
    array::AsArray,
    compute::kernels::cast_utils::Parser,
    csv::{ReaderBuilder, reader::Format},
    datatypes::{
        DataType, Date32Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit,
        TimestampMicrosecondType,
    },
    error::ArrowError,
};
use vintner_core::{JoinKey, KeyType};

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

/// The columns of a CSV file with a header line: join keys in their types, all others by what is in them.
///
/// # Errors
/// When the file cannot be read, or is no CSV.
pub(super) fn schema(path: &Path, keys: &[JoinKey]) -> Result<SchemaRef, ArrowError> {
    let header = Format::default().with_header(true);
    let (names, _) = header.infer_schema(BufReader::new(File::open(path)?), Some(0))?;
    let text = |name: &String| Field::new(name, DataType::Utf8, true);
    let as_text: Vec<Field> = names.fields().iter().map(|f| text(f.name())).collect();
    let as_text = Arc::new(Schema::new(as_text));
    let rows = ReaderBuilder::new(Arc::clone(&as_text))
        .with_header(true)
        .build_buffered(BufReader::new(File::open(path)?))?;
    // Which kinds all the values so far are, per column; none before the first value.
    let mut kinds: Vec<Option<Vec<Kind>>> = vec![None; as_text.fields().len()];
    for batch in rows {
        let batch = batch?;
        for (column, kinds) in batch.columns().iter().zip(&mut kinds) {
            for value in column.as_string::<i32>().iter().flatten() {
                let possible = kinds.get_or_insert_with(|| KINDS.to_vec());
                possible.retain(|kind| kind.holds(value));
            }
        }
    }
    let keys: BTreeMap<&str, KeyType> =
        keys.iter().map(|k| (k.name.as_str(), k.key_type)).collect();
    let typed = as_text.fields().iter().zip(kinds).map(|(field, kinds)| {
        let narrowest = kinds.unwrap_or_default().first().copied();
        let data_type = match keys.get(field.name().as_str()) {
            Some(key_type) => of_key(*key_type),
            None => narrowest.map_or(DataType::Utf8, Kind::arrow),
        };
        Field::new(field.name(), data_type, true)
    });
    Ok(Arc::new(Schema::new(typed.collect::<Vec<_>>())))
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
            Self::Float => Float64Type::parse(value).is_some() && !is_padded(value),
            Self::Date => value.len() == 10 && Date32Type::parse(value).is_some(),
            Self::Time => is_time(value) && !is_zoned(value),
            Self::ZonedTime => is_time(value) && is_zoned(value),
        }
    }
}

/// Whether a number begins with a zero that it does not need, as codes do.
fn is_padded(number: &str) -> bool {
    let digits = number.trim_start_matches(['-', '+']);
    number.starts_with('+')
        || (digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0."))
}

fn is_time(value: &str) -> bool {
    value.len() > 10 && TimestampMicrosecondType::parse(value).is_some()
}

/// Whether a time says its zone after the date and the hour: `Z`, or an offset.
fn is_zoned(time: &str) -> bool {
    let clock = time.get(10..).unwrap_or_default();
    clock.contains(['Z', 'z', '+', '-'])
}
