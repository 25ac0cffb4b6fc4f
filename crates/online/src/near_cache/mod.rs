//! The near cache: rows that were read from Redis, kept in this process, and told of every change by Redis itself.
//!
//! Start at [`NearCache`], a store in front of a [`TrackedStore`]. A lookup that names a budget is answered from memory
//! where it can be; also that an entity has no row is remembered. `view_cache` holds the rows of one view version,
//! `shared` all of them, `tracking` the connections on which servers push the keys that change (RESP3 client tracking,
//! broadcast mode), `lease` for how long they are trusted, `row_key` which row a pushed key stands for.
//!
//! # What holds
//!
//! Say of a read that it *reflects* a write when its answer is the row that the write left, or a later one.
//!
//! 1. **After the push.** A read that begins after a write's push was handled here reflects the write.
//! 2. **At most [`LEASE`] late, whatever happens.** A read that begins later than [`LEASE`] after a write was
//!    acknowledged, to whomever, reflects it. So with a push that the network swallows, with a server or this process
//!    that stood still, with another server at the same address.
//! 3. **Never back.** Of two reads of one entity through one process, of which the second begins after the first has
//!    ended, the second's answer is not older.
//! 4. **Own writes.** A read that begins after a write through the same [`NearCache`] has returned reflects it.
//!
//! All four say "as far as Redis itself keeps its writes". A server that comes back without its last rows, or a replica
//! that is promoted without them, goes back, and so do reads; so do they without a cache.
//!
//! # Why
//!
//! What is assumed of Redis: (a) a server executes commands one after the other; (b) from the answer to `CLIENT
//! TRACKING ON BCAST` on, every change of a key with the prefix is pushed on that connection, by whatever command,
//! expiry or eviction; a flush pushes "everything"; (c) pushes and answers on one connection come in the order of their
//! causes: the push of a write goes out no later than the write's acknowledgement, so it comes before the answer to a
//! command that was sent after the acknowledgement. `SWAPDB` breaks (b), see below.
//!
//! **1.** What is in the cache was put there by a fetch. A fetch is noted before it is sent ([`ViewCache::begin`]) and
//! its row is put in at its end only when no push of its key was handled in between. Say the server executed the fetch
//! before the write. Then the fetch was noted before the write's push was handled. If it ends after that, it sees so
//! and puts nothing in. If it has ended before, the push removes what it has put in. Ending and removing take the same
//! lock, so there is no third order. That the fetch and the push come on two connections does not matter, nor
//! which is delivered first.
//!
//! Before tracking was on nothing was noted: every time of tracking has its own [`Generation`] of caches, which begins
//! empty after tracking is on, and a fetch puts its row into the generation that it was noted in. When tracking ends,
//! that one is no longer looked at.
//!
//! **2.** A hit takes a [`Lease`] that holds. It was extended by a probe that was sent at most [`LEASE`] ago. The probe
//! was answered on every tracking connection, and, by (c), the pushes of all writes that were acknowledged before the
//! probe was sent had been handled by then. In the same probe the store's own connections named the servers that they
//! read from, and these were the tracked ones; a cluster is asked anew which they are. The clock is read before the row
//! is, so a process that was stopped in between, or whose tracker was, does not take a lease for good that is not.
//!
//! **3.** Two hits are in order as the rows in the cache are. The danger is a fetch that ends with a new row while an
//! older one, fetched before, is in the cache or about to be put there, the push being still on its way. So the
//! fetches of one key that overlap are held against each other ([`ViewCache::end`]): when two of them differ, what is
//! in the cache goes, and only fetches that begin later put in. Say R has ended with u at moment c, and the entry e was
//! put in by P. If P began after c, its fetch was executed after R's. Else P and R overlapped, or P had ended before R
//! began, but then R would have been a hit. They overlapped: whichever ended second found the other's row, as the note
//! of both lives from the beginning of one to the end of the last, and a push in between forbids P its put. So e = u.
//! A fetch that was noted elsewhere, or nowhere (tracking was off when it began, or the view had no budget), makes the
//! cache forget its keys when it ends. And a lease that someone has found run out never holds again.
//!
//! **4.** A write forgets the keys of its rows after it was acknowledged, as a push would.
//!
//! # What is not here
//!
//! `SWAPDB` changes all keys and pushes nothing: who swaps databases under a running service restarts it. Cluster and
//! Sentinel need nothing but their own [`TrackedStore::servers`]. Expiry: a row's age is read from its bytes, with and
//! without a cache.

mod lease;
mod row_key;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod tracking;
mod view_cache;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::AbortHandle;
use vintner_core::{EntityKey, ProjectName, ViewId};

