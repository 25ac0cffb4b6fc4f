//! Where metrics are written down: one function per type.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
};
use vintner_core::meter::HistogramReading;

/// The labels of one series.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Nanoseconds in a second.
const NANOS: f64 = 1e9;

/// What the values of a histogram are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Times in nanoseconds, told in seconds.
    Times,
    /// Numbers.
    Numbers,
}

pub(super) struct Sheet<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// A number that only grows; `_total` is put after its name.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            let none: Option<&Exemplar<NoLabelSet, u64>> = None;
            family
                .encode_family(&labels)?
                .encode_counter(&value, none)?;
        }
        Ok(())
    }

    /// Seconds that only grow; `_total` is put after its name.
    pub(super) fn counter_of_seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        let none: Option<&Exemplar<NoLabelSet, f64>> = None;
        family.encode_counter(&value, none)
    }

    /// A number that goes up and down.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// How often values were at most so large.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        values: Values,
        series: impl IntoIterator<Item = (Labels, HistogramReading)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        let told = |value: u64| match values {
            Values::Times => value as f64 / NANOS,
            Values::Numbers => value as f64,
        };
        for (labels, read) in series {
            let buckets = read.buckets.iter();
            let buckets: Vec<_> = buckets
                .map(|(bound, count)| (bound.map_or(f64::INFINITY, told), *count))
                .collect();
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(told(read.sum), read.count(), &buckets, None)?;
        }
        Ok(())
    }
}
