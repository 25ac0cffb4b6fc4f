//! The tables of views, each at one version of it.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use vintner_core::ProjectName;
use vintner_offline::{
    delta::{OfflineStore, OpenTable},
    feature_table::FeatureTable,
};
use vintner_registry::model::ViewRevision;

use crate::{
    api::TableRead,
    error::{Fault, OpsError},
};

/// How many tables' logs are read at a time.
const LOGS_READ_AT_ONCE: usize = 16;

/// Which version of a table.
enum At {
    Newest,
    /// None is before the first write.
    Version(Option<u64>),
}

/// Views' tables as of now, in the order of the views.
pub(super) async fn newest(
    offline: &OfflineStore,
    project: &ProjectName,
    views: &[Arc<ViewRevision>],
) -> Result<Vec<OpenTable>, OpsError> {
    let views = views.iter().map(|view| (Arc::clone(view), At::Newest));
    open(offline, project, views.collect()).await
}

/// Views' tables as they were read, in the order of the views.
pub(super) async fn as_read(
    offline: &OfflineStore,
    project: &ProjectName,
    views: &[Arc<ViewRevision>],
    reads: &[TableRead],
) -> Result<Vec<OpenTable>, OpsError> {
    let pairs = || views.iter().zip(reads);
    if views.len() != reads.len() || pairs().any(|(view, read)| view.id != read.view) {
        return Err(OpsError::new(
            Fault::Store,
            "the dataset's manifest names other feature views than its features come from; restore it from a backup",
        ));
    }
    let views = pairs().map(|(view, read)| (Arc::clone(view), At::Version(read.delta_version)));
    open(offline, project, views.collect()).await
}

async fn open(
    offline: &OfflineStore,
    project: &ProjectName,
    views: Vec<(Arc<ViewRevision>, At)>,
) -> Result<Vec<OpenTable>, OpsError> {
    stream::iter(views)
        .map(|(view, at)| async move {
            match at {
                At::Newest => offline.open_newest(project, &view).await,
                At::Version(version) => offline.open_at(project, &view, version).await,
            }
        })
        .buffered(LOGS_READ_AT_ONCE)
        .try_collect()
        .await
        .map_err(|error| OpsError::from_error(Fault::Store, error))
}

/// Their files, as the join reads them.
pub(super) fn feature_tables(tables: &[OpenTable]) -> Result<Vec<FeatureTable>, OpsError> {
    let tables = tables.iter().map(OpenTable::feature_table);
    tables
        .collect::<Result<_, _>>()
        .map_err(|error| OpsError::from_error(Fault::Store, error))
}

/// Which versions they are.
pub(super) fn reads(tables: &[OpenTable]) -> Vec<TableRead> {
    let read = |table: &OpenTable| TableRead {
        view: table.view().clone(),
        delta_version: table.version(),
        delta_id: table.id().map(str::to_owned),
    };
    tables.iter().map(read).collect()
}
