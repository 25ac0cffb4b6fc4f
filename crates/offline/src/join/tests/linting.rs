//! What lint counts is exact, and changes no row.

use datafusion::execution::memory_pool::MemoryLimit;
use vintner_join::LintCounts;

use super::*;

/// A pool that says that it is small, and refuses nothing: every batch of entity rows is a chunk.
#[derive(Debug, Default)]
struct SaysSmall(UnboundedMemoryPool);

impl std::fmt::Display for SaysSmall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("says small")
    }
}

impl MemoryPool for SaysSmall {
    fn name(&self) -> &str {
        "says small"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.shrink(reservation, shrink);
    }

    fn try_grow(
        &self,
        reservation: &MemoryReservation,
        additional: usize,
    ) -> datafusion::error::Result<()> {
        self.0.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.0.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(1)
    }
}

/// What the oracle counts.
fn counted(case: &JoinCase, view: usize) -> LintCounts {
    let want = oracle::lint(case, view);
    let events = case.views[view].rows.iter().map(|row| row.time.event);
    let asked = spec(case).asked(view);
    LintCounts {
        first_event: events.min(),
        asking: want.asking,
        before_first: want.before_first,
        expired: want.expired,
        late: want.late,
        own_time: want.own_time,
        nulls: asked
            .into_iter()
            .map(|feature| want.nulls[feature])
            .collect(),
    }
}

fn small() -> Arc<dyn MemoryPool> {
    Arc::new(SaysSmall::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// In one chunk and in many, with lint and without it.
    #[test]
    fn lint_and_chunks_change_no_row(case in grid::join_case(), files in Files::any()) {
        let want = oracle::join(&case);
        let objects = Arc::new(InMemory::new());
        for (lint, pool) in [(false, small()), (true, unbounded()), (true, small())] {
            let plan = plan_over(&objects, &case, files);
            let plan = match lint {
                true => plan.with_lint(),
                false => plan,
            };
            let is_small = matches!(pool.memory_limit(), MemoryLimit::Finite(_));
            let found = run_plan(&case, &plan, context(1000, pool));
            prop_assert_eq!(&found, &want);
            let counts = plan.counts();
            let rows = case.entity_rows.len();
            match is_small {
                true => prop_assert_eq!(counts.chunks, rows.div_ceil(files.layout.batch_rows + 1)),
                false => prop_assert_eq!(counts.chunks, rows.min(1)),
            }
            for (number, view) in counts.views.iter().enumerate() {
                prop_assert_eq!(view.matched_rows, oracle::matched(&case, number));
                if lint && rows > 0 {
                    prop_assert_eq!(view.lint.as_ref(), Some(&counted(&case, number)));
                }
                prop_assert_eq!(view.lint.is_some(), lint);
            }
        }
    }
}

/// By the log's bounds, which may be cut off, by the files' statistics, and where there are none by the rows.
#[test]
fn the_first_event_of_a_table_is_exact_whatever_is_known_of_its_files() {
    let us = Timestamp::from_micros;
    for first in [-1_001, -1_000, -1, 0, 1, 999, 1_000, 1_001] {
        let rows: Vec<_> = [first + 2_500, first, first + 1]
            .map(|event| (event, 0, Some(1)))
            .into();
        let case = case(&[], 0, &rows);
        for bounds in [Bounds::Unknown, Bounds::Exact, Bounds::Millis] {
            for statistics in [EnabledStatistics::None, EnabledStatistics::Page] {
                let files = Files {
                    bounds,
                    statistics,
                    ..ONE
                };
                let objects = Arc::new(InMemory::new());
                let each = [vec![0], vec![1], vec![], vec![2]];
                let table = files.table_of(&objects, "view", (&case, 0), &each);
                let found = runtime().block_on(table.first_event(grid::EVENT)).unwrap();
                assert_eq!(found, Some(us(first)), "{bounds:?} {statistics:?}");
            }
        }
    }
    let none = runtime().block_on(FeatureTable::empty("memory:///").first_event(grid::EVENT));
    assert_eq!(none.unwrap(), None);
}

/// A history whose later part is in files that begin after what was found is not opened for it.
#[test]
fn the_first_event_opens_only_files_that_can_have_it() {
    let rows: Vec<_> = (0..50).map(|event| (event * 1_000, 0, Some(1))).collect();
    let case = case(&[], 0, &rows);
    let each: Vec<_> = (0..50).map(|row| vec![row]).collect();
    let opened = |bounds| {
        let files = Files { bounds, ..ONE };
        let table = files.table_of(&Arc::new(InMemory::new()), "view", (&case, 0), &each);
        let _ = runtime().block_on(table.first_event(grid::EVENT)).unwrap();
        table.bytes_read()
    };
    let one = opened(Bounds::Exact);
    assert_eq!(opened(Bounds::Millis), one);
    assert_eq!(opened(Bounds::Unknown), 50 * one);
}
