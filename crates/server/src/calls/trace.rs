//! Traces: whether a call is traced, decided before anything is made for it, and the span that is its root here.
//!
//! A call that is not traced has no spans at all. So the decision is taken here, from the caller's `traceparent` (W3C
//! Trace Context), and whoever exports the spans takes all of them.

use std::{
    hash::{BuildHasher, RandomState},
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState},
};
use tonic::{Code, metadata::MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use vintner_online::trace::TARGET;

use super::{methods, request_id::Id};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Which calls are traced. Its words and its default are those of `OTEL_TRACES_SAMPLER`.
#[derive(Debug)]
pub struct Sampler {
    root: Root,
    /// Whether a caller's decision goes before one's own.
    parent_based: bool,
    /// Together they make numbers that nobody foresees.
    state: RandomState,
    asked: AtomicU64,
}

/// What decides where no caller does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Root {
    Always,
    Never,
    /// Of all trace ids this part, which is neither all nor none.
    Ratio(f64),
}

/// A sampler that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "OTEL_TRACES_SAMPLER=`{sampler}` with OTEL_TRACES_SAMPLER_ARG=`{argument}` is no sampler; it must be one of always_on, \
     always_off, traceidratio, parentbased_always_on, parentbased_always_off and parentbased_traceidratio, and the \
     argument of a ratio a number from 0 to 1"
)]
pub struct SamplerError {
    sampler: String,
    argument: String,
}

impl Sampler {
    /// The sampler that the values of `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` name.
    ///
    /// # Errors
    /// [`SamplerError`] lists what there is.
    pub fn new(sampler: Option<&str>, argument: Option<&str>) -> Result<Self, SamplerError> {
        let error = || SamplerError {
            sampler: sampler.unwrap_or_default().to_owned(),
            argument: argument.unwrap_or_default().to_owned(),
        };
        let name = sampler.unwrap_or("parentbased_always_on");
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let root = match root {
            "always_on" => Root::Always,
            "always_off" => Root::Never,
            "traceidratio" => {
                let ratio = f64::from_str(argument.unwrap_or("1")).map_err(|_| error())?;
                match ratio {
                    0.0 => Root::Never,
                    1.0 => Root::Always,
                    _ if (0.0..1.0).contains(&ratio) => Root::Ratio(ratio),
                    _ => return Err(error()),
                }
            }
            _ => return Err(error()),
        };
        Ok(Self {
            root,
            parent_based,
            state: RandomState::new(),
            asked: AtomicU64::new(0),
        })
    }

    /// The root span of a call; none when it is not traced.
    pub(super) fn span(&self, headers: &HeaderMap, method: &str, id: &Id) -> Span {
        let parent = headers
            .get(TRACEPARENT)
            .and_then(|value| parent(value, headers));
        if !self.samples(parent.as_ref()) {
            return Span::none();
        }
        let span = tracing::info_span!(
            target: TARGET,
            "call",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            rpc.system = "grpc",
            rpc.method = method,
            rpc.response.status_code = tracing::field::Empty,
            request_id = %id,
        );
        if let Some(parent) = parent {
            // It fails where nobody exports, and then nothing is lost.
            let _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
        span
    }

    fn samples(&self, parent: Option<&SpanContext>) -> bool {
        match (parent, self.root) {
            (Some(parent), _) if self.parent_based => parent.is_sampled(),
            (_, Root::Always) => true,
            (_, Root::Never) => false,
            (Some(parent), Root::Ratio(ratio)) => {
                let [.., a, b, c, d, e, f, g, h] = parent.trace_id().to_bytes();
                chosen(u64::from_be_bytes([a, b, c, d, e, f, g, h]), ratio)
            }
            (None, Root::Ratio(ratio)) => {
                let asked = self.asked.fetch_add(1, Ordering::Relaxed);
                chosen(self.state.hash_one(asked), ratio)
            }
        }
    }
}

/// Whether a number is among this part of all numbers, by its upper 63 bits, as OpenTelemetry's own libraries do it.
fn chosen(number: u64, ratio: f64) -> bool {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a ratio is from 0 to 1, so this is from 0 to 2^63"
    )]
    let bound = (ratio * (1_u64 << 63) as f64) as u64;
    number >> 1 < bound
}

