//! What can go wrong at a server, and what the caller is told of it.
//!
//! The kind of an error says what the caller should do: [`OnlineError::Unavailable`] means that the same call may well
//! succeed a moment later, all others that someone has to look first.

use std::{error::Error as _, fmt, io, sync::Arc};

use redis::{ErrorKind, RedisError, ServerError, Value};

use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, address::Address};
use crate::error::{OnlineError, StoreFailure};

/// What went wrong, and where. Several callers can be told of the same attempt, hence `Clone`.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The server, where it is not the only one.
    at: Option<Address>,
    fault: Fault,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// What the client says.
    Client(RedisError),
    /// What the server says.
    Server(ServerError),
    /// No connection in time.
    NotReached,
    /// A connection over TLS that was closed before the first answer.
    Closed,
    /// No answer in time.
    Slow,
    /// A replica, which takes no writes and may have old rows.
    Replica,
    /// A slot that no node of the cluster serves.
    Unserved(u16),
    /// No sentinel could say where the master is.
    NoMaster(String),
    /// A sentinel that watches no master of this name.
    UnknownMaster(String),
    /// Files for TLS that cannot be used.
    TlsFile(String),
    /// An answer that no such command has.
    Unexpected(&'static str),
}

impl Failure {
    /// This failure, and the server at which it happened.
    pub(super) fn at(self, address: &Address) -> Self {
        Self {
            at: Some(self.at.unwrap_or_else(|| address.clone())),
            ..self
        }
    }

    /// This failure of a connection over TLS that has not brought any answer yet. A server that does not accept a
    /// certificate says so when the handshake is over and closes the connection, so that it may be found closed first.
    pub(super) fn over_tls(self) -> Self {
        match &self.fault {
            Fault::Client(err)
                if err.is_connection_dropped()
                    && !err.is_connection_refusal()
                    && tls_error(err).is_none() =>
            {
                Self {
                    fault: Fault::Closed,
                    ..self
                }
            }
            _ => self,
        }
    }

    /// Whether another try on another connection may do better at once: the connection was lost, or there was none.
    pub(super) fn is_lost(&self) -> bool {
        match &self.fault {
            Fault::Client(err) if err.kind() == ErrorKind::AuthenticationFailed => false,
            Fault::Client(err) => err.is_io_error() || err.is_unrecoverable_error(),
            Fault::Replica | Fault::NotReached | Fault::Closed => true,
            _ => false,
        }
    }

    /// What the caller is told. `action` is what was to be done, such as "read rows".
    pub(super) fn told(self, store: &str, action: &str) -> OnlineError {
        let store = store.to_owned();
        let source = match self.fault {
            Fault::Client(ref err) if self.at.is_none() && tls_error(err).is_none() => {
                StoreFailure::Redis(err.clone())
            }
            _ => StoreFailure::Other(self.to_string()),
        };
        match self.fault.kind() {
            Kind::Unavailable => OnlineError::Unavailable { store, source },
            Kind::Denied => OnlineError::Denied { store, source },
            Kind::Full => OnlineError::Full { store, source },
            Kind::Failed => OnlineError::Failed {
                store,
                action: action.to_owned(),
                source,
            },
        }
    }
}

/// The kinds of [`OnlineError`] that a server can cause.
enum Kind {
    Unavailable,
    Denied,
    Full,
    Failed,
}

impl Fault {
    fn kind(&self) -> Kind {
        match self {
            // A replica is one because of a failover that goes on, or since the url names the wrong server: the first
            // heals, and the second is told in words.
            Self::NotReached
            | Self::Closed
            | Self::Slow
            | Self::Replica
            | Self::Unserved(_)
            | Self::NoMaster(_) => Kind::Unavailable,
            Self::UnknownMaster(_) | Self::TlsFile(_) | Self::Unexpected(_) => Kind::Failed,
            Self::Client(err) if err.kind() == ErrorKind::AuthenticationFailed => Kind::Denied,
            Self::Client(err) => match tls_error(err) {
                Some(rustls::Error::AlertReceived(_)) => Kind::Denied,
                Some(_) => Kind::Failed,
                None if err.is_io_error() || err.is_timeout() => Kind::Unavailable,
                None => Kind::Failed,
            },
            Self::Server(err) => match err.code() {
                "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "READONLY"
                | "NOREPLICAS" => Kind::Unavailable,
                "NOAUTH" | "WRONGPASS" | "NOPERM" => Kind::Denied,
                "OOM" => Kind::Full,
                _ => Kind::Failed,
            },
        }
    }
}

