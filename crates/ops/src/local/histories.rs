//! Random histories of deployments: runs, pushes, deletions and reads over the embedded store, Redis and a Redis Cluster
//! agree with the plain map of `vintner_testkit::history`, while the process that writes and the servers are killed.
//!
//! One process writes and is killed (`worker`), this one reads: through a near cache where there is one, which may be
//! late, and with the token of the last push, which may not.

mod worker;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use vintner_core::{EntityKey, JoinKey, KeySchema, KeyType, KeyValue, Timestamp, Value};
use vintner_online::near_cache::LEASE;
use vintner_testkit::{
    history::{
        self, Answer, ENTITIES, Kill, Level, NOON, Pushed, Range, Subject, Times, Victim, check_all,
    },
    redis::RedisFleet,
};

use self::worker::Worker;
use super::world::{Row, World, online};
use crate::{
    Fault,
    api::{After, OnlineResponse, Status, WriteToken},
};

/// How long a store may be away after a kill.
const DEADLINE: Duration = Duration::from_secs(60);

/// The servers of the online store, and the process that writes. Both are started once, and again when they are killed.
#[derive(Clone)]
struct Machines {
    fleet: Option<Arc<Mutex<RedisFleet>>>,
    worker: Arc<Mutex<Worker>>,
}

/// A deployment, in which a history has a project of its own.
struct Deployed {
    world: World,
    machines: Machines,
    project: String,
    /// Numbers what is given out.
    count: usize,
    token: Option<WriteToken>,
}

impl Machines {
    fn start(fleet: Option<RedisFleet>) -> Self {
        Self {
            fleet: fleet.map(|fleet| Arc::new(Mutex::new(fleet))),
            worker: Arc::new(Mutex::new(Worker::start())),
        }
    }

    fn online_store(&self) -> String {
        let Some(fleet) = &self.fleet else {
            return "{type: embedded, path: o}".to_owned();
        };
        let urls: Vec<String> = fleet.lock().unwrap().urls();
        match urls.as_slice() {
            [url] => format!("{{type: redis, url: \"{url}\"}}"),
            urls => format!("{{type: redis, cluster: {urls:?}}}"),
        }
    }
}

impl Deployed {
    async fn new(machines: &Machines, ttl: Option<i64>) -> Self {
        /// Numbers the histories of this process, which share servers.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let project = format!("history{number}");
        let mut view = vec!["near_cache: 1MiB".to_owned()];
        view.extend(ttl.map(|ttl| format!("ttl: {ttl}us")));
        let online = machines.online_store();
        let world = World::with(&project, &online, &view.join("\n"), NOON).await;
        machines.worker.lock().unwrap().open(world.folder.path());
        Self {
            world,
            machines: machines.clone(),
            project,
            count: number,
            token: None,
        }
    }

