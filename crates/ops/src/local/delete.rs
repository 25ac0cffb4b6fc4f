//! `delete`: all rows of some entities, first from a view's tables and then from the online store.
//!
//! The table comes first since it is the system of record: what is online is made from it, and would come back. Its commit
//! also says whose rows were deleted, by a digest of each key, so that whoever was cut short before the online store was
//! reached is made good by the next load ([`super::forget`]), and a deletion that is repeated ends as one.
//!
//! Who asked, when, and what came of it stands among the records of runs; whose rows they were does not.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use vintner_core::EntityKey;
use vintner_offline::{
    maintenance::{
        Deletion, MaintenanceContext, MaintenanceError, Mode, delete_entities, deletion_reason,
    },
    materialize::MaterializeContext,
    runs::{EntitiesDeleted, Work},
    sources::Sources,
};
use vintner_registry::model::{Project, ViewRevision};

use super::{
    Local, catalog, datasets, forget::OnlineRows, keys, maintenance::files_of,
    materialize::micros_since, online::online_error,
};
use crate::{
    api::{Dataset, DeleteRequest, Deleted, MOST_DELETED_ENTITIES, TeardownTarget, ViewDeletion},
    error::{Fault, OpsError},
};

/// Deletes the rows of entities.
pub(super) async fn delete(local: &Local, request: &DeleteRequest) -> Result<Deleted, OpsError> {
    let snapshot = local.snapshot().await?;
    let project = local.project(&snapshot)?;
    let views = views_of(project, &request.target)?;
    let entities = entities_of(&views, request)?;
    let saved = datasets::of(&local.offline, &local.project)?.list().await;
    let saved = saved.map_err(datasets::dataset_error)?;
    let mut done = Deleted {
        views: Vec::new(),
        retired: Vec::new(),
    };
    for view in views {
        let mut deletion = of_view(local, view, &entities, request).await?;
        deletion.datasets = made_from(&saved, &deletion);
        done.views.push(deletion);
    }
    let of_name = project
        .retired
        .keys()
        .filter(|id| request.target.version.is_none() && id.name == request.target.name);
    for id in of_name {
        let load = local.online().await?.load(&local.project, id).await;
        let is_online = load.map_err(online_error)?.begun;
        let table = files_of(&local.offline, &local.project, id, true).await?;
        if is_online || table.files > 0 {
            done.retired.push(id.clone());
        }
    }
    Ok(done)
}

/// The versions that a request means, the current one first.
fn views_of<'a>(
    project: &'a Project,
    target: &TeardownTarget,
) -> Result<Vec<&'a ViewRevision>, OpsError> {
    let view = project.views.get(&target.name);
    let Some(view) = view.filter(|view| view.current().is_some()) else {
        if project.retired.keys().any(|id| id.name == target.name) {
            return Err(OpsError::new(
                Fault::NotFound,
                format!(
                    "the feature view `{0}` was deleted; `vintner teardown {0}` deletes all that is stored of it",
                    target.name
                ),
            ));
        }
        return catalog::view(project, target.name.as_str()).map(|view| vec![view]);
    };
    let Some(version) = target.version else {
        return Ok(view.revisions.values().rev().collect());
    };
    if let Some(revision) = view.revisions.get(&version) {
        return Ok(vec![revision]);
    }
    let versions: Vec<_> = view
        .revisions
        .keys()
        .map(|v| format!("{}@{v}", target.name))
        .collect();
    let is_retired = project
        .retired
        .keys()
        .any(|id| id.name == target.name && id.version == version);
    Err(OpsError::new(
        Fault::NotFound,
        match is_retired {
            true => format!(
                "{target} is retired; `vintner teardown {target}` deletes all that is stored of it"
            ),
            false => format!(
                "there is no version {target}; there is {}",
                versions.join(", ")
            ),
        },
    ))
}

/// The keys of a request's entities, each once.
fn entities_of(
    views: &[&ViewRevision],
    request: &DeleteRequest,
) -> Result<HashSet<EntityKey>, OpsError> {
    let refuse = |message: String| Err(OpsError::new(Fault::Request, message));
    let Some((first, others)) = views.split_first() else {
        return Ok(HashSet::new());
    };
    if let Some(other) = others
        .iter()
        .find(|other| other.join_keys != first.join_keys)
    {
        let names = |view: &ViewRevision| {
            let keys = view.keys().iter();
            let keys: Vec<_> = keys
                .map(|key| format!("{} ({})", key.name, key.key_type))
                .collect();
            keys.join(", ")
        };
        return refuse(format!(
            "{} has the join keys {}, and {} has {}: an entity of the one is none of the other; delete from each by its \
             version, as in `vintner delete {}`",
            first.id,
            names(first),
            other.id,
            names(other),
            first.id
        ));
    }
    let whose = format!("the feature view `{}`", first.id.name);
    let given = keys::read(&first.join_keys, request.entities.clone(), &whose)?;
    match given.count() {
        0 => return refuse("there are no entities to delete; give at least one".to_owned()),
        count if count > MOST_DELETED_ENTITIES => {
            return refuse(format!(
                "there are {count} entities, and {MOST_DELETED_ENTITIES} are deleted at a time; give fewer, one part \
                 after the other"
            ));
        }
        _ => {}
    }
    let given = given.keys_of(first);
    let given = given.map_err(|error| OpsError::from_error(Fault::Internal, error))?;
    let keys = given.into_iter().enumerate();
    keys.map(|(row, key)| {
        key.ok_or_else(|| {
            let message = format!(
                "entity {} has no value of a join key; give all of them, or leave the entity out",
                row + 1
            );
            OpsError::new(Fault::Request, message)
        })
    })
    .collect()
}

