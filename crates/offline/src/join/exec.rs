//! The operator: an ordinary physical plan over the entity rows and one plan per view.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{internal_err, runtime::JoinSet, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result},
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan,
        ExecutionPlanProperties, InputDistributionRequirements, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        coop::make_cooperative,
        execution_plan::{
            Boundedness, CardinalityEffect, EmissionType, EvaluationType, SchedulingType,
        },
        metrics::{
            BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time,
        },
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt};
use vintner_core::ViewId;

use super::{
    entity_index::EntityIndex,
    entity_rows::EntityColumns,
    output::{Output, OutputFeature},
    spec::{JoinSpec, ViewInput},
    ties::TieBreak,
    view_columns::ViewColumns,
    winners::{Candidate, Visible, Winners},
};

const WITHOUT_KEY: &str = "entity_rows_without_key";
const FEATURE_ROWS: &str = "feature_rows";
const MATCHED_ROWS: &str = "matched_rows";
const VIEW: &str = "view";

/// The point-in-time join.
///
/// * Children: the entity rows, in one partition; then one plan per view of the description, in its order, with any
///   number of partitions and rows in any order. A view's plan has at least the columns of its table by name: join
///   keys, `event_timestamp`, `created_timestamp`, all its features, of Vintner's exact types.
/// * Out: exactly the entity rows, in their order, with all their columns; then the output columns. One partition.
/// * Times: microseconds UTC; what is visible is [`vintner_core::VisibilityRule`]'s to say.
/// * Memory: grows with the entity rows, not with the history; it is taken from the session's memory pool.
/// * Errors: the children's own; [`super::EntityValueError`] for an entity row that cannot be read;
///   `ResourcesExhausted` when the pool is. Dropping the stream stops all reading.
#[derive(Debug, Clone)]
pub struct PitJoinExec {
    spec: Arc<JoinSpec>,
    entity_rows: Arc<dyn ExecutionPlan>,
    views: Vec<Arc<dyn ExecutionPlan>>,
    entity_columns: EntityColumns,
    view_columns: Vec<ViewColumns>,
    features: Vec<OutputFeature>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

/// What a join has counted so far; all there is once its stream has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinCounts {
    /// Rows given out.
    pub rows: usize,
    /// Entity rows whose time, or a join key of some view, is null. They have nulls or defaults.
    pub rows_without_key: usize,
    /// Per view, in the description's order.
    pub views: Vec<ViewCounts>,
}

/// What a join has counted of one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewCounts {
    /// The view.
    pub view: ViewId,
    /// Rows of the view that were read.
    pub feature_rows: usize,
    /// Entity rows that have a visible row.
    pub matched_rows: usize,
}

