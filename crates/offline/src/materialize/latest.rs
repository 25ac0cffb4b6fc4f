//! The latest row of each key, from rows in any order.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet, hash_map::Entry},
    ops::Range,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array},
    compute::{interleave_record_batch, take_record_batch},
    datatypes::TimestampMicrosecondType,
    error::ArrowError,
};
use datafusion::error::DataFusionError;
use foldhash::fast::RandomState;
use vintner_core::{EntityKey, KeyColumns, KeySchema, RowTime, Timestamp};
use vintner_registry::model::ViewRevision;

use vintner_join::{RowComparator, TieBreak};

use super::key_range::KeyRange;
use crate::delta::ViewLayout;

/// Chunks are put together once this many rows in them have lost, and more have lost than not.
const LOST_ROWS: usize = 64 * 1024;

/// One row per key: the one with the greatest row time; of equal ones the one with the greater values. Memory: those
/// rows, and at most about as many that have lost since.
pub(super) struct LatestRows {
    layout: ViewLayout,
    keys: KeySchema,
    ties: TieBreak,
    /// Which keys are looked at. Becomes smaller when there are more than `limit` of them.
    range: KeyRange,
    limit: usize,
    /// Which of them, when only some are.
    only: Option<HashSet<EntityKey>>,
    places: HashMap<Box<[u8]>, usize, RandomState>,
    winners: Vec<Winner>,
    chunks: Vec<RecordBatch>,
    rows: usize,
}

/// The row that stands for a key: in a chunk, or in the batch that is being looked at, which will be the next chunk.
#[derive(Clone, Copy)]
struct Winner {
    time: RowTime,
    chunk: usize,
    row: usize,
}

/// What becomes of a row whose key has not been seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unseen {
    /// It is taken.
    Taken,
    /// It is left: only rows of keys that are there compete.
    Left,
}

impl LatestRows {
    /// Of all keys.
    pub(super) fn new(view: &ViewRevision) -> Self {
        Self::of_range(view, KeyRange::ALL, usize::MAX)
    }

    /// Of the keys of a range, or of its first ones when there are more than `limit`.
    pub(super) fn of_range(view: &ViewRevision, range: KeyRange, limit: usize) -> Self {
        let features: Vec<_> = view
            .features
            .iter()
            .map(|f| (f.name.clone(), f.feature_type))
            .collect();
        Self {
            layout: ViewLayout::of(view),
            keys: view.join_keys.clone(),
            range,
            limit,
            only: None,
            ties: TieBreak::new(&features),
            places: HashMap::default(),
            winners: Vec::new(),
            chunks: Vec::new(),
            rows: 0,
        }
    }

    /// Of these keys.
    pub(super) fn of_keys(view: &ViewRevision, keys: HashSet<EntityKey>) -> Self {
        Self {
            only: Some(keys),
            ..Self::new(view)
        }
    }

    /// Lets the rows of a batch compete for which `unseen` gives something.
    ///
    /// # Errors
    /// When the batch does not have the layout's columns.
    pub(super) fn offer(
        &mut self,
        batch: &RecordBatch,
        mut unseen: impl FnMut(RowTime) -> Option<Unseen>,
    ) -> Result<(), DataFusionError> {
        let columns: Vec<&ArrayRef> = batch.columns()[..self.layout.keys()].iter().collect();
        let keys = KeyColumns::new(&self.keys, &columns);
        let keys = keys.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let times = Times::of(batch, &self.layout)?;
        let mut duel = Duel {
            chunks: &self.chunks,
            features: self.layout.features(),
            ties: &self.ties,
            batch,
            comparators: HashMap::new(),
        };
        let next_chunk = self.chunks.len();
        let mut changed = Vec::new();
        let mut key = Vec::new();
        for row in 0..batch.num_rows() {
            let time = times.at(row);
            let Some(unseen) = unseen(time).filter(|_| keys.encode_row(row, &mut key)) else {
                continue;
            };
            let is_asked_for = |key| self.only.as_ref().is_none_or(|only| only.contains(key));
            if !self.range.has(&key) || !is_asked_for(key.as_slice()) {
                continue;
            }
            let challenger = Winner {
                time,
                chunk: next_chunk,
                row,
            };
            match self.places.get(key.as_slice()) {
                None if unseen == Unseen::Left => {}
                None => {
                    changed.push(self.winners.len());
                    self.places
                        .insert(key.as_slice().into(), self.winners.len());
                    self.winners.push(challenger);
                }
                Some(&place) => {
                    let standing = self.winners[place];
                    if duel.wins(challenger, standing)? {
                        if standing.chunk != next_chunk {
                            changed.push(place);
                        }
                        self.winners[place] = challenger;
                    }
                }
            }
        }
        self.keep(batch, changed)?;
        self.tidy()?;
        self.narrow()
    }

    /// Which keys were looked at.
    pub(super) fn range(&self) -> KeyRange {
        self.range
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.winners.len()
    }

