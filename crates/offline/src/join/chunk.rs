//! Joins a chunk of entity rows: as many as the memory is for, with every view.

use std::{sync::Arc, time::Instant};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, SchemaRef},
};
use datafusion::{
    common::runtime::SpawnedTask,
    error::{DataFusionError, Result},
    execution::{
        TaskContext,
        memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation},
    },
};
use futures::StreamExt;
use tokio::sync::Semaphore;
use vintner_join::{
    BestRows, EntityColumns, EntityRows, EntityRowsBuilder, JoinSpec, OutputFeature, ViewAnswer,
    output_batch,
};

use super::{
    answer::{Lint, Question},
    counts::ViewCounts,
};
use crate::{delta::layout::EVENT_TIMESTAMP, feature_table::FeatureTable};

/// What of the pool a chunk is reckoned to fill; the rest is for what cannot be reckoned, texts above all.
const SHARE: f64 = 0.6;
/// What a value is reckoned to take whose size is not known before it is read.
const UNKNOWN_VALUE: usize = 48;
/// Views that are read beside each other when each is for all workers.
const VIEWS_AT_ONCE: usize = 2;
/// Chunks are not made smaller than that: then the join says that it needs more memory.
const LEAST_ROWS: usize = 1024;

/// What all chunks of a join share.
#[derive(Clone)]
pub(super) struct Join {
    pub(super) spec: Arc<JoinSpec>,
    pub(super) tables: Arc<[FeatureTable]>,
    pub(super) entity_columns: EntityColumns,
    pub(super) features: Arc<[OutputFeature]>,
    pub(super) schema: SchemaRef,
    pub(super) context: Arc<TaskContext>,
    /// For each view, when leaks and gaps are counted too.
    pub(super) lint: Option<Arc<[Lint]>>,
}

/// A chunk that has been joined.
pub(super) struct Joined {
    schema: SchemaRef,
    features: Arc<[OutputFeature]>,
    entity_rows: EntityRows,
    views: Vec<ViewAnswer>,
    pub(super) counts: Vec<ViewCounts>,
    _reservations: Vec<MemoryReservation>,
}

impl Join {
    fn workers(&self) -> usize {
        self.context.session_config().target_partitions().max(1)
    }

