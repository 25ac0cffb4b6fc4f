//! What can be asked of a deployment, and what is answered: plain data, the same for every transport.
//!
//! [`Operations`] has two implementations: [`crate::Local`] opens the stores, and the client of `vintner-server`
//! talks to a running service. Whoever holds one need not know which.

use std::{collections::BTreeMap, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use vintner_core::{
    Boundary, Column, DatasetName, FeatureType, KeySchema, Knowledge, ProjectName, RegistryVersion,
    Timestamp, Ttl, ViewId, ViewName, ViewVersion,
};
pub use vintner_offline::{
    datasets::{ContentHash, Dataset, KeptRows, ResultRows, TableRead},
    historical::Split,
    push::Producer,
    spine::Snapshots,
};
pub use vintner_online::{OnlineColumn, Status};
pub use vintner_registry::ObjectKind;
use vintner_registry::{
    model::{Entity, FeatureService, Source, ViewRevision},
    selection::{FeatureRequest, NameStyle},
};
use vintner_repo::RepoFile;

use crate::error::OpsError;
pub use crate::{
    lint::{FeatureLint, Finding, Lint, ViewLint},
    token::WriteToken,
};

mod care;

pub use care::*;

/// Everything Vintner does for its users. Each method is one command of the command line.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Parses and plans a repo, touches nothing.
    async fn check(&self, files: &[RepoFile]) -> Result<CheckReport, OpsError>;

    /// What applying a repo would change.
    async fn plan(&self, files: &[RepoFile]) -> Result<PlanReport, OpsError>;

    /// Applies a repo; `base` is the registry version of the plan that was agreed to.
    async fn apply(
        &self,
        files: &[RepoFile],
        base: RegistryVersion,
        author: &str,
    ) -> Result<ApplyReport, OpsError>;

    /// Brings the stores up to date; `events` is told of every step as it happens.
    async fn materialize(
        &self,
        request: &MaterializeRequest,
        events: &(dyn Fn(MaterializeEvent) + Send + Sync),
    ) -> Result<Vec<ViewRun>, OpsError>;

    /// The point-in-time join of entity rows with features.
    async fn get_historical(
        &self,
        request: &HistoricalRequest,
        spine: Spine,
    ) -> Result<TrainingRows, OpsError>;

    /// The saved training datasets, in the order of their names.
    async fn datasets(&self) -> Result<Vec<Dataset>, OpsError>;

    /// How one saved training dataset was made.
    async fn dataset(&self, name: &DatasetName) -> Result<Dataset, OpsError>;

    /// The rows of a saved training dataset, made again. They end in an error when they are not those that were saved.
    async fn reproduce(&self, name: &DatasetName) -> Result<TrainingRows, OpsError>;

    /// Rows into a view's table and into the online store. When it answers they are in both, and durably in the table;
    /// rows that are refused are in neither, nor are those that came with them.
    async fn push(&self, request: &PushRequest) -> Result<PushReport, OpsError>;

    /// Feature vectors as of now.
    async fn get_online(&self, request: OnlineRequest) -> Result<OnlineResponse, OpsError>;

    /// The same as the bytes of a `vintner.v1.GetOnlineFeaturesResponse`, for a service to send as they are.
    async fn get_online_encoded(&self, request: OnlineRequest) -> Result<Bytes, OpsError>;

    /// The objects of a kind.
    async fn list(&self, kind: ObjectKind) -> Result<Vec<Summary>, OpsError>;

    /// One object with all that is known of it.
    async fn show(&self, kind: ObjectKind, name: &str) -> Result<Detail, OpsError>;

    /// The join keys of features, with their types: what entity rows and lookups must give.
    async fn join_keys(&self, features: &FeatureRequest) -> Result<KeySchema, OpsError>;

    /// The registry's versions, newest first.
    async fn history(&self, limit: usize) -> Result<Vec<Version>, OpsError>;

    /// What changed between two versions of the registry.
    async fn diff(&self, from: RegistryVersion, to: RegistryVersion) -> Result<Changes, OpsError>;

    /// What going back to an old version would change.
    async fn plan_rollback(&self, to: RegistryVersion) -> Result<Changes, OpsError>;

    /// Makes a new version that equals an old one; `base` is the registry version of the plan that was agreed to.
    async fn rollback(
        &self,
        to: RegistryVersion,
        base: RegistryVersion,
        author: &str,
    ) -> Result<RegistryVersion, OpsError>;

    /// The runs, and the deletions, newest first.
    async fn runs(&self, view: Option<&ViewName>, limit: usize) -> Result<Vec<Run>, OpsError>;

    /// Puts the rows of views' tables into few files that scans can skip; of all views when none is named.
    async fn compact(&self, views: &[ViewName]) -> Result<Vec<ViewCompaction>, OpsError>;

    /// Deletes files of the offline store that nothing needs any more.
    async fn vacuum(&self, request: &VacuumRequest) -> Result<Vacuumed, OpsError>;

    /// Compares the online store with what the tables say should be there as of now, and mends it when asked to;
    /// `events` is told how many entities have been looked at.
    async fn verify(
        &self,
        request: &VerifyRequest,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<Vec<ViewVerification>, OpsError>;

    /// Deletes what is stored of view versions that are no longer used; `events` is told how many entities' rows are
    /// gone.
    async fn teardown(
        &self,
        request: &TeardownRequest,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<Vec<ViewTeardown>, OpsError>;

    /// Deletes all rows of some entities from a view's tables and from the online store.
    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, OpsError>;

    /// Looks at every part of the deployment, whether or not others work.
    async fn doctor(&self) -> Result<Vec<Checkup>, OpsError>;
}

/// A mistake or a doubt in the user's repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops the repo from being applied.
    pub severity: Severity,
    /// A stable name, like `repo::unknown_field`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
    /// The file, relative to the repo.
    pub file: String,
    /// Line in the file, from 1; 0 for the file as a whole.
    pub line: u32,
    /// Column in the line, from 1, in characters.
    pub column: u32,
    /// The whole as text, with the place underlined.
    pub rendered: String,
}

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The repo can be applied.
    Warning,
    /// It cannot.
    Error,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Everything that is wrong or doubtful, in the order of the files.
    pub problems: Vec<Problem>,
    /// How many objects of each kind the repo declares; empty when there are errors.
    pub objects: Vec<(ObjectKind, usize)>,
}

