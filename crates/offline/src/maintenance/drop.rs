//! Deletes a whole table.

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, path::Path};
use vintner_core::{ProjectName, ViewId};

use super::{
    error::MaintenanceError,
    vacuum::{delete_objects, files_error},
};
use crate::delta::{OfflineStore, Table};

/// What a table takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableFiles {
    /// How many files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

/// The files of a view version's table, its log among them.
///
/// # Errors
/// [`MaintenanceError`] when they cannot be listed.
pub async fn table_files(
    store: &OfflineStore,
    project: &ProjectName,
    view: &ViewId,
) -> Result<TableFiles, MaintenanceError> {
    let table = store.table(project, view)?;
    Ok(counted(&list(&table).await?))
}

/// Deletes a view version's table: the log first, so that what dies half way leaves no table rather than a broken
/// one; doing it again deletes the rest.
///
/// # Errors
/// [`MaintenanceError`] when files cannot be listed or deleted. Some may be deleted then.
pub async fn drop_table(
    store: &OfflineStore,
    project: &ProjectName,
    view: &ViewId,
) -> Result<TableFiles, MaintenanceError> {
    let table = store.table(project, view)?;
    let found = list(&table).await?;
    let is_log = |path: &Path| path.as_ref().starts_with("_delta_log");
    let paths = found.iter().map(|file| file.location.clone());
    let (log, data): (Vec<_>, Vec<_>) = paths.partition(is_log);
    for paths in [log, data] {
        let deleted = delete_objects(table.objects().as_ref(), paths).await;
        deleted.map_err(|source| files_error("delete", &table, source))?;
    }
    // Folders are no objects, and neither is what a killed upload has left in them.
    if let Some(folder) = table.folder() {
        match tokio::fs::remove_dir_all(folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let source = object_store::Error::Generic {
                    store: "folder",
                    source: error.into(),
                };
                return Err(files_error("delete", &table, source));
            }
            _ => {}
        }
    }
    Ok(counted(&found))
}

async fn list(table: &Table) -> Result<Vec<ObjectMeta>, MaintenanceError> {
    let found = table.objects().list(None).try_collect().await;
    found.map_err(|source| files_error("list", table, source))
}

fn counted(found: &[ObjectMeta]) -> TableFiles {
    TableFiles {
        files: found.len() as u64,
        bytes: found.iter().map(|file| file.size).sum(),
    }
}
