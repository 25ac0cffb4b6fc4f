//! `teardown`: what is stored of view versions that nothing uses any more is deleted.
//!
//! Which rows there are online is known from the table, so no other program's keys are looked at. While rows are
//! deleted, the note of how far the view is loaded stays and says nothing: a deletion that died is done again, and a
//! version that a rollback has brought back meanwhile is loaded as a whole by its next run. The note goes last.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use futures::{
    StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use vintner_core::{EntityKey, ProjectName, ViewId};
use vintner_offline::{delta::OfflineStore, materialize::table_keys, stream::SessionContext};
use vintner_online::{KeyCursor, OnlineStore, PacedDeletion};
use vintner_registry::{model::Project, store::RegistryStore};

use super::{online::online_error, registry_error};
use crate::{
    api::{Dataset, KeysSeen, TeardownScope, TeardownTarget},
    error::{Fault, OpsError},
};

/// How often it is looked whether a version is still unused, while its rows are deleted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A view version to tear down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) id: ViewId,
    /// Whether the registry still has it, as a version that is not the current one: it is retired first.
    pub(super) to_retire: bool,
}

/// Which versions a request means, or why they cannot be torn down.
pub(super) fn targets(
    project: &Project,
    target: &TeardownTarget,
    scope: TeardownScope,
) -> Result<Vec<Unused>, OpsError> {
    let refuse = |message: String| Err(OpsError::new(Fault::Request, message));
    let view = project.views.get(&target.name);
    let current = view.and_then(|view| view.current()).map(|view| &view.id);
    let of_name = project.retired.keys().filter(|id| id.name == target.name);
    let retired: Vec<_> = of_name
        .map(|id| Unused {
            id: id.clone(),
            to_retire: false,
        })
        .collect();
    if current.is_none() && retired.is_empty() {
        return Err(OpsError::new(
            Fault::NotFound,
            format!("there has never been a feature view `{}`", target.name),
        ));
    }
    let wanted = match (target.version, current) {
        (None, None) => return Ok(retired),
        (None, Some(current)) => current.clone(),
        (Some(version), _) => ViewId {
            name: target.name.clone(),
            version,
        },
    };
    if current == Some(&wanted) {
        return match scope {
            TeardownScope::Online => Ok(vec![Unused {
                id: wanted,
                to_retire: false,
            }]),
            TeardownScope::Everything => refuse(format!(
                "{wanted} is the current version; delete the view from the repo and apply, then tear it down, or \
                 delete its online rows alone with --online"
            )),
        };
    }
    if let Some(unused) = retired.into_iter().find(|unused| unused.id == wanted) {
        return Ok(vec![unused]);
    }
    if !view.is_some_and(|view| view.revisions.contains_key(&wanted.version)) {
        return Err(OpsError::new(
            Fault::NotFound,
            format!("there has never been a version {wanted}"),
        ));
    }
    let pins = project.services.values().filter(|service| {
        let mut features = service.features.iter();
        features
            .any(|feature| feature.view == wanted.name && feature.version == Some(wanted.version))
    });
    let pins: Vec<_> = pins.map(|service| format!("`{}`", service.name)).collect();
    match pins.is_empty() || scope == TeardownScope::Online {
        true => Ok(vec![Unused {
            id: wanted,
            to_retire: scope == TeardownScope::Everything,
        }]),
        false => refuse(format!(
            "{wanted} is used by the feature service {}; let it use another version and apply first",
            pins.join(", ")
        )),
    }
}

/// Refuses to delete tables that saved datasets are made of.
pub(super) fn check_datasets(targets: &[Unused], saved: &[Dataset]) -> Result<(), OpsError> {
    for Unused { id, .. } in targets {
        let reads = |dataset: &&Dataset| {
            let mut tables = dataset.tables.iter();
            tables.any(|table| table.view == *id && table.delta_version.is_some())
        };
        let names: Vec<_> = saved.iter().filter(reads).collect();
        let names: Vec<_> = names
            .iter()
            .map(|saved| format!("`{}`", saved.name))
            .collect();
        if !names.is_empty() {
            return Err(OpsError::new(
                Fault::Request,
                format!(
                    "the table of {id} is needed to make the saved dataset {} again; delete the online rows alone \
                     with --online",
                    names.join(", ")
                ),
            ));
        }
    }
    Ok(())
}

/// Why rows may be deleted.
#[derive(Clone, Copy)]
pub(super) enum Reason<'a> {
    /// Someone said so.
    Asked,
    /// The version is retired, as long as it is.
    Retired(&'a RegistryStore),
}

