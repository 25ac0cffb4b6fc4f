//! Random histories of one feature view in an online store, and the plain map that every store must agree with.
//!
//! [`Model`] is that map. A [`Step`] is something that is done to a deployment, or to a bare store: rows come by a run or
//! by a push, rows are deleted, time passes, something is killed, everything is read. [`check`] does each step to a
//! [`Subject`] and to the model, and compares all answers. A new operation is a variant of [`Act`], what it does to the
//! model, and a method of [`Subject`].
//!
//! * Holds always: the model shares no code with the product. Its words are those of "Semantics" in
//!   `docs/ARCHITECTURE.md`.
//! * Not here: how a subject does it.

mod model;
mod steps;

use std::time::{Duration, Instant};

use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestRunner},
};

pub use self::{
    model::{Answer, Level, Model, Status, Token},
    steps::{Act, Kill, Range, Row, Step, Times, Victim, history},
};

/// How many entities have rows; the one after them never has.
pub const ENTITIES: usize = 3;

const HOUR: i64 = 3_600_000_000;
/// Where the clock begins: before it there is time before 1970.
pub const NOON: i64 = 12 * HOUR;
/// The ttl of the view, if it has one, in microseconds.
pub const TTL: i64 = HOUR / 2;
/// The grace of such a ttl.
pub const GRACE: i64 = HOUR;

/// What histories are about: a store, or a deployment around it.
#[expect(
    async_fn_in_trait,
    reason = "a history is checked where it is drawn, on one thread"
)]
pub trait Subject {
    /// What it is, for whoever reads that it is wrong.
    fn name(&self) -> String;

    /// Whether rows leave it when their ttl and the grace have run out.
    fn expires(&self) -> bool;

    /// How long after a write was acknowledged a read may begin that does not reflect it.
    fn lag(&self) -> Duration;

    /// Puts rows where runs find them, and runs. Ends when that is done, whatever was killed meanwhile. When a server has
    /// lost its contents, another run follows, if there is something to bring them back from; else nothing is lost.
    async fn materialize(&mut self, now: i64, rows: &[Row], range: Range, kill: Option<Kill>);

    /// Pushes rows. Ends when that is done, whatever was killed meanwhile.
    async fn push(&mut self, now: i64, rows: &[Row], kill: Option<Kill>) -> Pushed;

    /// Deletes all rows of entities, of a bare store the online rows. Ends when that is done, whatever was killed meanwhile.
    async fn delete(&mut self, now: i64, entities: &[usize], kill: Option<Kill>);

    /// Brings back all online rows that the system of record has; false where there is no such system.
    async fn restore(&mut self, now: i64) -> bool;

    /// Empties one of the servers that have the rows, and says whose went; none where there is no server.
    async fn empty(&mut self) -> Option<Vec<usize>>;

    /// Lets so many microseconds pass for the store's own clock.
    async fn pass(&mut self, micros: i64);

    /// What the store says of entities, in the order asked for, at a moment.
    async fn read(&mut self, now: i64, entities: &[usize]) -> Vec<Answer>;

    /// The same, by a reader that holds the token of the last push; none when that one is refused. Where there are no
    /// tokens, it is always refused.
    async fn read_after(&mut self, now: i64, entities: &[usize]) -> Option<Vec<Answer>>;

    /// The values of training rows: an entity and a moment each. None where there is no training.
    async fn training(&mut self, rows: &[(usize, i64)]) -> Option<Vec<Option<i32>>>;
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Whether it had been done before, by an attempt of which the answer was lost.
    pub already_there: bool,
    /// How many rows came too late to be online, when the subject tells.
    pub late: Option<u64>,
}

/// Asks for more histories than the tests draw by themselves: how many each of them checks.
const HISTORIES: &str = "VINTNER_TEST_HISTORIES";

/// Draws histories and checks each on a subject of its own, which is given a number. A failing one is made shorter.
///
/// # Panics
/// When a history does not agree with the model.
pub fn check_all<S: Subject>(
    runtime: &tokio::runtime::Runtime,
    level: Level,
    histories: u32,
    times: Times,
    subject: impl Fn(u32, Option<i64>) -> S,
) {
    let number = std::cell::Cell::new(0);
    let asked = std::env::var(HISTORIES).ok();
    let histories = asked
        .and_then(|asked| asked.parse().ok())
        .unwrap_or(histories);
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 64,
        ..ProptestConfig::with_cases(histories)
    };
    let drawn = (prop::option::of(Just(TTL)), history(times));
    let outcome = TestRunner::new(config).run(&drawn, |(ttl, steps)| {
        number.set(number.get() + 1);
        let mut subject = subject(number.get(), ttl);
        let checked = runtime.block_on(check(&mut subject, level, ttl, &steps));
        checked.map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|err| panic!("{err}"));
}

