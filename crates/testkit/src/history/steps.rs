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
    /// All rows of entities are deleted, of a bare store the online rows.
    Delete(Vec<usize>),
    /// All online rows are brought back from the system of record, if there is one.
    Restore,
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
    /// The same, when it has written to the table and not yet to the store; where there are servers.
    WriterBetween,
    /// One of the store's servers, by a number that is taken modulo how many there are. It keeps what it acknowledged.
    Server(usize),
    /// The same, but it loses all that it has: while a run goes on only, and another run follows.
    Contents(usize),
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

/// A history. Its rows have few times, of which there are more to choose from: each next to a boundary of a read at noon or
/// a little later. So they tie, come out of order, and expire.
pub fn history(times: Times) -> impl Strategy<Value = Vec<Step>> {
    let events = prop::sample::subsequence(events(times), 1..=4);
    let created = prop::sample::subsequence(created(times), 1..=2);
    (events, created).prop_flat_map(|times| prop::collection::vec(step(times), 1..12))
}

/// The event times and the created times of a history.
type Palette = (Vec<i64>, Vec<i64>);

fn step(times: Palette) -> impl Strategy<Value = Step> {
    let victim = prop_oneof![
        Just(Victim::Writer),
        Just(Victim::WriterBetween),
        (0..3_usize).prop_map(Victim::Server),
        (0..3_usize).prop_map(Victim::Contents),
    ];
    let after = select(vec![0, 2, 5, 10, 20, 40]).prop_map(Duration::from_millis);
    let kill = (victim, after).prop_map(|(victim, after)| Kill { victim, after });
    (act(times), prop::option::weighted(0.12, kill)).prop_map(|(act, kill)| Step { act, kill })
}

fn act(times: Palette) -> impl Strategy<Value = Act> {
    let rows = move || prop::collection::vec(row(times.clone()), 1..5);
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
        2 => prop::collection::vec(0..ENTITIES, 1..3).prop_map(Act::Delete),
        1 => Just(Act::Restore),
        1 => Just(Act::Empty),
        2 => passes.prop_map(Act::Pass),
        3 => prop::collection::vec(moments, 1..3).prop_map(Act::Read),
    ]
}

fn events(times: Times) -> Vec<i64> {
    let mut instants = vec![
        NOON - TTL - GRACE - HOUR,
        NOON - TTL - GRACE / 4,
        NOON - TTL - 1,
        NOON - TTL,
        NOON - TTL + 1,
        NOON - 1,
        NOON,
        NOON + 1,
        NOON + HOUR,
        -1,
        0,
        1,
    ];
    if times == Times::All {
        instants.extend([i64::MIN, i64::MAX]);
    }
    instants
}

fn created(times: Times) -> Vec<i64> {
    match times {
        Times::Near => vec![NOON - HOUR, NOON - 1, NOON],
        Times::All => vec![i64::MIN, 0, NOON, NOON + 1, i64::MAX],
    }
}

fn row((events, created): Palette) -> impl Strategy<Value = Row> {
    (
        0..ENTITIES,
        select(events),
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
