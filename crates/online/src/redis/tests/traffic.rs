//! Reads and writes that go on while something happens to the servers, and what came of them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use vintner_core::{EntityKey, Value};

use super::*;
use crate::row::RowHeader;

/// How many entities: enough that every primary of a cluster has some.
const ENTITIES: i64 = 60;
/// How long the traffic may take to get going again.
const DEADLINE: Duration = Duration::from_secs(30);
/// What a call may take beyond its time on a machine that has much to do.
const SLACK: Duration = Duration::from_millis(1500);

/// A writer that raises all rows' times step by step, and readers that look whether they have been raised.
pub(super) struct Traffic {
    state: Arc<State>,
    tasks: JoinSet<()>,
}

struct State {
    store: Arc<RedisStore>,
    /// A view that nobody else uses.
    view: ViewId,
    /// The newest step that was acknowledged, and the newest one that was tried.
    acknowledged: AtomicI64,
    tried: AtomicI64,
    stop: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
    seen: Mutex<Seen>,
}

/// What was not as on a quiet day.
#[derive(Default)]
pub(super) struct Seen {
    /// Answers older than what was acknowledged before the question.
    pub(super) older: Vec<String>,
    /// Calls that ended with an error.
    pub(super) errors: u64,
    /// What must never be: wrong answers, other errors than [`OnlineError::Unavailable`], calls that took too long.
    wrong: Vec<String>,
}

impl Traffic {
    /// Starts, and goes on until [`Self::end`].
    pub(super) async fn start(store: &Arc<RedisStore>) -> Self {
        let state = Arc::new(State {
            store: Arc::clone(store),
            view: own_view(),
            acknowledged: AtomicI64::new(-1),
            tried: AtomicI64::new(-1),
            stop: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(writer(Arc::clone(&state)));
        for _ in 0..2 {
            tasks.spawn(reader(Arc::clone(&state)));
        }
        let traffic = Self { state, tasks };
        traffic.goes_on().await;
        traffic
    }

    /// Waits until some more reads and writes have succeeded, and says how long that took.
    pub(super) async fn goes_on(&self) -> Duration {
        let count = || {
            let load = |number: &AtomicU64| number.load(Ordering::SeqCst);
            (load(&self.state.reads), load(&self.state.writes))
        };
        let (began, (reads, writes)) = (Instant::now(), count());
        loop {
            let (reads_now, writes_now) = count();
            if reads_now >= reads + 5 && writes_now >= writes + 3 {
                return began.elapsed();
            }
            assert!(began.elapsed() < DEADLINE, "neither reads nor writes go on");
            pause().await;
        }
    }

    /// Stops, and says what was seen. Nothing of it was wrong.
    pub(super) async fn end(mut self) -> Seen {
        self.state.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let seen = std::mem::take(&mut *self.state.seen.lock().unwrap());
        assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
        seen
    }
}

/// Gives way, and a short while, since a server that refuses does so at once.
pub(super) async fn pause() {
    let nothing = std::future::pending::<()>();
    let _ = tokio::time::timeout(Duration::from_millis(2), nothing).await;
}

async fn writer(state: Arc<State>) {
    for step in 0.. {
        if state.stop.load(Ordering::SeqCst) {
            return;
        }
        state.tried.store(step, Ordering::SeqCst);
        let began = Instant::now();
        let written = state
            .store
            .write(&project(), &state.view, None, &rows_at(step))
            .await;
        state.ended(began, written.as_ref().err());
        if written.is_ok() {
            state.acknowledged.store(step, Ordering::SeqCst);
            state.writes.fetch_add(1, Ordering::SeqCst);
        }
        pause().await;
    }
}

async fn reader(state: Arc<State>) {
    while !state.stop.load(Ordering::SeqCst) {
        let acknowledged = state.acknowledged.load(Ordering::SeqCst);
        let began = Instant::now();
        let keys = keys();
        let lookup = Lookup {
            view: &state.view,
            keys: &keys,
            cache: None,
        };
        let got = state.store.read(&project(), &[lookup]).await;
        state.ended(began, got.as_ref().err());
        if let Ok(mut got) = got {
            let got = got.remove(0);
            let tried = state.tried.load(Ordering::SeqCst);
            for (place, value) in got.iter().enumerate() {
                state.judge(place, value.as_ref(), acknowledged, tried);
            }
            state.reads.fetch_add(1, Ordering::SeqCst);
        }
        pause().await;
    }
}

impl State {
    fn ended(&self, began: Instant, err: Option<&OnlineError>) {
        let took = began.elapsed();
        let mut seen = self.seen.lock().unwrap();
        if took > RESPONSE_TIMEOUT + SLACK {
            seen.wrong.push(format!("a call took {took:?}: {err:?}"));
        }
        match err {
            None => {}
            Some(OnlineError::Unavailable { .. }) => seen.errors += 1,
            Some(other) => seen.wrong.push(format!("{other:?}")),
        }
    }

    fn judge(&self, place: usize, value: Option<&Bytes>, acknowledged: i64, tried: i64) {
        let step = match value {
            None => -1,
            Some(bytes) => RowHeader::parse(bytes).unwrap().time.event.micros(),
        };
        let is_right = value.is_none_or(|bytes| **bytes == *rows_at(step)[place].row.as_bytes());
        let mut seen = self.seen.lock().unwrap();
        if !is_right || step > tried {
            seen.wrong
                .push(format!("entity {place} has {step} of {tried}, {value:?}"));
        }
        if step < acknowledged {
            seen.older
                .push(format!("entity {place} had {step}, after {acknowledged}"));
        }
    }
}

fn own_view() -> ViewId {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("traffic@{number}").parse().unwrap()
}

fn keys() -> Vec<EntityKey> {
    rows_at(0).into_iter().map(|row| row.key).collect()
}

/// All entities' rows of a step.
fn rows_at(step: i64) -> Vec<OnlineRow> {
    let revision = revision("traffic@1", &[feature("value", "int64")], None);
    (0..ENTITIES)
        .map(|id| {
            let value = Value::Int64(step * 1000 + id);
            row(&revision, &id.to_string(), time(step, 0), &[Some(value)])
        })
        .collect()
}
