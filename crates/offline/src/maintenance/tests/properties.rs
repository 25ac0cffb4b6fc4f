//! Runs, compactions and vacuums in any order leave the rows that the runs alone leave.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vintner_core::Ttl;

use super::*;
use crate::maintenance::{VacuumRequest, vacuum_view};

const NOW: i64 = 100;
/// A time by which every file is old enough to be vacuumed.
const LATER: i64 = 4_000_000_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<Row>),
    Window(i64, i64),
    /// To files of so many bytes.
    Compact(u64),
    Vacuum,
    Load,
}

fn some_row() -> impl Strategy<Value = Row> {
    let at = prop_oneof![8 => 8..13i64, 2 => Just(NOW + 1), 3 => 1_000..9_000i64];
    (1..4i64, at, 8..10i64, 0..3i64).prop_map(|(k, at, made, v)| Row {
        k: Some(k),
        at: Some(at),
        made: Some(made),
        v: Some(v),
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(some_row(), 0..6).prop_map(Step::Add),
        1 => (8..12i64, 1..4i64).prop_map(|(start, length)| Step::Window(start, start + length)),
        3 => prop_oneof![Just(1u64), Just(2_000), Just(1 << 30)].prop_map(Step::Compact),
        1 => Just(Step::Vacuum),
        3 => Just(Step::Load),
    ];
    prop::collection::vec(step, 1..12)
}

/// Takes what a load gives into a store that never goes back in time.
fn put(store: &mut BTreeMap<i64, TableRow>, rows: Vec<TableRow>) {
    for row in rows {
        let stands = store
            .get(&row.0)
            .is_some_and(|old| (old.1, old.2) > (row.1, row.2));
        if !stands {
            store.insert(row.0, row);
        }
    }
}

async fn rows_stay(steps: &[Step]) -> Result<(), TestCaseError> {
    let (world, plain) = (World::new(), World::new());
    let view = row_local();
    let context = context(&world, &world.store);
    let mut online = BTreeMap::new();
    let mut cursor = None;
    for (number, step) in steps.iter().chain([&Step::Load]).enumerate() {
        match step {
            Step::Add(rows) => {
                for world in [&world, &plain] {
                    world.write(&format!("f{number}"), rows);
                    world.run(&view, NOW).await;
                }
            }
            Step::Window(start, end) => {
                for world in [&world, &plain] {
                    world.write("always", &[row(9, 9, 9)]);
                    world.run_window(&view, *start, *end, NOW).await;
                }
            }
            Step::Compact(target) => {
                let done = compact_to(&context, &view, *target).await.unwrap();
                let again = compact_to(&context, &view, *target).await.unwrap();
                prop_assert_eq!(again.files_removed, 0, "{:?} after {:?}", again, done);
            }
            Step::Vacuum => {
                let request = VacuumRequest {
                    retention: Ttl::from_micros(1).unwrap(),
                    pins: &[],
                    dry_run: false,
                };
                vacuum_view(&world.store, &world.project, &view.id, &request, us(LATER))
                    .await
                    .unwrap();
            }
            Step::Load => {
                let (rows, held_back, next) = world.online(&view, cursor.as_ref(), NOW).await;
                put(&mut online, rows);
                cursor = next;
                let (all, all_held_back, _) = plain.online(&view, None, NOW).await;
                let found: Vec<_> = online.values().cloned().collect();
                prop_assert_eq!(found, all);
                prop_assert_eq!(held_back, all_held_back);
            }
        }
        prop_assert_eq!(world.table(&view).await, plain.table(&view).await);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn compaction_and_vacuum_leave_the_rows(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(rows_stay(&steps))?;
    }
}
