//! The operator: an ordinary physical plan over the entity rows, with one table per view.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{internal_err, runtime::SpawnedTask, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext, memory_pool::MemoryReservation},
    physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan,
        ExecutionPlanProperties, InputDistributionRequirements, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::{
            Boundedness, CardinalityEffect, EmissionType, EvaluationType, SchedulingType,
        },
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchReceiverStream,
    },
};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc::Sender;
use vintner_join::{
    EntityColumns, EntityRowsBuilder, JoinError, JoinSpec, LintCounts, OutputFeature,
};

use super::{
    chunk::{Join, Joined, can_be_halved, halves},
    counts::{JoinCounts, ViewCounts},
};
use crate::feature_table::FeatureTable;

/// Entity rows that the result is put together for at a time, by one thread.
const OUTPUT_ROWS: usize = 32 * 1024;

/// The point-in-time join.
///
/// * Child: the entity rows, in one partition. Beside it one table per view of the description, in its order: join
///   keys, `event_timestamp`, `created_timestamp`, features, of Vintner's types; in whatever files and order.
/// * Out: exactly the entity rows, in their order, with all their columns; then the output columns. One partition.
/// * Times: microseconds UTC; what is visible is [`vintner_core::VisibilityRule`]'s to say.
/// * Memory: grows with the entity rows up to the limit of the session's pool; past it they are joined in chunks, each
///   of which reads the tables again. What each part of it takes is in the module's page.
/// * Errors: the child's own; [`vintner_join::EntityValueError`] for an entity row that cannot be read; a file that
///   cannot be read; `ResourcesExhausted` when not even a small chunk fits. Dropping the stream stops all reading.
#[derive(Debug, Clone)]
pub struct PitJoinExec {
    spec: Arc<JoinSpec>,
    entity_rows: Arc<dyn ExecutionPlan>,
    tables: Arc<[FeatureTable]>,
    entity_columns: EntityColumns,
    features: Arc<[OutputFeature]>,
    lint: bool,
    counts: Arc<Mutex<JoinCounts>>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl PitJoinExec {
    /// A join of entity rows with one table for each of the description's views.
    ///
    /// # Errors
    /// When the description contradicts itself, or the entity rows lack a column or have it in another type.
    pub fn try_new(
        spec: Arc<JoinSpec>,
        entity_rows: Arc<dyn ExecutionPlan>,
        tables: Arc<[FeatureTable]>,
    ) -> Result<Self> {
        if spec.views.len() != tables.len() {
            return internal_err!(
                "{} tables for the {} views of a point-in-time join",
                tables.len(),
                spec.views.len()
            );
        }
        let entity_schema = entity_rows.schema();
        let schema = spec
            .schema(&entity_schema)
            .map_err(|err| DataFusionError::Plan(err.to_string()))?;
        let counts = JoinCounts {
            views: spec.views.iter().map(|v| ViewCounts::of(&v.view)).collect(),
            ..JoinCounts::default()
        };
        Ok(Self {
            entity_columns: EntityColumns::find(&spec, &entity_schema).map_err(plan_error)?,
            features: OutputFeature::all(&spec).map_err(plan_error)?.into(),
            lint: false,
            counts: Arc::new(Mutex::new(counts)),
            properties: Arc::new(properties(schema, &entity_rows)),
            metrics: ExecutionPlanMetricsSet::new(),
            spec,
            entity_rows,
            tables,
        })
    }

    /// The same join, which counts too what tells of leaks and gaps. For that it reads keys and times also of rows that
    /// are too old for every entity row.
    #[must_use]
    pub fn with_lint(mut self) -> Self {
        let mut counts = self.counts();
        for (place, view) in counts.views.iter_mut().enumerate() {
            view.lint = Some(LintCounts::new(self.spec.asked(place).len()));
        }
        self.counts = Arc::new(Mutex::new(counts));
        self.lint = true;
        self
    }

    /// The views' tables, in the order of the description.
    pub fn tables(&self) -> &[FeatureTable] {
        &self.tables
    }

    /// Whether it counts what tells of leaks and gaps.
    pub fn lints(&self) -> bool {
        self.lint
    }

    /// What is joined with what.
    pub fn spec(&self) -> &JoinSpec {
        &self.spec
    }

    /// What has been counted so far.
    pub fn counts(&self) -> JoinCounts {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = counts.clone();
        for (view, table) in counts.views.iter_mut().zip(self.tables.iter()) {
            view.bytes_read = table.bytes_read();
        }
        counts
    }
}

fn plan_error(err: JoinError) -> DataFusionError {
    DataFusionError::Plan(err.to_string())
}

/// The rows come in the order of the entity rows, whose columns are the first ones.
fn properties(schema: SchemaRef, entity_rows: &Arc<dyn ExecutionPlan>) -> PlanProperties {
    let orderings = entity_rows.equivalence_properties().oeq_class().clone();
    PlanProperties::new(
        EquivalenceProperties::new_with_orderings(schema, orderings),
        Partitioning::UnknownPartitioning(1),
        EmissionType::Final,
        Boundedness::Bounded,
    )
    .with_evaluation_type(EvaluationType::Eager)
    .with_scheduling_type(SchedulingType::Cooperative)
}

impl DisplayAs for PitJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                let files = self.tables.iter().map(|table| table.files().len());
                let files: Vec<_> = files.map(|files| files.to_string()).collect();
                write!(
                    f,
                    "PitJoinExec: {}, files=[{}]",
                    self.spec,
                    files.join(", ")
                )
            }
            DisplayFormatType::TreeRender => {
                for view in &self.spec.views {
                    writeln!(f, "{view}")?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for PitJoinExec {
    fn name(&self) -> &'static str {
        "PitJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.entity_rows]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(entity_rows), true) => {
                let (spec, tables) = (Arc::clone(&self.spec), Arc::clone(&self.tables));
                let join = Self::try_new(spec, entity_rows, tables)?;
                Ok(Arc::new(match self.lint {
                    true => join.with_lint(),
                    false => join,
                }))
            }
            _ => internal_err!("a point-in-time join has one child"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, recompute)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let partitions = self.entity_rows.output_partitioning().partition_count();
        if partition != 0 || partitions != 1 {
            return internal_err!(
                "partition {partition} of a point-in-time join with {partitions} partitions of entity rows"
            );
        }
        let entity_rows = self.entity_rows.execute(0, Arc::clone(&context))?;
        let run = Run {
            join: Join {
                spec: Arc::clone(&self.spec),
                tables: Arc::clone(&self.tables),
                entity_columns: self.entity_columns.clone(),
                features: Arc::clone(&self.features),
                schema: self.schema(),
                context,
                lint: None,
            },
            lint: self.lint,
            counts: Arc::clone(&self.counts),
            baseline: BaselineMetrics::new(&self.metrics, 0),
        };
        let mut builder = RecordBatchReceiverStream::builder(self.schema(), 2);
        let batches = builder.tx();
        builder.spawn(run.join(entity_rows, batches));
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

/// One execution.
struct Run {
    join: Join,
    lint: bool,
    counts: Arc<Mutex<JoinCounts>>,
    baseline: BaselineMetrics,
}

/// Where the batches of the result go.
type Batches = Sender<Result<RecordBatch>>;

impl Run {
    /// Joins chunk by chunk until there are no more entity rows.
    async fn join(
        mut self,
        mut entity_rows: SendableRecordBatchStream,
        batches: Batches,
    ) -> Result<()> {
        if self.lint {
            self.join.prepare_lint().await?;
        }
        let columns = self.join.entity_columns.clone();
        let reservation = self.join.reservation("entity rows that are read");
        let mut first_row = 0;
        loop {
            let started = Instant::now();
            let mut chunk = columns.builder(first_row);
            let ended = self
                .fill(&mut chunk, &mut entity_rows, &reservation)
                .await?;
            let rows = chunk.rows();
            self.count(|counts| counts.entity_rows_time += started.elapsed());
            if rows > 0
                && !self
                    .join_chunk(chunk, first_row, &reservation, &batches)
                    .await?
            {
                // Nobody takes the result any more.
                return Ok(());
            }
            first_row += rows;
            if ended {
                return Ok(());
            }
        }
    }

    /// Reads entity rows until the chunk is full, or there are no more.
    async fn fill(
        &self,
        chunk: &mut EntityRowsBuilder<'_>,
        entity_rows: &mut SendableRecordBatchStream,
        reservation: &MemoryReservation,
    ) -> Result<bool> {
        while !self.join.is_full(chunk) {
            let Some(batch) = entity_rows.try_next().await? else {
                return Ok(true);
            };
            chunk.push(batch).map_err(external)?;
            reservation.try_resize(chunk.memory())?;
            tokio::task::consume_budget().await;
        }
        Ok(false)
    }

    /// Joins a chunk, in halves where the memory is too small for it. False when nobody takes the result.
    async fn join_chunk(
        &self,
        chunk: EntityRowsBuilder<'_>,
        first_row: usize,
        reservation: &MemoryReservation,
        batches: &Batches,
    ) -> Result<bool> {
        let started = Instant::now();
        let entity_rows = chunk.finish().map_err(external)?;
        // The join reserves what they hold by itself.
        reservation.try_resize(0)?;
        let (rows, without_key) = (entity_rows.rows, entity_rows.without_key);
        let kept = entity_rows.batches.clone();
        self.count(|counts| counts.entity_rows_time += started.elapsed());
        match self.join.join(entity_rows).await {
            Ok(joined) => {
                drop(kept);
                self.count(|counts| {
                    counts.chunks += 1;
                    counts.rows_without_key += without_key;
                    for (sum, chunk) in counts.views.iter_mut().zip(&joined.counts) {
                        sum.add(chunk);
                    }
                });
                self.give(joined, batches).await
            }
            Err(err) if can_be_halved(&err, rows) => {
                let mut first_row = first_row;
                for half in halves(kept) {
                    let mut chunk = self.join.entity_columns.builder(first_row);
                    for batch in half {
                        chunk.push(batch).map_err(external)?;
                    }
                    let rows = chunk.rows();
                    let joined = self.join_chunk(chunk, first_row, reservation, batches);
                    if !Box::pin(joined).await? {
                        return Ok(false);
                    }
                    first_row += rows;
                }
                Ok(true)
            }
            Err(err) => Err(err),
        }
    }

    /// Puts the result together, several batches at a time, and gives it in order.
    async fn give(&self, joined: Joined, batches: &Batches) -> Result<bool> {
        let started = Instant::now();
        let session = self.join.context.session_config();
        let parts = joined.parts(OUTPUT_ROWS);
        let joined = Arc::new(joined);
        let mut made = futures::stream::iter(parts)
            .map(|(entity_rows, first_row)| {
                let joined = Arc::clone(&joined);
                SpawnedTask::spawn_blocking(move || joined.batch(&entity_rows, first_row))
                    .join_unwind()
            })
            .buffered(session.target_partitions().max(1));
        while let Some(batch) = made.next().await {
            let batch = batch.map_err(|err| DataFusionError::ExecutionJoin(Box::new(err)))??;
            self.baseline.record_output(batch.num_rows());
            self.count(|counts| counts.rows += batch.num_rows());
            if batches.send(Ok(batch)).await.is_err() {
                return Ok(false);
            }
        }
        self.count(|counts| counts.output_time += started.elapsed());
        Ok(true)
    }

    fn count(&self, add: impl FnOnce(&mut JoinCounts)) {
        add(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A join's error as the engine carries it.
pub(crate) fn external(err: JoinError) -> DataFusionError {
    match err {
        JoinError::Value(err) => DataFusionError::External(Box::new(err)),
        err => DataFusionError::External(Box::new(err)),
    }
}
