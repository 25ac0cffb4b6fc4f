//! The operator against the naive oracle, and what it promises beyond values.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{Int64Type, SchemaRef},
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
    Boundary, FeatureType, KeyType, KeyValue, Knowledge, RowTime, ScalarType, Timestamp, Ttl,
    Value, arrow_values,
};
use vintner_testkit::{
    grid::{self, Layout},
    oracle::{self, EntityRow, Feature, FeatureRow, JoinCase, View},
};

use object_store::{ObjectStoreExt, memory::InMemory, prefix::PrefixStore};
use parquet::{
    arrow::ArrowWriter,
    file::properties::{EnabledStatistics, WriterProperties},
};
use vintner_join::{JoinSpec, OutputColumn, ViewInput};

use super::{JoinCounts, PitJoinExec};
use crate::feature_table::{FeatureFile, FeatureTable};

mod determinism;
mod linting;
mod pruning;
mod travelling;

pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap()
    })
}

pub(crate) fn spec(case: &JoinCase) -> JoinSpec {
    let (views, outputs) = grid::described(case);
    let views = views.into_iter().map(|view| ViewInput {
        view: view.view,
        keys: view.keys,
        rule: view.rule,
        features: view.features,
    });
    let outputs = outputs.into_iter().map(|output| OutputColumn {
        view: output.view,
        feature: output.feature,
        name: output.name,
        default: output.default,
    });
    JoinSpec {
        time_column: grid::EVENT.to_owned(),
        views: views.collect(),
        outputs: outputs.collect(),
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

/// How the files of a view's table are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files {
    pub(crate) layout: Layout,
    order: Order,
    /// Rows per row group and per page.
    group_rows: usize,
    page_rows: usize,
    bounds: Bounds,
    statistics: EnabledStatistics,
}

/// Which rows are in which file, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As the layout says.
    Laid,
    /// As the layout says, those of each file sorted by key and time.
    Sorted,
    /// As compaction does: each file has a range of time, its rows sorted by key and time.
    Compacted,
}

/// What the log says of the event times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounds {
    Unknown,
    Exact,
    /// Cut off to milliseconds, as Delta has it.
    Millis,
}

impl Files {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let orders = prop::sample::select(vec![Order::Laid, Order::Sorted, Order::Compacted]);
        let bounds = prop::sample::select(vec![Bounds::Unknown, Bounds::Exact, Bounds::Millis]);
        let rows = (1usize..=6, 1usize..=3);
        (Layout::any(), orders, rows, bounds).prop_map(
            |(layout, order, (group_rows, page_rows), bounds)| Self {
                layout,
                order,
                group_rows,
                page_rows,
                bounds,
                statistics: EnabledStatistics::Page,
            },
        )
    }

    fn of(layout: Layout) -> Self {
        Self {
            layout,
            order: Order::Laid,
            group_rows: 100,
            page_rows: 100,
            bounds: Bounds::Exact,
            statistics: EnabledStatistics::Page,
        }
    }

    /// The numbers of the rows of each file.
    fn split(&self, rows: &[FeatureRow]) -> Vec<Vec<usize>> {
        let laid = self.layout.split(rows.len()).into_iter();
        let mut files: Vec<Vec<usize>> = laid.map(|file| file.concat()).collect();
        if self.order == Order::Compacted {
            let mut by_time = files.concat();
            by_time.sort_by_key(|&row| rows[row].time.event);
            let file_rows = rows.len().div_ceil(self.layout.partitions).max(1);
            files = by_time.chunks(file_rows).map(<[usize]>::to_vec).collect();
        }
        if self.order != Order::Laid {
            for file in &mut files {
                file.sort_by_key(|&row| (rows[row].keys.clone(), rows[row].time));
            }
        }
        files
    }

    /// A view's rows as a table, in an object store of its own.
    pub(crate) fn table(&self, case: &JoinCase, number: usize) -> FeatureTable {
        self.table_in(&Arc::new(InMemory::new()), case, number)
    }

    /// A view's rows as a table, in a folder of an object store.
    fn table_in(&self, objects: &Arc<InMemory>, case: &JoinCase, number: usize) -> FeatureTable {
        let files = self.split(&case.views[number].rows);
        self.table_of(objects, &format!("view{number}"), (case, number), &files)
    }

    /// Rows, file by file, as a table in a folder of an object store.
    fn table_of(
        &self,
        objects: &Arc<InMemory>,
        folder: &str,
        (case, number): (&JoinCase, usize),
        files: &[Vec<usize>],
    ) -> FeatureTable {
        let store = Arc::new(PrefixStore::new(Arc::clone(objects), folder));
        let described = files.iter().enumerate().map(|(place, rows)| {
            let bytes = self.file(&grid::feature_batch(case, number, rows));
            let times = rows.iter().map(|&row| case.views[number].rows[row].time);
            let file = FeatureFile {
                path: format!("part-{place}.parquet"),
                bytes: bytes.len() as u64,
                rows: Some(rows.len() as u64),
                events: self.bounds.of(times),
            };
            let path = file.path.clone().into();
            runtime().block_on(store.put(&path, bytes.into())).unwrap();
            file
        });
        let described = described.collect();
        FeatureTable::new(&format!("memory:///{folder}/"), store, described)
    }

    fn file(&self, batch: &RecordBatch) -> Vec<u8> {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(self.group_rows))
            .set_data_page_row_count_limit(self.page_rows)
            .set_write_batch_size(1)
            .set_statistics_enabled(self.statistics)
            .build();
        let mut bytes = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        bytes
    }
}

