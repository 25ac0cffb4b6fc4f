//! The rules of the online store, as plainly as they can be said.

use std::collections::BTreeMap;

use super::{GRACE, Range, Row};

/// One entity's answer for the two features of the view: value, status and event time of each.
pub type Answer = [(Option<i32>, Status, Option<i64>); 2];

/// What is said of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is a value.
    Present,
    /// The row that counts has a null.
    Null,
    /// There is no row, or it does not know the feature.
    NotFound,
    /// There is a row, and its ttl has run out.
    OutsideMaxAge,
}

/// What the rules are asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A bare store: it is told which rows to write, and of equal times the last written stays.
    Store,
    /// A deployment: a table is behind the store, of equal times the greater values stay, and no row is online before
    /// its time.
    Deployment,
}

/// What is known of the token of the last push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The store has what it stands for, and knows it: it must be kept.
    Kept,
    /// The store has what it stands for, but may not be sure: it may be refused.
    Unsure,
    /// The store has lost something: it must be refused. Also where there is none.
    Lost,
}

/// Rows while the server's own clock goes on are not held to the minute.
const DRIFT: i64 = 5 * 60_000_000;
/// What is rounded to milliseconds, many times.
const ROUNDING: i64 = 1_000_000;

/// What is stored.
#[derive(Clone, Debug)]
pub struct Model {
    level: Level,
    ttl: Option<i64>,
    online: BTreeMap<usize, Row>,
    /// Rows that came when a greater one may have left the store already. They are there if it had.
    instead: BTreeMap<usize, Vec<Row>>,
    /// What runs can find, and whether one has taken it: then it is new to none.
    source: Vec<(Row, bool)>,
    /// Until when rows of an entity are left out by runs, since they were deleted.
    deleted: BTreeMap<usize, i64>,
    /// All rows that have been deleted: nothing may know of them any more.
    gone: Vec<Row>,
    /// What is in the system of record.
    table: Vec<Row>,
    has_table: bool,
    has_pushed: bool,
    token: Token,
}

impl Model {
    /// Nothing is stored.
    pub fn new(level: Level, ttl: Option<i64>) -> Self {
        Self {
            level,
            ttl,
            online: BTreeMap::new(),
            instead: BTreeMap::new(),
            source: Vec::new(),
            deleted: BTreeMap::new(),
            gone: Vec::new(),
            has_table: false,
            table: Vec::new(),
            has_pushed: false,
            token: Token::Lost,
        }
    }

    /// Rows come into the source, and a run takes a range of it into the table and from there into the store.
    pub fn materialize(&mut self, now: i64, rows: &[Row], range: Range) {
        if self.level == Level::Store {
            for row in rows {
                self.put(now, *row);
            }
            return;
        }
        let known = rows.iter().map(|row| (self.known(row), false));
        let known: Vec<_> = known.collect();
        self.source.extend(known);
        self.has_table = true;
        for (row, is_taken) in &mut self.source {
            let is_read = match range {
                Range::News => !*is_taken,
                Range::All => true,
                Range::Window(start, end) => (start..end).contains(&row.event),
            };
            *is_taken |= is_read;
            let deleted = self.deleted.get(&row.entity);
            if is_read && deleted.is_none_or(|at| row.event > *at) {
                self.table.push(*row);
            }
        }
        self.load(now);
    }

    /// Brings the store up to the table: every row whose time has come competes.
    pub fn load(&mut self, now: i64) {
        for row in self.table.clone() {
            if row.event <= now {
                self.put(now, row);
            }
        }
        if self.has_pushed {
            self.token = Token::Kept;
        }
    }

    /// Whether a row can be pushed at a moment: none of the future, where there is a table.
    pub fn takes(&self, now: i64, row: &Row) -> bool {
        self.level == Level::Store || row.event <= now
    }

    /// Rows are pushed. Says how many of them found a row that they do not replace.
    pub fn push(&mut self, now: i64, rows: &[Row]) -> u64 {
        let known: Vec<Row> = rows.iter().map(|row| self.known(row)).collect();
        self.table.extend(known);
        if self.level == Level::Deployment {
            (self.has_table, self.has_pushed, self.token) = (true, true, Token::Kept);
        }
        let late = rows.iter().filter(|row| !self.put(now, **row));
        late.count() as u64
    }

    /// All rows of entities are deleted, and runs bring back none of up to this moment. What is not there yet knows of
    /// no deletion.
    pub fn delete(&mut self, now: i64, entities: &[usize]) {
        self.take_away(entities);
        let goes = |row: &mut Row| entities.contains(&row.entity);
        self.gone.extend(self.table.extract_if(.., goes));
        if self.has_table {
            let entities = entities.iter();
            self.deleted.extend(entities.map(|entity| (*entity, now)));
        }
    }

    fn take_away(&mut self, entities: &[usize]) {
        for entity in entities {
            self.online.remove(entity);
            self.instead.remove(entity);
        }
    }

