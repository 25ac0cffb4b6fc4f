//! The one place that gives errors their gRPC codes, and makes errors of codes again.
//!
//! | fault | code | the caller |
//! | --- | --- | --- |
//! | request, data | `INVALID_ARGUMENT` | mends the request; the same call fails again |
//! | not found | `NOT_FOUND` | names something that exists |
//! | stale | `ABORTED` | plans again, then retries |
//! | behind | `FAILED_PRECONDITION` | brings the store up, then retries |
//! | busy | `RESOURCE_EXHAUSTED` | retries as it is, later |
//! | full | `RESOURCE_EXHAUSTED` | makes room in the store, then retries as it is |
//! | store | `UNAVAILABLE` | retries as it is, later |
//! | internal | `INTERNAL` | reports it |
//!
//! The service itself adds `RESOURCE_EXHAUSTED` (a limit), `DEADLINE_EXCEEDED`, and `UNAVAILABLE` while it stops.
//!
//! Two metadata keys let a client tell what a code alone does not: `vintner-fault` has the fault's word, and
//! `vintner-cause-bin` what caused a mistake of the caller's own, as UTF-8. Causes inside our own stores go to the log
//! only.

use std::{error::Error, fmt, time::Duration};

use tonic::{
    Code, Status, TimeoutExpired,
    metadata::{MetadataMap, MetadataValue},
};
use vintner_core::waiting::On;
use vintner_ops::{Fault, OpsError};
use vintner_proto::convert::ConvertError;

use crate::calls::of_this_call;

/// The metadata key of the fault's word.
pub const FAULT_KEY: &str = "vintner-fault";
/// The metadata key of the cause.
pub const CAUSE_KEY: &str = "vintner-cause-bin";

/// The most bytes that a message may take in the trailers, where other than plain characters take three each. gRPC
/// libraries refuse trailers of more than 8 KiB by default.
const MESSAGE_BYTES: usize = 4096;
/// Likewise for the cause, whose bytes take four thirds.
const CAUSE_BYTES: usize = 1536;

/// The status of an error; also logs it when it is ours.
pub(crate) fn from_error(error: &OpsError) -> Status {
    let code = match error.fault {
        Fault::Request | Fault::Data => Code::InvalidArgument,
        Fault::NotFound => Code::NotFound,
        Fault::Stale => Code::Aborted,
        Fault::Behind => Code::FailedPrecondition,
        Fault::Busy | Fault::Full => Code::ResourceExhausted,
        Fault::Store => Code::Unavailable,
        Fault::Internal => Code::Internal,
    };
    let cause = match error.fault {
        Fault::Request
        | Fault::Data
        | Fault::NotFound
        | Fault::Stale
        | Fault::Behind
        | Fault::Busy => cause_of(error),
        Fault::Full | Fault::Store | Fault::Internal => {
            let request_id = of_this_call();
            tracing::error!(request_id, fault = word(error.fault), error = %error.chain(), "a call failed");
            None
        }
    };
    let mut status = with_fault(code, error.fault, &error.message);
    if let Some(cause) = cause {
        let cause = MetadataValue::from_bytes(cut(&cause, CAUSE_BYTES, char::len_utf8).as_bytes());
        status.metadata_mut().insert_bin(CAUSE_KEY, cause);
    }
    status
}

/// A message from the caller cannot be read.
pub(crate) fn unreadable(error: &ConvertError) -> Status {
    from_error(&OpsError::new(
        Fault::Request,
        format!("the request cannot be read: {error}"),
    ))
}

/// An answer contradicts itself, so that it has no message.
pub(crate) fn unwritable(error: &ConvertError) -> Status {
    from_error(&OpsError::new(
        Fault::Internal,
        format!("the answer cannot be sent: {error}"),
    ))
}

/// A handler has panicked; the panic itself is in the log.
pub(crate) fn panicked() -> Status {
    with_fault(
        Code::Internal,
        Fault::Internal,
        "the service failed while it answered; this is a mistake in Vintner, and the service's log says more",
    )
}

