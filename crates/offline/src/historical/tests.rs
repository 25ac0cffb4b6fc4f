//! Datasets from entity rows of many shapes and files, and every mistake in them.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
        LargeStringArray, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
        TimestampNanosecondArray,
    },
    compute::concat_batches,
    datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit},
    ipc::{
        MetadataVersion,
        writer::{FileWriter, IpcWriteOptions},
    },
    util::pretty::pretty_format_batches,
};
use datafusion::{
    error::DataFusionError,
    execution::TaskContext,
    physical_plan::{common, stream::RecordBatchStreamAdapter},
    prelude::SessionContext,
};
use object_store::{ObjectStoreExt, memory::InMemory};
use parquet::arrow::ArrowWriter;
use vintner_core::{Boundary, FeatureField, JoinKey, KeySchema, Knowledge, Value};
use vintner_registry::{
    model::{About, Refresh, ViewInput, ViewRevision},
    selection::{SelectedColumn, Selection},
};

use super::*;
use crate::feature_table::{FeatureFile, FeatureTable};

fn keys(text: &str) -> KeySchema {
    let key = |item: &str| {
        let (name, key_type) = item.split_once(':').unwrap();
        JoinKey {
            name: name.trim().parse().unwrap(),
            key_type: key_type.trim().parse().unwrap(),
        }
    };
    KeySchema::new(text.split(',').map(key).collect()).unwrap()
}

fn view(id: &str, join_keys: &str, ttl: Option<&str>, features: &[(&str, &str)]) -> ViewRevision {
    ViewRevision {
        id: id.parse().unwrap(),
        entities: vec![],
        join_keys: keys(join_keys),
        ttl: ttl.map(|ttl| ttl.parse().unwrap()),
        input: ViewInput::Query(String::new()),
        sources: vec![],
        event_timestamp: None,
        created_timestamp: None,
        features: features
            .iter()
            .map(|(name, feature_type)| FeatureField {
                name: name.parse().unwrap(),
                feature_type: feature_type.parse().unwrap(),
                default: None,
                description: String::new(),
            })
            .collect(),
        definitions: BTreeMap::new(),
        relation: String::new(),
        refresh: Refresh::Windowed,
        refresh_reason: String::new(),
        lookback: None,
        near_cache: None,
        lineage: BTreeMap::new(),
        layouts: vec![],
        offline: true,
        online: true,
        about: About::default(),
    }
}

/// All features of the views, in their order, by their own names.
fn selection(views: Vec<ViewRevision>) -> Selection {
    let columns = views.iter().enumerate().flat_map(|(number, view)| {
        view.features.iter().map(move |feature| SelectedColumn {
            view: number,
            feature: feature.clone(),
            name: feature.name.to_string(),
        })
    });
    Selection {
        columns: columns.collect(),
        views: views.into_iter().map(Arc::new).collect(),
    }
}

fn weather() -> ViewRevision {
    view(
        "weather@1",
        "origin: string",
        Some("6h"),
        &[("temp", "float64"), ("rain", "bool")],
    )
}