use self::{
    shared::Shared,
    view_cache::{Turn, ViewCache, count},
};
pub use self::{
    stats::{CacheStats, ViewCacheStats},
    tracking::{LEASE, PROBE_INTERVAL, TrackedServer, TrackedStore},
};
use crate::{
    error::OnlineError,
    store::{
        Expiry, KeyCursor, KeyPage, Load, Lookup, OnlineRow, OnlineStore, Probe, Replacement,
        StoreInfo, WriteReport,
    },
};

/// A store with a cache in front of it.
///
/// Tracking begins with the first lookup that names a budget, so that a process which reads nothing connects no more
/// than it must.
pub struct NearCache {
    inner: Arc<dyn TrackedStore>,
    shared: Arc<Shared>,
    tracker: OnceLock<AbortHandle>,
}

impl fmt::Debug for NearCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NearCache").field(&self.inner).finish()
    }
}

impl NearCache {
    /// A cache in front of `inner`. Holds nothing yet.
    pub fn new(inner: Arc<dyn TrackedStore>) -> Self {
        Self {
            inner,
            shared: Arc::default(),
            tracker: OnceLock::new(),
        }
    }

    fn start_tracking(&self) {
        self.tracker.get_or_init(|| {
            let tracker = tracking::track(Arc::clone(&self.inner), Arc::clone(&self.shared));
            tokio::spawn(tracker).abort_handle()
        });
    }

    /// After a change of these entities' rows that this process has made, or tried to make.
    fn forget_keys<'a>(
        &self,
        project: &ProjectName,
        view: &ViewId,
        keys: impl IntoIterator<Item = &'a EntityKey>,
    ) {
        if let Some(cache) = self.shared.current(project, view) {
            keys.into_iter()
                .for_each(|key| cache.forget(key.as_bytes()));
        }
    }
}

impl Drop for NearCache {
    fn drop(&mut self) {
        if let Some(tracker) = self.tracker.get() {
            tracker.abort();
        }
    }
}

#[async_trait]
impl OnlineStore for NearCache {
    async fn write(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        rows: &[OnlineRow],
    ) -> Result<WriteReport, OnlineError> {
        let written = self.inner.write(project, view, expiry, rows).await;
        self.forget_keys(project, view, rows.iter().map(|row| &row.key));
        written
    }

    async fn read(
        &self,
        project: &ProjectName,
        lookups: &[Lookup<'_>],
    ) -> Result<Vec<Vec<Option<Bytes>>>, OnlineError> {
        if lookups.iter().all(|lookup| lookup.cache.is_none()) {
            let rows = self.inner.read(project, lookups).await?;
            // Noted nowhere, so what others have put in meanwhile may be older.
            for lookup in lookups {
                self.forget_keys(project, lookup.view, lookup.keys);
            }
            return Ok(rows);
        }
        let mut rows = Vec::with_capacity(lookups.len());
        let mut fetches = Vec::new();
        for (index, lookup) in lookups.iter().enumerate() {
            if lookup.cache.is_some() {
                self.start_tracking();
            }
            let (known, fetch) = look_up(&self.shared, project, lookup);
            rows.push(known);
            fetches.extend(fetch.map(|fetch| (index, fetch)));
        }
        if fetches.is_empty() {
            return Ok(rows);
        }
        let missing: Vec<_> = fetches
            .iter()
            .map(|(index, fetch)| Lookup {
                keys: &fetch.keys,
                ..lookups[*index]
            })
            .collect();
        let fetched = self.inner.read(project, &missing).await?;
        for ((index, fetch), fetched) in fetches.into_iter().zip(fetched) {
            let current = self.shared.current(project, lookups[index].view);
            fetch.end(current, fetched, &mut rows[index]);
        }
        Ok(rows)
    }

    async fn load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        self.inner.load(project, view).await
    }

