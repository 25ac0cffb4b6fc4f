//! Time has one home: instants, how long a value lives, and the one rule of visibility.
//!
//! Everything that asks "does this feature row count at that moment" asks [`VisibilityRule`]. Source of the rule:
//! "Visibility" in `docs/ARCHITECTURE.md`.
//!
//! Not here: time zones and units of sources; they are converted at the source's edge.

use std::{
    fmt,
    num::NonZeroU64,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// An instant: microseconds since 1970-01-01T00:00:00Z, negative before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is not an instant or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not an instant.
    #[error(
        "`{0}` is not a time; write it like 2013-01-01, 2013-01-01T06:00:00 (read as UTC) or 2013-01-01T06:00:00+01:00"
    )]
    Timestamp(String),
    /// Not a duration.
    #[error("`{0}` is not a duration; write a number and a unit, like 6h, 7d, 90min or 1h 30m")]
    Duration(String),
    /// A duration that is not positive, or is longer than 292,000 years.
    #[error(
        "the duration `{0}` is out of range; it must be at least one microsecond and at most 292,000 years"
    )]
    Range(String),
}

impl Timestamp {
    /// The earliest instant that can be held.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest instant that can be held.
    pub const MAX: Self = Self(i64::MAX);
    /// The event and created time of rows of a static source: 0001-01-01T00:00:00Z, before any entity row.
    pub const BEGINNING: Self = Self(-62_135_596_800_000_000);

    /// The instant so many microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The instant `ttl` later, or the latest one there is.
    pub const fn saturating_add(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add_unsigned(ttl.micros()))
    }

    /// The instant `ttl` earlier, or the earliest one there is.
    pub const fn saturating_sub(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_sub_unsigned(ttl.micros()))
    }

    /// The instant that a machine's clock shows, without what is less than a microsecond away from 1970.
    fn of_system(time: SystemTime) -> Self {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(-micros(before.duration())),
        }
    }

    /// The next instant; none after the latest one.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// RFC 3339 in UTC with as many fraction digits as needed; outside the years -9999 to 9999, microseconds and `us`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => f.pad(&instant.to_string()),
            Err(_) => f.pad(&format!("{}us", self.0)),
        }
    }
}

/// Reads what [`Display`](fmt::Display) writes, any RFC 3339 text, and dates and times without a zone, as UTC.
impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let text = text.trim();
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(instant.as_microsecond()));
        }
        if let Some(micros) = text
            .strip_suffix("us")
            .and_then(|digits| digits.parse().ok())
        {
            return Ok(Self(micros));
        }
        let civil: jiff::civil::DateTime = text
            .parse()
            .map_err(|_| TimeError::Timestamp(text.to_owned()))?;
        let instant = jiff::tz::TimeZone::UTC
            .to_timestamp(civil)
            .map_err(|_| TimeError::Timestamp(text.to_owned()))?;
        Ok(Self(instant.as_microsecond()))
    }
}

/// How long a feature value counts after its event time. At least one microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(NonZeroU64);

impl Ttl {
    /// The longest: as many microseconds as there are between 1970 and [`Timestamp::MAX`].
    pub const LONGEST_MICROS: u64 = i64::MAX.unsigned_abs();

    /// A ttl of so many microseconds; none for 0 and for more than [`Ttl::LONGEST_MICROS`].
    pub fn from_micros(micros: u64) -> Option<Self> {
        (micros <= Self::LONGEST_MICROS).then_some(())?;
        NonZeroU64::new(micros).map(Self)
    }

    /// The ttl in microseconds.
    pub const fn micros(self) -> u64 {
        self.0.get()
    }
}

/// The units that a ttl is written in, and how many microseconds each has.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// As people write it in a repo, in as few units as it takes: `6h`, `7d`, `1d 30m`.
impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.micros();
        for (unit, micros) in UNITS {
            let number = rest / micros;
            rest %= micros;
            if number > 0 {
                let after = if rest > 0 { " " } else { "" };
                write!(f, "{number}{unit}{after}")?;
            }
        }
        Ok(())
    }
}

/// A number and a unit, as `humantime` reads it: `6h`, `7d`, `1h 30m`.
impl FromStr for Ttl {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let duration =
            humantime::parse_duration(text).map_err(|_| TimeError::Duration(text.to_owned()))?;
        u64::try_from(duration.as_micros())
            .ok()
            .and_then(Self::from_micros)
            .ok_or_else(|| TimeError::Range(text.to_owned()))
    }
}

/// When a feature row was true and when it became known. `Ord` *is* "the greatest wins".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowTime {
    /// When what the row says was true.
    pub event: Timestamp,
    /// When the row became known. The field order is the comparison.
    pub created: Timestamp,
}

/// Whether a row must also have been known at the moment that is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Knowledge {
    /// What was true at the moment, as known today.
    #[default]
    Event,
    /// What was true at the moment and had arrived by it.
    Available,
}