fn seats() -> ViewRevision {
    view("seats@2", "plane: int64", None, &[("seats", "int32")])
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn utc(times: &[&str]) -> ArrayRef {
    let times = times.iter().map(|time| {
        let time: vintner_core::Timestamp = time.parse().unwrap();
        time.micros()
    });
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn weather_rows() -> RecordBatch {
    let times = utc(&[
        "2013-01-01T06:00:00Z",
        "2013-01-01T07:00:00Z",
        "2013-01-01T06:00:00Z",
    ]);
    table(vec![
        ("origin", strings(&["JFK", "JFK", "LGA"])),
        ("event_timestamp", ArrayRef::clone(&times)),
        ("created_timestamp", times),
        (
            "temp",
            Arc::new(Float64Array::from(vec![Some(39.0), Some(39.5), None])),
        ),
        (
            "rain",
            Arc::new(BooleanArray::from(vec![false, false, true])),
        ),
    ])
}

fn seats_rows() -> RecordBatch {
    let times = utc(&["0001-01-01T00:00:00Z"]);
    table(vec![
        ("plane", Arc::new(Int64Array::from(vec![7]))),
        ("event_timestamp", ArrayRef::clone(&times)),
        ("created_timestamp", times),
        ("seats", Arc::new(Int32Array::from(vec![180]))),
    ])
}

async fn feature_table(rows: RecordBatch) -> FeatureTable {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let file = FeatureFile {
        path: "part.parquet".to_owned(),
        bytes: bytes.len() as u64,
        rows: None,
        events: None,
    };
    let objects = Arc::new(InMemory::new());
    objects
        .put(&"part.parquet".into(), bytes.into())
        .await
        .unwrap();
    FeatureTable::new("memory:///", objects, vec![file])
}

fn context() -> Arc<TaskContext> {
    SessionContext::new().task_ctx()
}

async fn run(plan: &DatasetPlan, entity_rows: EntityRows) -> Result<RecordBatch, HistoricalError> {
    let mut tables = Vec::new();
    for view in &plan.views {
        tables.push(match view.id.name.as_str() {
            "weather" => feature_table(weather_rows()).await,
            _ => feature_table(seats_rows()).await,
        });
    }
    let run = plan.execute(context(), entity_rows, tables)?;
    let batches = common::collect(run.rows).await?;
    Ok(concat_batches(&plan.schema, &batches).unwrap())
}

fn from_batch(batch: &RecordBatch) -> EntityRows {
    EntityRows::from_batches(batch.schema(), vec![batch.clone()])
}

async fn join(entity_rows: &RecordBatch) -> Result<RecordBatch, HistoricalError> {
    let selection = selection(vec![weather(), seats()]);
    let plan = plan_dataset(
        &selection,
        &DatasetOptions::default(),
        &entity_rows.schema(),
    )?;
    run(&plan, from_batch(entity_rows)).await
}

fn flights() -> RecordBatch {
    table(vec![
        ("flight", strings(&["007", "1545", "1714"])),
        ("origin", strings(&["JFK", "LGA", "JFK"])),
        (
            "plane",
            Arc::new(Int64Array::from(vec![Some(7), Some(8), None])),
        ),
        (
            "event_timestamp",
            utc(&[
                "2013-01-01T06:59:59Z",
                "2013-01-01T12:00:00Z",
                "2013-01-01T13:00:00.000001Z",
            ]),
        ),
    ])
}

fn shown(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch))
        .unwrap()
        .to_string()
}

