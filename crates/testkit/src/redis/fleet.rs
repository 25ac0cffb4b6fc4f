//! The servers of a store for histories: what happens to them is the same, however many there are.

use super::{PRIMARIES, RedisCluster, RedisServer};

/// Servers that keep what they have acknowledged, also when they are killed: one, or the primaries of a cluster.
#[derive(Debug)]
pub enum RedisFleet {
    /// One server.
    One(RedisServer),
    /// Primaries without replicas.
    Cluster(RedisCluster),
}

/// What makes a server keep what it acknowledges.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

impl RedisFleet {
    /// One server.
    ///
    /// # Panics
    /// When it does not start.
    pub fn one() -> Self {
        Self::One(RedisServer::start_with(&DURABLE))
    }

    /// The primaries of a cluster.
    ///
    /// # Panics
    /// When they do not start.
    pub fn cluster() -> Self {
        Self::Cluster(RedisCluster::without_replicas(&DURABLE))
    }

    /// The URLs of all servers.
    pub fn urls(&self) -> Vec<String> {
        match self {
            Self::One(server) => vec![server.url()],
            Self::Cluster(cluster) => cluster.urls(),
        }
    }

    /// Kills one of the servers with SIGKILL and starts it again. `number` is taken modulo how many there are.
    ///
    /// # Panics
    /// When it does not start.
    pub fn kill_and_restart(&mut self, number: usize) {
        let server = match self {
            Self::One(server) => server,
            Self::Cluster(cluster) => cluster.node(number % PRIMARIES),
        };
        server.kill();
        server.restart();
    }

    /// Pauses all servers: they keep their connections and answer nothing.
    pub fn stop(&self) {
        self.servers().into_iter().for_each(RedisServer::stop);
    }

    /// Lets all go on after [`Self::stop`].
    pub fn cont(&self) {
        self.servers().into_iter().for_each(RedisServer::cont);
    }

    fn servers(&self) -> Vec<&RedisServer> {
        match self {
            Self::One(server) => vec![server],
            Self::Cluster(cluster) => cluster.nodes().iter().collect(),
        }
    }

    /// Deletes everything that one of the servers has, and gives the keys that it had.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn empty(&mut self, number: usize) -> Vec<Vec<u8>> {
        let server = match self {
            Self::One(server) => server,
            Self::Cluster(cluster) => cluster.node(number % PRIMARIES),
        };
        let keys = redis::cmd("KEYS").arg("*").query(&mut server.connection());
        server.empty();
        keys.expect("the server tells its keys")
    }

    /// Lets the keys of a project's rows be older by so many microseconds, as the server's own clock counts.
    ///
    /// # Panics
    /// When a server does not answer.
    pub fn age(&self, project: &str, micros: i64) {
        const AGE: &str = "
            for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
                local left = redis.call('PTTL', key)
                if left >= 0 then
                    redis.call('PEXPIRE', key, math.max(left - ARGV[2], 0))
                end
            end";
        for server in self.servers() {
            let mut script = redis::cmd("EVAL");
            script
                .arg(AGE)
                .arg(0)
                .arg(format!("vn:{{{project}|*"))
                .arg(micros / 1000);
            let done = script.exec(&mut server.connection());
            done.expect("the server runs the script");
        }
    }
}
