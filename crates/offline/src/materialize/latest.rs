//! The latest row of each key, from rows in any order.

use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::Entry},
};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, UInt64Array},
    compute::{interleave_record_batch, take_record_batch},
    datatypes::TimestampMicrosecondType,
    error::ArrowError,
};
use vintner_core::{EntityKey, KeyColumns, KeySchema, RowTime, Timestamp};
use vintner_registry::model::ViewRevision;

use super::ties::TieBreak;
use crate::delta::ViewLayout;

/// Chunks are put together once this many rows in them have lost, and more have lost than not.
const LOST_ROWS: usize = 64 * 1024;

/// One row per key: the one with the greatest row time; of equal ones the one with the greater values. Memory: those
/// rows, and at most about as many that have lost since.
pub(super) struct LatestRows {
    layout: ViewLayout,
    keys: KeySchema,
    ties: TieBreak,
    winners: HashMap<EntityKey, Winner>,
    chunks: Vec<RecordBatch>,
    rows: usize,
}

#[derive(Clone, Copy)]
struct Winner {
    time: RowTime,
    chunk: usize,
    row: usize,
}

/// What becomes of the rows of keys that have not been seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unseen {
    /// They are taken.
    Taken,
    /// They are left; only rows of keys that are there compete.
    Left,
}

impl LatestRows {
    pub(super) fn new(view: &ViewRevision) -> Self {
        let features: Vec<_> = view
            .features
            .iter()
            .map(|f| (f.name.clone(), f.feature_type))
            .collect();
        Self {
            layout: ViewLayout::of(view),
            keys: view.join_keys.clone(),
            ties: TieBreak::new(&features),
            winners: HashMap::new(),
            chunks: Vec::new(),
            rows: 0,
        }
    }

    /// Lets rows compete, those for which `unseen` gives something.
    ///
    /// # Errors
    /// When the batch does not have the layout's columns.
    pub(super) fn offer(
        &mut self,
        batch: &RecordBatch,
        unseen: impl Fn(RowTime) -> Option<Unseen>,
    ) -> Result<(), ArrowError> {
        let wrong = |e: &dyn std::fmt::Display| ArrowError::SchemaError(e.to_string());
        let key_columns: Vec<&ArrayRef> = batch.columns()[..self.layout.keys()].iter().collect();
        let keys = KeyColumns::new(&self.keys, &key_columns).map_err(|e| wrong(&e))?;
        let times = Times::of(batch, &self.layout)?;
        let features = &batch.columns()[self.layout.features()];
        // The new chunk is made of the batch's rows that win at first sight; which they are is known only at the
        // end, so until then a row's place is its place in the batch.
        let new_chunk = self.chunks.len();
        let mut comparators = HashMap::new();
        for row in 0..batch.num_rows() {
            let time = times.at(row);
            let (Some(unseen), Some(key)) = (unseen(time), keys.key(row)) else {
                continue;
            };
            let candidate = Winner {
                time,
                chunk: new_chunk,
                row,
            };
            match self.winners.entry(key) {
                Entry::Vacant(entry) => {
                    if unseen == Unseen::Taken {
                        entry.insert(candidate);
                    }
                }
                Entry::Occupied(mut entry) => {
                    let standing = *entry.get();
                    let wins = match time.cmp(&standing.time) {
                        Ordering::Less => false,
                        Ordering::Greater => true,
                        Ordering::Equal => {
                            let comparator = match comparators.entry(standing.chunk) {
                                Entry::Occupied(made) => made.into_mut(),
                                Entry::Vacant(place) => {
                                    let theirs = match self.chunks.get(standing.chunk) {
                                        Some(chunk) => &chunk.columns()[self.layout.features()],
                                        None => features,
                                    };
                                    place.insert(self.ties.between(features, theirs)?)
                                }
                            };
                            comparator.compare(row, standing.row).is_gt()
                        }
                    };
                    if wins {
                        entry.insert(candidate);
                    }
                }
            }
        }
        self.keep(batch, new_chunk)?;
        self.tidy()
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.winners.len()
    }

    /// The least event time among the rows.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.winners.values().map(|winner| winner.time.event).min()
    }

    /// The rows, in batches of at most `size`, in no particular order.
    pub(super) fn into_batches(
        self,
        size: usize,
    ) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let mut places: Vec<_> = self.winners.into_values().map(|w| (w.chunk, w.row)).collect();
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
    fn keep(&mut self, batch: &RecordBatch, chunk: usize) -> Result<(), ArrowError> {
        let mut mine: Vec<_> = self
            .winners
            .values_mut()
            .filter(|winner| winner.chunk == chunk)
            .collect();
        if mine.is_empty() {
            return Ok(());
        }
        mine.sort_unstable_by_key(|winner| winner.row);
        let rows: UInt64Array = mine.iter().map(|winner| Some(winner.row as u64)).collect();
        for (place, winner) in mine.into_iter().enumerate() {
            winner.row = place;
        }
        let kept = take_record_batch(batch, &rows)?;
        self.rows += kept.num_rows();
        self.chunks.push(kept);
        Ok(())
    }

    /// Drops rows that have lost since, once they are many.
    fn tidy(&mut self) -> Result<(), ArrowError> {
        let lost = self.rows - self.winners.len();
        if lost < LOST_ROWS.max(self.winners.len()) {
            return Ok(());
        }
        let mut standing: Vec<_> = self.winners.values_mut().collect();
        standing.sort_unstable_by_key(|winner| (winner.chunk, winner.row));
        let places: Vec<_> = standing.iter().map(|w| (w.chunk, w.row)).collect();
        for (row, winner) in standing.into_iter().enumerate() {
            winner.chunk = 0;
            winner.row = row;
        }
        let chunks: Vec<_> = self.chunks.iter().collect();
        let together = interleave_record_batch(&chunks, &places)?;
        self.rows = together.num_rows();
        self.chunks = vec![together];
        Ok(())
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
            let column = column.filter(|c| arrow::array::Array::null_count(*c) == 0);
            let column = column.map(|c| c.values().as_ref());
            column.ok_or_else(|| ArrowError::SchemaError(format!("column {place} is not all times")))
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
