use arrow::array::{Int32Array, StringArray, TimestampMicrosecondArray};
use datafusion::prelude::{col, lit};
use deltalake::DeltaTable;
use insta::assert_snapshot;

use super::*;

fn delta(path: &str) -> Source {
    source(path, SourceFormat::Delta)
}

async fn open(folder: &Folder) -> DeltaTable {
    let path = folder.0.path().join("table");
    fs::create_dir_all(&path).unwrap();
    let url = Url::from_directory_path(&path).unwrap();
    DeltaTable::try_from_url(url).await.unwrap()
}

async fn append(folder: &Folder, keys: &[i32]) -> DeltaTable {
    let at: Vec<i64> = keys.iter().map(|k| i64::from(*k)).collect();
    let names: Vec<String> = keys.iter().map(|k| format!("n{k}")).collect();
    let batch = RecordBatch::try_from_iter([
        ("k", array(Int32Array::from(keys.to_vec()))),
        (
            "at",
            array(TimestampMicrosecondArray::from(at).with_timezone("UTC")),
        ),
        ("name", array(StringArray::from(names))),
    ])
    .unwrap();
    open(folder).await.write([batch]).await.unwrap()
}

async fn changes(folder: &Folder, from: u64) -> DeltaChange {
    folder
        .sources()
        .delta_changes(&delta("table"), from)
        .await
        .unwrap()
}

async fn read(folder: &Folder, subset: Subset) -> String {
    let columns = folder
        .sources()
        .schema(&delta("table"))
        .await
        .unwrap()
        .columns;
    table_of(rows_as(folder, &delta("table"), &columns, subset).await)
}

