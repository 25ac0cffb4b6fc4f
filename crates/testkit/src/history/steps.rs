//! What histories are made of: rows whose times sit on boundaries, and what is done with them.

use std::time::Duration;

use proptest::{prelude::*, sample::select};

use super::{ENTITIES, GRACE, HOUR, NOON, TTL};

/// One row of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which entity's.
    pub entity: usize,
    /// When it was true, in microseconds.
    pub event: i64,
    /// When it became known.
    pub created: i64,
    /// The value of its features.
    pub value: Option<i32>,
    /// Whether it was written before the second feature was added.
    pub old_layout: bool,
}

/// What is done, and what is killed meanwhile.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub act: Act,
    /// What is killed while it is done, if it writes.
    pub kill: Option<Kill>,
}

/// What is done to a subject.
#[derive(Clone, Debug)]
pub enum Act {
    /// Rows come into the source, and a run takes a range of it.
    Materialize(Vec<Row>, Range),
    /// Rows are pushed.
    Push(Vec<Row>),
    /// The online rows of entities are deleted, and brought back from the system of record if there is one.
    Delete(Vec<usize>),
    /// A server is emptied.
    Empty,
    /// Time passes.
    Pass(i64),
    /// All is read at moments, so many microseconds from now on.
    Read(Vec<i64>),
}

/// What a run takes of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// What is new.
    News,
    /// All of it.
    All,
    /// Event times from the first to before the second.
    Window(i64, i64),
}

/// A SIGKILL at a moment. Whatever was killed is started again.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// What is killed.
    pub victim: Victim,
    /// How long after the step has begun.
    pub after: Duration,
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The process that writes.
    Writer,
    /// One of the store's servers, by a number that is taken modulo how many there are. It keeps what it acknowledged.
    Server(usize),
}

/// Which times rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Around the moments of reads, and around 1970.
    Near,
    /// Also both ends of what can be held, and a created time that has nothing to do with the event's.
    All,
}

impl Act {
    /// Whether it changes what is stored.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Pass(_) | Self::Read(_))
    }
}

/// A history. It ends with the question what is stored.
pub fn history(times: Times) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(times), 1..12)
}

fn step(times: Times) -> impl Strategy<Value = Step> {
    let victim = prop_oneof![Just(Victim::Writer), (0..3_usize).prop_map(Victim::Server)];
    let after = select(vec![0, 2, 5, 10, 20, 40]).prop_map(Duration::from_millis);
    let kill = (victim, after).prop_map(|(victim, after)| Kill { victim, after });
    (act(times), prop::option::weighted(0.12, kill)).prop_map(|(act, kill)| Step { act, kill })
}

fn act(times: Times) -> impl Strategy<Value = Act> {
    let rows = move || prop::collection::vec(row(times), 1..5);
    let range = prop_oneof![
        4 => Just(Range::News),
        1 => Just(Range::All),
        1 => select(vec![
            (NOON - TTL, NOON),
            (NOON - TTL + 1, NOON + 1),
            (-1, 1),
        ]).prop_map(|(start, end)| Range::Window(start, end)),
    ];
    let moments = select(vec![0, 1, TTL - 1, TTL, TTL + 1, HOUR]);
    let passes = select(vec![0, 1, TTL - 1, TTL, TTL + 1, HOUR, TTL + GRACE + HOUR]);
    prop_oneof![
        4 => (rows(), range).prop_map(|(rows, range)| Act::Materialize(rows, range)),
        5 => rows().prop_map(Act::Push),
        1 => prop::collection::vec(0..ENTITIES, 1..3).prop_map(Act::Delete),
        1 => Just(Act::Empty),
        2 => passes.prop_map(Act::Pass),
        3 => prop::collection::vec(moments, 1..3).prop_map(Act::Read),
    ]
}

/// Few instants, each next to a boundary of a read at noon or a little later, so that rows tie, come out of order, and
/// expire.
fn event(times: Times) -> impl Strategy<Value = i64> {
    let mut instants = vec![
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
        NOON - TTL - GRACE - HOUR,
        NOON - TTL - GRACE / 4,
    ];
    if times == Times::All {
        instants.extend([i64::MIN, i64::MAX]);
    }
    select(instants)
}

fn row(times: Times) -> impl Strategy<Value = Row> {
    let created = match times {
        Times::Near => vec![NOON - HOUR, NOON - 1, NOON],
        Times::All => vec![i64::MIN, 0, NOON, NOON + 1, i64::MAX],
    };
    (
        0..ENTITIES,
        event(times),
        select(created),
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
