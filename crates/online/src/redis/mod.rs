//! The online store in Redis: one server, the master that sentinels name, or a cluster, each with or without TLS.
//!
//! Keys, values, expiry and the scripts are described in `docs/formats/online-row.md`; how Redis should be set up in
//! `docs/redis.md`. Start at [`servers`]: commands go in, answers come out. `server` is one server and its connections,
//! `connect` makes one of them, `sentinel` and `cluster` find the servers; `fetch`, `write`, `replace`,
//! `listing`, `load` (with `mark`) and `check` are what is done with them; `tracked` names the servers to the near cache; `errors` says
//! what the caller is told.
//!
//! * Holds always: every call can be repeated, and one whose connection is lost is, within its time; what was sent and
//!   not answered is an error. Rows are only read from primaries.
//! * Bounds: connecting takes at most [`CONNECT_TIMEOUT`]. A read, and one batch of writes, takes at most
//!   [`RESPONSE_TIMEOUT`], with connecting, redirections and repetitions.
//! * Not here: the near cache.

mod address;
mod attempt;
mod check;
mod cluster;
mod config;
mod connect;
mod errors;
mod fetch;
mod keys;
mod listing;
mod load;
mod mark;
mod pipe;
mod probe;
mod replace;
mod resp;
mod script;
mod sentinel;
mod server;
mod servers;
mod slot;
mod tracked;
mod url;
mod write;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Script;
use vintner_core::{EntityKey, ProjectName, ViewId};

pub use address::Address;
pub use config::{Login, RedisConfig, RedisServers, SentinelConfig, TlsFiles};
pub use url::{RedisUrl, RedisUrlError};

#[cfg(test)]
pub(crate) use self::keys::row_key;
pub(crate) use self::server::field as info_field;
#[cfg(test)]
pub(crate) use self::slot::slot as slot_of;
use self::{
    errors::Failure,
    keys::RowKeys,
    servers::{Servers, within},
};
use crate::{
    error::OnlineError,
    near_cache::{TrackedServer, TrackedStore},
    store::{
        Expiry, KeyCursor, KeyPage, Load, Lookup, OnlineRow, OnlineStore, Probe, Replacement,
        StoreInfo, WriteReport,
    },
};

/// How long connecting to a server may take, finding it and logging in included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a read or one batch of writes may take, whatever happens.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the sentinels may take to say where the master is: the rest of the time is for the master.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(500);
/// Connections per server.
const CONNECTIONS: usize = 1;
/// How long sent data may go unacknowledged before the connection counts as lost: a server whose machine is gone does
/// not say so.
#[cfg(target_os = "linux")]
const LOST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is idle before it is probed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Rows per batch of writes, so that no other client waits long behind one.
const WRITE_ROWS: usize = 128;
/// Bytes of rows per batch of writes, for the same reason.
const WRITE_BYTES: usize = 1 << 20;
/// Batches of one call that are on their way at one time, so that the server never waits for the next one.
const BATCHES_AT_ONCE: usize = 8;
/// Keys per command of a read, and per batch of deletions.
const READ_KEYS: usize = 512;
/// Keys that one page of a listing looks at.
const SCAN_KEYS: usize = 1000;

/// The online store in Redis. Connects when it is first used.
pub struct RedisStore {
    name: String,
    servers: Servers,
    /// The hash of the script that writes rows.
    write: String,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store in these servers, which are not contacted yet. Paths of files for TLS are relative to the working folder.
    ///
    /// # Errors
    /// [`OnlineError::Failed`] when files for TLS cannot be used.
    pub fn new(config: RedisConfig) -> Result<Self, OnlineError> {
        let name = config.to_string();
        let servers = Servers::new(&config).map_err(|failure| failure.told(&name, "be set up"))?;
        Ok(Self {
            name,
            servers,
            write: Script::new(script::WRITE).get_hash().to_owned(),
        })
    }