/// What applying a repo would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanReport {
    /// Everything that is wrong or doubtful in the repo.
    pub problems: Vec<Problem>,
    /// The changes; none when the repo has errors.
    pub changes: Option<Changes>,
}

/// What applying a repo has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyReport {
    /// Everything that is wrong or doubtful in the repo.
    pub problems: Vec<Problem>,
    /// The changes; none when the repo has errors, and then nothing was written.
    pub changes: Option<Changes>,
    /// The version that was written; none when there was nothing to change.
    pub version: Option<RegistryVersion>,
}

/// Changes to one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The project.
    pub project: ProjectName,
    /// The registry version that they start from.
    pub base: RegistryVersion,
    /// One entry per object, in the order they are shown.
    pub changes: Vec<Change>,
    /// The whole as text.
    pub text: String,
}

/// What changes in one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The object's kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// `create`, `update`, `new_version`, `backfill` or `delete`.
    pub action: String,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
    /// What happens to data, one sentence each.
    pub data: Vec<String>,
}

/// Which views to bring up to date, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaterializeRequest {
    /// The views; all of them when empty.
    pub views: Vec<ViewName>,
    /// The window of event time to compute again; without it, from where the last run ended.
    pub window: Option<(Timestamp, Timestamp)>,
    /// Whether to compute everything again.
    pub scope: Scope,
}

/// How much of a view a run computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What is new.
    Incremental,
    /// Everything.
    FullRefresh,
    /// Nothing: the online store is filled again from the whole table, and no source is read.
    OnlineOnly,
}

/// A step of a materialization, as it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum MaterializeEvent {
    /// A view's run begins; `plan` says in words what it does and why.
    Started {
        /// The view version.
        view: ViewId,
        /// What is done.
        plan: String,
    },
    /// Rows written so far.
    Progress {
        /// The view version.
        view: ViewId,
        /// Which store they go to.
        phase: Phase,
        /// How many.
        rows: u64,
    },
    /// A view's run is over.
    Finished(ViewRun),
}

/// The store that a run is writing to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The Delta table.
    Offline,
    /// The online store.
    Online,
}

