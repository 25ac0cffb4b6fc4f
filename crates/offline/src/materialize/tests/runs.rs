//! What runs leave in a table, and what they say.

use insta::assert_snapshot;

use super::world::*;
use crate::{
    delta::DeltaError,
    materialize::{Action, MaterializeError, MaterializeRequest},
};

#[tokio::test]
async fn the_first_run_takes_everything_and_the_next_finds_nothing_new() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1), row(2, 20, 2)]);
    let first = world.run(&view, 100).await;
    assert_snapshot!(first.plan, @"plain@1: replace all rows, since first run");
    assert_eq!(
        world.table(&view).await,
        as_table(&[row(1, 10, 1), row(2, 20, 2)], 100)
    );
    let again = world.run(&view, 200).await;
    assert_snapshot!(again.plan, @"plain@1: nothing to do, since nothing is new in `events`");
    assert_eq!(again.table_version, first.table_version);
}

#[tokio::test]
async fn late_rows_and_future_rows_of_new_files_are_appended() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 50, 1)]);
    world.run(&view, 100).await;
    world.write("b", &[row(1, 10, 2), row(1, 999, 3)]);
    world.write("c", &[row(1, 20, 4)]);
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"plain@1: append the rows of 2 files, since `events` has 2 new files");
    assert_eq!(run.counts.written, 3);
    let all = [row(1, 50, 1), row(1, 10, 2), row(1, 999, 3), row(1, 20, 4)];
    assert_eq!(world.table(&view).await, as_table(&all, 100));
}

#[tokio::test]
async fn rows_without_key_or_time_are_left_out_and_counted() {
    let world = World::new();
    let view = row_local();
    let rows = [
        row(1, 10, 1),
        Row {
            k: None,
            ..row(1, 10, 2)
        },
        Row {
            at: None,
            ..row(1, 10, 3)
        },
        Row {
            k: None,
            at: None,
            ..row(1, 10, 4)
        },
        Row {
            made: None,
            ..row(1, 10, 5)
        },
        Row {
            v: None,
            ..row(1, 10, 6)
        },
    ];
    world.write("a", &rows);
    let run = world.run(&view, 77).await;
    let counts = run.counts;
    assert_eq!((counts.read, counts.written), (6, 3));
    assert_eq!((counts.null_key, counts.null_time), (1, 2));
    assert_eq!(world.table(&view).await, as_table(&rows, 77));
}

#[tokio::test]
async fn a_file_that_changed_recomputes_all_in_one_commit() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1)]);
    world.write("b", &[row(1, 20, 2)]);
    let first = world.run(&view, 100).await;
    world.write("b", &[row(1, 20, 3), row(1, 30, 3)]);
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"plain@1: replace all rows, since the file `b.parquet` of `events` has changed since it was read");
    assert_eq!(run.table_version, first.table_version.map(|v| v + 1));
    let all = [row(1, 10, 1), row(1, 20, 3), row(1, 30, 3)];
    assert_eq!(world.table(&view).await, as_table(&all, 100));
}

#[tokio::test]
async fn rows_of_files_that_are_gone_stay() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1)]);
    world.write("b", &[row(1, 20, 2)]);
    world.run(&view, 100).await;
    world.remove("a");
    let run = world.run(&view, 100).await;
    assert_eq!(run.plan.action, Action::NothingNew);
    world.write("c", &[row(1, 30, 3)]);
    world.run(&view, 100).await;
    let all = [row(1, 10, 1), row(1, 20, 2), row(1, 30, 3)];
    assert_eq!(world.table(&view).await, as_table(&all, 100));
}

