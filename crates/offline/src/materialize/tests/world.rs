//! A world for tests: a folder of Parquet files and a Delta table with keys, times and values, and the views over them.

use std::{collections::BTreeMap, fs::File, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use datafusion::prelude::SessionContext;
use deltalake::{DeltaTable, protocol::SaveMode};
use futures::TryStreamExt;
use object_store::{ObjectStore, memory::InMemory};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use url::Url;
use vintner_core::{
    FeatureField, FeatureType, JoinKey, KeySchema, KeyType, ProjectName, ScalarType, SourceName,
    Timestamp, Ttl,
};
use vintner_registry::model::{About, Refresh, Source, SourceFormat, ViewInput, ViewRevision};

use super::super::{
    ExpectedRows, KeyRange, MaterializeContext, MaterializeError, MaterializeRequest, OnlineCursor,
    OnlineLoad, RunEvent, ViewRun, materialize_view, online_rows,
};
use crate::{
    delta::{OfflineStore, Table},
    planner::session::{EngineConfig, session},
    sources::Sources,
};

pub(crate) const INT64: FeatureType = FeatureType::Scalar(ScalarType::Int64);
const TIMESTAMP: FeatureType = FeatureType::Scalar(ScalarType::Timestamp);

/// One row of a source file: key, event time, created time, value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) k: Option<i64>,
    pub(crate) at: Option<i64>,
    pub(crate) made: Option<i64>,
    pub(crate) v: Option<i64>,
}

pub(crate) fn row(k: i64, at: i64, v: i64) -> Row {
    Row {
        k: Some(k),
        at: Some(at),
        made: Some(at),
        v: Some(v),
    }
}

/// The rows of a source as a row-local view's table has them, after runs at `now`.
pub(super) fn as_table<'a>(rows: impl IntoIterator<Item = &'a Row>, now: i64) -> Vec<TableRow> {
    let mut table: Vec<_> = rows
        .into_iter()
        .filter_map(|r| Some((r.k?, r.at?, r.made.unwrap_or(now), vec![r.v])))
        .collect();
    table.sort();
    table
}

/// One row of a view's table: key, event time, created time, feature values.
pub(crate) type TableRow = (i64, i64, i64, Vec<Option<i64>>);

