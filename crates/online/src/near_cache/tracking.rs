//! Keeps the cache told of changes: one RESP3 connection per server, on which the server pushes the keys that change.
//!
//! Bounds: a server is asked every [`PROBE_INTERVAL`] whether it is still there. What is cached is given out for at
//! most [`LEASE`] after an answered question was sent. Not here: what a change does to the cache.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use redis::{
    Client, ProtocolVersion, PushInfo, PushKind, RedisError, Value,
    aio::{MultiplexedConnection, SendError},
};
use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use super::{
    lease::{Lease, Moment},
    row_key::PREFIX,
    shared::Shared,
};
use crate::{error::OnlineError, redis::info_field, store::OnlineStore};

/// How often a server is asked whether it is still there.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// How long what is cached is given out after the sending of the last question that was answered. Servers stop for some
/// hundred milliseconds when they fork to save; that alone must not empty every cache.
pub const LEASE: Duration = Duration::from_secs(1);

/// How long it takes at most until the next attempt to track a server that cannot be tracked.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A store whose servers can tell what changes in them.
#[async_trait]
pub trait TrackedStore: OnlineStore {
    /// The servers that hold the rows at this moment, as the store's own connections reach them. Always in the same
    /// order while they are the same.
    async fn servers(&self) -> Result<Vec<TrackedServer>, OnlineError>;
}

/// One server that holds rows.
#[derive(Clone, Debug)]
pub struct TrackedServer {
    /// What it calls this life of its: another one after a restart, and another one on every server.
    pub run_id: String,
    /// How to connect to it.
    pub client: Client,
}