impl PitJoinExec {
    /// A join of entity rows with one plan for each of the description's views.
    ///
    /// # Errors
    /// When the description contradicts itself, or a child lacks a column or has it in another type.
    pub fn try_new(
        spec: Arc<JoinSpec>,
        entity_rows: Arc<dyn ExecutionPlan>,
        views: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Self> {
        if spec.views.len() != views.len() {
            return internal_err!(
                "{} plans for the {} views of a point-in-time join",
                views.len(),
                spec.views.len()
            );
        }
        let entity_schema = entity_rows.schema();
        let schema = spec
            .schema(&entity_schema)
            .map_err(|err| DataFusionError::Plan(err.to_string()))?;
        let view_columns = spec
            .views
            .iter()
            .zip(&views)
            .map(|(view, plan)| ViewColumns::find(view, &plan.schema()))
            .collect::<Result<_>>()?;
        Ok(Self {
            entity_columns: EntityColumns::find(&spec, &entity_schema)?,
            view_columns,
            features: OutputFeature::all(&spec)?,
            properties: Arc::new(properties(schema, &entity_rows)),
            metrics: ExecutionPlanMetricsSet::new(),
            spec,
            entity_rows,
            views,
        })
    }

    /// What is joined with what.
    pub fn spec(&self) -> &JoinSpec {
        &self.spec
    }

    /// What has been counted so far.
    pub fn counts(&self) -> JoinCounts {
        let metrics = self.metrics.clone_inner();
        let count = |name: &str, view: Option<&str>| {
            let of_view = |label: &str, value: &str| label == VIEW && Some(value) == view;
            metrics
                .iter()
                .filter(|metric| metric.value().name() == name)
                .filter(|metric| {
                    let mut labels = metric.labels().iter();
                    view.is_none() || labels.any(|label| of_view(label.name(), label.value()))
                })
                .map(|metric| metric.value().as_usize())
                .sum()
        };
        let view_counts = |view: &ViewInput| {
            let id = view.view.to_string();
            ViewCounts {
                view: view.view.clone(),
                feature_rows: count(FEATURE_ROWS, Some(&id)),
                matched_rows: count(MATCHED_ROWS, Some(&id)),
            }
        };
        JoinCounts {
            rows: metrics.output_rows().unwrap_or(0),
            rows_without_key: count(WITHOUT_KEY, None),
            views: self.spec.views.iter().map(view_counts).collect(),
        }
    }

    fn with_children(&self, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        if children.len() != self.views.len() + 1 {
            return internal_err!("{} children for a point-in-time join", children.len());
        }
        let entity_rows = children.remove(0);
        Self::try_new(Arc::clone(&self.spec), entity_rows, children)
    }
}

/// The rows come in the order of the entity rows, whose columns are the first ones; all of them after the last
/// feature row has been read.
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
                write!(f, "PitJoinExec: {}", self.spec)
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
        std::iter::once(&self.entity_rows)
            .chain(&self.views)
            .collect()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let views = self
            .views
            .iter()
            .map(|_| Distribution::UnspecifiedDistribution);
        let entity_rows = std::iter::once(Distribution::SinglePartition);
        InputDistributionRequirements::new(entity_rows.chain(views).collect())
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        let views = self.views.iter().map(|_| false);
        std::iter::once(true).chain(views).collect()
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.with_children(children)?))
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
        let run = Run {
            entity_rows: self.entity_rows.execute(0, Arc::clone(&context))?,
            plan: self.clone(),
            metrics: RunMetrics::new(&self.metrics, &self.spec),
            context,
        };
        let baseline = run.metrics.baseline.clone();
        let batches = futures::stream::once(run.join())
            .map_ok(futures::stream::iter)
            .try_flatten()
            .inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        let stream = RecordBatchStreamAdapter::new(self.schema(), batches);
        Ok(make_cooperative(Box::pin(stream)))
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
    plan: PitJoinExec,
    entity_rows: SendableRecordBatchStream,
    metrics: RunMetrics,
    context: Arc<TaskContext>,
}

struct RunMetrics {
    baseline: BaselineMetrics,
    without_key: Count,
    views: Vec<ViewMetrics>,
}

#[derive(Clone)]
struct ViewMetrics {
    feature_rows: Count,
    matched_rows: Count,
    compute: Time,
}

impl RunMetrics {
    fn new(metrics: &ExecutionPlanMetricsSet, spec: &JoinSpec) -> Self {
        let baseline = BaselineMetrics::new(metrics, 0);
        let of_view = |view: &ViewInput| {
            let count = |name| {
                MetricBuilder::new(metrics)
                    .with_new_label(VIEW, view.view.to_string())
                    .counter(name, 0)
            };
            ViewMetrics {
                feature_rows: count(FEATURE_ROWS),
                matched_rows: count(MATCHED_ROWS),
                compute: baseline.elapsed_compute().clone(),
            }
        };
        Self {
            without_key: MetricBuilder::new(metrics).counter(WITHOUT_KEY, 0),
            views: spec.views.iter().map(of_view).collect(),
            baseline,
        }
    }
}

