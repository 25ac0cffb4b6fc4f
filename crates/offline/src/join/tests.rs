//! The operator against the naive oracle, and what it promises beyond values.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, new_null_array},
    compute::concat_batches,
    datatypes::{Schema, SchemaRef},
};
use datafusion::{
    datasource::memory::MemorySourceConfig,
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{GreedyMemoryPool, MemoryPool, MemoryReservation, UnboundedMemoryPool},
        runtime_env::RuntimeEnvBuilder,
    },
    physical_plan::{
        ExecutionPlan, common, displayable, execute_stream,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
    prelude::{SessionConfig, SessionContext},
};
use futures::StreamExt;
use proptest::prelude::*;
use vintner_core::{
    Boundary, FeatureType, JoinKey, KeySchema, KeyType, KeyValue, Knowledge, RowTime, ScalarType,
    Timestamp, Ttl, Value, ViewId, ViewVersion, VisibilityRule, arrow_values,
};
use vintner_testkit::{
    grid::{self, Layout},
    oracle::{self, EntityRow, Feature, FeatureRow, JoinCase, View},
};

use super::{JoinCounts, JoinSpec, OutputColumn, PitJoinExec, ViewInput};

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap()
    })
}

fn spec(case: &JoinCase) -> JoinSpec {
    let view_input = |(number, view): (usize, &View)| {
        let keys = view.keys.iter().map(|&column| JoinKey {
            name: case.key_columns[column].0.parse().unwrap(),
            key_type: case.key_columns[column].1,
        });
        ViewInput {
            view: ViewId {
                name: format!("view{number}").parse().unwrap(),
                version: ViewVersion::FIRST,
            },
            keys: KeySchema::new(keys.collect()).unwrap(),
            rule: VisibilityRule {
                ttl: view.ttl,
                knowledge: case.knowledge,
                boundary: case.boundary,
            },
            features: view
                .features
                .iter()
                .map(|f| (f.name.parse().unwrap(), f.feature_type))
                .collect(),
        }
    };
    let output = |&(view, feature): &(usize, usize)| {
        let Feature { name, default, .. } = &case.views[view].features[feature];
        OutputColumn {
            view,
            feature: name.parse().unwrap(),
            name: format!("view{view}__{name}"),
            default: default.clone(),
        }
    };
    JoinSpec {
        time_column: grid::EVENT.to_owned(),
        views: case.views.iter().enumerate().map(view_input).collect(),
        outputs: case.outputs.iter().map(output).collect(),
    }
}

fn memory(partitions: &[Vec<RecordBatch>], schema: SchemaRef) -> Arc<dyn ExecutionPlan> {
    MemorySourceConfig::try_new_exec(partitions, schema, None).unwrap()
}

/// The entity rows in batches of so many.
fn entity_plan(case: &JoinCase, batch_rows: usize) -> Arc<dyn ExecutionPlan> {
    let all = grid::entity_batch(case);
    let batches = (0..all.num_rows())
        .step_by(batch_rows)
        .map(|at| all.slice(at, batch_rows.min(all.num_rows() - at)))
        .collect();
    memory(&[batches], all.schema())
}

fn plan(case: &JoinCase, layout: Layout) -> Arc<PitJoinExec> {
    let views = case.views.iter().enumerate().map(|(number, view)| {
        let partitions: Vec<Vec<RecordBatch>> = layout
            .split(view.rows.len())
            .iter()
            .map(|batches| {
                let batch = |rows: &Vec<usize>| grid::feature_batch(case, number, rows);
                batches.iter().map(batch).collect()
            })
            .collect();
        memory(&partitions, grid::feature_schema(case, number))
    });
    let entity_rows = entity_plan(case, layout.batch_rows + 1);
    Arc::new(PitJoinExec::try_new(Arc::new(spec(case)), entity_rows, views.collect()).unwrap())
}

fn context(batch_rows: usize, pool: Arc<dyn MemoryPool>) -> Arc<TaskContext> {
    let config = SessionConfig::new()
        .with_batch_size(batch_rows)
        .with_target_partitions(2);
    let env = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc();
    SessionContext::new_with_config_rt(config, env.unwrap()).task_ctx()
}

fn unbounded() -> Arc<dyn MemoryPool> {
    Arc::new(UnboundedMemoryPool::default())
}

