//! What the near cache tells of itself.

use vintner_core::{ByteSize, ProjectName, ViewId};

/// The near cache at one moment. Counts are since the process began, and each is exact; of two that are read together
/// one may be ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// Whether the servers tell what changes. While they do not, reads go past the cache.
    pub tracking: bool,
    /// How often the cache has begun anew with nothing in it: when tracking came on, and when a server was emptied.
    pub generations: u64,
    /// Every view that was read with a budget.
    pub views: Vec<ViewCacheStats>,
}

/// The cached rows of one view version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewCacheStats {
    /// The project.
    pub project: ProjectName,
    /// The view version.
    pub view: ViewId,
    /// The bytes that its rows may take; none while nothing of it is cached.
    pub budget: Option<ByteSize>,
    /// Entities of which something is known.
    pub entries: u64,
    /// The bytes that they take, by the cache's own estimate.
    pub bytes: u64,
    /// Reads of an entity whose row was there.
    pub hits: u64,
    /// Reads of an entity that was known to have no row.
    pub negative_hits: u64,
    /// Reads of an entity of which nothing was known.
    pub misses: u64,
    /// Reads of an entity while tracking was off.
    pub bypassed: u64,
    /// Rows that a server said were changed, cached or not.
    pub invalidations: u64,
}
