//! Random histories: the embedded store, Redis with and without a near cache, and a Redis Cluster agree with the plain
//! map of `vintner_testkit::history` on every answer, also when servers are killed and emptied.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use vintner_core::{EntityKey, ProjectName, Timestamp, Ttl, Value};
use vintner_registry::model::{Layout, ViewRevision};
use vintner_testkit::{
    history::{
        self, Answer, ENTITIES, Kill, Level, Pushed, Range, Row, Subject, Times, Victim, check_all,
    },
    redis::RedisFleet,
};

use super::{feature, key, plan, revision, suite::empty, time, us};
use crate::{
    EmbeddedStore, Expiry, NearCache, OnlineError, OnlineFeatures, OnlineRow, OnlineStore,
    RedisConfig, RedisServers, RedisStore, RowLayout, Status, WriteReport, near_cache::LEASE,
    redis::row_key, tests::get_features,
};

/// How long a store may be away after a kill.
const DEADLINE: Duration = Duration::from_secs(30);

/// The entities; the last one never has a row.
const NAMES: [&str; ENTITIES + 1] = ["a", "b", "", "nobody"];

/// A store, in which a history has a project of its own.
struct Stored {
    store: Arc<dyn OnlineStore>,
    /// None for a store that is a part of this process.
    fleet: Option<Arc<Mutex<RedisFleet>>>,
    project: ProjectName,
    view: ViewRevision,
    lag: Duration,
    /// Which server is emptied next.
    turn: usize,
    fault: Option<Fault>,
}

fn view(ttl: Option<i64>) -> ViewRevision {
    let ttl = ttl.map(|ttl| Ttl::from_micros(ttl.unsigned_abs()).unwrap());
    let mut view = revision(
        "view@1",
        &[feature("value", "int32"), feature("late", "int32")],
        ttl,
    );
    view.layouts.insert(0, old_layout());
    view
}

fn old_layout() -> Layout {
    Layout::of(&[feature("value", "int32")])
}

fn packed(view: &ViewRevision, row: &Row) -> OnlineRow {
    let value = row.value.map(Value::Int32);
    let (layout, values) = match row.old_layout {
        true => (old_layout(), vec![value]),
        false => (view.layout(), vec![value.clone(), value]),
    };
    OnlineRow {
        key: key(NAMES[row.entity]),
        row: RowLayout::new(&layout)
            .pack(time(row.event, row.created), &values)
            .unwrap(),
    }
}

fn answers(features: &OnlineFeatures, entities: usize) -> Vec<Answer> {
    let cell = |column: usize, entity: usize| {
        let column = &features.columns[column];
        let value = column.values.get(entity).map(|value| match value {
            Value::Int32(value) => value,
            other => panic!("{other:?} is not an int32"),
        });
        let status = match column.statuses[entity] {
            Status::Present => history::Status::Present,
            Status::NullValue => history::Status::Null,
            Status::NotFound => history::Status::NotFound,
            Status::OutsideMaxAge => history::Status::OutsideMaxAge,
        };
        let event = features.event_timestamps[column.view][entity];
        (value, status, event.map(Timestamp::micros))
    };
    (0..entities)
        .map(|entity| [cell(0, entity), cell(1, entity)])
        .collect()
}

impl Stored {
    /// Tries until the store is there.
    async fn done<T, F: Future<Output = Result<T, OnlineError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> T {
        let began = Instant::now();
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(OnlineError::Unavailable { .. } | OnlineError::LostRows { .. })
                    if began.elapsed() < DEADLINE => {}
                Err(error) => panic!("{:?}: {error:?}", self.store),
            }
        }
    }

    /// Writes rows while a server may be killed.
    async fn write(&self, now: i64, rows: &[Row], kill: Option<Kill>) -> WriteReport {
        let killing = self.fleet.clone().zip(kill).map(|(fleet, kill)| {
            tokio::task::spawn_blocking(move || {
                if let Victim::Server(number) = kill.victim {
                    std::thread::park_timeout(kill.after);
                    lock(&fleet).kill_and_restart(number);
                }
            })
        });
        let mut rows: Vec<_> = rows.iter().map(|row| packed(&self.view, row)).collect();
        if self.fault == Some(Fault::TiesStay) {
            rows.reverse();
        }
        let expiry = self.view.ttl.map(|ttl| Expiry { ttl, now: us(now) });
        let write = || {
            self.store
                .write(&self.project, &self.view.id, expiry, &rows)
        };
        let report = self.done(write).await;
        if let Some(killing) = killing {
            killing.await.unwrap();
        }
        report
    }
}

