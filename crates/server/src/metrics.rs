//! What is counted, as metrics: their names, labels and text. `docs/observability.md` lists them for people.
//!
//! Nothing is counted here. A scrape reads the plain counters of those who know, and writes them down; so what is no
//! longer there (a view that was deleted) is no longer told of.

mod calls;
mod deployment;
mod near_cache;
mod process;
mod sheet;

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};
use tokio::sync::watch;
use vintner_core::meter::Count;
use vintner_ops::{Meters, Readiness};

use crate::{admission::Admission, guard::Rules};
use sheet::Sheet;

/// The forms in which metrics are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// OpenMetrics 1.0, for those who ask for it.
    OpenMetrics,
    /// The text format of Prometheus, for everyone else.
    Prometheus,
}

impl Form {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// The metrics of a service.
pub(crate) struct Metrics {
    registry: Registry,
}

/// Where their values are.
pub(crate) struct Sources {
    pub(crate) rules: Arc<Rules>,
    pub(crate) admission: Arc<Admission>,
    /// None where the operations are not those of a deployment's own stores.
    pub(crate) meters: Option<Arc<Meters>>,
    pub(crate) readiness: watch::Receiver<Readiness>,
    /// None where whoever serves keeps no log.
    pub(crate) log_lines_dropped: Option<Arc<Count>>,
}

impl Metrics {
    pub(crate) fn new(sources: Sources) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(sources));
        Self { registry }
    }

    /// All metrics at this moment.
    ///
    /// # Errors
    /// None but a bug.
    pub(crate) fn text(&self, form: Form) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        match form {
            Form::OpenMetrics => text::encode(&mut text, &self.registry)?,
            Form::Prometheus => prometheus_text::encode(&mut text, &self.registry)?,
        }
        Ok(text)
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut sheet = Sheet::new(encoder);
        sheet.gauge(
            "vintner_build_info",
            "One, with the version of the program as a label",
            [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
        )?;
        let ready =
            *self.readiness.borrow() == Readiness::Ready && !self.rules.draining.is_cancelled();
        sheet.gauge(
            "vintner_ready",
            "Whether online requests can be answered: 1, or 0",
            [(vec![], f64::from(u8::from(ready)))],
        )?;
        calls::write(&mut sheet, &self.rules, &self.admission)?;
        if let Some(meters) = &self.meters {
            deployment::write(&mut sheet, meters)?;
        }
        if let Some(dropped) = &self.log_lines_dropped {
            sheet.counter(
                "vintner_log_lines_dropped",
                "Lines of the log that were dropped since they came faster than they were read",
                [(vec![], dropped.get())],
            )?;
        }
        process::write(&mut sheet)
    }
}
