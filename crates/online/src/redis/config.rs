//! Which Redis a deployment uses: one server, the master that sentinels name, or a cluster.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    address::Address,
    url::{RedisUrl, RedisUrlError},
};

/// An online store in Redis. Shown without passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// The servers.
    pub servers: RedisServers,
    /// Whom to trust and who we are, where TLS is spoken. A server at a URL speaks it when the URL says so; the
    /// servers of a [`SentinelConfig`] do when this is given.
    pub tls: Option<TlsFiles>,
}

/// How the servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server.
    One(RedisUrl),
    /// A cluster, of which these nodes are asked first. All have the same login, and TLS or not.
    Cluster(Vec<RedisUrl>),
    /// The master that sentinels name.
    Sentinel(SentinelConfig),
}

/// A master and the sentinels that know where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelConfig {
    /// What the sentinels call the master.
    pub master: String,
    /// The sentinels.
    pub nodes: Vec<Address>,
    /// What the master is told.
    pub login: Login,
    /// What the sentinels are told.
    pub sentinel_login: Login,
}

/// Who asks a server. Shown without the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user; none is the server's default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

/// PEM files. They are read whenever a connection is made, so that renewed certificates need no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that may vouch for a server; none: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate, with its chain, and the key that this process shows to a server that asks for them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// The same files, relative paths taken relative to a folder.
    pub fn below(&self, root: &Path) -> Self {
        Self {
            ca: self.ca.as_ref().map(|ca| root.join(ca)),
            identity: self
                .identity
                .as_ref()
                .map(|(cert, key)| (root.join(cert), root.join(key))),
        }
    }
}

/// One server, by its URL.
impl FromStr for RedisConfig {
    type Err = RedisUrlError;

    fn from_str(url: &str) -> Result<Self, RedisUrlError> {
        Ok(Self {
            servers: RedisServers::One(url.parse()?),
            tls: None,
        })
    }
}

/// What people are told the store is.
impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.servers {
            RedisServers::One(url) => url.fmt(f),
            RedisServers::Cluster(seeds) => {
                write!(f, "Redis Cluster at {}", list(seeds.iter()))
            }
            RedisServers::Sentinel(sentinel) => write!(
                f,
                "Redis master `{}` of the sentinels {}",
                sentinel.master,
                list(sentinel.nodes.iter())
            ),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

fn list<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(",")
}
