//! Random histories of writes and reads: the embedded store, Redis with and without a near cache, a Redis Cluster, and a
//! naive model agree on every answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use vintner_core::{ProjectName, Timestamp, Ttl, Value};
use vintner_registry::model::{Layout, ViewRevision};
use vintner_testkit::redis::{RedisCluster, RedisServer};

use super::{feature, key, plan, revision, suite::empty, time, us};
use crate::{
    EmbeddedStore, Expiry, NearCache, OnlineFeatures, OnlineRow, OnlineStore, RedisStore,
    RowLayout, Status, WriteReport, redis::tests::cluster::config as cluster_config,
    tests::get_features,
};

const HOUR: i64 = 3_600_000_000;
/// Where the clock begins.
const NOON: i64 = 12 * HOUR;
const TTL: i64 = HOUR / 2;
/// The grace of such a ttl.
const GRACE: i64 = HOUR;

const ENTITIES: [&str; 3] = ["a", "b", ""];

#[derive(Clone, Debug)]
enum Step {
    /// Writes these rows in one call.
    Write(Vec<Row>),
    /// Compares all answers, at so many microseconds after the clock.
    Read(i64),
    /// Moves the clock on.
    Tick(i64),
    Delete,
}

#[derive(Clone, Debug)]
struct Row {
    entity: &'static str,
    event: i64,
    created: i64,
    value: Option<i32>,
    /// Whether it is written in the layout from before `late` was added.
    old_layout: bool,
}

/// Few instants, each next to a boundary of a read at noon, so that rows tie, come out of order, and expire.
fn event() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![
        i64::MIN,
        -1,
        0,
        1,
        NOON - TTL - 1,
        NOON - TTL,
        NOON - TTL + 1,
        NOON - 1,
        NOON,
        NOON + 1,
        NOON + HOUR,
        NOON - TTL - GRACE - 1,
        NOON - TTL - GRACE / 4,
        i64::MAX,
    ])
}

