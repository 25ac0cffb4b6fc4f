//! A small deployment for tests: one view, a source in files, a clock that is moved by hand.

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::Int64Type,
};
use futures::{StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;
use vintner_core::{Boundary, Clock, Column, FeatureType, Knowledge, ScalarType, Timestamp, Value};
use vintner_online::Status;
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_repo::RepoFile;

use crate::{
    Local, Operations, OpsError,
    api::{
        After, DeleteRequest, EntityColumn, EntityRows, HistoricalRequest, MaterializeRequest,
        OnlineRequest, OnlineResponse, Producer, PushReport, PushRequest, Scope, Spine, WriteToken,
    },
};

/// The view has two features, which are always the same.
const REPO: &str = "\
kind: entity
name: thing
join_keys: {k: int64}
---
kind: source
name: events
path: events
format: csv
event_timestamp: at
created_timestamp: made
---
kind: feature_view
name: readings
entities: [thing]
source: events
features:
  v: {type: int64}
  w: {type: int64}
";

/// The files of a deployment.
const DEPLOYMENT: &str = "vintner.yaml";
const FEATURES: &str = "features.yaml";

/// An entity that has a row in every source, so that there is one to plan with.
pub(super) const SOMEBODY: i64 = 99;

/// A moment after 1970, so that there is time before it.
pub(super) const START: i64 = 1_000_000_000_000_000;

/// A clock that is moved by hand.
#[derive(Debug)]
pub(super) struct ByHand(AtomicI64);

impl Clock for ByHand {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

impl ByHand {
    /// A clock that shows this.
    pub(super) fn at(micros: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(micros)))
    }

    pub(super) fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}

/// Key, event time, created time, value.
pub(super) type Row = (i64, i64, i64, Option<i64>);

/// A deployment in a folder of its own.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<ByHand>,
    pub(super) local: Local,
}

impl World {
    /// With the embedded online store and a ttl of 40 microseconds.
    pub(super) async fn new() -> Self {
        let online = "{type: embedded, path: o}";
        Self::with("p", online, "ttl: 40us", START).await
    }

    /// A project with an online store, and more lines of its view, at a moment.
    pub(super) async fn with(project: &str, online: &str, view: &str, now: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let deployment =
            format!("project: {project}\nregistry: r\noffline_store: t\nonline_store: {online}\n");
        let features = REPO.replace(
            "source: events\nfeatures:",
            &format!("source: events\n{view}\nfeatures:"),
        );
        fs::write(folder.path().join(DEPLOYMENT), deployment).unwrap();
        fs::write(folder.path().join(FEATURES), features).unwrap();
        let clock = ByHand::at(now);
        let world = Self {
            local: open(folder.path(), &clock),
            folder,
            clock,
        };
        world.source("a", &[(SOMEBODY, now - 1, now - 1, Some(0))]);
        let files = files(world.folder.path());
        let plan = world.local.plan(&files).await.unwrap();
        let base = plan
            .changes
            .unwrap_or_else(|| panic!("{:?}", plan.problems))
            .base;
        world.local.apply(&files, base, "t").await.unwrap();
        world
    }

    /// The same deployment, opened anew.
    pub(super) fn reopened(self) -> Self {
        drop(self.local);
        Self {
            local: open(self.folder.path(), &self.clock),
            ..self
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().micros()
    }

    /// Writes a file of the source.
    pub(super) fn source(&self, name: &str, rows: &[Row]) {
        let time = |micros: i64| Timestamp::from_micros(micros).to_string();
        let mut text = "k,at,made,v,w\n".to_owned();
        for (k, at, made, v) in rows {
            let v = v.map_or(String::new(), |v| v.to_string());
            text += &format!("{k},{},{},{v},{v}\n", time(*at), time(*made));
        }
        fs::create_dir_all(self.folder.path().join("events")).unwrap();
        fs::write(self.folder.path().join(format!("events/{name}.csv")), text).unwrap();
    }

    pub(super) async fn materialize(&self, scope: Scope) {
        run(&self.local, scope, None).await.unwrap();
    }

    /// What is online of an entity.
    pub(super) async fn online(
        &self,
        k: i64,
        after: After,
    ) -> Result<(Status, Option<i64>), OpsError> {
        let response = online(&self.local, &[k], after).await?;
        let column = &response.features[0];
        let value = match column.values.get(0) {
            Some(Value::Int64(v)) => Some(v),
            _ => None,
        };
        Ok((column.statuses[0], value))
    }

    /// The value of the view for every key and moment.
    pub(super) async fn historical(
        &self,
        asked: &[(i64, i64)],
        after: Vec<WriteToken>,
    ) -> Result<Vec<Option<i64>>, OpsError> {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(asked.iter().map(|a| a.0)));
        let times = TimestampMicrosecondArray::from_iter_values(asked.iter().map(|a| a.1));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let rows = RecordBatch::try_from_iter([("k", keys), ("event_timestamp", times)]).unwrap();
        let request = HistoricalRequest {
            features: features(),
            names: NameStyle::Short,
            knowledge: Knowledge::Event,
            boundary: Boundary::At,
            timestamp_column: None,
            split: None,
            save: None,
            lint: false,
            after,
        };
        let spine = Spine::Rows(EntityRows {
            schema: rows.schema(),
            batches: futures::stream::iter([Ok(rows)]).boxed(),
        });
        let rows = self.local.get_historical(&request, spine).await?;
        let batches: Vec<RecordBatch> = rows.batches.try_collect().await?;
        let values = batches.iter().flat_map(|batch| {
            let column = batch.column_by_name("v").unwrap();
            let column = column.as_primitive::<Int64Type>();
            (0..column.len())
                .map(|row| column.is_valid(row).then(|| column.value(row)))
                .collect::<Vec<_>>()
        });
        Ok(values.collect())
    }
}

