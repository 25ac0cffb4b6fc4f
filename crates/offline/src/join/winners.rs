//! The greatest feature row of every slot so far, and its values.
//!
//! Values are copied out of the batches they came in, so that a batch is let go at once, and rows that have lost
//! their slot since are thrown out when they are more than half of what is kept. So what is held is at most a batch
//! and three rows per slot (the third only while rows are thrown out), however long the history is.

use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::Entry},
};

use arrow::{
    array::{Array, ArrayRef, UInt32Array},
    compute::{interleave, take},
};
use datafusion::{error::Result, execution::memory_pool::MemoryReservation};
use vintner_core::{RowTime, VisibilityRule};

use super::{
    entity_index::{EntityIndex, Slot, number},
    ties::{RowComparator, TieBreak},
};

/// Where a kept row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowRef {
    chunk: u32,
    row: u32,
}

/// The greatest row of a slot. `Ord` is by time; rows of equal times are told apart by their values before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Best {
    time: RowTime,
    at: RowRef,
}

/// A feature row that may win a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) row: usize,
    pub(super) slot: Slot,
    pub(super) time: RowTime,
}

/// Kept rows: their values, and the slot that each of them won.
#[derive(Debug)]
struct Chunk {
    columns: Vec<ArrayRef>,
    slots: Vec<Slot>,
}

/// The greatest row of each slot among those that were offered.
#[derive(Debug)]
pub(super) struct Winners {
    best: Vec<Option<Best>>,
    chunks: Vec<Chunk>,
    /// How many slots have a row.
    won: usize,
    /// How many rows a chunk is to have.
    chunk_rows: usize,
    ties: TieBreak,
    reservation: MemoryReservation,
}

/// The row that is visible at each slot, and the values of all of them.
#[derive(Debug)]
pub(super) struct Visible {
    /// The visible row of each slot.
    rows: Vec<Option<RowRef>>,
    /// The kept rows: chunks of columns in the order of the view's features.
    chunks: Vec<Vec<ArrayRef>>,
    _reservation: MemoryReservation,
}

impl Winners {
    /// None yet, for so many slots.
    ///
    /// # Errors
    /// When the memory for them is more than there is.
    pub(super) fn new(
        slots: usize,
        ties: TieBreak,
        chunk_rows: usize,
        reservation: MemoryReservation,
    ) -> Result<Self> {
        reservation.try_grow(slots * size_of::<Option<Best>>())?;
        Ok(Self {
            best: vec![None; slots],
            chunks: Vec::new(),
            won: 0,
            chunk_rows: chunk_rows.max(1),
            ties,
            reservation,
        })
    }

