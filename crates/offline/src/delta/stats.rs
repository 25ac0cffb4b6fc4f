//! The statistics of a data file, as the log keeps them: which event times a file can hold.

use std::{cmp::Ordering, ops::RangeInclusive};

use parquet::{
    basic::{LogicalType, TimeUnit},
    data_type::ByteArray,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        statistics::Statistics,
    },
    schema::types::ColumnDescriptor,
};
use serde_json::{Map, Value, json};
use vintner_core::{JoinKey, KeySchema, KeyValue, Timestamp, Ttl};

use super::{error::EventRange, layout::EVENT_TIMESTAMP};

/// The instants that the log can hold as texts that every reader takes: those of the years 1 to 9999, less the last
/// two days.
pub(super) const WRITABLE: RangeInclusive<Timestamp> =
    Timestamp::BEGINNING..=Timestamp::from_micros(253_402_127_999_999_999);

/// The event times of a file's rows. The log has them to the millisecond, cut off, so the last is the last
/// microsecond that the text can stand for. None when the file has no such statistics.
pub(super) fn event_range(stats: Option<&str>) -> Option<EventRange> {
    let stats: Value = serde_json::from_str(stats?).ok()?;
    let read = |side: &str| -> Option<Timestamp> {
        stats
            .get(side)?
            .get(EVENT_TIMESTAMP)?
            .as_str()?
            .parse()
            .ok()
    };
    Some(EventRange {
        first: read("minValues")?,
        last: read("maxValues")?.saturating_add(Ttl::from_micros(999)?),
    })
}

/// Whether a file can have a row of one of these entities, each the values of the join keys of a schema. It can when its
/// statistics do not say.
pub(super) fn can_hold(
    stats: Option<&str>,
    schema: &KeySchema,
    entities: &[Vec<KeyValue>],
) -> bool {
    let stats = stats.and_then(|stats| serde_json::from_str::<Value>(stats).ok());
    let bound = |side: &str, key: &JoinKey| stats.as_ref()?.get(side)?.get(key.name.as_str());
    let keys = schema.join_keys().iter();
    let bounds: Vec<_> = keys
        .map(|key| (bound("minValues", key), bound("maxValues", key)))
        .collect();
    let is_within = |((least, greatest), value): (&(Option<&Value>, Option<&Value>), &KeyValue)| {
        least.and_then(|least| compare(least, value)) != Some(Ordering::Greater)
            && greatest.and_then(|greatest| compare(greatest, value)) != Some(Ordering::Less)
    };
    let mut entities = entities.iter();
    entities.any(|values| bounds.iter().zip(values).all(is_within))
}

/// How a bound compares with a value; none when that cannot be told.
fn compare(bound: &Value, value: &KeyValue) -> Option<Ordering> {
    Some(match value {
        KeyValue::Bool(value) => bound.as_bool()?.cmp(value),
        KeyValue::Int32(value) => bound.as_i64()?.cmp(&i64::from(*value)),
        KeyValue::Int64(value) => bound.as_i64()?.cmp(value),
        KeyValue::String(value) => bound.as_str()?.cmp(value),
        KeyValue::Bytes(_) => return None,
    })
}

/// The number of rows of a file.
pub(super) fn rows(stats: Option<&str>) -> Option<u64> {
    let stats: Value = serde_json::from_str(stats?).ok()?;
    stats.get("numRecords")?.as_u64()
}

/// The statistics of a file that was written, as JSON: its rows, and of some columns the bounds and the number of nulls.
/// Times are cut off to milliseconds, which is what other readers expect. When an instant is not [`WRITABLE`] the file has no
/// bounds at all: a file without bounds is read whenever the table is.
pub(super) fn of(file: &ParquetMetaData, columns: &[String]) -> String {
    let mut bounds = Some((Map::new(), Map::new()));
    let mut nulls = Map::new();
    let schema = file.file_metadata().schema_descr();
    for leaf in 0..schema.num_columns() {
        let column = schema.column(leaf);
        let name = column.path().string();
        if !columns.contains(&name) {
            continue;
        }
        let chunks = file.row_groups().iter().map(|group| group.column(leaf));
        let counts = chunks
            .clone()
            .map(|chunk| chunk.statistics()?.null_count_opt());
        if let Some(count) = counts.sum::<Option<u64>>() {
            nulls.insert(name.clone(), count.into());
        }
        let Some((least, greatest)) = bounds_of(chunks, &column) else {
            continue;
        };
        let texts = (least.to_json(), greatest.to_json());
        match (texts, &mut bounds) {
            ((Some(least), Some(greatest)), Some((min, max))) => {
                min.insert(name.clone(), least);
                max.insert(name, greatest);
            }
            ((None, _) | (_, None), _) => bounds = None,
            (_, None) => {}
        }
    }
    let (min, max) = bounds.unwrap_or_default();
    let rows = file.file_metadata().num_rows();
    json!({"numRecords": rows, "minValues": min, "maxValues": max, "nullCount": nulls}).to_string()
}

/// A bound of a column's values. `Ord` is that of the values; those of one column are of one variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Bool(bool),
    Int(i64),
    Instant(Timestamp),
    Text(String),
}