impl Bounds {
    fn of(self, times: impl Iterator<Item = RowTime> + Clone) -> Option<(Timestamp, Timestamp)> {
        let events = times.map(|time| time.event);
        let (first, last) = events.clone().min().zip(events.max())?;
        let cut_off = |at: Timestamp| at.micros().div_euclid(1000).checked_mul(1000);
        match self {
            Self::Unknown => None,
            Self::Exact => Some((first, last)),
            Self::Millis => Some((
                Timestamp::from_micros(cut_off(first)?),
                Timestamp::from_micros(cut_off(last)?.saturating_add(999)),
            )),
        }
    }
}

fn plan(case: &JoinCase, files: Files) -> PitJoinExec {
    plan_over(&Arc::new(InMemory::new()), case, files)
}

fn plan_over(objects: &Arc<InMemory>, case: &JoinCase, files: Files) -> PitJoinExec {
    let tables = (0..case.views.len()).map(|number| files.table_in(objects, case, number));
    let entity_rows = entity_plan(case, files.layout.batch_rows + 1);
    PitJoinExec::try_new(Arc::new(spec(case)), entity_rows, tables.collect()).unwrap()
}

pub(crate) fn context(batch_rows: usize, pool: Arc<dyn MemoryPool>) -> Arc<TaskContext> {
    context_of(2, batch_rows, pool)
}

fn context_of(partitions: usize, batch_rows: usize, pool: Arc<dyn MemoryPool>) -> Arc<TaskContext> {
    let config = SessionConfig::new()
        .with_batch_size(batch_rows)
        .with_target_partitions(partitions);
    let env = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc();
    SessionContext::new_with_config_rt(config, env.unwrap()).task_ctx()
}

pub(crate) fn unbounded() -> Arc<dyn MemoryPool> {
    Arc::new(UnboundedMemoryPool::default())
}

fn batches(
    plan: &PitJoinExec,
    context: Arc<TaskContext>,
) -> datafusion::error::Result<Vec<RecordBatch>> {
    batches_on(runtime(), plan, context)
}

fn batches_on(
    runtime: &tokio::runtime::Runtime,
    plan: &PitJoinExec,
    context: Arc<TaskContext>,
) -> datafusion::error::Result<Vec<RecordBatch>> {
    runtime.block_on(async { common::collect(plan.execute(0, context)?).await })
}

/// Runs a join; the values of its output columns, row by row, after a check that the entity rows are as they were.
fn run(
    case: &JoinCase,
    files: Files,
    pool: Arc<dyn MemoryPool>,
) -> (Vec<Vec<Option<Value>>>, JoinCounts) {
    let plan = plan(case, files);
    let found = run_plan(case, &plan, context(files.layout.batch_rows, pool));
    (found, plan.counts())
}

fn run_plan(
    case: &JoinCase,
    plan: &PitJoinExec,
    context: Arc<TaskContext>,
) -> Vec<Vec<Option<Value>>> {
    cells(case, &plan.schema(), &batches(plan, context).unwrap())
}