pub(crate) fn us(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

pub(crate) struct World {
    folder: TempDir,
    pub(crate) store: OfflineStore,
    pub(crate) sources: Sources,
    pub(crate) declared: BTreeMap<SourceName, Source>,
    pub(crate) session: SessionContext,
    pub(crate) project: ProjectName,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    /// With tables in a given store.
    pub(crate) fn over(objects: Arc<dyn ObjectStore>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("events")).unwrap();
        let session = session(&EngineConfig::default()).unwrap();
        Self {
            sources: Sources::new(folder.path()),
            store: OfflineStore::over(objects, "memory:///offline".parse().unwrap()),
            declared: [
                source("events", false),
                source("names", true),
                delta_source("readings"),
            ]
            .into(),
            session,
            project: "p".parse().unwrap(),
            folder,
        }
    }

    /// The same files and tables, through another store and with a session of its own.
    pub(crate) fn through(&self, objects: Arc<dyn ObjectStore>) -> Through<'_> {
        Through {
            world: self,
            store: OfflineStore::over(objects, "memory:///offline".parse().unwrap()),
            session: session(&EngineConfig::default()).unwrap(),
        }
    }

    /// Writes `events/<name>.parquet`.
    pub(crate) fn write(&self, name: &str, rows: &[Row]) {
        self.write_at(&format!("events/{name}.parquet"), rows);
    }

    /// Writes a file of the world's columns.
    pub(crate) fn write_at(&self, path: &str, rows: &[Row]) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let batch = batch(rows);
        let mut writer =
            ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    /// The Delta table `readings`, which is made when it is not there.
    pub(super) async fn readings(&self) -> DeltaTable {
        let path = self.path("readings");
        std::fs::create_dir_all(&path).unwrap();
        let url = Url::from_directory_path(&path).unwrap();
        DeltaTable::try_from_url(url).await.unwrap()
    }

    /// Writes rows to `readings`.
    pub(super) async fn write_readings(&self, mode: SaveMode, rows: &[Row]) {
        let write = self.readings().await.write([batch(rows)]);
        write.with_save_mode(mode).await.unwrap();
    }

    /// Removes `events/<name>.parquet`.
    pub(crate) fn remove(&self, name: &str) {
        let path = self.folder.path().join(format!("events/{name}.parquet"));
        std::fs::remove_file(path).unwrap();
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn context(&self) -> MaterializeContext<'_> {
        MaterializeContext {
            store: &self.store,
            project: &self.project,
            sources: &self.sources,
            session: &self.session,
        }
    }

    pub(crate) async fn try_run(
        &self,
        view: &ViewRevision,
        request: &MaterializeRequest,
        now: i64,
    ) -> Result<ViewRun, MaterializeError> {
        let ignore = |_: RunEvent<'_>| {};
        materialize_view(
            &self.context(),
            view,
            &self.declared,
            request,
            us(now),
            &ignore,
        )
        .await
    }

    /// An incremental run.
    pub(crate) async fn run(&self, view: &ViewRevision, now: i64) -> ViewRun {
        let request = MaterializeRequest::default();
        self.try_run(view, &request, now).await.unwrap()
    }

    /// A run of a window.
    pub(crate) async fn run_window(
        &self,
        view: &ViewRevision,
        start: i64,
        end: i64,
        now: i64,
    ) -> ViewRun {
        self.try_run(view, &window(start, end), now).await.unwrap()
    }

    pub(crate) fn delta(&self, view: &ViewRevision) -> Table {
        self.store.table(&self.project, &view.id).unwrap()
    }

    /// The rows of a view's table, sorted.
    pub(crate) async fn table(&self, view: &ViewRevision) -> Vec<TableRow> {
        let table = self.store.open_newest(&self.project, view).await.unwrap();
        let table = table.rows().await.unwrap();
        let frame = self.session.read_table(table).unwrap();
        let mut rows: Vec<_> = frame
            .collect()
            .await
            .unwrap()
            .iter()
            .flat_map(rows)
            .collect();
        rows.sort();
        rows
    }

    pub(crate) async fn online(
        &self,
        view: &ViewRevision,
        since: Option<&OnlineCursor>,
        now: i64,
    ) -> (Vec<TableRow>, u64, Option<OnlineCursor>) {
        let load = online_rows(&self.context(), view, since, us(now)).await;
        let OnlineLoad {
            batches,
            rows: count,
            held_back,
            cursor,
            ..
        } = load.unwrap();
        let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
        let mut found: Vec<_> = batches.iter().flat_map(rows).collect();
        found.sort();
        assert_eq!(found.len() as u64, count);
        let cursor = cursor.map(|c| OnlineCursor::from_json(&c.to_json()).unwrap());
        (found, held_back, cursor)
    }

    /// What should be online, from parts of at most `limit` keys, and how many parts that were.
    pub(crate) async fn expected(
        &self,
        view: &ViewRevision,
        limit: usize,
        now: i64,
    ) -> (Vec<TableRow>, u64, usize) {
        let context = self.context();
        let expected = ExpectedRows::newest(&context, view).await.unwrap();
        let (mut found, mut held_back, mut parts) = (Vec::new(), 0, 0);
        let mut rest = Some(KeyRange::ALL);
        while let Some(range) = rest {
            let part = expected.part(range, limit, us(now)).await.unwrap();
            assert!(part.rows <= limit as u64);
            rest = KeyRange::ALL.after(part.range);
            (held_back, parts) = (part.held_back, parts + 1);
            let batches: Vec<RecordBatch> = part.batches.try_collect().await.unwrap();
            found.extend(batches.iter().flat_map(rows));
        }
        found.sort();
        (found, held_back, parts)
    }
}

/// Rows with the columns of the world's sources.
fn batch(rows: &[Row]) -> RecordBatch {
    let ints = |get: fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(Int64Array::from_iter(rows.iter().map(get)))
    };
    let times = |get: fn(&Row) -> Option<i64>| -> ArrayRef {
        let times = TimestampMicrosecondArray::from_iter(rows.iter().map(get));
        Arc::new(times.with_timezone("UTC"))
    };
    RecordBatch::try_from_iter_with_nullable([
        ("k", ints(|r| r.k), true),
        ("at", times(|r| r.at), true),
        ("made", times(|r| r.made), true),
        ("v", ints(|r| r.v), true),
    ])
    .unwrap()
}

/// A world with its tables seen through another store.
pub(crate) struct Through<'a> {
    world: &'a World,
    store: OfflineStore,
    session: SessionContext,
}

impl Through<'_> {
    pub(crate) async fn try_run(
        &self,
        view: &ViewRevision,
        request: &MaterializeRequest,
        now: i64,
    ) -> Result<ViewRun, MaterializeError> {
        let context = MaterializeContext {
            store: &self.store,
            session: &self.session,
            ..self.world.context()
        };
        let declared = &self.world.declared;
        materialize_view(&context, view, declared, request, us(now), &|_| {}).await
    }
}

pub(crate) fn window(start: i64, end: i64) -> MaterializeRequest {
    MaterializeRequest {
        start: Some(us(start)),
        end: Some(us(end)),
        ..Default::default()
    }
}

pub(crate) fn full_refresh() -> MaterializeRequest {
    MaterializeRequest {
        full_refresh: true,
        ..Default::default()
    }
}

