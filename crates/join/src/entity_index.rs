//! The entity rows of one key schema, grouped by key, with each key's times sorted and distinct.

use arrow::array::ArrayRef;
use vintner_core::{KeySchema, Timestamp};

use crate::{
    error::{JoinError, Result},
    key_lookup::{KeyLookup, NO_GROUP},
    key_values::KeyValues,
};

/// A place in the index: one distinct time of one key. Slots are numbered through, key by key, by ascending time.
pub(crate) type Slot = u32;

/// Stands for "this row asks about nothing" or "counts nowhere", since half of the memory of an `Option` would be its
/// tag.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// Which entity rows ask about which key at which moment.
#[derive(Debug)]
pub struct EntityIndex {
    keys: KeyLookup,
    /// Where each key's slots begin, by number; one more at the end.
    starts: Vec<Slot>,
    /// The time of each slot.
    times: Vec<Timestamp>,
    /// The slot of each entity row.
    slots: Vec<Slot>,
}

/// An index that entity rows are being added to.
#[derive(Debug)]
pub(crate) struct EntityIndexBuilder {
    keys: KeyLookup,
    /// The key of every entity row.
    groups: Vec<u32>,
    /// The time of every entity row that has all of its keys and a time; of others anything.
    times: Vec<Timestamp>,
}

