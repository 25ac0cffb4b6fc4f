//! What the tests of this crate share.

use vintner_core::{FeatureField, JoinKey, KeySchema, KeyType, Ttl};
use vintner_registry::model::{About, Layout, Refresh, ViewInput, ViewRevision};

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
        about: About::default(),
    }
}