    fn next(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    /// Has the worker do something until it is done. What is to be killed is killed in the first attempt.
    fn done(&self, question: &str, mut kill: Option<Kill>) -> Vec<String> {
        let began = Instant::now();
        let mut worker = self.machines.worker.lock().unwrap();
        loop {
            let killed = kill.take();
            let accident = killed.map(|Kill { victim, after }| {
                let fleet = self.machines.fleet.clone();
                if let (Victim::WriterBetween, Some(fleet)) = (victim, &fleet) {
                    fleet.lock().unwrap().stop();
                }
                let commits = self.commits();
                let accident = move |worker: &mut Worker| match (victim, fleet) {
                    (Victim::Writer | Victim::WriterBetween, None) | (Victim::Writer, _) => {
                        worker.kill();
                    }
                    (Victim::WriterBetween, Some(fleet)) => {
                        self.wait_for_commit(commits);
                        worker.kill_and(|| fleet.lock().unwrap().cont());
                    }
                    (Victim::Server(number), Some(fleet)) => {
                        fleet.lock().unwrap().kill_and_restart(number);
                    }
                    (Victim::Contents(number), Some(fleet)) => {
                        fleet.lock().unwrap().empty(number);
                    }
                    (Victim::Server(_) | Victim::Contents(_), None) => {}
                };
                (after, accident)
            });
            match worker.ask(question, accident) {
                Ok(answer) => return answer,
                Err(why) => assert!(
                    began.elapsed() < DEADLINE,
                    "`{question}` is not done in {DEADLINE:?}: {why}"
                ),
            }
        }
    }

    /// How many commits the view's table has.
    fn commits(&self) -> usize {
        let log = format!("t/{}/readings/v1/_delta_log", self.project);
        let files = std::fs::read_dir(self.world.folder.path().join(log));
        files.map_or(0, |files| files.count())
    }

    /// Waits until the table has another commit; not for long, as there may be nothing to commit.
    fn wait_for_commit(&self, before: usize) {
        let began = Instant::now();
        while self.commits() == before && began.elapsed() < Duration::from_millis(300) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    async fn online(&self, now: i64, entities: &[usize], after: After) -> Option<Vec<Answer>> {
        self.world.clock.set(now);
        let keys: Vec<i64> = entities.iter().map(|&entity| key(entity)).collect();
        let began = Instant::now();
        loop {
            match online(&self.world.local, &keys, after.clone()).await {
                Ok(response) => return Some(answers(&response, entities.len())),
                Err(error) if error.fault == Fault::Behind => return None,
                Err(error) => assert!(
                    began.elapsed() < DEADLINE && error.fault == Fault::Store,
                    "{error}"
                ),
            }
        }
    }
}

/// An entity's value of the join key.
fn key(entity: usize) -> i64 {
    [1, -1, 0, 7][entity]
}

fn encoded(entity: usize) -> EntityKey {
    let schema = KeySchema::new(vec![JoinKey {
        name: "k".parse().unwrap(),
        key_type: KeyType::Int64,
    }]);
    EntityKey::encode(&schema.unwrap(), &[KeyValue::Int64(key(entity))]).unwrap()
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
    (0..entities)
        .map(|entity| [cell(0, entity), cell(1, entity)])
        .collect()
}

fn rows_of(rows: &[history::Row]) -> Vec<Row> {
    let of = |row: &history::Row| {
        let value = row.value.map(i64::from);
        (key(row.entity), row.event, row.created, value)
    };
    rows.iter().map(of).collect()
}

impl Subject for Deployed {
    fn name(&self) -> String {
        format!("{} over {}", self.project, self.machines.online_store())
    }

    fn expires(&self) -> bool {
        self.machines.fleet.is_some()
    }

    fn lag(&self) -> Duration {
        match self.machines.fleet {
            Some(_) => LEASE,
            None => Duration::ZERO,
        }
    }

    async fn materialize(
        &mut self,
        now: i64,
        rows: &[history::Row],
        range: Range,
        kill: Option<Kill>,
    ) {
        let file = format!("f{}", self.next());
        self.world.source(&file, &rows_of(rows));
        let range = match range {
            Range::News => "news".to_owned(),
            Range::All => "all".to_owned(),
            Range::Window(start, end) => format!("{start} {end}"),
        };
        self.done(&format!("run {now} {range}"), kill);
        if let Some(Victim::Contents(_)) = kill.map(|kill| kill.victim) {
            self.done(&format!("run {now} {range}"), None);
        }
    }

    async fn push(&mut self, now: i64, rows: &[history::Row], kill: Option<Kill>) -> Pushed {
        let producer = self.next();
        let rows = worker::text(&rows_of(rows));
        let answer = self.done(&format!("push {now} {producer} {rows}"), kill);
        let [outcome, late, token] = answer.as_slice() else {
            panic!("{answer:?}");
        };
        self.token = Some(token.parse().unwrap());
        Pushed {
            already_there: outcome == "already_there",
            late: late.parse().ok(),
        }
    }

    async fn delete(&mut self, now: i64, entities: &[usize], kill: Option<Kill>) {
        let keys: Vec<String> = entities
            .iter()
            .map(|&entity| key(entity).to_string())
            .collect();
        self.done(&format!("delete {now} {}", keys.join(",")), kill);
    }

    async fn restore(&mut self, now: i64) -> bool {
        self.done(&format!("run {now} online"), None);
        true
    }

    async fn empty(&mut self) -> Option<Vec<usize>> {
        let fleet = self.machines.fleet.clone()?;
        let number = self.next();
        let gone = fleet.lock().unwrap().empty(number);
        let key_of = |entity: usize| {
            let begin = format!("vn:{{{}|", self.project);
            let key = encoded(entity);
            [begin.as_bytes(), key.as_bytes(), b"}:readings@1"].concat()
        };
        let is_gone = |entity: &usize| gone.contains(&key_of(*entity));
        Some((0..ENTITIES).filter(is_gone).collect())
    }

    async fn pass(&mut self, micros: i64) {
        if let Some(fleet) = &self.machines.fleet {
            fleet.lock().unwrap().age(&self.project, micros);
        }
    }

    async fn read(&mut self, now: i64, entities: &[usize]) -> Vec<Answer> {
        let read = self.online(now, entities, After::default()).await;
        read.expect("nothing is behind where no token is given")
    }

    async fn read_after(&mut self, now: i64, entities: &[usize]) -> Option<Vec<Answer>> {
        let token = self.token.clone()?;
        self.online(now, entities, super::world::after(&token))
            .await
    }

    async fn training(&mut self, rows: &[(usize, i64)]) -> Option<Vec<Option<i32>>> {
        let asked: Vec<_> = rows.iter().map(|&(entity, at)| (key(entity), at)).collect();
        let found = self.world.historical(&asked, vec![]).await.unwrap();
        let found = found.into_iter();
        Some(
            found
                .map(|value| value.map(|value| i32::try_from(value).unwrap()))
                .collect(),
        )
    }
}

fn check(fleet: Option<RedisFleet>, histories: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let machines = Machines::start(fleet);
    check_all(
        &runtime,
        Level::Deployment,
        histories,
        Times::Near,
        |_, ttl| runtime.block_on(Deployed::new(&machines, ttl)),
    );
}

#[test]
fn a_deployment_with_the_embedded_store_agrees_with_the_model_on_every_history() {
    check(None, 12);
}

#[test]
fn a_deployment_with_redis_agrees_with_the_model_on_every_history() {
    check(Some(RedisFleet::one()), 12);
}

#[test]
fn a_deployment_with_a_cluster_agrees_with_the_model_on_every_history() {
    check(Some(RedisFleet::cluster()), 8);
}