/// What the library for TLS says, when it was the one.
fn tls_error(err: &RedisError) -> Option<&rustls::Error> {
    let source = err.source()?;
    let shared = source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>();
    let source: &(dyn std::error::Error + 'static) = match shared {
        Some(shared) => &**shared,
        None => source,
    };
    let io: &io::Error = source.downcast_ref()?;
    io.get_ref()?.downcast_ref()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = &self.at {
            write!(f, "{address}: ")?;
        }
        match &self.fault {
            Fault::Client(err) => match tls_error(err) {
                Some(err @ rustls::Error::AlertReceived(_)) => {
                    write!(f, "the server refuses the connection over TLS ({err})")
                }
                Some(err @ rustls::Error::InvalidCertificate(_)) => {
                    write!(f, "the server's certificate is not trusted ({err})")
                }
                Some(tls) => write!(f, "the server does not speak TLS as it should ({tls})"),
                None => err.fmt(f),
            },
            Fault::Server(err) => match err.code() {
                "MOVED" | "ASK" | "CROSSSLOT" => f.write_str(
                    "the server is a node of a Redis Cluster; name the nodes in `cluster`, not in `url`",
                ),
                "ERR" if err.details().is_some_and(|details| details.contains("cluster support disabled")) => {
                    f.write_str("the server is no node of a cluster; name it in `url`, not in `cluster`")
                }
                code => {
                    f.write_str(code)?;
                    err.details()
                        .map_or(Ok(()), |details| write!(f, " {details}"))
                }
            },
            Fault::NotReached => write!(f, "no connection within {} s", CONNECT_TIMEOUT.as_secs()),
            Fault::Closed => f.write_str(
                "the server closed the connection over TLS before it answered: it is going down, or it asks for a \
                 certificate that it trusts (`cert` and `key` of `tls`)",
            ),
            Fault::Slow => write!(f, "no answer within {} s", RESPONSE_TIMEOUT.as_secs()),
            Fault::Replica => f.write_str(
                "the server is a read-only replica, whose rows may be old; give the url of the primary, or name the \
                 sentinels or the cluster, which know where it is",
            ),
            Fault::Unserved(slot) => {
                write!(f, "no node of the cluster serves the hash slot {slot}")
            }
            Fault::UnknownMaster(name) => write!(
                f,
                "the sentinel watches no master `{name}`; check the name in `sentinel`"
            ),
            Fault::NoMaster(why) | Fault::TlsFile(why) => f.write_str(why),
            Fault::Unexpected(what) => f.write_str(what),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { at: None, fault }
    }
}

impl From<RedisError> for Failure {
    fn from(err: RedisError) -> Self {
        match ServerError::try_from(err) {
            Ok(err) => Fault::Server(err).into(),
            Err(err) => Fault::Client(err).into(),
        }
    }
}

/// An answer that is no error.
pub(super) fn sound(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::ServerError(err) => Err(Fault::Server(err).into()),
        answer => Ok(answer),
    }
}

/// The code of an error answer.
pub(super) fn code(answer: &Value) -> Option<&str> {
    match answer {
        Value::ServerError(err) => Some(err.code()),
        _ => None,
    }
}

/// An answer as a number.
pub(super) fn integer(answer: Value) -> Result<i64, Failure> {
    match sound(answer)? {
        Value::Int(number) => Ok(number),
        _ => Err(Fault::Unexpected("the answer is no number").into()),
    }
}

/// An answer as text.
pub(super) fn text(answer: Value) -> Result<String, Failure> {
    match sound(answer)? {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Ok(text),
        _ => Err(Fault::Unexpected("the answer is no text").into()),
    }
}

/// An answer as bytes; none when there is no such key.
pub(super) fn bytes(answer: Value) -> Result<Option<Vec<u8>>, Failure> {
    match sound(answer)? {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::Nil => Ok(None),
        _ => Err(Fault::Unexpected("the answer is neither bytes nor nothing").into()),
    }
}
