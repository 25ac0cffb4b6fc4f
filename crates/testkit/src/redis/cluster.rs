//! A Redis Cluster: three primaries, each with a replica or without.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{RedisServer, wait_until};

/// How many primaries there are.
pub const PRIMARIES: usize = 3;
/// How many nodes there are, with a replica each.
pub const NODES: usize = 2 * PRIMARIES;

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

/// Running nodes. At first, node i for i below [`PRIMARIES`] is a primary, and node i + [`PRIMARIES`] its replica.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    ids: Vec<String>,
}

impl RedisCluster {
    /// Starts the nodes. One that cannot be reached for `node_timeout` is replaced by its replica.
    ///
    /// # Panics
    /// When a node does not start, or they do not become a cluster.
    pub fn start(node_timeout: Duration) -> Self {
        Self::run(NODES, node_timeout, &[])
    }

    /// Starts primaries alone, with more options. Nobody takes over for one that is gone, and the others do not mind.
    ///
    /// # Panics
    /// When a node does not start, or they do not become a cluster.
    pub fn without_replicas(options: &[&str]) -> Self {
        let patient = Duration::from_secs(15);
        Self::run(PRIMARIES, patient, options)
    }

    fn run(nodes: usize, node_timeout: Duration, options: &[&str]) -> Self {
        let timeout = node_timeout.as_millis().to_string();
        let cluster = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            &timeout,
            "--cluster-replica-validity-factor",
            "0",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let options = [cluster.as_slice(), options].concat();
        let nodes: Vec<RedisServer> = (0..nodes)
            .map(|_| RedisServer::start_with(&options))
            .collect();
        let ids = nodes
            .iter()
            .map(|node| node.command(&["CLUSTER", "MYID"]))
            .collect();
        let cluster = Self { nodes, ids };
        cluster.join();
        cluster
    }

