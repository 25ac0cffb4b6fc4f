//! The entities that have a row of a view version: the keys with its prefix, in their order.

use std::ops::Bound;

use heed::RoTxn;
use vintner_core::EntityKey;

use super::{
    environment::Databases,
    stored_key::{HASHED, PLAIN, split_value},
};
use crate::store::{KeyCursor, KeyPage};

/// Keys per page, so that no reading transaction is long.
const PAGE_KEYS: usize = 4096;

/// The page after a stored key. A place in the list is the last stored key of the page before it.
pub(super) fn page(
    txn: &RoTxn<'_>,
    databases: &Databases,
    prefix: &[u8],
    after: Option<&[u8]>,
) -> heed::Result<KeyPage> {
    let from = match after {
        Some(after) => Bound::Excluded(after),
        None => Bound::Included(prefix),
    };
    let mut page = KeyPage::default();
    let mut last: Option<&[u8]> = None;
    for (seen, entry) in databases
        .rows
        .range(txn, &(from, Bound::Unbounded))?
        .enumerate()
    {
        let (key, value) = entry?;
        let Some(entity) = key.strip_prefix(prefix) else {
            return Ok(page);
        };
        if seen == PAGE_KEYS {
            page.next = last.map(|last| KeyCursor(last.to_vec()));
            return Ok(page);
        }
        last = Some(key);
        page.keys.extend(entity_of(entity, value));
    }
    Ok(page)
}

/// The entity of a stored key, which a hashed one has in its value.
fn entity_of(key: &[u8], value: &[u8]) -> Option<EntityKey> {
    match key.split_first()? {
        (&PLAIN, entity) => Some(EntityKey::from_bytes(entity)),
        (&HASHED, _) => Some(EntityKey::from_bytes(split_value(HASHED, value)?.0)),
        _ => None,
    }
}