fn lock(fleet: &Mutex<RedisFleet>) -> MutexGuard<'_, RedisFleet> {
    fleet.lock().unwrap()
}

impl Subject for Stored {
    fn name(&self) -> String {
        format!("{:?}", self.store)
    }

    fn expires(&self) -> bool {
        self.fleet.is_some()
    }

    fn lag(&self) -> Duration {
        self.lag
    }

    /// A load of these rows, begun again when a server has lost what it had: it is noted in the end.
    async fn materialize(&mut self, now: i64, rows: &[Row], _: Range, kill: Option<Kill>) {
        let (project, view) = (&self.project, &self.view.id);
        let mut kill = kill;
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < DEADLINE, "{:?}: no load ends", self.store);
            let load = self.done(|| self.store.begin_load(project, view)).await;
            self.write(now, rows, kill.take()).await;
            let ended = self.store.end_load(project, view, &load, b"noted").await;
            match ended {
                Ok(()) => break,
                Err(OnlineError::LostRows { .. } | OnlineError::Unavailable { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        let load = self.done(|| self.store.load(project, view)).await;
        assert_eq!(load.progress.as_deref(), Some(b"noted".as_slice()));
    }

    async fn push(&mut self, now: i64, rows: &[Row], kill: Option<Kill>) -> Pushed {
        let is_killed = kill.is_some();
        let report = self.write(now, rows, kill).await;
        assert_eq!(report.written + report.kept, rows.len() as u64);
        Pushed {
            already_there: false,
            // One that was not heard of was written twice, and found itself.
            late: (!is_killed).then_some(report.kept),
        }
    }

    async fn delete(&mut self, _: i64, entities: &[usize], _: Option<Kill>) {
        if self.fault == Some(Fault::NothingIsDeleted) {
            return;
        }
        let keys: Vec<_> = entities.iter().map(|&entity| key(NAMES[entity])).collect();
        let delete = || self.store.delete_rows(&self.project, &self.view.id, &keys);
        self.done(delete).await;
    }

    async fn restore(&mut self, _: i64) -> bool {
        false
    }

    async fn empty(&mut self) -> Option<Vec<usize>> {
        let (project, view) = (&self.project, &self.view.id);
        let Some(fleet) = self.fleet.clone() else {
            empty(&*self.store, project, view).await;
            return Some((0..ENTITIES).collect());
        };
        let load = self.done(|| self.store.begin_load(project, view)).await;
        self.turn += 1;
        let gone = lock(&fleet).empty(self.turn);
        // Whichever server it was, what was loaded may be gone.
        let ended = self.store.end_load(project, view, &load, b"lost").await;
        assert!(
            matches!(ended, Err(OnlineError::LostRows { .. })),
            "{:?} was emptied, and a load ends so: {ended:?}",
            self.store
        );
        let now = self.done(|| self.store.load(project, view)).await;
        assert_eq!(now.progress, None, "{:?} was emptied", self.store);
        assert_ne!(now.life, load.life, "{:?} was emptied", self.store);
        let is_gone = |entity: &usize| gone.contains(&row_key(project, view, &key(NAMES[*entity])));
        Some((0..ENTITIES).filter(is_gone).collect())
    }

    async fn pass(&mut self, micros: i64) {
        if let Some(fleet) = &self.fleet {
            lock(fleet).age(self.project.as_str(), micros);
        }
    }

    async fn read(&mut self, now: i64, entities: &[usize]) -> Vec<Answer> {
        let mut view = self.view.clone();
        if let (Some(Fault::Ttl(more)), Some(ttl)) = (self.fault, view.ttl) {
            view.ttl = Ttl::from_micros(ttl.micros().saturating_add_signed(more));
        }
        let plan = plan(&[&view]);
        let keys: Vec<Option<EntityKey>> = entities
            .iter()
            .map(|&entity| Some(key(NAMES[entity])))
            .collect();
        let read = || {
            let keys = vec![keys.clone()];
            get_features(&*self.store, &self.project, &plan, keys, us(now), false)
        };
        answers(&self.done(read).await, entities.len())
    }

    async fn read_after(&mut self, _: i64, _: &[usize]) -> Option<Vec<Answer>> {
        None
    }

    async fn training(&mut self, _: &[(usize, i64)]) -> Option<Vec<Option<i32>>> {
        None
    }
}

/// Checks histories on a store, each in a project of its own.
fn check_on(
    runtime: &tokio::runtime::Runtime,
    store: &Arc<dyn OnlineStore>,
    fleet: Option<&Arc<Mutex<RedisFleet>>>,
    lag: Duration,
    histories: u32,
) {
    /// Numbers the histories of this process, which share servers.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    check_all(runtime, Level::Store, histories, Times::All, |_, ttl| {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Stored {
            store: Arc::clone(store),
            fleet: fleet.cloned(),
            project: format!("history{number}").parse().unwrap(),
            view: view(ttl),
            lag,
            turn: number,
            fault: None,
        }
    });
}

