//! Operations that pretend: every answer is made of the arguments, and has every shape that answers have.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use arrow::{
    array::{ArrayRef, DictionaryArray, Float64Array, RecordBatch, StringArray, UInt64Array},
    datatypes::{DataType, Field, Int32Type, Schema, SchemaRef},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use prost::Message as _;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use vintner_core::{
    Boundary, Column, DatasetName, FeatureField, FeatureType, JoinKey, KeySchema, KeyType,
    Knowledge, RegistryVersion, ScalarType, Timestamp, Value, ViewName, arrow_values,
    waiting::{On, waiting},
};
use vintner_online::Status;
use vintner_ops::{
    Fault, Operations, OpsError,
    api::{
        ApplyReport, Change, Changes, CheckReport, Checkup, Dataset, DeleteRequest, Deleted,
        Detail, Difference, EntitiesDeleted, EntityRows, Example, FeatureLint, FolderVacuum,
        Health, HistoricalReport, HistoricalRequest, KeptRows, KeysSeen, Lint, MaterializeEvent,
        MaterializeRequest, ObjectKind, OnlineColumn, OnlineRequest, OnlineResponse, OnlineView,
        Phase, PinnedFile, PlanReport, Problem, PushOutcome, PushReport, PushRequest, ResultRows,
        Run, ServiceColumn, Severity, Spine, Split, Summary, TableRead, TeardownRequest,
        TrainingRows, VacuumRequest, Vacuumed, VacuumedFile, VerifyRequest, Version,
        ViewCompaction, ViewDeletion, ViewDetail, ViewLint, ViewRun, ViewTeardown, ViewVacuum,
        ViewVerification, Work,
    },
    lint::findings,
};
use vintner_registry::{
    model::{
        About, Entity, FeatureService, Layout, Refresh, Source, SourceColumn, SourceFormat,
        ViewInput, ViewRevision,
    },
    selection::{FeatureRequest, NameStyle},
};
use vintner_repo::RepoFile;

use crate::convert::Travels as _;

/// What a join has counted.
fn lint() -> Lint {
    let view = ViewLint {
        view: "weather@2".to_owned(),
        ttl: Some("6h".to_owned()),
        created_timestamp: None,
        first_event: Some("2013-01-01T00:00:00Z".to_owned()),
        rows_late: 3,
        features: vec![FeatureLint {
            feature: "temp".to_owned(),
            column: "weather__temp".to_owned(),
            rows_null: 1,
            has_default: true,
        }],
        ..ViewLint::default()
    };
    Lint {
        findings: findings(3, std::slice::from_ref(&view)),
        views: vec![view],
    }
}

/// What a fake does when it is called.
#[derive(Clone)]
pub(super) enum Mood {
    Answer,
    Fail(Fault, &'static str, Option<&'static str>),
    Panic,
    /// Waits at the gate, in the middle of what it does.
    Wait(Arc<Gate>),
    /// Likewise, and says that it waits for this.
    WaitFor(Arc<Gate>, On),
}

/// Where work waits in the midst of a call.
pub(super) struct Gate {
    /// Gets a permit for each call that has come here.
    pub(super) entered: Semaphore,
    /// A permit lets one call go on.
    pub(super) open: Semaphore,
    /// Cancelled once a call's work is dropped or done.
    pub(super) left: CancellationToken,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            entered: Semaphore::new(0),
            open: Semaphore::new(0),
            left: CancellationToken::new(),
        })
    }

    async fn pass(&self) {
        let _left: DropGuard = self.left.clone().drop_guard();
        self.entered.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }
}

pub(super) struct Fake {
    mood: Mutex<Mood>,
    /// The arguments of every call, in words.
    calls: Mutex<Vec<String>>,
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        Self::in_mood(Mood::Answer)
    }

    pub(super) fn in_mood(mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(mood),
            calls: Mutex::default(),
        })
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn mood(&self) -> Mood {
        self.mood.lock().unwrap().clone()
    }

    /// The calls so far, which are forgotten.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    async fn called(&self, call: String) -> Result<(), OpsError> {
        self.calls.lock().unwrap().push(call);
        let mood = self.mood();
        match mood {
            Mood::Answer => Ok(()),
            Mood::Fail(fault, message, cause) => Err(OpsError {
                fault,
                message: message.to_owned(),
                source: cause.map(Into::into),
            }),
            Mood::Panic => panic!("the fake panics"),
            Mood::Wait(gate) => {
                gate.pass().await;
                Ok(())
            }
            Mood::WaitFor(gate, on) => {
                waiting(&on, gate.pass()).await;
                Ok(())
            }
        }
    }
}

