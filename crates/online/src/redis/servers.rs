//! The servers of a store, whichever way they are found: commands go in, answers come out.

use std::{future::Future, sync::Arc};

use redis::{Cmd, Pipeline, Value};
use tokio::time::timeout;

use super::{
    RESPONSE_TIMEOUT,
    address::Address,
    cluster::Cluster,
    config::{RedisConfig, RedisServers, TlsFiles},
    connect::Access,
    errors::{Failure, Fault},
    sentinel::Sentinels,
    server::{Place, Server},
    slot,
};

/// Where commands go.
pub(super) enum Servers {
    /// To one server.
    One(Arc<Server>),
    /// To the node of a cluster that has the key.
    Cluster(Cluster),
}

/// A command whose keys are all in one slot.
pub(super) struct Keyed {
    /// As [`Servers::slot`] gives it.
    pub(super) slot: u16,
    pub(super) command: Cmd,
}

impl Servers {
    /// None of the servers is contacted yet; the files for TLS are read.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, Failure> {
        let files = |is_tls: bool| is_tls.then(|| config.tls.clone().unwrap_or_default());
        match &config.servers {
            RedisServers::One(url) => {
                let access = Access::new(&url.login, url.database.unwrap_or(0), files(url.tls));
                access.check()?;
                let place = Place::Primary(access, url.address.clone());
                Ok(Self::One(Arc::new(Server::new(place))))
            }
            RedisServers::Sentinel(sentinel) => {
                let sentinels = Sentinels::new(sentinel, config.tls.clone());
                sentinels.check()?;
                Ok(Self::One(Arc::new(Server::new(Place::Master(sentinels)))))
            }
            RedisServers::Cluster(seeds) => {
                let addresses: Vec<Address> =
                    seeds.iter().map(|seed| seed.address.clone()).collect();
                let first = seeds.first();
                let tls: Option<TlsFiles> = files(first.is_some_and(|seed| seed.tls));
                let login = first.map(|seed| seed.login.clone()).unwrap_or_default();
                let cluster = Cluster::new(&addresses, &login, tls);
                cluster.check()?;
                Ok(Self::Cluster(cluster))
            }
        }
    }

    /// Keys of one slot may stand in one command. One server takes all keys together.
    pub(super) fn slot(&self, key: &[u8]) -> u16 {
        match self {
            Self::One(_) => 0,
            Self::Cluster(_) => slot::slot(key),
        }
    }

    /// How many of so many keys may stand in one command, at least one. In a cluster one: others of its slot are rare, and
    /// may have moved to another node while the slot does.
    pub(super) fn keys_together(&self, keys: usize) -> usize {
        match self {
            Self::One(_) => keys.max(1),
            Self::Cluster(_) => 1,
        }
    }

    /// A command on one key.
    pub(super) fn keyed(&self, key: &[u8], command: Cmd) -> Keyed {
        Keyed {
            slot: self.slot(key),
            command,
        }
    }

    /// Sends commands, all at once, and gives their answers in the same order, errors of the server's included. What is
    /// sent on a connection that is lost is sent again, so commands must be such as can be repeated.
    ///
    /// Not bounded in time; see [`within`].
    pub(super) async fn send(&self, commands: Vec<Keyed>) -> Result<Vec<Value>, Failure> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Cluster(cluster) => cluster.send(commands).await,
            Self::One(server) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for Keyed { command, .. } in commands {
                    pipeline.add_command(command);
                }
                server.ask(&pipeline).await
            }
        }
    }

    /// Sends one command on one key.
    pub(super) async fn send_one(&self, key: &[u8], command: Cmd) -> Result<Value, Failure> {
        let answers = self.send(vec![self.keyed(key, command)]).await?;
        Ok(answers.into_iter().next().unwrap_or(Value::Nil))
    }

    /// The servers that together have all keys, asked for anew.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Server>>, Failure> {
        match self {
            Self::One(server) => Ok(vec![Arc::clone(server)]),
            Self::Cluster(cluster) => cluster.primaries().await,
        }
    }
}

/// What an exchange with the servers gives, in bounded time: connecting, sending, redirections and repetitions together
/// take no longer than [`RESPONSE_TIMEOUT`].
pub(super) async fn within<T>(
    exchange: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(RESPONSE_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(Fault::Slow.into()))
}
