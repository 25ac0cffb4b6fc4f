use arrow::array::{
    Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use datafusion::physical_plan::{displayable, execute_stream};
use futures::TryStreamExt;
use insta::assert_snapshot;

use super::*;

const MICRO: i64 = 1_000_000;

fn columns(at: ArrayRef) -> Vec<(&'static str, ArrayRef)> {
    vec![
        (
            "k",
            array(StringArray::from(vec!["a", "b", "c", "d", "e", "f"])),
        ),
        ("at", at),
        (
            "x",
            array(Float64Array::from(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ),
        ("n", array(Int64Array::from(vec![1, 2, 3, 4, 5, 6]))),
    ]
}

/// The plan of a query over the source, and how many row groups and rows it read.
async fn explained(folder: &Folder, sql: &str) -> String {
    let source = parquet("t.parquet");
    let sources = folder.sources();
    let wanted = sources.schema(&source).await.unwrap().columns;
    let config = EngineConfig {
        target_partitions: std::num::NonZeroUsize::new(1),
        ..EngineConfig::default()
    };
    let engine = session(&config).unwrap();
    engine
        .register_table(
            "t",
            sources.table(&source, &wanted, Subset::All).await.unwrap(),
        )
        .unwrap();
    let plan = engine
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let shape = displayable(plan.as_ref()).indent(false).to_string();
    let batches: Vec<RecordBatch> = execute_stream(Arc::clone(&plan), engine.task_ctx())
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut scan = Arc::clone(&plan);
    while let Some(child) = scan.children().first().map(|child| Arc::clone(child)) {
        scan = child;
    }
    let metrics = scan.metrics().unwrap();
    let pruned: Vec<String> = metrics
        .aggregate_by_name()
        .iter()
        .filter(|m| m.value().name().starts_with("row_groups_pruned_statistics"))
        .map(|m| m.value().to_string())
        .collect();
    format!(
        "{shape}{rows} rows; row groups pruned by statistics: {}",
        pruned.join(" ")
    )
}

fn without_paths() -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\{1 group: \[\[[^\]]*\]\]\}", "{files}");
    settings.bind_to_scope()
}

#[tokio::test]
async fn filters_and_projections_reach_parquet() {
    let folder = Folder::new();
    let times: Vec<i64> = (0..6).map(|i| i * MICRO).collect();
    folder.parquet(
        "t.parquet",
        columns(array(
            TimestampMicrosecondArray::from(times).with_timezone("UTC"),
        )),
    );
    let _guard = without_paths();
    assert_snapshot!(explained(&folder, "SELECT x FROM t WHERE at >= TIMESTAMP '1970-01-01T00:00:04Z'").await, @"
    FilterExec: at@0 >= 4000000, projection=[x@1]
      DataSourceExec: file_groups={files}, projection=[at, x], file_type=parquet, predicate=at@1 >= 4000000, pruning_predicate=at_null_count@1 != row_count@2 AND at_max@0 >= 4000000, required_guarantees=[]
    2 rows; row groups pruned by statistics: 3 total → 1 matched -> 1 fully matched
    ");
    assert_snapshot!(explained(&folder, "SELECT k, n * 2 AS d FROM t WHERE k = 'a' AND n < 3").await, @"
    ProjectionExec: expr=[k@0 as k, n@1 * 2 as d]
      FilterExec: k@0 = a AND n@1 < 3
        DataSourceExec: file_groups={files}, projection=[k, n], file_type=parquet, predicate=k@0 = a AND n@3 < 3, pruning_predicate=k_null_count@2 != row_count@3 AND k_min@0 <= a AND a <= k_max@1 AND n_null_count@5 != row_count@3 AND n_min@4 < 3, required_guarantees=[k in (a)]
    1 rows; row groups pruned by statistics: 3 total → 1 matched
    ");
}

#[tokio::test]
async fn times_in_another_unit_and_without_a_zone_are_pruned_too() {
    let folder = Folder::new();
    let nanos: Vec<i64> = (0..6).map(|i| i * MICRO * 1_000 + 999).collect();
    folder.parquet(
        "t.parquet",
        columns(array(TimestampNanosecondArray::from(nanos))),
    );
    let _guard = without_paths();
    assert_snapshot!(explained(&folder, "SELECT x FROM t WHERE at >= TIMESTAMP '1970-01-01T00:00:04Z'").await, @"
    FilterExec: at@0 >= 4000000, projection=[x@1]
      DataSourceExec: file_groups={files}, projection=[at, x], file_type=parquet, predicate=at@1 >= 4000000, pruning_predicate=at_null_count@1 != row_count@2 AND at_max@0 >= 4000000, required_guarantees=[]
    2 rows; row groups pruned by statistics: 3 total → 1 matched -> 1 fully matched
    ");
    assert_snapshot!(explained(&folder, "SELECT x FROM t WHERE at < TIMESTAMP '1970-01-01T00:00:02Z'").await, @"
    FilterExec: at@0 < 2000000, projection=[x@1]
      DataSourceExec: file_groups={files}, projection=[at, x], file_type=parquet, predicate=at@1 < 2000000, pruning_predicate=at_null_count@1 != row_count@2 AND at_min@0 < 2000000, required_guarantees=[]
    2 rows; row groups pruned by statistics: 3 total → 1 matched -> 1 fully matched
    ");
}