    /// Whether a chunk has as many rows as it should have.
    pub(super) fn is_full(&self, chunk: &EntityRowsBuilder<'_>) -> bool {
        let MemoryLimit::Finite(limit) = self.context.memory_pool().memory_limit() else {
            return false;
        };
        let values = self.features.len() * size_of::<u64>();
        let texts = self.schema.fields().iter().rev().take(self.features.len());
        let texts = texts.filter(|field| is_of_unknown_size(field.data_type()));
        let row = values
            + texts.count() * UNKNOWN_VALUE
            + BestRows::memory_of(VIEWS_AT_ONCE * self.workers())
            + self.spec.views.len() * 5 * size_of::<u32>();
        let reckoned = chunk.memory() + chunk.rows() * row;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of the memory is no exact figure"
        )]
        let full = reckoned as f64 > limit as f64 * SHARE;
        // Whatever a chunk of no rows is reckoned at, one more batch is read.
        full && chunk.rows() > 0
    }

    pub(super) fn reservation(&self, of: &str) -> MemoryReservation {
        MemoryConsumer::new(format!("PitJoinExec[{of}]")).register(self.context.memory_pool())
    }

    /// Prepares to count leaks and gaps.
    pub(super) async fn prepare_lint(&mut self) -> Result<()> {
        let mut views = Vec::with_capacity(self.tables.len());
        for table in self.tables.iter() {
            let first_event = table.first_event(EVENT_TIMESTAMP).await?;
            views.push(Lint { first_event });
        }
        self.lint = Some(views.into());
        Ok(())
    }

    /// Joins entity rows. When the memory does not do, it says so, and the rows are given back.
    pub(super) async fn join(&self, entity_rows: EntityRows) -> Result<Joined> {
        let reservation = self.reservation("entity rows");
        reservation.try_resize(entity_rows.memory())?;
        // A view of few parts leaves workers to others. One of many has them all, and another one beside it, for what
        // is done by one worker in between.
        let workers = self.workers();
        let free = Arc::new(Semaphore::new(VIEWS_AT_ONCE * workers));
        let indexes = entity_rows.indexes.iter().zip(self.tables.iter());
        let questions = indexes.enumerate().map(|(view, (index, table))| Question {
            spec: Arc::clone(&self.spec),
            view,
            table: table.clone(),
            index: Arc::clone(index),
            lint: self.lint.as_ref().map(|views| views[view]),
        });
        let questions: Vec<_> = questions.collect();
        let answers = futures::stream::iter(questions).map(|question| {
            let free = Arc::clone(&free);
            let reservation = self.reservation(&self.spec.views[question.view].view.to_string());
            let answer = async move {
                let started = Instant::now();
                let units = question.open().await?;
                let open_time = started.elapsed();
                let wanted = units.units.len().clamp(1, workers);
                let permits = u32::try_from(wanted).unwrap_or(u32::MAX);
                let _working = free
                    .acquire_many(permits)
                    .await
                    .map_err(|err| DataFusionError::External(Box::new(err)))?;
                let (answer, mut counts) = question.answer(units, wanted, &reservation).await?;
                counts.open_time = open_time;
                Ok::<_, DataFusionError>((answer, counts, reservation))
            };
            SpawnedTask::spawn(answer).join_unwind()
        });
        let mut answers = answers.buffered(VIEWS_AT_ONCE * workers + 1);
        let mut joined = Joined {
            schema: SchemaRef::clone(&self.schema),
            features: Arc::clone(&self.features),
            entity_rows,
            views: Vec::with_capacity(self.spec.views.len()),
            counts: Vec::with_capacity(self.spec.views.len()),
            _reservations: vec![reservation],
        };
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|err| DataFusionError::ExecutionJoin(Box::new(err)))?;
            let (answer, counts, reservation) = answer?;
            joined.views.push(answer);
            joined.counts.push(counts);
            joined._reservations.push(reservation);
        }
        Ok(joined)
    }
}

/// Whether entity rows that were too many for the memory can be joined in two parts.
pub(super) fn can_be_halved(err: &DataFusionError, rows: usize) -> bool {
    let root = err.find_root();
    matches!(root, DataFusionError::ResourcesExhausted(_)) && rows >= 2 * LEAST_ROWS
}

/// Batches in two halves of as many rows.
pub(super) fn halves(batches: Vec<RecordBatch>) -> [Vec<RecordBatch>; 2] {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let (mut first, mut second, mut missing) = (Vec::new(), Vec::new(), rows / 2);
    for batch in batches {
        let here = missing.min(batch.num_rows());
        missing -= here;
        if here > 0 {
            first.push(batch.slice(0, here));
        }
        if here < batch.num_rows() {
            second.push(batch.slice(here, batch.num_rows() - here));
        }
    }
    [first, second]
}

impl Joined {
    /// The parts that the result is put together in: entity rows of at most so many, and the number of the first.
    pub(super) fn parts(&self, rows: usize) -> Vec<(RecordBatch, usize)> {
        let mut parts = Vec::new();
        let mut first_row = 0;
        for batch in &self.entity_rows.batches {
            for at in (0..batch.num_rows()).step_by(rows) {
                let part = batch.slice(at, rows.min(batch.num_rows() - at));
                parts.push((part, first_row + at));
            }
            first_row += batch.num_rows();
        }
        parts
    }

    /// A part of the result.
    pub(super) fn batch(&self, entity_rows: &RecordBatch, first_row: usize) -> Result<RecordBatch> {
        output_batch(
            &self.schema,
            &self.features,
            &self.views,
            entity_rows,
            first_row,
        )
        .map_err(|err| DataFusionError::External(Box::new(err)))
    }
}

fn is_of_unknown_size(found: &DataType) -> bool {
    found.primitive_width().is_none() && *found != DataType::Boolean
}
