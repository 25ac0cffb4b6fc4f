//! Rows that go: those of some entities, or those that are still what was seen.

use heed::RwTxn;
use vintner_core::EntityKey;

use super::{
    environment::Databases,
    stored_key::{push_entity, push_entity_of_hashed, row_of},
};
use crate::store::Replacement;

/// Deletes the rows of these entities and says how many there were. The inner error is an entity whose place is taken.
pub(super) fn rows(
    txn: &mut RwTxn<'_>,
    databases: &Databases,
    prefix: &[u8],
    keys: &[EntityKey],
) -> heed::Result<Result<u64, EntityKey>> {
    let mut deleted = 0;
    for key in keys {
        let (place, kind) = place(prefix, key);
        if let Some(stored) = databases.rows.get(txn, &place)? {
            if row_of(kind, stored, key.as_bytes()).is_none() {
                return Ok(Err(key.clone()));
            }
            databases.rows.delete(txn, &place)?;
            deleted += 1;
        }
    }
    Ok(Ok(deleted))
}

/// Replaces or deletes every row that is what was seen, and says how many. The inner error is as in [`rows`].
pub(super) fn replace(
    txn: &mut RwTxn<'_>,
    databases: &Databases,
    prefix: &[u8],
    replacements: &[Replacement],
) -> heed::Result<Result<u64, EntityKey>> {
    let mut changed = 0;
    for Replacement { key, seen, row } in replacements {
        let (place, kind) = place(prefix, key);
        let Some(stored) = databases.rows.get(txn, &place)? else {
            continue;
        };
        match row_of(kind, stored, key.as_bytes()) {
            None => return Ok(Err(key.clone())),
            Some(stored) if stored != &seen[..] => continue,
            Some(_) => changed += 1,
        }
        match row {
            None => {
                databases.rows.delete(txn, &place)?;
            }
            Some(row) => {
                let mut value = Vec::new();
                push_entity_of_hashed(&mut value, kind, key);
                value.extend_from_slice(row.as_bytes());
                databases.rows.put(txn, &place, &value)?;
            }
        }
    }
    Ok(Ok(changed))
}

/// Where a row is, and whether under the entity key itself or under its hash.
fn place(prefix: &[u8], key: &EntityKey) -> (Vec<u8>, u8) {
    let mut place = prefix.to_vec();
    let kind = push_entity(&mut place, key);
    (place, kind)
}