/// Whether a row at exactly the moment that is asked about counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// Rows at or before the moment.
    #[default]
    At,
    /// Only rows strictly before the moment: for entity rows that are the events a view is made from.
    Before,
}

/// The one rule of visibility: which feature rows count at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VisibilityRule {
    /// How long a row counts after its event time; without one, for ever.
    pub ttl: Option<Ttl>,
    /// Whether a row must have been known.
    pub knowledge: Knowledge,
    /// Whether a row at exactly the moment counts.
    pub boundary: Boundary,
}

impl VisibilityRule {
    /// The first and the last moment at which `row` counts, both inclusive. None for a row that never does.
    ///
    /// A row counts from its event time (just after it with [`Boundary::Before`]; not before its created time with
    /// [`Knowledge::Available`]) up to its event time plus the ttl.
    pub fn lifetime(&self, row: RowTime) -> Option<(Timestamp, Timestamp)> {
        let begins = match self.boundary {
            Boundary::At => row.event,
            Boundary::Before => row.event.next()?,
        };
        let from = match self.knowledge {
            Knowledge::Event => begins,
            Knowledge::Available => begins.max(row.created),
        };
        let until = self
            .ttl
            .map_or(Timestamp::MAX, |ttl| row.event.saturating_add(ttl));
        (from <= until).then_some((from, until))
    }

    /// The first and the last event time, both inclusive, of the rows that can count at some moment from `first` to
    /// `last`. Rows outside need not be read.
    pub fn event_window(&self, first: Timestamp, last: Timestamp) -> (Timestamp, Timestamp) {
        let oldest = self
            .ttl
            .map_or(Timestamp::MIN, |ttl| first.saturating_sub(ttl));
        (oldest, last)
    }

    /// The rule under which nothing is ever too old.
    #[must_use]
    pub fn without_ttl(self) -> Self {
        Self { ttl: None, ..self }
    }

    /// Whether `row` counts at the moment `at`.
    pub fn visible(&self, row: RowTime, at: Timestamp) -> bool {
        self.lifetime(row)
            .is_some_and(|(from, until)| from <= at && at <= until)
    }
}

/// Where the present moment comes from. Only `main` and tests make one; everything else is given it.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::of_system(SystemTime::now())
    }
}

