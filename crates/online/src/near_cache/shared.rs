//! What readers and the tracker share: the present generation of cached rows, and what has been counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use vintner_core::{ByteSize, ProjectName, ViewId};

use super::{
    lease::{Lease, Moment},
    row_key::{self, ProjectView, ViewRef},
    stats::{CacheStats, ViewCacheStats},
    view_cache::{ViewCache, ViewCounters, count},
};

/// The cached rows of all views since tracking began, or since the servers were emptied.
///
/// Nothing in it is ever cleared: what must go goes as a whole, by another generation in its place. So a fetch that
/// ends late puts its row where nobody looks any more.
#[derive(Debug)]
pub(super) struct Generation {
    lease: Arc<Lease>,
    views: ArcSwap<HashMap<ProjectView, Arc<ViewCache>, RandomState>>,
}

/// What readers and the tracker share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// None while tracking is off.
    generation: ArcSwapOption<Generation>,
    /// How many there have been.
    generations: AtomicU64,
    counters: Mutex<BTreeMap<(ProjectName, ViewId), Arc<ViewCounters>>>,
    #[cfg(test)]
    pub(super) hearing: super::tests::Hearing,
}

impl Shared {
    /// The cache of a view as it may be read at this moment, made when it is not there with this budget. None while
    /// tracking is off.
    pub(super) fn serving(
        &self,
        project: &ProjectName,
        view: &ViewId,
        budget: ByteSize,
    ) -> Option<Arc<ViewCache>> {
        let generation = self.generation.load();
        let generation = generation
            .as_ref()
            .filter(|generation| generation.lease.holds(Moment::now()))?;
        let views = generation.views.load();
        match views.get(&ViewRef::new(project, view)) {
            Some(cache) if cache.budget() == budget => Some(Arc::clone(cache)),
            _ => Some(self.add(generation, project, view, budget)),
        }
    }

    /// The cache of a view as it is now, whether or not it may be read.
    pub(super) fn current(&self, project: &ProjectName, view: &ViewId) -> Option<Arc<ViewCache>> {
        self.look_up(ViewRef::new(project, view))
    }

    /// Starts anew with nothing cached, for as long as the lease holds.
    pub(super) fn begin(&self, lease: Arc<Lease>) {
        self.generations.fetch_add(1, Ordering::Relaxed);
        free(self.generation.swap(Some(Arc::new(Generation::new(lease)))));
    }

    /// Caches nothing until the next beginning.
    pub(super) fn end(&self) {
        free(self.generation.swap(None));
    }

    /// Starts anew under the present lease: everything has changed at once.
    pub(super) fn empty(&self) {
        self.generations.fetch_add(1, Ordering::Relaxed);
        let old = self.generation.rcu(|generation| {
            let lease = Arc::clone(&generation.as_ref()?.lease);
            Some(Arc::new(Generation::new(lease)))
        });
        free(old);
    }

    /// Forgets the row that a Redis key stands for; a key that stands for none, or for one of a view that is not
    /// cached, changes nothing.
    pub(super) fn invalidate(&self, key: &[u8]) {
        #[cfg(test)]
        if self.hearing.is_deaf() {
            return;
        }
        if let Some(key) = row_key::parse(key)
            && let Some(cache) = self.look_up(key.view)
        {
            cache.forget(key.entity);
            count(&cache.counters().invalidations, 1);
        }
        #[cfg(test)]
        self.hearing.heard(key);
    }

    /// The counters of a view.
    pub(super) fn counters(&self, project: &ProjectName, view: &ViewId) -> Arc<ViewCounters> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let view = (project.clone(), view.clone());
        Arc::clone(counters.entry(view).or_default())
    }

    pub(super) fn stats(&self) -> CacheStats {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = counters.clone();
        let views = counters.iter().map(|((project, view), counters)| {
            let cache = self.current(project, view);
            let (entries, bytes) = cache.as_ref().map_or((0, 0), |cache| cache.size());
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            ViewCacheStats {
                project: project.clone(),
                view: view.clone(),
                budget: cache.map(|cache| cache.budget()),
                entries,
                bytes,
                hits: read(&counters.hits),
                negative_hits: read(&counters.negative_hits),
                misses: read(&counters.misses),
                bypassed: read(&counters.bypassed),
                invalidations: read(&counters.invalidations),
            }
        });
        let generation = self.generation.load();
        CacheStats {
            tracking: generation
                .as_ref()
                .is_some_and(|generation| generation.lease.holds(Moment::now())),
            generations: self.generations.load(Ordering::Relaxed),
            views: views.collect(),
        }
    }

    fn look_up(&self, view: ViewRef<'_>) -> Option<Arc<ViewCache>> {
        let generation = self.generation.load();
        let views = generation.as_ref()?.views.load();
        views.get(&view).map(Arc::clone)
    }

    fn add(
        &self,
        generation: &Generation,
        project: &ProjectName,
        view: &ViewId,
        budget: ByteSize,
    ) -> Arc<ViewCache> {
        let counters = self.counters(project, view);
        let mut cache = Arc::new(ViewCache::new(budget, counters));
        generation.views.rcu(|views| {
            let mut views = HashMap::clone(views);
            match views.get(&ViewRef::new(project, view)) {
                Some(there) if there.budget() == budget => cache = Arc::clone(there),
                _ => {
                    let view = ProjectView {
                        project: project.clone(),
                        view: view.clone(),
                    };
                    views.insert(view, Arc::clone(&cache));
                }
            }
            views
        });
        cache
    }
}

impl Generation {
    fn new(lease: Arc<Lease>) -> Self {
        Self {
            lease,
            views: ArcSwap::default(),
        }
    }
}

/// A generation's rows are many: nobody who has something else to do frees them.
fn free(old: Option<Arc<Generation>>) {
    if let (Some(old), Ok(runtime)) = (old, tokio::runtime::Handle::try_current()) {
        runtime.spawn_blocking(move || drop(old));
    }
}