/// The caller's span, if the header is whole: `00-<32 hex>-<16 hex>-<2 hex>`, and no id all zeros.
fn parent(traceparent: &HeaderValue, headers: &HeaderMap) -> Option<SpanContext> {
    let text = traceparent.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |text: &str| {
        text.bytes()
            .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    };
    let whole = [(version, 2), (trace, 32), (span, 16), (flags, 2)]
        .into_iter()
        .all(|(part, length)| part.len() == length && lower_hex(part));
    // Later versions may have more at the end.
    if !whole || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = headers
        .get(TRACESTATE)
        .and_then(|state| state.to_str().ok());
    let state = state.and_then(|state| TraceState::from_str(state).ok());
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        state.unwrap_or_default(),
    );
    context.is_valid().then_some(context)
}

/// Notes how a traced call ended.
pub(super) fn ended(span: &Span, code: Code) {
    if span.is_disabled() {
        return;
    }
    span.record("rpc.response.status_code", methods::word(code));
    if matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    ) {
        span.record("otel.status_code", "ERROR");
    }
}

/// Sends the current span along with a request, if there is one.
pub(crate) fn propagate(metadata: &mut MetadataMap) {
    let context = match vintner_online::trace::traced() {
        true => Span::current().context(),
        false => Context::current(),
    };
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return;
    }
    let parent = format!(
        "00-{}-{}-{:02x}",
        span.trace_id(),
        span.span_id(),
        span.trace_flags()
    );
    if let Ok(parent) = parent.parse() {
        metadata.insert("traceparent", parent);
    }
    let state = span.trace_state().header();
    if let (false, Ok(state)) = (state.is_empty(), state.parse()) {
        metadata.insert("tracestate", state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn context(text: &str) -> Option<SpanContext> {
        parent(&HeaderValue::from_str(text).unwrap(), &HeaderMap::new())
    }

    #[test]
    fn a_traceparent_is_taken_whole_or_not_at_all() {
        let zeros = "0".repeat(32);
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-03"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-more"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-01-more"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{zeros}-{SPAN}-01"), None),
            (format!("00-{TRACE}-0000000000000000-01"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}0-{SPAN}-01"), None),
            (String::new(), None),
            ("é-".to_owned(), None),
        ] {
            let got = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            let got = parent(&got, &HeaderMap::new());
            assert_eq!(got.as_ref().map(SpanContext::is_sampled), sampled, "{text}");
            if let Some(got) = got {
                assert_eq!(got.trace_id().to_string(), TRACE);
                assert_eq!(got.span_id().to_string(), SPAN);
            }
        }
    }

    #[test]
    fn the_sampler_is_the_one_that_the_environment_names() {
        let yes = context(&format!("00-{TRACE}-{SPAN}-01"));
        let no = context(&format!("00-{TRACE}-{SPAN}-00"));
        for (sampler, argument, [alone, sampled, not]) in [
            (None, None, [true, true, false]),
            (Some("always_on"), None, [true, true, true]),
            (Some("always_off"), None, [false, false, false]),
            (Some("parentbased_always_on"), None, [true, true, false]),
            (Some("parentbased_always_off"), None, [false, true, false]),
            (Some("traceidratio"), Some("1"), [true, true, true]),
            (Some("traceidratio"), Some("0"), [false, false, false]),
            (Some("traceidratio"), None, [true, true, true]),
            (
                Some("parentbased_traceidratio"),
                Some("0.0"),
                [false, true, false],
            ),
        ] {
            let made = Sampler::new(sampler, argument).unwrap();
            let got = [None, yes.as_ref(), no.as_ref()].map(|parent| made.samples(parent));
            assert_eq!(got, [alone, sampled, not], "{sampler:?} {argument:?}");
        }
        for (sampler, argument) in [
            ("sometimes", None),
            ("", None),
            ("traceidratio", Some("1.1")),
            ("traceidratio", Some("half")),
            ("traceidratio", Some("NaN")),
            ("parentbased_jaeger_remote", None),
        ] {
            assert!(
                Sampler::new(Some(sampler), argument).is_err(),
                "{sampler} {argument:?}"
            );
        }
    }

    #[test]
    fn a_ratio_takes_its_part_and_all_services_the_same_traces() {
        let half = Sampler::new(Some("traceidratio"), Some("0.5")).unwrap();
        let taken = (0..10_000).filter(|_| half.samples(None)).count();
        assert!((4_500..5_500).contains(&taken), "{taken} of 10,000");
        for (number, ratio, want) in [
            (0, 0.5, true),
            ((1 << 63) - 1, 0.5, true),
            (1 << 63, 0.5, false),
            (u64::MAX, 0.999, false),
        ] {
            assert_eq!(chosen(number, ratio), want, "{number} {ratio}");
        }
    }
}