/// What one view's run has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewRun {
    /// The view version.
    pub view: ViewId,
    /// What was done, in words: `appended 3 new files`, `nothing new`.
    pub plan: String,
    /// Rows read from the source that are in the run's window.
    pub rows_read: u64,
    /// Rows written to the Delta table.
    pub rows_written: u64,
    /// Rows left out because a join key or the event time is null, or because their entity was deleted.
    pub rows_left_out: u64,
    /// Rows written to the online store.
    pub online_written: u64,
    /// Rows not written to the online store because it has newer ones.
    pub online_kept: u64,
    /// Rows held back from the online store because their event time has not come.
    pub online_held_back: u64,
    /// Time for the Delta table, microseconds.
    pub offline_micros: u64,
    /// Time for the online store, microseconds.
    pub online_micros: u64,
}

impl ViewRun {
    /// A run that has done nothing yet.
    pub fn nothing(view: ViewId) -> Self {
        Self {
            view,
            plan: String::new(),
            rows_read: 0,
            rows_written: 0,
            rows_left_out: 0,
            online_written: 0,
            online_kept: 0,
            online_held_back: 0,
            offline_micros: 0,
            online_micros: 0,
        }
    }
}

/// Which features to join, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoricalRequest {
    /// The features.
    pub features: FeatureRequest,
    /// How columns are named.
    pub names: NameStyle,
    /// Whether rows must have been known.
    pub knowledge: Knowledge,
    /// Whether a row at exactly the entity row's time counts.
    pub boundary: Boundary,
    /// The entity rows' time column; without it `event_timestamp`, else the only timestamp column.
    pub timestamp_column: Option<String>,
    /// Into which parts the rows are split, if they are: a column `split` says each row's.
    pub split: Option<Split>,
    /// Whether what is needed to make the same rows again is kept, and under which name.
    pub save: Option<SaveAs>,
    /// Whether what tells of leaks and gaps is counted.
    pub lint: bool,
    /// Rows that were pushed and must be seen.
    pub after: Vec<WriteToken>,
}

/// Under which name a training dataset is saved, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveAs {
    /// The name, which must be free.
    pub name: DatasetName,
    /// Who saves it: a user's name, for people.
    pub author: String,
}

/// Record batches as they come.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, OpsError>>;

/// Which entity rows a training dataset is made of.
pub enum Spine {
    /// Those that the caller has.
    Rows(EntityRows),
    /// Every key that is known at a moment: one row each, with the join keys and `event_timestamp`.
    At(Timestamp),
    /// Every key that is known at each of many moments.
    Snapshots(Snapshots),
    /// The rows of a SELECT over the project's feature views and sources.
    Query(String),
}

/// The training job's rows.
pub struct EntityRows {
    /// Their columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: BatchStream,
}

/// The answer to a [`HistoricalRequest`]: exactly the entity rows, in their order, with the features.
pub struct TrainingRows {
    /// The entity rows' columns, then the features in the order asked, then `split` if they are split.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: BatchStream,
    /// The registry version that they were made with.
    pub registry_version: RegistryVersion,
    /// What is known when the last batch has come.
    pub report: tokio::sync::oneshot::Receiver<HistoricalReport>,
}

/// What a join has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoricalReport {
    /// Entity rows.
    pub rows: u64,
    /// Entity rows whose time, or a join key of some view, is null: they have nulls or defaults.
    pub rows_without_key: u64,
    /// Entity rows that met a visible feature row, per view version.
    pub rows_matched: BTreeMap<ViewId, u64>,
    /// What was read for it, and how long it took.
    pub work: JoinWork,
    /// What tells of leaks and gaps, when that was asked for.
    pub lint: Option<Lint>,
}

/// What a join has read, and where its time went. Times are of the wall's clock, in microseconds; those of views that
/// were read side by side overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinWork {
    /// The physical plan, for people.
    pub plan: String,
    /// In how many chunks the entity rows were joined: more than one when they do not fit the memory.
    pub chunks: u64,
    /// Until the plan was there: the registry's and the tables' logs are read for it.
    pub planning_micros: u64,
    /// Entity rows read and indexed.
    pub entity_rows_micros: u64,
    /// The result put together and taken.
    pub output_micros: u64,
    /// All of it, planning included.
    pub micros: u64,
    /// Per view, in the order that they are joined.
    pub views: Vec<ViewWork>,
}

