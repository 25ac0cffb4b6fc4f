//! The keys in Redis. Source: "In Redis" in `docs/formats/online-row.md`.

use vintner_core::{EntityKey, ProjectName, ViewId};

/// What the row keys of a view version have before and behind the entity's key.
pub(super) struct RowKeys {
    prefix: String,
    suffix: String,
}

impl RowKeys {
    /// `vn:{<project>|<entity key>}:<view id>`. The braces keep one entity's views in one cluster slot.
    pub(super) fn new(project: &ProjectName, view: &ViewId) -> Self {
        Self {
            prefix: format!("vn:{{{project}|"),
            suffix: format!("}}:{view}"),
        }
    }

    /// Appends the row key of an entity.
    pub(super) fn append(&self, key: &EntityKey, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.prefix.as_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(self.suffix.as_bytes());
    }

    /// The entity of a row key.
    pub(super) fn entity(&self, key: &[u8]) -> Option<EntityKey> {
        let key = key.strip_prefix(self.prefix.as_bytes())?;
        let key = key.strip_suffix(self.suffix.as_bytes())?;
        Some(EntityKey::from_bytes(key))
    }
}

/// The row key of one entity.
pub(crate) fn row_key(project: &ProjectName, view: &ViewId, key: &EntityKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    RowKeys::new(project, view).append(key, &mut bytes);
    bytes
}

/// What matches all row keys of a view version and nothing else: names have none of the characters that are special in
/// a pattern, and no view id has a brace, so it is exact although entity keys are any bytes.
pub(super) fn row_keys(project: &ProjectName, view: &ViewId) -> String {
    format!("vn:{{{project}|*}}:{view}")
}

/// `vn:progress:<project>:<view id>`; no row key begins so.
pub(super) fn progress_key(project: &ProjectName, view: &ViewId) -> String {
    format!("vn:progress:{project}:{view}")
}
