//! The steps of a call that is traced, as spans.
//!
//! Spans are made with the target [`TARGET`] and only inside of a span with that target, which the service makes for a
//! call that is sampled. So a call that is not makes none, and where nobody exports traces none are made at all.

use tracing::Span;

/// The target of the spans that make up traces. Everything else is for the log.
pub const TARGET: &str = "vintner_trace";

/// Whether the call that is worked on here is traced.
pub fn traced() -> bool {
    Span::current()
        .metadata()
        .is_some_and(|span| span.target() == TARGET)
}

/// A span for a step of a call; none when the call is not traced.
#[macro_export]
macro_rules! step {
    ($name:literal) => {
        // Not `span_enabled!`: where layers have filters of their own, asking without making the span loses the next
        // entry of the log.
        if $crate::trace::traced() {
            ::tracing::info_span!(target: $crate::trace::TARGET, $name)
        } else {
            ::tracing::Span::none()
        }
    };
}