/// What a join has read of one view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewWork {
    /// The view version, written `view@2`.
    pub view: String,
    /// Data files of the table.
    pub files: u64,
    /// Files that can have rows that count, by the table's log.
    pub files_opened: u64,
    /// Row groups of the files that were opened.
    pub row_groups: u64,
    /// Row groups that can have rows that count, by the files' statistics.
    pub row_groups_read: u64,
    /// Rows of the table.
    pub rows: u64,
    /// Rows whose keys and times were read.
    pub rows_read: u64,
    /// Bytes of files that were read.
    pub bytes_read: u64,
    /// Rows whose values were read.
    pub values_read: u64,
    /// Of these, those that were told by their values from others of equal times.
    pub ties: u64,
    /// Entity rows that met a visible row.
    pub rows_matched: u64,
    /// Files opened, and parts of them chosen.
    pub open_micros: u64,
    /// Keys and times read and matched.
    pub match_micros: u64,
    /// Values read.
    pub values_micros: u64,
}

/// Which features to look up, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineRequest {
    /// The features.
    pub features: FeatureRequest,
    /// How columns are named.
    pub names: NameStyle,
    /// The join keys, each with one value per entity; all of one length.
    pub entities: Vec<EntityColumn>,
    /// Rows that were pushed and must be seen.
    pub after: After,
}

/// Rows that a read must see, or fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// What their pushes have answered.
    pub tokens: Vec<WriteToken>,
    /// How long to wait for an online store that does not have them.
    pub patience: Duration,
}

/// Rows to push.
#[derive(Clone, Debug, PartialEq)]
pub struct PushRequest {
    /// The view.
    pub view: ViewName,
    /// Which version of it; the current one when none is named.
    pub version: Option<ViewVersion>,
    /// Join keys, `event_timestamp`, features, and perhaps `created_timestamp`, by name.
    pub rows: RecordBatch,
    /// Who pushes, and which of its pushes this is, so that one that comes again is written once.
    pub producer: Option<Producer>,
}

/// What a push has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushReport {
    /// The view version.
    pub view: ViewId,
    /// How many rows came.
    pub rows: u64,
    /// Whether this call has written them, or they were there.
    pub outcome: PushOutcome,
    /// Rows that took their place in the online store.
    pub online: u64,
    /// Rows that are in the table only, since the online store has later ones.
    pub late: u64,
    /// For reads that must see the rows.
    pub token: WriteToken,
    /// How long it took, microseconds.
    pub micros: u64,
}

/// Whether a push was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// It was.
    Written,
    /// Its producer had pushed it, or one after it, before.
    AlreadyThere,
}

/// The values of one join key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityColumn {
    /// The join key.
    pub name: String,
    /// One value per entity. Text is read as the join key's type; integers fit any integer type that holds them.
    pub values: Column,
}

/// The answer to an [`OnlineRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineResponse {
    /// The join keys as they were read.
    pub entities: Vec<EntityColumn>,
    /// The features in the order asked.
    pub features: Vec<OnlineColumn>,
    /// The view versions that they are of; [`OnlineColumn::view`] counts them.
    pub views: Vec<OnlineView>,
    /// The registry version that answered.
    pub registry_version: RegistryVersion,
}

impl OnlineResponse {
    /// Per entity the event time of the row that a feature was found in.
    pub fn event_timestamps(&self, feature: &OnlineColumn) -> &[Option<Timestamp>] {
        self.views
            .get(feature.view)
            .map_or(&[], |view| &view.event_timestamps)
    }
}

/// A view version that an online answer is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineView {
    /// The view version.
    pub view: ViewId,
    /// Per entity the event time of the row that was found; none where there is no row.
    pub event_timestamps: Vec<Option<Timestamp>>,
}

/// One object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name; a feature view's with its version.
    pub name: String,
    /// What is worth knowing at a glance.
    pub detail: String,
    /// What it is.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
}

/// One object with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Detail {
    /// An entity.
    Entity {
        /// As applied.
        entity: Entity,
        /// The views that use it.
        used_by: Vec<ViewName>,
    },
    /// A source.
    Source {
        /// As applied.
        source: Source,
        /// The views that read it.
        used_by: Vec<ViewName>,
    },
    /// A feature view.
    FeatureView(Box<ViewDetail>),
    /// A feature service.
    FeatureService {
        /// As applied.
        service: FeatureService,
        /// Its columns in order: name, type, and the view and feature they come from.
        columns: Vec<ServiceColumn>,
    },
}

