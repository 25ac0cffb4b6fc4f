//! Known keys against the naive oracle, at moments that sit on the rows' times.

use std::{num::NonZeroUsize, sync::Arc};

use arrow::{array::RecordBatch, compute::concat_batches};
use datafusion::{
    catalog::{MemTable, TableProvider},
    datasource::memory::MemorySourceConfig,
    error::DataFusionError,
    physical_plan::{ExecutionPlan, common},
    prelude::SessionContext,
};
use proptest::prelude::*;
use vintner_core::{
    Boundary, FeatureField, JoinKey, KeySchema, Knowledge, Timestamp, Value, arrow_values,
};
use vintner_registry::model::{About, Refresh, ViewInput, ViewRevision};
use vintner_testkit::{
    grid::{self, Layout},
    oracle::{self, JoinCase},
};

use super::*;
use crate::{
    join::{
        PitJoinExec,
        tests::{Files, context, runtime, spec, unbounded},
    },
    planner::session::{EngineConfig, session},
};

fn revision(case: &JoinCase, number: usize) -> ViewRevision {
    let view = &case.views[number];
    let keys = view.keys.iter().map(|&column| JoinKey {
        name: case.key_columns[column].0.parse().unwrap(),
        key_type: case.key_columns[column].1,
    });
    ViewRevision {
        id: format!("view{number}@1").parse().unwrap(),
        entities: vec![],
        join_keys: KeySchema::new(keys.collect()).unwrap(),
        ttl: view.ttl,
        input: ViewInput::Query(String::new()),
        sources: vec![],
        event_timestamp: None,
        created_timestamp: None,
        features: view
            .features
            .iter()
            .map(|feature| FeatureField {
                name: feature.name.parse().unwrap(),
                feature_type: feature.feature_type,
                default: None,
                description: String::new(),
            })
            .collect(),
        definitions: Default::default(),
        relation: String::new(),
        refresh: Refresh::Windowed,
        refresh_reason: String::new(),
        lookback: None,
        near_cache: None,
        lineage: Default::default(),
        layouts: vec![],
        offline: true,
        online: true,
        about: About::default(),
    }
}

fn known_keys(case: &JoinCase, moments: &[Timestamp]) -> KnownKeys {
    let views: Vec<_> = (0..case.views.len())
        .map(|number| Arc::new(revision(case, number)))
        .collect();
    KnownKeys::new(&views, case.knowledge, case.boundary, moments.to_vec()).unwrap()
}

fn tables(case: &JoinCase, layout: Layout) -> Vec<Arc<dyn TableProvider>> {
    let table = |number: usize| {
        let partitions = layout.split(case.views[number].rows.len());
        let partitions: Vec<Vec<RecordBatch>> = partitions
            .iter()
            .map(|batches| {
                let batches = batches.iter();
                batches
                    .map(|rows| grid::feature_batch(case, number, rows))
                    .collect()
            })
            .collect();
        let schema = grid::feature_schema(case, number);
        Arc::new(MemTable::try_new(schema, partitions).unwrap()) as Arc<dyn TableProvider>
    };
    (0..case.views.len()).map(table).collect()
}

fn plain_session(batch_size: usize) -> SessionContext {
    let config = EngineConfig {
        target_partitions: NonZeroUsize::new(2),
        batch_size: NonZeroUsize::new(batch_size).unwrap(),
        ..EngineConfig::default()
    };
    session(&config).unwrap()
}

/// The entity rows, all in one batch.
fn entity_rows(case: &JoinCase, moments: &[Timestamp], layout: Layout) -> RecordBatch {
    let known = known_keys(case, moments);
    let schema = known.schema().clone();
    let rows = known.rows(plain_session(layout.batch_rows), tables(case, layout));
    let batches = runtime().block_on(common::collect(rows)).unwrap();
    assert!(batches.iter().all(|batch| batch.schema() == schema));
    concat_batches(&schema, &batches).unwrap()
}

