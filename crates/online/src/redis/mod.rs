//! The online store in Redis.
//!
//! Keys, values, expiry and the script that compares row times are described in `docs/formats/online-row.md`.
//! Every key of a call belongs to one script call or one read, so nothing here needs more than one node's answer.
//!
//! Bounds: a connection attempt takes at most [`CONNECT_TIMEOUT`], an answer at most [`RESPONSE_TIMEOUT`]; a call
//! whose connection is lost is made once more on a new one, which is harmless since every call here can be repeated.
//! Not here: Sentinel, Cluster, TLS and the near cache.

mod listing;
mod replace;

use std::{
    fmt,
    str::FromStr,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{
    Client, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisResult,
    Script, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use url::Url;
use vintner_core::{EntityKey, ProjectName, ViewId};

use crate::{
    error::{OnlineError, StoreFailure},
    near_cache::{TrackedServer, TrackedStore},
    row::PackedRow,
    store::{
        Expiry, KeyCursor, KeyPage, Load, Lookup, OnlineRow, OnlineStore, Remaining, Replacement,
        StoreInfo, WriteReport,
    },
};

/// How long one connection attempt may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one answer may take, of a read or of one batch of writes.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long sent data may go unacknowledged before the connection counts as lost: a server whose machine is gone does
/// not say so.
#[cfg(target_os = "linux")]
const LOST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is idle before it is probed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Rows per pipeline of writes, so that no other client waits long behind one.
const WRITE_ROWS: usize = 512;
/// Bytes of rows per pipeline of writes, for the same reason.
const WRITE_BYTES: usize = 1 << 20;
/// Keys per command of a read.
const READ_KEYS: usize = 512;

/// Sets a row unless the stored one is newer. The times are compared as numbers, since Lua compares text by the
/// server's locale. 1: written. 0: what is stored is newer.
const WRITE_SCRIPT: &str = r"
local stored = redis.call('GETRANGE', KEYS[1], 1, 16)
if #stored == 16 then
    local old = {struct.unpack('>I4I4I4I4', stored)}
    local new = {struct.unpack('>I4I4I4I4', string.sub(ARGV[1], 2, 17))}
    for i = 1, 4 do
        if old[i] > new[i] then return 0 end
        if old[i] < new[i] then break end
    end
end
if ARGV[2] == 'gone' then
    redis.call('DEL', KEYS[1])
elseif ARGV[2] == 'forever' then
    redis.call('SET', KEYS[1], ARGV[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
";

/// Notes how far a load has come, unless rows of it may be gone. A server names each of its lives; one that was
/// started again may have lost the last writes that it acknowledged. One that was emptied has no note of the load's
/// beginning. 1: noted. 0: not.
const END_LOAD_SCRIPT: &str = r"
if ARGV[1] ~= '' and not string.find(redis.call('INFO', 'server'), 'run_id:' .. ARGV[1], 1, true) then return 0 end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
";

/// Where a Redis server is. Shown without its user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    url: Url,
}

/// Why a text is not a [`RedisUrl`]. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// Not such a URL at all.
    #[error(
        "the url of the online store is not a Redis URL; write redis://[user:password@]host[:port][/database]"
    )]
    Malformed,
    /// A connection with TLS.
    #[error(
        "the url of the online store asks for TLS (rediss), which is not supported yet; write redis://…"
    )]
    Tls,
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let url: Url = text.parse().map_err(|_| RedisUrlError::Malformed)?;
        match url.scheme() {
            "redis" if url.host_str().is_some_and(|host| !host.is_empty()) => {}
            "rediss" => return Err(RedisUrlError::Tls),
            _ => return Err(RedisUrlError::Malformed),
        }
        Client::open(url.clone()).map_err(|_| RedisUrlError::Malformed)?;
        Ok(Self { url })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().unwrap_or(6379);
        write!(f, "redis://{host}:{port}{}", self.url.path())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The online store in Redis. Connects when it is first used.
