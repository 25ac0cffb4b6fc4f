//! A master, a replica and three sentinels that watch over them.

use std::time::Duration;

use super::{Program, RedisServer, wait_until};

/// What the sentinels call the master.
pub const MASTER: &str = "vintner";

/// How many sentinels there are; two of them must agree.
const SENTINELS: usize = 3;

/// Running servers, of which one is the master.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// Starts them. A master that does not answer for `down_after` is replaced.
    ///
    /// # Panics
    /// When a server does not start, or they do not find each other.
    pub fn start(down_after: Duration) -> Self {
        let options = [
            "--repl-diskless-sync-delay",
            "0",
            "--repl-ping-replica-period",
            "1",
        ];
        let master = RedisServer::start_with(&options);
        let replica_of =
            ["--replicaof", "127.0.0.1", &master.port().to_string()].map(str::to_owned);
        let replica_of: Vec<&str> = replica_of.iter().map(String::as_str).collect();
        let replica = RedisServer::start_with(&[options.as_slice(), &replica_of].concat());
        wait_until("the replica is in step", || {
            info(&replica, "master_link_status") == "up"
        });
        let config = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {MASTER} {}\n\
             sentinel failover-timeout {MASTER} 2000\n",
            master.port(),
            down_after.as_millis(),
        );
        let sentinels: Vec<RedisServer> = (0..SENTINELS)
            .map(|_| RedisServer::run(Program::Sentinel, &[&config]))
            .collect();
        for sentinel in &sentinels {
            wait_until("the sentinels know the replica and each other", || {
                field(sentinel, "num-slaves") == "1"
                    && field(sentinel, "num-other-sentinels") == (SENTINELS - 1).to_string()
                    && field(sentinel, "flags") == "master"
            });
        }
        Self {
            servers: vec![master, replica],
            sentinels,
        }
    }

    /// `127.0.0.1:port` of the sentinels.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::address).collect()
    }

    /// One of the sentinels.
    pub fn sentinel(&mut self, index: usize) -> &mut RedisServer {
        &mut self.sentinels[index]
    }

    /// The place of the server that is the master, as most sentinels see it.
    ///
    /// # Panics
    /// When they name none of the servers.
    pub fn master(&self) -> usize {
        let named = |sentinel: &RedisServer| -> u16 {
            let (_, port): (String, u16) =
                sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
            port
        };
        let mut ports: Vec<u16> = self
            .sentinels
            .iter()
            .filter(|sentinel| !sentinel.is_killed())
            .map(named)
            .collect();
        ports.sort_unstable();
        let most = ports[ports.len() / 2];
        let place = self.servers.iter().position(|server| server.port() == most);
        place.expect("the sentinels name one of the servers")
    }

    /// One of the two servers.
    pub fn server(&mut self, index: usize) -> &mut RedisServer {
        &mut self.servers[index]
    }

    /// Waits until the replica has all that the master has.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_step(&self) {
        super::wait_for_step(&self.servers[self.master()]);
    }

    /// Has the sentinels make the other server the master at once, and gives the place of the old one.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn fail_over(&self) -> usize {
        let old = self.master();
        wait_until("a failover begins", || {
            let mut told = redis::cmd("SENTINEL");
            let told = told.arg("FAILOVER").arg(MASTER);
            told.exec(&mut self.sentinels[0].connection()).is_ok()
        });
        self.wait_for_failover(old);
        old
    }

    /// Waits until the other server is the master, and says so itself.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_failover(&self, old: usize) {
        wait_until(
            "the sentinels have made the other server the master",
            || {
                let master = self.master();
                master != old && info(&self.servers[master], "role") == "master"
            },
        );
    }

    /// Tells a server that it is a replica, as the sentinels do in their time, which is ten seconds; waits until it is one
    /// in step with the master.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_replica(&self, index: usize) {
        let master = self.servers[self.master()].port().to_string();
        self.servers[index].command::<()>(&["REPLICAOF", "127.0.0.1", &master]);
        wait_until("the server is a replica in step", || {
            info(&self.servers[index], "role") == "slave"
                && info(&self.servers[index], "master_link_status") == "up"
        });
    }
}

/// A field of what a server says of its replication.
fn info(server: &RedisServer, name: &str) -> String {
    let info: String = server.command(&["INFO", "replication"]);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// A field of what a sentinel says of the master.
fn field(sentinel: &RedisServer, name: &str) -> String {
    let fields: Vec<String> = sentinel.command(&["SENTINEL", "MASTER", MASTER]);
    let place = fields.iter().position(|field| field == name);
    place
        .and_then(|place| fields.get(place + 1).cloned())
        .unwrap_or_default()
}
