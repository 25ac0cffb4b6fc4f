//! What the tests of this crate share: the suite that every store runs, and what they make rows from.

mod histories;
pub(crate) mod suite;

use std::sync::Arc;

use vintner_core::{
    ByteSize, EntityKey, FeatureField, JoinKey, KeySchema, KeyType, KeyValue, ProjectName, RowTime,
    Timestamp, Ttl, Value,
};
use vintner_registry::{
    model::{About, Layout, Refresh, ViewInput, ViewRevision},
    selection::{SelectedColumn, Selection},
};

use crate::{
    EntityKeys, OnlineError, OnlineFeatures, OnlineRow, OnlineStore, ReadPlan, RowLayout, find,
};

/// The budget that tests name; stores without a near cache take no notice.
pub(crate) const CACHE: Option<ByteSize> = ByteSize::new(1 << 20);

/// A view version with one join key, `id` of type string.
pub(crate) fn revision(id: &str, features: &[FeatureField], ttl: Option<Ttl>) -> ViewRevision {
    let join_key = JoinKey {
        name: "id".parse().unwrap(),
        key_type: KeyType::String,
    };
    ViewRevision {
        id: id.parse().unwrap(),
        entities: vec![],
        join_keys: KeySchema::new(vec![join_key]).unwrap(),
        ttl,
        input: ViewInput::Query(String::new()),
        sources: vec![],
        event_timestamp: None,
        created_timestamp: None,
        features: features.to_vec(),
        definitions: Default::default(),
        relation: String::new(),
        refresh: Refresh::Windowed,
        refresh_reason: String::new(),
        lookback: None,
        lineage: Default::default(),
        layouts: vec![Layout::of(features)],
        offline: true,
        online: true,
        near_cache: CACHE,
        about: About::default(),
    }
}

/// A feature without a default.
pub(crate) fn feature(name: &str, feature_type: &str) -> FeatureField {
    FeatureField {
        name: name.parse().unwrap(),
        feature_type: feature_type.parse().unwrap(),
        default: None,
        description: String::new(),
    }
}

/// All features of these views, by their short names.
pub(crate) fn plan(views: &[&ViewRevision]) -> ReadPlan {
    let columns = views.iter().enumerate().flat_map(|(view, revision)| {
        revision.features.iter().map(move |feature| SelectedColumn {
            view,
            feature: feature.clone(),
            name: feature.name.to_string(),
        })
    });
    ReadPlan::new(&Selection {
        columns: columns.collect(),
        views: views.iter().map(|&view| Arc::new(view.clone())).collect(),
    })
}

/// The key of an entity with one join key of type string.
pub(crate) fn key(id: &str) -> EntityKey {
    let schema = revision("view@1", &[], None).join_keys;
    EntityKey::encode(&schema, &[KeyValue::String(id.into())]).unwrap()
}

pub(crate) fn us(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

pub(crate) fn time(event: i64, created: i64) -> RowTime {
    RowTime {
        event: us(event),
        created: us(created),
    }
}

/// A row of the present layout of a view.
pub(crate) fn row(
    revision: &ViewRevision,
    id: &str,
    time: RowTime,
    values: &[Option<Value>],
) -> OnlineRow {
    OnlineRow {
        key: key(id),
        row: RowLayout::new(&revision.layout())
            .pack(time, values)
            .unwrap(),
    }
}

/// An error with all its sources, as whoever handles it prints it.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    match err.source() {
        Some(source) => format!("{err}: {}", chain(source)),
        None => err.to_string(),
    }
}

/// Reads the plan's columns for some entities as they are at the moment `now`.
pub(crate) async fn get_features(
    store: &dyn OnlineStore,
    project: &ProjectName,
    plan: &ReadPlan,
    entities: Vec<EntityKeys>,
    now: Timestamp,
    fresh: bool,
) -> Result<OnlineFeatures, OnlineError> {
    let found = find(store, project, plan, entities, now, fresh).await?;
    found.columns(project, plan)
}