#[tokio::test]
async fn what_would_lose_rows_of_files_that_are_gone_asks_for_a_full_refresh() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1)]);
    world.write("b", &[row(1, 20, 2)]);
    world.run(&view, 100).await;
    world.remove("a");
    world.write("b", &[row(1, 20, 3)]);
    let request = MaterializeRequest::default();
    let error = world.try_run(&view, &request, 100).await.unwrap_err();
    assert_snapshot!(error, @"the file `b.parquet` of `events` has changed since it was read, so all rows of plain@1 must be recomputed; but 1 of the files that were read from `events` are gone (`a.parquet` for one), and their rows would be lost. Bring the files back, or accept the loss with --full-refresh");
    let run = world.try_run(&view, &full_refresh(), 100).await.unwrap();
    assert_snapshot!(run.plan, @"plain@1: replace all rows, since --full-refresh was given");
    assert_eq!(world.table(&view).await, as_table(&[row(1, 20, 3)], 100));
    assert_eq!(world.run(&view, 100).await.plan.action, Action::NothingNew);
}

#[tokio::test]
async fn a_window_is_replaced_to_the_row() {
    let world = World::new();
    let view = row_local();
    let old: Vec<_> = [9, 10, 11, 19, 20, 21].map(|at| row(1, at, 1)).into();
    world.write("a", &old);
    world.run(&view, 100).await;
    world.write(
        "b",
        &[row(2, 9, 2), row(2, 10, 2), row(2, 19, 2), row(2, 20, 2)],
    );
    let run = world.run_window(&view, 10, 20, 100).await;
    assert_snapshot!(run.plan, @"plain@1: replace the rows of 1970-01-01T00:00:00.00001Z to before 1970-01-01T00:00:00.00002Z, since a window was asked for");
    let mut want = old.clone();
    want.extend([row(2, 10, 2), row(2, 19, 2)]);
    assert_eq!(world.table(&view).await, as_table(&want, 100));
    // The rest of the new file comes with the next run, and nothing of it twice.
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"plain@1: append the rows of 1 file that were not written for the window 1970-01-01T00:00:00.00001Z to before 1970-01-01T00:00:00.00002Z, since `events` has a new file");
    want.extend([row(2, 9, 2), row(2, 20, 2)]);
    assert_eq!(world.table(&view).await, as_table(&want, 100));
    assert_eq!(world.run(&view, 100).await.plan.action, Action::NothingNew);
}

#[tokio::test]
async fn a_window_can_be_the_first_run() {
    for view in [row_local(), windowed(None)] {
        let world = World::new();
        world.write("a", &[row(1, 9, 1), row(1, 10, 1), row(1, 20, 1)]);
        world.run_window(&view, 10, 20, 100).await;
        let events: Vec<_> = world.table(&view).await.iter().map(|r| r.1).collect();
        assert_eq!(events, [10], "{}", view.id);
        world.run(&view, 100).await;
        let events: Vec<_> = world.table(&view).await.iter().map(|r| r.1).collect();
        // A view with windows goes on from the last event time; what was before was not asked for.
        let want: &[i64] = match view.id.name.as_str() {
            "plain" => &[9, 10, 20],
            _ => &[10, 20],
        };
        assert_eq!(events, want, "{}", view.id);
    }
}

#[tokio::test]
async fn a_static_source_that_changed_recomputes_the_views_joined_to_it() {
    let world = World::new();
    let view = joined();
    world.write("a", &[row(1, 10, 0), row(2, 20, 0)]);
    world.write_at("names.parquet", &[row(1, 0, 100)]);
    world.run(&view, 100).await;
    world.write("b", &[row(1, 30, 0)]);
    let run = world.run(&view, 100).await;
    assert!(matches!(run.plan.action, Action::AppendFiles(_)));
    world.write_at("names.parquet", &[row(1, 0, 101), row(2, 0, 200)]);
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"joined@1: replace all rows, since the source `names`, which `events` is joined to, has changed");
    let names: Vec<_> = world
        .table(&view)
        .await
        .into_iter()
        .map(|r| (r.1, r.3[0]))
        .collect();
    assert_eq!(names, [(10, Some(101)), (30, Some(101)), (20, Some(200))]);
}