fn batches(
    plan: &PitJoinExec,
    context: Arc<TaskContext>,
) -> datafusion::error::Result<Vec<RecordBatch>> {
    let stream = plan.execute(0, context)?;
    runtime().block_on(common::collect(stream))
}

/// Runs a join; the values of its output columns, row by row, after a check that the entity rows are as they were.
fn run(case: &JoinCase, layout: Layout) -> (Vec<Vec<Option<Value>>>, JoinCounts) {
    let plan = plan(case, layout);
    let batches = batches(&plan, context(layout.batch_rows, unbounded())).unwrap();
    let fits = |rows: usize| (1..=layout.batch_rows).contains(&rows);
    assert!(batches.iter().all(|batch| fits(batch.num_rows())));
    let all = concat_batches(&plan.schema(), &batches).unwrap();
    let entity_rows = grid::entity_batch(case);
    let width = entity_rows.num_columns();
    assert_eq!(&all.columns()[..width], entity_rows.columns());
    let rows = (0..all.num_rows()).map(|row| {
        let cell = |(i, &(view, feature)): (usize, &(usize, usize))| {
            let feature_type = case.views[view].features[feature].feature_type;
            arrow_values::value_at(all.column(width + i), feature_type, row)
        };
        case.outputs.iter().enumerate().map(cell).collect()
    });
    (rows.collect(), plan.counts())
}

