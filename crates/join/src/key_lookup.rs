//! The distinct keys of entity rows, numbered, and the search for the number of a feature row's key.
//!
//! A key of one integer or one text is looked up as it is, integers that lie close together by their distance from the
//! smallest; any other key by its canonical encoding. Which of them it is
//! changes the cost alone: two keys are equal in one form exactly when they are in the other.

use std::hash::Hash;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{Int32Type, Int64Type},
};
use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use vintner_core::{JoinKey, KeyColumns, KeyError, KeySchema, KeyType};

use crate::{entity_index::number, error::Result, key_values::KeyValues};

/// Stands for "no such key", since half of the memory of an `Option` would be its tag.
pub(crate) const NO_GROUP: u32 = u32::MAX;
/// Integers are found by their distance from the smallest when there are at most so many places for each.
const MOST_GAPS: usize = 4;

/// The number of each distinct key.
#[derive(Debug)]
pub(crate) struct KeyLookup {
    schema: KeySchema,
    numbers: Numbers,
    dense: Option<Dense>,
    key_bytes: usize,
}

#[derive(Debug)]
enum Numbers {
    Integers(HashMap<i64, u32, RandomState>),
    /// Raw text or bytes of a single key, or encoded keys.
    Bytes(HashMap<Box<[u8]>, u32, RandomState>),
}

/// The numbers of integers that lie close together, each at its distance from the smallest.
#[derive(Debug)]
struct Dense {
    first: i64,
    numbers: Vec<u32>,
}

impl Dense {
    /// None when there would be many gaps.
    fn of(numbers: &HashMap<i64, u32, RandomState>) -> Option<Self> {
        let (first, last) = (*numbers.keys().min()?, *numbers.keys().max()?);
        let span = usize::try_from(last.abs_diff(first)).ok()?.checked_add(1)?;
        if span > numbers.len().saturating_mul(MOST_GAPS) {
            return None;
        }
        let mut dense = Self {
            first,
            numbers: vec![NO_GROUP; span],
        };
        for (key, number) in numbers {
            if let Some(place) = dense.place(*key) {
                dense.numbers[place] = *number;
            }
        }
        Some(dense)
    }

    fn place(&self, key: i64) -> Option<usize> {
        let distance = usize::try_from(key.checked_sub(self.first)?).ok()?;
        (distance < self.numbers.len()).then_some(distance)
    }

    #[inline]
    fn find(&self, key: i64) -> u32 {
        let number = self.place(key).map(|place| self.numbers[place]);
        number.unwrap_or(NO_GROUP)
    }
}

impl KeyLookup {
    pub(crate) fn new(schema: &KeySchema) -> Self {
        let numbers = match schema.join_keys() {
            [only] if matches!(only.key_type, KeyType::Int32 | KeyType::Int64) => {
                Numbers::Integers(HashMap::default())
            }
            _ => Numbers::Bytes(HashMap::default()),
        };
        Self {
            schema: schema.clone(),
            numbers,
            dense: None,
            key_bytes: 0,
        }
    }

