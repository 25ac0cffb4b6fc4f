//! What holds for every call, whichever service it goes to: its deadline, how many run at once, what a panic does, and
//! what the end of the service does.
//!
//! [`Guard`] stands around all services. A call that is over before its work is drops the work: the futures and
//! streams of a handler stop where they are.
//!
//! Why not tonic's own: its server applies `grpc-timeout` until the headers of the answer only, so not to streams, and
//! answers CANCELLED; a panic in a handler resets the stream without a status; and a service that stops waits for
//! streams that never end.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};
use tower_service::Service;
use vintner_core::waiting::Waits;

use crate::{
    calls::{Call, Calls},
    status,
};

/// Stands around all services of a server.
#[derive(Clone)]
pub(crate) struct Guard<S> {
    inner: S,
    rules: Arc<Rules>,
}

/// What all calls of a server share.
pub(crate) struct Rules {
    limit: usize,
    max_message_bytes: usize,
    slots: Arc<Semaphore>,
    /// The service takes no new calls; streams that never end by themselves end now.
    pub(crate) draining: CancellationToken,
    /// The time to finish is over.
    pub(crate) over: CancellationToken,
    /// What is counted and told of calls.
    pub(crate) calls: Arc<Calls>,
}

impl Rules {
    pub(crate) fn new(max_concurrent: usize, max_message_bytes: usize, calls: Calls) -> Self {
        let limit = max_concurrent.min(Semaphore::MAX_PERMITS);
        Self {
            limit,
            max_message_bytes,
            slots: Arc::new(Semaphore::new(limit)),
            draining: CancellationToken::new(),
            over: CancellationToken::new(),
            calls: Arc::new(calls),
        }
    }

    /// How many calls are answered at once at the most.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many calls have not ended, health checks and reflection left aside.
    pub(crate) fn in_flight(&self) -> usize {
        self.limit - self.slots.available_permits()
    }
}

impl<S> Guard<S> {
    pub(crate) fn new(inner: S, rules: Arc<Rules>) -> Self {
        Self { inner, rules }
    }
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = self.rules.calls.begin(&request);
        let life = match Life::of(&request, &self.rules) {
            Ok(life) => life,
            Err(refusal) => {
                if refusal.code() == Code::ResourceExhausted {
                    call.refused();
                }
                return std::future::ready(Ok(call.status(refusal))).boxed();
            }
        };
        // The one that is ready is used, its clone takes the next call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let max_message_bytes = self.rules.max_message_bytes;
        let answer = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
        Box::pin(async move {
            let (answer, life) = life.during(&call, answer).await;
            Ok(match answer {
                Err(end) => call.status(end),
                Ok(Err(panic)) => {
                    log(panic.as_ref(), &call);
                    call.status(status::panicked())
                }
                Ok(Ok(Ok(response))) if refused_for_size(&response) => {
                    call.status(status::too_large(max_message_bytes))
                }
                Ok(Ok(Ok(response))) => call.head(response).map(|body| {
                    Body::new(GuardedBody {
                        inner: Some(body),
                        life,
                        call,
                    })
                }),
                Ok(Ok(Err(never))) => match never {},
            })
        })
    }
}

/// tonic answers OUT_OF_RANGE to a message that is too large, and nothing else here does.
fn refused_for_size(response: &Response<Body>) -> bool {
    Status::from_header_map(response.headers()).is_some_and(|s| s.code() == Code::OutOfRange)
}

/// What ends a call from outside.
struct Life {
    kind: Kind,
    /// When the call must be answered, and how long its caller gives it.
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
    /// What the work waits for.
    waits: Waits,
    end: CancellationToken,
    /// Waits for `end`, once the call has had to wait for something. Most have not: their answer is there at once.
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Counts the call among those in flight until it is dropped.
    _slot: Option<OwnedSemaphorePermit>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Does something for somebody, and may finish it.
    Work,
    /// Health checks and reflection: always let in, and ended as soon as the service stops.
    Watch,
}