/// Every cell and every count, against the oracle's.
fn check(case: &JoinCase, layout: Layout) {
    let (found, counts) = run(case, layout);
    assert_eq!(found, oracle::join(case), "{layout:?}");
    let used: Vec<usize> = case.views.iter().flat_map(|v| v.keys.clone()).collect();
    let is_without_key = |row: &&EntityRow| {
        row.time.is_none() || used.iter().any(|&column| row.keys[column].is_none())
    };
    assert_eq!(counts.rows, case.entity_rows.len());
    assert_eq!(
        counts.rows_without_key,
        case.entity_rows.iter().filter(is_without_key).count()
    );
    for (number, view) in counts.views.iter().enumerate() {
        assert_eq!(
            view.matched_rows,
            oracle::matched(case, number),
            "view {number}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_join_agrees_with_the_oracle(case in grid::join_case(), layout in Layout::any()) {
        check(&case, layout);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A long history of few keys: slots are won again and again, and most of what was kept is thrown out.
    #[test]
    fn a_long_history_agrees_too(case in grid::long_case(), layout in Layout::any(), other in Layout::any()) {
        check(&case, layout);
        prop_assert_eq!(run(&case, layout), run(&case, other));
    }
}

/// One feature row of one key, at every pair of times around an anchor, asked about at every time: what no rule of
/// time can get wrong without being seen.
#[test]
fn every_time_against_every_other() {
    for anchor in grid::ANCHORS {
        for ttl in grid::TTLS {
            let times = grid::instants(anchor, ttl);
            for ttl in [None, Ttl::from_micros(ttl)] {
                for (knowledge, boundary) in grid::MODES {
                    check(
                        &grid::every_time_case(&times, ttl, knowledge, boundary),
                        Layout {
                            partitions: 2,
                            batch_rows: 100,
                            seed: 1,
                        },
                    );
                }
            }
        }
    }
}

/// One view `weather` of the key `k` with these rows: event, created, value.
fn case(
    entity_rows: &[(Option<i64>, Option<i64>)],
    ttl: u64,
    rows: &[(i64, i64, Option<i64>)],
) -> JoinCase {
    let us = Timestamp::from_micros;
    JoinCase {
        key_columns: vec![("k".into(), KeyType::Int64)],
        entity_rows: entity_rows
            .iter()
            .map(|(key, time)| EntityRow {
                keys: vec![key.map(KeyValue::Int64)],
                time: time.map(us),
            })
            .collect(),
        views: vec![View {
            keys: vec![0],
            ttl: Ttl::from_micros(ttl),
            features: vec![Feature {
                name: "f".into(),
                feature_type: FeatureType::Scalar(ScalarType::Int64),
                default: None,
            }],
            rows: rows
                .iter()
                .map(|&(event, created, value)| FeatureRow {
                    keys: vec![KeyValue::Int64(1)],
                    time: RowTime {
                        event: us(event),
                        created: us(created),
                    },
                    values: vec![value.map(Value::Int64)],
                })
                .collect(),
        }],
        outputs: vec![(0, 0)],
        knowledge: Knowledge::Event,
        boundary: Boundary::At,
    }
}

const ONE: Layout = Layout {
    partitions: 1,
    batch_rows: 100,
    seed: 0,
};

fn values(case: &JoinCase) -> Vec<Option<i64>> {
    let int = |value: &Option<Value>| match value {
        Some(Value::Int64(int)) => Some(*int),
        _ => None,
    };
    run(case, ONE).0.iter().map(|row| int(&row[0])).collect()
}

#[test]
fn a_null_in_the_row_that_counts_is_the_answer() {
    let rows = [(1, 1, Some(7)), (2, 2, None)];
    let mut case = case(&[(Some(1), Some(1)), (Some(1), Some(2))], 0, &rows);
    assert_eq!(values(&case), [Some(7), None]);
    case.views[0].features[0].default = Some(Value::Int64(-1));
    case.entity_rows.push(EntityRow {
        keys: vec![None],
        time: Some(Timestamp::from_micros(5)),
    });
    assert_eq!(values(&case), [Some(7), Some(-1), Some(-1)]);
}

#[test]
fn entity_rows_without_key_or_time_are_kept_and_counted() {
    let entity_rows = [
        (None, Some(5)),
        (Some(1), None),
        (Some(1), Some(5)),
        (Some(2), Some(5)),
    ];
    let case = case(&entity_rows, 0, &[(1, 1, Some(7))]);
    assert_eq!(values(&case), [None, None, Some(7), None]);
    let (_, counts) = run(&case, ONE);
    assert_eq!((counts.rows, counts.rows_without_key), (4, 2));
    assert_eq!(
        (counts.views[0].feature_rows, counts.views[0].matched_rows),
        (1, 1)
    );
}

#[test]
fn without_entity_rows_the_result_is_empty_and_has_all_columns() {
    let case = case(&[], 0, &[(1, 1, Some(7))]);
    let plan = plan(&case, ONE);
    let found = batches(&plan, context(10, unbounded())).unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    let schema = plan.schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name()).collect();
    assert_eq!(names, ["k", "event_timestamp", "row", "view0__f"]);
}

/// A feature row that nobody can see is not even read when nobody asks.
#[test]
fn where_nobody_asks_nothing_is_read() {
    let case = case(&[(None, Some(5)), (Some(1), None)], 0, &[(1, 1, Some(7))]);
    let (found, counts) = run(&case, ONE);
    assert_eq!(found, [[None], [None]]);
    assert_eq!(
        (counts.rows_without_key, counts.views[0].feature_rows),
        (2, 0)
    );
}

#[test]
fn a_view_without_partitions_has_no_rows() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let none = memory(&[], grid::feature_schema(&case, 0));
    let plan = PitJoinExec::try_new(Arc::new(spec(&case)), entity_plan(&case, 10), vec![none]);
    let found = batches(&plan.unwrap(), context(10, unbounded())).unwrap();
    assert_eq!(found[0].column(3).null_count(), 1);
}

#[test]
fn explain_says_what_is_joined_with_what() {
    let mut case = case(&[(Some(1), Some(5))], 3_600_000_000, &[(1, 1, Some(7))]);
    case.knowledge = Knowledge::Available;
    case.boundary = Boundary::Before;
    let plan = plan(&case, ONE);
    insta::assert_snapshot!(displayable(plan.as_ref()).indent(false), @r#"
    PitJoinExec: time=event_timestamp, views=[view0@1 on (k) ttl=1h knowledge=available boundary=before], outputs=[view0__f]
      DataSourceExec: partitions=1, partition_sizes=[1]
      DataSourceExec: partitions=1, partition_sizes=[1]
    "#);
}

/// The optimizer may put exchanges below the operator; the entity rows must stay in order all the same.
#[test]
fn the_optimizer_keeps_the_order_of_the_entity_rows() {
    let times: Vec<_> = (0..50).map(|i| (Some(1), Some((i * 7) % 50))).collect();
    let case = case(
        &times,
        0,
        &[(1, 1, Some(1)), (20, 20, Some(2)), (40, 40, None)],
    );
    let config = SessionConfig::new()
        .with_target_partitions(4)
        .with_batch_size(5);
    let state = SessionContext::new_with_config(config).state();
    let mut optimized: Arc<dyn ExecutionPlan> = plan(&case, ONE);
    for rule in state.physical_optimizers() {
        optimized = rule.optimize(optimized, state.config_options()).unwrap();
    }
    let stream = execute_stream(optimized, state.task_ctx()).unwrap();
    let found = runtime().block_on(common::collect(stream)).unwrap();
    let found = concat_batches(&found[0].schema(), &found).unwrap();
    assert_eq!(&found.columns()[..3], grid::entity_batch(&case).columns());
}

#[test]
fn several_partitions_of_entity_rows_have_no_order_and_are_refused() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let batch = grid::entity_batch(&case);
    let entity_rows = memory(&[vec![batch.clone()], vec![batch.clone()]], batch.schema());
    let features = memory(&[vec![]], grid::feature_schema(&case, 0));
    let plan = PitJoinExec::try_new(Arc::new(spec(&case)), entity_rows, vec![features]).unwrap();
    assert!(plan.execute(0, context(10, unbounded())).is_err());
}

