//! Plain counters: what the crates that know a fact count it with, and what whoever tells of it reads.
//!
//! A count is one relaxed addition. Of two numbers that are read together one may be ahead; each is exact.
//!
//! Not here: names, labels and formats of metrics. Those are for the one that tells them.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there have been.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A moment that may not be known; microseconds, by whichever clock its owner goes by.
#[derive(Debug)]
pub struct Moment(AtomicI64);

/// No clock says it.
const UNKNOWN: i64 = i64::MIN;

impl Default for Moment {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl Moment {
    /// Takes the place of what was known.
    pub fn set(&self, micros: Option<i64>) {
        self.0.store(micros.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// The moment, if it is known.
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|micros| *micros != UNKNOWN)
    }
}

/// How often values were at most so large, for a few fixed sizes.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: the last counts what is above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A [`Histogram`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramReading {
    /// Per bound, and then for all that is above: how many values were in that bucket alone.
    pub buckets: Vec<(Option<u64>, u64)>,
    /// Of all values.
    pub sum: u64,
}

impl Histogram {
    /// From 100 µs to 10 s, in nanoseconds: what a request may take.
    pub const LATENCIES: &'static [u64] = &[
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
    ];
    /// From 100 ms to three hours, in nanoseconds: what a materialization may take.
    pub const RUNS: &'static [u64] = &[
        100_000_000,
        1_000_000_000,
        5_000_000_000,
        15_000_000_000,
        60_000_000_000,
        300_000_000_000,
        900_000_000_000,
        3_600_000_000_000,
        10_800_000_000_000,
    ];
    /// From one to ten thousand: how many things a request asks for.
    pub const SIZES: &'static [u64] = &[
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000,
    ];

    /// With these bounds, which ascend; a value that equals a bound is within it.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time, in nanoseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What has been counted.
    pub fn read(&self) -> HistogramReading {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        HistogramReading {
            buckets: bounds.zip(counts).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl HistogramReading {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_is_not_below_it() {
        const BOUNDS: &[u64] = &[1, 5, 10];
        for (value, bucket) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (5, 1),
            (6, 2),
            (10, 2),
            (11, 3),
            (u64::MAX, 3),
        ] {
            let histogram = Histogram::new(BOUNDS);
            histogram.observe(value);
            let read = histogram.read();
            let counts: Vec<u64> = read.buckets.iter().map(|(_, count)| *count).collect();
            let mut want = [0; 4];
            want[bucket] = 1;
            assert_eq!(
                (counts.as_slice(), read.sum, read.count()),
                (&want[..], value, 1),
                "{value}"
            );
        }
    }

    #[test]
    fn times_are_counted_in_nanoseconds_within_their_bounds() {
        let histogram = Histogram::new(Histogram::LATENCIES);
        for micros in [100, 101, 10_000_000, 10_000_001] {
            histogram.observe_time(Duration::from_micros(micros));
        }
        let read = histogram.read();
        let full: Vec<_> = read
            .buckets
            .iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            full,
            [
                &(Some(100_000), 1),
                &(Some(250_000), 1),
                &(Some(10_000_000_000), 1),
                &(None, 1)
            ]
        );
        assert_eq!(read.sum, 20_000_202_000);
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [Histogram::LATENCIES, Histogram::RUNS, Histogram::SIZES] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }

    #[test]
    fn a_moment_is_unknown_until_it_is_set() {
        let moment = Moment::default();
        assert_eq!(moment.get(), None);
        for micros in [Some(0), Some(-1), None, Some(7)] {
            moment.set(micros);
            assert_eq!(moment.get(), micros);
        }
    }

    #[test]
    fn a_count_grows() {
        let count = Count::default();
        count.increment();
        count.add(41);
        assert_eq!(count.get(), 42);
    }
}