    fn join(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            let epoch = (place + 1).to_string();
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            if place < PRIMARIES {
                let slots: Vec<String> = (place * SLOTS / PRIMARIES
                    ..(place + 1) * SLOTS / PRIMARIES)
                    .map(|slot| slot.to_string())
                    .collect();
                let slots = slots.iter().map(String::as_str);
                let add: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots).collect();
                node.command::<()>(&add);
            }
        }
        for (place, node) in self.nodes.iter().enumerate() {
            // Everyone meets everyone, since gossip takes its time.
            for other in self.nodes.iter().skip(place + 1) {
                let port = other.port().to_string();
                node.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port]);
            }
        }
        for node in &self.nodes {
            wait_until("the nodes know each other", || {
                let known = lines(node);
                known.len() == self.nodes.len()
                    && !known.iter().any(|line| line.contains("handshake"))
            });
        }
        for (place, node) in self.nodes.iter().enumerate().skip(PRIMARIES) {
            node.command::<()>(&["CLUSTER", "REPLICATE", &self.ids[place - PRIMARIES]]);
        }
        self.wait_until_sound();
    }

    /// The nodes' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// All nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// One of the nodes.
    pub fn node(&mut self, index: usize) -> &mut RedisServer {
        &mut self.nodes[index]
    }

    /// The place of the node that serves a slot, as some node that runs sees it; none while nobody does.
    pub fn owner(&self, slot: u16) -> Option<usize> {
        self.running()
            .find_map(|node| owner_by(node, slot))
            .and_then(|id| self.place(&id))
    }

    /// Every key of the cluster with its value, all of which must be texts.
    ///
    /// # Panics
    /// When a slot is not served, or a value is of another type.
    pub fn entries(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let owners: BTreeSet<usize> = (0..PRIMARIES)
            .map(|third| u16::try_from(third * SLOTS / PRIMARIES).expect("a slot"))
            .map(|slot| self.owner(slot).expect("the slot is served"))
            .collect();
        owners
            .into_iter()
            .flat_map(|owner| self.nodes[owner].entries(0))
            .collect()
    }

    /// Waits until all nodes that run agree that every slot is served, and every replica that runs is in step.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_until_sound(&self) {
        for node in self.running() {
            wait_until("the cluster is sound", || {
                let state: String = node.command(&["CLUSTER", "INFO"]);
                let replication: String = node.command(&["INFO", "replication"]);
                state.contains("cluster_state:ok")
                    && state.contains("cluster_size:3")
                    && !replication.contains("master_link_status:down")
            });
        }
        wait_until("every replica is known", || {
            self.running().all(|node| {
                lines(node)
                    .iter()
                    .filter(|line| line.contains("slave"))
                    .count()
                    == self.nodes.len() - PRIMARIES
                    || self.nodes.iter().any(RedisServer::is_killed)
            })
        });
    }

    /// Waits until another node than this one serves a slot, and all nodes that run know.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_failover(&self, slot: u16, old: usize) {
        for node in self.running() {
            wait_until("another node serves the slot", || {
                owner_by(node, slot).is_some_and(|id| id != self.ids[old])
            });
        }
        self.wait_until_sound();
    }

    /// Makes the replica of a slot's owner its owner, without a loss.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn fail_over(&self, slot: u16) {
        let old = self.owner(slot).expect("the slot is served");
        let replica = self.replica_of(old);
        self.nodes[replica].command::<()>(&["CLUSTER", "FAILOVER"]);
        self.wait_for_failover(slot, old);
    }

    /// Waits until a primary's replicas have all that it has.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_step(&self, primary: usize) {
        super::wait_for_step(&self.nodes[primary]);
    }

    /// Kills a slot's owner, and makes its replica the owner at once. What the replica did not have is lost.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn kill_owner(&mut self, slot: u16) -> usize {
        let old = self.owner(slot).expect("the slot is served");
        let replica = self.replica_of(old);
        self.nodes[old].kill();
        self.nodes[replica].cont();
        wait_until("the replica takes over", || {
            // It may have to be told again, while the others do not answer.
            let told = redis::cmd("CLUSTER")
                .arg(&["FAILOVER", "FORCE"])
                .exec(&mut self.nodes[replica].connection());
            told.is_err()
                || owner_by(&self.nodes[replica], slot).is_some_and(|id| id == self.ids[replica])
        });
        self.wait_for_failover(slot, old);
        old
    }

    /// The place of a primary's replica.
    ///
    /// # Panics
    /// When it has none.
    pub fn replica_of(&self, primary: usize) -> usize {
        let id = &self.ids[primary];
        let line = self.running().find_map(|node| {
            lines(node)
                .into_iter()
                .find(|line| line.contains("slave") && line.contains(&format!(" {id} ")))
        });
        let line = line.expect("the primary has a replica");
        self.place(line.split(' ').next().unwrap_or_default())
            .expect("the replica is a node")
    }

    /// Moves a slot to another primary, key by key, calling `between` before each key and at the end, when all keys
    /// have moved and the slot has not.
    ///
    /// # Panics
    /// When a node does not do as it is told.
    pub fn migrate(&self, slot: u16, to: usize, mut between: impl FnMut()) {
        let from = self.owner(slot).expect("the slot is served");
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let number = slot.to_string();
        target.command::<()>(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &self.ids[from]]);
        source.command::<()>(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &self.ids[to]]);
        let mut connection = source.connection();
        loop {
            between();
            let keys: Vec<Vec<u8>> = redis::cmd("CLUSTER")
                .arg("GETKEYSINSLOT")
                .arg(slot)
                .arg(1)
                .query(&mut connection)
                .expect("the node tells a slot's keys");
            let Some(key) = keys.first() else { break };
            redis::cmd("MIGRATE")
                .arg("127.0.0.1")
                .arg(target.port())
                .arg(key)
                .arg(0)
                .arg(5000)
                .exec(&mut connection)
                .expect("a key can be moved");
        }
        for node in [target, source] {
            node.command::<()>(&["CLUSTER", "SETSLOT", &number, "NODE", &self.ids[to]]);
        }
    }

    fn running(&self) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().filter(|node| !node.is_killed())
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.ids.iter().position(|known| known == id)
    }
}

/// What a node knows of all nodes, a line each.
fn lines(node: &RedisServer) -> Vec<String> {
    let nodes: String = node.command(&["CLUSTER", "NODES"]);
    nodes.lines().map(str::to_owned).collect()
}

/// The id of the node that serves a slot, as a node sees it.
fn owner_by(node: &RedisServer, slot: u16) -> Option<String> {
    let line = lines(node).into_iter().find(|line| {
        line.contains("master")
            && !line.contains("fail")
            && line.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let parse = |number: &str| number.parse::<u16>().ok();
                parse(first)
                    .zip(parse(last))
                    .is_some_and(|(first, last)| (first..=last).contains(&slot))
            })
    });
    line?.split(' ').next().map(str::to_owned)
}