    /// What the caller is told of a failure.
    fn told(&self, action: impl Into<String>) -> impl Fn(Failure) -> OnlineError {
        let action = action.into();
        move |failure| failure.told(&self.name, &action)
    }
}

#[async_trait]
impl OnlineStore for RedisStore {
    async fn write(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        rows: &[OnlineRow],
    ) -> Result<WriteReport, OnlineError> {
        write::write(&self.servers, &self.write, project, view, expiry, rows)
            .await
            .map_err(self.told(format!("write rows of {view}")))
    }

    async fn read(
        &self,
        project: &ProjectName,
        lookups: &[Lookup<'_>],
    ) -> Result<Vec<Vec<Option<Bytes>>>, OnlineError> {
        // All keys stand in one buffer, one after the other.
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for lookup in lookups {
            let row_keys = RowKeys::new(project, lookup.view);
            for key in lookup.keys {
                row_keys.append(key, &mut bytes);
                ends.push(bytes.len());
            }
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let ranges = starts.zip(&ends);
        let keys: Vec<&[u8]> = ranges
            .map(|(start, &end)| bytes.get(start..end).unwrap_or_default())
            .collect();
        let values = within(fetch::fetch(&self.servers, &keys))
            .await
            .map_err(self.told("read rows"))?;
        let mut values = values.into_iter();
        let rows = |lookup: &Lookup<'_>| values.by_ref().take(lookup.keys.len()).collect();
        Ok(lookups.iter().map(rows).collect())
    }

    async fn load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        load::load(&self.servers, project, view)
            .await
            .map_err(self.told(format!("read the progress of {view}")))
    }

    async fn begin_load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        load::begin(&self.servers, project, view)
            .await
            .map_err(self.told(format!("begin to load {view}")))
    }

    async fn end_load(
        &self,
        project: &ProjectName,
        view: &ViewId,
        load: &Load,
        progress: &[u8],
    ) -> Result<(), OnlineError> {
        let noted = load::end(&self.servers, project, view, load, progress)
            .await
            .map_err(self.told(format!("note the progress of {view}")))?;
        match noted {
            true => Ok(()),
            false => Err(OnlineError::LostRows {
                store: self.name.clone(),
                view: view.clone(),
            }),
        }
    }

    async fn keys(
        &self,
        project: &ProjectName,
        view: &ViewId,
        from: Option<&KeyCursor>,
    ) -> Result<KeyPage, OnlineError> {
        within(listing::keys(&self.servers, project, view, from))
            .await
            .map_err(self.told(format!("list the entities of {view}")))
    }

    async fn delete_rows(
        &self,
        project: &ProjectName,
        view: &ViewId,
        keys: &[EntityKey],
    ) -> Result<u64, OnlineError> {
        write::delete(&self.servers, project, view, keys)
            .await
            .map_err(self.told(format!("delete rows of {view}")))
    }

    async fn replace(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        replacements: &[Replacement],
    ) -> Result<u64, OnlineError> {
        replace::replace(&self.servers, project, view, expiry, replacements)
            .await
            .map_err(self.told(format!("replace rows of {view}")))
    }

    async fn forget(&self, project: &ProjectName, view: &ViewId) -> Result<(), OnlineError> {
        load::forget(&self.servers, project, view)
            .await
            .map_err(self.told(format!("forget the progress of {view}")))
    }

    async fn probe(&self) -> Result<Probe, OnlineError> {
        probe::probe(&self.servers)
            .await
            .map_err(self.told("be tried out"))
    }

    async fn check(&self) -> Result<StoreInfo, OnlineError> {
        let found = check::check(&self.servers)
            .await
            .map_err(self.told("describe itself"))?;
        Ok(StoreInfo {
            store: self.name.clone(),
            version: found.version,
            warnings: found.warnings,
        })
    }
}

#[async_trait]
impl TrackedStore for RedisStore {
    async fn servers(&self) -> Result<Vec<TrackedServer>, OnlineError> {
        within(tracked::servers(&self.servers))
            .await
            .map_err(self.told("say which servers it is"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