fn problem(file: &RepoFile, severity: Severity) -> Problem {
    Problem {
        severity,
        code: "repo::unknown_field".to_owned(),
        message: format!("unknown field `é` in {} bytes", file.text.len()),
        help: "did you mean `e`?".to_owned(),
        file: file.path.clone(),
        line: 3,
        column: 14,
        rendered: "  × unknown field\n  ╰── here".to_owned(),
    }
}

fn changes(base: u64) -> Changes {
    Changes {
        project: "flights".parse().unwrap(),
        base: RegistryVersion(base),
        changes: ObjectKind::ALL
            .into_iter()
            .map(|kind| Change {
                kind,
                name: format!("a_{}", kind.word()),
                action: "new_version".to_owned(),
                reasons: vec!["the type of `temp` changes".to_owned(), String::new()],
                data: vec!["a new Delta table".to_owned()],
            })
            .collect(),
        text: "+ feature view weather@2\n".to_owned(),
    }
}

fn view_run(view: &str) -> ViewRun {
    ViewRun {
        view: view.parse().unwrap(),
        plan: "appended 3 new files".to_owned(),
        rows_read: 1,
        rows_written: 2,
        rows_left_out: 3,
        online_written: 4,
        online_kept: 5,
        online_held_back: 6,
        offline_micros: u64::MAX,
        online_micros: 8,
    }
}

fn run(id: usize, view: &str) -> Run {
    Run {
        id: format!("run-{id}"),
        work: match id {
            0 => Work::Materialized(view_run(view)),
            _ => Work::Deleted(EntitiesDeleted {
                view: view.parse().unwrap(),
                author: "ann".to_owned(),
                entities: 1,
                found: 2,
                rows: 3,
                online_rows: u64::MAX,
            }),
        },
        started_at: Timestamp::from_micros(-1),
        finished_at: Timestamp::MAX,
        error: if id == 0 { "it failed" } else { "" }.to_owned(),
    }
}

/// A dataset; what may be missing of one is missing from that of a short name.
fn dataset(name: &DatasetName) -> Dataset {
    let whole = name.as_str().len() > 6;
    let hash = format!("blake3:{}", "0af3".repeat(16));
    Dataset {
        name: name.clone(),
        created_at: Timestamp::from_micros(-7),
        author: "ann é".to_owned(),
        registry_version: RegistryVersion(u64::MAX),
        selection: match whole {
            true => FeatureRequest::Features(vec!["weather@2:temp".parse().unwrap()]),
            false => FeatureRequest::Service("delay_model".parse().unwrap()),
        },
        names: if whole {
            NameStyle::Full
        } else {
            NameStyle::Short
        },
        knowledge: if whole {
            Knowledge::Available
        } else {
            Knowledge::Event
        },
        boundary: if whole {
            Boundary::Before
        } else {
            Boundary::At
        },
        timestamp_column: whole.then(|| "at".to_owned()),
        split: whole.then(|| {
            let by = vec!["origin".parse().unwrap()];
            Split::new("train=0.75,test=0.25", Some(by)).unwrap()
        }),
        tables: vec![TableRead {
            view: "weather@2".parse().unwrap(),
            delta_version: whole.then_some(0),
            delta_id: whole.then(|| "an-id".to_owned()),
        }],
        entity_rows: KeptRows {
            file: "entity_rows-1.arrows".to_owned(),
            bytes: 1,
            rows: 2,
            hash: hash.parse().unwrap(),
        },
        result: ResultRows {
            rows: 3,
            hash: hash.parse().unwrap(),
        },
    }
}

/// Entity rows that the caller does not have.
fn made_rows() -> EntityRows {
    let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    EntityRows {
        schema: batch.schema(),
        batches: stream::iter([Ok(batch)]).boxed(),
    }
}