    /// How many distinct keys there are.
    pub(crate) fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Integers(numbers) => numbers.len(),
            Numbers::Bytes(numbers) => numbers.len(),
        }
    }

    /// The numbers of the keys of a batch's rows, of which those that are new get the next ones; [`NO_GROUP`] for a
    /// row with a null among its keys and for one that `skip` names.
    pub(crate) fn number_all(
        &mut self,
        columns: &[ArrayRef],
        skip: impl Fn(usize) -> bool,
    ) -> Result<Vec<u32>> {
        let schema = self.schema.clone();
        let key_bytes = &mut self.key_bytes;
        match &mut self.numbers {
            Numbers::Integers(numbers) => integers(&schema, columns, |key, row| match key {
                Some(key) if !skip(row) => numbered(numbers, &key, |key| *key),
                _ => Ok(NO_GROUP),
            }),
            Numbers::Bytes(numbers) => bytes(&schema, columns, |key, row| match key {
                Some(key) if !skip(row) => numbered(numbers, key, |key| {
                    *key_bytes += key.len();
                    key.into()
                }),
                _ => Ok(NO_GROUP),
            }),
        }
    }

    /// Gets ready for many searches; no key comes any more.
    pub(crate) fn seal(&mut self) {
        if let Numbers::Integers(numbers) = &self.numbers {
            self.dense = Dense::of(numbers);
        }
    }

    /// The numbers of the keys of a batch's rows; [`NO_GROUP`] for a key that has none, or a null.
    pub(crate) fn find_all(&self, columns: &[ArrayRef]) -> Result<Vec<u32>> {
        if let Some(dense) = &self.dense {
            return integers(&self.schema, columns, |key, _| {
                Ok(key.map_or(NO_GROUP, |key| dense.find(key)))
            });
        }
        match &self.numbers {
            Numbers::Integers(numbers) => {
                // Rows that were sorted by key come in runs of one key.
                let mut last = (0, numbers.get(&0).copied().unwrap_or(NO_GROUP));
                integers(&self.schema, columns, |key, _| {
                    let Some(key) = key else { return Ok(NO_GROUP) };
                    if key != last.0 {
                        last = (key, numbers.get(&key).copied().unwrap_or(NO_GROUP));
                    }
                    Ok(last.1)
                })
            }
            Numbers::Bytes(numbers) => bytes(&self.schema, columns, |key, _| {
                Ok(key
                    .and_then(|key| numbers.get(key))
                    .copied()
                    .unwrap_or(NO_GROUP))
            }),
        }
    }

    /// The distinct values of each join key, in the order of the key schema.
    pub(crate) fn values(&self) -> Result<Vec<KeyValues>> {
        let is_text = |key: &JoinKey| matches!(key.key_type, KeyType::String | KeyType::Bytes);
        match (&self.numbers, self.schema.join_keys()) {
            (Numbers::Integers(numbers), _) => {
                Ok(vec![KeyValues::of_integers(numbers.keys().copied())])
            }
            (Numbers::Bytes(numbers), [only]) if is_text(only) => {
                Ok(vec![KeyValues::of_bytes(numbers.keys())])
            }
            (Numbers::Bytes(numbers), _) => KeyValues::of_encoded(&self.schema, numbers.keys()),
        }
    }

    /// The bytes that the keys hold.
    pub(crate) fn memory(&self) -> usize {
        // A hash table keeps an eighth free and a byte of its own per place.
        let table = |capacity: usize, entry: usize| capacity * 8 / 7 * (entry + 1);
        match &self.numbers {
            Numbers::Integers(numbers) => {
                let dense = self
                    .dense
                    .as_ref()
                    .map_or(0, |dense| dense.numbers.capacity());
                table(numbers.capacity(), size_of::<(i64, u32)>()) + dense * size_of::<u32>()
            }
            Numbers::Bytes(numbers) => {
                self.key_bytes + table(numbers.capacity(), size_of::<(Box<[u8]>, u32)>())
            }
        }
    }
}

/// The number of a key, which is the next one when the key is new.
fn numbered<K, Q>(
    numbers: &mut HashMap<K, u32, RandomState>,
    key: &Q,
    own: impl FnOnce(&Q) -> K,
) -> Result<u32>
where
    K: Eq + Hash,
    Q: Hash + Equivalent<K> + ?Sized,
{
    if let Some(known) = numbers.get(key) {
        return Ok(*known);
    }
    let next = number(numbers.len())?;
    numbers.insert(own(key), next);
    Ok(next)
}

/// What `each` makes of every row's key, where it is one integer.
fn integers(
    schema: &KeySchema,
    columns: &[ArrayRef],
    mut each: impl FnMut(Option<i64>, usize) -> Result<u32>,
) -> Result<Vec<u32>> {
    let wrong = || KeyError::Count {
        wanted: schema.len(),
        found: columns.len(),
    };
    let [column] = columns else {
        return Err(key_error(wrong()));
    };
    if let Some(keys) = column.as_primitive_opt::<Int64Type>() {
        if keys.null_count() == 0 {
            let rows = keys.values().iter().enumerate();
            return rows.map(|(row, &key)| each(Some(key), row)).collect();
        }
        let rows = keys.iter().enumerate();
        return rows.map(|(row, key)| each(key, row)).collect();
    }
    match column.as_primitive_opt::<Int32Type>() {
        Some(keys) => keys
            .iter()
            .enumerate()
            .map(|(row, key)| each(key.map(i64::from), row))
            .collect(),
        None => Err(key_error(KeyError::Column {
            name: schema.join_keys()[0].name.clone(),
            key_type: schema.join_keys()[0].key_type,
            found: column.data_type().clone(),
        })),
    }
}

/// What `each` makes of every row's key: the text or bytes of a single key, else the canonical encoding.
fn bytes(
    schema: &KeySchema,
    columns: &[ArrayRef],
    mut each: impl FnMut(Option<&[u8]>, usize) -> Result<u32>,
) -> Result<Vec<u32>> {
    if let [column] = columns {
        let rows = 0..column.len();
        let valid = |row: &usize| column.is_valid(*row);
        if let Some(texts) = column.as_string_opt::<i32>() {
            let key = |row| texts.value(row).as_bytes();
            return rows
                .map(|row| each(Some(row).filter(valid).map(key), row))
                .collect();
        }
        if let Some(texts) = column.as_binary_opt::<i32>() {
            let key = |row| texts.value(row);
            return rows
                .map(|row| each(Some(row).filter(valid).map(key), row))
                .collect();
        }
    }
    let borrowed: Vec<&ArrayRef> = columns.iter().collect();
    let keys = KeyColumns::new(schema, &borrowed).map_err(key_error)?;
    let rows = columns.first().map_or(0, |column| column.len());
    let mut key = Vec::new();
    (0..rows)
        .map(|row| {
            let whole = keys.encode_row(row, &mut key);
            each(whole.then_some(key.as_slice()), row)
        })
        .collect()
}

