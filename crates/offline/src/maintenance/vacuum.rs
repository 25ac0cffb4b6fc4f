//! Deletes the data files that nobody needs any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use deltalake::kernel::Action;
use futures::{StreamExt, TryStreamExt, future::BoxFuture};
use object_store::{ObjectMeta, ObjectStore, path::Path};
use vintner_core::{ProjectName, Timestamp, Ttl, ViewId};

use super::{error::MaintenanceError, leftovers};
use crate::{
    delta::{DeltaError, OfflineStore, Table, TableState},
    runs,
};

/// Files that nothing names are kept for so many microseconds at least, whatever the retention: they may belong to
/// something that is not finished yet.
const UNFINISHED_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// A version of a view's table that must stay readable.
pub type Pin = (ViewId, u64);

/// What to delete.
#[derive(Clone, Debug)]
pub struct VacuumRequest<'a> {
    /// How long versions stay readable after the next one has come.
    pub retention: Ttl,
    /// Versions that stay readable for good. Those of other views are passed over.
    pub pins: &'a [Pin],
    /// Whether files are deleted, or only named.
    pub dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacuum {
    /// The files, in the order of their paths.
    pub deleted: Vec<DeletedFile>,
    /// Files that are kept only since a pinned version has them.
    pub pinned: Vec<KeptFile>,
    /// Files that are kept until the retention has run out.
    pub retained: usize,
    /// Pinned versions that cannot be read any more, since the log or some of their files are gone.
    pub lost_pins: Vec<u64>,
}

/// A file that is not needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedFile {
    /// The path, relative to the table.
    pub path: String,
    /// The size.
    pub bytes: u64,
}

/// A file that is kept for pinned versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    /// The path, relative to the table.
    pub path: String,
    /// The size.
    pub bytes: u64,
    /// The pinned versions that have it.
    pub versions: Vec<u64>,
}

/// Deletes the data files of a view's table that the newest version does not have, that none had within the retention
/// before `now`, and that no pinned version has; and files that never became part of a version, finished or not, once
/// they are a day old and older than the retention. The log stays as it is, so that every version can still be looked up.
///
/// Readers of versions within the retention, and writers, may go on meanwhile. Running it again deletes nothing.
///
/// # Errors
/// [`MaintenanceError`] when the log cannot be read, or files cannot be listed or deleted. Some may be deleted then.
pub fn vacuum_view<'a>(
    store: &'a OfflineStore,
    project: &'a ProjectName,
    view: &'a ViewId,
    request: &'a VacuumRequest<'a>,
    now: Timestamp,
) -> BoxFuture<'a, Result<Vacuum, MaintenanceError>> {
    Box::pin(async move {
        let table = store.table(project, view)?;
        vacuum(&table, &pins_of(view, request.pins), request, now).await
    })
}

/// The same for the table of runs, of which no version is pinned.
///
/// # Errors
/// As [`vacuum_view`].
pub fn vacuum_runs<'a>(
    store: &'a OfflineStore,
    request: &'a VacuumRequest<'a>,
    now: Timestamp,
) -> BoxFuture<'a, Result<Vacuum, MaintenanceError>> {
    Box::pin(async move {
        let table = store.system_table(runs::TABLE)?;
        vacuum(&table, &BTreeSet::new(), request, now).await
    })
}

/// Which files are old enough to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    cutoff: Timestamp,
    abandoned: Timestamp,
}

impl Age {
    pub(crate) fn new(retention: Ttl, now: Timestamp) -> Self {
        Self {
            cutoff: now.saturating_sub(retention),
            abandoned: Timestamp::from_micros(now.micros().saturating_sub(UNFINISHED_MICROS)),
        }
    }

    /// Whether a file that nothing names, written at a time, is no longer to be named by what wrote it.
    pub(crate) fn is_over(self, written: Timestamp) -> bool {
        written < self.cutoff && written < self.abandoned
    }
}

async fn vacuum(
    table: &Table,
    pins: &BTreeSet<u64>,
    request: &VacuumRequest<'_>,
    now: Timestamp,
) -> Result<Vacuum, MaintenanceError> {
    // Listed before the log is read: what is added after that is younger than any retention.
    let objects = list(table).await?;
    let Some(newest) = table.newest().await? else {
        return Ok(Vacuum::default());
    };
    let age = Age::new(request.retention, now);
    let mut report = Vacuum::default();
    let mut pinned: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for &version in pins {
        match pinned_files(table, version, &objects).await? {
            Some(paths) => paths
                .into_iter()
                .for_each(|path| pinned.entry(path).or_default().push(version)),
            None => report.lost_pins.push(version),
        }
    }
    let log = Log::read(table, &newest, &objects, age.cutoff).await?;
    let mut unneeded = Vec::new();
    for object in objects.iter().filter(|object| is_data(&object.location)) {
        let path = object.location.to_string();
        if log.live.contains(&path) {
            continue;
        }
        let is_due = match log.known.contains(&path) {
            true => !log.needed.contains(&path),
            false => age.is_over(micros(object)),
        };
        match pinned.remove(&path) {
            _ if !is_due => report.retained += 1,
            Some(versions) => report.pinned.push(KeptFile {
                path,
                bytes: object.size,
                versions,
            }),
            None => {
                unneeded.push(object.location.clone());
                report.deleted.push(DeletedFile {
                    path,
                    bytes: object.size,
                });
            }
        }
    }
    let folder = table.folder();
    let failed = |what, error: io::Error| {
        let source = object_store::Error::Generic {
            store: "LocalStore",
            source: error.into(),
        };
        files_error(what, table, source)
    };
    let mut left_over = Vec::new();
    if let Some(folder) = folder.clone() {
        let found = leftovers::find(folder, &[".parquet"]).await;
        for upload in found.map_err(|error| failed("list", error))? {
            if !age.is_over(upload.written) {
                report.retained += 1;
                continue;
            }
            left_over.push(upload.name.clone());
            report.deleted.push(DeletedFile {
                path: upload.name,
                bytes: upload.bytes,
            });
        }
    }
    report.deleted.sort_by(|a, b| a.path.cmp(&b.path));
    if !request.dry_run {
        delete(table, unneeded).await?;
        if let Some(folder) = folder {
            let deleted = leftovers::delete(folder, left_over).await;
            deleted.map_err(|error| failed("delete", error))?;
        }
    }
    Ok(report)
}