fn features() -> FeatureRequest {
    FeatureRequest::Features(vec!["readings".parse().unwrap()])
}

/// Opens a deployment's folder.
pub(super) fn open(folder: &Path, clock: &Arc<ByHand>) -> Local {
    let memory = NonZeroUsize::new(1 << 30).unwrap();
    let clock: Arc<dyn Clock> = Arc::<ByHand>::clone(clock);
    Local::open(folder, &files(folder), clock, memory).unwrap()
}

fn files(folder: &Path) -> Vec<RepoFile> {
    let read = |name: &str| RepoFile {
        path: name.to_owned(),
        text: fs::read_to_string(folder.join(name)).unwrap(),
    };
    vec![read(DEPLOYMENT), read(FEATURES)]
}

/// A run of all views.
pub(super) async fn run(
    local: &Local,
    scope: Scope,
    window: Option<(i64, i64)>,
) -> Result<(), OpsError> {
    let at = Timestamp::from_micros;
    let request = MaterializeRequest {
        views: vec![],
        window: window.map(|(start, end)| (at(start), at(end))),
        scope,
    };
    local.materialize(&request, &|_| {}).await.map(drop)
}

/// What is online of entities.
pub(super) async fn online(
    local: &Local,
    keys: &[i64],
    after: After,
) -> Result<OnlineResponse, OpsError> {
    let values = keys.iter().map(|k| Some(Value::Int64(*k)));
    let request = OnlineRequest {
        features: features(),
        names: NameStyle::Short,
        entities: vec![EntityColumn {
            name: "k".to_owned(),
            values: Column::of(FeatureType::Scalar(ScalarType::Int64), values).unwrap(),
        }],
        after,
    };
    local.get_online(request).await
}

pub(super) fn request(rows: &[Row], producer: Option<(&str, u64)>) -> PushRequest {
    let ints = |get: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(get)))
    };
    let times = |get: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(get),
        ))
    };
    let values: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.3)));
    PushRequest {
        view: "readings".parse().unwrap(),
        version: None,
        rows: RecordBatch::try_from_iter_with_nullable([
            ("v", Arc::clone(&values), true),
            ("w", values, true),
            ("created_timestamp", times(|r| r.2), true),
            ("event_timestamp", times(|r| r.1), true),
            ("k", ints(|r| r.0), true),
        ])
        .unwrap(),
        producer: producer.map(|(name, sequence)| Producer {
            name: name.to_owned(),
            sequence,
        }),
    }
}

/// The join keys of entities.
pub(super) fn entities(keys: &[i64]) -> Vec<EntityColumn> {
    let values = keys.iter().map(|k| Some(Value::Int64(*k)));
    vec![EntityColumn {
        name: "k".to_owned(),
        values: Column::of(FeatureType::Scalar(ScalarType::Int64), values).unwrap(),
    }]
}

/// Deletes entities of the view.
pub(super) fn deletion(keys: &[i64]) -> DeleteRequest {
    DeleteRequest {
        target: "readings".parse().unwrap(),
        entities: entities(keys),
        dry_run: false,
        author: "ann".to_owned(),
    }
}

pub(super) async fn push(local: &Local, rows: &[Row]) -> PushReport {
    local.push(&request(rows, None)).await.unwrap()
}

pub(super) fn after(token: &WriteToken) -> After {
    After {
        tokens: vec![token.clone()],
        patience: Duration::ZERO,
    }
}
