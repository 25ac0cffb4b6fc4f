//! One server: its connections, which are made when they are first used and made anew when they are lost.
//!
//! A call that finds a connection takes no lock and waits for nothing but its answer. Connections are multiplexed: any
//! number of calls are on their way at one time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::{FutureExt, future::try_join_all};
use redis::{Pipeline, RedisError, Value, aio::MultiplexedConnection};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    CONNECT_TIMEOUT, CONNECTIONS, READ_KEYS, RESPONSE_TIMEOUT,
    address::Address,
    attempt::Attempt,
    connect::Access,
    errors::{Failure, Fault, code, sound, text},
    pipe::{Pipe, command},
    resp,
    sentinel::Sentinels,
};
use crate::near_cache::TrackedServer;

/// Where a server is.
pub(super) enum Place {
    /// The only server, which must be no replica.
    Primary(Access, Address),
    /// A node of a cluster, which tells by itself when it is not the one to ask.
    Node(Access, Address),
    /// Wherever the sentinels say that the master is.
    Master(Sentinels),
}

impl Place {
    /// How to log in there.
    fn access(&self) -> &Access {
        match self {
            Self::Primary(access, _) | Self::Node(access, _) => access,
            Self::Master(sentinels) => sentinels.access(),
        }
    }
}

/// One server.
pub(super) struct Server {
    place: Arc<Place>,
    links: [Link; CONNECTIONS],
    next: AtomicUsize,
}

/// One connection, or none at the moment.
struct Link {
    current: ArcSwapOption<Connected>,
    attempt: Attempt<Arc<Connected>>,
}

/// A connection that was made.
pub(super) struct Connected {
    connection: MultiplexedConnection,
    /// For reads, where they need not go over `connection`; made with the first of them.
    pipe: OnceCell<Option<Pipe>>,
    address: Address,
    made: Instant,
    /// Since when the server owes an answer: milliseconds after `made`, and one; 0 when it owes none that is older
    /// than the last one it gave.
    waiting: AtomicU64,
    /// Whether it is over TLS and has not brought any answer yet.
    is_unproven: AtomicBool,
}