/// Deletes from one view version; what was done is recorded, also of one that failed.
async fn of_view(
    local: &Local,
    view: &ViewRevision,
    entities: &HashSet<EntityKey>,
    request: &DeleteRequest,
) -> Result<ViewDeletion, OpsError> {
    let began = local.begin();
    let mut done = ViewDeletion {
        view: view.id.clone(),
        entities: entities.len() as u64,
        found: 0,
        rows: 0,
        online_rows: 0,
        table_version: None,
        files_removed: 0,
        files_added: 0,
        bytes_added: 0,
        datasets: Vec::new(),
        micros: 0,
    };
    let ended = delete_into(local, view, entities, request.dry_run, &mut done).await;
    done.micros = micros_since(began.instant);
    if !request.dry_run {
        let work = Work::Delete(EntitiesDeleted {
            author: request.author.clone(),
            entities: done.entities,
            found: done.found,
            rows: done.rows,
            online_rows: done.online_rows,
        });
        let reason = deletion_reason(entities.len());
        local
            .record(&view.id, work, reason, began, ended.as_ref().err())
            .await;
    }
    ended.map(|()| done)
}

async fn delete_into(
    local: &Local,
    view: &ViewRevision,
    entities: &HashSet<EntityKey>,
    dry_run: bool,
    done: &mut ViewDeletion,
) -> Result<(), OpsError> {
    let now = local.clock.now();
    let session = local.session()?;
    let maintenance = MaintenanceContext {
        store: &local.offline,
        project: &local.project,
        session: &session,
    };
    let mode = match dry_run {
        true => Mode::Told,
        false => Mode::Done,
    };
    // A store that is away is found out before anything is deleted.
    let store = local.online().await?;
    let reached = store.load(&local.project, &view.id).await;
    reached.map_err(online_error)?;
    let table = delete_entities(&maintenance, view, entities, now, mode).await;
    let table = table.map_err(table_error)?;
    done.found = table.found.len() as u64;
    done.rows = table.rows;
    done.table_version = table.table_version;
    done.files_removed = table.files_removed as u64;
    done.files_added = table.files_added as u64;
    done.bytes_added = table.bytes_added;
    let sources = Sources::new(&local.root);
    let context = MaterializeContext {
        store: &local.offline,
        project: &local.project,
        sources: &sources,
        session: &session,
    };
    let online = OnlineRows {
        context: &context,
        store,
        view,
        now,
    };
    // Also of a view that is not in the online store: it may have been.
    let from_online = from_online(&online, entities, &table, dry_run, done).await;
    from_online.map_err(|error| match table.table_version {
        Some(version) if !dry_run => OpsError::new(
            error.fault,
            format!(
                "the rows are gone from version {version} of the table of {}, but not all of them from the online \
                 store: {}; delete them again, or run `vintner materialize {}`",
                view.id,
                error.chain(),
                view.id.name
            ),
        ),
        _ => error,
    })
}

/// The online rows, of which there may be some of entities that have none in the table.
async fn from_online(
    online: &OnlineRows<'_>,
    entities: &HashSet<EntityKey>,
    table: &Deletion,
    dry_run: bool,
    done: &mut ViewDeletion,
) -> Result<(), OpsError> {
    let keys: Vec<_> = entities.iter().cloned().collect();
    let stored = online.stored(&keys).await?;
    let only_online = stored.keys().filter(|key| !table.found.contains(*key));
    done.found += only_online.count() as u64;
    done.online_rows = match dry_run {
        true => stored.len() as u64,
        false => online.forget(keys, table.table_version).await?,
    };
    Ok(())
}

/// The saved datasets that need versions of a table from before the deletion.
fn made_from(saved: &[Dataset], deletion: &ViewDeletion) -> Vec<vintner_core::DatasetName> {
    let needs = |dataset: &&Dataset| {
        let mut tables = dataset.tables.iter();
        tables.any(|table| {
            let is_older = |version: u64| deletion.table_version.is_none_or(|now| version < now);
            table.view == deletion.view && table.delta_version.is_some_and(is_older)
        })
    };
    let needing = saved.iter().filter(needs);
    needing.map(|dataset| dataset.name.clone()).collect()
}

fn table_error(error: MaintenanceError) -> OpsError {
    let fault = match error {
        MaintenanceError::Busy { .. } => Fault::Busy,
        MaintenanceError::Delta(_)
        | MaintenanceError::Sort { .. }
        | MaintenanceError::Files { .. } => Fault::Store,
    };
    OpsError::from_error(fault, error)
}
