//! Near caches over a cluster and behind sentinels, while primaries change: in good order, killed, and with the loss of
//! what they had acknowledged.
//!
//! Where the histories of [`processes`](super::processes) are made, nobody writes while a primary is killed, so that
//! nothing is lost and all promises hold. Where rows are lost, reads must give what the store has, as they would
//! without a cache.

use vintner_testkit::redis::{PRIMARIES, RedisCluster, RedisSentinel};

use super::{
    super::LEASE,
    processes::{assert_coherent, config, pass, run},
    *,
};
use crate::{RedisStore, redis::slot_of};

/// Long enough that nobody takes over by itself while the machine has much to do.
const PATIENT: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_secs(30);
const CACHE: Option<ByteSize> = ByteSize::new(1 << 20);
/// Enough entities that every primary has some.
const ENTITIES: usize = 30;

/// Between two accidents.
const WHILE: Duration = Duration::from_millis(800);

/// A service's cache, in this process.
struct Cached {
    cache: NearCache,
    keys: Vec<EntityKey>,
}

impl Cached {
    fn new(place: &str) -> Self {
        let redis = RedisStore::new(config(place)).unwrap();
        Self {
            cache: NearCache::new(Arc::new(redis)),
            keys: (0..ENTITIES).map(|id| key(&id.to_string())).collect(),
        }
    }

    /// What is read of all entities, from the cache or past it; none while a server is away.
    async fn read(&self, cache: Option<ByteSize>) -> Option<Vec<Option<Bytes>>> {
        let lookup = Lookup {
            view: &view(),
            keys: &self.keys,
            cache,
        };
        let read = self.cache.read(&project(), &[lookup]).await;
        read.ok().map(|mut rows| rows.remove(0))
    }

    /// Writes a row of every entity.
    async fn write(&self, event: i64) {
        let revision = revision("view@1", &[feature("value", "int64")], None);
        let rows: Vec<_> = (0..ENTITIES)
            .map(|id| row(&revision, &id.to_string(), time(event, 0), &[None]))
            .collect();
        let written = self.cache.write(&project(), &view(), None, &rows).await;
        written.unwrap();
    }

    /// Waits until all is read from the cache, and gives what that is.
    async fn warm(&self) -> Vec<Option<Bytes>> {
        let began = Instant::now();
        loop {
            let hits = self.hits();
            if let Some(rows) = self.read(CACHE).await
                && self.hits() == hits + ENTITIES as u64
            {
                return rows;
            }
            assert!(began.elapsed() < DEADLINE, "{:?}", self.cache.cache_stats());
            tokio::task::yield_now().await;
        }
    }

    fn hits(&self) -> u64 {
        let views = self.cache.cache_stats().unwrap().views;
        views
            .iter()
            .map(|view| view.hits + view.negative_hits)
            .sum()
    }

    /// Reads until the cache is warm again, and holds every read that began more than a lease after `since` to what the
    /// store has. Nobody writes meanwhile.
    async fn agrees(&self, since: Instant) -> Vec<Option<Bytes>> {
        let began = Instant::now();
        let stored = loop {
            match self.read(None).await {
                Some(stored) => break stored,
                None => assert!(began.elapsed() < DEADLINE, "the store does not come back"),
            }
        };
        let mut warm = 0;
        while warm < 20 {
            assert!(began.elapsed() < DEADLINE, "{:?}", self.cache.cache_stats());
            let (asked, hits) = (Instant::now(), self.hits());
            let Some(rows) = self.read(CACHE).await else {
                continue;
            };
            if asked.duration_since(since) > LEASE {
                assert!(
                    rows == stored,
                    "a read {:?} after",
                    asked.duration_since(since)
                );
                warm += usize::from(self.hits() == hits + ENTITIES as u64);
            }
            tokio::task::yield_now().await;
        }
        stored
    }
}

fn cluster_of(cluster: &RedisCluster) -> String {
    format!("cluster={}", cluster.urls().join(","))
}

