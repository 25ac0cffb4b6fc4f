//! Pushes, runs and reads beside a model that keeps all rows in a list.

use std::{
    fs,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::Int64Type,
};
use futures::{StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;
use vintner_core::{Boundary, Clock, Column, FeatureType, Knowledge, ScalarType, Timestamp, Value};
use vintner_online::Status;
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_repo::RepoFile;

use crate::{
    Fault, Local, Operations, OpsError,
    api::{
        After, EntityColumn, EntityRows, HistoricalRequest, MaterializeRequest, OnlineRequest,
        Producer, PushOutcome, PushReport, PushRequest, Scope, Spine, WriteToken,
    },
};

const REPO: &str = "\
kind: entity
name: thing
join_keys: {k: int64}
---
kind: source
name: events
path: events
format: csv
event_timestamp: at
created_timestamp: made
---
kind: feature_view
name: readings
entities: [thing]
ttl: 40us
source: events
features:
  v: {type: int64}
";

/// A moment after 1970, so that there is time before it.
const START: i64 = 1_000_000_000_000_000;

/// A clock that is moved by hand.
#[derive(Debug)]
struct ByHand(AtomicI64);

impl Clock for ByHand {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Key, event time, created time, value.
type Row = (i64, i64, i64, Option<i64>);

struct World {
    folder: TempDir,
    clock: Arc<ByHand>,
    local: Local,
    files: Vec<RepoFile>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| RepoFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = vec![
            file(
                "vintner.yaml",
                "project: p\nregistry: r\noffline_store: t\nonline_store: {type: embedded, path: o}\n",
            ),
            file("features.yaml", REPO),
        ];
        let clock = Arc::new(ByHand(AtomicI64::new(START)));
        let world = Self {
            local: Self::open(&folder, &files, &clock),
            folder,
            clock,
            files,
        };
        world.source("a", &[(0, START - 1, START - 1, Some(0))]);
        let plan = world.local.plan(&world.files).await.unwrap();
        let base = plan
            .changes
            .unwrap_or_else(|| panic!("{:?}", plan.problems))
            .base;
        world.local.apply(&world.files, base, "t").await.unwrap();
        world
    }

    fn open(folder: &TempDir, files: &[RepoFile], clock: &Arc<ByHand>) -> Local {
        let memory = NonZeroUsize::new(1 << 30).unwrap();
        let clock: Arc<dyn Clock> = Arc::<ByHand>::clone(clock);
        Local::open(folder.path(), files, clock, memory).unwrap()
    }

    /// The same deployment, as another process has it.
    fn another(&self) -> Local {
        Self::open(&self.folder, &self.files, &self.clock)
    }

    fn now(&self) -> i64 {
        self.clock.now().micros()
    }

    fn pass(&self, micros: i64) {
        self.clock.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// Writes a file of the source.
    fn source(&self, name: &str, rows: &[Row]) {
        let time = |micros: i64| Timestamp::from_micros(micros).to_string();
        let mut text = "k,at,made,v\n".to_owned();
        for (k, at, made, v) in rows {
            let v = v.map_or(String::new(), |v| v.to_string());
            text += &format!("{k},{},{},{v}\n", time(*at), time(*made));
        }
        fs::create_dir_all(self.folder.path().join("events")).unwrap();
        fs::write(self.folder.path().join(format!("events/{name}.csv")), text).unwrap();
    }

    async fn materialize(&self, scope: Scope) {
        let request = MaterializeRequest {
            views: vec![],
            window: None,
            scope,
        };
        self.local.materialize(&request, &|_| {}).await.unwrap();
    }

    async fn online(&self, k: i64, after: After) -> Result<(Status, Option<i64>), OpsError> {
        online(&self.local, k, after).await
    }

    /// The value of the view for every key and moment.
    async fn historical(
        &self,
        asked: &[(i64, i64)],
        after: Vec<WriteToken>,
    ) -> Result<Vec<Option<i64>>, OpsError> {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(asked.iter().map(|a| a.0)));
        let times = TimestampMicrosecondArray::from_iter_values(asked.iter().map(|a| a.1));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let rows = RecordBatch::try_from_iter([("k", keys), ("event_timestamp", times)]).unwrap();
        let request = HistoricalRequest {
            features: features(),
            names: NameStyle::Short,
            knowledge: Knowledge::Event,
            boundary: Boundary::At,
            timestamp_column: None,
            split: None,
            save: None,
            lint: false,
            after,
        };
        let spine = Spine::Rows(EntityRows {
            schema: rows.schema(),
            batches: futures::stream::iter([Ok(rows)]).boxed(),
        });
        let rows = self.local.get_historical(&request, spine).await?;
        let batches: Vec<RecordBatch> = rows.batches.try_collect().await?;
        let values = batches.iter().flat_map(|batch| {
            let column = batch.column_by_name("v").unwrap();
            let column = column.as_primitive::<Int64Type>();
            (0..column.len())
                .map(|row| column.is_valid(row).then(|| column.value(row)))
                .collect::<Vec<_>>()
        });
        Ok(values.collect())
    }
}

fn features() -> FeatureRequest {
    FeatureRequest::Features(vec!["readings".parse().unwrap()])
}

async fn online(local: &Local, k: i64, after: After) -> Result<(Status, Option<i64>), OpsError> {
    let request = OnlineRequest {
        features: features(),
        names: NameStyle::Short,
        entities: vec![EntityColumn {
            name: "k".to_owned(),
            values: Column::of(
                FeatureType::Scalar(ScalarType::Int64),
                [Some(Value::Int64(k))],
            )
            .unwrap(),
        }],
        after,
    };
    let response = local.get_online(request).await?;
    let column = &response.features[0];
    let value = match column.values.get(0) {
        Some(Value::Int64(v)) => Some(v),
        _ => None,
    };
    Ok((column.statuses[0], value))
}

fn request(rows: &[Row], producer: Option<(&str, u64)>) -> PushRequest {
    let ints = |get: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(get)))
    };
    let times = |get: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(get),
        ))
    };
    let values: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.3)));
    PushRequest {
        view: "readings".parse().unwrap(),
        version: None,
        rows: RecordBatch::try_from_iter_with_nullable([
            ("v", values, true),
            ("created_timestamp", times(|r| r.2), true),
            ("event_timestamp", times(|r| r.1), true),
            ("k", ints(|r| r.0), true),
        ])
        .unwrap(),
        producer: producer.map(|(name, sequence)| Producer {
            name: name.to_owned(),
            sequence,
        }),
    }
}