#[tokio::test]
async fn a_static_view_is_replaced_when_its_data_changed() {
    let world = World::new();
    let view = unchanging();
    world.write_at("names.parquet", &[row(1, 0, 1), row(2, 0, 2)]);
    world.run(&view, 100).await;
    assert_eq!(
        world.run_window(&view, 0, 9, 100).await.plan.action,
        Action::NothingNew
    );
    world.write_at("names.parquet", &[row(2, 0, 3)]);
    let run = world.run(&view, 200).await;
    assert_snapshot!(run.plan, @"names@1: replace all rows, since the source `names` has changed");
    let beginning = vintner_core::Timestamp::BEGINNING.micros();
    let want = [(2, beginning, beginning, vec![Some(3)])];
    assert_eq!(world.table(&view).await, want);
}

#[tokio::test]
async fn a_feature_that_was_added_is_null_until_its_history_is_computed() {
    let world = World::new();
    world.write("a", &[row(1, 10, 4)]);
    world.run(&row_local(), 100).await;
    let wider = row_local_wider();
    let pending = world.table(&wider).await;
    assert_eq!(pending, [(1, 10, 10, vec![Some(4), None])]);
    let run = world.run(&wider, 100).await;
    assert_snapshot!(run.plan, @"plain@1: replace all rows, since the feature `twice` was added");
    assert_eq!(
        world.table(&wider).await,
        [(1, 10, 10, vec![Some(4), Some(8)])]
    );
    // A rollback leaves the column out at once, and the next run takes it out of the table.
    assert_eq!(
        world.table(&row_local()).await,
        [(1, 10, 10, vec![Some(4)])]
    );
    let run = world.run(&row_local(), 100).await;
    assert_snapshot!(run.plan, @"plain@1: replace all rows, since the feature `twice` was removed");
}

#[tokio::test]
async fn windowed_runs_hold_rows_of_the_future_back_until_their_time() {
    let world = World::new();
    let view = windowed(None);
    world.write("a", &[row(1, 99, 1), row(1, 100, 2), row(1, 101, 3)]);
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"sums@1: replace all rows, with those before 1970-01-01T00:00:00.0001Z, since first run");
    assert_eq!((run.counts.written, run.counts.held_back), (1, 2));
    assert_eq!(world.run(&view, 100).await.plan.action, Action::NothingNew);
    let run = world.run(&view, 101).await;
    assert_snapshot!(run.plan, @"sums@1: replace the rows of 1970-01-01T00:00:00.000099Z to before 1970-01-01T00:00:00.000101Z, since there are rows whose time has come since the last run; recomputed from the last event time");
    assert_eq!((run.counts.written, run.counts.held_back), (2, 1));
    let run = world.run(&view, 102).await;
    assert_eq!((run.counts.written, run.counts.held_back), (2, 0));
    let run = world.run(&view, 500).await;
    assert_snapshot!(run.plan, @"sums@1: nothing to do, since its sources have not changed");
    let events: Vec<_> = world
        .table(&view)
        .await
        .iter()
        .map(|r| (r.1, r.2))
        .collect();
    assert_eq!(events, [(99, 101), (100, 102), (101, 102)]);
}

#[tokio::test]
async fn windowed_runs_go_back_by_the_lookback() {
    for (lookback, want) in [
        // Rows at exactly the last event time are recomputed, earlier ones are not.
        (None, [(10, 1), (18, 1), (20, 11)]),
        (Some(1), [(10, 1), (18, 1), (20, 11)]),
        (Some(2), [(10, 1), (18, 11), (20, 11)]),
        (Some(10), [(10, 11), (18, 11), (20, 11)]),
    ] {
        let world = World::new();
        let view = windowed(lookback);
        world.write("a", &[10, 18, 20].map(|at| row(1, at, 1)));
        world.run(&view, 100).await;
        world.write("b", &[10, 18, 20].map(|at| row(1, at, 10)));
        world.run(&view, 100).await;
        let found: Vec<_> = world
            .table(&view)
            .await
            .into_iter()
            .map(|r| (r.1, r.3[0].unwrap()))
            .collect();
        assert_eq!(found, want, "lookback {lookback:?}");
    }
}

