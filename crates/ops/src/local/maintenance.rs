//! `compact`, `vacuum` and the end of tables: the care for the offline store.

use std::num::NonZeroUsize;

use vintner_core::{ProjectName, Timestamp, ViewId};
use vintner_offline::{
    datasets::Datasets,
    delta::OfflineStore,
    maintenance::{
        self, Compaction, DeletedFile, MaintenanceContext, MaintenanceError, Pin, TableFiles,
        Vacuum, compact_view, drop_table, table_files, vacuum_runs, vacuum_view,
    },
    planner::session::{EngineConfig, session},
    runs::Runs,
};
use vintner_registry::model::ViewRevision;

use super::{datasets::dataset_error, materialize::micros};
use crate::{
    api::{FolderVacuum, PinnedFile, VacuumRequest, VacuumedFile, ViewCompaction, ViewVacuum},
    error::{Fault, OpsError},
};

/// How many bytes the rows that are being sorted may take before they go to the disk.
const SORT_BYTES: usize = 256 << 20;

/// Compacts the tables of views, one after the other.
pub(super) async fn compact(
    store: &OfflineStore,
    project: &ProjectName,
    views: &[&ViewRevision],
) -> Result<Vec<ViewCompaction>, OpsError> {
    let config = EngineConfig {
        memory_limit: NonZeroUsize::new(SORT_BYTES),
        ..EngineConfig::default()
    };
    let session = session(&config).map_err(|e| OpsError::from_error(Fault::Internal, e))?;
    let context = MaintenanceContext {
        store,
        project,
        session: &session,
    };
    let mut done = Vec::new();
    for view in views {
        let compacted = compact_view(&context, view).await;
        done.push(of_compaction(compacted.map_err(maintenance_error)?));
    }
    Ok(done)
}

/// A vacuum of an offline store. Pinned versions stay readable.
pub(super) struct Vacuuming<'a> {
    pub(super) store: &'a OfflineStore,
    pub(super) project: &'a ProjectName,
    pub(super) request: &'a VacuumRequest,
    pub(super) pins: &'a [Pin],
    pub(super) now: Timestamp,
}

impl Vacuuming<'_> {
    /// A view version's table.
    pub(super) async fn view(&self, view: &ViewId) -> Result<ViewVacuum, OpsError> {
        let done = vacuum_view(self.store, self.project, view, &self.asked(), self.now).await;
        Ok(of_vacuum(view.clone(), done.map_err(maintenance_error)?))
    }

    /// The table of a view version that is not the current one; none when there is nothing to tell.
    pub(super) async fn other_view(&self, view: &ViewId) -> Result<Option<ViewVacuum>, OpsError> {
        let done = self.view(view).await?;
        let says_something = !done.deleted.is_empty()
            || !done.pinned.is_empty()
            || done.retained > 0
            || !done.lost_versions.is_empty();
        Ok(says_something.then_some(done))
    }

    /// What saves of datasets that died have left.
    pub(super) async fn datasets(
        &self,
        datasets: &Datasets,
    ) -> Result<Vec<FolderVacuum>, OpsError> {
        let VacuumRequest {
            retention, dry_run, ..
        } = *self.request;
        let done = datasets.vacuum(retention, dry_run, self.now).await;
        let done = done.map_err(dataset_error)?.into_iter();
        Ok(done
            .map(|unsaved| FolderVacuum {
                folder: format!("{}/{}/{}", self.project, Datasets::FOLDER, unsaved.name),
                deleted: unsaved.deleted.into_iter().map(of_file).collect(),
                retained: unsaved.retained as u64,
            })
            .collect())
    }

    /// The table of runs; none when there is nothing to tell.
    pub(super) async fn runs(&self) -> Result<Option<FolderVacuum>, OpsError> {
        let done = vacuum_runs(self.store, &self.asked(), self.now).await;
        let done = done.map_err(maintenance_error)?;
        let says_something = !done.deleted.is_empty() || done.retained > 0;
        Ok(says_something.then(|| FolderVacuum {
            folder: Runs::FOLDER.to_owned(),
            deleted: done.deleted.into_iter().map(of_file).collect(),
            retained: done.retained as u64,
        }))
    }

    fn asked(&self) -> maintenance::VacuumRequest<'_> {
        maintenance::VacuumRequest {
            retention: self.request.retention,
            pins: self.pins,
            dry_run: self.request.dry_run,
        }
    }
}

/// What a view version's table takes; nothing when the table is not meant.
pub(super) async fn files_of(
    store: &OfflineStore,
    project: &ProjectName,
    view: &ViewId,
    meant: bool,
) -> Result<TableFiles, OpsError> {
    match meant {
        true => table_files(store, project, view)
            .await
            .map_err(maintenance_error),
        false => Ok(TableFiles::default()),
    }
}

/// Deletes a view version's table.
pub(super) async fn drop(
    store: &OfflineStore,
    project: &ProjectName,
    view: &ViewId,
) -> Result<TableFiles, OpsError> {
    drop_table(store, project, view)
        .await
        .map_err(maintenance_error)
}

fn of_compaction(done: Compaction) -> ViewCompaction {
    ViewCompaction {
        view: done.view,
        table_version: done.table_version,
        files_before: done.files_before as u64,
        files_removed: done.files_removed as u64,
        files_added: done.files_added as u64,
        bytes_removed: done.bytes_removed,
        bytes_added: done.bytes_added,
        rows: done.rows,
        micros: micros(done.elapsed),
    }
}

fn of_vacuum(view: ViewId, done: Vacuum) -> ViewVacuum {
    let pinned = done.pinned.into_iter().map(|file| PinnedFile {
        path: file.path,
        bytes: file.bytes,
        versions: file.versions,
    });
    ViewVacuum {
        view,
        deleted: done.deleted.into_iter().map(of_file).collect(),
        pinned: pinned.collect(),
        retained: done.retained as u64,
        lost_versions: done.lost_pins,
    }
}

fn of_file(file: DeletedFile) -> VacuumedFile {
    VacuumedFile {
        path: file.path,
        bytes: file.bytes,
    }
}

fn maintenance_error(error: MaintenanceError) -> OpsError {
    OpsError::from_error(Fault::Store, error)
}
