//! The operator against the naive oracle, and what it promises beyond values.

use std::sync::{Arc, OnceLock};

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use datafusion::{
    datasource::memory::MemorySourceConfig,
    execution::{
        TaskContext,
        memory_pool::{GreedyMemoryPool, MemoryPool, UnboundedMemoryPool},
        runtime_env::RuntimeEnvBuilder,
    },
    physical_plan::{ExecutionPlan, common, displayable},
    prelude::{SessionConfig, SessionContext},
};
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
    assert!(
        batches
            .iter()
            .all(|batch| batch.num_rows() <= layout.batch_rows)
    );
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
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_join_agrees_with_the_oracle(case in grid::join_case(), layout in Layout::any()) {
        check(&case, layout);
    }
}