#[test]
fn a_plan_can_be_read() {
    let mut seats = seats();
    seats.features[0].default = Some(Value::Int32(0));
    let options = DatasetOptions {
        knowledge: Knowledge::Available,
        boundary: Boundary::Before,
        time_column: None,
        split: Some(Split::new("train=0.8,test=0.2", None).unwrap()),
        lint: false,
    };
    let plan = plan_dataset(
        &selection(vec![weather(), seats]),
        &options,
        &flights().schema(),
    );
    insta::assert_snapshot!(plan.unwrap(), @r#"
    time: event_timestamp
    view: weather@1 on (origin) ttl=6h knowledge=available boundary=before
    view: seats@2 on (plane) knowledge=available boundary=before
    column: flight Utf8
    column: origin Utf8
    column: plane Int64
    column: event_timestamp Timestamp(µs, "UTC")
    column: temp Float64 = weather@1:temp
    column: rain Boolean = weather@1:rain
    column: seats Int32 = seats@2:seats or 0
    column: split Utf8
    "#);
}

#[tokio::test]
async fn entity_rows_get_the_features_of_their_moment() {
    insta::assert_snapshot!(shown(&join(&flights()).await.unwrap()), @r#"
    +--------+--------+-------+-----------------------------+------+-------+-------+
    | flight | origin | plane | event_timestamp             | temp | rain  | seats |
    +--------+--------+-------+-----------------------------+------+-------+-------+
    | 007    | JFK    | 7     | 2013-01-01T06:59:59Z        | 39.0 | false | 180   |
    | 1545   | LGA    | 8     | 2013-01-01T12:00:00Z        |      | true  |       |
    | 1714   | JFK    |       | 2013-01-01T13:00:00.000001Z |      |       |       |
    +--------+--------+-------+-----------------------------+------+-------+-------+
    "#);
}

#[tokio::test]
async fn what_was_counted_is_reported() {
    let entity_rows = flights();
    let selection = selection(vec![weather(), seats()]);
    let plan = plan_dataset(
        &selection,
        &DatasetOptions::default(),
        &entity_rows.schema(),
    )
    .unwrap();
    let tables = vec![
        feature_table(weather_rows()).await,
        feature_table(seats_rows()).await,
    ];
    let run = plan
        .execute(context(), from_batch(&entity_rows), tables)
        .unwrap();
    let join = Arc::clone(&run.join);
    insta::assert_snapshot!(run.explain().lines().next().unwrap(), @"PitJoinExec: time=event_timestamp, views=[weather@1 on (origin) ttl=6h, seats@2 on (plane)], outputs=[temp, rain, seats], files=[1, 1]");
    common::collect(run.rows).await.unwrap();
    let counts = join.counts();
    let matched: Vec<_> = counts
        .views
        .iter()
        .map(|view| {
            (
                view.view.to_string(),
                view.pruned.rows_read,
                view.matched_rows,
            )
        })
        .collect();
    assert_eq!((counts.rows, counts.rows_without_key), (3, 1));
    assert_eq!(
        matched,
        [("weather@1".to_owned(), 3, 2), ("seats@2".to_owned(), 1, 1)]
    );
}

/// The columns of the entity rows come out as they went in, whatever the join made of them.
#[tokio::test]
async fn entity_rows_of_other_types_are_joined_and_keep_their_columns() {
    let origins: DictionaryArray<Int32Type> = ["JFK", "JFK", "LGA"].into_iter().collect();
    let hour = 3_600_000_000_000;
    let seven = 1_357_023_600_000_000_000_i64;
    let times = vec![seven - 1, seven, seven - hour];
    for (origins, planes, times) in [
        (
            Arc::new(origins) as ArrayRef,
            Arc::new(Int32Array::from(vec![7, 8, 7])) as ArrayRef,
            Arc::new(TimestampNanosecondArray::from(times)) as ArrayRef,
        ),
        (
            Arc::new(LargeStringArray::from(vec!["JFK", "JFK", "LGA"])),
            Arc::new(arrow::array::UInt64Array::from(vec![7, 8, 7])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![
                    (seven - 1_000) / 1_000,
                    seven / 1_000,
                    (seven - hour) / 1_000,
                ])
                .with_timezone("+09:00"),
            ),
        ),
    ] {
        let entity_rows = table(vec![
            ("origin", origins),
            ("plane", planes),
            ("event_timestamp", times),
        ]);
        let joined = join(&entity_rows).await.unwrap();
        assert_eq!(&joined.columns()[..3], entity_rows.columns());
        let temp: ArrayRef = Arc::new(Float64Array::from(vec![Some(39.0), Some(39.5), None]));
        let rain: ArrayRef = Arc::new(BooleanArray::from(vec![false, false, true]));
        let seats: ArrayRef = Arc::new(Int32Array::from(vec![Some(180), None, Some(180)]));
        assert_eq!(&joined.columns()[3..], [temp, rain, seats]);
    }
}

#[tokio::test]
async fn a_date_asks_about_its_midnight() {
    let days = Date32Array::from(vec![15_706]);
    let entity_rows = table(vec![
        ("origin", strings(&["JFK"])),
        ("plane", Arc::new(Int64Array::from(vec![7]))),
        ("event_timestamp", Arc::new(days)),
    ]);
    let joined = join(&entity_rows).await.unwrap();
    assert_eq!(
        (joined.column(3).null_count(), joined.column(5).null_count()),
        (1, 0)
    );
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_the_users_error() {
    let selection = selection(vec![view(
        "seats@2",
        "plane: int32",
        None,
        &[("seats", "int32")],
    )]);
    let planes = Int64Array::from(vec![1, 5_000_000_000]);
    let entity_rows = table(vec![
        ("plane", Arc::new(planes)),
        ("event_timestamp", utc(&["2013-01-01", "2013-01-01"])),
    ]);
    let plan = plan_dataset(
        &selection,
        &DatasetOptions::default(),
        &entity_rows.schema(),
    )
    .unwrap();
    let rows = table(vec![
        ("plane", Arc::new(Int32Array::from(vec![7]))),
        ("event_timestamp", utc(&["2013-01-01"])),
        ("created_timestamp", utc(&["2013-01-01"])),
        ("seats", Arc::new(Int32Array::from(vec![180]))),
    ]);
    let tables = vec![feature_table(rows).await];
    let run = plan
        .execute(context(), from_batch(&entity_rows), tables)
        .unwrap();
    let err = common::collect(run.rows).await.unwrap_err();
    let err = HistoricalError::from(err);
    assert!(matches!(err, HistoricalError::EntityValue(_)), "{err:?}");
    insta::assert_snapshot!(err, @"entity row 2 has `5000000000` in the column `plane`, which does not fit its join key's type int32; correct or leave out that row");
}

/// What is wrong with entity rows of these columns.
fn wrong(columns: &[(&str, DataType)], time_column: Option<&str>) -> String {
    let fields = columns
        .iter()
        .map(|(name, t)| Field::new(*name, t.clone(), true));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = DatasetOptions {
        time_column: time_column.map(str::to_owned),
        ..DatasetOptions::default()
    };
    let planned = plan_dataset(&selection(vec![weather(), seats()]), &options, &schema);
    match planned {
        Ok(plan) => format!("time is {}", plan.join.time_column),
        Err(err) => err.to_string(),
    }
}

/// What is wrong with a split of entity rows that have more columns than they must.
fn wrong_split(split: &str, by: Option<&[&str]>, more: &[(&str, DataType)]) -> String {
    let by = by.map(|columns| columns.iter().map(|c| c.parse().unwrap()).collect());
    let mut fields = flights().schema().fields().to_vec();
    fields.extend(
        more.iter()
            .map(|(name, t)| Arc::new(Field::new(*name, t.clone(), true))),
    );
    let options = DatasetOptions {
        split: Some(Split::new(split, by).unwrap()),
        ..DatasetOptions::default()
    };
    let schema = Arc::new(Schema::new(fields));
    match plan_dataset(&selection(vec![weather(), seats()]), &options, &schema) {
        Ok(plan) => format!(
            "the last column is {}",
            plan.schema.fields().last().unwrap()
        ),
        Err(err) => err.to_string(),
    }
}

#[test]
fn every_mistake_in_a_split_is_named() {
    let fractions = "train=0.5,test=0.5";
    insta::assert_snapshot!(wrong_split(fractions, Some(&["flights", "event_timestamp", "score"]), &[("score", DataType::Float32)]), @"
    the column `event_timestamp` of the entity rows is of type Timestamp(µs, \"UTC\"), which rows cannot be split by; give booleans, integers, text or bytes
    the entity rows have no column `flights`, which they shall be split by; did you mean `flight`?
    the column `score` of the entity rows is of type Float32, which rows cannot be split by; give booleans, integers, text or bytes
    ");
    insta::assert_snapshot!(wrong_split("a=2013-01-01,b", None, &[("split", DataType::Utf8)]), @"a split adds the column `split`, and the training rows have one of that name already; rename it in the entity rows, or ask for `view__feature` names with --full-names if it is a feature");
    insta::assert_snapshot!(wrong_split(fractions, Some(&["flight"]), &[]), @"the last column is Field { \"split\": nullable Utf8 }");
}

#[tokio::test]
async fn a_split_is_the_last_column_of_the_rows() {
    let flights = flights();
    let options = |split: &str| DatasetOptions {
        split: Some(Split::new(split, None).unwrap()),
        ..DatasetOptions::default()
    };
    let selection = selection(vec![weather(), seats()]);
    let made = async |split: &str| {
        let plan = plan_dataset(&selection, &options(split), &flights.schema()).unwrap();
        run(&plan, from_batch(&flights)).await.unwrap()
    };
    let plain = join(&flights).await.unwrap();
    let by_time = made("train=2013-01-01T12:00:00Z,test").await;
    assert_eq!(&by_time.columns()[..plain.num_columns()], plain.columns());
    let part = by_time.columns().last().unwrap();
    assert_eq!(part, &strings(&["train", "test", "test"]));
    // The second and the third row have other keys; all the columns of all views decide.
    let by_key = made("a=0.5,b=0.5").await;
    assert_eq!(by_key.schema().fields().last().unwrap().name(), "split");
    assert_eq!(by_key.columns().last().unwrap().null_count(), 0);
}

const TIME: DataType = DataType::Timestamp(TimeUnit::Second, None);

#[test]
fn every_mistake_in_the_columns_is_named() {
    use DataType::{Date32, Float64, Int32, Int64, List, Utf8};
    let (origin, plane) = (("origin", Utf8), ("plane", Int64));
    insta::assert_snapshot!(wrong(&[("orign", Utf8), plane.clone(), ("event_timestamp", TIME)], None), @"the entity rows have no column `origin`, the join key of `weather@1`; did you mean `orign`?");
    insta::assert_snapshot!(wrong(&[("event_timestamp", TIME)], None), @r#"
    the entity rows have no column `origin`, the join key of `weather@1`; there is `event_timestamp`
    the entity rows have no column `plane`, the join key of `seats@2`; there is `event_timestamp`
    "#);
    insta::assert_snapshot!(wrong(&[origin.clone(), ("plane", Float64), ("event_timestamp", TIME)], None), @"the column `plane` of the entity rows is of type Float64, but it is the int64 join key of `seats@2`; cast it");
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone()], None), @"the entity rows have no timestamp column; add one, `event_timestamp`, with the moment that each row asks about");
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("a", TIME), ("b", TIME), ("c", Date32)], None), @"the entity rows have several timestamp columns, `a` and `b`; say which one with --timestamp-column, or name it `event_timestamp`");
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("depature", TIME)], Some("departure")), @"the entity rows have no column `departure`, which was named as their time; did you mean `depature`?");
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("event_timestamp", Utf8), ("b", TIME)], None), @"the column `event_timestamp` of the entity rows is of type Utf8, which is no time; parse it into a timestamp; in a CSV file, write every time like 2013-01-01T06:00:00Z");
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("when", Int64)], Some("when")), @"the column `when` of the entity rows is of type Int64, which is no time; convert it to a timestamp, since a number does not say its unit");
    let list = List(Arc::new(Field::new("item", TIME, true)));
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("when", list)], Some("when")), @"the column `when` of the entity rows is of type List(Timestamp(s)), which is no time; give a timestamp or a date");
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("event_timestamp", TIME), ("temp", Float64)], None), @"the entity rows have a column `temp`, and so has the result; rename theirs, or ask for `view__feature` names with --full-names");
    let full = EntityRowsProblem::Collision {
        name: "weather__temp".to_owned(),
        is_full: true,
    };
    insta::assert_snapshot!(full, @"the entity rows have a column `weather__temp`, and so has the result; rename theirs");
    insta::assert_snapshot!(wrong(&[origin.clone(), origin.clone(), ("event_timestamp", TIME)], None), @r#"
    the entity rows have two columns `origin`; rename or leave out one of them
    the entity rows have no column `plane`, the join key of `seats@2`; there are `origin`, `origin` and `event_timestamp`
    "#);
    // Those that are right.
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("event_timestamp", Date32), ("b", TIME)], None), @"time is event_timestamp");
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("day", Date32), ("b", TIME)], None), @"time is b");
    insta::assert_snapshot!(wrong(&[origin.clone(), plane.clone(), ("day", Date32), ("b", TIME)], Some("day")), @"time is day");
    insta::assert_snapshot!(wrong(&[origin, ("plane", Int32), ("a", TIME), ("b", TIME)], Some("a")), @"time is a");
}

