//! What a service tells of itself besides its metrics: the log on stderr, and traces for who collects them. Neither keeps
//! a call waiting.
//!
//! Spans of traces and entries of the log go their own ways: a span of a trace is never in the log, and costs nothing
//! where no collector is named.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
    sync::Arc,
    time::Duration,
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler as Exported, SdkTracerProvider},
};
use tracing::field::display;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};
use vintner_core::meter::Count;
use vintner_online::trace::TARGET;
use vintner_ops::error::chain;
use vintner_server::Sampler;

use crate::{args::LogFormat, exit::Failure, log_lines::LogLines};

/// How long the last spans have to reach the collector.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// How long the last lines of the log have to be read.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The log. When it is dropped its last lines are written.
pub(crate) struct Log {
    lines: LogLines,
}

impl Log {
    /// How many lines were dropped since too many waited.
    pub(crate) fn lines_dropped(&self) -> Arc<Count> {
        self.lines.dropped()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.end(LAST_LINES);
    }
}

/// Where spans go. When it is dropped the last ones are sent.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(error = %chain(&error), "the last spans have not reached the collector");
        }
    }
}

/// Begins the log, and traces if the environment names a collector.
pub(crate) fn begin(format: LogFormat) -> Result<(Log, Option<(Traces, Sampler)>), Failure> {
    let traces = traces(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
    let filter = EnvFilter::try_from_env("VINTNER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A filter that does not say its level lets every span of every library be made, for nobody: a request for one
    // entity took twice the time.
    let level = Filter::<Registry>::max_level_hint(&filter).unwrap_or(LevelFilter::TRACE);
    let filter =
        filter.and(filter_fn(|metadata| metadata.target() != TARGET).with_max_level_hint(level));
    let lines = LogLines::to_stderr()
        .map_err(|error| Failure::store(format!("could not start the log's thread: {error}")))?;
    let log = fmt::layer().with_writer(lines.clone());
    let log = match format {
        LogFormat::Text => log.with_filter(filter).boxed(),
        LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let spans = traces.as_ref().map(|(traces, _)| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.provider.tracer("vintner"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(
                filter_fn(|metadata| metadata.target() == TARGET)
                    .with_max_level_hint(LevelFilter::INFO),
            )
    });
    tracing_subscriber::registry().with(log).with(spans).init();
    std::panic::set_hook(Box::new(log_panic));
    Ok((Log { lines }, traces))
}

/// Logs a panic: what Rust does by itself waits for whoever reads stderr.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => Some(display(backtrace)),
        _ => None,
    };
    tracing::error!(
        panic = panic.payload_as_str().unwrap_or_default(),
        place = panic.location().map(display),
        backtrace,
        "a thread panicked"
    );
}

/// What the variables of OpenTelemetry say of traces.
fn traces(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<(Traces, Sampler)>, Failure> {
    let named = |name: &str| variable(name).is_some();
    let is = |name: &str, value: &str| {
        variable(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    let endpoint =
        named("OTEL_EXPORTER_OTLP_ENDPOINT") || named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    if !endpoint || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    for name in [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ] {
        if let Some(protocol) = variable(name).filter(|protocol| protocol != "grpc") {
            return Err(Failure::input(format!(
                "{name}=`{protocol}` is not supported; traces are exported over OTLP/gRPC, so leave it out or say `grpc`"
            )));
        }
    }
    let (sampler, argument) = (
        variable("OTEL_TRACES_SAMPLER"),
        variable("OTEL_TRACES_SAMPLER_ARG"),
    );
    let sampler = Sampler::new(sampler.as_deref(), argument.as_deref()).map_err(Failure::input)?;
    let exporter = SpanExporter::builder()
        .with_tonic()
        .build()
        .map_err(|error| {
            Failure::input(format!(
                "traces cannot be exported as the OTEL_ variables say: {}",
                chain(&error)
            ))
        })?;
    let own_name = named("OTEL_SERVICE_NAME")
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
    let resource = match own_name {
        true => Resource::builder(),
        false => Resource::builder().with_service_name("vintner"),
    };
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.build())
        // The service has chosen already, before it made a span.
        .with_sampler(Exported::AlwaysOn)
        .with_batch_exporter(exporter)
        .build();
    Ok(Some((Traces { provider }, sampler)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Whether there are traces, or why not.
    fn asked(variables: &[(&str, &str)]) -> Result<bool, String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        match traces(&|name| variables.get(name).map(|value| (*value).to_owned())) {
            Ok(traces) => Ok(traces.is_some()),
            Err(failure) => Err(format!("{failure:?}")),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn traces_are_exported_where_a_collector_is_named() {
        const COLLECTOR: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        for (variables, want) in [
            (vec![], false),
            (vec![("OTEL_TRACES_SAMPLER", "always_on")], false),
            (vec![COLLECTOR, ("OTEL_SDK_DISABLED", "true")], false),
            (vec![COLLECTOR, ("OTEL_TRACES_EXPORTER", "none")], false),
            (vec![COLLECTOR], true),
            (
                vec![COLLECTOR, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
                true,
            ),
        ] {
            assert_eq!(asked(&variables), Ok(want), "{variables:?}");
        }
        for (wrong, names) in [
            (
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
                "OTEL_EXPORTER_OTLP_PROTOCOL=`http/protobuf`",
            ),
            (
                ("OTEL_TRACES_SAMPLER", "sometimes"),
                "OTEL_TRACES_SAMPLER=`sometimes`",
            ),
        ] {
            let said = asked(&[COLLECTOR, wrong]).unwrap_err();
            assert!(said.contains(names), "{said}");
        }
    }
}