async fn push(local: &Local, rows: &[Row]) -> PushReport {
    local.push(&request(rows, None)).await.unwrap()
}

fn after(token: &WriteToken) -> After {
    After {
        tokens: vec![token.clone()],
        patience: Duration::ZERO,
    }
}

/// The row that counts for a key at a moment: the greatest times, and of equal ones the greatest value.
fn model(rows: &[Row], k: i64, at: i64) -> Option<Row> {
    let rows = rows.iter().filter(|row| row.0 == k && row.1 <= at);
    rows.max_by_key(|row| (row.1, row.2, row.3)).copied()
}

const TTL: i64 = 40;

/// Numbers that look like chance and are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        i64::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Few keys and few times, so that rows are late and tie.
fn rows(chance: &mut Chance, now: i64) -> Vec<Row> {
    let count = 1 + chance.below(4);
    (0..count)
        .map(|_| {
            let event = now - [0, 0, 1, 5, TTL, TTL + 1][usize::try_from(chance.below(6)).unwrap()];
            let created = event + [0, 0, -1][usize::try_from(chance.below(3)).unwrap()];
            let value = [None, Some(1), Some(2), Some(3)];
            let value = value[usize::try_from(chance.below(4)).unwrap()];
            (chance.below(3), event, created, value)
        })
        .collect()
}

#[tokio::test]
async fn histories_of_pushes_and_runs_agree_with_a_list_of_rows() {
    for seed in 1..9 {
        let mut chance = Chance(seed);
        let world = World::new().await;
        world.materialize(Scope::Incremental).await;
        let mut all: Vec<Row> = vec![(0, START - 1, START - 1, Some(0))];
        let mut tokens: Vec<WriteToken> = Vec::new();
        for step in 0..14 {
            world.pass([0, 0, 1, 5, 20][usize::try_from(chance.below(5)).unwrap()]);
            let made = rows(&mut chance, world.now());
            match chance.below(8) {
                0 => {
                    world.source(&format!("s{step}"), &made);
                    all.extend(&made);
                    world.materialize(Scope::Incremental).await;
                }
                1 => world.materialize(Scope::FullRefresh).await,
                2 => {
                    // From another process, and once more, as by one who has not heard the answer.
                    let other = world.another();
                    let name = format!("p{step}");
                    let request = request(&made, Some((&name, 1)));
                    let first = other.push(&request).await.unwrap();
                    let again = world.local.push(&request).await.unwrap();
                    let outcomes = (first.outcome, again.outcome);
                    assert_eq!(outcomes, (PushOutcome::Written, PushOutcome::AlreadyThere));
                    all.extend(&made);
                    tokens = vec![again.token];
                }
                _ => {
                    let mut late = 0;
                    for (place, row) in made.iter().enumerate() {
                        let before: Vec<Row> = [&all[..], &made[..place]].concat();
                        let best = model(&before, row.0, world.now());
                        let key = |row: &Row| (row.1, row.2, row.3);
                        late += u64::from(best.is_some_and(|best| key(&best) > key(row)));
                    }
                    let report = push(&world.local, &made).await;
                    all.extend(&made);
                    let story = format!("seed {seed} step {step}");
                    assert_eq!(report.rows, made.len() as u64, "{story}");
                    assert_eq!(
                        (report.late, report.online),
                        (late, report.rows - late),
                        "{story}"
                    );
                    tokens = vec![report.token];
                }
            }
            let now = world.now();
            let after = After {
                tokens: tokens.clone(),
                patience: Duration::ZERO,
            };
            for k in 0..3 {
                let want = match model(&all, k, now) {
                    None => (Status::NotFound, None),
                    Some((_, event, ..)) if event + TTL < now => (Status::OutsideMaxAge, None),
                    Some((.., None)) => (Status::NullValue, None),
                    Some((.., value)) => (Status::Present, value),
                };
                let found = world.online(k, after.clone()).await.unwrap();
                assert_eq!(found, want, "seed {seed} step {step} key {k}: {all:?}");
            }
            if step % 4 == 3 {
                let asked: Vec<(i64, i64)> = (0..3)
                    .flat_map(|k| {
                        all.iter()
                            .flat_map(move |r| [(k, r.1), (k, r.1 - 1), (k, r.1 + TTL + 1)])
                    })
                    .collect();
                let found = world.historical(&asked, tokens.clone()).await.unwrap();
                let want = asked.iter().map(|(k, at)| {
                    let best = model(&all, *k, *at)?;
                    (best.1 + TTL >= *at).then_some(best.3).flatten()
                });
                let want: Vec<_> = want.collect();
                assert_eq!(found, want, "seed {seed} step {step}");
            }
        }
    }
}