/// The message and all its causes, without the folder.
fn chain(err: &dyn std::error::Error, folder: &Path) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(&format!(": {err}"));
        cause = err.source();
    }
    text.replace(
        &folder.canonicalize().unwrap().display().to_string(),
        "FOLDER",
    )
    .replace(&folder.display().to_string(), "FOLDER")
}

async fn write(path: &Path, rows: &RecordBatch) -> Result<Written, HistoricalError> {
    let batches = futures::stream::iter([Ok(rows.clone())]);
    let stream = RecordBatchStreamAdapter::new(rows.schema(), batches);
    ResultFile::prepare(path, &rows.schema())?
        .write(Box::pin(stream))
        .await
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn rows_go_into_a_file_of_every_format_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let selection = selection(vec![weather(), seats()]);
    let want = join(&flights()).await.unwrap();
    for name in [
        "rows.parquet",
        "rows.csv",
        "rows.arrow",
        "rows.feather",
        "rows.IPC",
    ] {
        let path = folder.path().join(name);
        let written = write(&path, &flights()).await.unwrap();
        assert_eq!(
            (written.rows, written.bytes),
            (3, fs::metadata(&path).unwrap().len())
        );
        let keys = selection.join_keys().unwrap();
        let entity_rows = EntityRows::open(&path, keys.join_keys()).await.unwrap();
        let schema = SchemaRef::clone(entity_rows.schema());
        let plan = plan_dataset(&selection, &DatasetOptions::default(), &schema).unwrap();
        let joined = run(&plan, entity_rows).await.unwrap();
        assert_eq!(joined.columns(), want.columns(), "{name}");
    }
    assert_eq!(files(folder.path()).len(), 5, "nothing else is left");
}

