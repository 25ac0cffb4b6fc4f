//! The URL of a Redis server.

use std::{fmt, str::FromStr};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use url::Url;

use super::{address::Address, config::Login};

/// Where a Redis server is, who asks it, and whether with TLS. Shown without its user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where it listens.
    pub address: Address,
    /// Who asks it.
    pub login: Login,
    /// Which of its databases; none is the first one, 0.
    pub database: Option<i64>,
    /// Whether with TLS: `rediss://`.
    pub tls: bool,
}

/// Why a text is not a [`RedisUrl`]. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the url of the online store is not a Redis URL; write redis://[user:password@]host[:port][/database], or \
     rediss:// for TLS"
)]
pub struct RedisUrlError;

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let url: Url = text.parse().map_err(|_| RedisUrlError)?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(RedisUrlError),
        };
        if url.host_str().is_none_or(str::is_empty) {
            return Err(RedisUrlError);
        }
        let is_numbered = !url.path().trim_matches('/').is_empty();
        let info: ConnectionInfo = url.into_connection_info().map_err(|_| RedisUrlError)?;
        let settings = info.redis_settings();
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port),
            // The part after `#`, which would leave the host's name unchecked, is not for us.
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                ..
            } => (host.clone(), *port),
            _ => return Err(RedisUrlError),
        };
        let (host, port) = address;
        Ok(Self {
            address: Address { host, port },
            login: Login {
                user: settings.username().map(str::to_owned),
                password: settings.password().map(str::to_owned),
            },
            database: is_numbered.then(|| settings.db()),
            tls,
        })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}", self.address)?;
        match self.database {
            None => Ok(()),
            Some(database) => write!(f, "/{database}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
