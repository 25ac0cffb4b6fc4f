//! Ranges of event time that hold about equally many rows.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int32Array, RecordBatch},
    datatypes::{DataType, TimeUnit, TimestampMicrosecondType},
};
use datafusion::{
    common::exec_err,
    error::DataFusionError,
    logical_expr::{ColumnarValue, Expr, Volatility, create_udf},
};

/// At most twice as many instants are kept to find the ranges by.
const SAMPLE: usize = 1 << 18;

/// The instants at which ranges end and the next ones begin, microseconds, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TimeRanges {
    cuts: Arc<[i64]>,
}

impl TimeRanges {
    /// The number of the range that an instant is in.
    pub(super) fn of(&self, micros: i64) -> usize {
        self.cuts.partition_point(|cut| *cut <= micros)
    }

    /// Whether everything is in one range.
    pub(super) fn is_one(&self) -> bool {
        self.cuts.is_empty()
    }

    /// The number of the range of an expression that gives instants.
    pub(super) fn number_of(&self, event: Expr) -> Expr {
        let ranges = self.clone();
        let number = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue, DataFusionError> {
            let [event] = arguments else {
                return exec_err!("a range is of one instant");
            };
            let events = event.to_array(1)?;
            let events = events.as_primitive_opt::<TimestampMicrosecondType>();
            let Some(events) = events else {
                return exec_err!("a range is of an instant");
            };
            let number = |at| i32::try_from(ranges.of(at)).unwrap_or(i32::MAX);
            let numbers: Int32Array = events.unary(number);
            Ok(ColumnarValue::Array(Arc::new(numbers)))
        };
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let number = create_udf(
            "time_range",
            vec![instant],
            DataType::Int32,
            Volatility::Immutable,
            Arc::new(number),
        );
        number.call(vec![event])
    }

    /// Cuts a batch, whose rows are in the order of the ranges, where one ends.
    ///
    /// # Errors
    /// When the column at `event` has no instants.
    pub(super) fn split(
        &self,
        batch: &RecordBatch,
        event: usize,
    ) -> Result<Vec<(usize, RecordBatch)>, DataFusionError> {
        let events = batch
            .column(event)
            .as_primitive_opt::<TimestampMicrosecondType>();
        let Some(events) = events else {
            return exec_err!("column {event} is no time");
        };
        let events = events.values();
        let mut parts = Vec::new();
        let mut from = 0;
        while from < events.len() {
            let range = self.of(events[from]);
            let length = events[from..].partition_point(|at| self.of(*at) == range);
            parts.push((range, batch.slice(from, length)));
            from += length;
        }
        Ok(parts)
    }
}

/// Looks at instants in any order, and finds ranges that hold about equally many of them.
#[derive(Debug)]
pub(super) struct Sampling {
    every: usize,
    skip: usize,
    sample: Vec<i64>,
}

impl Sampling {
    pub(super) fn new() -> Self {
        Self {
            every: 1,
            skip: 0,
            sample: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, instants: &[i64]) {
        while self.skip < instants.len() {
            self.sample.push(instants[self.skip]);
            self.skip += self.every;
            if self.sample.len() == 2 * SAMPLE {
                let mut keep = false;
                self.sample.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.every *= 2;
            }
        }
        self.skip -= instants.len();
    }

    /// At most so many ranges. They end at whole milliseconds, so that the log can tell them apart.
    pub(super) fn ranges(mut self, pieces: usize) -> TimeRanges {
        self.sample.sort_unstable();
        let length = self.sample.len();
        let whole_millis = |micros: i64| micros.div_euclid(1000) * 1000;
        let first = self.sample.first().copied();
        let mut cuts: Vec<i64> = (1..pieces)
            .filter_map(|piece| self.sample.get(length * piece / pieces))
            .map(|micros| whole_millis(*micros))
            .filter(|cut| Some(*cut) > first)
            .collect();
        cuts.dedup();
        TimeRanges { cuts: cuts.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(instants: &[i64], pieces: usize) -> Vec<i64> {
        let mut sampling = Sampling::new();
        for some in instants.chunks(7) {
            sampling.add(some);
        }
        sampling.ranges(pieces).cuts.to_vec()
    }

    #[test]
    fn ranges_hold_equally_many_and_end_at_whole_milliseconds() {
        let even: Vec<i64> = (0..1000).map(|i| i * 1000 + 7).collect();
        assert_eq!(ranges(&even, 4), [250_000, 500_000, 750_000]);
        assert_eq!(ranges(&even, 1), [0; 0]);
        assert_eq!(ranges(&[], 4), [0; 0]);
        assert_eq!(ranges(&[5; 100], 4), [0; 0], "one instant cannot be cut");
        let before_1970: Vec<i64> = (-1000..0).map(|i| i * 1000 + 7).collect();
        assert_eq!(ranges(&before_1970, 2), [-500_000]);
    }

    #[test]
    fn many_instants_make_ranges_as_few_do() {
        let instants: Vec<i64> = (0..5 * SAMPLE as i64)
            .map(|i| (i * 7919) % (5 * SAMPLE as i64))
            .map(|i| i * 1000)
            .collect();
        let mut sampling = Sampling::new();
        for some in instants.chunks(8192) {
            sampling.add(some);
        }
        assert!(sampling.sample.len() <= 2 * SAMPLE);
        let [cut] = *sampling.ranges(2).cuts else {
            panic!("two ranges have one cut");
        };
        let middle = 5 * SAMPLE as i64 * 500;
        assert!(
            (cut - middle).abs() < middle / 100,
            "{cut} is not near {middle}"
        );
    }

    #[test]
    fn an_instant_is_in_one_range() {
        let ranges = TimeRanges {
            cuts: [10, 20].into(),
        };
        let found = [0, 9, 10, 19, 20, 99].map(|at| ranges.of(at));
        assert_eq!(found, [0, 0, 1, 1, 2, 2]);
    }
}