/// The keys in the files that were appended.
async fn appended(folder: &Folder, from: u64) -> (u64, String) {
    match changes(folder, from).await {
        DeltaChange::Appended { to_version, files } => {
            let keys = [("k".to_owned(), "int64".parse().unwrap())];
            let rows = rows_as(folder, &delta("table"), &keys, Subset::DeltaFiles(files))
                .await
                .unwrap();
            let mut keys: Vec<i64> = rows
                .iter()
                .flat_map(|b| {
                    use arrow::array::AsArray;
                    b.column(0)
                        .as_primitive::<arrow::datatypes::Int64Type>()
                        .values()
                        .to_vec()
                })
                .collect();
            keys.sort_unstable();
            (to_version, format!("{keys:?}"))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_delta_table_is_read_as_it_is_and_as_it_was() {
    let folder = Folder::new();
    append(&folder, &[1, 2]).await;
    append(&folder, &[3]).await;
    assert_snapshot!(schema_of(&folder, &delta("table")).await, @"
    k int32
    at timestamp
    name string
    ");
    let state = folder.sources().listing(&delta("table")).await.unwrap();
    assert_eq!(state, SourceState::Delta { version: 1 });
    assert_snapshot!(read(&folder, Subset::All).await, @"
    +---+-----------------------------+------+
    | k | at                          | name |
    +---+-----------------------------+------+
    | 1 | 1970-01-01T00:00:00.000001Z | n1   |
    | 2 | 1970-01-01T00:00:00.000002Z | n2   |
    | 3 | 1970-01-01T00:00:00.000003Z | n3   |
    +---+-----------------------------+------+
    ");
    assert_snapshot!(read(&folder, Subset::State(SourceState::Delta { version: 0 })).await, @"
    +---+-----------------------------+------+
    | k | at                          | name |
    +---+-----------------------------+------+
    | 1 | 1970-01-01T00:00:00.000001Z | n1   |
    | 2 | 1970-01-01T00:00:00.000002Z | n2   |
    +---+-----------------------------+------+
    ");
}

#[tokio::test]
async fn appended_files_are_followed_by_version() {
    let folder = Folder::new();
    append(&folder, &[1, 2]).await;
    append(&folder, &[3]).await;
    append(&folder, &[4, 5]).await;
    assert_eq!(changes(&folder, 2).await, DeltaChange::Unchanged);
    assert_eq!(appended(&folder, 1).await, (2, "[4, 5]".to_owned()));
    assert_eq!(appended(&folder, 0).await, (2, "[3, 4, 5]".to_owned()));
}

#[tokio::test]
async fn compaction_changes_no_rows() {
    let folder = Folder::new();
    append(&folder, &[1]).await;
    append(&folder, &[2]).await;
    append(&folder, &[3]).await;
    let (table, metrics) = open(&folder).await.optimize().await.unwrap();
    assert_eq!((table.version(), metrics.num_files_removed), (Some(3), 3));
    // The files of 2 and 3 are part of no later version than 2, and are still read.
    assert_eq!(appended(&folder, 0).await, (3, "[2, 3]".to_owned()));
    assert_eq!(appended(&folder, 2).await, (3, "[]".to_owned()));
    append(&folder, &[4]).await;
    assert_eq!(appended(&folder, 2).await, (4, "[4]".to_owned()));
}

#[tokio::test]
async fn removed_rows_and_a_lost_log_mean_reading_all() {
    let folder = Folder::new();
    append(&folder, &[1, 2]).await;
    append(&folder, &[3]).await;
    open(&folder)
        .await
        .delete()
        .with_predicate(col("k").eq(lit(2)))
        .await
        .unwrap();
    assert_eq!(
        changes(&folder, 0).await,
        DeltaChange::Rewritten { to_version: 2 }
    );
    assert_eq!(
        changes(&folder, 9).await,
        DeltaChange::Rewritten { to_version: 2 }
    );
    append(&folder, &[4]).await;
    assert_eq!(appended(&folder, 2).await, (3, "[4]".to_owned()));
    // A checkpoint lets old commits be cleaned up; what they did is then not known.
    let mut table = open(&folder).await;
    table.load().await.unwrap();
    deltalake::protocol::checkpoints::create_checkpoint(&table, None)
        .await
        .unwrap();
    for version in 0..2 {
        let commit = format!("table/_delta_log/{version:020}.json");
        fs::remove_file(folder.0.path().join(commit)).unwrap();
    }
    assert_eq!(
        changes(&folder, 0).await,
        DeltaChange::Rewritten { to_version: 3 }
    );
    assert_eq!(appended(&folder, 2).await, (3, "[4]".to_owned()));
}

#[tokio::test]
async fn what_is_no_delta_table_is_said() {
    let folder = Folder::new();
    folder.text("plain/a.parquet", "x");
    assert_snapshot!(schema_of(&folder, &delta("plain")).await, @"`plain` of the source `things` is not a Delta table (it has no `_delta_log`); correct its `path` or its `format`");
    assert_snapshot!(schema_of(&folder, &delta("nowhere")).await, @"the source `things` has no data: there is no file or folder `nowhere`; correct its `path`, or put the data there");
    assert_snapshot!(schema_of(&folder, &delta("plain/*")).await, @"the path `plain/*` of the source `things` is not one that Vintner can open: a Delta table is one folder, not a glob");
    append(&folder, &[1]).await;
    folder.text("table/_delta_log/00000000000000000001.json", "not json\n");
    let error = folder.sources().schema(&delta("table")).await.unwrap_err();
    assert_snapshot!(error, @"the Delta table `table` of the source `things` could not be read");
}

#[tokio::test]
async fn a_delta_source_has_changed_since_it_was_applied() {
    let folder = Folder::new();
    append(&folder, &[1]).await;
    let wanted = |name: &str, t: &str| vec![(name.to_owned(), t.parse().unwrap())];
    let read = |columns: Vec<(String, FeatureType)>| {
        let folder = &folder;
        async move { table_of(rows_as(folder, &delta("table"), &columns, Subset::All).await) }
    };
    assert_snapshot!(read(wanted("nam", "string")).await, @"the source `things` has changed since it was applied: `table` has no column `nam` (it has `name`); write the file with that column, or take it out of the queries and apply again");
    assert_snapshot!(read(wanted("name", "int64")).await, @"the source `things` has changed since it was applied: `name` was int64 and is string in `table`; run `plan` to see what that means and `apply` to accept it, or write the file as before");
}

#[tokio::test]
async fn a_view_over_a_delta_table_is_planned_and_run() {
    use crate::planner::{Catalog, KnownSource, ViewDefinition, plan_view, view_plan};
    use vintner_core::{JoinKey, KeySchema, KeyType, ViewId, ViewVersion};
    use vintner_registry::model::ViewInput;

    let folder = Folder::new();
    append(&folder, &[1, 2]).await;
    let mut declared = delta("table");
    declared.created_timestamp = Some("at".parse().unwrap());
    let (catalog, errors): (Catalog, _) = folder.sources().catalog([declared]).await;
    assert!(errors.is_empty());
    let known: &KnownSource = &catalog["things"];
    let key = JoinKey {
        name: "name".parse().unwrap(),
        key_type: KeyType::String,
    };
    let sql = "SELECT name, at AS event_timestamp, k * 2 AS twice FROM things WHERE k > 1";
    let view = ViewDefinition {
        name: "view".parse().unwrap(),
        entities: Vec::new(),
        join_keys: KeySchema::new(vec![key]).unwrap(),
        input: ViewInput::Query(sql.to_owned()),
        event_timestamp: None,
        created_timestamp: None,
        ttl: None,
        lookback: None,
        near_cache: None,
        contract: Vec::new(),
        offline: true,
        online: true,
        about: About::default(),
    };
    let id = ViewId {
        name: view.name.clone(),
        version: ViewVersion::FIRST,
    };
    let revision = plan_view(&view, &catalog).unwrap().revision(id, Vec::new());
    let columns = &known.source.columns;
    let table = folder
        .sources()
        .table(&known.source, columns, Subset::All)
        .await
        .unwrap();
    let tables = [(known.source.name.clone(), table)].into_iter().collect();
    let plan = view_plan(&revision, &tables).unwrap();
    let rows = engine().execute_logical_plan(plan).await.unwrap();
    assert_snapshot!(table_of(rows.collect().await), @"
    +------+-----------------------------+-----------------------------+-------+
    | name | event_timestamp             | created_timestamp           | twice |
    +------+-----------------------------+-----------------------------+-------+
    | n2   | 1970-01-01T00:00:00.000002Z | 1970-01-01T00:00:00.000002Z | 4     |
    +------+-----------------------------+-----------------------------+-------+
    ");
}