    async fn begin_load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        self.inner.begin_load(project, view).await
    }

    async fn end_load(
        &self,
        project: &ProjectName,
        view: &ViewId,
        load: &Load,
        progress: &[u8],
    ) -> Result<(), OnlineError> {
        self.inner.end_load(project, view, load, progress).await
    }

    async fn keys(
        &self,
        project: &ProjectName,
        view: &ViewId,
        from: Option<&KeyCursor>,
    ) -> Result<KeyPage, OnlineError> {
        self.inner.keys(project, view, from).await
    }

    async fn delete_rows(
        &self,
        project: &ProjectName,
        view: &ViewId,
        keys: &[EntityKey],
    ) -> Result<u64, OnlineError> {
        let deleted = self.inner.delete_rows(project, view, keys).await;
        self.forget_keys(project, view, keys);
        deleted
    }

    async fn replace(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        replacements: &[Replacement],
    ) -> Result<u64, OnlineError> {
        let replaced = self
            .inner
            .replace(project, view, expiry, replacements)
            .await;
        self.forget_keys(project, view, replacements.iter().map(|row| &row.key));
        replaced
    }

    async fn forget(&self, project: &ProjectName, view: &ViewId) -> Result<(), OnlineError> {
        self.inner.forget(project, view).await
    }

    async fn probe(&self) -> Result<Probe, OnlineError> {
        self.inner.probe().await
    }

    async fn check(&self) -> Result<StoreInfo, OnlineError> {
        self.inner.check().await
    }

    fn cache_stats(&self) -> Option<CacheStats> {
        Some(self.shared.stats())
    }
}

/// The keys of one lookup that are to be fetched.
struct Fetch<'a> {
    keys: Cow<'a, [EntityKey]>,
    /// Where among the lookup's keys each of them is.
    places: Vec<usize>,
    noted: Option<Noted>,
}

/// Where a fetch is noted, with the turn of each key. Dropped when the fetch comes to nothing.
struct Noted {
    cache: Arc<ViewCache>,
    turns: Vec<(EntityKey, Turn)>,
}

/// What is known of a lookup's entities, and the fetch of those of whom nothing is. These have no row yet.
fn look_up<'a>(
    shared: &Shared,
    project: &ProjectName,
    lookup: &Lookup<'a>,
) -> (Vec<Option<Bytes>>, Option<Fetch<'a>>) {
    let cache = lookup
        .cache
        .and_then(|budget| shared.serving(project, lookup.view, budget));
    let Some(cache) = cache else {
        if lookup.cache.is_some() {
            let counters = shared.counters(project, lookup.view);
            count(&counters.bypassed, lookup.keys.len());
        }
        let fetch = Fetch {
            keys: Cow::Borrowed(lookup.keys),
            places: (0..lookup.keys.len()).collect(),
            noted: None,
        };
        return (vec![None; lookup.keys.len()], Some(fetch));
    };
    let mut rows = Vec::with_capacity(lookup.keys.len());
    let mut hits = 0;
    let mut places = Vec::new();
    let mut noted = Noted {
        cache,
        turns: Vec::new(),
    };
    for (place, key) in lookup.keys.iter().enumerate() {
        let known = noted.cache.get(key).map_or_else(|| noted.begin(key), Some);
        match known {
            Some(row) => {
                hits += usize::from(row.is_some());
                rows.push(row);
            }
            None => {
                places.push(place);
                rows.push(None);
            }
        }
    }
    let counters = noted.cache.counters();
    count(&counters.hits, hits);
    count(&counters.misses, places.len());
    count(
        &counters.negative_hits,
        lookup.keys.len() - hits - places.len(),
    );
    if places.is_empty() {
        return (rows, None);
    }
    let keys = if places.len() == lookup.keys.len() {
        Cow::Borrowed(lookup.keys)
    } else {
        Cow::Owned(noted.turns.iter().map(|(key, _)| key.clone()).collect())
    };
    let fetch = Fetch {
        keys,
        places,
        noted: Some(noted),
    };
    (rows, Some(fetch))
}

impl Fetch<'_> {
    /// Takes what was fetched into the rows of the lookup, and into the cache. `current` is the view's cache now.
    fn end(
        self,
        current: Option<Arc<ViewCache>>,
        fetched: Vec<Option<Bytes>>,
        rows: &mut [Option<Bytes>],
    ) {
        match (self.noted, current) {
            (Some(noted), Some(current)) if Arc::ptr_eq(&noted.cache, &current) => {
                noted.end(&fetched);
            }
            (_, Some(current)) => self
                .keys
                .iter()
                .for_each(|key| current.forget(key.as_bytes())),
            (_, None) => {}
        }
        for (place, row) in self.places.into_iter().zip(fetched) {
            rows[place] = row;
        }
    }
}

impl Noted {
    /// Notes a fetch; when the row has come meanwhile: the row.
    fn begin(&mut self, key: &EntityKey) -> Option<Option<Bytes>> {
        match self.cache.begin(key) {
            Ok(turn) => {
                self.turns.push((key.clone(), turn));
                None
            }
            Err(row) => Some(row),
        }
    }

    fn end(mut self, fetched: &[Option<Bytes>]) {
        for ((key, turn), row) in std::mem::take(&mut self.turns).iter().zip(fetched) {
            self.cache.end(key, *turn, row);
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        for (key, _) in &self.turns {
            self.cache.leave(key);
        }
    }
}