impl Life {
    fn of(request: &Request<Body>, rules: &Rules) -> Result<Self, Status> {
        let path = request.uri().path();
        let kind = match path.starts_with("/grpc.") {
            true => Kind::Watch,
            false => Kind::Work,
        };
        let (end, slot) = match kind {
            Kind::Watch => (rules.draining.clone(), None),
            Kind::Work => {
                let slot = Arc::clone(&rules.slots).try_acquire_owned();
                let slot = slot.map_err(|_| status::too_busy(rules.limit))?;
                (rules.over.clone(), Some(slot))
            }
        };
        let allowed = match request.headers().get("grpc-timeout") {
            Some(header) => Some(timeout(header.as_bytes()).ok_or_else(|| {
                status::bad_deadline(&String::from_utf8_lossy(header.as_bytes()))
            })?),
            None => None,
        };
        let deadline = allowed.and_then(|allowed| {
            let at = Instant::now().checked_add(allowed - farewell(allowed))?;
            Some((Box::pin(sleep_until(at)), allowed))
        });
        Ok(Self {
            kind,
            deadline,
            waits: Waits::default(),
            end,
            ending: None,
            _slot: slot,
        })
    }

    /// The status to end with, if the call is over at this moment.
    fn over(&self) -> Option<Status> {
        match &self.deadline {
            Some((deadline, allowed)) if deadline.deadline() <= Instant::now() => {
                Some(status::too_late(*allowed, self.waits.on()))
            }
            _ => self.end.is_cancelled().then(status::stopping),
        }
    }

    /// Ready with the status to end with, once the call is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Some((deadline, allowed)) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(status::too_late(*allowed, self.waits.on()));
        }
        let end = &self.end;
        let ending = self
            .ending
            .get_or_insert_with(|| Box::pin(end.clone().cancelled_owned()));
        ending.as_mut().poll(cx).map(|()| status::stopping())
    }

    /// What the work gives, or the status that the call ends with before it.
    async fn during<T>(
        mut self,
        call: &Call,
        work: impl Future<Output = T>,
    ) -> (Result<T, Status>, Self) {
        let mut work = std::pin::pin!(work);
        let result = std::future::poll_fn(|cx| {
            if let Some(status) = self.over() {
                return Poll::Ready(Err(status));
            }
            let poll = || work.as_mut().poll(cx);
            match call.during(|| self.waits.during(poll)) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending => self.poll_over(cx).map(Err),
            }
        })
        .await;
        (result, self)
    }
}

/// The answer of a call, as long as the call lives.
struct GuardedBody {
    /// None once the call has been ended from outside.
    inner: Option<Body>,
    life: Life,
    call: Call,
}

impl GuardedBody {
    /// Drops the work and ends the call with a status.
    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.inner = None;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
        }
        self.call.ended(&trailers);
        Frame::trailers(trailers)
    }
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        // A stream that always has more to give must end in time all the same, so work is asked last. A watch is asked
        // first: its last message says that the service stops.
        if this.life.kind == Kind::Work
            && let Some(status) = this.life.over()
        {
            return Poll::Ready(Some(Ok(this.end(&status))));
        }
        let frame = || Pin::new(inner).poll_frame(cx);
        let frame = || this.life.waits.during(frame);
        match catch_unwind(AssertUnwindSafe(|| this.call.during(frame))) {
            Err(panic) => {
                log(panic.as_ref(), &this.call);
                Poll::Ready(Some(Ok(this.end(&status::panicked()))))
            }
            Ok(Poll::Ready(frame)) => {
                if let Some(Ok(frame)) = &frame
                    && let Some(trailers) = frame.trailers_ref()
                {
                    this.call.ended(trailers);
                }
                Poll::Ready(frame)
            }
            Ok(Poll::Pending) => this
                .life
                .poll_over(cx)
                .map(|status| Some(Ok(this.end(&status)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

/// How much earlier than its caller's own clock a call is ended, so that the caller hears from here what kept it. A library
/// that gives up by itself says no more than that the time is over.
fn farewell(allowed: Duration) -> Duration {
    (allowed / 10).min(Duration::from_millis(10))
}

/// The time that a `grpc-timeout` header gives: one to eight digits and a unit. Source: "Requests" in
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
pub(crate) fn timeout(header: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(header).ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn log(panic: &(dyn Any + Send), call: &Call) {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let request_id = call.id();
    tracing::error!(request_id, panic = %message, "a handler panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        for (text, want) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("10m", Some(Duration::from_millis(10))),
            ("0u", Some(Duration::ZERO)),
            ("5n", Some(Duration::from_nanos(5))),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("10", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1é", None),
        ] {
            let header = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            assert_eq!(timeout(header.as_bytes()), want, "{text:?}");
        }
    }
}