    /// Takes rows into account. `columns` are the view's features, all rows of a batch; `candidates` those of them
    /// that have a slot.
    pub(super) fn offer(
        &mut self,
        columns: &[ArrayRef],
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Result<()> {
        let incoming = number(self.chunks.len())?;
        let mut comparators: HashMap<u32, RowComparator> = HashMap::new();
        let mut won = Vec::new();
        for candidate in candidates {
            let Candidate { row, slot, time } = candidate;
            let at = RowRef {
                chunk: incoming,
                row: number(row)?,
            };
            let against = match self.best[slot as usize] {
                Some(best) => match time.cmp(&best.time) {
                    Ordering::Equal => {
                        let rows = match comparators.entry(best.at.chunk) {
                            Entry::Occupied(known) => known.into_mut(),
                            Entry::Vacant(unknown) => {
                                let chunk = self.chunks.get(best.at.chunk as usize);
                                let kept = chunk.map_or(columns, |chunk| &chunk.columns);
                                unknown.insert(self.ties.between(columns, kept)?)
                            }
                        };
                        rows.compare(row, best.at.row as usize)
                    }
                    unequal => unequal,
                },
                None => {
                    self.won += 1;
                    Ordering::Greater
                }
            };
            if against == Ordering::Greater {
                self.best[slot as usize] = Some(Best { time, at });
                won.push((slot, at));
            }
        }
        // Rows that won and lost again within this batch are not kept.
        won.retain(|&(slot, at)| self.best[slot as usize].is_some_and(|best| best.at == at));
        self.keep(columns, &won)?;
        self.tidy()?;
        self.account()
    }

    /// Takes the rows that `other` has kept into account.
    pub(super) fn merge(mut self, mut other: Self) -> Result<Self> {
        // The fewer are offered to the more.
        if self.won < other.won {
            std::mem::swap(&mut self, &mut other);
        }
        let Self { best, chunks, .. } = &other;
        for (number, chunk) in (0u32..).zip(chunks) {
            let rows = chunk.slots.iter().enumerate();
            let candidates = rows.filter_map(|(row, &slot)| {
                let best = best[slot as usize]?;
                let is_best = best.at.chunk == number && best.at.row as usize == row;
                is_best.then_some(Candidate {
                    row,
                    slot,
                    time: best.time,
                })
            });
            self.offer(&chunk.columns, candidates)?;
        }
        Ok(self)
    }

    /// Walks each key's slots forwards, carrying the greatest row so far, which is seen as long as it lives. The
    /// module [`super`] says why one row is enough.
    pub(super) fn resolve(self, index: &EntityIndex, rule: VisibilityRule) -> Result<Visible> {
        self.reservation
            .try_grow(self.best.len() * size_of::<Option<RowRef>>())?;
        let mut rows = vec![None; self.best.len()];
        for slots in index.walks() {
            let mut carried = None;
            for (slot, time) in slots {
                carried = carried.max(self.best[slot]);
                rows[slot] = carried
                    .filter(|best: &Best| rule.visible(best.time, time))
                    .map(|best| best.at);
            }
        }
        self.reservation
            .try_shrink(self.best.len() * size_of::<Option<Best>>())?;
        Ok(Visible {
            rows,
            chunks: self.chunks.into_iter().map(|c| c.columns).collect(),
            _reservation: self.reservation,
        })
    }

    /// Copies rows that have won their slots into a chunk of their own.
    fn keep(&mut self, columns: &[ArrayRef], won: &[(Slot, RowRef)]) -> Result<()> {
        if won.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = won.iter().map(|(_, at)| at.row).collect();
        let columns = columns
            .iter()
            .map(|column| take(column, &rows, None))
            .collect::<Result<Vec<_>, _>>()?;
        self.push(columns, won.iter().map(|(slot, _)| *slot).collect())
    }

    /// Adds a chunk of rows, each the best of its slot.
    fn push(&mut self, columns: Vec<ArrayRef>, slots: Vec<Slot>) -> Result<()> {
        let chunk = number(self.chunks.len())?;
        for (row, &slot) in (0u32..).zip(&slots) {
            if let Some(best) = &mut self.best[slot as usize] {
                best.at = RowRef { chunk, row };
            }
        }
        self.chunks.push(Chunk { columns, slots });
        Ok(())
    }

    /// Keeps the chunks few and mostly alive.
    ///
    /// A chunk that is not full is joined with the one before it unless that is full or more than twice as large, so
    /// there are as many that are not full as a chunk's rows have bits, and a row is copied about as often.
    fn tidy(&mut self) -> Result<()> {
        let kept: usize = self.chunks.iter().map(|chunk| chunk.slots.len()).sum();
        if kept > self.chunk_rows && kept > 2 * self.won {
            return self.rewrite(0);
        }
        while let [.., before, last] = self.chunks.as_slice() {
            let (before, last) = (before.slots.len(), last.slots.len());
            if before >= self.chunk_rows || before > 2 * last {
                break;
            }
            // This leaves one chunk, or two of which the first is full.
            self.rewrite(self.chunks.len() - 2)?;
        }
        Ok(())
    }

    /// Writes the chunks from a number on again, in full chunks, without the rows that have lost their slots.
    fn rewrite(&mut self, from: usize) -> Result<()> {
        let old = self.chunks.split_off(from);
        let mut alive = Vec::new();
        for (place, chunk) in old.iter().enumerate() {
            let number = number(from + place)?;
            for (row, &slot) in chunk.slots.iter().enumerate() {
                let best = self.best[slot as usize].map(|best| best.at);
                if best.is_some_and(|at| at.chunk == number && at.row as usize == row) {
                    alive.push((slot, (place, row)));
                }
            }
        }
        for alive in alive.chunks(self.chunk_rows) {
            let (slots, picks): (Vec<Slot>, Vec<(usize, usize)>) = alive.iter().copied().unzip();
            let width = old.first().map_or(0, |chunk| chunk.columns.len());
            let columns = (0..width)
                .map(|column| {
                    let sources: Vec<&dyn Array> =
                        old.iter().map(|c| c.columns[column].as_ref()).collect();
                    interleave(&sources, &picks)
                })
                .collect::<Result<Vec<_>, _>>()?;
            self.push(columns, slots)?;
        }
        Ok(())
    }

    fn account(&self) -> Result<()> {
        let chunks: usize = self.chunks.iter().map(Chunk::memory).sum();
        self.reservation
            .try_resize(self.best.len() * size_of::<Option<Best>>() + chunks)
    }
}

impl Chunk {
    fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(|c| c.get_array_memory_size()).sum();
        columns + self.slots.capacity() * size_of::<Slot>()
    }
}

