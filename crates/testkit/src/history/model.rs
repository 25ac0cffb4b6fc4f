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
    /// What runs can find.
    source: Vec<Row>,
    /// What is in the system of record.
    table: Vec<Row>,
    has_pushed: bool,
    /// Whether there was a push, or a load, since the store may last have lost something.
    keeps_tokens: bool,
}

impl Model {
    /// Nothing is stored.
    pub fn new(level: Level, ttl: Option<i64>) -> Self {
        Self {
            level,
            ttl,
            online: BTreeMap::new(),
            source: Vec::new(),
            table: Vec::new(),
            has_pushed: false,
            keeps_tokens: false,
        }
    }

    /// Rows come into the source, and a run takes a range of it into the table and from there into the store.
    pub fn materialize(&mut self, now: i64, rows: &[Row], range: Range) {
        if self.level == Level::Store {
            for row in rows {
                self.put(*row);
            }
            return;
        }
        self.source.extend(rows);
        let taken = self.source.iter().filter(|row| match range {
            Range::News | Range::All => true,
            Range::Window(start, end) => (start..end).contains(&row.event),
        });
        self.table.extend(taken);
        self.load(now);
    }

    /// Brings the store up to the table: every row whose time has come competes.
    pub fn load(&mut self, now: i64) {
        for row in self.table.clone() {
            if row.event <= now {
                self.put(row);
            }
        }
        self.keeps_tokens = true;
    }

    /// Whether a row can be pushed at a moment: none of the future, where there is a table.
    pub fn takes(&self, now: i64, row: &Row) -> bool {
        self.level == Level::Store || row.event <= now
    }

    /// Rows are pushed. Says how many of them found a row that they do not replace.
    pub fn push(&mut self, rows: &[Row]) -> u64 {
        self.table.extend(rows);
        (self.has_pushed, self.keeps_tokens) = (true, true);
        let late = rows.iter().filter(|row| !self.put(**row));
        late.count() as u64
    }

    /// Online rows are deleted; the table keeps them.
    pub fn delete(&mut self, entities: &[usize]) {
        for entity in entities {
            self.online.remove(entity);
        }
    }

    /// The store has lost these online rows, and may not say that it has any push.
    pub fn lose(&mut self, entities: &[usize]) {
        self.delete(entities);
        self.keeps_tokens = false;
    }

    /// Whether the token of the last push must be kept.
    pub fn keeps_tokens(&self) -> bool {
        self.has_pushed && self.keeps_tokens && self.level == Level::Deployment
    }

    /// The greatest (event, created) stays; of equal ones the greater value, or the last one. Says whether it is this.
    fn put(&mut self, row: Row) -> bool {
        let stays = self.online.get(&row.entity).is_some_and(|stored| {
            let (old, new) = ((stored.event, stored.created), (row.event, row.created));
            match self.level {
                Level::Store => old > new,
                Level::Deployment => (old, stored.value) > (new, row.value),
            }
        });
        if !stays {
            self.online.insert(row.entity, row);
        }
        !stays
    }

    /// What may be said of an entity at a moment, when the store's own clock is at `clock`: one answer, but where a row
    /// may have left the store or not.
    pub fn answers(&self, entity: usize, clock: i64, now: i64, expires: bool) -> Vec<Answer> {
        const NOTHING: (Option<i32>, Status, Option<i64>) = (None, Status::NotFound, None);
        let nothing = [NOTHING, NOTHING];
        let Some(row) = self.online.get(&entity).filter(|row| row.event <= now) else {
            return vec![nothing];
        };
        let age = i128::from(now) - i128::from(row.event);
        let is_old = self.ttl.is_some_and(|ttl| age > i128::from(ttl));
        let (value, status) = match row.value {
            _ if is_old => (None, Status::OutsideMaxAge),
            None => (None, Status::Null),
            some => (some, Status::Present),
        };
        let found = (value, status, Some(row.event));
        let unknown = (None, Status::NotFound, Some(row.event));
        let stored = [found, if row.old_layout { unknown } else { found }];
        match self
            .ttl
            .filter(|_| expires)
            .map(|ttl| left(row, ttl, clock))
        {
            Some(left) if left < -i128::from(ROUNDING) => vec![nothing],
            Some(left) if left < i128::from(DRIFT) => vec![nothing, stored],
            _ => vec![stored],
        }
    }

    /// Whether a row may have left the store at a moment, so that nobody can say what was late.
    pub fn past_grace(&self, clock: i64) -> bool {
        self.ttl.is_some_and(|ttl| {
            let mut rows = self.online.values();
            rows.any(|row| left(row, ttl, clock) < i128::from(DRIFT))
        })
    }
}

/// How long a row has until its ttl and the grace have run out.
fn left(row: &Row, ttl: i64, clock: i64) -> i128 {
    i128::from(row.event) + i128::from(ttl) + i128::from(GRACE) - i128::from(clock)
}