/// In one batch or in several, and in files of the older form, whose messages begin otherwise.
#[tokio::test]
async fn a_file_tells_how_many_rows_it_has_unless_it_is_text() {
    let folder = tempfile::tempdir().unwrap();
    for rows in [0, 1, 70_000] {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let batch = RecordBatch::try_from_iter([("plane", numbers)]).unwrap();
        let rows = batch.num_rows() as u64;
        for (name, want) in [
            ("a.parquet", Some(rows)),
            ("a.arrow", Some(rows)),
            ("a.csv", None),
        ] {
            let path = folder.path().join(name);
            write(&path, &batch).await.unwrap();
            let keys = keys("plane: int64");
            let opened = EntityRows::open(&path, keys.join_keys()).await.unwrap();
            assert_eq!(opened.count(), want, "{name}");
        }
        let path = folder.path().join("older.arrow");
        let older = IpcWriteOptions::try_new(64, true, MetadataVersion::V4).unwrap();
        let file = fs::File::create(&path).unwrap();
        let mut writer = FileWriter::try_new_with_options(file, &batch.schema(), older).unwrap();
        for _ in 0..3 {
            writer.write(&batch).unwrap();
        }
        writer.finish().unwrap();
        let opened = EntityRows::open(&path, &[]).await.unwrap();
        assert_eq!(opened.count(), Some(3 * rows));
    }
}

