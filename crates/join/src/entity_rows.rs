//! The entity rows: their batches as they came, and one index per set of join keys.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::Schema,
};
use vintner_core::KeySchema;

use crate::{
    entity_columns::{key_column, key_type_fits, time_type_fits, times},
    entity_index::{EntityIndex, EntityIndexBuilder},
    error::{JoinError, Result},
    spec::JoinSpec,
};

/// Where the entity rows have their time and their keys, by distinct key schema.
#[derive(Debug, Clone)]
pub struct EntityColumns {
    time_name: String,
    time: usize,
    key_sets: Vec<(KeySchema, Vec<usize>)>,
    /// Which of the key sets is each view's.
    of_view: Vec<usize>,
}

/// Entity rows and what they ask about.
#[derive(Debug)]
pub struct EntityRows {
    /// As they came.
    pub batches: Vec<RecordBatch>,
    /// One for each view; those of views with the same join keys are the same.
    pub indexes: Vec<Arc<EntityIndex>>,
    /// How many rows there are.
    pub rows: usize,
    /// How many have no time, or a null in a join key of some view.
    pub without_key: usize,
}

/// Entity rows that are being read.
#[derive(Debug)]
pub struct EntityRowsBuilder<'a> {
    columns: &'a EntityColumns,
    builders: Vec<EntityIndexBuilder>,
    batches: Vec<RecordBatch>,
    /// How many rows were read before these.
    first_row: usize,
    rows: usize,
    bytes: usize,
}

impl EntityColumns {
    /// Finds the columns by their names.
    ///
    /// # Errors
    /// When one is missing, or its values cannot be taken for what it should be.
    pub fn find(spec: &JoinSpec, schema: &Schema) -> Result<Self> {
        let find = |name: &str| {
            schema
                .column_with_name(name)
                .ok_or_else(|| JoinError::MissingColumn(name.to_owned()))
        };
        let mut key_sets: Vec<(KeySchema, Vec<usize>)> = Vec::new();
        let mut of_view = Vec::with_capacity(spec.views.len());
        for view in &spec.views {
            let known = key_sets.iter().position(|(keys, _)| *keys == view.keys);
            of_view.push(known.unwrap_or(key_sets.len()));
            if known.is_none() {
                let columns = view.keys.join_keys().iter().map(|key| {
                    let (place, field) = find(key.name.as_str())?;
                    match key_type_fits(field.data_type(), key.key_type) {
                        true => Ok(place),
                        false => Err(JoinError::KeyColumn {
                            join_key: key.clone(),
                            found: field.data_type().clone(),
                        }),
                    }
                });
                key_sets.push((view.keys.clone(), columns.collect::<Result<_>>()?));
            }
        }
        let (time, field) = find(&spec.time_column)?;
        if !time_type_fits(field.data_type()) {
            return Err(JoinError::TimeColumn {
                column: spec.time_column.clone(),
                found: field.data_type().clone(),
            });
        }
        Ok(Self {
            time_name: spec.time_column.clone(),
            time,
            key_sets,
            of_view,
        })
    }

    /// Begins to read entity rows, of which `first_row` are already behind; errors count from there.
    pub fn builder(&self, first_row: usize) -> EntityRowsBuilder<'_> {
        EntityRowsBuilder {
            columns: self,
            builders: self
                .key_sets
                .iter()
                .map(|(keys, _)| EntityIndexBuilder::new(keys))
                .collect(),
            batches: Vec::new(),
            first_row,
            rows: 0,
            bytes: 0,
        }
    }
}

impl EntityRowsBuilder<'_> {
    /// Adds the next rows.
    ///
    /// # Errors
    /// [`crate::EntityValueError`] for a value that does not fit; when there are more rows than numbers.
    pub fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let EntityColumns {
            time_name,
            time,
            key_sets,
            ..
        } = self.columns;
        let first_row = self.first_row + self.rows;
        let times = times(batch.column(*time), time_name, first_row)?;
        for ((keys, columns), builder) in key_sets.iter().zip(&mut self.builders) {
            let columns = keys
                .join_keys()
                .iter()
                .zip(columns)
                .map(|(join_key, &place)| key_column(batch.column(place), join_key, first_row));
            let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
            builder.push(&columns, &times)?;
        }
        self.rows += batch.num_rows();
        self.bytes += batch_memory(&batch);
        self.batches.push(batch);
        Ok(())
    }

    /// How many rows there are so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes that are held, with those that are needed to finish.
    pub fn memory(&self) -> usize {
        let indexes = self.builders.iter().map(EntityIndexBuilder::memory);
        self.bytes + indexes.sum::<usize>()
    }

    /// All rows that were added.
    ///
    /// # Errors
    /// As [`EntityRowsBuilder::push`].
    pub fn finish(self) -> Result<EntityRows> {
        let indexes = self.builders.into_iter().map(EntityIndexBuilder::finish);
        let indexes = indexes.map(|index| index.map(Arc::new));
        let indexes: Vec<Arc<EntityIndex>> = indexes.collect::<Result<_>>()?;
        let is_without_key = |row: &usize| indexes.iter().any(|index| index.slot(*row).is_none());
        let of_view = self.columns.of_view.iter();
        Ok(EntityRows {
            without_key: (0..self.rows).filter(is_without_key).count(),
            indexes: of_view.map(|&set| Arc::clone(&indexes[set])).collect(),
            batches: self.batches,
            rows: self.rows,
        })
    }
}

