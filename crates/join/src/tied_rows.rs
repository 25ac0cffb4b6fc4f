//! The greatest, by its values, of the rows of equal times that compete for a winner.
//!
//! Values are copied out of the batches they came in, so that a batch is let go at once, and rows that have lost
//! since are thrown out when they are more than half of what is kept. So what is held is at most a batch and three
//! rows per tie (the third only while rows are thrown out), however many rows compete.

use std::cmp::Ordering;

use arrow::{
    array::{Array, ArrayRef, UInt32Array},
    compute::{interleave, take},
};
use hashbrown::{HashMap, hash_map::Entry};
use vintner_core::VisibilityRule;

use crate::{
    entity_index::{EntityIndex, number},
    error::Result,
    feature_rows::FeatureRows,
    key_lookup::NO_GROUP,
    ties::{RowComparator, TieBreak},
    winners::Winners,
};

/// Where a kept row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRef {
    pub(crate) chunk: u32,
    pub(crate) row: u32,
}

/// A feature row that competes.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    row: usize,
    tie: u32,
}

/// Kept rows: their values, and the tie that each of them leads.
#[derive(Debug)]
struct Chunk {
    columns: Vec<ArrayRef>,
    ties: Vec<u32>,
}

/// The greatest row of each tie among those that were offered.
#[derive(Debug)]
pub struct TiedRows {
    best: Vec<Option<RowRef>>,
    chunks: Vec<Chunk>,
    /// How many ties have a row.
    led: usize,
    /// How many rows a chunk is to have.
    chunk_rows: usize,
    order: TieBreak,
}

impl TiedRows {
    /// None yet, for the ties of a join. Rows are compared in `order`; they are kept in chunks of about `chunk_rows`.
    pub fn new(winners: &Winners, order: TieBreak, chunk_rows: usize) -> Self {
        Self {
            best: vec![None; winners.tied().len()],
            chunks: Vec::new(),
            led: 0,
            chunk_rows: chunk_rows.max(1),
            order,
        }
    }

    /// Takes rows of a view into account. `features` are all of the view's, of the same rows.
    ///
    /// # Errors
    /// [`crate::JoinError::Arrow`] for columns of other types than the index and the order have.
    pub fn offer(
        &mut self,
        index: &EntityIndex,
        rule: VisibilityRule,
        winners: &Winners,
        rows: &FeatureRows<'_>,
        features: &[ArrayRef],
    ) -> Result<()> {
        let groups = index.groups(rows.keys)?;
        let rows = groups.iter().zip(rows.times()).enumerate();
        let candidates = rows.filter_map(|(row, (&group, time))| {
            if group == NO_GROUP {
                return None;
            }
            let slot = index.slot_of(group, rule.lifetime(time)?, &mut 0)?;
            let tie = winners.tie(slot, time)?;
            Some(Candidate { row, tie })
        });
        self.compete(features, candidates)
    }

    fn compete(
        &mut self,
        columns: &[ArrayRef],
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Result<()> {
        let incoming = number(self.chunks.len())?;
        let mut comparators: HashMap<u32, RowComparator> = HashMap::new();
        let mut led = Vec::new();
        for Candidate { row, tie } in candidates {
            let at = RowRef {
                chunk: incoming,
                row: number(row)?,
            };
            let against = match self.best[tie as usize] {
                Some(best) => {
                    let rows = match comparators.entry(best.chunk) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(unknown) => {
                            let chunk = self.chunks.get(best.chunk as usize);
                            let kept = chunk.map_or(columns, |chunk| &chunk.columns);
                            unknown.insert(self.order.between(columns, kept)?)
                        }
                    };
                    rows.compare(row, best.row as usize)
                }
                None => {
                    self.led += 1;
                    Ordering::Greater
                }
            };
            if against == Ordering::Greater {
                self.best[tie as usize] = Some(at);
                led.push((tie, at));
            }
        }
        // Rows that led and lost again within this batch are not kept.
        led.retain(|&(tie, at)| self.best[tie as usize] == Some(at));
        self.keep(columns, &led)?;
        self.tidy()
    }

    /// Takes the rows that `other` has kept into account.
    ///
    /// # Errors
    /// As [`TiedRows::offer`].
    pub fn merge(&mut self, mut other: Self) -> Result<()> {
        // The fewer are offered to the more.
        if self.led < other.led {
            std::mem::swap(self, &mut other);
        }
        let Self { best, chunks, .. } = &other;
        for (number, chunk) in (0u32..).zip(chunks) {
            let rows = (0u32..).zip(&chunk.ties);
            let candidates = rows.filter_map(|(row, &tie)| {
                let at = RowRef { chunk: number, row };
                let row = row as usize;
                (best[tie as usize] == Some(at)).then_some(Candidate { row, tie })
            });
            self.compete(&chunk.columns, candidates)?;
        }
        Ok(())
    }