/// A clock that stands still: for tests, and for asking what was known at a past moment.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn row(event: i64, created: i64) -> RowTime {
        RowTime {
            event: us(event),
            created: us(created),
        }
    }

    fn rule(ttl: u64, knowledge: Knowledge, boundary: Boundary) -> VisibilityRule {
        VisibilityRule {
            ttl: Ttl::from_micros(ttl),
            knowledge,
            boundary,
        }
    }

    #[test]
    fn both_ends_of_the_ttl_are_inclusive() {
        let rule = rule(5, Knowledge::Event, Boundary::At);
        for (event, at, want) in [
            (10, 9, false),
            (10, 10, true),
            (10, 15, true),
            (10, 16, false),
            (-10, -5, true),
            (-10, -4, false),
        ] {
            assert_eq!(
                rule.visible(row(event, 0), us(at)),
                want,
                "event {event} at {at}"
            );
        }
    }

    #[test]
    fn every_row_that_counts_is_in_the_event_window() {
        let times = [
            i64::MIN,
            i64::MIN + 1,
            -6,
            -5,
            -1,
            0,
            4,
            5,
            6,
            i64::MAX - 1,
            i64::MAX,
        ];
        for ttl in [0, 1, 5, 10, Ttl::LONGEST_MICROS] {
            for knowledge in [Knowledge::Event, Knowledge::Available] {
                for boundary in [Boundary::At, Boundary::Before] {
                    let rule = rule(ttl, knowledge, boundary);
                    for (first, last) in times.iter().flat_map(|f| times.map(|l| (*f, l))) {
                        let (oldest, newest) = rule.event_window(us(first), us(last));
                        for at in times.iter().filter(|at| (first..=last).contains(*at)) {
                            for event in times {
                                let counts = rule.visible(row(event, i64::MIN), us(*at));
                                let inside = (oldest..=newest).contains(&us(event));
                                assert!(!counts || inside, "{event} at {at} with {rule:?}");
                            }
                        }
                    }
                }
            }
        }
        // As narrow as it can be: a row just outside does not count.
        let rule = rule(5, Knowledge::Event, Boundary::At);
        assert_eq!(rule.event_window(us(10), us(20)), (us(5), us(20)));
    }

    #[test]
    fn without_a_ttl_a_row_counts_for_ever() {
        let rule = rule(0, Knowledge::Event, Boundary::At);
        assert!(rule.visible(row(i64::MIN, 0), Timestamp::MAX));
        assert!(rule.visible(row(i64::MAX, 0), Timestamp::MAX));
        assert!(!rule.visible(row(i64::MAX, 0), us(i64::MAX - 1)));
    }

    #[test]
    fn available_rows_count_from_when_they_arrived() {
        let rule = rule(5, Knowledge::Available, Boundary::At);
        for (event, created, at, want) in [
            (10, 12, 11, false),
            (10, 12, 12, true),
            (10, 12, 15, true),
            (10, 12, 16, false),
            (10, 15, 15, true),  // arrives in its last moment
            (10, 16, 16, false), // arrives too late ever to count
            (10, 3, 9, false),   // known before it was true
            (10, 3, 10, true),
        ] {
            assert_eq!(
                rule.visible(row(event, created), us(at)),
                want,
                "event {event} created {created} at {at}"
            );
        }
    }

    #[test]
    fn before_excludes_the_moment_itself_and_keeps_the_end() {
        let rule = rule(5, Knowledge::Event, Boundary::Before);
        for (event, at, want) in [
            (10, 10, false),
            (10, 11, true),
            (10, 15, true),
            (10, 16, false),
        ] {
            assert_eq!(
                rule.visible(row(event, 0), us(at)),
                want,
                "event {event} at {at}"
            );
        }
        assert_eq!(rule.lifetime(row(i64::MAX, 0)), None);
    }

    #[test]
    fn before_and_available_go_together() {
        let rule = rule(0, Knowledge::Available, Boundary::Before);
        for (event, created, at, want) in [
            (10, 10, 10, false),
            (10, 10, 11, true),
            (10, 20, 19, false),
            (10, 20, 20, true),
        ] {
            assert_eq!(
                rule.visible(row(event, created), us(at)),
                want,
                "event {event} created {created} at {at}"
            );
        }
    }

    #[test]
    fn the_ends_of_time_do_not_wrap() {
        let rule = rule(Ttl::LONGEST_MICROS, Knowledge::Event, Boundary::At);
        assert!(rule.visible(row(i64::MAX - 1, 0), Timestamp::MAX));
        assert!(rule.visible(row(i64::MIN, 0), us(-1)));
        assert!(!rule.visible(row(i64::MIN, 0), us(0)));
    }

    #[test]
    fn the_greatest_row_time_is_the_latest_event_then_the_latest_created() {
        assert!(row(2, 0) > row(1, 9));
        assert!(row(1, 2) > row(1, 1));
    }

    #[test]
    fn instants_are_read_as_utc_and_written_as_rfc_3339() {
        for (text, want) in [
            ("2013-01-01", "2013-01-01T00:00:00Z"),
            ("2013-01-01T06:00:00", "2013-01-01T06:00:00Z"),
            ("2013-01-01 06:00:00.5", "2013-01-01T06:00:00.5Z"),
            ("2013-01-01T06:00:00.000001Z", "2013-01-01T06:00:00.000001Z"),
            ("2013-01-01T06:00:00+01:00", "2013-01-01T05:00:00Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            ("9223372036854775807us", "9223372036854775807us"),
        ] {
            let read: Timestamp = text.parse().unwrap();
            assert_eq!(read.to_string(), want, "{text}");
            assert_eq!(want.parse::<Timestamp>().unwrap(), read, "{text} again");
        }
        for text in ["", "yesterday", "2013-13-01", "12"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
        assert_eq!(Timestamp::BEGINNING.to_string(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn a_ttl_is_shown_as_it_is_written() {
        for (text, want) in [
            ("6h", "6h"),
            ("7d", "7d"),
            ("7days", "7d"),
            ("36h", "1d 12h"),
            ("1h 30min", "1h 30m"),
            ("1d 1us", "1d 1us"),
            ("1500ms", "1s 500ms"),
        ] {
            let ttl: Ttl = text.parse().unwrap();
            assert_eq!(ttl.to_string(), want);
            assert_eq!(want.parse::<Ttl>().unwrap(), ttl, "{want} again");
        }
        let longest = Ttl::from_micros(Ttl::LONGEST_MICROS).unwrap();
        assert_eq!(longest.to_string().parse::<Ttl>().unwrap(), longest);
    }

    #[test]
    fn a_clock_may_show_a_time_before_1970() {
        for (after, nanos, want) in [(true, 2_999, 2), (true, 0, 0), (false, 3_000, -3)] {
            let apart = Duration::from_nanos(nanos);
            let time = match after {
                true => SystemTime::UNIX_EPOCH + apart,
                false => SystemTime::UNIX_EPOCH - apart,
            };
            assert_eq!(Timestamp::of_system(time), us(want));
        }
    }

    #[test]
    fn a_ttl_is_at_least_a_microsecond_and_at_most_the_longest() {
        let longest = Ttl::LONGEST_MICROS;
        for (micros, fits) in [(0, false), (1, true), (longest, true), (longest + 1, false)] {
            let ttl = Ttl::from_micros(micros);
            assert_eq!(ttl.map(Ttl::micros), fits.then_some(micros));
        }
    }

    #[test]
    fn a_ttl_is_positive() {
        assert_eq!("6h".parse::<Ttl>().unwrap().micros(), 6 * 3_600_000_000);
        for text in ["0s", "6", "h", "-1h", "", "1e3s"] {
            assert!(text.parse::<Ttl>().is_err(), "{text:?}");
        }
    }
}
