//! What is counted and told of every call: how long it took by its method and code, under which id it is in the log,
//! and its trace.
//!
//! [`Calls`] is what all calls of a server share. A [`Call`] is one of them, from its beginning until it is dropped:
//! when its answer has gone out, or when the caller has left.

mod methods;
mod request_id;
mod trace;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body};
use tracing::Span;
use vintner_core::meter::Count;

use methods::{MethodMeter, Methods};
pub(crate) use request_id::{REQUEST_ID_KEY, of_this_call};
pub(crate) use trace::propagate;
pub use trace::{Sampler, SamplerError};

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) methods: Methods,
    /// Calls that were refused since there were too many.
    pub(crate) refused: Count,
    ids: request_id::Ids,
    /// A call that takes longer is told of in the log.
    slow: Duration,
    /// Which calls are traced; none when traces go nowhere.
    sampler: Option<Sampler>,
}

/// One call.
pub(crate) struct Call {
    calls: Arc<Calls>,
    method: Arc<MethodMeter>,
    began: Instant,
    id: request_id::Id,
    /// None until the answer has ended.
    code: Option<Code>,
    span: Span,
}

impl Calls {
    pub(crate) fn new(slow: Duration, sampler: Option<Sampler>) -> Self {
        Self {
            methods: Methods::known(),
            refused: Count::default(),
            ids: request_id::Ids::new(),
            slow,
            sampler,
        }
    }

    /// A call begins.
    pub(crate) fn begin(self: &Arc<Self>, request: &Request<Body>) -> Call {
        let method = self.methods.of(request.uri().path());
        let headers = request.headers();
        let id = self.ids.of(headers);
        let span = match &self.sampler {
            Some(sampler) => sampler.span(headers, method.name(), &id),
            None => Span::none(),
        };
        Call {
            calls: Arc::clone(self),
            method: Arc::clone(method),
            began: Instant::now(),
            id,
            code: None,
            span,
        }
    }
}

impl Call {
    /// What its log entries are found by.
    pub(crate) fn id(&self) -> String {
        self.id.to_string()
    }

    /// It is refused: there are too many.
    pub(crate) fn refused(&self) {
        self.calls.refused.increment();
    }

    /// Sends the id along with the head of an answer, which may say already how the call ended.
    pub(crate) fn head<B>(&mut self, mut response: Response<B>) -> Response<B> {
        self.ended(response.headers());
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID_KEY, self.id.header());
        response
    }

    /// The answer that is just a status.
    pub(crate) fn status(&mut self, status: Status) -> Response<Body> {
        self.head(status.into_http())
    }

    /// Looks whether trailers, or a head, say how the call ended.
    pub(crate) fn ended(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.code = Some(Code::from_bytes(code.as_bytes()));
        }
    }

    /// Does a part of the call's work: what is logged meanwhile has its id, what is traced is part of its trace.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        request_id::scope(&self.id, || match self.span.is_disabled() {
            true => work(),
            false => self.span.in_scope(work),
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        // Without an end the caller has gone away.
        let code = self.code.unwrap_or(Code::Cancelled);
        self.method.observe(code, took);
        trace::ended(&self.span, code);
        let slow = took > self.calls.slow && !self.method.streams();
        if !slow && code == Code::Ok {
            return;
        }
        let method = self.method.name();
        let request_id = self.id();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let code = methods::word(code);
        if slow {
            tracing::warn!(request_id, method, code, millis, "a call was slow");
        } else {
            // Failures of ours are logged where they happen, with their causes; the rest is the caller's own.
            tracing::debug!(
                request_id,
                method,
                code,
                millis,
                "a call ended without an answer"
            );
        }
    }
}