/// The caller's deadline has come while the call waited for this.
pub(crate) fn too_late(allowed: Duration, on: Option<On>) -> Status {
    let message = match on {
        Some(On::OnlineStore(store)) => format!(
            "the online store {store} did not answer within the deadline of {allowed:?}; check that it runs and can be \
             reached, then try again, or allow more time"
        ),
        Some(On::Table(view)) => format!(
            "the table of {view} was not written within the deadline of {allowed:?}, by this push or by those before it; \
             push the rows again with the same producer and sequence, or allow more time"
        ),
        Some(On::Task(_)) | None => format!(
            "the deadline of {allowed:?} that the call came with has passed while the service worked on it, which was \
             stopped; allow more time, or ask for less at once"
        ),
    };
    with_fault(Code::DeadlineExceeded, Fault::Store, &message)
}

/// The caller's deadline cannot be read.
pub(crate) fn bad_deadline(header: &str) -> Status {
    with_fault(
        Code::InvalidArgument,
        Fault::Request,
        &format!(
            "the header grpc-timeout is `{header}`; it must be one to eight digits and one of H, M, S, m, u, n"
        ),
    )
}

/// As many calls as the service takes are being answered.
pub(crate) fn too_busy(limit: usize) -> Status {
    with_fault(
        Code::ResourceExhausted,
        Fault::Store,
        &format!(
            "the service is busy with {limit} calls, which is as many as it takes at once; \
             try again later, or raise its limit (`serve --max-calls`)"
        ),
    )
}

/// As many requests for the same features as the service takes are being answered.
pub(crate) fn too_busy_with(limit: usize) -> Status {
    with_fault(
        Code::ResourceExhausted,
        Fault::Store,
        &format!(
            "the service is busy with {limit} requests for the same features, which is as many as it takes at once, \
             so that other features are still answered; try again later, or raise the share (`serve --selection-share`)"
        ),
    )
}

/// As many entities as the service takes are being looked up.
pub(crate) fn too_many_entities_at_once(limit: usize) -> Status {
    with_fault(
        Code::ResourceExhausted,
        Fault::Store,
        &format!(
            "the service is looking up {limit} entities, which is as many as it takes at once; try again later, \
             or raise its limit (`serve --max-entities-at-once`)"
        ),
    )
}

/// A message from the caller is longer than allowed.
pub(crate) fn too_large(limit: usize) -> Status {
    with_fault(
        Code::ResourceExhausted,
        Fault::Request,
        &format!(
            "a message of the request is larger than {limit} bytes, which is the service's limit; \
             send less at once (fewer entities, smaller record batches), or raise the limit (`serve --max-message`)"
        ),
    )
}

/// An online request asks for more entities than allowed.
pub(crate) fn too_many_entities(entities: usize, limit: usize) -> Status {
    with_fault(
        Code::InvalidArgument,
        Fault::Request,
        &format!(
            "the request asks for {entities} entities, and the service's limit is {limit}; \
             split it into several requests, or raise the limit (`serve --max-entities`)"
        ),
    )
}

/// A push has more rows than allowed.
pub(crate) fn too_many_rows(rows: usize, limit: usize) -> Status {
    with_fault(
        Code::InvalidArgument,
        Fault::Request,
        &format!(
            "the push has {rows} rows, and the service's limit is {limit}; \
             split it into several pushes, or raise the limit (`serve --max-entities`)"
        ),
    )
}

/// The service is stopping and this call has used up the time for it.
pub(crate) fn stopping() -> Status {
    with_fault(
        Code::Unavailable,
        Fault::Store,
        "the service has stopped before it could finish this call; try again when it is back",
    )
}

/// The service does not have this.
pub(crate) fn unsupported(message: &str) -> Status {
    with_fault(Code::Unimplemented, Fault::Request, message)
}

