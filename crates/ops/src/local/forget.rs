//! Online rows that the table no longer has are taken away: those of entities whose rows were deleted.
//!
//! A deletion takes the rows out of the table and then out of the online store. Others write there from versions of the
//! table that still had them: a load, a push, a repair. So each of them looks, once it has written, whether a deletion has
//! come since the version that it wrote from, and then takes away what it wrote itself. Whichever of the two comes
//! last sees what the other one did. One that died before it could look is made good by the next load, which goes
//! through all deletions since the last one.
//!
//! A row is never taken away on a guess. What is stored is read first, then the newest version of the table, and only if
//! that does not have the row is it replaced, provided it is still what was read. A row that was pushed after the
//! deletion is in the table before it is online, so it stays.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::StreamExt as _;
use vintner_core::{EntityKey, Timestamp};
use vintner_offline::{
    delta::KeyDigest,
    materialize::{ExpectedRows, MaterializeContext},
};
use vintner_online::{Expiry, Lookup, OnlineStore, PackedRow, Replacement, RowLayout};
use vintner_registry::model::ViewRevision;

use super::{materialize::packed, online::online_error};
use crate::error::{Fault, OpsError};

/// Entities per read of the store.
const READ_KEYS: usize = 4096;
/// How often it is looked again at entities that others write meanwhile.
const LOOKS: u32 = 16;

/// The online rows of a view.
#[derive(Clone, Copy)]
pub(super) struct OnlineRows<'a> {
    pub(super) context: &'a MaterializeContext<'a>,
    pub(super) store: &'a Arc<dyn OnlineStore>,
    pub(super) view: &'a ViewRevision,
    pub(super) now: Timestamp,
}

impl OnlineRows<'_> {
    /// Which of these entities have a row.
    pub(super) async fn stored(
        &self,
        keys: &[EntityKey],
    ) -> Result<HashMap<EntityKey, bytes::Bytes>, OpsError> {
        let mut stored = HashMap::new();
        for keys in keys.chunks(READ_KEYS) {
            let lookup = Lookup {
                view: &self.view.id,
                keys,
                cache: None,
            };
            let rows = self.store.read(self.context.project, &[lookup]).await;
            let rows = rows.map_err(online_error)?.into_iter().flatten();
            let found = keys.iter().zip(rows);
            stored.extend(found.filter_map(|(key, row)| Some((key.clone(), row?))));
        }
        Ok(stored)
    }

    /// Makes the rows of these entities what the newest version of the table says, where there are any; says how many
    /// were not. `without` is a version of the table that is known to have no row of them.
    pub(super) async fn forget(
        &self,
        mut keys: Vec<EntityKey>,
        without: Option<u64>,
    ) -> Result<u64, OpsError> {
        let expiry = self.view.ttl.map(|ttl| Expiry { ttl, now: self.now });
        let mut forgotten = 0;
        for _ in 0..LOOKS {
            // In this order: what was pushed is in the table before it is stored.
            let stored = self.stored(&keys).await?;
            if stored.is_empty() {
                return Ok(forgotten);
            }
            let mut wanted = self.wanted(stored.keys(), without).await?;
            let replacements = stored.into_iter().filter_map(|(key, seen)| {
                let row = wanted.remove(&key);
                let is_right = row.as_ref().is_some_and(|row| row.as_bytes() == &seen[..]);
                (!is_right).then_some(Replacement { key, seen, row })
            });
            let replacements: Vec<_> = replacements.collect();
            let (project, view) = (self.context.project, &self.view.id);
            let replaced = self.store.replace(project, view, expiry, &replacements);
            let replaced = replaced.await.map_err(online_error)?;
            forgotten += replaced;
            if replaced == replacements.len() as u64 {
                return Ok(forgotten);
            }
            // Someone wrote since.
            keys = replacements.into_iter().map(|one| one.key).collect();
        }
        Err(OpsError::new(
            Fault::Busy,
            format!(
                "the online rows of {} entities of {} were written again and again while they were deleted; try again",
                keys.len(),
                self.view.id
            ),
        ))
    }

    /// The same for the entities that these stand for. All entities of the view are listed, since a digest does not say
    /// which one it is of.
    pub(super) async fn forget_digests(
        &self,
        digests: &HashSet<KeyDigest>,
    ) -> Result<u64, OpsError> {
        if digests.is_empty() {
            return Ok(0);
        }
        let (mut from, mut found) = (None, HashSet::new());
        loop {
            let page = self
                .store
                .keys(self.context.project, &self.view.id, from.as_ref());
            let page = page.await.map_err(online_error)?;
            found.extend(those_of(page.keys, digests));
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        self.forget(found.into_iter().collect(), None).await
    }

    /// What should be stored of some entities.
    async fn wanted(
        &self,
        keys: impl Iterator<Item = &EntityKey>,
        without: Option<u64>,
    ) -> Result<HashMap<EntityKey, PackedRow>, OpsError> {
        let failed = |error| OpsError::from_error(Fault::Store, error);
        let mut wanted = HashMap::new();
        let table = ExpectedRows::newest(self.context, self.view).await;
        let table = table.map_err(failed)?;
        if without.is_some() && table.version() == without {
            return Ok(wanted);
        }
        let layout = RowLayout::new(&self.view.layout());
        let mut batches = table
            .of_keys(keys.cloned().collect(), self.now)
            .await
            .map_err(failed)?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| OpsError::from_error(Fault::Store, error))?;
            let rows = packed(self.view, &layout, &batch)?;
            wanted.extend(rows.into_iter().map(|row| (row.key, row.row)));
        }
        Ok(wanted)
    }
}

/// Those of some entities that digests stand for.
pub(super) fn those_of(
    keys: impl IntoIterator<Item = EntityKey>,
    digests: &HashSet<KeyDigest>,
) -> impl Iterator<Item = EntityKey> {
    let keys = keys.into_iter();
    keys.filter(|key| digests.contains(&KeyDigest::of(key.as_bytes())))
}
