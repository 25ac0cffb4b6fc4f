//! The entity rows, read whole: their batches as they came, and one index per set of join keys.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::Schema,
};
use datafusion::{
    common::utils::memory::get_record_batch_memory_size,
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, memory_pool::MemoryReservation},
};
use futures::TryStreamExt;
use vintner_core::{KeyColumns, KeySchema, Timestamp};

use super::{
    entity_columns::{key_column, key_type_fits, time_type_fits, times},
    entity_index::{EntityIndex, EntityIndexBuilder},
    spec::JoinSpec,
};

/// Where the entity rows have their time and their keys, by distinct key schema.
#[derive(Debug, Clone)]
pub(super) struct EntityColumns {
    time_name: String,
    time: usize,
    key_sets: Vec<(KeySchema, Vec<usize>)>,
    /// Which of the key sets is each view's.
    of_view: Vec<usize>,
}

/// The entity rows and what they ask about.
#[derive(Debug)]
pub(super) struct EntityRows {
    /// As they came.
    pub(super) batches: VecDeque<RecordBatch>,
    /// One for each view; those of views with the same join keys are the same.
    pub(super) indexes: Vec<Arc<EntityIndex>>,
    /// How many have no time, or a null in a join key of some view.
    pub(super) without_key: usize,
    _reservation: MemoryReservation,
}

impl EntityColumns {
    /// Finds the columns by their names.
    ///
    /// # Errors
    /// When one is missing, or its values cannot be taken for what it should be.
    pub(super) fn find(spec: &JoinSpec, schema: &Schema) -> Result<Self> {
        let find = |name: &str, fits: &dyn Fn(&arrow::datatypes::DataType) -> bool| {
            let (place, field) = schema.column_with_name(name).ok_or_else(|| {
                DataFusionError::Plan(format!("the entity rows have no column `{name}`"))
            })?;
            match fits(field.data_type()) {
                true => Ok(place),
                false => Err(DataFusionError::Plan(format!(
                    "the column `{name}` of the entity rows has the type {}, which does not fit",
                    field.data_type()
                ))),
            }
        };
        let mut key_sets: Vec<(KeySchema, Vec<usize>)> = Vec::new();
        let mut of_view = Vec::with_capacity(spec.views.len());
        for view in &spec.views {
            let known = key_sets.iter().position(|(keys, _)| *keys == view.keys);
            of_view.push(known.unwrap_or(key_sets.len()));
            if known.is_none() {
                let columns = view
                    .keys
                    .join_keys()
                    .iter()
                    .map(|key| {
                        find(key.name.as_str(), &|found| {
                            key_type_fits(found, key.key_type)
                        })
                    })
                    .collect::<Result<_>>()?;
                key_sets.push((view.keys.clone(), columns));
            }
        }
        Ok(Self {
            time_name: spec.time_column.clone(),
            time: find(&spec.time_column, &time_type_fits)?,
            key_sets,
            of_view,
        })
    }

    /// Reads all entity rows.
    ///
    /// # Errors
    /// [`super::EntityValueError`] for a value that does not fit; the source's own errors; when there is not memory
    /// enough to hold them.
    pub(super) async fn read(
        &self,
        mut source: SendableRecordBatchStream,
        reservation: MemoryReservation,
    ) -> Result<EntityRows> {
        let mut builders: Vec<_> = self
            .key_sets
            .iter()
            .map(|_| EntityIndexBuilder::default())
            .collect();
        let (mut batches, mut rows, mut bytes) = (VecDeque::new(), 0, 0);
        while let Some(batch) = source.try_next().await? {
            let times = times(batch.column(self.time), &self.time_name, rows)?;
            for ((keys, columns), builder) in self.key_sets.iter().zip(&mut builders) {
                push(keys, columns, builder, &batch, &times, rows)?;
            }
            rows += batch.num_rows();
            bytes += get_record_batch_memory_size(&batch);
            let indexes: usize = builders.iter().map(EntityIndexBuilder::memory).sum();
            reservation.try_resize(bytes + indexes)?;
            batches.push_back(batch);
            tokio::task::consume_budget().await;
        }
        let mut indexes = Vec::with_capacity(builders.len());
        for builder in builders {
            indexes.push(Arc::new(builder.finish()?));
            tokio::task::consume_budget().await;
        }
        let indexed: usize = indexes.iter().map(|index| index.memory()).sum();
        reservation.try_resize(bytes + indexed)?;
        let is_without_key = |row: &usize| indexes.iter().any(|index| index.slot(*row).is_none());
        Ok(EntityRows {
            without_key: (0..rows).filter(is_without_key).count(),
            indexes: self
                .of_view
                .iter()
                .map(|&set| Arc::clone(&indexes[set]))
                .collect(),
            batches,
            _reservation: reservation,
        })
    }
}

fn push(
    keys: &KeySchema,
    columns: &[usize],
    builder: &mut EntityIndexBuilder,
    batch: &RecordBatch,
    times: &[Option<Timestamp>],
    first_row: usize,
) -> Result<()> {
    let columns = keys
        .join_keys()
        .iter()
        .zip(columns)
        .map(|(join_key, &place)| key_column(batch.column(place), join_key, first_row))
        .collect::<Result<Vec<ArrayRef>>>()?;
    let columns: Vec<_> = columns.iter().collect();
    let columns =
        KeyColumns::new(keys, &columns).map_err(|err| DataFusionError::External(Box::new(err)))?;
    builder.push(&columns, times)
}
