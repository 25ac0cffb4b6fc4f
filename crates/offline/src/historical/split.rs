//! Which part of a dataset a training row is in: `train`, `valid`, `test`.
//!
//! A split by fractions hashes the values of some columns, so that rows with equal keys are in one part, whatever else
//! is in the dataset, in whatever order and batches. A split by moments goes by the rows' time.
//!
//! The hash is BLAKE3 over [`FORMAT`] and the values as [`vintner_core::entity_key`] encodes them, in the order of their
//! columns' names, integers of all widths as int64, and 0x00 for a null. Its first 8 bytes, as a big-endian number
//! without its lowest 11 bits, divided by 2^53, are a number from 0 to 1. A row is in the first part whose fraction,
//! added to those of the parts before it, is greater than that number; in the last one, where there is none. This never
//! changes: a model that is trained again must not be trained on what it is tested with.

use std::{collections::BTreeSet, fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, SchemaRef},
    error::ArrowError,
};
use serde::{Deserialize, Serialize};
use vintner_core::{
    ColumnName, JoinKey, KeyColumns, KeySchema, KeySchemaError, KeyType, NameError, PartName,
    Timestamp,
};
use vintner_join::{JoinError, key_column, times};

/// The column that says which part a row is in.
pub(super) const SPLIT: &str = "split";

/// Tells this way of splitting from any later one.
const FORMAT: &[u8] = b"vintner split 1";
/// How far from 1 the sum of the fractions may be: what adding decimal fractions up costs.
const SLACK: f64 = 1e-9;
/// The ends of messages that must say what a split looks like.
const FORMS: &str = "write fractions, like train=0.8,valid=0.1,test=0.1, or the moments at which parts end, like \
                     train=2013-09-01,valid=2013-11-01,test";

/// Into which parts training rows are split, and by what. At least two parts, with distinct names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SplitText", into = "SplitText")]
pub struct Split(Rule);

/// Fractions are never NaN.
impl Eq for Split {}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    /// Fractions of the keys, which add up to 1; `by` the columns in the order of their names, or the join keys.
    Fractions {
        parts: Vec<(PartName, f64)>,
        by: Option<Vec<ColumnName>>,
    },
    /// Parts that end before a moment, in ascending order, and the one that has all rows after.
    Moments {
        parts: Vec<(PartName, Timestamp)>,
        rest: PartName,
    },
}

/// A split as manifests have it.
#[derive(Serialize, Deserialize)]
struct SplitText {
    /// The parts: `train=0.8,test=0.2`, or `train=2013-09-01,test`.
    parts: String,
    /// The columns whose values decide in a split by fractions; without it, the join keys.
    by: Option<Vec<String>>,
}

/// Why a text is no split.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// No part, or only one.
    #[error("a split has at least two parts; {FORMS}")]
    TooFew,
    /// A part's or a column's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// One name twice.
    #[error("the split names `{0}` twice")]
    Twice(String),
    /// A part with something else after its name.
    #[error("`{text}`, of the part `{part}`, is neither a fraction nor a time; {FORMS}")]
    Value {
        /// The part.
        part: PartName,
        /// What is written after it.
        text: String,
    },
    /// Fractions and moments.
    #[error(
        "a split is by fractions of the keys or by moments, not by both; {FORMS}, where the last part has all later rows"
    )]
    Mixed,
    /// A part without a fraction, among others that have one.
    #[error("the part `{0}` has no fraction, and others have; {FORMS}")]
    NoFraction(PartName),
    /// A fraction that is not above 0.
    #[error("the fraction of the part `{part}` is {fraction}; it must be more than 0")]
    Fraction {
        /// The part.
        part: PartName,
        /// Its fraction.
        fraction: f64,
    },
    /// Fractions of another whole than 1.
    #[error("the fractions of the split add up to {0}; they must add up to 1")]
    Sum(f64),
    /// A part, not the last, that does not say where it ends.
    #[error("the part `{0}` does not say when it ends; only the last part has all later rows")]
    NoMoment(PartName),
    /// The last part says where it ends.
    #[error("the last part, `{0}`, has all later rows; write it without a time, or add a part")]
    NoRest(PartName),
    /// A part that ends before it begins.
    #[error(
        "the part `{part}` ends at {end}, which is not after {before}, where the part before it ends"
    )]
    Order {
        /// The part.
        part: PartName,
        /// Where it ends.
        end: Timestamp,
        /// Where the one before it ends.
        before: Timestamp,
    },
    /// Columns for a split by moments.
    #[error("a split by moments goes by the rows' time; leave out the columns to split by")]
    MomentsBy,
}

/// What is written after a part's name.
enum Written {
    Fraction(f64),
    Moment(Timestamp),
    Nothing,
}