impl Bound {
    /// As the log has it; none for an instant that the log cannot hold.
    fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Bool(value) => json!(value),
            Self::Int(value) => json!(value),
            Self::Instant(at) if WRITABLE.contains(at) => {
                let cut_off = at.micros().div_euclid(1000) * 1000;
                json!(Timestamp::from_micros(cut_off).to_string())
            }
            Self::Instant(_) => return None,
            Self::Text(value) => json!(value),
        })
    }
}

/// The least and the greatest value of all chunks; none when some chunk does not say, or there are no values.
fn bounds_of<'a>(
    chunks: impl Iterator<Item = &'a ColumnChunkMetaData>,
    column: &ColumnDescriptor,
) -> Option<(Bound, Bound)> {
    let mut all: Option<(Bound, Bound)> = None;
    for chunk in chunks {
        let statistics = chunk.statistics()?;
        if statistics.null_count_opt() == u64::try_from(chunk.num_values()).ok() {
            continue;
        }
        let (least, greatest) = chunk_bounds(statistics, column)?;
        all = Some(match all {
            None => (least, greatest),
            Some((min, max)) => (min.min(least), max.max(greatest)),
        });
    }
    all
}

fn chunk_bounds(statistics: &Statistics, column: &ColumnDescriptor) -> Option<(Bound, Bound)> {
    Some(match (statistics, column.logical_type_ref()) {
        (Statistics::Boolean(s), _) => (Bound::Bool(*s.min_opt()?), Bound::Bool(*s.max_opt()?)),
        (Statistics::Int32(s), None) => {
            let int = |value: &i32| Bound::Int((*value).into());
            (int(s.min_opt()?), int(s.max_opt()?))
        }
        (Statistics::Int64(s), None) => (Bound::Int(*s.min_opt()?), Bound::Int(*s.max_opt()?)),
        (Statistics::Int64(s), Some(LogicalType::Timestamp(t))) if t.unit == TimeUnit::MICROS => {
            let instant = |value: &i64| Bound::Instant(Timestamp::from_micros(*value));
            (instant(s.min_opt()?), instant(s.max_opt()?))
        }
        (Statistics::ByteArray(s), Some(LogicalType::String)) => {
            let text = |bytes: &ByteArray| Some(Bound::Text(bytes.as_utf8().ok()?.to_owned()));
            (text(s.min_opt()?)?, text(s.max_opt()?)?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use vintner_core::KeyType;

    use super::*;

    const STATS: &str = r#"{"numRecords":2,"minValues":{"event_timestamp":"2013-01-01T00:00:00Z"},
        "maxValues":{"event_timestamp":"2013-01-01T00:00:00.001Z"},"nullCount":{}}"#;

    #[test]
    fn the_last_event_time_is_the_last_that_was_cut_off() {
        let range = event_range(Some(STATS)).unwrap();
        assert_eq!(range.first.to_string(), "2013-01-01T00:00:00Z");
        assert_eq!(range.last.to_string(), "2013-01-01T00:00:00.001999Z");
        assert_eq!(rows(Some(STATS)), Some(2));
        assert_eq!(event_range(Some("{}")), None);
        assert_eq!(event_range(None), None);
    }

    #[test]
    fn a_file_can_hold_the_entities_within_its_bounds() {
        let key = |name: &str, key_type| JoinKey {
            name: name.parse().unwrap(),
            key_type,
        };
        let schema = KeySchema::new(vec![
            key("a", KeyType::Int64),
            key("b", KeyType::String),
            key("c", KeyType::Bytes),
        ])
        .unwrap();
        let stats = r#"{"minValues":{"a":-1,"b":"k"},"maxValues":{"a":5,"b":"m"}}"#;
        let entity = |a: i64, b: &str| {
            let c = KeyValue::Bytes(vec![0]);
            vec![KeyValue::Int64(a), KeyValue::String(b.to_owned()), c]
        };
        for (a, b, want) in [
            (-1, "k", true),
            (5, "m", true),
            (-2, "l", false),
            (6, "l", false),
            (0, "j\u{10ffff}", false),
            (0, "ma", false),
            (0, "lé", true),
        ] {
            let held = can_hold(Some(stats), &schema, &[entity(a, b)]);
            assert_eq!(held, want, "{a} {b}");
            let both = [entity(9, "k"), entity(a, b)];
            assert_eq!(can_hold(Some(stats), &schema, &both), want, "{a} {b}");
        }
        assert!(!can_hold(Some(stats), &schema, &[]));
        for unknown in [None, Some("{}"), Some(r#"{"minValues":{"a":"x"}}"#)] {
            assert!(can_hold(unknown, &schema, &[entity(9, "z")]), "{unknown:?}");
        }
    }

    #[test]
    fn bounds_are_texts_that_can_be_read_back() {
        for instant in [*WRITABLE.start(), *WRITABLE.end()] {
            let text = instant.to_string();
            assert!(text.ends_with('Z'), "{text}");
            assert_eq!(text.parse(), Ok(instant));
        }
    }
}
