//! Row-local views over a Delta table that others write to: what its commits bring, and what they do not.

use deltalake::protocol::SaveMode;
use insta::assert_snapshot;
use proptest::prelude::*;

use super::{
    properties::{NOW, block_on, some_row},
    world::*,
};

async fn append(world: &World, rows: &[Row]) {
    world.write_readings(SaveMode::Append, rows).await;
}

/// Writes all rows of the table into one file, without a change of data.
async fn compact(world: &World) -> u64 {
    let (_, metrics) = world.readings().await.optimize().await.unwrap();
    metrics.num_files_removed
}

#[tokio::test]
async fn late_rows_and_future_rows_of_new_commits_are_appended() {
    let world = World::new();
    let view = row_local_over_delta("plain");
    append(&world, &[row(1, 50, 1), row(2, 60, 2)]).await;
    assert_snapshot!(world.run(&view, NOW).await.plan, @"plain@1: replace all rows, since first run");
    append(&world, &[row(1, 10, 3), row(1, 999, 4)]).await;
    append(&world, &[row(2, 20, 5)]).await;
    let run = world.run(&view, NOW).await;
    assert_snapshot!(run.plan, @"plain@1: append the rows of 2 files, since `readings` has 2 new files");
    assert_eq!(run.counts.written, 3);
    let all = [
        row(1, 50, 1),
        row(2, 60, 2),
        row(1, 10, 3),
        row(1, 999, 4),
        row(2, 20, 5),
    ];
    assert_eq!(world.table(&view).await, as_table(&all, NOW));
    assert_snapshot!(world.run(&view, NOW).await.plan, @"plain@1: nothing to do, since nothing is new in `readings`");
}

#[tokio::test]
async fn a_compaction_brings_nothing_and_hides_nothing() {
    let world = World::new();
    let view = row_local_over_delta("plain");
    append(&world, &[row(1, 50, 1)]).await;
    append(&world, &[row(2, 60, 2)]).await;
    let first = world.run(&view, NOW).await;
    assert_eq!(compact(&world).await, 2);
    let run = world.run(&view, NOW).await;
    assert_snapshot!(run.plan, @"plain@1: nothing to do, since nothing is new in `readings`");
    assert_eq!(run.counts.written, 0);

    // A late row that a compaction has moved before any run has seen it.
    append(&world, &[row(1, 10, 3)]).await;
    assert_eq!(compact(&world).await, 2);
    append(&world, &[row(2, 20, 4)]).await;
    let run = world.run(&view, NOW).await;
    assert_snapshot!(run.plan, @"plain@1: append the rows of 2 files, since `readings` has 2 new files");
    assert_eq!((first.counts.written, run.counts.written), (2, 2));
    let all = [row(1, 50, 1), row(2, 60, 2), row(1, 10, 3), row(2, 20, 4)];
    assert_eq!(world.table(&view).await, as_table(&all, NOW));
}

#[tokio::test]
async fn an_overwritten_table_is_read_anew() {
    let world = World::new();
    let view = row_local_over_delta("plain");
    append(&world, &[row(1, 50, 1), row(2, 60, 2)]).await;
    world.run(&view, NOW).await;
    append(&world, &[row(1, 55, 3)]).await;
    let rows = [row(1, 50, 7), row(3, 10, 8)];
    world.write_readings(SaveMode::Overwrite, &rows).await;
    let run = world.run(&view, NOW).await;
    assert_snapshot!(run.plan, @"plain@1: replace all rows, since rows of the table `readings` were changed or removed since its version 0");
    assert_eq!(world.table(&view).await, as_table(&rows, NOW));
    assert_snapshot!(world.run(&view, NOW).await.plan, @"plain@1: nothing to do, since nothing is new in `readings`");
}

/// What is done to the table, or what is run.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Row>),
    Overwrite(Vec<Row>),
    Compact,
    Run,
    Window(i64, i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = || prop::collection::vec(some_row(), 1..5);
    let step = prop_oneof![
        4 => rows().prop_map(Step::Append),
        1 => rows().prop_map(Step::Overwrite),
        2 => Just(Step::Compact),
        4 => Just(Step::Run),
        1 => (8..12i64, 1..4i64).prop_map(|(start, length)| Step::Window(start, start + length)),
    ];
    prop::collection::vec(step, 1..9)
}

async fn many_runs_agree_with_one(steps: &[Step]) -> Result<(), TestCaseError> {
    let world = World::new();
    let (view, once) = (row_local_over_delta("many"), row_local_over_delta("once"));
    let mut rows = vec![row(1, 10, 0)];
    append(&world, &rows).await;
    for step in steps.iter().chain([&Step::Run]) {
        match step {
            Step::Append(new) => {
                append(&world, new).await;
                rows.extend(new);
            }
            Step::Overwrite(new) => {
                world.write_readings(SaveMode::Overwrite, new).await;
                rows.clone_from(new);
            }
            Step::Compact => {
                compact(&world).await;
            }
            Step::Window(start, end) => {
                world.run_window(&view, *start, *end, NOW).await;
            }
            Step::Run => {
                let plan = world.run(&view, NOW).await.plan;
                prop_assert_eq!(world.table(&view).await, as_table(&rows, NOW), "{}", plan);
                let again = world.run(&view, NOW).await.plan;
                prop_assert_eq!(again.action.name(), "nothing_new", "{}", again);
            }
        }
    }
    world.run(&once, NOW).await;
    prop_assert_eq!(world.table(&view).await, world.table(&once).await);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn runs_between_commits_leave_what_one_run_leaves(steps in steps()) {
        block_on(many_runs_agree_with_one(&steps))?;
    }
}