/// The error of a status that came from the service at `url`. Equal in fault and message to the error that the status
/// was made of, unless that message was too long to travel whole.
pub(crate) fn to_error(status: &Status, url: &str) -> OpsError {
    if let Some(fault) = fault_in(status.metadata()) {
        let cause = status
            .metadata()
            .get_bin(CAUSE_KEY)
            .and_then(|value| value.to_bytes().ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        return OpsError {
            fault,
            message: status.message().to_owned(),
            source: cause.map(|text| Box::new(RemoteCause(text)) as Box<dyn Error + Send + Sync>),
        };
    }
    // What follows was decided by the libraries on either side or by the network, not by the service.
    let timed_out = source_is::<TimeoutExpired>(status);
    let message = status.message();
    let (fault, message) = match status.code() {
        _ if source_is::<tonic::ConnectError>(status) => return nobody_there(url, status),
        _ if timed_out => (
            Fault::Store,
            format!(
                "the service at {url} has not answered before the deadline; {url}/readyz says whether it is well, and \
                 calls beyond a connection's share wait where they are made (`serve --connection-share`)"
            ),
        ),
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated => (
            Fault::Request,
            format!("the service at {url} refuses the request: {message}"),
        ),
        Code::Unimplemented => (
            Fault::Request,
            format!("what answers at {url} is no Vintner service, or one of another version"),
        ),
        Code::NotFound => (Fault::NotFound, format!("the service at {url}: {message}")),
        Code::Aborted => (Fault::Stale, format!("the service at {url}: {message}")),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => (
            Fault::Store,
            format!("the service at {url} does not answer: {message}"),
        ),
        // One that the service has sent has no source: this one is the transport's.
        Code::Unknown | Code::Internal if status.source().is_some() => (
            Fault::Store,
            format!(
                "the connection to the service at {url} was lost before the whole answer had come ({message}); try again \
                 when the service is back"
            ),
        ),
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => (
            Fault::Internal,
            format!("the service at {url} failed: {message}"),
        ),
    };
    OpsError {
        fault,
        message,
        source: None,
    }
}

/// The error of a stream of the caller's that broke off, or that this service itself refused to read on.
pub(crate) fn broken_off(status: &Status) -> OpsError {
    let fault = fault_in(status.metadata()).unwrap_or(Fault::Request);
    OpsError::new(fault, status.message())
}

/// Nothing answers at `url`.
pub(crate) fn nobody_there(url: &str, cause: &dyn Error) -> OpsError {
    // Nothing is gained by keeping the transport's own layers: only the innermost says why.
    let mut reason = cause;
    while let Some(source) = reason.source() {
        reason = source;
    }
    OpsError {
        fault: Fault::Store,
        message: format!("no Vintner service answers at {url}; start one with `vintner serve`"),
        source: Some(Box::new(RemoteCause(reason.to_string()))),
    }
}

fn with_fault(code: Code, fault: Fault, message: &str) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(FAULT_KEY, MetadataValue::from_static(word(fault)));
    let cost = |c: char| match c {
        ' '..='~' if c != '%' => 1,
        _ => 3 * c.len_utf8(),
    };
    Status::with_metadata(code, cut(message, MESSAGE_BYTES, cost), metadata)
}

const fn word(fault: Fault) -> &'static str {
    match fault {
        Fault::Request => "request",
        Fault::NotFound => "not_found",
        Fault::Stale => "stale",
        Fault::Behind => "behind",
        Fault::Busy => "busy",
        Fault::Full => "full",
        Fault::Data => "data",
        Fault::Store => "store",
        Fault::Internal => "internal",
    }
}

fn fault_in(metadata: &MetadataMap) -> Option<Fault> {
    let found = metadata.get(FAULT_KEY)?.to_str().ok()?;
    let all = [
        Fault::Request,
        Fault::NotFound,
        Fault::Stale,
        Fault::Behind,
        Fault::Busy,
        Fault::Full,
        Fault::Data,
        Fault::Store,
        Fault::Internal,
    ];
    all.into_iter().find(|fault| word(*fault) == found)
}

/// The error's causes on one line, without its own message.
fn cause_of(error: &OpsError) -> Option<String> {
    error.source()?;
    let chain = error.chain();
    let cause = chain.strip_prefix(&error.message)?.strip_prefix(": ")?;
    Some(cause.to_owned())
}

/// The text, or as much of it as costs at most `most`, and a sign that there is more.
fn cut(text: &str, most: usize, cost: impl Fn(char) -> usize) -> String {
    const MORE: &str = " ... (cut)";
    let mut total = 0;
    let mut fits = 0;
    for (at, c) in text.char_indices() {
        total += cost(c);
        if total <= most - MORE.len() {
            fits = at + c.len_utf8();
        }
        if total > most {
            return format!("{}{MORE}", &text[..fits]);
        }
    }
    text.to_owned()
}

fn source_is<E: Error + 'static>(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// What the service says caused an error.
#[derive(Debug)]
struct RemoteCause(String);

impl fmt::Display for RemoteCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for RemoteCause {}
