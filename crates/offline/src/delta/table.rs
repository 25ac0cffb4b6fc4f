//! One Delta table, and one version of it.

use std::{fmt, sync::Arc};

use deltalake::{
    DeltaTableError,
    kernel::{Action, EagerSnapshot, LogicalFileView, Remove, StructType},
    logstore::{LogStoreRef, get_actions},
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use serde_json::Value;
use vintner_core::{KeySchema, KeyValue};

use super::{
    error::{DeltaError, EventRange, Newest, cause},
    file_name::{self, Origin},
    stats,
};

/// A table's place. It need not exist yet.
#[derive(Clone)]
pub struct Table {
    log: LogStoreRef,
    name: Arc<str>,
    application: Arc<str>,
}

/// One version of a table: its columns and its files.
#[derive(Clone)]
pub struct TableState {
    table: Table,
    snapshot: Arc<EagerSnapshot>,
}

/// One data file of a table version.
#[derive(Clone)]
pub struct DataFile {
    view: LogicalFileView,
}

impl Table {
    pub(super) fn new(log: LogStoreRef, name: String, application: String) -> Self {
        Self {
            log,
            name: name.into(),
            application: application.into(),
        }
    }

    /// Where the table is.
    pub fn location(&self) -> &str {
        self.log.root_url().as_str()
    }

    /// The newest version; none before the first write.
    ///
    /// # Errors
    /// [`DeltaError::Read`] when the log cannot be read.
    pub async fn newest(&self) -> Result<Option<TableState>, DeltaError> {
        let exists = self.log.is_delta_table_location().await;
        if !exists.map_err(|e| self.read_error(cause(e)))? {
            return Ok(None);
        }
        self.load(None).await.map(Some)
    }

    /// A given version.
    ///
    /// # Errors
    /// [`DeltaError::NoSuchVersion`]; [`DeltaError::Read`] when the log cannot be read.
    pub async fn at(&self, version: u64) -> Result<TableState, DeltaError> {
        let newest = self.newest().await?;
        let missing = |newest: Option<u64>| DeltaError::NoSuchVersion {
            table: self.name.to_string(),
            version,
            newest: Newest(newest),
        };
        let Some(newest) = newest else {
            return Err(missing(None));
        };
        match version.cmp(&newest.version()) {
            std::cmp::Ordering::Greater => Err(missing(Some(newest.version()))),
            std::cmp::Ordering::Equal => Ok(newest),
            std::cmp::Ordering::Less => match self.actions(version).await? {
                None => Err(missing(Some(newest.version()))),
                Some(_) => self.load(Some(version)).await,
            },
        }
    }

    async fn load(&self, version: Option<u64>) -> Result<TableState, DeltaError> {
        let snapshot = EagerSnapshot::try_new(self.log.as_ref(), version).await;
        Ok(TableState {
            table: self.clone(),
            snapshot: Arc::new(snapshot.map_err(|e| self.read_error(cause(e)))?),
        })
    }

    /// The folder, when it is one of the machine's file system.
    pub(crate) fn folder(&self) -> Option<std::path::PathBuf> {
        let url = self.log.root_url();
        (url.scheme() == "file").then(|| url.to_file_path().ok())?
    }

    /// What a version's commit did; none when the log no longer has it.
    pub(crate) async fn actions(&self, version: u64) -> Result<Option<Vec<Action>>, DeltaError> {
        let read = async {
            match self.log.read_commit_entry(version).await? {
                Some(bytes) => get_actions(version, &bytes).map(Some),
                None => Ok(None),
            }
        };
        read.await
            .map_err(|e: DeltaTableError| self.read_error(cause(e)))
    }

    /// What was put under `key` into the info of the newest commit at or before `version` that has it.
    pub(crate) async fn newest_info(
        &self,
        version: u64,
        key: &str,
    ) -> Result<Option<Value>, DeltaError> {
        for version in (0..=version).rev() {
            let Some(actions) = self.actions(version).await? else {
                return Ok(None);
            };
            if let Some(value) = info(&actions, key) {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }

    /// Whether the commit of a version is in the log.
    pub(crate) async fn has_version(&self, version: u64) -> Result<bool, DeltaError> {
        self.has_file(&format!("_delta_log/{version:020}.json"))
            .await
    }

    /// The version up to which the log has been summed up.
    pub(crate) async fn last_checkpoint(&self) -> Option<u64> {
        let path = Path::from("_delta_log/_last_checkpoint");
        let bytes = self.objects().get(&path).await.ok()?.bytes().await.ok()?;
        let hint: Value = serde_json::from_slice(&bytes).ok()?;
        hint.get("version")?.as_u64()
    }

    /// Whether a data file is there, part of the newest version or not.
    pub(crate) async fn has_file(&self, path: &str) -> Result<bool, DeltaError> {
        match self.objects().head(&Path::from(path)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.read_error(error)),
        }
    }

    pub(super) fn log(&self) -> &LogStoreRef {
        &self.log
    }

    /// The application id of commits, and what those of others begin with.
    pub(crate) fn application(&self) -> &str {
        &self.application
    }

    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        self.log.object_store(None)
    }

    pub(crate) fn read_error(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> DeltaError {
        DeltaError::Read {
            table: self.name.to_string(),
            location: self.location().to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn write_error(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> DeltaError {
        DeltaError::Write {
            table: self.name.to_string(),
            location: self.location().to_owned(),
            source: source.into(),
        }
    }
}

/// What a commit's info has under a key.
pub(super) fn info<'a>(actions: &'a [Action], key: &str) -> Option<&'a Value> {
    actions.iter().find_map(|action| match action {
        Action::CommitInfo(commit) => commit.info.get(key),
        _ => None,
    })
}

/// The table's name, for people: `weather@1`.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} at {})", self.name, self.location())
    }
}

impl TableState {
    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// What tells this table from one that was at the same place before.
    pub fn id(&self) -> &str {
        self.snapshot.metadata().id()
    }

    /// The columns.
    pub fn columns(&self) -> Arc<StructType> {
        self.snapshot.schema()
    }

    /// The data files.
    pub fn files(&self) -> Vec<DataFile> {
        let views = self.snapshot.log_data().into_iter();
        views.map(|view| DataFile { view }).collect()
    }

    /// How many rows there are, as far as the files' statistics say.
    pub fn rows(&self) -> u64 {
        self.files().iter().filter_map(DataFile::rows).sum()
    }

    /// The newest event time, as far as the files' statistics say.
    pub fn newest_event(&self) -> Option<vintner_core::Timestamp> {
        self.files()
            .iter()
            .filter_map(DataFile::events)
            .map(|events| events.last)
            .max()
    }

    /// What a reader must know of to read the table rightly; 1 is the plainest.
    pub(super) fn reader_version(&self) -> i32 {
        self.snapshot.protocol().min_reader_version()
    }

    pub(super) fn snapshot(&self) -> &Arc<EagerSnapshot> {
        &self.snapshot
    }
}

impl fmt::Debug for TableState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} version {}", self.table, self.version())
    }
}