impl EntityRows {
    /// The bytes that are held.
    pub fn memory(&self) -> usize {
        let batches: usize = self.batches.iter().map(batch_memory).sum();
        let mut indexes: Vec<_> = self.indexes.iter().collect();
        indexes.dedup_by(|a, b| Arc::ptr_eq(a, b));
        batches + indexes.iter().map(|index| index.memory()).sum::<usize>()
    }
}

/// The bytes of a batch. A batch that is a slice of a larger one counts its own part.
fn batch_memory(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    let bytes = columns.map(|column| {
        let whole = || column.get_array_memory_size();
        column
            .to_data()
            .get_slice_memory_size()
            .unwrap_or_else(|_| whole())
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Int64Array, TimestampMicrosecondArray},
        datatypes::{DataType, Field, TimeUnit},
    };
    use vintner_core::{JoinKey, KeyType, VisibilityRule};

    use super::*;
    use crate::spec::ViewInput;

    /// Views of these join keys.
    fn spec(keys: &[(&str, KeyType)]) -> JoinSpec {
        let view = |(i, &(name, key_type)): (usize, &(&str, KeyType))| ViewInput {
            view: format!("view{i}@1").parse().unwrap(),
            keys: KeySchema::new(vec![JoinKey {
                name: name.parse().unwrap(),
                key_type,
            }])
            .unwrap(),
            rule: VisibilityRule::default(),
            features: Vec::new(),
        };
        JoinSpec {
            time_column: "when".to_owned(),
            views: keys.iter().enumerate().map(view).collect(),
            outputs: Vec::new(),
        }
    }

    fn schema() -> Schema {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Int64, true),
            Field::new("when", time, true),
        ])
    }

    fn batch(rows: &[(Option<i64>, Option<i64>, Option<i64>)]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
            Arc::new(
                rows.iter()
                    .map(|row| row.2)
                    .collect::<TimestampMicrosecondArray>(),
            ),
        ];
        RecordBatch::try_new(Arc::new(schema()), columns).unwrap()
    }

    #[test]
    fn rows_are_counted_over_all_batches_and_from_the_first_one_of_the_input() {
        let columns = EntityColumns::find(&spec(&[("a", KeyType::Int32)]), &schema()).unwrap();
        let mut builder = columns.builder(100);
        assert_eq!(builder.rows(), 0);
        for rows in [3, 6] {
            builder.push(batch(&[(Some(1), None, Some(1)); 3])).unwrap();
            assert_eq!(builder.rows(), rows);
        }
        let wide = (Some(1 << 40), None, Some(1));
        let err = builder.push(batch(&[(Some(1), None, Some(1)), wide]));
        insta::assert_snapshot!(err.unwrap_err(), @"entity row 108 has `1099511627776` in the column `a`, which does not fit its join key's type int32; correct or leave out that row");
    }

    #[test]
    fn slices_of_a_batch_count_their_own_parts_of_its_bytes() {
        let columns = EntityColumns::find(&spec(&[]), &schema()).unwrap();
        let memory = |batches: &[RecordBatch]| {
            let mut builder = columns.builder(0);
            for batch in batches {
                builder.push(batch.clone()).unwrap();
            }
            let before = builder.memory();
            let rows = builder.finish().unwrap();
            assert_eq!(rows.memory(), before);
            before
        };
        let whole = batch(&[(Some(1), None, Some(1)); 128]);
        let halves = [whole.slice(0, 64), whole.slice(64, 64)];
        assert!(memory(std::slice::from_ref(&whole)) >= 3 * 128 * size_of::<i64>());
        assert_eq!(memory(&halves), memory(&[whole]));
    }

    #[test]
    fn a_row_is_without_a_key_when_any_view_finds_none() {
        let keys = [
            ("a", KeyType::Int64),
            ("b", KeyType::Int64),
            ("a", KeyType::Int64),
        ];
        let columns = EntityColumns::find(&spec(&keys), &schema()).unwrap();
        let mut builder = columns.builder(0);
        builder
            .push(batch(&[
                (Some(1), Some(1), Some(1)),
                (None, Some(1), Some(1)),
                (Some(1), None, Some(1)),
                (Some(1), Some(1), None),
            ]))
            .unwrap();
        let rows = builder.finish().unwrap();
        assert_eq!((rows.rows, rows.without_key), (4, 3));
        // Views of the same join keys share an index.
        assert!(Arc::ptr_eq(&rows.indexes[0], &rows.indexes[2]));
        assert!(!Arc::ptr_eq(&rows.indexes[0], &rows.indexes[1]));
    }

    #[test]
    fn columns_of_other_types_are_refused_by_name() {
        let refused = |spec: &JoinSpec, schema: &Schema| {
            EntityColumns::find(spec, schema).unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused(&spec(&[("a", KeyType::String)]), &schema()), @"the column `a` of the entity rows has the type Int64, which is no string");
        insta::assert_snapshot!(refused(&spec(&[("c", KeyType::Int64)]), &schema()), @"the entity rows have no column `c`");
        let mut spec = spec(&[]);
        spec.time_column = "a".to_owned();
        insta::assert_snapshot!(refused(&spec, &schema()), @"the column `a` of the entity rows has the type Int64, which is no timestamp");
    }
}
