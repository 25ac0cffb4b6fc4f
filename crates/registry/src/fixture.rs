//! Projects for tests, written short.

use std::collections::BTreeMap;

use vintner_core::{FeatureField, FeatureName, JoinKey, KeySchema, ViewId, ViewVersion};

use crate::{
    model::{
        About, Entity, FeatureService, Layout, Project, Refresh, Source, SourceColumn,
        SourceFormat, View, ViewInput, ViewRevision,
    },
    plan::{DesiredProject, DesiredView},
};

/// `name: type` items, separated by commas.
fn typed(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',')
        .filter(|item| !item.trim().is_empty())
        .map(|item| {
            let (name, kind) = item.split_once(':').unwrap();
            (name.trim(), kind.trim())
        })
}

/// The key schema of `name: type` items.
pub(crate) fn keys(text: &str) -> KeySchema {
    let keys = typed(text).map(|(name, key_type)| JoinKey {
        name: name.parse().unwrap(),
        key_type: key_type.parse().unwrap(),
    });
    KeySchema::new(keys.collect()).unwrap()
}

/// The features of `name: type` items.
pub(crate) fn features(text: &str) -> Vec<FeatureField> {
    typed(text)
        .map(|(name, feature_type)| FeatureField {
            name: name.parse().unwrap(),
            feature_type: feature_type.parse().unwrap(),
            default: None,
            description: String::new(),
        })
        .collect()
}

/// A windowed view version over the source `events`; version 1 unless the name says another.
pub(crate) fn revision(id: &str, join_keys: &str, fields: &str) -> ViewRevision {
    let id = match id.contains('@') {
        true => id.parse().unwrap(),
        false => ViewId {
            name: id.parse().unwrap(),
            version: ViewVersion::FIRST,
        },
    };
    let features = features(fields);
    let each = |make: fn(&FeatureName) -> String| -> BTreeMap<FeatureName, String> {
        let names = features.iter().map(|f| &f.name);
        names.map(|name| (name.clone(), make(name))).collect()
    };
    ViewRevision {
        id,
        entities: vec!["thing".parse().unwrap()],
        join_keys: keys(join_keys),
        ttl: None,
        input: ViewInput::Query("SELECT * FROM events".into()),
        sources: vec!["events".parse().unwrap()],
        event_timestamp: Some("at".parse().unwrap()),
        created_timestamp: None,
        definitions: each(|name| format!("events.{name}")),
        lineage: each(ToString::to_string)
            .into_iter()
            .map(|(name, column)| {
                let source = "events".parse().unwrap();
                (name, vec![SourceColumn { source, column }])
            })
            .collect(),
        relation: "scan events".into(),
        refresh: Refresh::Windowed,
        refresh_reason: "the query groups rows".into(),
        lookback: None,
        near_cache: None,
        layouts: vec![Layout::of(&features)],
        features,
        offline: true,
        online: true,
        about: About::default(),
    }
}

/// A project of these view versions and services; a service is a name and its references, separated by commas.
pub(crate) fn project_of<'a>(
    revisions: impl IntoIterator<Item = ViewRevision>,
    services: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Project {
    let mut project = Project::default();
    for revision in revisions {
        let (name, version) = (revision.id.name.clone(), revision.id.version);
        let used = project.versions_used.entry(name.clone()).or_insert(version);
        *used = version.max(*used);
        let view = project.views.entry(name.clone()).or_insert_with(|| View {
            name,
            revisions: BTreeMap::new(),
        });
        view.revisions.insert(version, revision);
    }
    for (name, references) in services {
        let service = service(name, references);
        project.services.insert(service.name.clone(), service);
    }
    project
}

/// A feature service of references, separated by commas.
pub(crate) fn service(name: &str, references: &str) -> FeatureService {
    FeatureService {
        name: name.parse().unwrap(),
        features: references
            .split(',')
            .map(|reference| reference.trim().parse().unwrap())
            .collect(),
        about: About::default(),
    }
}

/// The entity `thing`, of which all views are.
pub(crate) fn entity() -> Entity {
    Entity {
        name: "thing".parse().unwrap(),
        join_keys: keys("id: int64"),
        about: About::default(),
    }
}

/// A source of that name with the columns `at`, `temp` and `gust`.
pub(crate) fn source(name: &str) -> Source {
    let columns = [
        ("at", "timestamp"),
        ("temp", "float64"),
        ("gust", "float64"),
    ];
    Source {
        name: name.parse().unwrap(),
        path: format!("data/{name}.parquet"),
        format: SourceFormat::Parquet,
        event_timestamp: Some("at".parse().unwrap()),
        created_timestamp: None,
        is_static: false,
        columns: columns
            .map(|(name, kind)| (name.to_owned(), kind.parse().unwrap()))
            .to_vec(),
        about: About::default(),
    }
}

/// A desired project of these views and services, with what they refer to.
pub(crate) fn desired(
    views: impl IntoIterator<Item = ViewRevision>,
    services: impl IntoIterator<Item = (&'static str, &'static str)>,
) -> DesiredProject {
    DesiredProject {
        entities: vec![entity()],
        sources: vec![source("events")],
        views: views.into_iter().map(DesiredView::from).collect(),
        services: services
            .into_iter()
            .map(|(name, references)| service(name, references))
            .collect(),
    }
}