pub(crate) fn rows(batch: &RecordBatch) -> Vec<TableRow> {
    let int = |place: usize| batch.column(place).as_primitive::<Int64Type>();
    let time = |place: usize| {
        batch
            .column(place)
            .as_primitive::<TimestampMicrosecondType>()
    };
    let features = |row| {
        (3..batch.num_columns())
            .map(|c| int(c).iter().nth(row).flatten())
            .collect()
    };
    (0..batch.num_rows())
        .map(|i| {
            (
                int(0).value(i),
                time(1).value(i),
                time(2).value(i),
                features(i),
            )
        })
        .collect()
}

fn source(name: &str, is_static: bool) -> (SourceName, Source) {
    let name: SourceName = name.parse().unwrap();
    let columns = [
        ("k", INT64),
        ("at", TIMESTAMP),
        ("made", TIMESTAMP),
        ("v", INT64),
    ];
    let source = Source {
        name: name.clone(),
        path: match is_static {
            true => format!("{name}.parquet"),
            false => name.to_string(),
        },
        format: SourceFormat::Parquet,
        event_timestamp: (!is_static).then(|| "at".parse().unwrap()),
        created_timestamp: None,
        is_static,
        columns: columns.map(|(name, t)| (name.to_owned(), t)).into(),
        about: About::default(),
    };
    (name, source)
}

fn delta_source(name: &str) -> (SourceName, Source) {
    let (name, source) = source(name, false);
    let format = SourceFormat::Delta;
    (name, Source { format, ..source })
}

fn view(name: &str, query: &str, sources: &[&str], features: &[&str]) -> ViewRevision {
    let key = JoinKey {
        name: "k".parse().unwrap(),
        key_type: KeyType::Int64,
    };
    let features = features.iter().map(|name| FeatureField {
        name: name.parse().unwrap(),
        feature_type: INT64,
        default: None,
        description: String::new(),
    });
    ViewRevision {
        id: format!("{name}@1").parse().unwrap(),
        entities: vec!["thing".parse().unwrap()],
        join_keys: KeySchema::new(vec![key]).unwrap(),
        ttl: None,
        input: ViewInput::Query(query.to_owned()),
        sources: sources.iter().map(|s| s.parse().unwrap()).collect(),
        event_timestamp: Some("at".parse().unwrap()),
        created_timestamp: Some("made".parse().unwrap()),
        features: features.collect(),
        definitions: BTreeMap::new(),
        relation: String::new(),
        refresh: Refresh::Windowed,
        refresh_reason: String::new(),
        lookback: None,
        near_cache: None,
        lineage: BTreeMap::new(),
        layouts: Vec::new(),
        offline: true,
        online: true,
        about: About::default(),
    }
}

/// Every row of `events`.
pub(crate) fn row_local() -> ViewRevision {
    ViewRevision {
        refresh: Refresh::RowLocal {
            source: "events".parse().unwrap(),
        },
        ..view(
            "plain",
            "SELECT k, at, made, v FROM events",
            &["events"],
            &["v"],
        )
    }
}

/// Every row of the Delta table `readings`, in a view of that name.
pub(super) fn row_local_over_delta(name: &str) -> ViewRevision {
    ViewRevision {
        refresh: Refresh::RowLocal {
            source: "readings".parse().unwrap(),
        },
        ..view(
            name,
            "SELECT k, at, made, v FROM readings",
            &["readings"],
            &["v"],
        )
    }
}

/// Every row of `events`, with a second feature.
pub(crate) fn row_local_wider() -> ViewRevision {
    ViewRevision {
        refresh: Refresh::RowLocal {
            source: "events".parse().unwrap(),
        },
        ..view(
            "plain",
            "SELECT k, at, made, v, v * 2 AS twice FROM events",
            &["events"],
            &["v", "twice"],
        )
    }
}

/// Every row of `events` with what the static source `names` says of its key.
pub(crate) fn joined() -> ViewRevision {
    let query = "SELECT e.k AS k, e.at AS at, e.made AS made, n.v AS name \
                 FROM events e LEFT JOIN names n ON e.k = n.k";
    ViewRevision {
        refresh: Refresh::RowLocal {
            source: "events".parse().unwrap(),
        },
        ..view("joined", query, &["events", "names"], &["name"])
    }
}

/// The sum of `v` per key and time.
pub(crate) fn windowed(lookback: Option<u64>) -> ViewRevision {
    let query = "SELECT k, at, sum(v) AS total FROM events GROUP BY k, at";
    ViewRevision {
        created_timestamp: None,
        lookback: lookback.and_then(Ttl::from_micros),
        ..view("sums", query, &["events"], &["total"])
    }
}

/// The static source `names`.
pub(crate) fn unchanging() -> ViewRevision {
    ViewRevision {
        event_timestamp: None,
        created_timestamp: None,
        refresh: Refresh::Static {
            source: "names".parse().unwrap(),
        },
        ..view("names", "SELECT k, v FROM names", &["names"], &["v"])
    }
}
