//! The entities of a request, as each view keys them, and each asked for once.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use vintner_core::{Column, EntityKey, KeyColumns};
use vintner_registry::model::ViewRevision;

use super::plan::ReadPlan;
use crate::error::OnlineError;

/// The entities of a request as one view keys them: one per entity, none where a join key is null.
pub type EntityKeys = Vec<Option<EntityKey>>;

/// The keys that a view gives to `entities` many entities, from the columns of its join keys, in its key schema's
/// order.
///
/// # Errors
/// [`OnlineError::Keys`] when the columns are not of the join keys' number and types.
pub fn view_keys(
    revision: &ViewRevision,
    columns: &[&Column],
    entities: usize,
) -> Result<EntityKeys, OnlineError> {
    let keys = KeyColumns::of_values(&revision.join_keys, columns).map_err(|source| {
        OnlineError::Keys {
            view: revision.id.clone(),
            source,
        }
    })?;
    // Each key is put together in one place and copied once it has its length.
    let mut bytes = Vec::with_capacity(64);
    let key = |row| {
        keys.encode_row(row, &mut bytes)
            .then(|| EntityKey::from_bytes(bytes.as_slice()))
    };
    Ok((0..entities).map(key).collect())
}

pub(super) fn check_counts(plan: &ReadPlan, entities: &[EntityKeys]) -> Result<(), OnlineError> {
    let wanted = entities.first().map_or(0, Vec::len);
    for (index, revision) in plan.views().enumerate() {
        // A view without a list of keys is as wrong as one with a shorter list.
        let found = entities.get(index).map(Vec::len);
        if found != Some(wanted) {
            return Err(OnlineError::EntityCount {
                view: revision.id.clone(),
                wanted,
                found: found.unwrap_or(0),
            });
        }
    }
    Ok(())
}

/// The entities of one view, each once.
#[derive(Debug)]
pub(super) struct Distinct {
    pub(super) keys: Vec<EntityKey>,
    /// Per entity of the request, its index among `keys`.
    pub(super) of_entity: Vec<Option<usize>>,
}

impl Distinct {
    pub(super) fn of(entities: EntityKeys) -> Self {
        let mut keys: Vec<EntityKey> = Vec::with_capacity(entities.len());
        let mut of_entity = Vec::with_capacity(entities.len());
        if let [_] = entities.as_slice() {
            for key in entities {
                of_entity.push(key.is_some().then_some(0));
                keys.extend(key);
            }
            return Self { keys, of_entity };
        }
        // A seed of each process, so that nobody can choose keys that collide.
        let state = RandomState::default();
        let hash = |key: &EntityKey| state.hash_one(key.as_bytes());
        let mut indices = HashTable::with_capacity(entities.len());
        for key in entities {
            of_entity.push(key.map(|key| {
                let found = indices.entry(
                    hash(&key),
                    |&index: &usize| keys.get(index) == Some(&key),
                    |&index| keys.get(index).map_or(0, hash),
                );
                match found {
                    Entry::Occupied(found) => *found.get(),
                    Entry::Vacant(free) => {
                        let index = keys.len();
                        free.insert(index);
                        keys.push(key);
                        index
                    }
                }
            }));
        }
        Self { keys, of_entity }
    }
}
