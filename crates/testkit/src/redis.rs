//! A real Redis server for one test: on a free port of its own, with a folder of its own, gone when it is dropped.
//!
//! [`RedisCluster`] and [`RedisSentinel`] are several of them, [`RedisFleet`] is one or several; [`Proxy`] stands between a client and one, and breaks
//! what passes; [`tls`] has certificates.

mod cluster;
mod fleet;
mod proxy;
mod sentinel;
pub mod tls;

pub use cluster::{NODES, PRIMARIES, RedisCluster};
pub use fleet::RedisFleet;
pub use proxy::Proxy;
pub use sentinel::{MASTER, RedisSentinel};

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a server may take to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Ports to choose from: below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How many ports to try.
const ATTEMPTS: usize = 20;

/// A running (or killed) Redis server. Every method panics when the server does not do what was asked: it is for
/// tests.
#[derive(Debug)]
pub struct RedisServer {
    program: Program,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
    process: Option<Child>,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Redis,
    Valkey,
    /// `redis-server --sentinel`, whose configuration is the first option, a text.
    Sentinel,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Redis | Self::Sentinel => "redis-server",
            Self::Valkey => "valkey-server",
        }
    }

    /// What it says when it is ready.
    fn ready(self) -> &'static str {
        match self {
            Self::Redis | Self::Valkey => "Ready to accept connections",
            Self::Sentinel => "+monitor master",
        }
    }
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more options, as on its command line: `["--requirepass", "secret"]`.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not start.
    pub fn start_with(options: &[&str]) -> Self {
        Self::run(Program::Redis, options)
    }

    /// Starts a Valkey server, which speaks as Redis does; none when `valkey-server` is not installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub fn valkey() -> Option<Self> {
        let installed = Command::new(Program::Valkey.name())
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        installed.ok()?;
        Some(Self::run(Program::Valkey, &[]))
    }

    fn run(program: Program, options: &[&str]) -> Self {
        let mut log = String::new();
        for attempt in 0..ATTEMPTS {
            let mut server = Self {
                program,
                port: free_port(attempt),
                options: options.iter().map(|&option| option.to_owned()).collect(),
                folder: tempfile::tempdir().expect("a temporary folder"),
                process: None,
            };
            match server.try_start() {
                Ok(()) => return server,
                // Someone else may have taken the port since it was free.
                Err(why) => log = why,
            }
        }
        let name = program.name();
        panic!("{name} did not start on any of {ATTEMPTS} ports; the last said:\n{log}");
    }

    /// `redis://127.0.0.1:port`, the same after a restart.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of one of the server's databases; there are 16 unless it was started with `--databases`.
    pub fn database_url(&self, database: u16) -> String {
        format!("{}/{database}", self.url())
    }

    /// Every key of a database with its value, all of which must be texts.
    ///
    /// # Panics
    /// When the server does not answer, or has a value of another type.
    pub fn entries(&self, database: u16) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let client = redis::Client::open(self.database_url(database)).expect("a Redis URL");
        let mut connection = client.get_connection().expect("the server answers");
        let keys = redis::cmd("KEYS").arg("*").query(&mut connection);
        let keys: Vec<Vec<u8>> = keys.expect("the server tells its keys");
        if keys.is_empty() {
            return BTreeMap::new();
        }
        let mut get = redis::pipe();
        for key in &keys {
            get.cmd("GET").arg(key);
        }
        let values: Vec<Vec<u8>> = get.query(&mut connection).expect("every value is a text");
        keys.into_iter().zip(values).collect()
    }

    /// Deletes everything, in all databases.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn empty(&self) {
        let done = redis::cmd("FLUSHALL").exec(&mut self.connection());
        done.expect("the server can be emptied");
    }

    /// Denies a command to everyone who does not log in.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn forbid(&self, command: &str) {
        let mut denied = redis::cmd("ACL");
        denied
            .arg("SETUSER")
            .arg("default")
            .arg(format!("-{command}"));
        let done = denied.exec(&mut self.connection());
        done.expect("the user can be changed");
    }

    /// Kills the server with SIGKILL, as a crash would.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        process.kill().expect("the server can be killed");
        process.wait().expect("the server ends");
    }

    /// Starts the server again after [`Self::kill`], on the same port.
    ///
    /// # Panics
    /// When it is running, or does not start.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        if let Err(log) = self.try_start() {
            panic!("redis-server did not start again; it said:\n{log}");
        }
    }

    /// Starts the server again after [`Self::kill`] without waiting until it is ready. Whether it becomes ready nobody
    /// says.
    ///
    /// # Panics
    /// When it is running.
    pub fn restart_unready(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let (process, _) = self.spawn();
        self.process = Some(process);
    }

    /// Closes the connections to all replicas. One that is stopped misses what is written from now on.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn drop_replicas(&self) {
        let _: i64 = self.command(&["CLIENT", "KILL", "TYPE", "replica"]);
    }

    /// Whether it was killed and not started again.
    pub fn is_killed(&self) -> bool {
        self.process.is_none()
    }

    /// Sends a command, and gives its answer.
    ///
    /// # Panics
    /// When the server does not answer, or with an error.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words.first().expect("a command has a name"));
        for word in words.iter().skip(1) {
            command.arg(word);
        }
        command
            .query(&mut self.connection())
            .unwrap_or_else(|err| panic!("{words:?} at {}: {err}", self.address()))
    }

    /// Whether the server answers a PING as it should, and not with an error, such as that it loads its data.
    pub fn answers(&self) -> bool {
        let client = redis::Client::open(self.url()).expect("a Redis URL");
        let connection = client.get_connection_with_timeout(Duration::from_secs(1));
        connection.is_ok_and(|mut connection| {
            redis::cmd("PING")
                .query::<String>(&mut connection)
                .as_deref()
                == Ok("PONG")
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Pauses the server with SIGSTOP: it keeps its connections and answers nothing.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets the server go on after [`Self::stop`].
    pub fn cont(&self) {
        self.signal("-CONT");
    }

    /// A connection of the plain client, to look at what is stored.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a Redis URL");
        client.get_connection().expect("the server answers")
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("the server runs");
        let status = Command::new("kill")
            .args([signal, &process.id().to_string()])
            .status()
            .expect("kill is installed");
        assert!(status.success(), "kill {signal} failed");
    }

    /// Starts the server and waits until it says that it is ready. An error is what it said instead.
    fn try_start(&mut self) -> Result<(), String> {
        let (mut process, said) = self.spawn();
        match wait_until_ready(&said, self.program.ready()) {
            Ok(()) => {
                self.process = Some(process);
                Ok(())
            }
            Err(log) => {
                process.kill().ok();
                let status: Option<ExitStatus> = process.wait().ok();
                Err(format!("{log}(ended: {status:?})"))
            }
        }
    }

    fn spawn(&self) -> (Child, Receiver<String>) {
        let name = self.program.name();
        let mut command = Command::new(name);
        match (self.program, self.options.split_first()) {
            (Program::Sentinel, Some((config, options))) => {
                let file = self.folder.path().join("sentinel.conf");
                // What it has learned it writes there.
                if !file.exists() {
                    std::fs::write(&file, config).expect("a file can be written");
                }
                command.arg(file).arg("--sentinel").args(options);
            }
            _ => {
                command
                    .args(["--save", "", "--appendonly", "no"])
                    .args(&self.options);
            }
        }
        let spawned = command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = spawned.unwrap_or_else(|err| {
            panic!(
                "{name} cannot be run ({err}); install it, on Debian and Ubuntu with \
                 `apt-get install redis-server`, on macOS with `brew install redis`"
            )
        });
        let output = process.stdout.take().expect("the output is piped");
        let (lines, said) = channel();
        std::thread::spawn(move || forward(BufReader::new(output), &lines));
        (process, said)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// Reads the server's output to its end, so that the server never waits for a reader.
fn forward(output: impl BufRead, lines: &Sender<String>) {
    for line in output.lines().map_while(Result::ok) {
        // Nobody listens any more once the server is ready.
        lines.send(line).ok();
    }
}

fn wait_until_ready(said: &Receiver<String>, ready: &str) -> Result<(), String> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut log = String::new();
    loop {
        match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if line.contains(ready) {
                    return Ok(());
                }
                log.push_str(&line);
                log.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => return Err(format!("{log}(not ready in time)")),
            Err(RecvTimeoutError::Disconnected) => return Err(log),
        }
    }
}

/// Waits until something holds.
///
/// # Panics
/// When it does not for a long time.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + START_TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until all replicas of a server, of which there must be one, have all that it has.
fn wait_for_step(primary: &RedisServer) {
    wait_until("the replicas have all", || {
        let info: String = primary.command(&["INFO", "replication"]);
        let field = |line: &str, name: &str| -> Option<u64> {
            let rest = line.split_once(name)?.1;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let whole = info
            .lines()
            .find_map(|line| field(line, "master_repl_offset:"));
        let mut replicas = info
            .lines()
            .filter(|line| line.starts_with("slave") && line.contains("offset="));
        let first = replicas.next();
        first.is_some()
            && first
                .into_iter()
                .chain(replicas)
                .all(|line| field(line, ",offset=") == whole)
    });
}

/// A port that nobody listens on at this moment.
fn free_port(attempt: usize) -> u16 {
    let random = RandomState::new();
    let count = u64::from(PORTS.end - PORTS.start);
    (0..1000)
        .filter_map(|number: usize| {
            let offset = u16::try_from(random.hash_one((attempt, number)) % count).ok()?;
            Some(PORTS.start + offset)
        })
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_until_it_is_killed_and_again_after_a_restart() {
        let mut server = RedisServer::start();
        assert!(server.answers());
        server.kill();
        assert!(!server.answers());
        server.restart();
        assert!(server.answers());
    }

    #[test]
    fn entries_are_those_of_one_database() {
        let server = RedisServer::start();
        let client = redis::Client::open(server.database_url(3)).unwrap();
        let mut connection = client.get_connection().unwrap();
        for key in [&[0_u8, 255][..], b"key"] {
            redis::cmd("SET")
                .arg(key)
                .arg(&[1_u8, 254][..])
                .exec(&mut connection)
                .unwrap();
        }
        let want = [vec![0, 255], b"key".to_vec()].map(|key| (key, vec![1, 254]));
        assert_eq!(server.entries(3), BTreeMap::from(want));
        assert_eq!(server.entries(0), BTreeMap::new());
    }

    #[test]
    fn two_servers_do_not_meet() {
        let (one, two) = (RedisServer::start(), RedisServer::start());
        redis::cmd("SET")
            .arg("key")
            .arg(1)
            .exec(&mut one.connection())
            .unwrap();
        let found: Option<i64> = redis::cmd("GET")
            .arg("key")
            .query(&mut two.connection())
            .unwrap();
        assert_eq!(found, None);
    }
}