pub struct RedisStore {
    url: RedisUrl,
    /// Replaced when the server has turned its login down, which the manager would not try again.
    connection: RwLock<ConnectionManager>,
    write: Script,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store at `url`, which is not contacted yet.
    ///
    /// # Errors
    /// [`OnlineError::Failed`] when the client does not take the URL.
    pub fn new(url: RedisUrl) -> Result<Self, OnlineError> {
        let connection = connection(&url).map_err(|source| OnlineError::Failed {
            store: url.to_string(),
            action: "be set up".to_owned(),
            source: source.into(),
        })?;
        Ok(Self {
            url,
            connection: RwLock::new(connection),
            write: Script::new(WRITE_SCRIPT),
        })
    }

    async fn query<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        action: &str,
    ) -> Result<T, OnlineError> {
        let mut connection = {
            let connection = self.connection.read();
            connection.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let mut answer = pipeline.query_async(&mut connection).await;
        if matches!(&answer, Err(err) if err.is_connection_dropped()) {
            answer = pipeline.query_async(&mut connection).await;
        }
        if matches!(&answer, Err(err) if err.kind() == ErrorKind::AuthenticationFailed) {
            self.forget_connection();
        }
        answer.map_err(|err| self.failure(err, action))
    }

    /// Lets the next call log in anew: the user may have been given access meanwhile.
    fn forget_connection(&self) {
        if let Ok(fresh) = connection(&self.url) {
            let mut connection = self
                .connection
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *connection = fresh;
        }
    }

    fn failure(&self, err: RedisError, action: &str) -> OnlineError {
        let store = self.url.to_string();
        let answer = err.clone().into_server_errors();
        let code = answer
            .as_ref()
            .and_then(|answer| answer.first())
            .map(|(_, err)| err.code());
        let unreachable = err.is_io_error() || err.is_timeout();
        let denied = err.kind() == ErrorKind::AuthenticationFailed;
        let source = StoreFailure::from(err);
        match code {
            None if unreachable => OnlineError::Unavailable { store, source },
            None if denied => OnlineError::Denied { store, source },
            Some("LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN") => {
                OnlineError::Unavailable { store, source }
            }
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => OnlineError::Denied { store, source },
            Some("OOM") => OnlineError::Full { store, source },
            _ => OnlineError::Failed {
                store,
                action: action.to_owned(),
                source,
            },
        }
    }

    /// The server as the store's connection reaches it, and how to reach it with another one.
    async fn server(&self) -> Result<TrackedServer, OnlineError> {
        let action = "say which server it is";
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("server");
        let (info,): (String,) = self.query(&pipeline, action).await?;
        Ok(TrackedServer {
            run_id: info_field(&info, "run_id").unwrap_or_default().to_owned(),
            client: client(&self.url).map_err(|err| self.failure(err, action))?,
        })
    }

    /// What stands for the progress of a view, empty until a first load has ended, and the server's life.
    async fn noted(
        &self,
        key: &str,
        action: &str,
    ) -> Result<(Option<Vec<u8>>, String), OnlineError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("server").cmd("GET").arg(key);
        let (server, noted): (String, Option<Vec<u8>>) = self.query(&pipeline, action).await?;
        let life = info_field(&server, "run_id").unwrap_or_default();
        Ok((noted, life.to_owned()))
    }

    fn unexpected(&self, action: &str, what: &str) -> OnlineError {
        OnlineError::Failed {
            store: self.url.to_string(),
            action: action.to_owned(),
            source: StoreFailure::Other(what.to_owned()),
        }
    }

    /// Sends one batch of writes; when the server does not have the script, gives it the script and sends again.
    async fn write_batch(
        &self,
        pipeline: &Pipeline,
        action: &str,
    ) -> Result<WriteReport, OnlineError> {
        for _ in 0..3 {
            let answers: Vec<RedisResult<i64>> = self.query(pipeline, action).await?;
            let no_script = |answer: &RedisResult<i64>| matches!(answer, Err(err) if err.kind() == ErrorKind::Server(ServerErrorKind::NoScript));
            if answers.iter().any(no_script) {
                let mut load = redis::pipe();
                load.cmd("SCRIPT").arg("LOAD").arg(WRITE_SCRIPT).ignore();
                self.query::<()>(&load, action).await?;
                continue;
            }
            let mut report = WriteReport::default();
            for answer in answers {
                match answer.map_err(|err| self.failure(err, action))? {
                    1 => report.written += 1,
                    0 => report.kept += 1,
                    _ => return Err(self.unexpected(action, "the script gave neither 0 nor 1")),
                }
            }
            return Ok(report);
        }
        Err(self.unexpected(
            action,
            "the server forgets the script that compares row times as soon as it is given",
        ))
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
        let action = format!("write rows of {view}");
        let mut report = WriteReport::default();
        let mut rows = rows.iter().peekable();
        while rows.peek().is_some() {
            let mut pipeline = redis::pipe();
            pipeline.ignore_errors();
            let mut bytes = 0;
            while let Some(row) =
                rows.next_if(|_| pipeline.len() < WRITE_ROWS && bytes < WRITE_BYTES)
            {
                bytes += row.row.as_bytes().len();
                pipeline
                    .cmd("EVALSHA")
                    .arg(self.write.get_hash())
                    .arg(1)
                    .arg(row_key(project, view, &row.key))
                    .arg(row.row.as_bytes())
                    .arg(lifetime(expiry, &row.row));
            }
            report += self.write_batch(&pipeline, &action).await?;
        }
        Ok(report)
    }

    async fn read(
        &self,
        project: &ProjectName,
        lookups: &[Lookup<'_>],
    ) -> Result<Vec<Vec<Option<Bytes>>>, OnlineError> {
        let keys: Vec<Vec<u8>> = lookups
            .iter()
            .flat_map(|lookup| {
                lookup
                    .keys
                    .iter()
                    .map(|key| row_key(project, lookup.view, key))
            })
            .collect();
        if keys.is_empty() {
            return Ok(lookups.iter().map(|_| Vec::new()).collect());
        }
        let mut pipeline = redis::pipe();
        for keys in keys.chunks(READ_KEYS) {
            pipeline.cmd("MGET").arg(keys);
        }
        let action = "read rows";
        let values: Vec<Vec<Option<Vec<u8>>>> = self.query(&pipeline, action).await?;
        let mut values = values.into_iter().flatten();
        let mut take = |count: usize| -> Vec<Option<Bytes>> {
            values
                .by_ref()
                .take(count)
                .map(|value| value.map(Bytes::from))
                .collect()
        };
        let rows: Vec<_> = lookups
            .iter()
            .map(|lookup| take(lookup.keys.len()))
            .collect();
        let complete = rows
            .iter()
            .zip(lookups)
            .all(|(rows, lookup)| rows.len() == lookup.keys.len());
        if complete && take(1).is_empty() {
            Ok(rows)
        } else {
            Err(self.unexpected(
                action,
                "the answer has another number of values than were asked for",
            ))
        }
    }

    async fn load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        let action = format!("read the progress of {view}");
        let (noted, life) = self.noted(&progress_key(project, view), &action).await?;
        Ok(load_of(noted, life))
    }

    async fn begin_load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        let action = format!("begin to load {view}");
        let key = progress_key(project, view);
        let (noted, life) = self.noted(&key, &action).await?;
        if noted.is_none() {
            // Another load may have ended since the reading, hence NX.
            let mut pipeline = redis::pipe();
            pipeline.cmd("SET").arg(&key).arg("").arg("NX").ignore();
            self.query::<()>(&pipeline, &action).await?;
        }
        Ok(load_of(noted, life))
    }

    async fn end_load(
        &self,
        project: &ProjectName,
        view: &ViewId,
        load: &Load,
        progress: &[u8],
    ) -> Result<(), OnlineError> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("EVAL")
            .arg(END_LOAD_SCRIPT)
            .arg(1)
            .arg(progress_key(project, view))
            .arg(&load.life)
            .arg(progress);
        let action = format!("note the progress of {view}");
        let (noted,): (i64,) = self.query(&pipeline, &action).await?;
        match noted {
            1 => Ok(()),
            _ => Err(OnlineError::LostRows {
                store: self.url.to_string(),
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
        listing::keys(self, project, view, from).await
    }

    async fn delete_rows(
        &self,
        project: &ProjectName,
        view: &ViewId,
        keys: &[EntityKey],
    ) -> Result<u64, OnlineError> {
        let action = format!("delete rows of {view}");
        let mut deleted = 0;
        for keys in keys.chunks(READ_KEYS) {
            let mut pipeline = redis::pipe();
            let keys: Vec<_> = keys.iter().map(|key| row_key(project, view, key)).collect();
            pipeline.cmd("UNLINK").arg(keys);
            let (count,): (u64,) = self.query(&pipeline, &action).await?;
            deleted += count;
        }
        Ok(deleted)
    }

    async fn replace(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        replacements: &[Replacement],
    ) -> Result<u64, OnlineError> {
        replace::replace(self, project, view, expiry, replacements).await
    }

    async fn forget(&self, project: &ProjectName, view: &ViewId) -> Result<(), OnlineError> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("DEL")
            .arg(progress_key(project, view))
            .ignore();
        let action = format!("forget the progress of {view}");
        self.query::<()>(&pipeline, &action).await
    }

    async fn check(&self) -> Result<StoreInfo, OnlineError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg("server").cmd("INFO").arg("memory");
        let (server, memory): (String, String) = self.query(&pipeline, "describe itself").await?;
        let policy = info_field(&memory, "maxmemory_policy").unwrap_or("noeviction");
        let mut warnings = Vec::new();
        if policy != "noeviction" {
            warnings.push(format!(
                "its maxmemory-policy is {policy}: rows that it evicts read as NOT_FOUND; set it to noeviction"
            ));
        }
        Ok(StoreInfo {
            store: self.url.to_string(),
            version: format!(
                "Redis {}",
                info_field(&server, "redis_version").unwrap_or("of unknown version")
            ),
            warnings,
        })
    }
}

