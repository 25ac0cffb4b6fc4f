//! Random histories through a real service: pushes, runs, deletions and reads over gRPC, with `kill -9` of the service at
//! random moments, agree with the plain map of `vintner_testkit::history`.
//!
//! The service's clock stands still: what histories say of times and of servers that are killed is checked without a process
//! between, in `vintner-ops`.

use std::{fs, sync::Arc, time::Duration};

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, TimestampMicrosecondArray,
    },
    datatypes::Int64Type,
};
use futures::{StreamExt as _, TryStreamExt as _};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{TestCaseError, TestRunner},
};
use tokio::task::block_in_place;
use vintner_core::{Boundary, Column, FeatureType, Knowledge, ScalarType, Timestamp, Value};
use vintner_ops::{
    Fault, Operations as _, OpsError,
    api::{
        After, DeleteRequest, Detail, EntityColumn, EntityRows, HistoricalRequest,
        MaterializeRequest, ObjectKind, OnlineRequest, OnlineResponse, Producer, PushOutcome,
        PushReport, PushRequest, Scope, Spine, Status, WriteToken,
    },
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_server::Client;
use vintner_testkit::{
    history::{
        self, Act, Answer, Kill, Level, NOON, Pushed, Range, Row, Step, Subject, Times, Victim,
        check,
    },
    redis::RedisServer,
};

use crate::harness::{Repo, Service};

/// [`NOON`], as commands take it.
const NOW: &str = "1970-01-01T12:00:00Z";
/// How many histories are drawn for each store, unless `VINTNER_TEST_HISTORIES` says so.
const HISTORIES: u32 = 5;
/// How often something is tried again. The service is killed in the first attempt only.
const ATTEMPTS: usize = 3;

/// Both features are always the same.
const FEATURES: &str = "\
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
source: events
features:
  v: {type: int64}
  w: {type: int64}
";

/// A service over a repo of its own, and what it was asked for.
struct Served {
    repo: Repo,
    service: Option<Service>,
    client: Client,
    /// Numbers what is given out.
    count: usize,
    token: Option<WriteToken>,
}

impl Served {
    async fn start(project: &str, online: &str) -> Self {
        let repo = Repo::empty().at(NOW);
        let deployment =
            format!("project: {project}\nregistry: r\noffline_store: t\nonline_store: {online}\n");
        repo.write("vintner.yaml", &deployment);
        repo.write("features.yaml", FEATURES);
        // Somebody's row, so that there is one to plan with.
        repo.write(
            "events/f0.csv",
            &format!("k,at,made,v,w\n99,{NOW},{NOW},0,0\n"),
        );
        block_in_place(|| repo.done(&["apply", "--yes"]));
        let service = block_in_place(|| repo.serve());
        Self {
            client: Client::connect(&service.url).await.unwrap(),
            service: Some(service),
            repo,
            count: 0,
            token: None,
        }
    }

    fn next(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    /// Asks the service for something until it is done, and says how often. In the first attempt the service is killed so
    /// long after, and another one is started, which `between` looks at.
    async fn done<T: Send + 'static, F>(
        &mut self,
        ask: impl Fn(Client) -> F,
        kill: Option<Duration>,
        between: impl AsyncFnOnce(&Client),
    ) -> T
    where
        F: Future<Output = Result<T, OpsError>> + Send + 'static,
    {
        let mut asked = tokio::spawn(ask(self.client.clone()));
        let mut answer = None;
        if let Some(after) = kill {
            answer = tokio::time::timeout(after, &mut asked).await.ok();
            // Nothing is asked of it in its last moments, and it has none: this is SIGKILL.
            block_in_place(|| self.service = None);
        }
        let mut answer = match answer {
            Some(answer) => answer.unwrap(),
            None => asked.await.unwrap(),
        };
        if kill.is_some() {
            let service = block_in_place(|| self.repo.serve());
            self.client = Client::connect(&service.url).await.unwrap();
            self.service = Some(service);
            if answer.is_err() {
                between(&self.client).await;
            }
        }
        for _ in 0..ATTEMPTS {
            match answer {
                Ok(done) => return done,
                Err(error) if kill.is_some() => {
                    assert_eq!(error.fault, Fault::Store, "{}", error.chain());
                    answer = ask(self.client.clone()).await;
                }
                Err(error) => panic!("{}", error.chain()),
            }
        }
        panic!("it is not done");
    }

    async fn run(
        &mut self,
        window: Option<(Timestamp, Timestamp)>,
        scope: Scope,
        kill: Option<Kill>,
    ) {
        let request = MaterializeRequest {
            views: Vec::new(),
            window,
            scope,
        };
        let ask = move |client: Client| {
            let request = request.clone();
            async move { client.materialize(&request, &|_| ()).await }
        };
        self.done(ask, kill.map(|kill| kill.after), async |_| ())
            .await;
    }

    async fn online(&self, entities: &[usize], after: After) -> Option<Vec<Answer>> {
        let request = OnlineRequest {
            features: readings(),
            names: NameStyle::Short,
            entities: columns(entities),
            after,
        };
        match self.client.get_online(request).await {
            Ok(response) => Some(answers(&response, entities.len())),
            Err(error) if error.fault == Fault::Behind => None,
            Err(error) => panic!("{}", error.chain()),
        }
    }
}

/// How many rows the view's table has.
async fn rows_in_table(client: &Client) -> u64 {
    let shown = client.show(ObjectKind::FeatureView, "readings").await;
    match shown.unwrap() {
        Detail::FeatureView(view) => view.rows.unwrap_or(0),
        other => panic!("{other:?}"),
    }
}

fn readings() -> FeatureRequest {
    FeatureRequest::Features(vec!["readings".parse().unwrap()])
}

/// An entity's value of the join key.
fn key(entity: usize) -> i64 {
    [1, -1, 0, 7][entity]
}

/// The join keys of entities, as requests have them.
fn columns(entities: &[usize]) -> Vec<EntityColumn> {
    let keys = entities
        .iter()
        .map(|entity| Some(Value::Int64(key(*entity))));
    vec![EntityColumn {
        name: "k".to_owned(),
        values: Column::of(FeatureType::Scalar(ScalarType::Int64), keys).unwrap(),
    }]
}

fn answers(response: &OnlineResponse, entities: usize) -> Vec<Answer> {
    let cell = |column: usize, entity: usize| {
        let column = &response.features[column];
        let value = column.values.get(entity).map(|value| match value {
            Value::Int64(value) => i32::try_from(value).unwrap(),
            other => panic!("{other:?} is not an int64"),
        });
        let status = match column.statuses[entity] {
            Status::Present => history::Status::Present,
            Status::NullValue => history::Status::Null,
            Status::NotFound => history::Status::NotFound,
            Status::OutsideMaxAge => history::Status::OutsideMaxAge,
        };
        let event = response.views[0].event_timestamps[entity];
        (value, status, event.map(Timestamp::micros))
    };
    let cells = |entity| [cell(0, entity), cell(1, entity)];
    (0..entities).map(cells).collect()
}

fn csv(rows: &[Row]) -> String {
    let time = |micros: i64| Timestamp::from_micros(micros).to_string();
    let line = |row: &Row| {
        let value = row.value.map_or(String::new(), |value| value.to_string());
        let (at, made) = (time(row.event), time(row.created));
        format!("{},{at},{made},{value},{value}\n", key(row.entity))
    };
    let lines: String = rows.iter().map(line).collect();
    format!("k,at,made,v,w\n{lines}")
}

fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    let times = TimestampMicrosecondArray::from_iter_values(times);
    Arc::new(times.with_timezone("UTC"))
}