#[tokio::test]
async fn pushes_that_wait_for_each_other_share_a_commit() {
    let world = World::new().await;
    let now = world.now();
    let rows: Vec<[Row; 1]> = (0..64).map(|k| [(k, now, now, Some(k))]).collect();
    let pushes = rows.iter().map(|rows| push(&world.local, rows));
    let reports = futures::future::join_all(pushes).await;
    let versions: std::collections::BTreeSet<_> =
        reports.iter().map(|r| r.token.table_version()).collect();
    assert!(versions.len() < 16, "{versions:?}");
    for (k, report) in (0..).zip(&reports) {
        let found = world.online(k, after(&report.token)).await.unwrap();
        assert_eq!(found, (Status::Present, Some(k)));
    }
}

#[tokio::test]
async fn a_refused_row_leaves_nothing_of_its_push() {
    let world = World::new().await;
    let now = world.now();
    let far = now + 5_000_001;
    let refused = request(&[(1, now, now, Some(1)), (2, far, now, Some(2))], None);
    let error = world.local.push(&refused).await.unwrap_err();
    assert_eq!(error.fault, Fault::Data);
    assert!(
        error.message.starts_with("row 2, column `event_timestamp`"),
        "{error}"
    );
    let found = world.online(1, After::default()).await.unwrap();
    assert_eq!(found, (Status::NotFound, None));
    assert_eq!(world.historical(&[(1, now)], vec![]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_row_that_is_a_little_early_waits_for_its_time() {
    let world = World::new().await;
    let now = world.now();
    // The clock of this test stands still, and then no wait brings the time.
    let early = request(&[(1, now + 20_000, now, Some(1))], None);
    let error = world.local.push(&early).await.unwrap_err();
    assert_eq!(error.fault, Fault::Data);
    assert!(error.message.contains("is in the future"), "{error}");
    assert_eq!(
        world
            .historical(&[(1, now + 9_000_000)], vec![])
            .await
            .unwrap(),
        [None]
    );
}

#[tokio::test]
async fn a_token_is_a_promise_that_is_kept_or_refused() {
    let world = World::new().await;
    let now = world.now();
    let token = push(&world.local, &[(1, now, now, Some(7))]).await.token;
    assert_eq!(
        world.online(1, after(&token)).await.unwrap(),
        (Status::Present, Some(7))
    );
    assert_eq!(
        world
            .historical(&[(1, now)], vec![token.clone()])
            .await
            .unwrap(),
        [Some(7)]
    );

    let of = |project: &str, view: &str, version| {
        WriteToken::new(
            project.parse().unwrap(),
            view.parse().unwrap(),
            version,
            None,
        )
    };
    for (token, fault) in [
        (of("other", "readings@1", 0), Fault::Request),
        (of("p", "others@1", 0), Fault::Request),
        (
            of("p", "readings@1", token.table_version() + 1),
            Fault::Behind,
        ),
    ] {
        let online = world.online(1, after(&token)).await.unwrap_err();
        let historical = world
            .historical(&[(1, now)], vec![token.clone()])
            .await
            .unwrap_err();
        assert_eq!(
            (online.fault, historical.fault),
            (fault, fault),
            "{token}: {online}"
        );
    }

    // Another online store takes the place of this one: older, or empty, but never silently so.
    drop(world.local);
    // The view's writer has the store open until it has seen that nobody pushes any more.
    tokio::task::yield_now().await;
    fs::remove_dir_all(world.folder.path().join("o")).unwrap();
    let world = World {
        local: World::open(&world.folder, &world.files, &world.clock),
        ..world
    };
    assert_eq!(
        world.online(1, After::default()).await.unwrap(),
        (Status::NotFound, None)
    );
    let lost = world.online(1, after(&token)).await.unwrap_err();
    assert_eq!(lost.fault, Fault::Behind);
    insta::assert_snapshot!(lost, @"the online store was started again or emptied since the rows of readings@1 were pushed, and has not been loaded from the table; the rows that must be seen are in version 0; `vintner materialize readings` brings them back");
    world.materialize(Scope::Incremental).await;
    assert_eq!(
        world.online(1, after(&token)).await.unwrap(),
        (Status::Present, Some(7))
    );
}
