//! Tables that are compacted and vacuumed hold the rows that they held, and those that rows are deleted from all others.

mod compacting;
mod deleting;
mod joining;
mod properties;
mod vacuuming;

use std::sync::Arc;

use object_store::ObjectStore;
use vintner_registry::model::ViewRevision;

use super::{Compaction, MaintenanceContext, MaintenanceError, compact::compact_to, compact_view};
use crate::{delta::OfflineStore, materialize::tests::world::*};

fn context<'a>(world: &'a World, store: &'a OfflineStore) -> MaintenanceContext<'a> {
    MaintenanceContext {
        store,
        project: &world.project,
        session: &world.session,
    }
}

async fn compact(world: &World, view: &ViewRevision) -> Compaction {
    compact_view(&context(world, &world.store), view)
        .await
        .unwrap()
}

/// Compacts through another store over the same tables.
async fn compact_through(
    world: &World,
    view: &ViewRevision,
    objects: Arc<dyn ObjectStore>,
) -> Result<Compaction, MaintenanceError> {
    let store = OfflineStore::over(objects, "memory:///offline".parse().unwrap());
    compact_view(&context(world, &store), view).await
}
