//! The near cache in front of a store whose reads wait to be told, so that every order of events can be had.

mod failover;
mod history;
mod orders;
mod processes;
mod proxy;
mod servers;

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;
use vintner_core::{ByteSize, EntityKey, ProjectName, ViewId};

use super::{
    NearCache, TrackedServer, TrackedStore,
    lease::{Lease, Moment},
};
use crate::{
    Expiry, KeyCursor, KeyPage, Load, Lookup, OnlineError, OnlineRow, OnlineStore, Probe,
    Replacement, StoreInfo, WriteReport,
    redis::row_key,
    tests::{feature, key, revision, row, time},
};

const HOUR: Duration = Duration::from_secs(3600);

fn project() -> ProjectName {
    "project".parse().unwrap()
}

fn view() -> ViewId {
    "view@1".parse().unwrap()
}

fn size(bytes: u64) -> Option<ByteSize> {
    ByteSize::new(bytes)
}

/// What a cache hears of changes, for tests that look at that, or that take it away.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    deaf: AtomicBool,
    heard: Mutex<Vec<(Instant, Vec<u8>)>>,
}

impl Hearing {
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// Notes a key, after what follows from its change has been done.
    pub(super) fn heard(&self, key: &[u8]) {
        self.heard
            .lock()
            .unwrap()
            .push((Instant::now(), key.to_vec()));
    }
}

/// A store in memory. The next read that has a gate goes through it; others are answered at once.
#[derive(Debug, Default)]
struct FakeStore {
    rows: Mutex<BTreeMap<EntityKey, Bytes>>,
    gates: Mutex<VecDeque<Gate>>,
    /// How many keys were read.
    read: AtomicUsize,
}

/// What a read waits for before it is executed, and before its answer arrives.
#[derive(Debug)]
struct Gate {
    execute: oneshot::Receiver<()>,
    deliver: oneshot::Receiver<()>,
}

impl FakeStore {
    fn put(&self, id: &str, row: &'static [u8]) {
        let mut rows = self.rows.lock().unwrap();
        rows.insert(key(id), Bytes::from_static(row));
    }

    /// Makes the next read wait. It is executed, and answered, when told or when the sender is dropped.
    fn gate(&self) -> (oneshot::Sender<()>, oneshot::Sender<()>) {
        let (executing, execute) = oneshot::channel();
        let (delivering, deliver) = oneshot::channel();
        let gate = Gate { execute, deliver };
        self.gates.lock().unwrap().push_back(gate);
        (executing, delivering)
    }

