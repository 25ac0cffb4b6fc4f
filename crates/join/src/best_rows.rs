//! The greatest feature row of every slot so far: its time and its address, never its values.
//!
//! Rows of equal times are not told apart here. The slot remembers that there are several, and the parts of the
//! table that they are in are marked, to be looked at again ([`crate::tied_rows`]).

use std::cmp::Ordering;

use vintner_core::{RowTime, Timestamp, VisibilityRule};

use crate::{
    entity_index::{EntityIndex, NO_SLOT, Slot, number},
    error::{JoinError, Result},
    feature_rows::FeatureRows,
    key_lookup::NO_GROUP,
    winners::Winners,
};

/// Where a feature row is: a unit of the view's table (a row group, say) and a row in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The unit's number.
    pub unit: u32,
    /// The row in it; the first one is 0.
    pub row: u32,
}

/// The greatest row of a slot, in 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Best {
    time: RowTime,
    /// [`VACANT`], or the address, with [`TIED`] when there is another row of the same time.
    at: u64,
}

/// A slot, and the greatest row that has begun by its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    pub(crate) slot: usize,
    /// The slot's time.
    pub(crate) time: Timestamp,
    pub(crate) row: RowTime,
    at: u64,
    /// The slot at which the row has begun.
    origin: usize,
}

const VACANT: u64 = u64::MAX;
const TIED: u64 = 1 << 63;
/// Units are numbered in 31 bits, so that an address leaves one for [`TIED`], and none is [`VACANT`].
const MOST_UNITS: u32 = (1 << 31) - 1;

/// The greatest row of each slot among those that were offered.
#[derive(Debug)]
pub struct BestRows {
    best: Vec<Best>,
    /// Per key, where its last row's slot was.
    near: Vec<u32>,
    /// The units that have rows of equal times; a few of them may have lost since.
    tied_units: Vec<bool>,
}

impl BestRows {
    /// None yet, for the slots of an index and a table of so many units.
    ///
    /// # Errors
    /// [`JoinError::TooMany`] units.
    pub fn new(index: &EntityIndex, units: usize) -> Result<Self> {
        check_units(units)?;
        let vacant = Best {
            time: RowTime {
                event: Timestamp::MIN,
                created: Timestamp::MIN,
            },
            at: VACANT,
        };
        Ok(Self {
            best: vec![vacant; index.slot_count()],
            near: vec![0; index.group_count()],
            tied_units: vec![false; units],
        })
    }

    /// The bytes that are held for an index of so many slots.
    pub fn memory_of(slots: usize) -> usize {
        slots * (size_of::<Best>() + size_of::<u32>())
    }

    /// Takes rows of one unit into account. `row_of` says which row of the unit each of them is.
    ///
    /// # Errors
    /// [`JoinError::Arrow`] for key columns of another type than the index has.
    pub fn offer(
        &mut self,
        index: &EntityIndex,
        rule: VisibilityRule,
        rows: &FeatureRows<'_>,
        unit: u32,
        row_of: impl Fn(usize) -> u32,
    ) -> Result<()> {
        // One pass for each table that is jumped about in, so that the processor waits for many of its lines at once.
        let groups = index.groups(rows.keys)?;
        let slots = groups.iter().zip(rows.times());
        let slots = slots.map(|(&group, time)| match rule.lifetime(time) {
            Some(lifetime) if group != NO_GROUP => {
                let near = &mut self.near[group as usize];
                index.slot_of(group, lifetime, near).unwrap_or(NO_SLOT)
            }
            _ => NO_SLOT,
        });
        let slots: Vec<Slot> = slots.collect();
        for (i, (&slot, time)) in slots.iter().zip(rows.times()).enumerate() {
            if slot != NO_SLOT {
                let row = row_of(i);
                self.take(slot, time, Address { unit, row }.packed());
            }
        }
        Ok(())
    }