/// The values of the output columns, row by row, after a check that the entity rows are as they were.
pub(crate) fn cells(
    case: &JoinCase,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Vec<Vec<Option<Value>>> {
    let all = concat_batches(schema, batches).unwrap();
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
    rows.collect()
}

/// Every cell and every count, against the oracle's.
fn check(case: &JoinCase, files: Files) {
    let (found, counts) = run(case, files, unbounded());
    assert_eq!(found, oracle::join(case), "{files:?}");
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
        assert!(view.winners <= case.views[number].rows.len());
        assert!(view.pruned.rows_read <= case.views[number].rows.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Files, row groups and pages of every size, sorted or not, overlapping or not: what is left out is never needed.
    #[test]
    fn the_join_agrees_with_the_oracle(case in grid::join_case(), files in Files::any()) {
        check(&case, files);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A long history of few keys: slots are won again and again, and ties are many.
    #[test]
    fn a_long_history_agrees_too(case in grid::long_case(), files in Files::any()) {
        check(&case, files);
    }
}

/// One feature row of one key, at every pair of times around an anchor, asked about at every time: what no rule of
/// time can get wrong without being seen.
#[test]
fn every_time_against_every_other() {
    let layout = Layout {
        partitions: 2,
        batch_rows: 100,
        seed: 1,
    };
    for anchor in grid::ANCHORS {
        for ttl in grid::TTLS {
            let times = grid::instants(anchor, ttl);
            for ttl in [None, Ttl::from_micros(ttl)] {
                for (knowledge, boundary) in grid::MODES {
                    let case = grid::every_time_case(&times, ttl, knowledge, boundary);
                    check(&case, Files::of(layout));
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

const ONE: Files = Files {
    layout: Layout {
        partitions: 1,
        batch_rows: 100,
        seed: 0,
    },
    order: Order::Sorted,
    group_rows: 100,
    page_rows: 100,
    bounds: Bounds::Exact,
    statistics: EnabledStatistics::Page,
};

/// Entity rows of one week of a long history, of few of its keys: the rest of the files, of their row groups and of
/// their pages is not read.
#[test]
fn parts_of_a_table_that_cannot_count_are_not_read() {
    let mut case = case(&[(Some(5), Some(1_000)), (Some(5), Some(1_009))], 10, &[]);
    let us = Timestamp::from_micros;
    // A hundred keys with a row every 10 µs, in files of 100 µs each.
    let rows = (0..1000).flat_map(|time| (0..100).map(move |key| (key, time * 10)));
    case.views[0].rows = rows
        .map(|(key, time)| FeatureRow {
            keys: vec![KeyValue::Int64(key)],
            time: RowTime {
                event: us(time),
                created: us(time),
            },
            values: vec![Some(Value::Int64(time * 100 + key))],
        })
        .collect();
    let objects = Arc::new(InMemory::new());
    let mut described = Vec::new();
    let layout = Files {
        group_rows: 500,
        page_rows: 50,
        ..ONE
    };
    for file in 0..100i64 {
        let rows = (0..case.views[0].rows.len()).filter(|row| *row as i64 / 1000 == file);
        let mut rows: Vec<usize> = rows.collect();
        let feature_rows = &case.views[0].rows;
        rows.sort_by_key(|&row| (feature_rows[row].keys.clone(), feature_rows[row].time));
        let bytes = layout.file(&grid::feature_batch(&case, 0, &rows));
        let path = format!("part-{file}.parquet");
        described.push(FeatureFile {
            path: path.clone(),
            bytes: bytes.len() as u64,
            rows: Some(1000),
            events: Some((us(file * 100), us(file * 100 + 90))),
        });
        runtime()
            .block_on(objects.put(&path.into(), bytes.into()))
            .unwrap();
    }
    let table = FeatureTable::new("memory:///", objects, described);
    let plan = PitJoinExec::try_new(
        Arc::new(spec(&case)),
        entity_plan(&case, 10),
        [table].into(),
    );
    let plan = plan.unwrap();
    let found = batches(&plan, context(10, unbounded())).unwrap();
    let values = found[0].column(3).as_primitive::<Int64Type>();
    assert_eq!(values.values(), &[100_005, 100_005]);
    let counts = plan.counts().views[0].pruned;
    assert_eq!((counts.files, counts.files_opened), (100, 2));
    assert_eq!((counts.row_groups, counts.row_groups_read), (4, 2));
    assert_eq!((counts.rows, counts.rows_read), (100_000, 100));
}

/// In a pool that is too small for all entity rows they are joined in parts, and nobody can tell.
#[test]
fn a_small_pool_means_several_chunks_and_the_same_result() {
    let times: Vec<_> = (0..20_000)
        .map(|i| (Some(1), Some(i * 7919 % 20_000)))
        .collect();
    let rows: Vec<_> = (0..3_000).map(|i| (i * 5, i * 5, Some(i))).collect();
    let case = case(&times, 3_600_000_000, &rows);
    let (whole, counts) = run(&case, ONE, unbounded());
    assert_eq!(counts.chunks, 1);
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1_500_000));
    let (parts, counts) = run(&case, ONE, Arc::clone(&pool));
    assert!(counts.chunks > 1, "{counts:?}");
    assert_eq!((counts.rows, pool.reserved()), (20_000, 0));
    assert!(parts == whole);
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
    let (found, counts) = run(&case, ONE, unbounded());
    let want = [None, None, Some(7), None].map(|value| vec![value.map(Value::Int64)]);
    assert_eq!(found, want);
    assert_eq!((counts.rows, counts.rows_without_key), (4, 2));
    assert_eq!(
        (
            counts.views[0].pruned.rows_read,
            counts.views[0].matched_rows
        ),
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
    let (found, counts) = run(&case, ONE, unbounded());
    assert_eq!(found, [[None], [None]]);
    assert_eq!(
        (counts.rows_without_key, counts.views[0].pruned.files_opened),
        (2, 0)
    );
}

#[test]
fn a_table_without_files_has_no_rows() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let none = [FeatureTable::empty("memory:///")].into();
    let plan = PitJoinExec::try_new(Arc::new(spec(&case)), entity_plan(&case, 10), none);
    let found = batches(&plan.unwrap(), context(10, unbounded())).unwrap();
    assert_eq!(found[0].column(3).null_count(), 1);
}

#[test]
fn explain_says_what_is_joined_with_what() {
    let mut case = case(&[(Some(1), Some(5))], 3_600_000_000, &[(1, 1, Some(7))]);
    case.knowledge = Knowledge::Available;
    case.boundary = Boundary::Before;
    let plan = plan(&case, ONE);
    insta::assert_snapshot!(displayable(&plan).indent(false), @r"
    PitJoinExec: time=event_timestamp, views=[view0@1 on (k) ttl=1h knowledge=available boundary=before], outputs=[view0__f], files=[1]
      DataSourceExec: partitions=1, partition_sizes=[1]
    ");
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
    let mut optimized: Arc<dyn ExecutionPlan> = Arc::new(plan(&case, ONE));
    for rule in state.physical_optimizers() {
        optimized = rule.optimize(optimized, state.config_options()).unwrap();
    }
    let found = runtime().block_on(async {
        let stream = execute_stream(optimized, state.task_ctx()).unwrap();
        common::collect(stream).await.unwrap()
    });
    let found = concat_batches(&found[0].schema(), &found).unwrap();
    assert_eq!(&found.columns()[..3], grid::entity_batch(&case).columns());
}

#[test]
fn several_partitions_of_entity_rows_have_no_order_and_are_refused() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let batch = grid::entity_batch(&case);
    let entity_rows = memory(&[vec![batch.clone()], vec![batch.clone()]], batch.schema());
    let none = [FeatureTable::empty("memory:///")].into();
    let plan = PitJoinExec::try_new(Arc::new(spec(&case)), entity_rows, none).unwrap();
    assert!(plan.execute(0, context(10, unbounded())).is_err());
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
        let one_group = Files {
            group_rows: 100_000,
            ..ONE
        };
        let plan = plan(&case, one_group);
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
    let pool = Arc::new(GreedyMemoryPool::new(1_000));
    let err = batches(&plan(&case, ONE), context(10_000, pool.clone())).unwrap_err();
    assert!(
        matches!(err.find_root(), DataFusionError::ResourcesExhausted(_)),
        "{err}"
    );
    assert_eq!(pool.reserved(), 0);
}

/// Entity rows that never come, and that say when they are begun and, by closing the channel, when they are let go.
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
    let schema = grid::entity_batch(&case).schema();
    let (held, mut released) = tokio::sync::mpsc::channel(1);
    let source: Arc<dyn PartitionStream> = Arc::new(Endless(schema.clone(), held));
    let rows = StreamingTableExec::try_new(schema, vec![source], None, [], true, None).unwrap();
    let none = [FeatureTable::empty("memory:///")].into();
    let plan = PitJoinExec::try_new(Arc::new(spec(&case)), Arc::new(rows), none).unwrap();
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

/// A file that is not there, or is none: an error that names it, and no null.
#[test]
fn an_error_of_a_file_is_the_results_error() {
    let case = case(&[(Some(1), Some(5))], 0, &[(1, 1, Some(7))]);
    let objects = Arc::new(InMemory::new());
    runtime()
        .block_on(objects.put(
            &"broken.parquet".into(),
            b"PAR1 and no more PAR1".to_vec().into(),
        ))
        .unwrap();
    for path in ["missing.parquet", "broken.parquet"] {
        let file = FeatureFile {
            path: path.to_owned(),
            bytes: 21,
            rows: None,
            events: None,
        };
        let objects = Arc::<InMemory>::clone(&objects);
        let table = [FeatureTable::new("memory:///", objects, vec![file])].into();
        let plan = PitJoinExec::try_new(Arc::new(spec(&case)), entity_plan(&case, 10), table);
        let err = batches(&plan.unwrap(), context(10, unbounded())).unwrap_err();
        let said = err.strip_backtrace();
        assert!(
            said.contains(&format!("could not read the data file memory:///{path}")),
            "{said}"
        );
    }
}
