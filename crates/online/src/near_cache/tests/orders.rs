//! Random orders of reads, writes and pushes of one entity: no read goes back, and none misses a write that was pushed.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A read begins, with this budget.
    Begin(Option<u64>),
    /// One of the reads that have begun is executed by the store.
    Execute(usize),
    /// The answer of one of the reads that have been executed arrives.
    Deliver(usize),
    /// Someone else writes the next value; its push is on its way.
    Write,
    /// The oldest push that is on its way arrives.
    Push,
    /// The cache's own process writes the next value.
    OwnWrite,
    /// Tracking ends, and with it all pushes.
    End,
    /// Tracking begins.
    On,
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly one budget, as another one makes another cache.
    let budget = prop_oneof![
        10 => Just(Some(1 << 20)),
        1 => Just(Some(1 << 21)),
        1 => Just(None),
    ];
    prop_oneof![
        8 => budget.prop_map(Step::Begin),
        6 => (0..4_usize).prop_map(Step::Execute),
        6 => (0..4_usize).prop_map(Step::Deliver),
        4 => Just(Step::Write),
        4 => Just(Step::Push),
        1 => Just(Step::OwnWrite),
        1 => Just(Step::End),
        1 => Just(Step::On),
    ]
}

struct Read {
    answer: BoxFuture<'static, Vec<Option<Bytes>>>,
    execute: Option<oneshot::Sender<()>>,
    deliver: Option<oneshot::Sender<()>>,
    /// The oldest value that it may answer with.
    at_least: i64,
}

/// What is known of the world from outside.
#[derive(Default)]
struct History {
    /// The value that is stored.
    stored: i64,
    /// Values whose pushes are on their way.
    pushes: VecDeque<i64>,
    tracking: bool,
    /// What a read that begins now must not be older than.
    floor: i64,
    reads: Vec<Read>,
}

impl History {
    /// One of the reads of this kind, if there is any.
    fn choose(&self, which: usize, kind: impl Fn(&Read) -> bool) -> Option<usize> {
        let reads = 0..self.reads.len();
        let of_kind: Vec<_> = reads.filter(|&index| kind(&self.reads[index])).collect();
        of_kind.get(which.checked_rem(of_kind.len())?).copied()
    }

    /// Lets a read go on. When it has ended its value is what later ones must not be older than.
    fn poll(&mut self, index: usize) -> Result<(), String> {
        let mut context = Context::from_waker(Waker::noop());
        let read = &mut self.reads[index];
        let Poll::Ready(rows) = read.answer.poll_unpin(&mut context) else {
            return Ok(());
        };
        let value = value(rows[0].as_ref());
        let at_least = read.at_least;
        drop(self.reads.remove(index));
        if value < at_least {
            return Err(format!("read {value} after {at_least}"));
        }
        self.floor = self.floor.max(value);
        Ok(())
    }
}

fn value(row: Option<&Bytes>) -> i64 {
    row.map_or(0, |row| {
        let value = row.get(row.len() - 8..).unwrap().try_into().unwrap();
        i64::from_le_bytes(value)
    })
}

/// Whether the cache hears of the pushes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pushes {
    Handled,
    Dropped,
}

async fn check(steps: &[Step], pushes: Pushes) -> Result<(), String> {
    let world = World::off();
    let revision = revision("view@1", &[feature("value", "int64")], None);
    let row_of = |value| {
        let cells = [Some(vintner_core::Value::Int64(value))];
        row(&revision, "a", time(value, 0), &cells)
    };
    let mut history = History::default();
    // At the end all that is under way comes to its end.
    let rest = [Step::Execute(0), Step::Deliver(0), Step::Push];
    let rest = rest.iter().cycle().take(3 * steps.len());
    for step in [Step::On].iter().chain(steps).chain(rest) {
        match *step {
            Step::Begin(budget) => {
                let (execute, deliver) = world.store.gate();
                // While tracking is off a read is executed after it has begun.
                let off = if history.tracking { 0 } else { history.stored };
                history.reads.push(Read {
                    answer: world.read(&["a"], budget.and_then(ByteSize::new)),
                    execute: Some(execute),
                    deliver: Some(deliver),
                    at_least: history.floor.max(off),
                });
                history.poll(history.reads.len() - 1)?;
                // A hit has not gone through the gate.
                world.store.gates.lock().unwrap().clear();
            }
            Step::Execute(which) => {
                let waiting = |read: &Read| read.execute.is_some();
                if let Some(index) = history.choose(which, waiting) {
                    history.reads[index].execute = None;
                    history.poll(index)?;
                }
            }
            Step::Deliver(which) => {
                let waiting = |read: &Read| read.execute.is_none();
                if let Some(index) = history.choose(which, waiting) {
                    history.reads[index].deliver = None;
                    history.poll(index)?;
                }
            }
            Step::Write => {
                history.stored += 1;
                let row = row_of(history.stored);
                world
                    .store
                    .write(&project(), &view(), None, &[row])
                    .await
                    .unwrap();
                if history.tracking {
                    history.pushes.push_back(history.stored);
                }
            }
            Step::Push => {
                if let Some(value) = history.pushes.pop_front() {
                    if pushes == Pushes::Handled {
                        world.push("a");
                    }
                    history.floor = history.floor.max(value);
                }
            }
            Step::OwnWrite => {
                history.stored += 1;
                let row = row_of(history.stored);
                world
                    .cache
                    .write(&project(), &view(), None, &[row])
                    .await
                    .unwrap();
                if history.tracking {
                    history.pushes.push_back(history.stored);
                }
                history.floor = history.stored;
            }
            Step::End => {
                world.cache.shared.end();
                history.pushes.clear();
                history.tracking = false;
            }
            Step::On => {
                world.begin();
                history.pushes.clear();
                history.tracking = true;
                // Nothing is cached that was fetched before.
                history.floor = history.stored;
            }
        }
    }
    assert!(history.reads.is_empty(), "all have ended");
    let caches = [world.cache.shared.current(&project(), &view())];
    for cache in caches.iter().flatten() {
        assert_eq!(cache.fetches_under_way(), 0);
    }
    Ok(())
}

#[test]
fn no_order_of_events_makes_a_read_go_back_or_miss_what_was_pushed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2000));
    let outcome = runner.run(&prop::collection::vec(step(), 1..60), |steps| {
        runtime
            .block_on(check(&steps, Pushes::Handled))
            .map_err(TestCaseError::fail)
    });
    outcome.unwrap();
}

#[test]
fn the_check_finds_a_cache_that_does_not_hear_of_changes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let steps = [
        Step::Begin(Some(1 << 20)),
        Step::Execute(0),
        Step::Deliver(0),
        Step::Write,
        Step::Push,
        Step::Begin(Some(1 << 20)),
    ];
    let run = |pushes| runtime.block_on(check(&steps, pushes));
    assert_eq!(run(Pushes::Handled), Ok(()));
    assert_eq!(run(Pushes::Dropped), Err("read 0 after 1".to_owned()));
}
