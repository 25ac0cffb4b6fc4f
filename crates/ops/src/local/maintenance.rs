//! `compact` and `vacuum`: the care for the tables of the offline store.

use std::num::NonZeroUsize;

use vintner_core::{ProjectName, Timestamp, ViewId};
use vintner_offline::{
    delta::OfflineStore,
    maintenance::{
        self, Compaction, MaintenanceContext, MaintenanceError, Pin, Vacuum, compact_view,
        vacuum_view,
    },
    planner::session::{EngineConfig, session},
};
use vintner_registry::model::ViewRevision;

use crate::{
    api::{PinnedFile, VacuumRequest, VacuumedFile, ViewCompaction, ViewVacuum},
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

/// Vacuums the tables of views, one after the other. Pinned versions stay readable.
pub(super) async fn vacuum(
    store: &OfflineStore,
    project: &ProjectName,
    views: &[&ViewId],
    request: &VacuumRequest,
    pins: &[Pin],
    now: Timestamp,
) -> Result<Vec<ViewVacuum>, OpsError> {
    let asked = maintenance::VacuumRequest {
        retention: request.retention,
        pins,
        dry_run: request.dry_run,
    };
    let mut done = Vec::new();
    for view in views {
        let vacuumed = vacuum_view(store, project, view, &asked, now).await;
        done.push(of_vacuum(
            ViewId::clone(view),
            vacuumed.map_err(maintenance_error)?,
        ));
    }
    Ok(done)
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
        micros: u64::try_from(done.elapsed.as_micros()).unwrap_or(u64::MAX),
    }
}

fn of_vacuum(view: ViewId, done: Vacuum) -> ViewVacuum {
    let deleted = done.deleted.into_iter().map(|file| VacuumedFile {
        path: file.path,
        bytes: file.bytes,
    });
    let pinned = done.pinned.into_iter().map(|file| PinnedFile {
        path: file.path,
        bytes: file.bytes,
        versions: file.versions,
    });
    ViewVacuum {
        view,
        deleted: deleted.collect(),
        pinned: pinned.collect(),
        retained: done.retained as u64,
        lost_versions: done.lost_pins,
    }
}

fn maintenance_error(error: MaintenanceError) -> OpsError {
    OpsError::from_error(Fault::Store, error)
}