#[tokio::test]
async fn an_empty_result_has_its_columns_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let empty = RecordBatch::new_empty(flights().schema());
    for name in ["none.parquet", "none.csv", "none.arrow"] {
        let path = folder.path().join(name);
        assert_eq!(write(&path, &empty).await.unwrap().rows, 0);
        let entity_rows = EntityRows::open(&path, &[]).await.unwrap();
        let names: Vec<_> = entity_rows
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        assert_eq!(
            names,
            ["flight", "origin", "plane", "event_timestamp"],
            "{name}"
        );
    }
}

#[tokio::test]
async fn columns_of_a_csv_file_are_read_as_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    let text = "code,count,share,day,at,zoned,mixed,flag,none,origin,big\n\
        007,1,0.5,2013-01-01,2013-01-01T06:00:00,2013-01-01 06:00:00+01:00,1,true,,1,9223372036854775808\n\
        ,,,,,,,,,,\n\
        010,-2,3,2013-01-02,2013-01-01 06:00:00.5,2013-01-01T06:00:00Z,x,false,,2,1\n";
    fs::write(&path, text).unwrap();
    let keys = keys("origin: string");
    let entity_rows = EntityRows::open(&path, keys.join_keys()).await.unwrap();
    let types: Vec<_> = entity_rows
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{}: {}", field.name(), field.data_type()))
        .collect();
    insta::assert_snapshot!(types.join("\n"), @r#"
    code: Utf8
    count: Int64
    share: Float64
    day: Date32
    at: Timestamp(µs)
    zoned: Timestamp(µs, "UTC")
    mixed: Utf8
    flag: Boolean
    none: Null
    origin: Utf8
    big: Utf8
    "#);
    let plan = entity_rows.into_plan().unwrap();
    let context = SessionContext::new().task_ctx();
    let batches = common::collect(plan.execute(0, context).unwrap())
        .await
        .unwrap();
    insta::assert_snapshot!(shown(&batches[0]), @r#"
    +------+-------+-------+------------+-------------------------+----------------------+-------+-------+------+--------+---------------------+
    | code | count | share | day        | at                      | zoned                | mixed | flag  | none | origin | big                 |
    +------+-------+-------+------------+-------------------------+----------------------+-------+-------+------+--------+---------------------+
    | 007  | 1     | 0.5   | 2013-01-01 | 2013-01-01T06:00:00     | 2013-01-01T05:00:00Z | 1     | true  |      | 1      | 9223372036854775808 |
    |      |       |       |            |                         |                      |       |       |      |        |                     |
    | 010  | -2    | 3.0   | 2013-01-02 | 2013-01-01T06:00:00.500 | 2013-01-01T06:00:00Z | x     | false |      | 2      | 1                   |
    +------+-------+-------+------------+-------------------------+----------------------+-------+-------+------+--------+---------------------+
    "#);
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("whole.parquet"), &flights()).await.unwrap();
    write(&at("whole.arrow"), &flights()).await.unwrap();
    for name in ["parquet", "arrow"] {
        let bytes = fs::read(at(&format!("whole.{name}"))).unwrap();
        fs::write(at(&format!("cut.{name}")), &bytes[..bytes.len() / 2]).unwrap();
        fs::write(at(&format!("empty.{name}")), "").unwrap();
    }
    fs::write(at("empty.csv"), "").unwrap();
    fs::write(at("ragged.csv"), "a,b\n1,2\n3\n").unwrap();
    fs::write(at("rows.xlsx"), "").unwrap();
    let keys = keys("plane: int64");
    let mut messages = Vec::new();
    for name in [
        "rows.xlsx",
        "missing.parquet",
        "empty.parquet",
        "cut.parquet",
        "empty.arrow",
        "cut.arrow",
        "empty.csv",
        "ragged.csv",
    ] {
        match EntityRows::open(&at(name), keys.join_keys()).await {
            Ok(_) => messages.push(format!("{name} is read")),
            Err(err) => messages.push(chain(&err, folder.path())),
        }
    }
    insta::assert_snapshot!(messages.join("\n"), @r#"
    `FOLDER/rows.xlsx` does not end in .parquet, .csv, .arrow, .feather or .ipc, so its format is not known
    could not read the entity rows in `FOLDER/missing.parquet`: No such file or directory (os error 2)
    could not read the entity rows in `FOLDER/empty.parquet`: the file is empty
    could not read the entity rows in `FOLDER/cut.parquet`: Parquet error: Invalid Parquet file. Corrupt footer
    could not read the entity rows in `FOLDER/empty.arrow`: the file is empty
    could not read the entity rows in `FOLDER/cut.arrow`: Parser error: Arrow file does not contain correct footer
    could not read the entity rows in `FOLDER/empty.csv`: the file is empty
    could not read the entity rows in `FOLDER/ragged.csv`: Csv error: incorrect number of fields for line 3, expected 2 got 1
    "#);
}

#[tokio::test]
async fn a_value_in_a_csv_file_that_is_no_key_is_named_with_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    fs::write(&path, "plane,flag\n007,True\nN14228,no\n").unwrap();
    let open = async |key: &str| {
        let opened = EntityRows::open(&path, keys(key).join_keys()).await;
        opened.unwrap_err().to_string()
    };
    insta::assert_snapshot!(open("plane: int64").await, @"entity row 2 has `N14228` in the column `plane`, which does not fit its join key's type int64; correct or leave out that row");
    insta::assert_snapshot!(open("flag: bool").await, @"entity row 2 has `no` in the column `flag`, which does not fit its join key's type bool; correct or leave out that row");
}