fn about() -> About {
    About {
        description: "what it is".to_owned(),
        owner: "data-platform".to_owned(),
        tags: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
    }
}

fn key_schema() -> KeySchema {
    let key = |name: &str, key_type| JoinKey {
        name: name.parse().unwrap(),
        key_type,
    };
    KeySchema::new(vec![
        key("origin", KeyType::String),
        key("flight", KeyType::Int32),
    ])
    .unwrap()
}

/// A view revision in which nothing is empty.
fn revision(name: &ViewName) -> ViewRevision {
    let list = FeatureType::List(ScalarType::Float32);
    let features = vec![
        FeatureField {
            name: "temp".parse().unwrap(),
            feature_type: FeatureType::Scalar(ScalarType::Float64),
            default: Some(Value::Float64(-0.0)),
            description: "air temperature".to_owned(),
        },
        FeatureField {
            name: "gusts".parse().unwrap(),
            feature_type: list,
            default: Some(Value::List(
                ScalarType::Float32,
                vec![Some(Value::Float32(1.5)), None],
            )),
            description: String::new(),
        },
    ];
    ViewRevision {
        id: format!("{name}@2").parse().unwrap(),
        entities: vec!["airport".parse().unwrap()],
        join_keys: key_schema(),
        ttl: Some("6h".parse().unwrap()),
        input: ViewInput::Query("SELECT 1".to_owned()),
        sources: vec!["weather".parse().unwrap()],
        event_timestamp: Some("observed_at".parse().unwrap()),
        created_timestamp: Some("loaded_at".parse().unwrap()),
        definitions: BTreeMap::from([("temp".parse().unwrap(), "weather.temp".to_owned())]),
        relation: "weather".to_owned(),
        refresh: Refresh::RowLocal {
            source: "weather".parse().unwrap(),
        },
        refresh_reason: "every row comes from one row of `weather`".to_owned(),
        lookback: Some("1d".parse().unwrap()),
        near_cache: Some("64MiB".parse().unwrap()),
        lineage: BTreeMap::from([(
            "temp".parse().unwrap(),
            vec![SourceColumn {
                source: "weather".parse().unwrap(),
                column: "Temp (F)".to_owned(),
            }],
        )]),
        layouts: vec![Layout::of(&features[..1]), Layout::of(&features)],
        features,
        offline: true,
        online: false,
        about: about(),
    }
}

/// Columns of every type, with a null in every other row.
fn online_columns(rows: usize) -> Vec<OnlineColumn> {
    let types = ScalarType::ALL
        .into_iter()
        .flat_map(|scalar| [FeatureType::Scalar(scalar), FeatureType::List(scalar)]);
    let statuses = [
        Status::Present,
        Status::NullValue,
        Status::NotFound,
        Status::OutsideMaxAge,
    ];
    types
        .enumerate()
        .map(|(at, feature_type)| OnlineColumn {
            name: format!("f{at}"),
            values: Column::of(
                feature_type,
                (0..rows).map(|row| (row % 2 == 0).then(|| sample(feature_type, row))),
            )
            .unwrap(),
            statuses: (0..rows).map(|row| statuses[row % 4]).collect(),
            view: at % 2,
        })
        .collect()
}

fn sample(feature_type: FeatureType, row: usize) -> Value {
    match feature_type {
        FeatureType::Scalar(scalar) => match scalar {
            ScalarType::Bool => Value::Bool(row.is_multiple_of(4)),
            ScalarType::Int32 => Value::Int32(i32::MIN),
            ScalarType::Int64 => Value::Int64(i64::MAX - row as i64),
            ScalarType::Float32 => Value::Float32(f32::NAN),
            ScalarType::Float64 => Value::Float64(-0.0),
            ScalarType::String => Value::String(format!("é{row}")),
            ScalarType::Bytes => Value::Bytes(vec![0, 255]),
            ScalarType::Timestamp => Value::Timestamp(Timestamp::MIN),
        },
        FeatureType::List(element) => {
            let item = sample(FeatureType::Scalar(element), row);
            Value::List(element, vec![Some(item), None][..row % 3].to_vec())
        }
    }
}