/// The rows of the join of such entity rows with all features of the views, value by value.
fn joined(case: &JoinCase, rows: &RecordBatch, files: Files) -> Vec<Vec<Option<Value>>> {
    let tables = (0..case.views.len()).map(|number| files.table(case, number));
    let plan = PitJoinExec::try_new(
        Arc::new(spec(case)),
        MemorySourceConfig::try_new_exec(&[vec![rows.clone()]], rows.schema(), None).unwrap(),
        tables.collect(),
    );
    let plan = plan.unwrap();
    let context = context(files.layout.batch_rows, unbounded());
    let batches = runtime().block_on(async { common::collect(plan.execute(0, context)?).await });
    let all = concat_batches(&plan.schema(), &batches.unwrap()).unwrap();
    let width = rows.num_columns();
    let cells = |row| {
        let cell = |(i, &(view, feature)): (usize, &(usize, usize))| {
            let feature_type = case.views[view].features[feature].feature_type;
            arrow_values::value_at(all.column(width + i), feature_type, row)
        };
        case.outputs.iter().enumerate().map(cell).collect()
    };
    (0..all.num_rows()).map(cells).collect()
}

/// The columns of the oracle's entity rows that known keys have.
fn wanted(case: &JoinCase) -> RecordBatch {
    let all = grid::entity_batch(case);
    let columns: Vec<usize> = (0..=case.key_columns.len()).collect();
    all.project(&columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn keys_are_known_as_the_oracle_says_and_joined_as_any_entity_rows((case, moments) in grid::snapshots_case(), files in Files::any()) {
        let rows = entity_rows(&case, &moments, files.layout);
        let case = JoinCase { entity_rows: oracle::known(&case, &moments), ..case };
        let wanted = wanted(&case);
        prop_assert_eq!(rows.columns(), wanted.columns());
        prop_assert_eq!(joined(&case, &rows, files), oracle::join(&case));
    }
}

/// Every pair of an event and a created time has a key of its own, which is asked for at every time.
#[test]
fn every_time_around_a_row_is_asked_about() {
    let layout = Layout {
        partitions: 2,
        batch_rows: 7,
        seed: 1,
    };
    for (knowledge, boundary) in grid::MODES {
        for ttl in [None, Some(5)] {
            let times = grid::instants(0, 5);
            let ttl = ttl.and_then(vintner_core::Ttl::from_micros);
            let case = grid::every_time_case(&times, ttl, knowledge, boundary);
            let rows = entity_rows(&case, &times, layout);
            let case = JoinCase {
                entity_rows: oracle::known(&case, &times),
                ..case
            };
            assert!(!case.entity_rows.is_empty());
            assert_eq!(
                rows.columns(),
                wanted(&case).columns(),
                "{knowledge:?} {boundary:?}"
            );
        }
    }
}

#[test]
fn views_with_different_keys_have_no_one_list_of_keys() {
    let mut case = grid::every_time_case(&[], None, Knowledge::Event, Boundary::At);
    let mut other = revision(&case, 0);
    case.key_columns[0].1 = vintner_core::KeyType::Int64;
    other.id = "other@2".parse().unwrap();
    let views = [Arc::new(revision(&case, 0)), Arc::new(other)];
    let known = KnownKeys::new(&views, Knowledge::Event, Boundary::At, vec![]);
    insta::assert_snapshot!(known.unwrap_err(), @"the feature views have different join keys, so that there is no one list of keys: `view0@1` has (k0: int64), `other@2` has (k0: int32); give the rows by a query with --spine, or in a file with --entity-rows");
}

#[test]
fn keys_that_do_not_fit_the_memory_are_an_error() {
    let times: Vec<_> = (0..150).map(Timestamp::from_micros).collect();
    let case = grid::every_time_case(&times, None, Knowledge::Event, Boundary::At);
    let layout = Layout {
        partitions: 1,
        batch_rows: 1000,
        seed: 1,
    };
    let config = EngineConfig {
        memory_limit: NonZeroUsize::new(64 * 1024),
        target_partitions: NonZeroUsize::new(1),
        ..EngineConfig::default()
    };
    let known = known_keys(&case, &times[149..]);
    let rows = known.rows(session(&config).unwrap(), tables(&case, layout));
    let failed = runtime().block_on(common::collect(rows)).unwrap_err();
    assert!(
        matches!(failed.find_root(), DataFusionError::ResourcesExhausted(_)),
        "{failed}"
    );
}