#[test]
fn the_embedded_store_agrees_with_the_model_on_every_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = runtime
        .block_on(EmbeddedStore::open(folder.path()))
        .unwrap();
    check_on(&runtime, &(Arc::new(store) as _), None, Duration::ZERO, 96);
}

/// With a near cache, others' changes may be late by the lease and its own never; here all are its own but the passing
/// of time and the emptying.
#[test]
fn redis_with_and_without_a_near_cache_agrees_with_the_model_on_every_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fleet = RedisFleet::one();
    let url = fleet.urls().remove(0);
    let redis = || Arc::new(RedisStore::new(url.parse().unwrap()).unwrap());
    let _context = runtime.enter();
    let cached = Arc::new(NearCache::new(redis()));
    let (plain, fleet) = (redis(), Arc::new(Mutex::new(fleet)));
    check_on(&runtime, &(plain as _), Some(&fleet), Duration::ZERO, 32);
    let store: Arc<dyn OnlineStore> = Arc::<NearCache>::clone(&cached);
    check_on(&runtime, &store, Some(&fleet), LEASE, 32);
    let stats = cached.cache_stats().unwrap();
    let hits: u64 = stats.views.iter().map(|view| view.hits).sum();
    assert!(hits > 0, "{stats:?}");
}

/// Each entity has a slot of its own, so a history is spread over the nodes.
#[test]
fn a_cluster_with_and_without_a_near_cache_agrees_with_the_model_on_every_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fleet = RedisFleet::cluster();
    let urls = fleet.urls();
    let redis = || {
        let seeds = urls.iter().map(|url| url.parse().unwrap());
        let config = RedisConfig {
            servers: RedisServers::Cluster(seeds.collect()),
            tls: None,
        };
        Arc::new(RedisStore::new(config).unwrap())
    };
    let _context = runtime.enter();
    let (plain, fleet) = (redis(), Arc::new(Mutex::new(fleet)));
    check_on(&runtime, &(plain as _), Some(&fleet), Duration::ZERO, 16);
    let cached: Arc<dyn OnlineStore> = Arc::new(NearCache::new(redis()));
    check_on(&runtime, &cached, Some(&fleet), LEASE, 16);
}

/// What is wrong with a store, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Of equal rows the first stays.
    TiesStay,
    /// The ttl is longer by so many microseconds.
    Ttl(i64),
    /// A row that was deleted is still there.
    NothingIsDeleted,
}

#[test]
fn a_store_with_other_rules_is_found_out() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = runtime
        .block_on(EmbeddedStore::open(folder.path()))
        .unwrap();
    let store: Arc<dyn OnlineStore> = Arc::new(store);
    let faults = [
        Fault::TiesStay,
        Fault::Ttl(1),
        Fault::Ttl(-1),
        Fault::NothingIsDeleted,
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let check = || {
            check_all(&runtime, Level::Store, 256, Times::All, |history, ttl| {
                Stored {
                    store: Arc::clone(&store),
                    fleet: None,
                    project: format!("fault{number}_{history}").parse().unwrap(),
                    view: view(ttl),
                    lag: Duration::ZERO,
                    turn: 0,
                    fault: Some(fault),
                }
            });
        };
        let checked = catch_unwind(AssertUnwindSafe(check));
        assert!(checked.is_err(), "{fault:?} was not found");
    }
}