/// The entity rows' columns, then one with a null in every other row, one of lists, and one dictionary.
fn training_schema(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for (name, data_type) in [
        ("row", DataType::UInt64),
        ("temp", DataType::Float64),
        ("gusts", FeatureType::List(ScalarType::Int64).arrow()),
        ("carrier", dictionary),
    ] {
        fields.push(Arc::new(Field::new(name, data_type, true)));
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn training_batch(schema: &SchemaRef, batch: &RecordBatch, from: u64) -> RecordBatch {
    let from = usize::try_from(from).unwrap();
    let rows = from..from + batch.num_rows();
    let temp = rows
        .clone()
        .map(|row| (row % 2 == 0).then_some(row as f64 / 2.0));
    let lists: Vec<Value> = rows
        .clone()
        .map(|row| sample(FeatureType::List(ScalarType::Int64), row))
        .collect();
    let gusts = lists
        .iter()
        .zip(rows.clone())
        .map(|(list, row)| (row % 5 != 0).then_some(list));
    // The same carrier for a row, whichever batch it comes in; the dictionaries differ.
    let carriers = StringArray::from(vec!["UA", "é", "UA"][from % 2..].to_vec());
    let carrier_keys = rows
        .clone()
        .map(|row| (row % 3 != 0).then_some(i32::from((row + from) % 2 == 1)))
        .collect();
    let added: [ArrayRef; 4] = [
        Arc::new(rows.map(|row| row as u64).collect::<UInt64Array>()),
        Arc::new(temp.collect::<Float64Array>()),
        arrow_values::column(FeatureType::List(ScalarType::Int64), gusts),
        Arc::new(DictionaryArray::<Int32Type>::new(
            carrier_keys,
            Arc::new(carriers),
        )),
    ];
    let columns = batch.columns().iter().cloned().chain(added).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

fn compaction(view: &ViewName, number: u64) -> ViewCompaction {
    ViewCompaction {
        view: format!("{view}@1").parse().unwrap(),
        table_version: number.checked_sub(1),
        files_before: 9,
        files_removed: 8,
        files_added: 2,
        bytes_removed: 800,
        bytes_added: 700,
        rows: 50,
        micros: 1,
    }
}

fn file(path: &str) -> VacuumedFile {
    VacuumedFile {
        path: path.to_owned(),
        bytes: 5,
    }
}

fn folder(view: &ViewName) -> FolderVacuum {
    FolderVacuum {
        folder: format!("p/_datasets/{view}"),
        deleted: vec![file("d.arrows")],
        retained: 7,
    }
}

fn verification(view: &ViewName) -> ViewVerification {
    ViewVerification {
        view: format!("{view}@1").parse().unwrap(),
        table_version: Some(7),
        loaded_version: None,
        keys: 10,
        same: 1,
        expired: 2,
        settled: 3,
        recent: 4,
        differences: Difference::ALL.map(|kind| (kind, 5)).to_vec(),
        not_loaded: 6,
        repaired: 7,
        held_back: 8,
        examples: vec![Example {
            difference: Difference::Older,
            entity: "origin=JFK".to_owned(),
            explanation: "not loaded yet".to_owned(),
        }],
        micros: 9,
    }
}

fn vacuum(view: &ViewName) -> ViewVacuum {
    ViewVacuum {
        view: format!("{view}@2").parse().unwrap(),
        deleted: vec![file("a.parquet"), file("b.parquet")],
        pinned: vec![PinnedFile {
            path: "c.parquet".to_owned(),
            bytes: 6,
            versions: vec![0, u64::MAX],
        }],
        retained: 3,
        lost_versions: vec![4],
    }
}

#[async_trait]
impl Operations for Fake {
    async fn check(&self, files: &[RepoFile]) -> Result<CheckReport, OpsError> {
        self.called(format!("check {files:?}")).await?;
        Ok(CheckReport {
            problems: files.iter().map(|f| problem(f, Severity::Error)).collect(),
            objects: ObjectKind::ALL.into_iter().zip(0..).collect(),
        })
    }

    async fn plan(&self, files: &[RepoFile]) -> Result<PlanReport, OpsError> {
        self.called(format!("plan {files:?}")).await?;
        Ok(PlanReport {
            problems: files
                .iter()
                .map(|f| problem(f, Severity::Warning))
                .collect(),
            changes: (!files.is_empty()).then(|| changes(3)),
        })
    }

    async fn apply(
        &self,
        files: &[RepoFile],
        base: RegistryVersion,
        author: &str,
    ) -> Result<ApplyReport, OpsError> {
        self.called(format!("apply {files:?} {base} {author}"))
            .await?;
        Ok(ApplyReport {
            problems: vec![],
            changes: (!files.is_empty()).then(|| changes(base.0)),
            version: (!files.is_empty()).then(|| base.next()),
        })
    }

    async fn materialize(
        &self,
        request: &MaterializeRequest,
        events: &(dyn Fn(MaterializeEvent) + Send + Sync),
    ) -> Result<Vec<ViewRun>, OpsError> {
        let mut runs = Vec::new();
        for view in &request.views {
            let run = view_run(&format!("{view}@1"));
            events(MaterializeEvent::Started {
                view: run.view.clone(),
                plan: run.plan.clone(),
            });
            for (phase, rows) in [(Phase::Offline, 1), (Phase::Offline, 2), (Phase::Online, 2)] {
                events(MaterializeEvent::Progress {
                    view: run.view.clone(),
                    phase,
                    rows,
                });
            }
            events(MaterializeEvent::Finished(run.clone()));
            runs.push(run);
        }
        self.called(format!("materialize {request:?}")).await?;
        Ok(runs)
    }

    async fn get_historical(
        &self,
        request: &HistoricalRequest,
        spine: Spine,
    ) -> Result<TrainingRows, OpsError> {
        let mood = self.mood();
        let (told, entity_rows) = match spine {
            Spine::Rows(rows) => (format!("{:?}", rows.schema), rows),
            Spine::At(at) => (format!("at {at}"), made_rows()),
            Spine::Snapshots(snapshots) => (format!("{snapshots:?}"), made_rows()),
            Spine::Query(sql) => (format!("of {sql}"), made_rows()),
        };
        if !matches!(mood, Mood::Wait(_)) {
            self.called(format!("get_historical {request:?} {told}"))
                .await?;
        }
        let schema = training_schema(&entity_rows.schema);
        let (sender, report) = oneshot::channel();
        let state = (
            entity_rows.batches,
            Arc::clone(&schema),
            HistoricalReport {
                lint: request.lint.then(lint),
                ..HistoricalReport::default()
            },
            sender,
            mood,
        );
        let batches = stream::try_unfold(
            state,
            |(mut batches, schema, mut report, sender, mood)| async move {
                match batches.next().await.transpose()? {
                    Some(batch) => {
                        let training = training_batch(&schema, &batch, report.rows);
                        if let Mood::Wait(gate) = &mood
                            && report.rows > 0
                        {
                            gate.pass().await;
                        }
                        report.rows += batch.num_rows() as u64;
                        Ok(Some((training, (batches, schema, report, sender, mood))))
                    }
                    None => {
                        report.rows_without_key = 1;
                        let view = "weather@2".parse().unwrap();
                        report.rows_matched.insert(view, report.rows);
                        let _ = sender.send(report);
                        Ok(None)
                    }
                }
            },
        );
        Ok(TrainingRows {
            schema,
            batches: batches.boxed(),
            registry_version: RegistryVersion(7),
            report,
        })
    }

    async fn datasets(&self) -> Result<Vec<Dataset>, OpsError> {
        self.called("datasets".to_owned()).await?;
        let names = ["delays", "delays_2013"].map(|name| name.parse::<DatasetName>().unwrap());
        Ok(names.iter().map(dataset).collect())
    }

    async fn dataset(&self, name: &DatasetName) -> Result<Dataset, OpsError> {
        self.called(format!("dataset {name}")).await?;
        Ok(dataset(name))
    }

    async fn reproduce(&self, name: &DatasetName) -> Result<TrainingRows, OpsError> {
        self.called(format!("reproduce {name}")).await?;
        let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![Some(1), None, Some(3)]));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let (sender, report) = oneshot::channel();
        let batches =
            stream::iter([Ok(batch.clone()), Ok(batch.clone())]).chain(stream::once(async move {
                let _ = sender.send(HistoricalReport {
                    rows: 6,
                    ..HistoricalReport::default()
                });
                Ok(batch.slice(0, 0))
            }));
        Ok(TrainingRows {
            schema: Arc::new(Schema::new(vec![Field::new("n", DataType::UInt64, true)])),
            batches: batches.boxed(),
            registry_version: RegistryVersion(3),
            report,
        })
    }

    async fn push(&self, request: &PushRequest) -> Result<PushReport, OpsError> {
        self.called(format!("push {request:?}")).await?;
        Ok(PushReport {
            view: "weather@2".parse().unwrap(),
            rows: request.rows.num_rows() as u64,
            outcome: PushOutcome::AlreadyThere,
            online: u64::MAX,
            late: 1,
            token: super::token(),
            micros: 7,
        })
    }

    async fn get_online(&self, request: OnlineRequest) -> Result<OnlineResponse, OpsError> {
        self.called(format!("get_online {request:?}")).await?;
        let rows = request.entities.first().map_or(0, |e| e.values.len());
        Ok(OnlineResponse {
            entities: request.entities,
            features: online_columns(rows),
            views: ["weather@2", "delays@1"]
                .map(|view| OnlineView {
                    view: view.parse().unwrap(),
                    event_timestamps: (0..rows)
                        .map(|row| (row % 3 != 0).then(|| Timestamp::from_micros(row as i64 - 2)))
                        .collect(),
                })
                .to_vec(),
            registry_version: RegistryVersion(u64::MAX),
        })
    }

    async fn get_online_encoded(&self, request: OnlineRequest) -> Result<Bytes, OpsError> {
        let answer = self.get_online(request).await?.into_message().unwrap();
        Ok(answer.encode_to_vec().into())
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Summary>, OpsError> {
        self.called(format!("list {}", kind.word())).await?;
        let summary = |name: String| Summary {
            name,
            detail: "2 features".to_owned(),
            description: String::new(),
            owner: "ops".to_owned(),
        };
        Ok(vec![
            summary(kind.word().to_owned()),
            summary("other".to_owned()),
        ])
    }

    async fn show(&self, kind: ObjectKind, name: &str) -> Result<Detail, OpsError> {
        self.called(format!("show {} {name}", kind.word())).await?;
        let used_by: Vec<ViewName> = vec!["weather".parse().unwrap()];
        Ok(match kind {
            ObjectKind::Entity => Detail::Entity {
                entity: Entity {
                    name: name.parse().unwrap(),
                    join_keys: key_schema(),
                    about: about(),
                },
                used_by,
            },
            ObjectKind::Source => Detail::Source {
                source: Source {
                    name: name.parse().unwrap(),
                    path: "data/*.parquet".to_owned(),
                    format: SourceFormat::Parquet,
                    event_timestamp: Some("observed_at".parse().unwrap()),
                    created_timestamp: None,
                    is_static: false,
                    columns: vec![(
                        "Temp (F)".to_owned(),
                        FeatureType::Scalar(ScalarType::Float64),
                    )],
                    about: About::default(),
                },
                used_by,
            },
            ObjectKind::FeatureView => {
                let view: ViewName = name.parse().unwrap();
                let seen = name != "new";
                Detail::FeatureView(Box::new(ViewDetail {
                    revision: revision(&view),
                    versions: vec![format!("{name}@2").parse().unwrap()],
                    used_by: vec!["delay_model".to_owned()],
                    delta_version: seen.then_some(0),
                    rows: seen.then_some(u64::MAX),
                    newest_event: seen.then_some(Timestamp::BEGINNING),
                    last_run: seen.then(|| run(0, &format!("{name}@2"))),
                }))
            }
            ObjectKind::FeatureService => Detail::FeatureService {
                service: FeatureService {
                    name: name.parse().unwrap(),
                    features: vec!["weather".parse().unwrap(), "delays@3:mean".parse().unwrap()],
                    about: about(),
                },
                columns: vec![ServiceColumn {
                    name: "temp".to_owned(),
                    feature_type: FeatureType::List(ScalarType::Bytes),
                    from: "weather@2:temp".to_owned(),
                }],
            },
        })
    }

    async fn join_keys(&self, features: &FeatureRequest) -> Result<KeySchema, OpsError> {
        self.called(format!("join_keys {features:?}")).await?;
        Ok(key_schema())
    }

    async fn history(&self, limit: usize) -> Result<Vec<Version>, OpsError> {
        self.called(format!("history {limit}")).await?;
        let versions = (0..limit.min(3)).map(|at| Version {
            version: RegistryVersion(at as u64),
            created_at: Timestamp::from_micros(-5),
            author: "ann".to_owned(),
            reason: "apply".to_owned(),
            summary: "3 views".to_owned(),
        });
        Ok(versions.collect())
    }

    async fn diff(&self, from: RegistryVersion, to: RegistryVersion) -> Result<Changes, OpsError> {
        self.called(format!("diff {from} {to}")).await?;
        Ok(changes(from.0))
    }

    async fn plan_rollback(&self, to: RegistryVersion) -> Result<Changes, OpsError> {
        self.called(format!("plan_rollback {to}")).await?;
        Ok(changes(to.0))
    }

    async fn rollback(
        &self,
        to: RegistryVersion,
        base: RegistryVersion,
        author: &str,
    ) -> Result<RegistryVersion, OpsError> {
        self.called(format!("rollback {to} {base} {author}"))
            .await?;
        Ok(base.next())
    }

    async fn runs(&self, view: Option<&ViewName>, limit: usize) -> Result<Vec<Run>, OpsError> {
        self.called(format!("runs {view:?} {limit}")).await?;
        Ok((0..limit.min(2)).map(|id| run(id, "weather@1")).collect())
    }

    async fn compact(&self, views: &[ViewName]) -> Result<Vec<ViewCompaction>, OpsError> {
        self.called(format!("compact {views:?}")).await?;
        let views = views.iter().zip(0..);
        Ok(views
            .map(|(view, number)| compaction(view, number))
            .collect())
    }

    async fn vacuum(&self, request: &VacuumRequest) -> Result<Vacuumed, OpsError> {
        self.called(format!("vacuum {request:?}")).await?;
        Ok(Vacuumed {
            views: request.views.iter().map(vacuum).collect(),
            folders: request.views.iter().map(folder).collect(),
        })
    }

    async fn verify(
        &self,
        request: &VerifyRequest,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<Vec<ViewVerification>, OpsError> {
        self.called(format!("verify {request:?}")).await?;
        let views = request.views.iter().map(verification);
        let views: Vec<_> = views.collect();
        for view in &views {
            events(KeysSeen {
                view: view.view.clone(),
                keys: view.keys,
            });
        }
        Ok(views)
    }

    async fn teardown(
        &self,
        request: &TeardownRequest,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<Vec<ViewTeardown>, OpsError> {
        self.called(format!("teardown {request:?}")).await?;
        let view: vintner_core::ViewId = "weather@1".parse().unwrap();
        events(KeysSeen {
            view: view.clone(),
            keys: 3,
        });
        Ok(vec![ViewTeardown {
            view,
            online: true,
            online_rows: 3,
            files: 4,
            bytes: 5,
        }])
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, OpsError> {
        self.called(format!("delete {request:?}")).await?;
        let deletion = |table_version| ViewDeletion {
            view: "weather@2".parse().unwrap(),
            entities: 1,
            found: 2,
            rows: 3,
            online_rows: 4,
            table_version,
            files_removed: 5,
            files_added: 6,
            bytes_added: 7,
            datasets: vec!["delays_2013".parse().unwrap()],
            micros: 8,
        };
        Ok(Deleted {
            views: vec![deletion(None), deletion(Some(0))],
            retired: vec!["weather@1".parse().unwrap()],
        })
    }

    async fn doctor(&self) -> Result<Vec<Checkup>, OpsError> {
        self.called("doctor".to_owned()).await?;
        let healths = [Health::Good, Health::Warning, Health::Broken];
        let parts = healths.map(|health| Checkup {
            part: "registry".to_owned(),
            place: "/registry".to_owned(),
            health,
            latencies: vec![("write".to_owned(), 7)],
            facts: vec![("version".to_owned(), "3".to_owned())],
            advice: vec!["free some space".to_owned()],
        });
        Ok(parts.to_vec())
    }
}