impl Run {
    /// Reads everything; then the result can be given batch by batch.
    async fn join(self) -> Result<Output> {
        let entity_rows = self
            .plan
            .entity_columns
            .read(self.entity_rows, reservation(&self.context, "entity rows"))
            .await?;
        self.metrics.without_key.add(entity_rows.without_key);
        let of_view = |(view, metrics)| ViewReader {
            spec: Arc::clone(&self.plan.spec),
            view,
            rows: Arc::clone(&self.plan.views[view]),
            columns: self.plan.view_columns[view].clone(),
            index: Arc::clone(&entity_rows.indexes[view]),
            metrics,
            context: Arc::clone(&self.context),
        };
        let readers: Vec<_> = self
            .metrics
            .views
            .into_iter()
            .enumerate()
            .map(of_view)
            .collect();
        // As many views at a time as the session has partitions; each reads all of its own partitions at once.
        let visible: Vec<Visible> = futures::stream::iter(readers)
            .map(ViewReader::read)
            .buffered(self.context.session_config().target_partitions().max(1))
            .try_collect()
            .await?;
        let indexes = entity_rows.indexes.iter().map(Arc::clone);
        Ok(Output {
            schema: self.plan.schema(),
            views: indexes.zip(visible).collect(),
            features: self.plan.features,
            batch_rows: self.context.session_config().batch_size().max(1),
            given: 0,
            entity_rows,
        })
    }
}

/// Reads one view.
#[derive(Clone)]
struct ViewReader {
    spec: Arc<JoinSpec>,
    view: usize,
    rows: Arc<dyn ExecutionPlan>,
    columns: ViewColumns,
    index: Arc<EntityIndex>,
    metrics: ViewMetrics,
    context: Arc<TaskContext>,
}

impl ViewReader {
    fn view(&self) -> &ViewInput {
        &self.spec.views[self.view]
    }

    /// Reads all partitions at the same time; what each has found is merged as it ends.
    async fn read(self) -> Result<Visible> {
        let mut found = self.nothing()?;
        let mut partitions = JoinSet::new();
        // When nobody asks about anything, there is nothing to find.
        if self.index.len() > 0 {
            for partition in 0..self.rows.output_partitioning().partition_count() {
                let stream = self.rows.execute(partition, Arc::clone(&self.context))?;
                partitions.spawn(self.clone().read_partition(stream));
            }
        }
        while let Some(ended) = partitions.join_next().await {
            let winners = ended.map_err(|err| match err.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(err) => DataFusionError::ExecutionJoin(Box::new(err)),
            })??;
            let _timer = self.metrics.compute.timer();
            found = found.merge(winners)?;
        }
        let _timer = self.metrics.compute.timer();
        let visible = found.resolve(&self.index, self.view().rule)?;
        let sees = |row: &usize| {
            let slot = self.index.slot(*row);
            slot.is_some_and(|slot| visible.row(slot).is_some())
        };
        let matched = (0..self.index.rows()).filter(sees).count();
        self.metrics.matched_rows.add(matched);
        Ok(visible)
    }

    fn nothing(&self) -> Result<Winners> {
        Winners::new(
            self.index.len(),
            TieBreak::new(&self.view().features),
            self.context.session_config().batch_size(),
            reservation(&self.context, &self.view().view.to_string()),
        )
    }

    async fn read_partition(self, mut rows: SendableRecordBatchStream) -> Result<Winners> {
        let mut winners = self.nothing()?;
        while let Some(batch) = rows.try_next().await? {
            self.offer(&batch, &mut winners)?;
            tokio::task::consume_budget().await;
        }
        Ok(winners)
    }

    fn offer(&self, batch: &RecordBatch, winners: &mut Winners) -> Result<()> {
        let _timer = self.metrics.compute.timer();
        self.metrics.feature_rows.add(batch.num_rows());
        let rows = self.columns.of(self.view(), batch)?;
        let rule = self.view().rule;
        let mut key = Vec::new();
        let candidates = rows.times().enumerate().filter_map(|(row, time)| {
            let lifetime = rule.lifetime(time)?;
            if !rows.keys.encode_row(row, &mut key) {
                return None;
            }
            let slot = self.index.slot_of(&key, lifetime)?;
            Some(Candidate { row, slot, time })
        });
        winners.offer(&rows.features, candidates)
    }
}

fn reservation(context: &TaskContext, of: &str) -> MemoryReservation {
    MemoryConsumer::new(format!("PitJoinExec[{of}]")).register(context.memory_pool())
}