fn push_of(rows: &[Row], producer: usize) -> PushRequest {
    let values = rows.iter().map(|row| row.value.map(i64::from));
    let values: ArrayRef = Arc::new(Int64Array::from_iter(values));
    let keys = rows.iter().map(|row| key(row.entity));
    let columns = [
        (
            "k",
            Arc::new(Int64Array::from_iter_values(keys)) as ArrayRef,
        ),
        ("event_timestamp", times(rows.iter().map(|row| row.event))),
        (
            "created_timestamp",
            times(rows.iter().map(|row| row.created)),
        ),
        ("v", Arc::clone(&values)),
        ("w", values),
    ];
    let columns = columns.map(|(name, column)| (name, column, true));
    PushRequest {
        view: "readings".parse().unwrap(),
        version: None,
        rows: RecordBatch::try_from_iter_with_nullable(columns).unwrap(),
        producer: Some(Producer {
            name: producer.to_string(),
            sequence: 1,
        }),
    }
}

impl Subject for Served {
    fn name(&self) -> String {
        fs::read_to_string(self.repo.path("vintner.yaml")).unwrap()
    }

    fn expires(&self) -> bool {
        false
    }

    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    async fn materialize(&mut self, _: i64, rows: &[Row], range: Range, kill: Option<Kill>) {
        let file = format!("events/f{}.csv", self.next());
        self.repo.write(&file, &csv(rows));
        let at = Timestamp::from_micros;
        let (window, scope) = match range {
            Range::News => (None, Scope::Incremental),
            Range::All => (None, Scope::FullRefresh),
            Range::Window(start, end) => (Some((at(start), at(end))), Scope::Incremental),
        };
        self.run(window, scope, kill).await;
    }

    async fn push(&mut self, _: i64, rows: &[Row], kill: Option<Kill>) -> Pushed {
        let request = push_of(rows, self.next());
        let ask = move |client: Client| {
            let request = request.clone();
            async move { client.push(&request).await }
        };
        let before = rows_in_table(&self.client).await;
        let all = before + rows.len() as u64;
        // One that was not acknowledged is there as a whole, or not at all.
        let whole = async |client: &Client| {
            let found = rows_in_table(client).await;
            assert!(found == before || found == all, "{before}, {found}, {all}");
        };
        let report: PushReport = self.done(ask, kill.map(|kill| kill.after), whole).await;
        assert_eq!(rows_in_table(&self.client).await, all);
        self.token = Some(report.token);
        Pushed {
            already_there: report.outcome == PushOutcome::AlreadyThere,
            late: Some(report.late),
        }
    }