/// Does a history to a subject and to the model, and compares every answer. An error says where they differ.
pub async fn check<S: Subject>(
    subject: &mut S,
    level: Level,
    ttl: Option<i64>,
    history: &[Step],
) -> Result<(), String> {
    let mut model = Model::new(level, ttl);
    let mut clock = NOON;
    let mut written = Instant::now();
    for (place, step) in history.iter().enumerate() {
        let named = |subject: &S, what: String| {
            format!("{}: after step {place}, {step:?}: {what}", subject.name())
        };
        let mut moments = vec![clock];
        match &step.act {
            Act::Materialize(rows, range) => {
                subject.materialize(clock, rows, *range, step.kill).await;
                model.materialize(clock, rows, *range);
            }
            Act::Push(rows) => {
                let rows: Vec<Row> = rows
                    .iter()
                    .copied()
                    .filter(|row| model.takes(clock, row))
                    .collect();
                if rows.is_empty() {
                    continue;
                }
                // Rows that go in the midst of a push are nobody's to bring back.
                let kill = step
                    .kill
                    .filter(|kill| !matches!(kill.victim, Victim::Contents(_)));
                let could_tell = !model.past_grace(clock, &rows);
                let pushed = subject.push(clock, &rows, kill).await;
                let late = model.push(clock, &rows);
                if pushed.already_there {
                    // Whoever finds it there brings the store up to the table.
                    model.load(clock);
                } else if let Some(found) = pushed.late
                    && found != late
                    && could_tell
                    && !model.past_grace(clock, &rows)
                {
                    return Err(named(subject, format!("{found} rows are late, not {late}")));
                }
                if matches!(
                    step.kill,
                    Some(Kill {
                        victim: Victim::Server(_),
                        ..
                    })
                ) {
                    model.restarted();
                }
            }
            Act::Delete(entities) => {
                // What a server loses in the midst of a deletion is nobody's to bring back.
                let kill = step
                    .kill
                    .filter(|kill| !matches!(kill.victim, Victim::Contents(_)));
                subject.delete(clock, entities, kill).await;
                model.delete(clock, entities);
                if matches!(
                    kill,
                    Some(Kill {
                        victim: Victim::Server(_),
                        ..
                    })
                ) {
                    model.restarted();
                }
                let trained = train(subject, &model).await;
                trained.map_err(|what| named(subject, what))?;
            }
            Act::Restore => {
                if subject.restore(clock).await {
                    model.load(clock);
                }
            }
            Act::Empty => {
                if let Some(entities) = subject.empty().await {
                    model.lose(&entities);
                }
            }
            Act::Pass(micros) => {
                subject.pass(*micros).await;
                clock += micros;
                moments = vec![clock];
            }
            Act::Read(later) => moments = later.iter().map(|later| clock + later).collect(),
        }
        if step.act.writes() {
            written = Instant::now();
        }
        for now in moments {
            let agreed = agree(subject, &model, clock, now, written).await;
            agreed.map_err(|what| named(subject, what))?;
        }
    }
    let trained = train(subject, &model).await;
    trained.map_err(|what| format!("{}: in the end {what}", subject.name()))
}

/// Compares training rows at all boundaries.
async fn train<S: Subject>(subject: &mut S, model: &Model) -> Result<(), String> {
    let moments = model.moments().into_iter();
    let asked = moments.flat_map(|at| (0..=ENTITIES).map(move |entity| (entity, at)));
    let asked: Vec<(usize, i64)> = asked.collect();
    let Some(found) = subject.training(&asked).await else {
        return Ok(());
    };
    for ((entity, at), found) in asked.into_iter().zip(found) {
        let want = model.training(entity, at);
        if found != want {
            return Err(format!(
                "a training row of entity {entity} at {at} gets {found:?}, not {want:?}"
            ));
        }
    }
    Ok(())
}

/// Compares what is read at a moment: of all entities at once, some of them twice, and of one alone.
async fn agree<S: Subject>(
    subject: &mut S,
    model: &Model,
    clock: i64,
    now: i64,
    written: Instant,
) -> Result<(), String> {
    let all: Vec<usize> = (0..=ENTITIES).chain([0, ENTITIES, 0]).collect();
    // A token is kept at once, or refused when the store may have lost what it stands for.
    let found = subject.read_after(now, &all).await;
    match (found, model.token()) {
        (Some(_), Token::Lost) => {
            return Err("a token is kept, and what it stands for is lost".to_owned());
        }
        (None, Token::Kept) => return Err("the token of the last push is refused".to_owned()),
        (Some(found), _) => compare(subject, model, clock, now, &all, &found)
            .map_err(|what| format!("with a token, {what}"))?,
        (None, _) => {}
    }
    for entities in [&all[..], &all[1..2]] {
        loop {
            let began = Instant::now();
            let found = subject.read(now, entities).await;
            let Err(what) = compare(subject, model, clock, now, entities, &found) else {
                break;
            };
            // What was pushed by someone else may be on its way.
            if began.duration_since(written) > subject.lag() {
                return Err(what);
            }
        }
    }
    Ok(())
}

fn compare<S: Subject>(
    subject: &S,
    model: &Model,
    clock: i64,
    now: i64,
    entities: &[usize],
    found: &[Answer],
) -> Result<(), String> {
    if found.len() != entities.len() {
        return Err(format!("{} answers to {}", found.len(), entities.len()));
    }
    for (&entity, found) in entities.iter().zip(found) {
        let allowed = model.answers(entity, clock, now, subject.expires());
        if !allowed.contains(found) {
            return Err(format!(
                "at {now} entity {entity} is {found:?}, and should be {allowed:?}"
            ));
        }
    }
    Ok(())
}