    /// The least event time among the rows.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.winners.iter().map(|winner| winner.time.event).min()
    }

    /// The rows, in batches of at most `size`, in no particular order.
    pub(super) fn into_batches(
        self,
        size: usize,
    ) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let mut places: Vec<_> = self.winners.iter().map(|w| (w.chunk, w.row)).collect();
        places.sort_unstable();
        let chunks = self.chunks;
        let mut next = 0;
        std::iter::from_fn(move || {
            let end = places.len().min(next + size);
            let part = places.get(next..end).filter(|part| !part.is_empty())?;
            next = end;
            let chunks: Vec<_> = chunks.iter().collect();
            Some(interleave_record_batch(&chunks, part))
        })
    }

    /// Copies the batch's winners out of it, so that the batch itself can go.
    fn keep(&mut self, batch: &RecordBatch, mut changed: Vec<usize>) -> Result<(), ArrowError> {
        if changed.is_empty() {
            return Ok(());
        }
        changed.sort_unstable_by_key(|&place| self.winners[place].row);
        let rows = changed.iter().map(|&place| self.winners[place].row as u64);
        let rows: UInt64Array = rows.map(Some).collect();
        for (row, &place) in changed.iter().enumerate() {
            self.winners[place].row = row;
        }
        self.rows += changed.len();
        self.chunks.push(take_record_batch(batch, &rows)?);
        Ok(())
    }

    /// Drops rows that have lost since, once they are many.
    fn tidy(&mut self) -> Result<(), DataFusionError> {
        let lost = self.rows - self.winners.len();
        match lost < LOST_ROWS.max(self.winners.len()) {
            true => Ok(()),
            false => self.put_together(),
        }
    }

    /// Lets keys go when there are too many: those of the second half of the range, and again.
    fn narrow(&mut self) -> Result<(), DataFusionError> {
        if self.winners.len() <= self.limit {
            return Ok(());
        }
        while self.places.len() > self.limit
            && let Some(half) = self.range.first_half()
        {
            self.range = half;
            self.places.retain(|key, _| half.has(key));
        }
        let kept = self.places.values_mut();
        let winners = kept.enumerate().filter_map(|(next, place)| {
            let winner = self.winners.get(*place).copied();
            *place = next;
            winner
        });
        self.winners = winners.collect();
        self.put_together()
    }

    /// Makes one chunk of the rows that stand.
    fn put_together(&mut self) -> Result<(), DataFusionError> {
        if self.winners.is_empty() {
            (self.rows, self.chunks) = (0, Vec::new());
            return Ok(());
        }
        let places: Vec<_> = self.winners.iter().map(|w| (w.chunk, w.row)).collect();
        let chunks: Vec<_> = self.chunks.iter().collect();
        let together = interleave_record_batch(&chunks, &places)?;
        for (row, winner) in self.winners.iter_mut().enumerate() {
            winner.chunk = 0;
            winner.row = row;
        }
        self.rows = together.num_rows();
        self.chunks = vec![together];
        Ok(())
    }
}

/// Compares the rows of a batch with those that stand.
struct Duel<'a> {
    chunks: &'a [RecordBatch],
    features: Range<usize>,
    ties: &'a TieBreak,
    batch: &'a RecordBatch,
    /// By the chunk of the standing row.
    comparators: HashMap<usize, RowComparator>,
}

impl Duel<'_> {
    fn wins(&mut self, challenger: Winner, standing: Winner) -> Result<bool, DataFusionError> {
        match challenger.time.cmp(&standing.time) {
            Ordering::Less => return Ok(false),
            Ordering::Greater => return Ok(true),
            Ordering::Equal => {}
        }
        let comparator = match self.comparators.entry(standing.chunk) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => {
                let mine = &self.batch.columns()[self.features.clone()];
                let theirs = self.chunks.get(standing.chunk).unwrap_or(self.batch);
                let theirs = &theirs.columns()[self.features.clone()];
                place.insert(self.ties.between(mine, theirs)?)
            }
        };
        Ok(comparator.compare(challenger.row, standing.row).is_gt())
    }
}

/// The two times of a batch's rows.
pub(super) struct Times<'a> {
    events: &'a [i64],
    created: &'a [i64],
}

impl<'a> Times<'a> {
    /// # Errors
    /// When a time is missing.
    pub(super) fn of(batch: &'a RecordBatch, layout: &ViewLayout) -> Result<Self, ArrowError> {
        let instants = |place: usize| {
            let column = batch.columns().get(place);
            let column = column.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            let column = column.filter(|c| c.null_count() == 0);
            let column = column.map(|c| c.values().as_ref());
            column
                .ok_or_else(|| ArrowError::SchemaError(format!("column {place} is not all times")))
        };
        Ok(Self {
            events: instants(layout.event())?,
            created: instants(layout.created())?,
        })
    }

    pub(super) fn at(&self, row: usize) -> RowTime {
        RowTime {
            event: Timestamp::from_micros(self.events[row]),
            created: Timestamp::from_micros(self.created[row]),
        }
    }
}