fn row() -> impl Strategy<Value = Row> {
    let created = prop::sample::select(vec![i64::MIN, 0, NOON, NOON + 1, i64::MAX]);
    (
        prop::sample::select(ENTITIES.to_vec()),
        event(),
        created,
        prop::option::of(0..3),
        any::<bool>(),
    )
        .prop_map(|(entity, event, created, value, old_layout)| Row {
            entity,
            event,
            created,
            value,
            old_layout,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let moment = prop::sample::select(vec![0, 1, TTL - 1, TTL, TTL + 1, HOUR]);
    prop_oneof![
        6 => prop::collection::vec(row(), 1..5).prop_map(Step::Write),
        3 => moment.clone().prop_map(Step::Read),
        1 => moment.prop_map(Step::Tick),
        1 => Just(Step::Delete),
    ]
}

/// One entity's answer for (`value`, `late`): value, status and event time of each.
type Answer = [(Option<i32>, Status, Option<i64>); 2];

/// The rules of the online store, as plainly as they can be said.
#[derive(Default)]
struct Model(BTreeMap<&'static str, Row>);

impl Model {
    fn write(&mut self, rows: &[Row]) -> WriteReport {
        let mut report = WriteReport::default();
        for row in rows {
            let newer = self
                .0
                .get(row.entity)
                .is_some_and(|stored| (stored.event, stored.created) > (row.event, row.created));
            if newer {
                report.kept += 1;
            } else {
                self.0.insert(row.entity, row.clone());
                report.written += 1;
            }
        }
        report
    }

    fn answer(&self, entity: &str, ttl: Option<i64>, now: i64) -> Answer {
        const NOTHING: (Option<i32>, Status, Option<i64>) = (None, Status::NotFound, None);
        let Some(row) = self.0.get(entity).filter(|row| row.event <= now) else {
            return [NOTHING, NOTHING];
        };
        let expired =
            ttl.is_some_and(|ttl| i128::from(now) - i128::from(row.event) > i128::from(ttl));
        let (value, status) = match row.value {
            _ if expired => (None, Status::OutsideMaxAge),
            None => (None, Status::NullValue),
            some => (some, Status::Present),
        };
        let found = (value, status, Some(row.event));
        let absent = (None, Status::NotFound, Some(row.event));
        [found, if row.old_layout { absent } else { found }]
    }

    /// Whether a store may have let the entity's row go.
    fn past_grace(&self, entity: &str, ttl: Option<i64>, now: i64) -> bool {
        // While the test runs the server's clock goes on: what has only minutes left counts as gone.
        let left =
            |row: &Row, ttl: i64| i128::from(row.event) + i128::from(ttl + GRACE) - i128::from(now);
        self.0
            .get(entity)
            .zip(ttl)
            .is_some_and(|(row, ttl)| left(row, ttl) < i128::from(GRACE / 2))
    }
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
        key: key(row.entity),
        row: RowLayout::new(&layout)
            .pack(time(row.event, row.created), &values)
            .unwrap(),
    }
}

fn answers(features: &OnlineFeatures) -> Vec<Answer> {
    let cell = |column: usize, entity: usize| {
        let column = &features.columns[column];
        let value = column.values.get(entity).map(|value| match value {
            Value::Int32(value) => value,
            other => panic!("{other:?} is not an int32"),
        });
        (
            value,
            column.statuses[entity],
            features.event_timestamps[column.view][entity].map(Timestamp::micros),
        )
    };
    (0..ENTITIES.len())
        .map(|entity| [cell(0, entity), cell(1, entity)])
        .collect()
}

async fn check(
    stores: &[Arc<dyn OnlineStore>],
    project: &ProjectName,
    ttl: Option<i64>,
    history: &[Step],
) {
    let view = view(ttl);
    let plan = plan(&[&view]);
    let keys = vec![ENTITIES.iter().map(|id| Some(key(id))).collect::<Vec<_>>()];
    let mut model = Model::default();
    let mut clock = NOON;
    for step in history.iter().chain([&Step::Read(0)]) {
        match step {
            Step::Tick(micros) => clock += micros,
            Step::Delete => {
                model = Model::default();
                for store in stores {
                    empty(&**store, project, &view.id).await;
                }
            }
            Step::Write(rows) => {
                let want = model.write(rows);
                let rows: Vec<_> = rows.iter().map(|row| packed(&view, row)).collect();
                let expiry = view.ttl.map(|ttl| Expiry {
                    ttl,
                    now: us(clock),
                });
                for store in stores {
                    let got = store.write(project, &view.id, expiry, &rows).await.unwrap();
                    // What has left the store cannot keep an older row out; that one has expired as well.
                    assert!(
                        got == want || ttl.is_some(),
                        "{store:?} reports {got:?}, not {want:?}"
                    );
                }
            }
            Step::Read(later) => {
                let now = clock + later;
                for store in stores {
                    let features =
                        get_features(&**store, project, &plan, keys.clone(), us(now), false)
                            .await
                            .unwrap();
                    for (entity, got) in ENTITIES.iter().zip(answers(&features)) {
                        let want = model.answer(entity, ttl, now);
                        let gone = model.past_grace(entity, ttl, now)
                            && got.iter().all(|(_, status, _)| {
                                matches!(status, Status::NotFound | Status::OutsideMaxAge)
                            });
                        assert!(
                            got == want || gone,
                            "{store:?} at {now}: {entity:?} is {got:?}, not {want:?}"
                        );
                    }
                }
            }
        }
    }
}

/// Draws histories and checks them, each in a project of its own.
fn check_all(runtime: &tokio::runtime::Runtime, stores: &[Arc<dyn OnlineStore>], histories: u32) {
    let case = (
        prop::option::of(Just(TTL)),
        prop::collection::vec(step(), 1..12),
    );
    let number = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(histories));
    let outcome = runner.run(&case, |(ttl, history)| {
        number.set(number.get() + 1);
        let project = format!("history{}", number.get()).parse().unwrap();
        runtime.block_on(check(stores, &project, ttl, &history));
        Ok(())
    });
    outcome.unwrap();
}

/// Each entity has a slot of its own, so a history is spread over the nodes.
#[test]
fn a_cluster_agrees_with_the_model_on_every_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = RedisCluster::start(Duration::from_secs(15));
    let store = Arc::new(RedisStore::new(cluster_config(&cluster)).unwrap());
    let _context = runtime.enter();
    check_all(&runtime, &[store], 64);
}

#[test]
fn all_stores_agree_with_the_model_on_every_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = RedisServer::start();
    let redis = |database| {
        let url = server.database_url(database).parse().unwrap();
        Arc::new(RedisStore::new(url).unwrap())
    };
    let _context = runtime.enter();
    let cached = Arc::new(NearCache::new(redis(1)));
    let stores: [Arc<dyn OnlineStore>; 3] = runtime.block_on(async {
        let embedded = EmbeddedStore::open(folder.path()).await.unwrap();
        [
            Arc::new(embedded) as _,
            redis(0) as _,
            Arc::clone(&cached) as _,
        ]
    });
    check_all(&runtime, &stores, 256);
    let stats = cached.cache_stats().unwrap();
    let hits: u64 = stats.views.iter().map(|view| view.hits).sum();
    assert!(hits > 0, "{stats:?}");
}
