//! `list` and `show`: what the registry holds, with what the stores say of it.

use std::collections::BTreeSet;

use vintner_core::{FeatureRef, Timestamp, ViewId, ViewName, nearest::nearest};
use vintner_registry::{
    model::{Project, Refresh, ViewRevision},
    selection::{FeatureRequest, NameStyle, select},
};

use crate::{
    api::{Detail, ObjectKind, Run, ServiceColumn, Summary, ViewDetail},
    error::{Fault, OpsError},
};

/// What the offline store says of a view version.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredView {
    pub(super) delta_version: Option<u64>,
    pub(super) rows: Option<u64>,
    pub(super) newest_event: Option<Timestamp>,
    pub(super) last_run: Option<Run>,
}

/// The objects of a kind, in the order of their names.
pub(super) fn list(project: &Project, kind: ObjectKind) -> Vec<Summary> {
    match kind {
        ObjectKind::Entity => project
            .entities
            .values()
            .map(|entity| Summary {
                name: entity.name.to_string(),
                detail: joined(
                    entity
                        .join_keys
                        .join_keys()
                        .iter()
                        .map(|key| format!("{} {}", key.name, key.key_type)),
                ),
                description: entity.about.description.clone(),
                owner: entity.about.owner.clone(),
            })
            .collect(),
        ObjectKind::Source => project
            .sources
            .values()
            .map(|source| Summary {
                name: source.name.to_string(),
                detail: source.path.clone(),
                description: source.about.description.clone(),
                owner: source.about.owner.clone(),
            })
            .collect(),
        ObjectKind::FeatureView => project
            .views
            .values()
            .filter_map(|view| view.current())
            .map(|view| Summary {
                name: view.id.to_string(),
                detail: format!(
                    "{}, {} features of {}",
                    refresh_word(&view.refresh),
                    view.features.len(),
                    joined(&view.entities)
                ),
                description: view.about.description.clone(),
                owner: view.about.owner.clone(),
            })
            .collect(),
        ObjectKind::FeatureService => project
            .services
            .values()
            .map(|service| Summary {
                name: service.name.to_string(),
                detail: joined(&service.features),
                description: service.about.description.clone(),
                owner: service.about.owner.clone(),
            })
            .collect(),
    }
}

/// The current version of the view of that name.
///
/// # Errors
/// [`Fault::NotFound`] with the nearest name.
pub(super) fn view<'a>(project: &'a Project, name: &str) -> Result<&'a ViewRevision, OpsError> {
    project
        .views
        .get(name)
        .and_then(|view| view.current())
        .ok_or_else(|| {
            not_found(
                ObjectKind::FeatureView,
                name,
                project.views.keys().map(ViewName::as_str),
            )
        })
}

/// One object of the registry, without what the stores say of it.
///
/// # Errors
/// [`Fault::NotFound`] with the nearest name.
pub(super) fn show(
    project: &Project,
    kind: ObjectKind,
    name: &str,
    stored: StoredView,
) -> Result<Detail, OpsError> {
    match kind {
        ObjectKind::Entity => {
            let missing = || not_found(kind, name, project.entities.keys().map(|n| n.as_str()));
            let entity = project.entities.get(name).ok_or_else(missing)?.clone();
            let used_by = views_where(project, |view| view.entities.contains(&entity.name));
            Ok(Detail::Entity { entity, used_by })
        }
        ObjectKind::Source => {
            let missing = || not_found(kind, name, project.sources.keys().map(|n| n.as_str()));
            let source = project.sources.get(name).ok_or_else(missing)?.clone();
            let used_by = views_where(project, |view| view.sources.contains(&source.name));
            Ok(Detail::Source { source, used_by })
        }
        ObjectKind::FeatureView => {
            let revision = view(project, name)?.clone();
            let versions = project
                .views
                .get(name)
                .into_iter()
                .flat_map(|view| view.revisions.values());
            let StoredView {
                delta_version,
                rows,
                newest_event,
                last_run,
            } = stored;
            Ok(Detail::FeatureView(Box::new(ViewDetail {
                versions: versions.map(|revision| revision.id.clone()).collect(),
                used_by: services_of(project, &revision.id),
                revision,
                delta_version,
                rows,
                newest_event,
                last_run,
            })))
        }
        ObjectKind::FeatureService => {
            let missing = || not_found(kind, name, project.services.keys().map(|n| n.as_str()));
            let service = project.services.get(name).ok_or_else(missing)?.clone();
            let request = FeatureRequest::Service(service.name.clone());
            let selection = select(project, &request, NameStyle::Short)
                .map_err(|error| OpsError::from_error(Fault::Internal, error))?;
            let columns = selection.columns.iter().map(|column| ServiceColumn {
                name: column.name.clone(),
                feature_type: column.feature.feature_type,
                from: selection
                    .views
                    .get(column.view)
                    .map_or(String::new(), |view| {
                        format!("{}:{}", view.id, column.feature.name)
                    }),
            });
            Ok(Detail::FeatureService {
                columns: columns.collect(),
                service,
            })
        }
    }
}

fn views_where(project: &Project, wanted: impl Fn(&ViewRevision) -> bool) -> Vec<ViewName> {
    let views = project.views.values().filter_map(|view| view.current());
    views
        .filter(|view| wanted(view))
        .map(|view| view.id.name.clone())
        .collect()
}

fn services_of(project: &Project, id: &ViewId) -> Vec<String> {
    let uses = |reference: &FeatureRef| {
        reference.view == id.name
            && reference
                .version
                .is_none_or(|version| version == id.version)
    };
    let services = project
        .services
        .values()
        .filter(|service| service.features.iter().any(uses));
    services
        .map(|service| service.name.to_string())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn refresh_word(refresh: &Refresh) -> &'static str {
    match refresh {
        Refresh::RowLocal { .. } => "row-local",
        Refresh::Static { .. } => "static",
        Refresh::Windowed => "windowed",
    }
}

fn not_found<'a>(kind: ObjectKind, name: &str, known: impl Iterator<Item = &'a str>) -> OpsError {
    let known: Vec<&str> = known.collect();
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => {
            "the registry has none; `vintner apply` writes what the repo declares".to_owned()
        }
        None => format!("there are {}", known.join(", ")),
    };
    OpsError::new(
        Fault::NotFound,
        format!("there is no {kind} `{name}`; {hint}"),
    )
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
