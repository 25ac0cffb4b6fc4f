//! Rows of equal times are decided the same on every run, however they lie in files and however many threads read them.

use tokio::runtime::{Builder, Runtime};

use super::*;

fn threads(count: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(count).enable_time().build().unwrap()
}

/// One file or several, in any order, of small row groups and pages or of one.
fn layouts() -> Vec<Files> {
    let mut layouts = Vec::new();
    let sizes = [(1000, 1000), (7, 2), (1, 1)];
    let orders = [Order::Laid, Order::Sorted, Order::Compacted];
    for (seed, (partitions, order)) in (1..).zip([1, 3, 4].into_iter().zip(orders)) {
        for (group_rows, page_rows) in sizes {
            layouts.push(Files {
                layout: Layout {
                    partitions,
                    batch_rows: 1000,
                    seed: seed * 7919 + group_rows as u64,
                },
                order,
                group_rows,
                page_rows,
                bounds: Bounds::Millis,
                statistics: EnabledStatistics::Page,
            });
        }
    }
    layouts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// The values bit by bit, the sizes of the batches, and the bytes of a file that is made of them.
    #[test]
    fn ties_are_decided_the_same_for_every_layout_and_number_of_threads(
        mut case in grid::long_case()
    ) {
        // All rows of a key and an event time tie.
        for row in &mut case.views[0].rows {
            row.time.created = row.time.event;
        }
        let want = oracle::join(&case);
        let runtimes: Vec<_> = [1, 2, 3, 8].map(|count| (count, threads(count))).into();
        let mut first = None;
        let mut ties = 0;
        for files in layouts() {
            let table = files.table(&case, 0);
            for (count, runtime) in &runtimes {
                let entity_rows = entity_plan(&case, 5);
                let plan = PitJoinExec::try_new(
                    Arc::new(spec(&case)),
                    entity_rows,
                    [table.clone()].into(),
                ).unwrap();
                let context = context_of(*count, 1000, unbounded());
                let found = batches_on(runtime, &plan, context).unwrap();
                prop_assert_eq!(&cells(&case, &plan.schema(), &found), &want, "{:?}", files);
                let sizes: Vec<_> = found.iter().map(RecordBatch::num_rows).collect();
                let found = concat_batches(&plan.schema(), &found).unwrap();
                let found = (sizes, ONE.file(&found), found);
                match &first {
                    Some(first) => prop_assert!(*first == found, "{files:?} on {count} threads"),
                    None => first = Some(found),
                }
                ties += plan.counts().views[0].ties;
            }
        }
        // Nothing is told by values where nothing is seen.
        prop_assert!(ties > 0 || oracle::matched(&case, 0) == 0);
    }
}