/// One column of a feature service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceColumn {
    /// The column's name on both paths.
    pub name: String,
    /// Its type.
    pub feature_type: FeatureType,
    /// Where it comes from: `view@version:feature`.
    pub from: String,
}

/// A feature view with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewDetail {
    /// The current version, as applied.
    pub revision: ViewRevision,
    /// All versions that are not retired.
    pub versions: Vec<ViewId>,
    /// The services that use it.
    pub used_by: Vec<String>,
    /// Version of its Delta table; none before the first run.
    pub delta_version: Option<u64>,
    /// Rows in its Delta table.
    pub rows: Option<u64>,
    /// The newest event time in its Delta table.
    pub newest_event: Option<Timestamp>,
    /// Its last materialization.
    pub last_run: Option<Run>,
}

/// One version of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Which.
    pub version: RegistryVersion,
    /// When it was written.
    pub created_at: Timestamp,
    /// Who wrote it.
    pub author: String,
    /// What made it.
    pub reason: String,
    /// What it holds, in words.
    pub summary: String,
}

/// One run of one view, or one deletion from it, as recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// What it has done.
    pub work: Work,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What went wrong; empty when it was done.
    pub error: String,
}

/// What was done, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A materialization.
    Materialized(ViewRun),
    /// A deletion of entities' rows.
    Deleted(EntitiesDeleted),
}

/// What a deletion has done to one view version. Whose rows they were is not recorded here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitiesDeleted {
    /// The view version.
    pub view: ViewId,
    /// Who asked for it.
    pub author: String,
    /// How many entities were asked for, each once.
    pub entities: u64,
    /// How many of them had a row, in the table or online.
    pub found: u64,
    /// How many rows were deleted from the table.
    pub rows: u64,
    /// How many were deleted online.
    pub online_rows: u64,
}

/// What the compaction of one view's table has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewCompaction {
    /// The view version.
    pub view: ViewId,
    /// The table's version afterwards; none when there is no table.
    pub table_version: Option<u64>,
    /// How many files the table had.
    pub files_before: u64,
    /// How many of them were put together; none when the table was compact.
    pub files_removed: u64,
    /// How many files came of that.
    pub files_added: u64,
    /// The size of the files that were put together.
    pub bytes_removed: u64,
    /// The size of the files that came of that.
    pub bytes_added: u64,
    /// How many rows were written again.
    pub rows: u64,
    /// How long it took, microseconds.
    pub micros: u64,
}

/// How long versions stay readable when nothing else is asked for.
pub const DEFAULT_RETENTION: &str = "7d";

/// What to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VacuumRequest {
    /// The views whose tables are meant; the whole offline store of the project when empty.
    pub views: Vec<ViewName>,
    /// How long a version stays readable after the next one has come.
    pub retention: Ttl,
    /// Whether files are only named.
    pub dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// The current version of each view. Of other versions, also of those that are retired, those of which something is
    /// to be told.
    pub views: Vec<ViewVacuum>,
    /// Folders that are no view's, of which something is to be told.
    pub folders: Vec<FolderVacuum>,
}

impl Vacuumed {
    /// How many files were deleted, or would be.
    pub fn files(&self) -> u64 {
        let views = self.views.iter().map(|view| view.deleted.len());
        let folders = self.folders.iter().map(|folder| folder.deleted.len());
        views.chain(folders).sum::<usize>() as u64
    }
}

/// What was deleted in a folder of the offline store that is no view's, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderVacuum {
    /// The folder, relative to the offline store: `system/materialization_runs`, or a saved dataset's.
    pub folder: String,
    /// The files, in the order of their paths.
    pub deleted: Vec<VacuumedFile>,
    /// How many files are kept until the retention has run out.
    pub retained: u64,
}

/// What was deleted of one view version's table, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewVacuum {
    /// The view version.
    pub view: ViewId,
    /// The files, in the order of their paths.
    pub deleted: Vec<VacuumedFile>,
    /// Files that are kept only since a version that must stay readable has them.
    pub pinned: Vec<PinnedFile>,
    /// How many files are kept until the retention has run out.
    pub retained: u64,
    /// Versions that were to stay readable, and of which the log or files are gone.
    pub lost_versions: Vec<u64>,
}

/// A file that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VacuumedFile {
    /// Its path, relative to the table or the folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// A file that is kept for versions that must stay readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedFile {
    /// Its path, relative to the table.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The versions that have it.
    pub versions: Vec<u64>,
}
