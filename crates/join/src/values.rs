//! The values of a view's winners, gathered unit by unit in any order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};

use crate::{
    entity_index::number,
    error::Result,
    tied_rows::{RowRef, TiedRows},
    winners::{UnitWinners, Winners},
};

/// No winner is there: chunks are numbered from 0.
const ABSENT: RowRef = RowRef {
    chunk: u32::MAX,
    row: 0,
};

/// The values of a view's winners, of the features that are asked for.
#[derive(Debug)]
pub struct Values {
    chunks: Vec<Vec<ArrayRef>>,
    /// Where each winner is.
    places: Vec<RowRef>,
}

impl Values {
    /// None yet.
    pub fn new(winners: &Winners) -> Self {
        Self {
            chunks: Vec::new(),
            places: vec![ABSENT; winners.count()],
        }
    }

    /// Adds the values of a unit's winners: one column per feature that is asked for, in that order, of exactly the
    /// unit's rows.
    ///
    /// # Errors
    /// [`crate::JoinError::TooMany`] units.
    pub fn put(&mut self, unit: &UnitWinners, columns: Vec<ArrayRef>) -> Result<()> {
        let chunk = number(self.chunks.len())?;
        for (row, &winner) in (0u32..).zip(&unit.winners) {
            self.places[winner as usize] = RowRef { chunk, row };
        }
        self.chunks.push(columns);
        Ok(())
    }

    /// Adds the rows that have won their ties. `asked` are the places of the features that are asked for among all
    /// of the view's.
    ///
    /// # Errors
    /// [`crate::JoinError::TooMany`] units.
    pub fn put_tied(&mut self, winners: &Winners, rows: TiedRows, asked: &[usize]) -> Result<()> {
        let first = number(self.chunks.len())?;
        let (chunks, places) = rows.into_parts();
        for (&winner, place) in winners.tied().iter().zip(places) {
            if let Some(RowRef { chunk, row }) = place {
                let chunk = first + chunk;
                self.places[winner as usize] = RowRef { chunk, row };
            }
        }
        for columns in chunks {
            let asked = asked.iter().map(|&feature| Arc::clone(&columns[feature]));
            self.chunks.push(asked.collect());
        }
        Ok(())
    }

    /// Whether every winner has its values.
    pub fn is_complete(&self) -> bool {
        !self.places.contains(&ABSENT)
    }

    /// The bytes that are held.
    pub fn memory(&self) -> usize {
        let columns = self.chunks.iter().flatten();
        columns
            .map(|column| column.get_array_memory_size())
            .sum::<usize>()
            + self.places.capacity() * size_of::<RowRef>()
    }

    /// Where a winner is: a chunk's number and a row of it.
    #[inline]
    pub(crate) fn place(&self, winner: u32) -> (usize, usize) {
        let RowRef { chunk, row } = self.places[winner as usize];
        (chunk as usize, row as usize)
    }

    /// A feature's column in every chunk; features are counted as they are asked for.
    pub(crate) fn columns(&self, feature: usize) -> impl Iterator<Item = &dyn Array> {
        self.chunks
            .iter()
            .map(move |columns| columns[feature].as_ref())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;
    use crate::best_rows::Address;

    #[test]
    fn values_are_complete_when_every_winner_has_its_own() {
        let mut winners = Winners::new(2);
        for unit in [0, 1] {
            winners.add(Address { unit, row: 3 }, None, unit).unwrap();
        }
        let mut values = Values::new(&winners);
        for unit in winners.by_unit() {
            assert!(!values.is_complete(), "before unit {}", unit.unit);
            let column: ArrayRef = Arc::new(Int64Array::from(vec![7]));
            values.put(&unit.by_row(), vec![column]).unwrap();
        }
        assert!(values.is_complete());
    }
}