#[test]
fn what_does_not_fit_together_is_refused_when_it_is_planned() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let refused = |change: &dyn Fn(&mut JoinSpec)| {
        let mut spec = spec(&case);
        change(&mut spec);
        let features = memory(&[vec![]], grid::feature_schema(&case, 0));
        let plan = PitJoinExec::try_new(Arc::new(spec), entity_plan(&case, 10), vec![features]);
        plan.unwrap_err().strip_backtrace()
    };
    insta::assert_snapshot!(refused(&|spec| spec.outputs[0].view = 1), @"Error during planning: the output column `view0__f` is of the view in place 1, counted from 0, but there are 1");
    insta::assert_snapshot!(refused(&|spec| spec.outputs[0].feature = "g".parse().unwrap()), @"Error during planning: the output column `view0__f` is the feature `g`, which view0@1 does not have");
    insta::assert_snapshot!(refused(&|spec| spec.outputs[0].default = Some(Value::Bool(true))), @"Error during planning: the default of the output column `view0__f` is of type bool, not int64");
    insta::assert_snapshot!(refused(&|spec| spec.outputs[0].name = "row".into()), @"Error during planning: the result would have two columns `row`");
    insta::assert_snapshot!(refused(&|spec| spec.time_column = "when".into()), @"Error during planning: the entity rows have no column `when`");
    insta::assert_snapshot!(refused(&|spec| spec.views[0].features[0].1 = FeatureType::Scalar(ScalarType::Bool)), @"Error during planning: the column `f` of the rows of view0@1 has the type Int64, not Boolean");
    insta::assert_snapshot!(refused(&|spec| spec.views[0].features.push(("g".parse().unwrap(), FeatureType::Scalar(ScalarType::Bool)))), @"Error during planning: the rows of view0@1 have no column `g`");
}

/// What another program has written into a view's table is an error, not a row that is left out.
#[test]
fn a_feature_row_without_a_time_is_an_error() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let fields = grid::feature_schema(&case, 0);
    let fields = fields
        .fields()
        .iter()
        .map(|f| f.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|f| new_null_array(f.data_type(), 1))
        .collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let features = memory(&[vec![batch]], schema);
    let plan = PitJoinExec::try_new(
        Arc::new(spec(&case)),
        entity_plan(&case, 10),
        vec![features],
    )
    .unwrap();
    let err = batches(&plan, context(10, unbounded())).unwrap_err();
    insta::assert_snapshot!(err.strip_backtrace(), @"Execution error: the rows of view0@1 have a null, or no timestamps, in the column `event_timestamp`; nothing but Vintner may write to its table");
}

/// Notes the most that was reserved.
#[derive(Debug, Default)]
struct Peak {
    pool: UnboundedMemoryPool,
    peak: AtomicUsize,
}

impl std::fmt::Display for Peak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("peak")
    }
}