impl Server {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place: Arc::new(place),
            links: std::array::from_fn(|_| Link {
                current: ArcSwapOption::empty(),
                attempt: Attempt::new(),
            }),
            next: AtomicUsize::new(0),
        }
    }

    /// The address of a node of a cluster.
    pub(super) fn node(&self) -> Option<&Address> {
        match &*self.place {
            Place::Node(_, address) => Some(address),
            Place::Primary(..) | Place::Master(_) => None,
        }
    }

    /// Sends a pipeline, and gives every command's answer, errors included. Tries once.
    pub(super) async fn exchange(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Failure> {
        let link = self.link();
        let connected = link
            .connected(&self.place)
            .await
            .map_err(|err| self.named(err))?;
        let answers = connected.exchange(pipeline).await;
        // A master that has become a replica is not asked again; neither is a connection that is lost.
        let is_over = match &answers {
            Ok(answers) => answers.iter().any(is_read_only),
            Err(_) => true,
        };
        if is_over {
            link.forget(&connected);
        }
        answers.map_err(|err| self.named(err))
    }

    /// As [`Self::exchange`], but once more on a new connection when the one at hand is lost, or leads to a replica.
    pub(super) async fn ask(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Failure> {
        match self.exchange(pipeline).await {
            Ok(answers) if !answers.iter().any(is_read_only) => Ok(answers),
            Err(failure) if !failure.is_lost() => Err(failure),
            _ => self.exchange(pipeline).await,
        }
    }

    /// The values of keys in their order; none when reads have no connection of their own here. Once more on a new
    /// connection when the one at hand is lost.
    pub(super) async fn fetch<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Bytes>>>, Failure> {
        match self.fetch_once(keys).await {
            Err(failure) if failure.is_lost() => Box::pin(self.fetch_once(keys)).await,
            answer => answer,
        }
    }

    async fn fetch_once<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Bytes>>>, Failure> {
        let link = self.link();
        let connected = link
            .connected(&self.place)
            .await
            .map_err(|err| self.named(err))?;
        let pipe = connected.pipe(&self.place).await.map_err(|err| {
            link.forget(&connected);
            self.named(err)
        })?;
        let Some(pipe) = pipe else { return Ok(None) };
        connected.asks();
        let ask = async |keys: &[K]| {
            let keys = keys.iter().map(AsRef::as_ref);
            pipe.ask(|out| command(out, "MGET", keys)).await
        };
        let answers = match keys.len() {
            0 => Ok(Vec::new()),
            1..=READ_KEYS => ask(keys).await.map(|answer| vec![answer]),
            _ => Box::pin(try_join_all(keys.chunks(READ_KEYS).map(ask))).await,
        };
        let answers = answers.map_err(|err| {
            link.forget(&connected);
            self.named(RedisError::from(err).into())
        })?;
        connected.waiting.store(0, Ordering::Relaxed);
        let mut values = Vec::new();
        for (answer, keys) in answers.iter().zip(keys.chunks(READ_KEYS)) {
            let mut part = strings(answer).map_err(|err| self.named(err))?;
            if part.len() != keys.len() {
                return Err(Fault::Unexpected(
                    "the answer has another number of values than were asked for",
                )
                .into());
            }
            match values.is_empty() {
                true => values = part,
                false => values.append(&mut part),
            }
        }
        Ok(Some(values))
    }

    /// Which process the connection leads to, and how to reach it with another one. A replica is no answer.
    pub(super) async fn tracked(&self) -> Result<TrackedServer, Failure> {
        let link = self.link();
        let connected = link
            .connected(&self.place)
            .await
            .map_err(|err| self.named(err))?;
        let mut question = redis::pipe();
        question.cmd("INFO").arg("server");
        question.cmd("INFO").arg("replication");
        let told = async {
            let mut answers = connected.exchange(&question).await?.into_iter();
            let mut info = || text(answers.next().unwrap_or(Value::Nil));
            let (process, replication) = (info()?, info()?);
            if is_replica(&replication) {
                return Err(Fault::Replica.into());
            }
            Ok(TrackedServer {
                run_id: field(&process, "run_id").unwrap_or_default().to_owned(),
                client: self.place.access().client(&connected.address)?,
            })
        };
        let told: Result<_, Failure> = told.await;
        told.map_err(|err| {
            link.forget(&connected);
            self.named(err)
        })
    }

    fn link(&self) -> &Link {
        let turn = match CONNECTIONS {
            1 => 0,
            several => self.next.fetch_add(1, Ordering::Relaxed) % several,
        };
        &self.links[turn]
    }

    fn named(&self, failure: Failure) -> Failure {
        match self.node() {
            Some(address) => failure.at(address),
            None => failure,
        }
    }
}

impl Link {
    async fn connected(&self, place: &Arc<Place>) -> Result<Arc<Connected>, Failure> {
        if let Some(connected) = self.current.load_full() {
            if !connected.is_stuck() {
                return Ok(connected);
            }
            self.forget(&connected);
        }
        // Boxed, since what it holds is large and seldom needed: a read is moved a few times before it begins.
        Box::pin(self.connect(place)).await
    }

    async fn connect(&self, place: &Arc<Place>) -> Result<Arc<Connected>, Failure> {
        let connected = self
            .attempt
            .join(|| {
                let place = Arc::clone(place);
                async move { connect(&place).await }.boxed()
            })
            .await?;
        self.current.store(Some(Arc::clone(&connected)));
        Ok(connected)
    }

    /// Lets the next call make a new connection, unless that has happened already.
    fn forget(&self, connected: &Arc<Connected>) {
        self.current.compare_and_swap(connected, None);
    }
}

impl Connected {
    pub(super) fn new(connection: MultiplexedConnection, address: &Address, is_tls: bool) -> Self {
        Self {
            connection,
            pipe: OnceCell::new(),
            address: address.clone(),
            made: Instant::now(),
            waiting: AtomicU64::new(0),
            is_unproven: AtomicBool::new(is_tls),
        }
    }

    /// The connection for reads, to the same process.
    async fn pipe(&self, place: &Place) -> Result<Option<&Pipe>, Failure> {
        let make = async || {
            let mut question = redis::pipe();
            question.cmd("INFO").arg("server");
            let answer = self.exchange(&question).await?.pop();
            let server = text(answer.unwrap_or(Value::Nil))?;
            let run_id = field(&server, "run_id").unwrap_or_default();
            place.access().pipe(&self.address, run_id).await
        };
        let made = match self.pipe.get() {
            Some(made) => made,
            None => Box::pin(timeout(CONNECT_TIMEOUT, self.pipe.get_or_try_init(make)))
                .await
                .unwrap_or_else(|_| Err(Fault::NotReached.into()))?,
        };
        Ok(made.as_ref())
    }

    /// Sends a pipeline on this very connection.
    pub(super) async fn exchange(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Failure> {
        self.asks();
        let mut connection = self.connection.clone();
        let answers = connection
            .send_packed_commands(pipeline, 0, pipeline.len())
            .await
            .map_err(|err| match self.is_unproven.load(Ordering::Relaxed) {
                true => Failure::from(err).over_tls(),
                false => err.into(),
            })?;
        self.waiting.store(0, Ordering::Relaxed);
        self.is_unproven.store(false, Ordering::Relaxed);
        Ok(answers)
    }

    fn asks(&self) {
        // Only the oldest question counts, so whoever finds one leaves it.
        let _ =
            self.waiting
                .compare_exchange(0, self.age() + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the server has owed an answer for too long. The one who asked may have left long before: this is how a
    /// server that has stopped answering is found out when nobody waits that long.
    fn is_stuck(&self) -> bool {
        let limit = u64::try_from(RESPONSE_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        match self.waiting.load(Ordering::Relaxed) {
            0 => false,
            since => self.age().saturating_sub(since - 1) >= limit,
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// The strings of an answer, which may be an error of the server's instead.
fn strings(answer: &Bytes) -> Result<Vec<Option<Bytes>>, Failure> {
    match resp::strings(answer) {
        Ok(Some(strings)) => Ok(strings),
        Ok(None) => {
            sound(redis::parse_redis_value(answer)?)?;
            Err(Fault::Unexpected("a value is no bytes").into())
        }
        Err(_) => Err(Fault::Unexpected("its bytes are not of the protocol").into()),
    }
}

/// Connects, within [`CONNECT_TIMEOUT`].
async fn connect(place: &Place) -> Result<Arc<Connected>, Failure> {
    let connect = async {
        match place {
            Place::Node(access, address) => access.connect(address).await,
            Place::Primary(access, address) => primary(access, address).await,
            Place::Master(sentinels) => sentinels.master().await,
        }
    };
    match timeout(CONNECT_TIMEOUT, connect).await {
        Ok(connected) => connected.map(Arc::new),
        Err(_) => Err(Fault::NotReached.into()),
    }
}

/// A connection to a server that is no replica.
pub(super) async fn primary(access: &Access, address: &Address) -> Result<Connected, Failure> {
    let connected = access.connect(address).await?;
    let mut role = redis::pipe();
    role.cmd("INFO").arg("replication");
    let answer = connected.exchange(&role).await?.pop();
    match is_replica(&text(answer.unwrap_or(Value::Nil))?) {
        true => Err(Fault::Replica.into()),
        false => Ok(connected),
    }
}

fn is_replica(replication: &str) -> bool {
    field(replication, "role") == Some("slave")
}

fn is_read_only(answer: &Value) -> bool {
    code(answer) == Some("READONLY")
}

/// A field of what `INFO` says.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