#[test]
fn services_over_a_cluster_read_nothing_stale_while_its_primaries_change() {
    let mut cluster = RedisCluster::start(PATIENT);
    let place = cluster_of(&cluster);
    let moving = slot_of(&row_key(&project(), &view(), &key("0")));
    let outcome = run([&place; 2], false, |hand| {
        pass(WHILE);
        cluster.fail_over(moving);
        pass(WHILE);
        let to = (0..2 * PRIMARIES).find(|node| {
            let is_owner = |slot| cluster.owner(slot) == Some(*node);
            !is_owner(moving) && (0..16_384).step_by(1000).any(is_owner)
        });
        cluster.migrate(moving, to.unwrap(), || ());
        pass(WHILE);
        hand.still(|| {
            let owner = cluster.owner(moving).unwrap();
            cluster.wait_for_step(owner);
            cluster.kill_owner(moving);
        });
        pass(WHILE);
    });
    assert_coherent("primaries of a cluster", &outcome);
    assert!(outcome.generations.iter().all(|&count| count > 2));
}

#[test]
fn services_behind_sentinels_read_nothing_stale_while_the_master_changes() {
    let mut servers = RedisSentinel::start(PATIENT);
    let place = format!("sentinel={}", servers.addresses().join(","));
    let outcome = run([&place; 2], false, |hand| {
        pass(WHILE);
        // Sentinels do not keep the old master from taking writes.
        hand.still(|| {
            servers.wait_for_step();
            let old = servers.fail_over();
            servers.wait_for_replica(old);
        });
        pass(WHILE);
        hand.still(|| {
            servers.wait_for_step();
            let old = servers.master();
            servers.server(old).kill();
            servers.fail_over();
        });
        pass(WHILE);
    });
    assert_coherent("master of sentinels", &outcome);
    assert!(outcome.generations.iter().all(|&count| count > 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_cluster_has_lost_are_not_read_from_the_cache() {
    let mut cluster = RedisCluster::start(PATIENT);
    let cached = Cached::new(&cluster_of(&cluster));

    // A primary is emptied.
    cached.write(1).await;
    let before = cached.warm().await;
    assert!(before.iter().all(Option::is_some));
    let since = Instant::now();
    cluster.node(0).empty();
    let after = cached.agrees(since).await;
    let left = after.iter().flatten().count();
    assert!(0 < left && left < ENTITIES, "{left} rows are left");

    // A replica that was cut off takes over without what its primary had acknowledged.
    cached.write(2).await;
    let slot = slot_of(&row_key(&project(), &view(), &key("0")));
    let owner = cluster.owner(slot).unwrap();
    cluster.wait_for_step(owner);
    let replica = cluster.replica_of(owner);
    cluster.node(replica).stop();
    cluster.node(owner).drop_replicas();
    cached.write(3).await;
    let before = cached.warm().await;
    let since = Instant::now();
    cluster.kill_owner(slot);
    let after = cached.agrees(since).await;
    let older = before.iter().zip(&after).filter(|(old, new)| old != new);
    let older = older.count();
    assert!(0 < older && older < ENTITIES, "{older} rows were lost");
    cached.write(4).await;
    let now = cached.agrees(Instant::now()).await;
    assert!(now.iter().zip(&after).all(|(now, after)| now != after));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_new_empty_master_does_not_have_are_not_read_from_the_cache() {
    let mut servers = RedisSentinel::start(PATIENT);
    let place = format!("sentinel={}", servers.addresses().join(","));
    let cached = Cached::new(&place);
    let master = servers.master();
    servers.server(1 - master).stop();
    servers.server(master).drop_replicas();
    cached.write(1).await;
    assert!(cached.warm().await.iter().all(Option::is_some));
    let since = Instant::now();
    servers.server(master).kill();
    servers.server(1 - master).cont();
    servers.fail_over();
    assert_eq!(cached.agrees(since).await, vec![None; ENTITIES]);
    cached.write(2).await;
    let now = cached.agrees(Instant::now()).await;
    assert!(now.iter().all(Option::is_some));

    let since = Instant::now();
    servers.server(1 - master).empty();
    assert_eq!(cached.agrees(since).await, vec![None; ENTITIES]);
}