impl MemoryPool for Peak {
    fn name(&self) -> &str {
        "peak"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.peak.fetch_max(self.pool.reserved(), Ordering::Relaxed);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(
        &self,
        reservation: &MemoryReservation,
        additional: usize,
    ) -> datafusion::error::Result<()> {
        self.grow(reservation, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }
}

#[test]
fn memory_grows_with_the_entity_rows_and_not_with_the_history() {
    let peak = |history: i64, entity_rows: i64| {
        let times: Vec<_> = (0..entity_rows)
            .map(|i| (Some(1), Some(i * 1_000)))
            .collect();
        // Ascending, so that every row wins its slot and throws the one before out.
        let rows: Vec<_> = (0..history)
            .map(|i| (i * entity_rows * 1_000 / history, i, Some(i)))
            .collect();
        let pool = Arc::new(Peak::default());
        let case = case(&times, 0, &rows);
        let layout = Layout {
            partitions: 2,
            batch_rows: 100,
            seed: 3,
        };
        let plan = plan(&case, layout);
        batches(&plan, context(100, Arc::<Peak>::clone(&pool))).unwrap();
        assert_eq!(pool.reserved(), 0, "all is given back");
        pool.peak.load(Ordering::Relaxed)
    };
    let few = peak(1_000, 100);
    assert!(peak(50_000, 100) < few * 2);
    assert!(peak(1_000, 10_000) > few * 10);
}

#[test]
fn a_join_that_needs_more_memory_than_there_is_says_so() {
    let times: Vec<_> = (0..10_000).map(|i| (Some(1), Some(i))).collect();
    let case = case(&times, 0, &[(1, 1, Some(1))]);
    let pool = Arc::new(GreedyMemoryPool::new(200_000));
    let err = batches(&plan(&case, ONE), context(100, pool.clone())).unwrap_err();
    assert!(
        matches!(err, DataFusionError::ResourcesExhausted(_)),
        "{err}"
    );
    assert_eq!(pool.reserved(), 0);
}

/// A source that never gives anything, and says when it is begun and, by closing the channel, when it is let go.
#[derive(Debug)]
struct Endless(SchemaRef, tokio::sync::mpsc::Sender<()>);

impl PartitionStream for Endless {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let held = self.1.clone();
        held.try_send(()).unwrap();
        let never = futures::stream::pending().inspect(move |_| drop(held.clone()));
        Box::pin(RecordBatchStreamAdapter::new(self.0.clone(), never))
    }
}

#[test]
fn dropping_the_result_stops_all_reading() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let schema = grid::feature_schema(&case, 0);
    let (held, mut released) = tokio::sync::mpsc::channel(1);
    let source: Arc<dyn PartitionStream> = Arc::new(Endless(schema.clone(), held));
    let features = StreamingTableExec::try_new(schema, vec![source], None, [], true, None).unwrap();
    let plan = PitJoinExec::try_new(
        Arc::new(spec(&case)),
        entity_plan(&case, 10),
        vec![Arc::new(features)],
    )
    .unwrap();
    runtime().block_on(async {
        let mut stream = plan.execute(0, context(10, unbounded())).unwrap();
        drop(plan);
        let deadline = std::time::Duration::from_secs(10);
        let begun = async {
            tokio::select! {
                ended = stream.next() => panic!("{ended:?} from a source that gives nothing"),
                begun = released.recv() => begun,
            }
        };
        assert_eq!(tokio::time::timeout(deadline, begun).await, Ok(Some(())));
        drop(stream);
        // All senders are gone, the one in the source's stream among them.
        assert_eq!(
            tokio::time::timeout(deadline, released.recv()).await,
            Ok(None)
        );
    });
}

#[test]
fn an_error_of_a_source_is_the_results_error() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let schema = grid::feature_schema(&case, 0);
    let failing = Failing::plan(schema);
    let plan =
        PitJoinExec::try_new(Arc::new(spec(&case)), entity_plan(&case, 10), vec![failing]).unwrap();
    let err = batches(&plan, context(10, unbounded())).unwrap_err();
    assert_eq!(err.strip_backtrace(), "Execution error: the disk is gone");
}

/// A source that fails.
#[derive(Debug)]
struct Failing(SchemaRef);

impl Failing {
    fn plan(schema: SchemaRef) -> Arc<dyn ExecutionPlan> {
        let source: Arc<dyn PartitionStream> = Arc::new(Self(schema.clone()));
        Arc::new(StreamingTableExec::try_new(schema, vec![source], None, [], false, None).unwrap())
    }
}

impl PartitionStream for Failing {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let failed = Err(DataFusionError::Execution("the disk is gone".into()));
        let failed = futures::stream::once(std::future::ready(failed));
        Box::pin(RecordBatchStreamAdapter::new(self.0.clone(), failed))
    }
}