impl Split {
    /// The split into the parts that the text names: `train=0.8,test=0.2`, by the values of these columns or of the join
    /// keys; or `train=2013-09-01,test`, where a part has the rows before its moment that are in none before it.
    ///
    /// # Errors
    /// [`SplitError`] with the first thing that is wrong.
    pub fn new(parts: &str, by: Option<Vec<ColumnName>>) -> Result<Self, SplitError> {
        let parts = parts
            .split(',')
            .map(written)
            .collect::<Result<Vec<_>, _>>()?;
        distinct(parts.iter().map(|(name, _)| name))?;
        if parts.len() < 2 {
            return Err(SplitError::TooFew);
        }
        let is = |wanted: fn(&Written) -> bool| parts.iter().any(|(_, value)| wanted(value));
        let fractions = is(|value| matches!(value, Written::Fraction(_)));
        let moments = is(|value| matches!(value, Written::Moment(_)));
        match (fractions, moments) {
            (true, true) => Err(SplitError::Mixed),
            (true, false) => of_fractions(parts, by),
            (false, _) if by.is_some() => Err(SplitError::MomentsBy),
            (false, _) => of_moments(parts),
        }
    }

    /// The parts as they are written.
    pub fn parts(&self) -> String {
        fn listed<T: fmt::Display>(parts: &[(PartName, T)]) -> Vec<String> {
            let written = parts.iter().map(|(name, value)| format!("{name}={value}"));
            written.collect()
        }
        let parts = match &self.0 {
            Rule::Fractions { parts, .. } => listed(parts),
            Rule::Moments { parts, rest } => {
                let mut parts = listed(parts);
                parts.push(rest.to_string());
                parts
            }
        };
        parts.join(",")
    }

    /// The columns that were named to split by, in the order of their names.
    pub fn by(&self) -> Option<&[ColumnName]> {
        match &self.0 {
            Rule::Fractions { by, .. } => by.as_deref(),
            Rule::Moments { .. } => None,
        }
    }

    /// Whether it goes by the rows' time.
    pub fn is_by_time(&self) -> bool {
        matches!(self.0, Rule::Moments { .. })
    }
}

fn written(text: &str) -> Result<(PartName, Written), SplitError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.trim())),
        None => (text, None),
    };
    let part: PartName = name.trim().parse()?;
    let Some(text) = value else {
        return Ok((part, Written::Nothing));
    };
    let value = match (text.parse(), text.parse()) {
        (Ok(fraction), _) => Written::Fraction(fraction),
        (_, Ok(moment)) => Written::Moment(moment),
        (Err(_), Err(_)) => {
            let text = text.to_owned();
            return Err(SplitError::Value { part, text });
        }
    };
    Ok((part, value))
}

fn distinct<'a, N: Ord + fmt::Display + 'a>(
    names: impl Iterator<Item = &'a N>,
) -> Result<(), SplitError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(SplitError::Twice(name.to_string()));
        }
    }
    Ok(())
}

fn of_fractions(
    parts: Vec<(PartName, Written)>,
    by: Option<Vec<ColumnName>>,
) -> Result<Split, SplitError> {
    let fraction = |(part, value)| match value {
        Written::Fraction(fraction) if fraction > 0.0 => Ok((part, fraction)),
        Written::Fraction(fraction) => Err(SplitError::Fraction { part, fraction }),
        Written::Moment(_) => Err(SplitError::Mixed),
        Written::Nothing => Err(SplitError::NoFraction(part)),
    };
    let parts = parts
        .into_iter()
        .map(fraction)
        .collect::<Result<Vec<_>, _>>()?;
    let sum: f64 = parts.iter().map(|(_, fraction)| fraction).sum();
    if (sum - 1.0).abs() > SLACK {
        return Err(SplitError::Sum(sum));
    }
    let by = match by {
        None => None,
        Some(mut columns) => {
            distinct(columns.iter())?;
            columns.sort();
            Some(columns).filter(|columns| !columns.is_empty())
        }
    };
    Ok(Split(Rule::Fractions { parts, by }))
}

fn of_moments(mut parts: Vec<(PartName, Written)>) -> Result<Split, SplitError> {
    let rest = match parts.pop() {
        Some((part, Written::Nothing)) => part,
        Some((part, _)) => return Err(SplitError::NoRest(part)),
        None => return Err(SplitError::TooFew),
    };
    let mut moments: Vec<(PartName, Timestamp)> = Vec::with_capacity(parts.len());
    for (part, value) in parts {
        let end = match value {
            Written::Moment(end) => end,
            Written::Fraction(_) => return Err(SplitError::Mixed),
            Written::Nothing => return Err(SplitError::NoMoment(part)),
        };
        match moments.last() {
            Some(&(_, before)) if end <= before => {
                return Err(SplitError::Order { part, end, before });
            }
            _ => moments.push((part, end)),
        }
    }
    let parts = moments;
    Ok(Split(Rule::Moments { parts, rest }))
}

impl From<Split> for SplitText {
    fn from(split: Split) -> Self {
        Self {
            parts: split.parts(),
            by: split
                .by()
                .map(|columns| columns.iter().map(ToString::to_string).collect()),
        }
    }
}

impl TryFrom<SplitText> for Split {
    type Error = SplitError;