    /// The kept rows as chunks of columns, and where each tie's row is in them.
    pub(crate) fn into_parts(self) -> (Vec<Vec<ArrayRef>>, Vec<Option<RowRef>>) {
        let chunks = self.chunks.into_iter().map(|chunk| chunk.columns);
        (chunks.collect(), self.best)
    }

    /// The bytes that are held.
    pub fn memory(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Chunk::memory).sum();
        self.best.capacity() * size_of::<Option<RowRef>>() + chunks
    }

    /// Copies rows that lead their ties into a chunk of their own.
    fn keep(&mut self, columns: &[ArrayRef], led: &[(u32, RowRef)]) -> Result<()> {
        if led.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = led.iter().map(|(_, at)| at.row).collect();
        let columns = columns
            .iter()
            .map(|column| take(column, &rows, None))
            .collect::<Result<Vec<_>, _>>()?;
        self.push(columns, led.iter().map(|(tie, _)| *tie).collect())
    }

    /// Adds a chunk of rows, each the best of its tie.
    fn push(&mut self, columns: Vec<ArrayRef>, ties: Vec<u32>) -> Result<()> {
        let chunk = number(self.chunks.len())?;
        for (row, &tie) in (0u32..).zip(&ties) {
            self.best[tie as usize] = Some(RowRef { chunk, row });
        }
        self.chunks.push(Chunk { columns, ties });
        Ok(())
    }

    /// Keeps the chunks few and mostly alive.
    ///
    /// A chunk that is not full is joined with the one before it unless that is full or more than twice as large, so
    /// there are as many that are not full as a chunk's rows have bits, and a row is copied about as often.
    fn tidy(&mut self) -> Result<()> {
        let kept: usize = self.chunks.iter().map(|chunk| chunk.ties.len()).sum();
        if kept > self.chunk_rows && kept > 2 * self.led {
            return self.rewrite(0);
        }
        while let [.., before, last] = self.chunks.as_slice() {
            let (before, last) = (before.ties.len(), last.ties.len());
            if before >= self.chunk_rows || before > 2 * last {
                break;
            }
            // This leaves one chunk, or two of which the first is full.
            self.rewrite(self.chunks.len() - 2)?;
        }
        Ok(())
    }

    /// Writes the chunks from a number on again, in full chunks, without the rows that have lost.
    fn rewrite(&mut self, from: usize) -> Result<()> {
        let old = self.chunks.split_off(from);
        let mut alive = Vec::new();
        for (place, chunk) in old.iter().enumerate() {
            let chunk_number = number(from + place)?;
            for (row, &tie) in (0u32..).zip(&chunk.ties) {
                let chunk = chunk_number;
                if self.best[tie as usize] == Some(RowRef { chunk, row }) {
                    alive.push((tie, (place, row as usize)));
                }
            }
        }
        for alive in alive.chunks(self.chunk_rows) {
            let (ties, picks): (Vec<u32>, Vec<(usize, usize)>) = alive.iter().copied().unzip();
            let width = old.first().map_or(0, |chunk| chunk.columns.len());
            let columns = (0..width)
                .map(|column| {
                    let sources: Vec<&dyn Array> =
                        old.iter().map(|c| c.columns[column].as_ref()).collect();
                    interleave(&sources, &picks)
                })
                .collect::<Result<Vec<_>, _>>()?;
            self.push(columns, ties)?;
        }
        Ok(())
    }
}