impl EntityIndexBuilder {
    /// Without entity rows yet.
    pub(crate) fn new(schema: &KeySchema) -> Self {
        Self {
            keys: KeyLookup::new(schema),
            groups: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Adds entity rows: their key columns, of the key schema's types and order, and their times.
    pub(crate) fn push(&mut self, keys: &[ArrayRef], times: &[Option<Timestamp>]) -> Result<()> {
        number(self.groups.len() + times.len())?;
        let groups = self.keys.number_all(keys, |row| times[row].is_none())?;
        self.groups.extend(groups);
        self.times
            .extend(times.iter().map(|time| time.unwrap_or(Timestamp::MIN)));
        Ok(())
    }

    /// The bytes that the builder holds, with those that it needs to become an index.
    pub(crate) fn memory(&self) -> usize {
        let row = size_of::<u32>() + size_of::<Timestamp>();
        let finishing = size_of::<(Timestamp, u32)>() + size_of::<Slot>() + size_of::<Timestamp>();
        self.keys.memory()
            + self.groups.capacity() * row
            + self.groups.len() * finishing
            + self.keys.len() * 6 * size_of::<u32>()
    }

    /// The index of all rows that were added.
    pub(crate) fn finish(self) -> Result<EntityIndex> {
        let Self {
            mut keys,
            groups,
            times,
        } = self;
        keys.seal();
        // Counting sort by key, then each key's few rows by time.
        let mut ends = vec![0u32; keys.len()];
        for &group in groups.iter().filter(|group| **group != NO_GROUP) {
            ends[group as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            let count = *end;
            *end = sum;
            sum += count;
        }
        let mut asked = vec![(Timestamp::MIN, 0u32); sum as usize];
        for (row, &group) in (0u32..).zip(&groups) {
            if group != NO_GROUP {
                let end = &mut ends[group as usize];
                asked[*end as usize] = (times[row as usize], row);
                *end += 1;
            }
        }
        drop(times);
        let mut slots = groups;
        slots.fill(NO_SLOT);
        let (mut starts, mut times) = (Vec::with_capacity(keys.len() + 1), Vec::new());
        let mut begin = 0;
        for &end in &ends {
            starts.push(number(times.len())?);
            let asked = &mut asked[begin as usize..end as usize];
            if !asked.is_sorted() {
                asked.sort_unstable();
            }
            let mut last = None;
            for &(time, row) in asked.iter() {
                if last != Some(time) {
                    times.push(time);
                    last = Some(time);
                }
                slots[row as usize] = number(times.len() - 1)?;
            }
            begin = end;
        }
        starts.push(number(times.len())?);
        times.shrink_to_fit();
        Ok(EntityIndex {
            keys,
            starts,
            times,
            slots,
        })
    }
}

impl EntityIndex {
    /// How many entity rows there are.
    pub fn rows(&self) -> usize {
        self.slots.len()
    }

    /// How many slots there are.
    pub fn slot_count(&self) -> usize {
        self.times.len()
    }

    /// The first and the last moment that is asked about; none when nobody asks.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        Some((*self.times.iter().min()?, *self.times.iter().max()?))
    }

    /// The distinct values of each join key that is asked about, in the order of the key schema.
    ///
    /// # Errors
    /// None but a bug: that a key of the index cannot be decoded.
    pub fn key_values(&self) -> Result<Vec<KeyValues>> {
        self.keys.values()
    }

    /// The slot of an entity row; none when its key or its time is null.
    pub(crate) fn slot(&self, entity_row: usize) -> Option<Slot> {
        self.slots
            .get(entity_row)
            .copied()
            .filter(|slot| *slot != NO_SLOT)
    }

    /// How many entity rows ask about each slot.
    pub(crate) fn rows_by_slot(&self) -> Vec<u32> {
        let mut rows = vec![0; self.slot_count()];
        for &slot in self.slots.iter().filter(|slot| **slot != NO_SLOT) {
            rows[slot as usize] += 1;
        }
        rows
    }

    /// The groups of a batch of feature rows by their key columns; [`NO_GROUP`] for a key that nobody asks about.
    pub(crate) fn groups(&self, keys: &[ArrayRef]) -> Result<Vec<u32>> {
        self.keys.find_all(keys)
    }

    /// The slot at which a feature row of a group begins to count; none for a row that begins after the key's last
    /// moment, and one whose lifetime is over at the first moment after it begins.
    ///
    /// `near` is the place in the group that the search begins at, and then the one that it has ended at. Rows that
    /// come in the order of time, or of key and time, begin near where the one before of their key has.
    #[inline]
    pub(crate) fn slot_of(
        &self,
        group: u32,
        lifetime: (Timestamp, Timestamp),
        near: &mut u32,
    ) -> Option<Slot> {
        let (from, until) = lifetime;
        let (start, end) = (self.starts[group as usize], self.starts[group as usize + 1]);
        let times = &self.times[start as usize..end as usize];
        let place = first_from(times, from, *near as usize);
        // In a group of u32 slots, a place in it is a u32.
        *near = u32::try_from(place).ok()?;
        let time = times.get(place)?;
        (*time <= until).then_some(start + *near)
    }

    /// How many keys there are.
    pub(crate) fn group_count(&self) -> usize {
        self.keys.len()
    }

    /// The slots of each key, by ascending time, with their times.
    pub(crate) fn walks(&self) -> impl Iterator<Item = impl Iterator<Item = (usize, Timestamp)>> {
        self.starts.windows(2).map(|ends| {
            let slots = ends[0] as usize..ends[1] as usize;
            slots.map(|slot| (slot, self.times[slot]))
        })
    }

    /// The bytes that the index holds.
    pub fn memory(&self) -> usize {
        self.keys.memory()
            + self.starts.capacity() * size_of::<Slot>()
            + self.times.capacity() * size_of::<Timestamp>()
            + self.slots.capacity() * size_of::<Slot>()
    }
}

/// The place of the first moment at or after `from`, which is likely to be `near` or the next.
#[inline]
fn first_from(times: &[Timestamp], from: Timestamp, near: usize) -> usize {
    let near = near.min(times.len());
    let (before, after) = times.split_at(near);
    if before.last().is_some_and(|time| *time >= from) {
        return before.partition_point(|time| *time < from);
    }
    match after {
        [here, ..] if *here >= from => near,
        [_, next, ..] if *next >= from => near + 1,
        after => near + after.partition_point(|time| *time < from),
    }
}

/// A count of rows or slots in the four bytes that are kept of it.
///
/// # Errors
/// Past 4,294,967,294: that many entity rows cannot be joined at once.
pub(crate) fn number(count: usize) -> Result<u32> {
    u32::try_from(count)
        .ok()
        .filter(|number| *number != u32::MAX)
        .ok_or(JoinError::TooMany {
            what: "rows",
            most: u64::from(u32::MAX - 1),
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, new_null_array};
    use vintner_core::{JoinKey, KeySchema, KeyType};

    use super::*;

    fn index(rows: &[(Option<i64>, Option<i64>)]) -> EntityIndex {
        let keys = KeySchema::new(vec![JoinKey {
            name: "k".parse().unwrap(),
            key_type: KeyType::Int64,
        }])
        .unwrap();
        let column: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
        let times: Vec<_> = rows
            .iter()
            .map(|row| row.1.map(Timestamp::from_micros))
            .collect();
        let mut builder = EntityIndexBuilder::new(&keys);
        builder.push(&[column], &times).unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn equal_keys_and_times_share_a_slot() {
        let rows = [
            (Some(2), Some(10)),
            (Some(1), Some(20)),
            (Some(2), Some(5)),
            (Some(2), Some(10)),
            (None, Some(1)),
            (Some(1), None),
        ];
        let index = index(&rows);
        assert_eq!((index.rows(), index.slot_count()), (6, 3));
        let slots: Vec<_> = (0..7).map(|row| index.slot(row)).collect();
        assert_eq!(
            slots,
            [Some(1), Some(2), Some(0), Some(1), None, None, None]
        );
        let walks: Vec<Vec<_>> = index
            .walks()
            .map(|walk| walk.map(|(slot, time)| (slot, time.micros())).collect())
            .collect();
        assert_eq!(walks, [vec![(0, 5), (1, 10)], vec![(2, 20)]]);
    }

    #[test]
    fn a_feature_rows_slot_is_the_first_moment_at_which_it_counts() {
        let index = index(&[(Some(1), Some(5)), (Some(1), Some(10)), (Some(2), Some(7))]);
        for (of, from, until, want) in [
            (1, 4, 99, Some(0)),
            (1, 5, 99, Some(0)),
            (1, 6, 99, Some(1)),
            (1, 10, 99, Some(1)),
            (1, 11, 99, None),
            (1, 6, 10, Some(1)),
            (1, 6, 9, None),
            (1, 4, 5, Some(0)),
            (2, 0, 99, Some(2)),
            (2, 8, 99, None),
            (3, 0, 99, None),
        ] {
            let lifetime = (Timestamp::from_micros(from), Timestamp::from_micros(until));
            let key: ArrayRef = Arc::new(Int64Array::from(vec![of]));
            let group = index.groups(&[key]).unwrap()[0];
            // Wherever the search begins.
            for near in 0..4 {
                let slot =
                    (group != NO_GROUP).then(|| index.slot_of(group, lifetime, &mut { near }));
                assert_eq!(
                    slot.flatten(),
                    want,
                    "{of} from {from} until {until}, near {near}"
                );
            }
        }
    }

    #[test]
    fn a_search_ends_where_it_should_wherever_it_begins() {
        let us = Timestamp::from_micros;
        for moments in 0..6 {
            let times: Vec<_> = (0..moments).map(|moment| us(2 * moment)).collect();
            for from in -1..2 * moments + 1 {
                let want = times.iter().filter(|time| time.micros() < from).count();
                for near in 0..times.len() + 2 {
                    assert_eq!(
                        first_from(&times, us(from), near),
                        want,
                        "{from} near {near}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_span_is_from_the_first_moment_of_any_key_to_the_last() {
        let us = Timestamp::from_micros;
        let rows = [(Some(2), Some(7)), (Some(1), Some(5)), (Some(1), Some(9))];
        assert_eq!(index(&rows).span(), Some((us(5), us(9))));
        assert_eq!(index(&rows[..1]).span(), Some((us(7), us(7))));
        assert_eq!(index(&[(None, Some(1))]).span(), None);
    }

    /// The limit is on what batches have together, so batches of many rows are no error.
    #[test]
    fn rows_of_all_batches_are_counted_together() {
        let schema = KeySchema::new(vec![JoinKey {
            name: "k".parse().unwrap(),
            key_type: KeyType::Int64,
        }]);
        let mut builder = EntityIndexBuilder::new(&schema.unwrap());
        let rows = 1 << 16;
        let column = new_null_array(&KeyType::Int64.arrow(), rows);
        for _ in 0..2 {
            let column = ArrayRef::clone(&column);
            builder.push(&[column], &vec![None; rows]).unwrap();
        }
        assert_eq!(builder.finish().unwrap().rows(), 2 * rows);
    }

    #[test]
    fn more_rows_than_can_be_numbered_are_refused() {
        assert_eq!(number(4_294_967_294).unwrap(), u32::MAX - 1);
        let err = number(4_294_967_295).unwrap_err();
        insta::assert_snapshot!(err.to_string(), @"more than 4294967294 rows cannot be joined at once; split them");
    }
}