    fn try_from(text: SplitText) -> Result<Self, SplitError> {
        let by = text
            .by
            .map(|columns| columns.iter().map(|column| column.parse()).collect());
        Self::new(&text.parts, by.transpose()?)
    }
}

/// For people: `train=0.8,test=0.2 by customer_id`.
impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts())?;
        match (&self.0, self.by()) {
            (Rule::Moments { .. }, _) => f.write_str(" by time"),
            (Rule::Fractions { .. }, None) => f.write_str(" by the join keys"),
            (Rule::Fractions { .. }, Some(columns)) => {
                let columns: Vec<_> = columns.iter().map(ColumnName::as_str).collect();
                write!(f, " by {}", columns.join(", "))
            }
        }
    }
}

/// The type that the values of a column are hashed as, by the column's type; none for one that cannot be split by.
pub(super) fn hashed_as(found: &DataType) -> Option<KeyType> {
    Some(match found {
        DataType::Dictionary(_, values) => return hashed_as(values),
        DataType::Boolean => KeyType::Bool,
        found if found.is_integer() => KeyType::Int64,
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            KeyType::String
        }
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => KeyType::Bytes,
        _ => return None,
    })
}

/// A split of rows with known columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PlannedSplit {
    /// By the values of these columns, of the types that they are hashed as.
    Fractions {
        parts: Vec<(PartName, f64)>,
        keys: KeySchema,
    },
    /// By the rows' time.
    Moments {
        parts: Vec<(PartName, Timestamp)>,
        rest: PartName,
        time_column: String,
    },
}

impl Split {
    /// The split of rows with this time column, which is decided by these columns if it is not by time.
    ///
    /// # Errors
    /// [`KeySchemaError`] when it is not by time, and there is no column, or one twice.
    pub(super) fn planned(
        &self,
        columns: Vec<JoinKey>,
        time_column: &str,
    ) -> Result<PlannedSplit, KeySchemaError> {
        let hashed = |key: JoinKey| match key.key_type {
            KeyType::Int32 => JoinKey {
                key_type: KeyType::Int64,
                ..key
            },
            _ => key,
        };
        Ok(match &self.0 {
            Rule::Fractions { parts, .. } => PlannedSplit::Fractions {
                parts: parts.clone(),
                keys: KeySchema::new(columns.into_iter().map(hashed).collect())?,
            },
            Rule::Moments { parts, rest } => PlannedSplit::Moments {
                parts: parts.clone(),
                rest: rest.clone(),
                time_column: time_column.to_owned(),
            },
        })
    }
}

impl PlannedSplit {
    /// The same rows in the given schema, which has [`SPLIT`] as its last column; `first_row` is the number of rows before
    /// them. A row without a time is in no part of a split by moments.
    ///
    /// # Errors
    /// [`JoinError::Value`] for a value that cannot be read.
    pub(super) fn add(
        &self,
        batch: &RecordBatch,
        schema: &SchemaRef,
        first_row: usize,
    ) -> Result<RecordBatch, JoinError> {
        let part: StringArray = match self {
            Self::Fractions { parts, keys } => by_fractions(batch, parts, keys, first_row)?,
            Self::Moments {
                parts,
                rest,
                time_column,
            } => {
                let times = times(column(batch, time_column)?, time_column, first_row)?;
                let part = |at: Timestamp| {
                    let found = parts.iter().find(|(_, end)| at < *end);
                    found.map_or(rest, |(name, _)| name).as_str()
                };
                times.into_iter().map(|at| at.map(part)).collect()
            }
        };
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(part));
        Ok(RecordBatch::try_new(SchemaRef::clone(schema), columns)?)
    }
}

fn by_fractions(
    batch: &RecordBatch,
    parts: &[(PartName, f64)],
    keys: &KeySchema,
    first_row: usize,
) -> Result<StringArray, JoinError> {
    let columns = keys.join_keys().iter().map(|key| {
        let column = column(batch, key.name.as_str())?;
        key_column(column, key, first_row)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<&ArrayRef> = columns.iter().collect();
    let keys = KeyColumns::new(keys, &columns)
        .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
    let mut values = Vec::new();
    let part = |row| {
        keys.encode_nullable_row(row, &mut values);
        Some(part_of(number(&values), parts))
    };
    Ok((0..batch.num_rows()).map(part).collect())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, JoinError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| JoinError::MissingColumn(name.to_owned()))
}

/// The column that a split adds.
pub(super) fn field() -> Field {
    Field::new(SPLIT, DataType::Utf8, true)
}

/// Where values are between 0 and 1.
fn number(values: &[u8]) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT);
    hasher.update(values);
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    let bits = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11;
    // Both are exact: numbers of 53 bits, and a power of two.
    bits as f64 / (1u64 << 53) as f64
}

fn part_of(number: f64, parts: &[(PartName, f64)]) -> &str {
    let mut end = 0.0;
    for (name, fraction) in parts {
        end += fraction;
        if number < end {
            return name.as_str();
        }
    }
    // The sum may be less than 1 by what adding up costs.
    parts.last().map_or("", |(name, _)| name.as_str())
}

#[cfg(test)]
mod tests;
