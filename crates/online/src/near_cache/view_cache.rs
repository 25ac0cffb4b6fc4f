//! The cached rows of one view version, and the fetches that may add to them.
//!
//! A row that is fetched is put in only when nothing has happened to its key since before the fetch was sent. What
//! "nothing" means stands at [`ViewCache::end`]; why it is enough stands at the head of [`super`].

use std::{
    fmt,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use moka::sync::Cache;
use vintner_core::{ByteSize, EntityKey};

/// An entity key's bytes.
type Key = Box<[u8]>;

/// The packed row of an entity, or that there is none.
pub(super) type Row = Option<Bytes>;

/// What an entry takes besides the bytes of its key and row: the cache's own nodes and counters, and what the
/// allocator adds. Measured with `examples/near_cache.rs`.
const ENTRY_OVERHEAD: usize = 320;

/// Locks of the fetches. A power of two; enough that pushes and fetches of different keys seldom meet.
const SHARDS: usize = 16;

/// The rows of one view version.
pub(super) struct ViewCache {
    budget: ByteSize,
    rows: Cache<Key, Row, RandomState>,
    fetches: [Mutex<Fetches>; SHARDS],
    hasher: RandomState,
    counters: Arc<ViewCounters>,
}

/// How often what happened, since the process began.
#[derive(Debug, Default)]
pub(super) struct ViewCounters {
    pub(super) hits: AtomicU64,
    pub(super) negative_hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) bypassed: AtomicU64,
    pub(super) invalidations: AtomicU64,
}

type Fetches = HashMap<Key, Fetch, RandomState>;

/// The fetches of one key that are under way. Gone when the last of them has ended.
#[derive(Debug, Default)]
struct Fetch {
    /// How many there are.
    readers: usize,
    /// Counts what has happened to the key. A fetch that began in an earlier turn puts nothing in.
    turn: u64,
    /// What the last fetch of this turn to end has found.
    seen: Option<Row>,
}

/// The turn in which a fetch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn(u64);

impl fmt::Debug for ViewCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewCache")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl ViewCache {
    pub(super) fn new(budget: ByteSize, counters: Arc<ViewCounters>) -> Self {
        let rows = Cache::builder()
            .max_capacity(budget.bytes())
            .weigher(|key: &Key, row: &Row| {
                let row = row.as_ref().map_or(0, Bytes::len);
                u32::try_from(ENTRY_OVERHEAD + key.len() + row).unwrap_or(u32::MAX)
            })
            .build_with_hasher(RandomState::default());
        Self {
            budget,
            rows,
            fetches: Default::default(),
            hasher: RandomState::default(),
            counters,
        }
    }

    pub(super) fn budget(&self) -> ByteSize {
        self.budget
    }

    pub(super) fn counters(&self) -> &ViewCounters {
        &self.counters
    }

    /// The rows that there are, and the bytes that they take.
    pub(super) fn size(&self) -> (u64, u64) {
        self.rows.run_pending_tasks();
        (self.rows.entry_count(), self.rows.weighted_size())
    }

    /// What is known of an entity. Takes no lock.
    pub(super) fn get(&self, key: &EntityKey) -> Option<Row> {
        self.rows.get(key.as_bytes())
    }

    /// Begins to fetch a row that was not there; to be called before the fetch is sent, and ended by [`Self::end`] or
    /// [`Self::leave`]. When the row has come meanwhile: the row.
    pub(super) fn begin(&self, key: &EntityKey) -> Result<Turn, Row> {
        let mut fetches = self.fetches(key.as_bytes());
        if let Some(row) = self.rows.get(key.as_bytes()) {
            return Err(row);
        }
        let fetch = fetches.entry(key.as_bytes().into()).or_default();
        fetch.readers += 1;
        Ok(Turn(fetch.turn))
    }

    /// Ends a fetch that has found `row`, before the row is given to whoever asked.
    ///
    /// The row is put in when the key's turn is the one in which the fetch began, and no other fetch of this turn has
    /// found another row. When one has, nobody can tell which is newer: no fetch that is under way puts its row in, and
    /// what is in the cache goes.
    pub(super) fn end(&self, key: &EntityKey, began: Turn, row: &Row) {
        let mut fetches = self.fetches(key.as_bytes());
        let Some(fetch) = fetches.get_mut(key.as_bytes()) else {
            return;
        };
        let contradicted = fetch.seen.as_ref().is_some_and(|seen| seen != row);
        if contradicted {
            fetch.turn += 1;
            self.rows.invalidate(key.as_bytes());
        } else if fetch.turn == began.0 {
            // A copy of its own: the row may be a part of a large answer, all of which it would keep.
            let own = row.as_deref().map(Bytes::copy_from_slice);
            self.rows.insert(key.as_bytes().into(), own);
        }
        fetch.seen = Some(row.clone());
        leave(&mut fetches, key);
    }

    /// Ends a fetch that has found nothing out.
    pub(super) fn leave(&self, key: &EntityKey) {
        leave(&mut self.fetches(key.as_bytes()), key);
    }

    /// Makes the cache know nothing of an entity, whatever fetches are under way.
    pub(super) fn forget(&self, key: &[u8]) {
        let mut fetches = self.fetches(key);
        if let Some(fetch) = fetches.get_mut(key) {
            fetch.turn += 1;
            fetch.seen = None;
        }
        self.rows.invalidate(key);
    }

    #[cfg(test)]
    pub(super) fn fetches_under_way(&self) -> usize {
        let fetches = self.fetches.iter().map(|shard| shard.lock().unwrap().len());
        fetches.sum()
    }

    fn fetches(&self, key: &[u8]) -> MutexGuard<'_, Fetches> {
        // The low bits alone: the shards are a power of two.
        let shard = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        self.fetches[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn leave(fetches: &mut Fetches, key: &EntityKey) {
    if let Some(fetch) = fetches.get_mut(key.as_bytes()) {
        fetch.readers -= 1;
        if fetch.readers == 0 {
            fetches.remove(key.as_bytes());
        }
    }
}

/// Adds to a counter that says how often something happened.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    if more > 0 {
        counter.fetch_add(more as u64, Ordering::Relaxed);
    }
}
