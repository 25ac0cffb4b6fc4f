//! A proxy between a client and a server that breaks connections in the middle of an answer, or passes answers slowly.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// What passes when nothing is to be cut.
const EVERYTHING: u64 = u64::MAX;

/// What passes, and when.
#[derive(Debug)]
struct Rules {
    left: AtomicU64,
    delay_micros: AtomicU64,
}

/// A running proxy; its connections end when it is dropped. It lives on the runtime that it was started on.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy in front of a server.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let rules = Arc::new(Rules {
            left: AtomicU64::new(EVERYTHING),
            delay_micros: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&rules)));
        Self {
            address,
            rules,
            _tasks: tasks,
        }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets so many more bytes of answers pass; the connection that brings the next one is closed after them, and all
    /// pass again.
    pub fn cut_after(&self, bytes: u64) {
        self.rules.left.store(bytes, Ordering::SeqCst);
    }

    /// From now on every answer passes so much later.
    pub fn slow_by(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.rules.delay_micros.store(micros, Ordering::SeqCst);
    }

    /// Whether a connection has been cut since [`Self::cut_after`].
    pub fn has_cut(&self) -> bool {
        self.rules.left.load(Ordering::SeqCst) == EVERYTHING
    }
}

async fn accept(listener: TcpListener, server: String, rules: Arc<Rules>) {
    let mut passing = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (server, rules) = (server.clone(), Arc::clone(&rules));
        passing.spawn(async move {
            if let Ok(server) = TcpStream::connect(server).await {
                pass(client, server, &rules).await;
            }
        });
    }
}

/// Passes bytes both ways until one side ends or an answer is cut.
async fn pass(client: TcpStream, server: TcpStream, rules: &Rules) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let questions = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            let delay = rules.delay_micros.load(Ordering::SeqCst);
            if delay > 0 {
                sleep_until(Instant::now() + Duration::from_micros(delay)).await;
            }
            let pass = allowed(&rules.left, count);
            let passed = to_client
                .write_all(buffer.get(..pass).unwrap_or_default())
                .await;
            if pass < count || passed.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = questions => {}
        () = answers => {}
    }
}

/// How many of these bytes may pass.
fn allowed(left: &AtomicU64, count: usize) -> usize {
    let wanted = u64::try_from(count).unwrap_or(EVERYTHING);
    let before = left
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            EVERYTHING => None,
            left if left < wanted => Some(EVERYTHING),
            left => Some(left - wanted),
        })
        .unwrap_or(EVERYTHING);
    usize::try_from(before.min(wanted)).unwrap_or(count)
}
