//! Where each row of one snapshot lies in the memory map, by the hash of its stored key.
//!
//! LMDB finds a key by a search in each page from the root to a leaf. Half a dozen of the places that it looks at are in no
//! processor cache, and each has to be waited for before the next one is known. A hash table needs two, and those of all
//! keys of a request are waited for together.
//!
//! A transaction's id names its snapshot: LMDB counts commits, and never changes a page of a snapshot that somebody reads.
//! So places that were noted in one transaction hold in every later one with the same id, and in no other. A commit makes
//! an index useless; [`Demand`] says when it pays to make a new one.
//!
//! Not here: rows that LMDB keeps apart from their keys since they are large, from about 2 KB. They are searched for.

use std::{
    hash::BuildHasher,
    hint::black_box,
    iter::zip,
    sync::{Mutex, PoisonError},
};

use foldhash::fast::RandomState;
use heed::{Env, RoTxn, WithoutTls};
use smallvec::SmallVec;

use super::{FEW, environment::Databases, stored_key::StoredKeys};

/// The largest index: of about 12 million rows.
const MAX_BYTES: u64 = 256 << 20;

/// After how many rows whoever makes an index looks whether it is still wanted.
const LOOK_ROWS: u64 = 65_536;

/// How many rows can be noted in the time in which one is searched for.
const ROWS_PER_SEARCH: u64 = 8;

/// How much of a row is fetched at one time.
const CACHE_LINE: usize = 64;

/// What is stored under the keys of a request, in their order.
pub(super) type Values<'t> = SmallVec<[Option<&'t [u8]>; FEW]>;

/// An index of all rows of a snapshot.
#[derive(Debug)]
pub(super) struct Index {
    snapshot: usize,
    hasher: RandomState,
    slots: Box<[Slot]>,
    /// Whether every row is in it, so that what is not in it is not there.
    complete: bool,
}

/// A row's place. The value follows the key.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Of the key, in the map; 0 in an empty slot.
    address: usize,
    /// A part of the key's hash.
    tag: u32,
    key_bytes: u16,
    value_bytes: u16,
}

impl Index {
    /// Makes the index of the newest snapshot. None when there is a newer one before it is ready, when it would be too
    /// large, or when `is_wanted` no longer holds.
    pub(super) fn build(
        env: &Env<WithoutTls>,
        databases: &Databases,
        is_wanted: impl Fn() -> bool,
    ) -> heed::Result<Option<Self>> {
        let txn = env.read_txn()?;
        let rows = databases.rows.len(&txn)?;
        // Three of four slots are full.
        let slots = rows + rows / 3 + 1;
        if slots > MAX_BYTES / size_of::<Slot>() as u64 {
            return Ok(None);
        }
        let mut index = Self {
            snapshot: txn.id(),
            hasher: RandomState::default(),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            complete: true,
        };
        for (row, entry) in (1_u64..).zip(databases.rows.iter(&txn)?) {
            let (key, value) = entry?;
            index.note(key, value);
            let is_newest = || env.info().last_txn_id == index.snapshot;
            if row.is_multiple_of(LOOK_ROWS) && !(is_wanted() && is_newest()) {
                return Ok(None);
            }
        }
        Ok(Some(index))
    }

    fn note(&mut self, key: &[u8], value: &[u8]) {
        let (at, tag) = self.start(key);
        let (before, after) = self.slots.split_at_mut(at);
        let mut slots = after.iter_mut().chain(before);
        let free = slots.find(|slot| slot.address == 0);
        match (free, Slot::of(key, value, tag)) {
            (Some(free), Some(slot)) => *free = slot,
            _ => self.complete = false,
        }
    }

    /// Where to begin to look for a key, and its tag.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "one is less than the number of slots, of the other a part is wanted"
    )]
    fn start(&self, key: &[u8]) -> (usize, u32) {
        let hash = self.hasher.hash_one(key);
        // The high half of the product is evenly spread below the number of slots: Lemire, "Fast random integer generation
        // in an interval", 2019.
        let at = (u128::from(hash) * self.slots.len() as u128) >> 64;
        (at as usize, hash as u32)
    }

    /// The slot that seems to be a key's.
    fn slot(&self, at: usize, tag: u32) -> Option<&Slot> {
        let (before, after) = self.slots.split_at_checked(at)?;
        let mut slots = after.iter().chain(before);
        slots
            .find(|slot| slot.address == 0 || slot.tag == tag)
            .filter(|slot| slot.address != 0)
    }

    /// This index where `txn` reads, when that is its snapshot.
    pub(super) fn within<'t>(&'t self, txn: &'t RoTxn<'t>) -> Option<Within<'t>> {
        (txn.id() == self.snapshot).then_some(Within { index: self, txn })
    }
}