/// The pinned versions of a view.
fn pins_of(view: &ViewId, pins: &[Pin]) -> BTreeSet<u64> {
    let pins = pins.iter().filter(|(pinned, _)| pinned == view);
    pins.map(|(_, version)| *version).collect()
}

/// The files of a pinned version; none when it cannot be read any more.
async fn pinned_files(
    table: &Table,
    version: u64,
    objects: &[ObjectMeta],
) -> Result<Option<Vec<String>>, DeltaError> {
    let state = match table.at(version).await {
        Ok(state) => state,
        Err(DeltaError::NoSuchVersion { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let there: BTreeSet<&str> = objects.iter().map(|o| o.location.as_ref()).collect();
    let paths: Vec<_> = state.files().iter().map(|file| file.path()).collect();
    let is_whole = paths.iter().all(|path| there.contains(path.as_str()));
    Ok(is_whole.then_some(paths))
}

/// What the log says of files.
struct Log {
    /// The files of the newest version.
    live: BTreeSet<String>,
    /// Files that some version within the retention has.
    needed: BTreeSet<String>,
    /// Files that some version has, or has had.
    known: BTreeSet<String>,
}

impl Log {
    /// A file that a version took away is needed as long as that version is younger than `cutoff`, since the one before it
    /// was the newest until then.
    async fn read(
        table: &Table,
        newest: &TableState,
        objects: &[ObjectMeta],
        cutoff: Timestamp,
    ) -> Result<Self, DeltaError> {
        let written: BTreeMap<u64, Timestamp> = objects
            .iter()
            .filter_map(|object| Some((commit_version(&object.location)?, micros(object))))
            .collect();
        let live: BTreeSet<String> = newest.files().iter().map(|file| file.path()).collect();
        let mut log = Self {
            known: live.clone(),
            live,
            needed: BTreeSet::new(),
        };
        for version in (0..=newest.version()).rev() {
            let Some(actions) = table.actions(version).await? else {
                break;
            };
            // A commit that came after the listing is younger than everything that was listed.
            let is_recent = written.get(&version).is_none_or(|at| *at >= cutoff);
            for action in actions {
                match action {
                    Action::Remove(remove) => {
                        if is_recent {
                            log.needed.insert(remove.path.clone());
                        }
                        log.known.insert(remove.path);
                    }
                    Action::Add(add) => {
                        log.known.insert(add.path);
                    }
                    _ => {}
                }
            }
        }
        Ok(log)
    }
}

/// The version that an object of the log is the commit of.
fn commit_version(location: &Path) -> Option<u64> {
    let name = location.as_ref().strip_prefix("_delta_log/")?;
    name.strip_suffix(".json")?.parse().ok()
}

/// Whether an object is a data file: a Parquet file beside the log. Nothing else is ever deleted.
fn is_data(location: &Path) -> bool {
    let name = location.as_ref();
    !name.contains('/') && name.ends_with(".parquet")
}

pub(crate) fn micros(object: &ObjectMeta) -> Timestamp {
    Timestamp::from_micros(object.last_modified.timestamp_micros())
}

async fn list(table: &Table) -> Result<Vec<ObjectMeta>, MaintenanceError> {
    let objects = table.objects();
    let mut listed: Vec<_> = objects
        .list(None)
        .try_collect()
        .await
        .map_err(|source| files_error("list", table, source))?;
    listed.sort_by(|a: &ObjectMeta, b| a.location.cmp(&b.location));
    Ok(listed)
}

async fn delete(table: &Table, paths: Vec<Path>) -> Result<(), MaintenanceError> {
    let deleted = delete_objects(table.objects().as_ref(), paths).await;
    deleted.map_err(|source| files_error("delete", table, source))
}

/// Deletes objects. One that is gone already is as good as deleted.
pub(crate) async fn delete_objects(
    objects: &dyn ObjectStore,
    paths: Vec<Path>,
) -> object_store::Result<()> {
    let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
    let mut deleted = objects.delete_stream(paths);
    while let Some(result) = deleted.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn files_error(
    what: &'static str,
    table: &Table,
    source: object_store::Error,
) -> MaintenanceError {
    MaintenanceError::Files {
        what,
        table: table.to_string(),
        location: table.location().to_owned(),
        source,
    }
}