fn key_error(err: KeyError) -> crate::error::JoinError {
    arrow::error::ArrowError::ExternalError(Box::new(err)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, BooleanArray, Int32Array, Int64Array, StringArray};

    use super::*;

    /// Keys of these columns.
    fn lookup(keys: &[(KeyType, ArrayRef)]) -> KeyLookup {
        let named = |(i, (key_type, _)): (usize, &(KeyType, ArrayRef))| JoinKey {
            name: format!("k{i}").parse().unwrap(),
            key_type: *key_type,
        };
        let schema = KeySchema::new(keys.iter().enumerate().map(named).collect()).unwrap();
        let columns: Vec<ArrayRef> = keys.iter().map(|(_, column)| Arc::clone(column)).collect();
        let mut lookup = KeyLookup::new(&schema);
        let numbers = lookup.number_all(&columns, |_| false).unwrap();
        assert_eq!(lookup.find_all(&columns).unwrap(), numbers);
        lookup
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn keys_of_every_form_tell_the_values_of_each_join_key() {
        let int64: ArrayRef = Arc::new(Int64Array::from(vec![Some(9), None, Some(0), Some(9)]));
        let int32: ArrayRef = Arc::new(Int32Array::from(vec![Some(9), None, Some(0), Some(9)]));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"b"[..], b"a"]));
        let bools: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let integers = KeyValues::Integers(vec![0, 9]);
        let a_and_b = KeyValues::Bytes(vec![b"a"[..].into(), b"b"[..].into()]);
        let two = |values: [&str; 2]| (KeyType::String, texts(&values));
        for (keys, want) in [
            (vec![(KeyType::Int64, int64)], vec![integers.clone()]),
            (vec![(KeyType::Int32, int32)], vec![integers]),
            (vec![two(["b", "a"])], vec![a_and_b.clone()]),
            (vec![(KeyType::Bytes, bytes)], vec![a_and_b.clone()]),
            (vec![(KeyType::Bool, bools)], vec![KeyValues::Any]),
            (
                vec![two(["b", "a"]), two(["a", "b"])],
                vec![a_and_b.clone(), a_and_b],
            ),
        ] {
            assert_eq!(lookup(&keys).values().unwrap(), want, "{keys:?}");
        }
    }

    #[test]
    fn rows_that_are_skipped_or_have_a_null_get_no_number() {
        let schema = |key_type| {
            let name = "k".parse().unwrap();
            KeySchema::new(vec![JoinKey { name, key_type }]).unwrap()
        };
        let integers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None, Some(0), Some(5)]));
        let bytes = StringArray::from(vec![Some(""), None, Some(""), Some("x")]);
        for (key_type, column) in [
            (KeyType::Int64, integers),
            (KeyType::String, Arc::new(bytes)),
        ] {
            let mut lookup = KeyLookup::new(&schema(key_type));
            let columns = [column];
            // Nothing is known yet, the smallest key included.
            assert_eq!(lookup.find_all(&columns).unwrap(), [NO_GROUP; 4]);
            let numbers = lookup.number_all(&columns, |row| row == 0).unwrap();
            assert_eq!(numbers, [NO_GROUP, NO_GROUP, 0, 1]);
            assert_eq!(lookup.find_all(&columns).unwrap(), [0, NO_GROUP, 0, 1]);
            assert_eq!(lookup.len(), 2);
        }
    }

    #[test]
    fn integers_are_found_alike_close_together_and_far_apart() {
        let far = [i64::MIN, -1, 0, 7, i64::MAX];
        let close = [-3, -1, 0, 4];
        let between = [i64::MIN, i64::MAX, -4, -3, -2, -1, 0, 3, 4, 5, 7];
        for (keys, dense) in [(&far[..], false), (&close[..], true), (&[9][..], true)] {
            let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
            let mut lookup = lookup(&[(KeyType::Int64, column)]);
            let asked: ArrayRef = Arc::new(Int64Array::from(between.to_vec()));
            let asked = [asked];
            let before = lookup.find_all(&asked).unwrap();
            lookup.seal();
            assert_eq!(lookup.dense.is_some(), dense, "{keys:?}");
            assert_eq!(lookup.find_all(&asked).unwrap(), before, "{keys:?}");
            let want = between.map(|key| keys.iter().position(|k| *k == key));
            let want = want.map(|place| place.map_or(NO_GROUP, |p| u32::try_from(p).unwrap()));
            assert_eq!(before, want, "{keys:?}");
        }
    }

    #[test]
    fn memory_counts_the_bytes_of_each_distinct_text() {
        let memory = |values: &[&str]| lookup(&[(KeyType::String, texts(values))]).memory();
        let short = memory(&["a", "b"]);
        assert_eq!(memory(&["aaaa", "bb", "aaaa", "bb"]), short + 4);
    }
}
