//! The point-in-time join over real tables: as runs have left them, and compacted.

use arrow::array::RecordBatch;
use datafusion::{
    datasource::memory::MemorySourceConfig,
    physical_plan::{ExecutionPlan, common},
};
use proptest::prelude::*;
use vintner_core::{FeatureType, KeyType, KeyValue, RowTime, ScalarType, Ttl, Value};
use vintner_testkit::{
    grid,
    oracle::{self, EntityRow, Feature, FeatureRow, JoinCase, View},
};

use super::*;
use crate::join::{
    PitJoinExec,
    tests::{cells, spec},
};

/// A year of this age at both sides of a millisecond, which is what the log cuts its bounds to, the epoch, and before it.
const ANCHORS: [i64; 5] = [
    0,
    -86_400_000_000,
    1_356_998_400_000_000,
    1_356_998_400_000_999,
    1_356_998_400_001_000,
];
const TTLS: [u64; 4] = [1, 5, 1_000, 3_600_000_000];

/// What several runs find in the source, and the entity rows that ask about it.
#[derive(Clone, Debug)]
struct Asked {
    runs: Vec<Vec<Row>>,
    entity_rows: Vec<(i64, i64)>,
    ttl: Option<Ttl>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let around = (
        prop::sample::select(ANCHORS.to_vec()),
        prop::sample::select(TTLS.to_vec()),
    );
    around.prop_flat_map(|(anchor, ttl)| {
        let times = grid::instants(anchor, ttl);
        let times: Vec<i64> = times.into_iter().map(|time| time.micros()).collect();
        let time = || prop::sample::select(times.clone());
        let value = prop::option::weighted(0.8, 0..5i64);
        let row = (1..4i64, time(), time(), value).prop_map(|(k, at, made, v)| Row {
            k: Some(k),
            at: Some(at),
            made: Some(made),
            v,
        });
        let runs = prop::collection::vec(prop::collection::vec(row, 1..8), 1..4);
        // Few moments, so that files can be left out.
        let moments = prop::sample::subsequence(times.clone(), 1..=3);
        let entity_rows = moments.prop_flat_map(|moments| {
            let entity_row = (1..5i64, prop::sample::select(moments));
            prop::collection::vec(entity_row, 1..6)
        });
        let ttl = prop::sample::select(vec![None, Ttl::from_micros(ttl)]);
        (runs, entity_rows, ttl).prop_map(|(runs, entity_rows, ttl)| Asked {
            runs,
            entity_rows,
            ttl,
        })
    })
}

fn join_case(
    asked: &Asked,
    (knowledge, boundary): (vintner_core::Knowledge, vintner_core::Boundary),
) -> JoinCase {
    let rows = asked.runs.iter().flatten().map(|row| FeatureRow {
        keys: row.k.map(KeyValue::Int64).into_iter().collect(),
        time: RowTime {
            event: us(row.at.unwrap()),
            created: us(row.made.unwrap()),
        },
        values: vec![row.v.map(Value::Int64)],
    });
    let entity_rows = asked.entity_rows.iter().map(|&(k, at)| EntityRow {
        keys: vec![Some(KeyValue::Int64(k))],
        time: Some(us(at)),
    });
    JoinCase {
        key_columns: vec![("k".to_owned(), KeyType::Int64)],
        entity_rows: entity_rows.collect(),
        views: vec![View {
            keys: vec![0],
            ttl: asked.ttl,
            features: vec![Feature {
                name: "v".to_owned(),
                feature_type: FeatureType::Scalar(ScalarType::Int64),
                default: None,
            }],
            rows: rows.collect(),
        }],
        outputs: vec![(0, 0)],
        knowledge,
        boundary,
    }
}

/// What the join finds in the newest version of the view's table.
async fn joined(world: &World, view: &ViewRevision, case: &JoinCase) -> Vec<Vec<Option<Value>>> {
    let table = world.store.open_newest(&world.project, view).await.unwrap();
    let entity_rows = grid::entity_batch(case);
    let schema = entity_rows.schema();
    let entity_rows = MemorySourceConfig::try_new_exec(&[vec![entity_rows]], schema, None).unwrap();
    let tables = [table.feature_table().unwrap()].into();
    let plan = PitJoinExec::try_new(Arc::new(spec(case)), entity_rows, tables).unwrap();
    let stream = plan.execute(0, world.session.task_ctx()).unwrap();
    let found: Vec<RecordBatch> = common::collect(stream).await.unwrap();
    cells(case, &plan.schema(), &found)
}

async fn agrees_before_and_after(asked: Asked) -> Result<(), TestCaseError> {
    let world = World::new();
    let view = row_local();
    for (number, rows) in asked.runs.iter().enumerate() {
        world.write(&format!("f{number}"), rows);
        world.run(&view, 4_000_000_000_000_000).await;
    }
    let context = context(&world, &world.store);
    for target in [None, Some(1), Some(1 << 30)] {
        if let Some(target) = target {
            compact_to(&context, &view, target).await.unwrap();
        }
        for mode in grid::MODES {
            let case = join_case(&asked, mode);
            let found = joined(&world, &view, &case).await;
            prop_assert_eq!(
                found,
                oracle::join(&case),
                "{:?}, compacted to {:?}",
                mode,
                target
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_table_gives_the_same_answers_before_and_after_it_is_compacted(asked in asked()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(agrees_before_and_after(asked))?;
    }
}
