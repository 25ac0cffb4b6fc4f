//! Metrics of the near cache in front of Redis.

use std::fmt;

use vintner_core::ViewId;
use vintner_online::CacheStats;

use super::sheet::Sheet;

/// `served` says which views the registry has: the cache remembers others too.
pub(super) fn write(
    sheet: &mut Sheet<'_>,
    stats: &CacheStats,
    served: impl Fn(&ViewId) -> bool,
) -> fmt::Result {
    sheet.gauge(
        "vintner_near_cache_tracking",
        "Whether Redis tells what changes: 1, or 0 while reads go past the cache",
        [(vec![], f64::from(u8::from(stats.tracking)))],
    )?;
    sheet.counter(
        "vintner_near_cache_generations",
        "How often the cache has begun anew with nothing in it",
        [(vec![], stats.generations)],
    )?;
    let views = || stats.views.iter().filter(|view| served(&view.view));
    sheet.counter(
        "vintner_near_cache_lookups",
        "Entities that were looked up in the cache: hit, negative_hit (known to have no row), miss, bypassed (tracking is off)",
        views().flat_map(|view| {
            [
                ("hit", view.hits),
                ("negative_hit", view.negative_hits),
                ("miss", view.misses),
                ("bypassed", view.bypassed),
            ]
            .map(|(result, count)| {
                let labels = vec![("view", view.view.to_string()), ("result", result.to_owned())];
                (labels, count)
            })
        }),
    )?;
    sheet.counter(
        "vintner_near_cache_invalidations",
        "Rows that a server said were changed, cached or not",
        views().map(|view| (vec![("view", view.view.to_string())], view.invalidations)),
    )?;
    let gauge = |value: u64, view: &ViewId| (vec![("view", view.to_string())], value as f64);
    sheet.gauge(
        "vintner_near_cache_entries",
        "Entities of which something is known",
        views().map(|view| gauge(view.entries, &view.view)),
    )?;
    sheet.gauge(
        "vintner_near_cache_bytes",
        "What they take, by the cache's own estimate",
        views().map(|view| gauge(view.bytes, &view.view)),
    )?;
    sheet.gauge(
        "vintner_near_cache_budget_bytes",
        "What they may take",
        views().filter_map(|view| Some(gauge(view.budget?.bytes(), &view.view))),
    )
}
