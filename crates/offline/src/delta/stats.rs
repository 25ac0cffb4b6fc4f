//! The statistics of a data file, as the log keeps them: which event times a file can hold.

use std::ops::RangeInclusive;

use serde_json::Value;
use vintner_core::{Timestamp, Ttl};

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

/// The number of rows of a file.
pub(super) fn rows(stats: Option<&str>) -> Option<u64> {
    let stats: Value = serde_json::from_str(stats?).ok()?;
    stats.get("numRecords")?.as_u64()
}

/// The statistics without any bounds. A file without bounds is read whenever the table is.
pub(super) fn without_bounds(stats: &str) -> Option<String> {
    let mut stats: Value = serde_json::from_str(stats).ok()?;
    let stats = stats.as_object_mut()?;
    stats.insert("minValues".to_owned(), Value::Object(Default::default()));
    stats.insert("maxValues".to_owned(), Value::Object(Default::default()));
    serde_json::to_string(stats).ok()
}

#[cfg(test)]
mod tests {
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
    fn a_file_without_bounds_still_has_its_rows() {
        let stats = without_bounds(STATS).unwrap();
        assert_eq!(event_range(Some(&stats)), None);
        assert_eq!(rows(Some(&stats)), Some(2));
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
