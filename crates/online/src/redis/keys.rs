//! The keys in Redis. Source: "In Redis" in `docs/formats/online-row.md`.

use vintner_core::{EntityKey, ProjectName, ViewId};

/// `vn:{<project>|<entity key>}:<view id>`. The braces keep one entity's views in one cluster slot.
pub(crate) fn row_key(project: &ProjectName, view: &ViewId, key: &EntityKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + key.as_bytes().len());
    bytes.extend_from_slice(b"vn:{");
    bytes.extend_from_slice(project.as_str().as_bytes());
    bytes.push(b'|');
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(format!("}}:{view}").as_bytes());
    bytes
}

/// What matches all row keys of a view version and nothing else: names have none of the characters that are special in
/// a pattern, and no view id has a brace, so it is exact although entity keys are any bytes.
pub(super) fn row_keys(project: &ProjectName, view: &ViewId) -> String {
    format!("vn:{{{project}|*}}:{view}")
}

/// The entity of a row key of the view version.
pub(super) fn entity(project: &ProjectName, view: &ViewId, key: &[u8]) -> Option<EntityKey> {
    let key = key.strip_prefix(format!("vn:{{{project}|").as_bytes())?;
    let key = key.strip_suffix(format!("}}:{view}").as_bytes())?;
    Some(EntityKey::from_bytes(key))
}

/// `vn:progress:<project>:<view id>`; no row key begins so.
pub(super) fn progress_key(project: &ProjectName, view: &ViewId) -> String {
    format!("vn:progress:{project}:{view}")
}
