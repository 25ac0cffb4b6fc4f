//! The entity rows of one key schema, grouped by key, with each key's times sorted and distinct.

use std::ops::Range;

use datafusion::{
    common::HashMap,
    error::{DataFusionError, Result},
};
use vintner_core::{KeyColumns, Timestamp};

/// A place in the index: one distinct time of one key. Slots are numbered through, key by key, by ascending time.
pub(super) type Slot = u32;

/// Stands for "this entity row asks about nothing", since half of the memory of an `Option` would be its tag.
const NO_SLOT: u32 = u32::MAX;

/// Which entity rows ask about which key at which moment.
#[derive(Debug)]
pub(super) struct EntityIndex {
    /// The number of each encoded key.
    groups: HashMap<Box<[u8]>, u32>,
    /// Where each key's slots begin, by number; one more at the end.
    starts: Vec<Slot>,
    /// The time of each slot.
    times: Vec<Timestamp>,
    /// The slot of each entity row.
    slots: Vec<Slot>,
}

/// An index that entity rows are being added to.
#[derive(Debug, Default)]
pub(super) struct EntityIndexBuilder {
    groups: HashMap<Box<[u8]>, u32>,
    key_bytes: usize,
    rows: usize,
    /// Key, time and number of every entity row that has all of them.
    asked: Vec<(u32, Timestamp, u32)>,
}

impl EntityIndexBuilder {
    /// Adds entity rows: their keys, and their times in the same order.
    pub(super) fn push(
        &mut self,
        keys: &KeyColumns<'_>,
        times: &[Option<Timestamp>],
    ) -> Result<()> {
        let mut key = Vec::new();
        for (row, time) in times.iter().enumerate() {
            let entity_row = number(self.rows)?;
            self.rows += 1;
            let Some(time) = *time else { continue };
            if !keys.encode_row(row, &mut key) {
                continue;
            }
            let group = match self.groups.get(key.as_slice()) {
                Some(group) => *group,
                None => {
                    let group = number(self.groups.len())?;
                    self.key_bytes += key.len();
                    self.groups.insert(key.as_slice().into(), group);
                    group
                }
            };
            self.asked.push((group, time, entity_row));
        }
        Ok(())
    }

    /// The bytes that the builder and the index made from it hold at most.
    pub(super) fn memory(&self) -> usize {
        let index = self.rows * (size_of::<Slot>() + size_of::<Timestamp>())
            + self.groups.len() * size_of::<Slot>();
        keys_memory(&self.groups, self.key_bytes)
            + self.asked.capacity() * size_of::<(u32, Timestamp, u32)>()
            + index
    }

    /// The index of all rows that were added.
    pub(super) fn finish(mut self) -> Result<EntityIndex> {
        // By key, then by time: the number comes last and orders nothing.
        self.asked.sort_unstable();
        let mut slots = vec![NO_SLOT; self.rows];
        let (mut starts, mut times) = (Vec::with_capacity(self.groups.len() + 1), Vec::new());
        let mut last = None;
        for (group, time, entity_row) in self.asked {
            if last != Some((group, time)) {
                // Every group has a row, so their numbers come up one after another.
                if starts.len() <= group as usize {
                    starts.push(number(times.len())?);
                }
                times.push(time);
                last = Some((group, time));
            }
            slots[entity_row as usize] = number(times.len() - 1)?;
        }
        starts.push(number(times.len())?);
        times.shrink_to_fit();
        Ok(EntityIndex {
            groups: self.groups,
            starts,
            times,
            slots,
        })
    }
}