impl DataFile {
    /// The path, relative to the table.
    pub fn path(&self) -> String {
        self.view.path().into_owned()
    }

    /// The size.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.view.size()).unwrap_or(0)
    }

    /// The number of rows, if the log says.
    pub fn rows(&self) -> Option<u64> {
        stats::rows(self.view.stats().as_deref())
    }

    /// The event times that rows can have; none when the log does not say.
    pub fn events(&self) -> Option<EventRange> {
        stats::event_range(self.view.stats().as_deref())
    }

    /// Whether there can be a row of one of these entities, each the values of the join keys of a schema.
    pub(crate) fn can_hold(&self, schema: &KeySchema, entities: &[Vec<KeyValue>]) -> bool {
        stats::can_hold(self.view.stats().as_deref(), schema, entities)
    }

    /// Whether rows of the file have been deleted without writing it anew, which only other writers do.
    pub(crate) fn has_deleted_rows(&self) -> bool {
        self.view.deletion_vector_descriptor().is_some()
    }

    /// Whether its rows were sorted when it was written.
    pub(crate) fn is_sorted(&self) -> bool {
        file_name::is_sorted(&self.view.path())
    }

    /// Where its rows come from.
    pub(crate) fn origin(&self) -> Origin {
        file_name::origin(&self.view.path())
    }

    pub(crate) fn removal(&self) -> Remove {
        self.view.remove_action(true)
    }
}