    /// Takes the rows that `other` has into account.
    pub fn merge(&mut self, other: &Self) {
        for (tied, also) in self.tied_units.iter_mut().zip(&other.tied_units) {
            *tied |= also;
        }
        for (slot, best) in (0..).zip(&other.best) {
            if best.at != VACANT {
                self.take(slot, best.time, best.at);
            }
        }
    }

    #[inline]
    fn take(&mut self, slot: Slot, time: RowTime, at: u64) {
        let best = &mut self.best[slot as usize];
        if best.at == VACANT {
            *best = Best { time, at };
            return;
        }
        match time.cmp(&best.time) {
            Ordering::Less => {}
            Ordering::Greater => *best = Best { time, at },
            Ordering::Equal => {
                let units = [best.at, at].map(|at| Address::unpacked(at).unit);
                best.at |= TIED;
                for unit in units {
                    self.tied_units[unit as usize] = true;
                }
            }
        }
    }

    /// Walks each key's slots forwards, carrying the greatest row so far, which is seen as long as it lives. The
    /// crate's page says why one row is enough.
    ///
    /// # Errors
    /// None that a view of as many rows as slots can have.
    pub fn resolve(self, index: &EntityIndex, rule: VisibilityRule) -> Result<Winners> {
        let mut winners = Winners::new(self.best.len());
        // A carried row is known by the slot at which it has begun, since a slot keeps one.
        let mut last: Option<(usize, u32)> = None;
        self.carried(index).try_for_each(|carried| {
            if !rule.visible(carried.row, carried.time) {
                return Ok(());
            }
            let winner = match last {
                Some((origin, winner)) if origin == carried.origin => winner,
                _ => {
                    let tied = (carried.at & TIED != 0).then_some(carried.row);
                    let at = Address::unpacked(carried.at);
                    winners.add(at, tied, number(carried.origin)?)?
                }
            };
            last = Some((carried.origin, winner));
            winners.see(carried.slot, winner);
            Ok::<_, JoinError>(())
        })?;
        winners.tied_units = self.tied_units;
        Ok(winners)
    }

    /// Every slot at or before which a row of its key has begun, with the greatest such row, also when it has died.
    pub(crate) fn carried(&self, index: &EntityIndex) -> impl Iterator<Item = Carried> {
        index.walks().flat_map(move |slots| {
            let mut carried: Option<(Best, usize)> = None;
            slots.filter_map(move |(slot, time)| {
                let best = self.best[slot];
                if best.at != VACANT && carried.is_none_or(|(carried, _)| carried.time < best.time)
                {
                    carried = Some((best, slot));
                }
                let (Best { time: row, at }, origin) = carried?;
                Some(Carried {
                    slot,
                    time,
                    row,
                    at,
                    origin,
                })
            })
        })
    }
}

/// Refuses more units than an address can tell apart.
fn check_units(units: usize) -> Result<()> {
    match units > MOST_UNITS as usize {
        true => Err(JoinError::TooMany {
            what: "row groups",
            most: MOST_UNITS.into(),
        }),
        false => Ok(()),
    }
}

impl Address {
    fn packed(self) -> u64 {
        u64::from(self.unit) << 32 | u64::from(self.row)
    }

    #[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits wide")]
    fn unpacked(at: u64) -> Self {
        Self {
            unit: ((at & !TIED) >> 32) as u32,
            row: at as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_units_than_can_be_numbered_are_refused() {
        check_units(2_147_483_647).unwrap();
        let err = check_units(2_147_483_648).unwrap_err();
        insta::assert_snapshot!(err.to_string(), @"more than 2147483647 row groups cannot be joined at once; split them");
    }

    #[test]
    fn an_address_is_packed_beside_the_mark_of_a_tie() {
        for (unit, row) in [(0, 0), (0, u32::MAX), (1, 2), (MOST_UNITS - 1, u32::MAX)] {
            let at = Address { unit, row };
            for packed in [at.packed(), at.packed() | TIED] {
                assert_ne!(packed, VACANT);
                assert_eq!(Address::unpacked(packed), at);
            }
            assert_eq!(at.packed() & TIED, 0);
        }
    }
}