    async fn delete(&mut self, _: i64, entities: &[usize], kill: Option<Kill>) {
        let request = DeleteRequest {
            target: "readings".parse().unwrap(),
            entities: columns(entities),
            dry_run: false,
            author: "ann".to_owned(),
        };
        let ask = move |client: Client| {
            let request = request.clone();
            async move { client.delete(&request).await }
        };
        self.done(ask, kill.map(|kill| kill.after), async |_| ())
            .await;
    }

    async fn restore(&mut self, _: i64) -> bool {
        self.run(None, Scope::OnlineOnly, None).await;
        true
    }

    async fn empty(&mut self) -> Option<Vec<usize>> {
        unreachable!("nothing is emptied");
    }

    async fn pass(&mut self, _: i64) {
        unreachable!("the clock stands still");
    }

    async fn read(&mut self, _: i64, entities: &[usize]) -> Vec<Answer> {
        let read = self.online(entities, After::default()).await;
        read.expect("nothing is behind where no token is given")
    }

    async fn read_after(&mut self, _: i64, entities: &[usize]) -> Option<Vec<Answer>> {
        let after = After {
            tokens: vec![self.token.clone()?],
            ..After::default()
        };
        self.online(entities, after).await
    }

    async fn training(&mut self, rows: &[(usize, i64)]) -> Option<Vec<Option<i32>>> {
        let keys = rows.iter().map(|(entity, _)| key(*entity));
        let columns = [
            (
                "k",
                Arc::new(Int64Array::from_iter_values(keys)) as ArrayRef,
            ),
            ("event_timestamp", times(rows.iter().map(|(_, at)| *at))),
        ];
        let entity_rows = RecordBatch::try_from_iter(columns).unwrap();
        let request = HistoricalRequest {
            features: readings(),
            names: NameStyle::Short,
            knowledge: Knowledge::Event,
            boundary: Boundary::At,
            timestamp_column: None,
            split: None,
            save: None,
            lint: false,
            after: self.token.clone().into_iter().collect(),
        };
        let spine = Spine::Rows(EntityRows {
            schema: entity_rows.schema(),
            batches: futures::stream::iter([Ok(entity_rows)]).boxed(),
        });
        let rows = self.client.get_historical(&request, spine).await.unwrap();
        let batches: Vec<RecordBatch> = rows.batches.try_collect().await.unwrap();
        let values = batches.iter().flat_map(|batch| {
            let column = batch
                .column_by_name("v")
                .unwrap()
                .as_primitive::<Int64Type>();
            let value = |row| {
                column
                    .is_valid(row)
                    .then(|| i32::try_from(column.value(row)).unwrap())
            };
            (0..column.len()).map(value).collect::<Vec<_>>()
        });
        Some(values.collect())
    }
}

/// Histories of pushes, runs, deletions and reads, in which the service is killed often.
fn drawn() -> impl Strategy<Value = Vec<Step>> {
    let after = select(vec![0, 2, 5, 10, 20, 40, 80]).prop_map(Duration::from_millis);
    let kills = prop::collection::vec(prop::option::weighted(0.4, after), 12);
    (history::history(Times::Near), kills).prop_map(|(steps, kills)| {
        let kept = steps.into_iter().zip(kills).filter_map(|(step, kill)| {
            let act = match step.act {
                act @ (Act::Materialize(..) | Act::Push(_) | Act::Delete(_) | Act::Restore) => act,
                Act::Read(_) => Act::Read(vec![0]),
                Act::Empty | Act::Pass(_) => return None,
            };
            let victim = Victim::Writer;
            let kill = kill.map(|after| Kill { victim, after });
            Some(Step { act, kill })
        });
        kept.collect()
    })
}

fn check_all(online: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let number = std::cell::Cell::new(0);
    let asked = std::env::var("VINTNER_TEST_HISTORIES").ok();
    let histories = asked.and_then(|asked| asked.parse().ok());
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 16,
        ..ProptestConfig::with_cases(histories.unwrap_or(HISTORIES))
    };
    let outcome = TestRunner::new(config).run(&drawn(), |steps| {
        number.set(number.get() + 1);
        let project = format!("history{}", number.get());
        let checked = runtime.block_on(async {
            let mut served = Served::start(&project, online).await;
            check(&mut served, Level::Deployment, None, &steps).await
        });
        checked.map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_service_that_is_killed_agrees_with_the_model_on_every_history() {
    assert_eq!(NOW.parse::<Timestamp>().unwrap().micros(), NOON);
    check_all("{type: embedded, path: o}");
}

#[test]
fn a_service_over_redis_that_is_killed_agrees_with_the_model_on_every_history() {
    let redis = RedisServer::start();
    check_all(&format!("{{type: redis, url: \"{}\"}}", redis.url()));
}