#[async_trait]
impl TrackedStore for RedisStore {
    async fn servers(&self) -> Result<Vec<TrackedServer>, OnlineError> {
        Ok(vec![self.server().await?])
    }
}

fn client(url: &RedisUrl) -> RedisResult<Client> {
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE));
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(LOST_TIMEOUT);
    let info = url
        .url
        .clone()
        .into_connection_info()?
        .set_tcp_settings(tcp);
    Client::open(info)
}

/// A connection that is made when it is first used and made anew when it is lost.
fn connection(url: &RedisUrl) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client(url)?, config)
}

/// `vn:{<project>|<entity key>}:<view id>`. The braces keep one entity's views in one cluster slot.
pub(crate) fn row_key(project: &ProjectName, view: &ViewId, key: &EntityKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + key.as_bytes().len());
    bytes.extend_from_slice(b"vn:{");
    bytes.extend_from_slice(project.as_str().as_bytes());
    bytes.push(b'|');
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(format!("}}:{view}").as_bytes());
    bytes
}

/// `vn:progress:<project>:<view id>`; no row key begins so.
fn progress_key(project: &ProjectName, view: &ViewId) -> String {
    format!("vn:progress:{project}:{view}")
}

fn load_of(noted: Option<Vec<u8>>, life: String) -> Load {
    Load {
        begun: noted.is_some(),
        progress: noted.filter(|noted| !noted.is_empty()),
        life,
    }
}

/// How long a row may stay, as the scripts are told it.
fn lifetime(expiry: Option<Expiry>, row: &PackedRow) -> String {
    match expiry.map_or(Remaining::Forever, |expiry| {
        expiry.remaining(row.time().event)
    }) {
        Remaining::Gone => "gone".to_owned(),
        Remaining::Forever => "forever".to_owned(),
        Remaining::For(time) => time.as_micros().div_ceil(1000).to_string(),
    }
}

pub(crate) fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
mod tests;