impl Chunk {
    fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(|c| c.get_array_memory_size()).sum();
        columns + self.ties.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{AsArray, Int64Array},
        datatypes::Int64Type,
    };
    use vintner_core::{FeatureType, ScalarType};

    use super::*;

    const CHUNK_ROWS: usize = 16;

    fn tied_rows(ties: usize) -> TiedRows {
        let order =
            TieBreak::new(&[("f".parse().unwrap(), FeatureType::Scalar(ScalarType::Int64))]);
        let mut rows = TiedRows::new(&Winners::new(0), order, CHUNK_ROWS);
        rows.best = vec![None; ties];
        rows
    }

    /// Offers rows of these ties and values.
    fn compete(rows: &mut TiedRows, offered: &[(u32, i64)]) {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(offered.iter().map(|r| r.1)));
        let candidates = offered.iter().enumerate();
        let candidates = candidates.map(|(row, &(tie, _))| Candidate { row, tie });
        rows.compete(&[values], candidates).unwrap();
    }

    /// The value kept for each tie, and how many rows and chunks are kept in all.
    fn kept(rows: &TiedRows) -> (Vec<Option<i64>>, usize, usize) {
        let value = |best: &Option<RowRef>| {
            let at = (*best)?;
            let column = &rows.chunks[at.chunk as usize].columns[0];
            Some(column.as_primitive::<Int64Type>().value(at.row as usize))
        };
        let count = rows.chunks.iter().map(|chunk| chunk.ties.len()).sum();
        (
            rows.best.iter().map(value).collect(),
            count,
            rows.chunks.len(),
        )
    }

    #[test]
    fn what_is_kept_is_bounded_by_the_ties_however_many_rows_lead() {
        let mut rows = tied_rows(100);
        for value in 0..2_000 {
            // Every row leads: the ties take turns in an order that is not theirs.
            let tie = u32::try_from(value * 37 % 100).unwrap();
            compete(&mut rows, &[(tie, value)]);
            let (_, count, chunks) = kept(&rows);
            let ties = usize::try_from(value + 1).unwrap().min(100);
            assert!(
                count <= (2 * ties).max(CHUNK_ROWS),
                "{count} rows at {value}"
            );
            assert!(
                chunks <= count / CHUNK_ROWS + 5,
                "{chunks} chunks of {count} rows at {value}"
            );
        }
        let want = (0..100).map(|tie| (1_900..2_000).find(|value| value * 37 % 100 == tie));
        assert_eq!(kept(&rows).0, want.collect::<Vec<_>>());
    }

    /// Offers as many rows as said, each greater than all before and of another tie than the others of its offer.
    fn lead(rows: &mut TiedRows, first_tie: u32, count: u32, value: i64) {
        let offered: Vec<_> = (first_tie..first_tie + count)
            .map(|tie| (tie, value))
            .collect();
        compete(rows, &offered);
    }

    fn chunk_sizes(rows: &TiedRows) -> Vec<usize> {
        rows.chunks.iter().map(|chunk| chunk.ties.len()).collect()
    }

    #[test]
    fn a_chunk_is_joined_with_the_one_before_unless_that_is_full_or_more_than_twice_as_large() {
        for (offers, want) in [
            (vec![4, 2], vec![6]),
            (vec![5, 2], vec![5, 2]),
            (vec![7, 4], vec![11]),
            (vec![7, 3], vec![7, 3]),
            (vec![5, 2, 1], vec![8]),
            (vec![7, 3, 1], vec![7, 3, 1]),
            (vec![15, 8], vec![16, 7]),
            (vec![16, 16], vec![16, 16]),
            (vec![20, 11], vec![20, 11]),
            (vec![20, 11, 6], vec![20, 16, 1]),
            (vec![20, 4, 20], vec![20, 16, 8]),
        ] {
            let mut rows = tied_rows(100);
            let mut ties = 0;
            for &count in &offers {
                lead(&mut rows, ties, count, i64::from(ties));
                ties += count;
            }
            assert_eq!(chunk_sizes(&rows), want, "{offers:?}");
            let mut values = Vec::new();
            for &count in &offers {
                let value = i64::try_from(values.len()).unwrap();
                values.extend((0..count).map(|_| Some(value)));
            }
            values.resize(100, None);
            assert_eq!(kept(&rows).0, values, "{offers:?}");
            assert_eq!(rows.led, usize::try_from(ties).unwrap());
        }
    }

    #[test]
    fn rows_that_have_lost_are_thrown_out_when_they_are_more_than_half() {
        let mut rows = tied_rows(20);
        lead(&mut rows, 0, 20, 1);
        lead(&mut rows, 0, 20, 2);
        assert_eq!(chunk_sizes(&rows), [20, 20]);
        lead(&mut rows, 0, 1, 3);
        assert_eq!(chunk_sizes(&rows), [16, 4]);
    }

    #[test]
    fn merging_copies_the_fewer_rows() {
        for swapped in [false, true] {
            let (mut many, mut few) = (tied_rows(40), tied_rows(40));
            lead(&mut many, 0, 30, 1);
            lead(&mut few, 20, 15, 2);
            let full = ArrayRef::clone(&many.chunks[0].columns[0]);
            if swapped {
                std::mem::swap(&mut many, &mut few);
            }
            many.merge(few).unwrap();
            assert!(Arc::ptr_eq(&many.chunks[0].columns[0], &full));
            assert_eq!(many.led, 35);
        }
    }

    #[test]
    fn only_rows_that_lead_are_kept() {
        let mut rows = tied_rows(2);
        compete(&mut rows, &[(0, 1), (0, 3), (0, 2), (0, 3)]);
        assert_eq!(kept(&rows), (vec![Some(3), None], 1, 1));
        compete(&mut rows, &[(0, 3), (0, 2)]);
        assert_eq!(kept(&rows), (vec![Some(3), None], 1, 1));
        compete(&mut rows, &[(0, 4), (1, 1)]);
        // The row that has lost is gone: chunks are joined without it.
        assert_eq!(kept(&rows), (vec![Some(4), Some(1)], 2, 1));
    }

    #[test]
    fn merging_takes_the_greater_of_each_tie_whichever_side_has_more() {
        for swapped in [false, true] {
            let (mut a, mut b) = (tied_rows(4), tied_rows(4));
            compete(&mut a, &[(0, 1), (1, 5), (2, 9)]);
            compete(&mut b, &[(0, 2), (1, 4)]);
            // A row that has lost its tie stays in its chunk for a while, and must not win again.
            compete(&mut b, &[(0, 3)]);
            if swapped {
                std::mem::swap(&mut a, &mut b);
            }
            a.merge(b).unwrap();
            assert_eq!(kept(&a).0, [Some(3), Some(5), Some(9), None]);
        }
    }
}
