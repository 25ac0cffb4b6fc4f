//! Which feature row each slot sees, and where the values of those rows are to be read.

use hashbrown::HashMap;
use vintner_core::RowTime;

use crate::{
    best_rows::Address,
    entity_index::{Slot, number},
    error::Result,
};

/// Stands for "sees nothing", since half of the memory of an `Option` would be its tag.
const NOTHING: u32 = u32::MAX;

/// The rows that some slot sees, each once, numbered through.
#[derive(Debug)]
pub struct Winners {
    /// The winner that each slot sees.
    seen: Vec<u32>,
    addresses: Vec<Address>,
    /// The ties: each a winner that is one of several rows of equal times, by the slot at which all of these begin.
    ties: HashMap<Slot, Tie>,
    /// The winner of each tie.
    tied: Vec<u32>,
    /// The units with rows of equal times, by number.
    pub(crate) tied_units: Vec<bool>,
}

/// Rows of one time that compete for a slot.
#[derive(Clone, Copy, Debug)]
struct Tie {
    number: u32,
    time: RowTime,
}

/// The winners that one unit has, by ascending row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitWinners {
    /// The unit.
    pub unit: u32,
    /// The rows, ascending, each once.
    pub rows: Vec<u32>,
    /// The winner that each row is.
    pub(crate) winners: Vec<u32>,
}

/// The winners that one unit has, in any order.
#[derive(Clone, Debug)]
pub struct UnorderedWinners {
    /// The unit.
    pub unit: u32,
    /// Rows, and the winner that each is.
    rows: Vec<(u32, u32)>,
}

impl UnorderedWinners {
    /// By row. Takes as long as to sort them, so threads do it side by side.
    pub fn by_row(&self) -> UnitWinners {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        let (rows, winners) = rows.into_iter().unzip();
        UnitWinners {
            unit: self.unit,
            rows,
            winners,
        }
    }
}

impl Winners {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            seen: vec![NOTHING; slots],
            addresses: Vec::new(),
            ties: HashMap::new(),
            tied: Vec::new(),
            tied_units: Vec::new(),
        }
    }

    /// Adds a winner: a row that has begun at the slot `origin`, and its time when others have the same.
    pub(crate) fn add(&mut self, at: Address, tied: Option<RowTime>, origin: Slot) -> Result<u32> {
        let winner = number(self.addresses.len())?;
        self.addresses.push(at);
        if let Some(time) = tied {
            let number = number(self.tied.len())?;
            self.ties.insert(origin, Tie { number, time });
            self.tied.push(winner);
        }
        Ok(winner)
    }

    pub(crate) fn see(&mut self, slot: usize, winner: u32) {
        self.seen[slot] = winner;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.addresses.len()
    }

    /// The winner that a slot sees.
    #[inline]
    pub(crate) fn of(&self, slot: Slot) -> Option<u32> {
        Some(self.seen[slot as usize]).filter(|winner| *winner != NOTHING)
    }

    /// The winner of each tie, by the tie's number, as long as values have not decided which row it is.
    pub fn tied(&self) -> &[u32] {
        &self.tied
    }

    /// The units in which rows of equal times may compete; empty when nothing does.
    pub fn tied_units(&self) -> Vec<u32> {
        let units = (0..).zip(&self.tied_units);
        match self.tied.is_empty() {
            true => Vec::new(),
            false => units.filter(|(_, tied)| **tied).map(|u| u.0).collect(),
        }
    }

    /// The tie in which a row of a time that begins at a slot competes.
    pub(crate) fn tie(&self, slot: Slot, time: RowTime) -> Option<u32> {
        let tie = self.ties.get(&slot)?;
        (tie.time == time).then_some(tie.number)
    }

    /// The units that have winners that no ties are about, ascending, with these winners.
    pub fn by_unit(&self) -> Vec<UnorderedWinners> {
        let mut is_tied = vec![false; self.count()];
        for &winner in &self.tied {
            is_tied[winner as usize] = true;
        }
        let mut units: Vec<Vec<(u32, u32)>> = Vec::new();
        for (winner, at) in (0u32..).zip(&self.addresses) {
            if is_tied[winner as usize] {
                continue;
            }
            let unit = at.unit as usize;
            if units.len() <= unit {
                units.resize_with(unit + 1, Vec::new);
            }
            units[unit].push((at.row, winner));
        }
        let units = (0u32..).zip(units).filter(|(_, rows)| !rows.is_empty());
        let unordered = |(unit, rows)| UnorderedWinners { unit, rows };
        units.map(unordered).collect()
    }

    /// The bytes that are held.
    pub fn memory(&self) -> usize {
        self.seen.capacity() * size_of::<u32>()
            + self.addresses.capacity() * size_of::<Address>()
            + self.ties.capacity() * (size_of::<(Slot, Tie)>() + 1)
            + self.tied.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winners_of_a_unit_come_by_row() {
        let mut winners = Winners::new(4);
        for (unit, row) in [(1, 7), (0, 3), (1, 2), (1, 5)] {
            winners.add(Address { unit, row }, None, 0).unwrap();
        }
        let units = winners.by_unit();
        let units: Vec<_> = units.iter().map(UnorderedWinners::by_row).collect();
        let of = |unit, rows: &[u32], winners: &[u32]| UnitWinners {
            unit,
            rows: rows.to_vec(),
            winners: winners.to_vec(),
        };
        assert_eq!(units, [of(0, &[3], &[1]), of(1, &[2, 5, 7], &[2, 3, 0])]);
    }
}