impl Slot {
    /// None when the value does not follow the key.
    fn of(key: &[u8], value: &[u8], tag: u32) -> Option<Self> {
        let follows = key.as_ptr_range().end == value.as_ptr();
        let key_bytes = u16::try_from(key.len()).ok()?;
        let value_bytes = u16::try_from(value.len()).ok()?;
        follows.then(|| Self {
            address: key.as_ptr().expose_provenance(),
            tag,
            key_bytes,
            value_bytes,
        })
    }
}

/// An index and a transaction on its snapshot.
#[derive(Clone, Copy)]
pub(super) struct Within<'t> {
    index: &'t Index,
    txn: &'t RoTxn<'t>,
}

impl<'t> Within<'t> {
    /// The values of keys, in their order.
    pub(super) fn values(
        self,
        databases: &Databases,
        keys: &StoredKeys,
    ) -> heed::Result<Values<'t>> {
        // Each pass touches what the next one needs of all keys, one independent of the other, so that the processor
        // fetches it all at one time.
        let starts: SmallVec<[_; FEW]> = keys.iter().map(|key| self.index.start(key)).collect();
        for (at, _) in &starts {
            black_box(self.index.slots.get(*at).map(|slot| slot.address));
        }
        let slots = starts.iter().map(|(at, tag)| self.index.slot(*at, *tag));
        let rows: SmallVec<[_; FEW]> = slots.map(|slot| slot.map(|slot| self.row(slot))).collect();
        for (key, value) in rows.iter().flatten() {
            black_box(key.first());
            for line in value.chunks(CACHE_LINE) {
                black_box(line.last());
            }
        }
        let mut values = Values::with_capacity(rows.len());
        for (wanted, row) in zip(keys.iter(), &rows) {
            values.push(match row {
                Some((key, value)) if *key == wanted => Some(*value),
                None if self.index.complete => None,
                // One of large rows, or another key of the same tag.
                _ => databases.rows.get(self.txn, wanted)?,
            });
        }
        Ok(values)
    }

    /// A row's key and value.
    #[expect(
        unsafe_code,
        reason = "the place was noted in a transaction on the same snapshot"
    )]
    fn row(self, slot: &Slot) -> (&'t [u8], &'t [u8]) {
        let key = std::ptr::with_exposed_provenance::<u8>(slot.address);
        let key_bytes = usize::from(slot.key_bytes);
        let bytes = key_bytes + usize::from(slot.value_bytes);
        // Sound: LMDB gave out these bytes as a key and the value behind it, in a transaction of the same id in the same map,
        // since an index goes when its map is moved. Pages of a snapshot stay as they are while a transaction reads it, and
        // this one does for as long as the slice lives.
        let row = unsafe { std::slice::from_raw_parts(key, bytes) };
        row.split_at(key_bytes)
    }
}

/// How much an index is wanted.
///
/// It is made as soon as the searches in one snapshot have taken as long as making it takes. So, whatever is written and
/// read, no more than twice the time is spent that the better of the two ways would have taken.
#[derive(Debug, Default)]
pub(super) struct Demand(Mutex<Searched>);

#[derive(Debug, Default)]
struct Searched {
    snapshot: usize,
    keys: u64,
    ordered: bool,
}

impl Demand {
    /// Notes that keys were searched for in a snapshot of so many rows. True when an index is to be made now.
    pub(super) fn searched(&self, snapshot: usize, keys: usize, rows: u64) -> bool {
        let mut searched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if searched.snapshot != snapshot {
            *searched = Searched {
                snapshot,
                ..Searched::default()
            };
        }
        searched.keys = searched.keys.saturating_add(keys as u64);
        let pays = searched.keys.saturating_mul(ROWS_PER_SEARCH) >= rows;
        let is_new = pays && !searched.ordered;
        searched.ordered |= is_new;
        is_new
    }
}

#[cfg(test)]
mod tests;