#[tokio::test]
async fn a_run_that_ends_early_does_not_hide_what_is_new_later() {
    let world = World::new();
    let view = windowed(Some(100));
    world.write("a", &[row(1, 10, 1), row(1, 20, 1)]);
    world.run(&view, 100).await;
    world.write("b", &[row(1, 10, 10), row(1, 20, 10)]);
    let until = MaterializeRequest {
        end: Some(us(15)),
        ..Default::default()
    };
    world.try_run(&view, &until, 100).await.unwrap();
    let totals = |rows: Vec<TableRow>| {
        rows.into_iter()
            .map(|r| r.3[0].unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(totals(world.table(&view).await), [11, 1]);
    world.run(&view, 100).await;
    assert_eq!(totals(world.table(&view).await), [11, 11]);
    assert_eq!(world.run(&view, 100).await.plan.action, Action::NothingNew);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let world = World::new();
    world.write("a", &[row(1, 10, 1)]);
    let mut found = String::new();
    for (view, request) in [
        (row_local(), window(20, 20)),
        (windowed(None), window(200, 300)),
        (
            row_local(),
            MaterializeRequest {
                full_refresh: true,
                ..window(10, 20)
            },
        ),
    ] {
        let error = world.try_run(&view, &request, 100).await.unwrap_err();
        found += &format!("{error}\n");
    }
    assert_snapshot!(found, @"
    --start 1970-01-01T00:00:00.00002Z is not before --end 1970-01-01T00:00:00.00002Z
    --start 1970-01-01T00:00:00.0002Z is not before now, which is 1970-01-01T00:00:00.0001Z; no window of the future is computed
    --full-refresh recomputes all time; leave out --start and --end, or --full-refresh
    ");
    assert_eq!(world.table(&row_local()).await, []);
}

#[tokio::test]
async fn a_table_of_which_the_log_does_not_say_what_was_read_is_recomputed() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1)]);
    world.run(&view, 100).await;
    let table = world.delta(&view);
    let base = table.newest().await.unwrap().unwrap();
    // Somebody else's rows, as from another tool.
    let removes = base.files().iter().map(|file| file.removal()).collect();
    let change = crate::delta::Change {
        written: Default::default(),
        removes,
        columns: crate::delta::Columns::Same,
        effect: crate::delta::Effect::Replaces("true".to_owned()),
        producers: Vec::new(),
        info: vec![(
            "vintner.progress".to_owned(),
            serde_json::json!({"format": 99}),
        )],
    };
    change.commit(&table, Some(&base)).await.unwrap();
    assert_eq!(world.table(&view).await, []);
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"plain@1: replace all rows, since the table's log no longer says what was read");
    assert_eq!(world.table(&view).await, as_table(&[row(1, 10, 1)], 100));
}

#[tokio::test]
async fn a_version_of_a_table_stays_readable() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1)]);
    let first = world.run(&view, 100).await.table_version.unwrap();
    world.write("b", &[row(1, 20, 2)]);
    world.run(&view, 100).await;
    let count = async |version| {
        let table = match version {
            Some(_) => world.store.open_at(&world.project, &view, version).await?,
            None => world.store.open_newest(&world.project, &view).await?,
        };
        let rows = table.rows().await?;
        Ok::<_, DeltaError>(
            world
                .session
                .read_table(rows)
                .unwrap()
                .count()
                .await
                .unwrap(),
        )
    };
    assert_eq!(count(Some(first)).await.unwrap(), 1);
    assert_eq!(count(None).await.unwrap(), 2);
    assert_snapshot!(count(Some(9)).await.unwrap_err(), @"the table of plain@1 has no version 9; its newest is 1");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_an_error() {
    let world = World::new();
    world.write("a", &[row(1, 10, 1)]);
    let file = world.path("a_file");
    std::fs::write(&file, "not a folder").unwrap();
    let store = crate::delta::OfflineStore::open("a_file/offline", &world.path("")).unwrap();
    let context = crate::materialize::MaterializeContext {
        store: &store,
        ..world.context()
    };
    let view = row_local();
    let request = MaterializeRequest::default();
    let run = crate::materialize::materialize_view(
        &context,
        &view,
        &world.declared,
        &request,
        us(100),
        &|_| {},
    );
    let error = run.await.unwrap_err();
    assert!(matches!(error, MaterializeError::Delta { .. }), "{error}");
}