impl Visible {
    /// The visible row of a slot: a chunk's number and a row of it.
    pub(super) fn row(&self, slot: Slot) -> Option<(usize, usize)> {
        let at = self.rows[slot as usize]?;
        Some((at.chunk as usize, at.row as usize))
    }

    /// A feature's column in every chunk.
    pub(super) fn columns(&self, feature: usize) -> impl Iterator<Item = &dyn Array> {
        self.chunks
            .iter()
            .map(move |columns| columns[feature].as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
    use vintner_core::{FeatureType, ScalarType, Timestamp};

    use super::*;

    const CHUNK_ROWS: usize = 16;

    fn winners(slots: usize) -> Winners {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let ties = TieBreak::new(&[("f".parse().unwrap(), FeatureType::Scalar(ScalarType::Int64))]);
        let reservation = MemoryConsumer::new("test").register(&pool);
        Winners::new(slots, ties, CHUNK_ROWS, reservation).unwrap()
    }

    /// Offers rows of these slots and times; a row's value is its time.
    fn offer(winners: &mut Winners, rows: &[(Slot, i64)]) {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1)));
        let candidates = rows
            .iter()
            .enumerate()
            .map(|(row, &(slot, time))| Candidate {
                row,
                slot,
                time: RowTime {
                    event: Timestamp::from_micros(time),
                    created: Timestamp::from_micros(0),
                },
            });
        winners.offer(&[values], candidates).unwrap();
    }

    /// The value kept for each slot, and how many rows and chunks are kept in all.
    fn kept(winners: &Winners) -> (Vec<Option<i64>>, usize, usize) {
        let value = |best: &Option<Best>| {
            let at = (*best)?.at;
            let column = &winners.chunks[at.chunk as usize].columns[0];
            Some(column.as_primitive::<Int64Type>().value(at.row as usize))
        };
        let rows = winners.chunks.iter().map(|chunk| chunk.slots.len()).sum();
        (
            winners.best.iter().map(value).collect(),
            rows,
            winners.chunks.len(),
        )
    }

    #[test]
    fn what_is_kept_is_bounded_by_the_slots_however_many_rows_win() {
        let mut winners = winners(100);
        for time in 0..2_000 {
            // Every row wins: the slots take turns in an order that is not theirs.
            let slot = u32::try_from(time * 37 % 100).unwrap();
            offer(&mut winners, &[(slot, time)]);
            let (_, rows, chunks) = kept(&winners);
            let slots = usize::try_from(time + 1).unwrap().min(100);
            assert!(rows <= (2 * slots).max(CHUNK_ROWS), "{rows} rows at {time}");
            assert!(
                chunks <= rows / CHUNK_ROWS + 5,
                "{chunks} chunks of {rows} rows at {time}"
            );
        }
        let want = (0..100).map(|slot| (1_900..2_000).find(|time| time * 37 % 100 == slot));
        assert_eq!(kept(&winners).0, want.collect::<Vec<_>>());
    }

    #[test]
    fn only_rows_that_win_are_kept() {
        let mut winners = winners(2);
        offer(&mut winners, &[(0, 1), (0, 3), (0, 2), (0, 3)]);
        assert_eq!(kept(&winners), (vec![Some(3), None], 1, 1));
        offer(&mut winners, &[(0, 3), (0, 2)]);
        assert_eq!(kept(&winners), (vec![Some(3), None], 1, 1));
        offer(&mut winners, &[(0, 4), (1, 1)]);
        assert_eq!(kept(&winners).0, [Some(4), Some(1)]);
    }

    #[test]
    fn merging_takes_the_greater_of_each_slot_whichever_side_has_more() {
        for swapped in [false, true] {
            let (mut a, mut b) = (winners(4), winners(4));
            offer(&mut a, &[(0, 1), (1, 5), (2, 9)]);
            offer(&mut b, &[(0, 2), (1, 4)]);
            // A row that has lost its slot stays in its chunk for a while, and must not win again.
            offer(&mut b, &[(0, 3)]);
            let merged = if swapped { b.merge(a) } else { a.merge(b) };
            assert_eq!(kept(&merged.unwrap()).0, [Some(3), Some(5), Some(9), None]);
        }
    }
}