    /// A server was emptied, and these online rows are gone.
    pub fn lose(&mut self, entities: &[usize]) {
        self.take_away(entities);
        self.token = Token::Lost;
    }

    /// A server was started again. It has what it had, but nobody can know that it does.
    pub fn restarted(&mut self) {
        if self.token == Token::Kept {
            self.token = Token::Unsure;
        }
    }

    /// What is known of the token of the last push.
    pub fn token(&self) -> Token {
        self.token
    }

    /// What a training row of an entity gets at a moment: the value of the greatest row of the table that counts then.
    pub fn training(&self, entity: usize, at: i64) -> Option<i32> {
        let rows = self.table.iter();
        let rows = rows.filter(|row| row.entity == entity && row.event <= at);
        let best = rows.max_by_key(|row| (row.event, row.created, row.value))?;
        let age = i128::from(at) - i128::from(best.event);
        let counts = self.ttl.is_none_or(|ttl| age <= i128::from(ttl));
        best.value.filter(|_| counts)
    }

    /// Moments at which training rows are worth asking for: where rows begin and cease to count, or did before they were
    /// deleted.
    pub fn moments(&self) -> Vec<i64> {
        let ttl = self.ttl.unwrap_or(0);
        let around = |row: &Row| {
            let end = row.event.saturating_add(ttl);
            [
                row.event.saturating_sub(1),
                row.event,
                end,
                end.saturating_add(1),
            ]
        };
        let rows = self.table.iter().chain(&self.gone);
        let mut moments: Vec<i64> = rows.flat_map(around).collect();
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// A row as the level knows it: the layouts of rows are a store's.
    fn known(&self, row: &Row) -> Row {
        Row {
            old_layout: row.old_layout && self.level == Level::Store,
            ..*row
        }
    }

    /// The greatest (event, created) stays; of equal ones the greater value, or the last one. Says whether it is this.
    fn put(&mut self, now: i64, row: Row) -> bool {
        let row = self.known(&row);
        let may_be_gone = self
            .online
            .get(&row.entity)
            .is_some_and(|row| self.may_be_gone(row, now));
        let stays = self.online.get(&row.entity).is_some_and(|stored| {
            let (old, new) = ((stored.event, stored.created), (row.event, row.created));
            match self.level {
                Level::Store => old > new,
                Level::Deployment => (old, stored.value) > (new, row.value),
            }
        });
        match (stays, may_be_gone) {
            (false, _) => {
                self.online.insert(row.entity, row);
                self.instead.remove(&row.entity);
            }
            (true, true) => self.instead.entry(row.entity).or_default().push(row),
            (true, false) => {}
        }
        !stays
    }

    /// What may be said of an entity at a moment, when the store's own clock is at `clock`: one answer, but where a row
    /// may have left the store or not, and then an older one that came after it may be there.
    pub fn answers(&self, entity: usize, clock: i64, now: i64, expires: bool) -> Vec<Answer> {
        let nothing = [(None, Status::NotFound, None); 2];
        let online = self.online.get(&entity);
        let Some(row) = online.filter(|row| row.event <= now) else {
            return vec![nothing];
        };
        let stored = self.answer(row, now);
        let left = self
            .ttl
            .filter(|_| expires)
            .map(|ttl| left(row, ttl, clock));
        match left {
            Some(left) if left < -i128::from(ROUNDING) => vec![nothing],
            Some(left) if left < i128::from(DRIFT) => {
                let instead = self.instead.get(&entity).into_iter().flatten();
                let instead = instead.map(|row| self.answer(row, now));
                [nothing, stored].into_iter().chain(instead).collect()
            }
            _ => vec![stored],
        }
    }

    /// What is said of a row.
    fn answer(&self, row: &Row, now: i64) -> Answer {
        let age = i128::from(now) - i128::from(row.event);
        let is_old = self.ttl.is_some_and(|ttl| age > i128::from(ttl));
        let (value, status) = match row.value {
            _ if is_old => (None, Status::OutsideMaxAge),
            None => (None, Status::Null),
            some => (some, Status::Present),
        };
        let found = (value, status, Some(row.event));
        let unknown = (None, Status::NotFound, Some(row.event));
        [found, if row.old_layout { unknown } else { found }]
    }

    /// Whether a row may have left the store at a moment, or one of these leaves it at once, so that nobody can say what
    /// was late.
    pub fn past_grace(&self, clock: i64, pushed: &[Row]) -> bool {
        let mut rows = self.online.values().chain(pushed);
        rows.any(|row| self.may_be_gone(row, clock))
    }

    fn may_be_gone(&self, row: &Row, clock: i64) -> bool {
        self.ttl
            .is_some_and(|ttl| left(row, ttl, clock) < i128::from(DRIFT))
    }
}

/// How long a row has until its ttl and the grace have run out.
fn left(row: &Row, ttl: i64, clock: i64) -> i128 {
    i128::from(row.event) + i128::from(ttl) + i128::from(GRACE) - i128::from(clock)
}