/// There is nothing in a file of a header line alone that could have a type, and nothing that could be wrong.
#[tokio::test]
async fn a_csv_file_without_rows_fits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    fs::write(&path, "origin,plane,event_timestamp\n").unwrap();
    let selection = selection(vec![weather(), seats()]);
    let keys = selection.join_keys().unwrap();
    let entity_rows = EntityRows::open(&path, keys.join_keys()).await.unwrap();
    let schema = SchemaRef::clone(entity_rows.schema());
    let plan = plan_dataset(&selection, &DatasetOptions::default(), &schema).unwrap();
    let joined = run(&plan, entity_rows).await.unwrap();
    assert_eq!((joined.num_rows(), joined.num_columns()), (0, 6));
    let out = folder.path().join("out.parquet");
    write(&out, &joined).await.unwrap();
    assert_eq!(
        EntityRows::open(&out, &[])
            .await
            .unwrap()
            .schema()
            .fields()
            .len(),
        6
    );
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_refused_before_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let lists = table(vec![("l", Arc::new(lists))]).schema();
    let refused = |name: &str, schema: &SchemaRef| {
        let refused = ResultFile::prepare(&folder.path().join(name), schema).unwrap_err();
        chain(&refused, folder.path())
    };
    insta::assert_snapshot!(refused("lists.csv", &lists), @"a CSV file cannot hold the column `l` of type List(Int32); write Parquet or Arrow instead");
    insta::assert_snapshot!(refused("lists.txt", &lists), @"`FOLDER/lists.txt` does not end in .parquet, .csv, .arrow, .feather or .ipc, so its format is not known");
    insta::assert_snapshot!(refused("missing/lists.parquet", &lists), @"could not write the result to `FOLDER/missing/lists.parquet`: No such file or directory (os error 2)");
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn a_run_that_fails_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["rows.parquet", "rows.csv", "rows.arrow"] {
        let path = folder.path().join(name);
        fs::write(&path, "old").unwrap();
        let schema = flights().schema();
        let broken = [
            Ok(flights()),
            Err(DataFusionError::Execution("the disk is gone".into())),
        ];
        let broken = RecordBatchStreamAdapter::new(schema.clone(), futures::stream::iter(broken));
        let file = ResultFile::prepare(&path, &schema).unwrap();
        let err = file.write(Box::pin(broken)).await.unwrap_err();
        assert_eq!(
            chain(&err, folder.path()),
            "could not join the entity rows: Execution error: the disk is gone"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
    assert_eq!(
        files(folder.path()),
        ["rows.arrow", "rows.csv", "rows.parquet"]
    );
}

#[tokio::test]
async fn a_result_that_is_not_waited_for_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let schema = flights().schema();
    let endless = futures::stream::repeat_with(|| Ok(flights()));
    let endless = RecordBatchStreamAdapter::new(schema.clone(), endless);
    let file = ResultFile::prepare(&folder.path().join("rows.parquet"), &schema).unwrap();
    let given_up = tokio::time::timeout(
        std::time::Duration::from_millis(20),
        file.write(Box::pin(endless)),
    );
    assert!(given_up.await.is_err());
    // The writer's thread ends when nothing is sent to it any more, and takes its file with it.
    while !files(folder.path()).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn entity_rows_that_came_as_a_stream_are_read_once() {
    let batches = futures::stream::iter([Ok(flights())]);
    let stream = RecordBatchStreamAdapter::new(flights().schema(), batches);
    let plan = EntityRows::from_stream(Box::pin(stream))
        .into_plan()
        .unwrap();
    let context = SessionContext::new().task_ctx();
    let first = common::collect(plan.execute(0, Arc::clone(&context)).unwrap()).await;
    assert_eq!(first.unwrap(), [flights()]);
    assert!(
        common::collect(plan.execute(0, context).unwrap())
            .await
            .is_err()
    );
}