    /// How many keys were read since the last time.
    fn read_keys(&self) -> usize {
        self.read.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl OnlineStore for FakeStore {
    async fn write(
        &self,
        _: &ProjectName,
        _: &ViewId,
        _: Option<Expiry>,
        rows: &[OnlineRow],
    ) -> Result<WriteReport, OnlineError> {
        let mut stored = self.rows.lock().unwrap();
        for row in rows {
            let bytes = Bytes::copy_from_slice(row.row.as_bytes());
            stored.insert(row.key.clone(), bytes);
        }
        Ok(WriteReport::default())
    }

    async fn read(
        &self,
        _: &ProjectName,
        lookups: &[Lookup<'_>],
    ) -> Result<Vec<Vec<Option<Bytes>>>, OnlineError> {
        let gate = self.gates.lock().unwrap().pop_front();
        let (execute, deliver) = gate.map(|gate| (gate.execute, gate.deliver)).unzip();
        if let Some(execute) = execute {
            execute.await.ok();
        }
        let rows = {
            let stored = self.rows.lock().unwrap();
            let read = |lookup: &Lookup<'_>| {
                self.read.fetch_add(lookup.keys.len(), Ordering::Relaxed);
                let rows = lookup.keys.iter().map(|key| stored.get(key).cloned());
                rows.collect()
            };
            lookups.iter().map(read).collect()
        };
        if let Some(deliver) = deliver {
            deliver.await.ok();
        }
        Ok(rows)
    }

    async fn load(&self, _: &ProjectName, _: &ViewId) -> Result<Load, OnlineError> {
        unimplemented!()
    }

    async fn begin_load(&self, _: &ProjectName, _: &ViewId) -> Result<Load, OnlineError> {
        unimplemented!()
    }

    async fn end_load(
        &self,
        _: &ProjectName,
        _: &ViewId,
        _: &Load,
        _: &[u8],
    ) -> Result<(), OnlineError> {
        unimplemented!()
    }

    async fn keys(
        &self,
        _: &ProjectName,
        _: &ViewId,
        _: Option<&KeyCursor>,
    ) -> Result<KeyPage, OnlineError> {
        unimplemented!()
    }

    async fn delete_rows(
        &self,
        _: &ProjectName,
        _: &ViewId,
        keys: &[EntityKey],
    ) -> Result<u64, OnlineError> {
        let mut stored = self.rows.lock().unwrap();
        keys.iter().for_each(|key| drop(stored.remove(key)));
        Ok(0)
    }

    async fn replace(
        &self,
        _: &ProjectName,
        _: &ViewId,
        _: Option<Expiry>,
        replacements: &[Replacement],
    ) -> Result<u64, OnlineError> {
        let mut stored = self.rows.lock().unwrap();
        for Replacement { key, row, .. } in replacements {
            if let Some(row) = row {
                stored.insert(key.clone(), Bytes::copy_from_slice(row.as_bytes()));
            }
        }
        Ok(0)
    }

    async fn forget(&self, _: &ProjectName, _: &ViewId) -> Result<(), OnlineError> {
        unimplemented!()
    }

    async fn probe(&self) -> Result<Probe, OnlineError> {
        unimplemented!()
    }

    async fn check(&self) -> Result<StoreInfo, OnlineError> {
        unimplemented!()
    }
}

#[async_trait]
impl TrackedStore for FakeStore {
    async fn servers(&self) -> Result<Vec<TrackedServer>, OnlineError> {
        unimplemented!("nothing tracks in these tests")
    }
}

/// A near cache whose tracking is on for as long as the test says.
struct World {
    store: Arc<FakeStore>,
    cache: Arc<NearCache>,
}

impl World {
    /// Tracking is off.
    fn off() -> Self {
        let store = Arc::new(FakeStore::default());
        let cache = NearCache {
            inner: Arc::clone(&store) as Arc<dyn TrackedStore>,
            shared: Arc::default(),
            tracker: OnceLock::from(tokio::spawn(pending::<()>()).abort_handle()),
        };
        let cache = Arc::new(cache);
        Self { store, cache }
    }

    /// Tracking is on.
    fn on() -> Self {
        let world = Self::off();
        world.begin();
        world
    }

    fn begin(&self) {
        let lease = Lease::until(Moment::now().after(HOUR));
        self.cache.shared.begin(Arc::new(lease));
    }

    /// What a server's push of an entity's key does.
    fn push(&self, id: &str) {
        let key = row_key(&project(), &view(), &key(id));
        self.cache.shared.invalidate(&key);
    }

    /// A read of these entities, not begun yet.
    fn read(
        &self,
        ids: &[&str],
        budget: Option<ByteSize>,
    ) -> BoxFuture<'static, Vec<Option<Bytes>>> {
        let cache = Arc::clone(&self.cache);
        let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
        async move {
            let lookup = Lookup {
                view: &view(),
                keys: &keys,
                cache: budget,
            };
            let mut rows = cache.read(&project(), &[lookup]).await.unwrap();
            rows.pop().unwrap()
        }
        .boxed()
    }

    async fn read_one(&self, id: &str) -> Option<Bytes> {
        let mut rows = self.read(&[id], size(1 << 20)).await;
        rows.pop().unwrap()
    }
}

fn some(row: &'static [u8]) -> Option<Bytes> {
    Some(Bytes::from_static(row))
}

#[tokio::test]
async fn a_row_is_fetched_once_until_it_changes() {
    let world = World::on();
    world.store.put("a", b"1");
    for (pushed, fetched) in [(false, 1), (false, 0), (true, 1), (false, 0)] {
        if pushed {
            world.push("a");
        }
        assert_eq!(world.read_one("a").await, some(b"1"));
        assert_eq!(world.store.read_keys(), fetched);
    }
}

#[tokio::test]
async fn that_there_is_no_row_is_remembered_too() {
    let world = World::on();
    for fetched in [1, 0] {
        assert_eq!(world.read_one("a").await, None);
        assert_eq!(world.store.read_keys(), fetched);
    }
    world.store.put("a", b"1");
    world.push("a");
    assert_eq!(world.read_one("a").await, some(b"1"));
}

#[tokio::test]
async fn only_what_is_missing_is_fetched_and_answers_keep_the_order() {
    let world = World::on();
    for (id, row) in [("a", b"1"), ("b", b"2"), ("c", b"3")] {
        world.store.put(id, row);
    }
    world.read(&["b", "d"], size(1 << 20)).await;
    world.store.read_keys();
    let ids = ["d", "c", "b", "a", "c", "e"];
    let read = world.read(&ids, size(1 << 20)).await;
    assert_eq!(
        read,
        [None, some(b"3"), some(b"2"), some(b"1"), some(b"3"), None]
    );
    assert_eq!(world.store.read_keys(), 4, "c, a, c and e");
    assert_eq!(world.read(&ids, size(1 << 20)).await, read);
    assert_eq!(world.store.read_keys(), 0);
}

#[tokio::test]
async fn an_old_answer_that_arrives_after_the_push_is_not_kept() {
    let world = World::on();
    world.store.put("a", b"old");
    let (execute, deliver) = world.store.gate();
    let mut old = world.read(&["a"], size(1 << 20));
    assert_eq!(futures::poll!(&mut old), std::task::Poll::Pending);
    execute.send(()).unwrap();
    assert_eq!(futures::poll!(&mut old), std::task::Poll::Pending);
    world.store.put("a", b"new");
    world.push("a");
    deliver.send(()).unwrap();
    assert_eq!(old.await, [some(b"old")], "it began before the write");
    assert_eq!(world.read_one("a").await, some(b"new"));
}

#[tokio::test]
async fn an_old_answer_from_an_earlier_time_of_tracking_is_not_kept() {
    let world = World::on();
    world.store.put("a", b"old");
    let (execute, deliver) = world.store.gate();
    let mut old = world.read(&["a"], size(1 << 20));
    assert_eq!(futures::poll!(&mut old), std::task::Poll::Pending);
    execute.send(()).unwrap();
    assert_eq!(futures::poll!(&mut old), std::task::Poll::Pending);
    // Nobody is told of the write.
    world.cache.shared.end();
    world.store.put("a", b"new");
    world.begin();
    deliver.send(()).unwrap();
    assert_eq!(old.await, [some(b"old")]);
    assert_eq!(world.read_one("a").await, some(b"new"));
}

#[tokio::test]
async fn a_fetch_that_is_given_up_keeps_nothing_and_leaves_nothing() {
    let world = World::on();
    world.store.put("a", b"1");
    let (_execute, _deliver) = world.store.gate();
    let mut given_up = world.read(&["a"], size(1 << 20));
    assert_eq!(futures::poll!(&mut given_up), std::task::Poll::Pending);
    let cache = world.cache.shared.current(&project(), &view()).unwrap();
    assert_eq!(cache.fetches_under_way(), 1);
    drop(given_up);
    assert_eq!(cache.fetches_under_way(), 0);
    world.read_one("a").await;
    world.read_one("a").await;
    assert_eq!(world.store.read_keys(), 1);
    assert_eq!(cache.fetches_under_way(), 0);
}

#[tokio::test]
async fn while_tracking_is_off_every_read_goes_past_the_cache() {
    let world = World::off();
    world.store.put("a", b"1");
    for tracking in [false, true, false] {
        match tracking {
            true => world.begin(),
            false => world.cache.shared.end(),
        }
        for fetched in [1, usize::from(!tracking)] {
            world.read_one("a").await;
            assert_eq!(world.store.read_keys(), fetched, "tracking {tracking}");
        }
    }
    let stats = world.cache.cache_stats().unwrap();
    assert!(!stats.tracking);
    assert_eq!((stats.generations, stats.views[0].bypassed), (1, 4));
}

#[tokio::test]
async fn a_lease_that_has_run_out_ends_what_was_cached_under_it() {
    let world = World::off();
    world.store.put("a", b"1");
    let lease = Arc::new(Lease::until(Moment::now().after(HOUR)));
    world.cache.shared.begin(Arc::clone(&lease));
    world.read_one("a").await;
    world.read_one("a").await;
    assert_eq!(world.store.read_keys(), 1);
    assert!(!lease.holds(Moment::now().after(HOUR)));
    assert!(!lease.extend(Moment::now().after(HOUR)), "too late");
    world.read_one("a").await;
    world.read_one("a").await;
    assert_eq!(world.store.read_keys(), 2);
}

#[tokio::test]
async fn own_changes_are_seen_without_a_push() {
    let world = World::on();
    let (project, view, cache) = (project(), view(), &world.cache);
    let revision = revision("view@1", &[feature("value", "int64")], None);
    let row = |event| row(&revision, "a", time(event, 1), &[None]);
    assert_eq!(world.read_one("a").await, None);
    let written = [row(1)];
    cache.write(&project, &view, None, &written).await.unwrap();
    let seen = world.read_one("a").await;
    assert_eq!(seen.as_deref(), Some(row(1).row.as_bytes()));
    let replacement = Replacement {
        key: key("a"),
        seen: seen.unwrap(),
        row: Some(row(2).row),
    };
    cache
        .replace(&project, &view, None, &[replacement])
        .await
        .unwrap();
    let seen = world.read_one("a").await;
    assert_eq!(seen.as_deref(), Some(row(2).row.as_bytes()));
    cache
        .delete_rows(&project, &view, &[key("a")])
        .await
        .unwrap();
    assert_eq!(world.read_one("a").await, None);
}

#[tokio::test]
async fn a_flush_empties_everything_and_tracking_goes_on() {
    let world = World::on();
    world.store.put("a", b"1");
    world.read_one("a").await;
    world.store.rows.lock().unwrap().clear();
    world.cache.shared.empty();
    assert_eq!(world.read_one("a").await, None);
    let stats = world.cache.cache_stats().unwrap();
    assert!(stats.tracking);
    assert_eq!(stats.generations, 2);
    world.cache.shared.end();
    world.cache.shared.empty();
    assert!(!world.cache.cache_stats().unwrap().tracking);
}

#[tokio::test]
async fn a_view_takes_no_more_than_its_budget_and_another_budget_begins_anew() {
    let world = World::on();
    let ids: Vec<_> = (0..1000).map(|id| id.to_string()).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    for (budget, most) in [(100_000, 100_000), (50_000, 50_000)] {
        world.read(&ids, size(budget)).await;
        let stats = world.cache.cache_stats().unwrap();
        let [view] = stats.views.as_slice() else {
            panic!("{stats:?}");
        };
        assert!(view.bytes <= most && view.bytes > most / 2, "{view:?}");
        assert!(view.entries > 0 && view.entries < 1000, "{view:?}");
        assert_eq!(view.budget, size(budget));
    }
    assert_eq!(world.cache.cache_stats().unwrap().views[0].misses, 2000);
}

#[tokio::test]
async fn views_and_projects_are_cached_apart_and_without_a_budget_not_at_all() {
    let world = World::on();
    let keys = [key("a")];
    let views: [ViewId; 3] = ["view@1", "view@2", "other@1"].map(|view| view.parse().unwrap());
    let lookups = views.each_ref().map(|view| Lookup {
        view,
        keys: &keys,
        cache: if view.name.as_str() == "other" {
            None
        } else {
            size(1 << 20)
        },
    });
    for (project, fetched) in [("one", 3), ("one", 1), ("two", 3), ("two", 1)] {
        let project = project.parse().unwrap();
        world.cache.read(&project, &lookups).await.unwrap();
        assert_eq!(world.store.read_keys(), fetched, "{project}");
    }
    let stats = world.cache.cache_stats().unwrap();
    assert_eq!(stats.views.len(), 4);
    assert!(
        stats
            .views
            .iter()
            .all(|view| (view.misses, view.negative_hits, view.entries) == (1, 1, 1)),
        "{stats:?}"
    );
}