/// Why tracking is off.
#[derive(Debug, thiserror::Error)]
enum TrackingError {
    #[error("a server does not tell what changes in it")]
    Redis(#[from] RedisError),
    #[error("the servers that hold the rows are not known")]
    Servers(#[from] OnlineError),
    #[error("the connection on which a server tells what changes was lost")]
    Lost,
    #[error("a server has not answered for {LEASE:?}")]
    Silent,
    #[error("the rows are on other servers than before")]
    Moved,
}

/// The connections of one time of tracking.
struct Session {
    servers: Vec<(String, MultiplexedConnection)>,
    link: Arc<Link>,
}

/// What the connections of a session tell the rest.
struct Link {
    shared: Weak<Shared>,
    lease: Arc<Lease>,
    lost: Notify,
}

/// Tracks the servers of a store until it is aborted: whenever tracking is off it tries again.
pub(super) async fn track(store: Arc<dyn TrackedStore>, shared: Arc<Shared>) {
    let _ends = EndOnDrop(&shared);
    let mut pause = PROBE_INTERVAL;
    let mut said = false;
    loop {
        let began = Moment::now();
        let why = match Session::open(&*store, &shared).await {
            Ok(session) => {
                tracing::info!("the near cache is on");
                (pause, said) = (PROBE_INTERVAL, false);
                session.keep(&*store).await
            }
            Err(why) => why,
        };
        shared.end();
        // Once, not at every attempt.
        if !said {
            warn(&why);
            said = true;
        }
        if began.after(pause) > Moment::now() {
            every(pause).tick().await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Session {
    /// Tracks all servers, and begins a generation of the cache when all of them tell.
    async fn open(store: &dyn TrackedStore, shared: &Arc<Shared>) -> Result<Self, TrackingError> {
        let link = Arc::new(Link {
            shared: Arc::downgrade(shared),
            // Nobody reads by it before the first probe has made it hold for longer.
            lease: Arc::new(Lease::until(Moment::now())),
            lost: Notify::new(),
        });
        let opening = async {
            let servers = store.servers().await?;
            let connections = servers.iter().map(|server| connect(server, &link));
            let connections = try_join_all(connections).await?;
            let ids = servers.into_iter().map(|server| server.run_id);
            Ok::<_, TrackingError>(Self {
                servers: ids.zip(connections).collect(),
                link: Arc::clone(&link),
            })
        };
        let session = timeout(LEASE, opening)
            .await
            .map_err(|_| TrackingError::Silent)??;
        session.probe(store).await?;
        shared.begin(Arc::clone(&link.lease));
        Ok(session)
    }

    /// Keeps the lease for as long as every server answers, and is the one that the store reads from.
    async fn keep(self, store: &dyn TrackedStore) -> TrackingError {
        let mut ticks = every(PROBE_INTERVAL);
        let probes = async {
            loop {
                ticks.tick().await;
                if let Err(why) = self.probe(store).await {
                    return why;
                }
            }
        };
        let why = tokio::select! {
            why = probes => why,
            () = self.link.lost.notified() => TrackingError::Lost,
        };
        self.link.lease.end();
        why
    }

    async fn probe(&self, store: &dyn TrackedStore) -> Result<(), TrackingError> {
        let sent = Moment::now();
        let probes = async {
            let answers = self.servers.iter().map(|(_, connection)| {
                let mut connection = connection.clone();
                async move { redis::cmd("PING").exec_async(&mut connection).await }
            });
            let (answers, servers) = futures::join!(join_all(answers), store.servers());
            answers.into_iter().collect::<Result<Vec<()>, _>>()?;
            Ok::<_, TrackingError>(servers?)
        };
        let servers = timeout(LEASE, probes)
            .await
            .map_err(|_| TrackingError::Silent)??;
        let there = servers.iter().map(|server| &server.run_id);
        if !there.eq(self.servers.iter().map(|(run_id, _)| run_id)) {
            return Err(TrackingError::Moved);
        }
        if !self.link.lease.extend(sent.after(LEASE)) {
            return Err(TrackingError::Lost);
        }
        Ok(())
    }
}

/// A connection on which the server tells every key of a row that changes.
async fn connect(
    server: &TrackedServer,
    link: &Arc<Link>,
) -> Result<MultiplexedConnection, TrackingError> {
    let info = server.client.get_connection_info();
    let settings = info.redis_settings().clone();
    let settings = settings.set_protocol(ProtocolVersion::RESP3);
    let info = info.clone().set_redis_settings(settings);
    let told = Arc::clone(link);
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LEASE))
        .set_response_timeout(Some(LEASE))
        .set_push_sender(move |push: PushInfo| {
            told.push(&push);
            Ok::<(), SendError>(())
        });
    let client = Client::open(info)?;
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let mut set_up = redis::pipe();
    set_up
        .cmd("CLIENT")
        .arg(&["TRACKING", "ON", "BCAST", "PREFIX", PREFIX])
        .ignore()
        .cmd("INFO")
        .arg("server");
    let (info,): (String,) = set_up.query_async(&mut connection).await?;
    // The same address may lead two connections to two servers.
    match info_field(&info, "run_id") {
        Some(run_id) if run_id == server.run_id => Ok(connection),
        _ => Err(TrackingError::Moved),
    }
}

impl Link {
    /// Runs where the connection is read, so what a push says is done before any later answer is given out.
    fn push(&self, push: &PushInfo) {
        match push.kind {
            PushKind::Disconnection => {
                self.lease.end();
                self.lost.notify_one();
            }
            PushKind::Invalidate => {
                let Some(shared) = self.shared.upgrade() else {
                    return;
                };
                match push.data.as_slice() {
                    [Value::Array(keys)] => keys.iter().for_each(|key| match key {
                        Value::BulkString(key) => shared.invalidate(key),
                        // No key, so it may mean any.
                        _ => shared.empty(),
                    }),
                    // Null, for all keys.
                    _ => shared.empty(),
                }
            }
            _ => {}
        }
    }
}

/// The cache must not outlive what tells it of changes.
struct EndOnDrop<'a>(&'a Shared);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn warn(why: &TrackingError) {
    let why = why as &dyn std::error::Error;
    tracing::warn!(error = why, "the near cache is off; reads go past it");
}

/// The first tick comes after one period.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