/// The online rows of a view version that are to go.
pub(super) struct OnlineRows<'a> {
    pub(super) store: &'a dyn OnlineStore,
    pub(super) offline: &'a OfflineStore,
    pub(super) session: &'a SessionContext,
    pub(super) project: &'a ProjectName,
    pub(super) view: &'a ViewId,
    pub(super) rate: NonZeroU32,
}

impl OnlineRows<'_> {
    /// Deletes them and says how many there were. It is asked again and again whether that is still right; when it is not,
    /// what is left stays, and the next run of the view loads what is gone.
    pub(super) fn delete<'a>(
        &'a self,
        reason: Reason<'a>,
        events: &'a (dyn Fn(KeysSeen) + Send + Sync),
    ) -> BoxFuture<'a, Result<u64, OpsError>> {
        Box::pin(self.delete_for(reason, events))
    }

    async fn delete_for(
        &self,
        reason: Reason<'_>,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<u64, OpsError> {
        self.note_nothing().await?;
        let table = table_keys(self.offline, self.project, self.view, self.session).await;
        let mut keys = match table.map_err(|error| OpsError::from_error(Fault::Store, error))? {
            Some(keys) => keys
                .map_err(|error| OpsError::from_error(Fault::Store, error))
                .boxed(),
            None => self.listed(),
        };
        let mut deletion = PacedDeletion::new(self.store, self.project, self.view, self.rate);
        let (mut deleted, mut seen, mut looked) = (0, 0, Instant::now());
        while let Some(keys) = keys.next().await {
            for keys in keys?.chunks(512) {
                deleted += deletion.delete(keys).await.map_err(online_error)?;
                seen += keys.len() as u64;
                if looked.elapsed() >= LOOK_EVERY {
                    looked = Instant::now();
                    events(KeysSeen {
                        view: self.view.clone(),
                        keys: seen,
                    });
                    if !self.is_right(reason).await? {
                        self.note_nothing().await?;
                        return Ok(deleted);
                    }
                }
            }
        }
        match self.is_right(reason).await? {
            true => self
                .store
                .forget(self.project, self.view)
                .await
                .map_err(online_error)?,
            false => self.note_nothing().await?,
        }
        Ok(deleted)
    }

    async fn is_right(&self, reason: Reason<'_>) -> Result<bool, OpsError> {
        match reason {
            Reason::Asked => Ok(true),
            Reason::Retired(registry) => {
                let snapshot = registry.latest().await.map_err(registry_error)?;
                let project = snapshot.projects.get(self.project);
                Ok(project.is_some_and(|project| project.retired.contains_key(self.view)))
            }
        }
    }

    /// Says that nothing is loaded, and that there may be rows.
    async fn note_nothing(&self) -> Result<(), OpsError> {
        let begun = self.store.begin_load(self.project, self.view).await;
        let begun = begun.map_err(online_error)?;
        self.store
            .end_load(self.project, self.view, &begun, b"")
            .await
            .map_err(online_error)
    }

    /// The entities by the store's own list: for when the table is gone.
    fn listed(&self) -> BoxStream<'_, Result<Vec<EntityKey>, OpsError>> {
        let pages = stream::try_unfold(
            Some(None),
            move |from: Option<Option<KeyCursor>>| async move {
                let Some(from) = from else { return Ok(None) };
                let page = self.store.keys(self.project, self.view, from.as_ref());
                let page = page.await.map_err(online_error)?;
                Ok(Some((page.keys, page.next.map(Some))))
            },
        );
        pages.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vintner_registry::model::Layout;

    #[test]
    fn only_what_nothing_uses_is_torn_down() {
        let mut project = Project::default();
        let told = |project: &Project, target: &str| {
            match targets(project, &target.parse().unwrap(), TeardownScope::Everything) {
                Ok(found) => found.iter().map(|unused| unused.id.to_string()).collect(),
                Err(error) => vec![error.message],
            }
            .join(" ")
        };
        assert_eq!(
            told(&project, "gone"),
            "there has never been a feature view `gone`"
        );
        for id in ["gone@1", "gone@2", "other@1"] {
            project
                .retired
                .insert(id.parse().unwrap(), vec![Layout { fields: vec![] }]);
        }
        assert_eq!(told(&project, "gone"), "gone@1 gone@2");
        assert_eq!(told(&project, "gone@2"), "gone@2");
        assert_eq!(
            told(&project, "gone@3"),
            "there has never been a version gone@3"
        );
    }
}