impl EntityIndex {
    /// How many entity rows there are.
    pub(super) fn rows(&self) -> usize {
        self.slots.len()
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// The slot of an entity row; none when its key or its time is null.
    pub(super) fn slot(&self, entity_row: usize) -> Option<Slot> {
        self.slots
            .get(entity_row)
            .copied()
            .filter(|slot| *slot != NO_SLOT)
    }

    /// The slot at which a feature row of an encoded key begins to count; none for a key that nobody asks about, a
    /// row that begins after the key's last moment, and one whose lifetime is over at the first moment after it
    /// begins.
    pub(super) fn slot_of(&self, key: &[u8], lifetime: (Timestamp, Timestamp)) -> Option<Slot> {
        let (from, until) = lifetime;
        let group = self.group(*self.groups.get(key)?);
        let times = &self.times[group.start as usize..group.end as usize];
        let before = times.partition_point(|time| *time < from);
        let time = times.get(before)?;
        // In a group of u32 slots, a place in it is a u32.
        (*time <= until).then_some(group.start + u32::try_from(before).ok()?)
    }

    /// The slots of each key, by ascending time, with their times.
    pub(super) fn walks(&self) -> impl Iterator<Item = impl Iterator<Item = (usize, Timestamp)>> {
        self.starts.windows(2).map(|ends| {
            let slots = ends[0] as usize..ends[1] as usize;
            slots.map(|slot| (slot, self.times[slot]))
        })
    }

    /// The bytes that the index holds.
    pub(super) fn memory(&self) -> usize {
        let key_bytes = self.groups.keys().map(|key| key.len()).sum();
        keys_memory(&self.groups, key_bytes)
            + self.starts.capacity() * size_of::<Slot>()
            + self.times.capacity() * size_of::<Timestamp>()
            + self.slots.capacity() * size_of::<Slot>()
    }

    fn group(&self, group: u32) -> Range<Slot> {
        let group = group as usize;
        self.starts[group]..self.starts[group + 1]
    }
}

/// A count of rows or slots in the four bytes that are kept of it.
///
/// # Errors
/// Past 4,294,967,294: that many entity rows cannot be joined at once.
pub(super) fn number(count: usize) -> Result<u32> {
    u32::try_from(count)
        .ok()
        .filter(|number| *number != u32::MAX)
        .ok_or_else(|| {
            DataFusionError::ResourcesExhausted(format!(
                "more than {} entity rows cannot be joined at once; split them",
                u32::MAX - 1
            ))
        })
}

fn keys_memory(groups: &HashMap<Box<[u8]>, u32>, key_bytes: usize) -> usize {
    // A hash table keeps an eighth free and a byte of its own per place.
    let place = size_of::<(Box<[u8]>, u32)>() + 1;
    key_bytes + groups.capacity() * 8 / 7 * place
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use vintner_core::{JoinKey, KeySchema, KeyType};

    use super::*;

    fn index(rows: &[(Option<i64>, Option<i64>)]) -> (EntityIndex, impl Fn(i64) -> Vec<u8>) {
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
        let mut builder = EntityIndexBuilder::default();
        builder
            .push(&KeyColumns::new(&keys, &[&column]).unwrap(), &times)
            .unwrap();
        let encoded = move |key: i64| {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![key]));
            let mut bytes = Vec::new();
            KeyColumns::new(&keys, &[&column])
                .unwrap()
                .encode_row(0, &mut bytes);
            bytes
        };
        (builder.finish().unwrap(), encoded)
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
        let (index, _) = index(&rows);
        assert_eq!((index.rows(), index.len()), (6, 3));
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
        let (index, key) = index(&[(Some(1), Some(5)), (Some(1), Some(10)), (Some(2), Some(7))]);
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
            assert_eq!(
                index.slot_of(&key(of), lifetime),
                want,
                "{of} from {from} until {until}"
            );
        }
    }

    #[test]
    fn more_rows_than_can_be_numbered_are_refused() {
        assert_eq!(number(4_294_967_294).unwrap(), u32::MAX - 1);
        let err = number(4_294_967_295).unwrap_err();
        insta::assert_snapshot!(err.strip_backtrace(), @"Resources exhausted: more than 4294967294 entity rows cannot be joined at once; split them");
    }
}
