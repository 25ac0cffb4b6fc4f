//! Keys as they are stored: those of a view version begin alike, then comes the entity key or its hash.
//!
//! `docs/formats/online-row.md` describes them, and why the value of a hashed key begins with the entity key.

use smallvec::SmallVec;
use vintner_core::{EntityKey, ProjectName, ViewId};

use super::FEW;

/// The longest key that LMDB takes.
const MAX_KEY_BYTES: usize = 511;
/// In a stored key, after the view: the entity key itself follows.
pub(super) const PLAIN: u8 = 0;
/// In a stored key, after the view: the entity key's BLAKE3 hash follows, and the value begins with the key itself.
pub(super) const HASHED: u8 = 1;

/// The stored keys of a read, one behind the other in one buffer.
#[derive(Debug, Default)]
pub(super) struct StoredKeys {
    bytes: SmallVec<[u8; 64 * FEW]>,
    /// Where each ends, and its kind.
    ends: SmallVec<[(usize, u8); FEW]>,
}

impl StoredKeys {
    /// Adds those of the entities of a view.
    pub(super) fn push_all(&mut self, prefix: &[u8], keys: &[EntityKey]) {
        let longest = keys.iter().map(|key| key.as_bytes().len()).max();
        let bytes = (prefix.len() + 1 + longest.unwrap_or(0)).min(MAX_KEY_BYTES);
        self.bytes.reserve(bytes * keys.len());
        self.ends.reserve(keys.len());
        for key in keys {
            self.bytes.extend_from_slice(prefix);
            let push = |part: &[u8]| self.bytes.extend_from_slice(part);
            let kind = entity(prefix.len(), key, push);
            self.ends.push((self.bytes.len(), kind));
        }
    }

    #[cfg(test)]
    pub(super) fn push_stored(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push((self.bytes.len(), PLAIN));
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The keys, as they were pushed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        let mut start = 0;
        self.ends.iter().map(move |(end, _)| {
            let (key, others) = rest.split_at_checked(end - start).unwrap_or((rest, &[]));
            (start, rest) = (*end, others);
            key
        })
    }

    /// Whether each is an entity key or a hash.
    pub(super) fn kinds(&self) -> impl Iterator<Item = u8> {
        self.ends.iter().map(|(_, kind)| *kind)
    }
}

/// What the keys of all rows of a view version, and of no other, begin with. Names have no zero byte.
pub(super) fn view_prefix(project: &ProjectName, view: &ViewId) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(MAX_KEY_BYTES);
    for name in [project.as_str(), view.name.as_str()] {
        prefix.extend_from_slice(name.as_bytes());
        prefix.push(0);
    }
    prefix.extend_from_slice(&view.version.0.to_be_bytes());
    prefix
}

/// Completes a stored key, and says whether by the entity key itself or by its hash.
pub(super) fn push_entity(stored_key: &mut Vec<u8>, key: &EntityKey) -> u8 {
    let prefix_bytes = stored_key.len();
    entity(prefix_bytes, key, |part| stored_key.extend_from_slice(part))
}

/// Gives `push` the parts of a stored key that follow a prefix of so many bytes, and returns its kind.
fn entity(prefix_bytes: usize, key: &EntityKey, mut push: impl FnMut(&[u8])) -> u8 {
    let key = key.as_bytes();
    if prefix_bytes + 1 + key.len() <= MAX_KEY_BYTES {
        push(&[PLAIN]);
        push(key);
        PLAIN
    } else {
        push(&[HASHED]);
        push(blake3::hash(key).as_bytes());
        HASHED
    }
}

/// Begins the value of a hashed key with the entity key itself; a plain one says it already.
pub(super) fn push_entity_of_hashed(value: &mut Vec<u8>, kind: u8, key: &EntityKey) {
    if kind == HASHED {
        value.extend_from_slice(&(key.as_bytes().len() as u64).to_le_bytes());
        value.extend_from_slice(key.as_bytes());
    }
}

/// The row in a stored value; none when the value is that of another entity.
pub(super) fn row_of<'a>(kind: u8, value: &'a [u8], entity: &[u8]) -> Option<&'a [u8]> {
    let (stored_entity, row) = split_value(kind, value)?;
    (kind == PLAIN || stored_entity == entity).then_some(row)
}

/// The entity key that a stored value begins with, empty in a plain one, and the row.
pub(super) fn split_value(kind: u8, value: &[u8]) -> Option<(&[u8], &[u8])> {
    if kind == PLAIN {
        return Some((&[], value));
    }
    let (length, rest) = value.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}
