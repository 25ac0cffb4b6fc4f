use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, NullArray, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use insta::assert_snapshot;
use object_store::memory::InMemory;
use vintner_core::Timestamp;
use vintner_registry::model::ViewRevision;

use super::{Appended, Producer, Push, PushTable, RowError, checked_rows};
use crate::{
    delta::{OfflineStore, faulty::FaultyStore},
    maintenance::{MaintenanceContext, compact_view},
    materialize::{
        Action,
        tests::world::{
            TableRow, World, full_refresh, row, row_local, row_local_wider, unchanging, us,
            windowed,
        },
    },
};

/// Rows of `row_local`: key, event time, value; created at the moment of the push.
pub(crate) fn pushed(view: &ViewRevision, rows: &[(i64, i64, i64)], now: i64) -> RecordBatch {
    let ints = |get: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(get)))
    };
    let events = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.1));
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("k", ints(|r| r.0)), ("event_timestamp", Arc::new(events))];
    for feature in &view.features {
        columns.push((feature.name.as_str(), ints(|r| r.2)));
    }
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    checked_rows(view, &batch, us(now), 0).unwrap()
}

pub(crate) fn open(world: &World, view: &ViewRevision) -> PushTable {
    PushTable::of(&world.store, &world.project, &view.id).unwrap()
}

pub(crate) async fn push(
    table: &mut PushTable,
    view: &ViewRevision,
    rows: &RecordBatch,
) -> Appended {
    let push = Push {
        rows,
        producer: None,
    };
    table.append(view, &[push]).await.unwrap()
}

pub(crate) async fn push_as(
    table: &mut PushTable,
    view: &ViewRevision,
    rows: &RecordBatch,
    sequences: &[u64],
) -> Appended {
    let producers: Vec<_> = sequences
        .iter()
        .map(|sequence| Producer {
            name: "p".to_owned(),
            sequence: *sequence,
        })
        .collect();
    let pushes: Vec<_> = producers
        .iter()
        .map(|producer| Push {
            rows,
            producer: Some(producer),
        })
        .collect();
    table.append(view, &pushes).await.unwrap()
}

/// Rows of a table, of key, event time, created time and one value.
fn table(rows: &[(i64, i64, i64, i64)]) -> Vec<TableRow> {
    let mut table: Vec<_> = rows
        .iter()
        .map(|r| (r.0, r.1, r.2, vec![Some(r.3)]))
        .collect();
    table.sort();
    table
}

fn refused(columns: Vec<(&str, ArrayRef)>) -> String {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    );
    let refused: RowError = checked_rows(&row_local(), &batch.unwrap(), us(100), 10).unwrap_err();
    refused.to_string()
}

#[test]
fn rows_are_refused_with_the_row_and_the_column() {
    let ints = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let two = || ints(vec![Some(1), Some(2)]);
    let times = |micros: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(micros))
    };
    let now = || times(vec![Some(100), Some(100)]);
    let text = |values: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let good = || vec![("k", two()), ("event_timestamp", now()), ("v", two())];
    let with = |name, column| {
        let mut columns = good();
        columns.retain(|(other, _)| *other != name);
        columns.push((name, column));
        columns
    };
    let without = |name| {
        let mut columns = good();
        columns.retain(|(other, _)| *other != name);
        columns
    };
    let refusals = [
        refused(with("event_timestamps", now())),
        refused(with("temperature", two())),
        refused(without("k")),
        refused(without("event_timestamp")),
        refused(without("v")),
        refused(with("k", ints(vec![Some(1), None]))),
        refused(with("event_timestamp", times(vec![None, Some(1)]))),
        refused(with(
            "event_timestamp",
            times(vec![Some(100), Some(5_000_101)]),
        )),
        refused(with(
            "created_timestamp",
            times(vec![Some(5_000_101), Some(1)]),
        )),
        refused(with("event_timestamp", two())),
        refused(with("event_timestamp", text(["1970-01-01", "yesterday"]))),
        refused(with("v", text(["7", "seven"]))),
        refused(with("v", Arc::new(UInt64Array::from(vec![0, u64::MAX])))),
    ];
    assert_snapshot!(refusals.join("\n"), @r#"
    `event_timestamps` is no column of plain@1; did you mean `event_timestamp`?
    `temperature` is no column of plain@1; it has k, event_timestamp, created_timestamp, v
    the column `k` of plain@1 is missing, which is a join key
    the column `event_timestamp` of plain@1 is missing, which says when each row was true
    the column `v` of plain@1 is missing, which is a feature; give it nulls to say that there is no value
    row 12, column `k`: it is null, and a join key or an event time never is
    row 11, column `event_timestamp`: it is null, and a join key or an event time never is
    row 12, column `event_timestamp`: 1970-01-01T00:00:05.000101Z is in the future, it is 1970-01-01T00:00:00.0001Z here; no more than 5 s are taken for a clock that goes wrong
    row 11, column `created_timestamp`: 1970-01-01T00:00:05.000101Z is in the future, it is 1970-01-01T00:00:00.0001Z here; no more than 5 s are taken for a clock that goes wrong
    row 11, column `event_timestamp`: a number is not of type timestamp
    row 12, column `event_timestamp`: "yesterday" is not of type timestamp
    row 12, column `v`: "seven" is not of type int64
    row 12, column `v`: 18446744073709551615 is not of type int64
    "#);
    let twice = [("k", two()), ("k", two())].map(|(name, column)| (name, column, true));
    let twice = RecordBatch::try_from_iter_with_nullable(twice).unwrap();
    let twice = checked_rows(&row_local(), &twice, us(0), 0).unwrap_err();
    assert_eq!(twice.to_string(), "the column `k` is there twice");
}

#[test]
fn values_of_other_types_that_hold_them_are_taken() {
    let view = row_local();
    let columns: [(&str, ArrayRef); 4] = [
        ("v", Arc::new(NullArray::new(2))),
        ("k", Arc::new(Int32Array::from(vec![1, 2]))),
        (
            "event_timestamp",
            Arc::new(TimestampNanosecondArray::from(vec![-1, 5_000_000_000])),
        ),
        (
            "created_timestamp",
            Arc::new(StringArray::from(vec![None, Some("1970-01-01T00:00:01Z")])),
        ),
    ];
    let batch = columns.map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(batch).unwrap();
    let now: Timestamp = us(7);
    let rows = checked_rows(&view, &batch, now, 0).unwrap();
    let shown = arrow::util::pretty::pretty_format_batches(&[rows]).unwrap();
    assert_snapshot!(shown, @"
    +---+-----------------------------+-----------------------------+---+
    | k | event_timestamp             | created_timestamp           | v |
    +---+-----------------------------+-----------------------------+---+
    | 1 | 1969-12-31T23:59:59.999999Z | 1970-01-01T00:00:00.000007Z |   |
    | 2 | 1970-01-01T00:00:05Z        | 1970-01-01T00:00:01Z        |   |
    +---+-----------------------------+-----------------------------+---+
    ");
}

#[tokio::test]
async fn pushed_rows_are_in_the_table_beside_computed_ones() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1)]);
    world.run(&view, 100).await;
    let mut pushes = open(&world, &view);
    let done = push(
        &mut pushes,
        &view,
        &pushed(&view, &[(1, 20, 2), (2, 5, 3)], 50),
    )
    .await;
    assert_eq!(
        (done.version, done.after, done.written),
        (1, Some(0), vec![true])
    );
    let all = table(&[(1, 10, 10, 1), (1, 20, 50, 2), (2, 5, 50, 3)]);
    assert_eq!(world.table(&view).await, all);

    // The next run still knows what it has read.
    assert_eq!(world.run(&view, 100).await.plan.action, Action::NothingNew);
    world.write("b", &[row(3, 1, 4)]);
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"plain@1: append the rows of 1 file, since `events` has a new file");
    let done = push(&mut pushes, &view, &pushed(&view, &[(9, 9, 9)], 60)).await;
    assert_eq!((done.version, done.after), (3, None), "it follows the run");
    let more = [(3, 1, 1, 4), (9, 9, 60, 9)];
    let want = [
        (1, 10, 10, 1),
        (1, 20, 50, 2),
        (2, 5, 50, 3),
        more[0],
        more[1],
    ];
    assert_eq!(world.table(&view).await, table(&want));
}

#[tokio::test]
async fn what_was_pushed_outlives_every_recomputation_and_compaction() {
    for view in [row_local(), windowed(None), unchanging()] {
        let world = World::new();
        world.write("a", &[row(1, 10, 1), row(2, 30, 2)]);
        world.write_at("names.parquet", &[row(1, 0, 7)]);
        let mut pushes = open(&world, &view);
        // Before the first run, between runs, and at the times of computed rows.
        push(&mut pushes, &view, &pushed(&view, &[(1, 10, 100)], 50)).await;
        let run = world.run(&view, 100).await;
        assert!(run.plan.reason.contains("first run"), "{}", run.plan.reason);
        push(&mut pushes, &view, &pushed(&view, &[(1, 30, 200)], 60)).await;
        let pushed_rows = table(&[(1, 10, 50, 100), (1, 30, 60, 200)]);
        let before = world.table(&view).await;
        let kept = |rows: &[TableRow]| pushed_rows.iter().all(|row| rows.contains(row));
        assert!(kept(&before), "{before:?}");
        let context = MaintenanceContext {
            store: &world.store,
            project: &world.project,
            session: &world.session,
        };
        world.try_run(&view, &full_refresh(), 100).await.unwrap();
        if view.refresh != unchanging().refresh {
            world.run_window(&view, 0, 100, 100).await;
        }
        let rows = world.table(&view).await;
        assert!(kept(&rows), "{}: {rows:?}", view.id);
        assert_eq!(rows.len(), before.len(), "{}", view.id);
        let compaction = compact_view(&context, &view).await.unwrap();
        assert_eq!(compaction.rows, rows.len() as u64);
        assert_eq!(compaction.files_added, 2, "pushed and computed apart");
        assert_eq!(world.table(&view).await, rows, "{}", view.id);
        // Also when they are compact.
        world.try_run(&view, &full_refresh(), 100).await.unwrap();
        assert!(kept(&world.table(&view).await), "{}", view.id);
    }
}

#[tokio::test]
async fn a_push_with_a_new_feature_leaves_the_backfill_to_the_next_run() {
    let world = World::new();
    let (narrow, wide) = (row_local(), row_local_wider());
    world.write("a", &[row(1, 10, 1)]);
    world.run(&narrow, 100).await;
    let mut pushes = open(&world, &narrow);
    push(&mut pushes, &narrow, &pushed(&narrow, &[(2, 10, 5)], 50)).await;
    push(&mut pushes, &wide, &pushed(&wide, &[(3, 10, 7)], 50)).await;
    let pushed_rows = [
        (2, 10, 50, vec![Some(5), None]),
        (3, 10, 50, vec![Some(7), Some(7)]),
    ];
    let mut want = vec![(1, 10, 10, vec![Some(1), None])];
    want.extend(pushed_rows.clone());
    assert_eq!(world.table(&wide).await, want);
    let run = world.run(&wide, 100).await;
    assert_snapshot!(run.plan, @"plain@1: replace all rows, since the feature `twice` was added");
    want[0].3 = vec![Some(1), Some(2)];
    assert_eq!(world.table(&wide).await, want);
    assert_eq!(world.run(&wide, 100).await.plan.action, Action::NothingNew);
}

#[tokio::test]
async fn a_producers_push_is_written_once_whoever_writes_it() {
    let world = World::new();
    let view = row_local();
    let rows = |v| pushed(&view, &[(1, 10, v)], 50);
    let (mut one, mut other) = (open(&world, &view), open(&world, &view));
    assert_eq!(
        push_as(&mut one, &view, &rows(1), &[1]).await.written,
        [true]
    );
    assert_eq!(
        push_as(&mut one, &view, &rows(1), &[1]).await.written,
        [false]
    );
    // The other one has not seen the table yet.
    assert_eq!(
        push_as(&mut other, &view, &rows(1), &[1]).await.written,
        [false]
    );
    assert_eq!(
        push_as(&mut other, &view, &rows(2), &[2, 2, 1, 5])
            .await
            .written,
        [true, false, false, true]
    );
    // The first one believes that 1 is the last, until its commit meets that of the other.
    let done = push_as(&mut one, &view, &rows(3), &[2, 5, 6]).await;
    assert_eq!(done.written, [false, false, true]);
    let wanted = [
        (1, 10, 50, 1),
        (1, 10, 50, 2),
        (1, 10, 50, 2),
        (1, 10, 50, 3),
    ];
    assert_eq!(world.table(&view).await, table(&wanted));
    // Also after the log was summed up.
    for v in 10..30 {
        push(&mut one, &view, &rows(v)).await;
    }
    assert_eq!(
        push_as(&mut open(&world, &view), &view, &rows(9), &[6])
            .await
            .written,
        [false]
    );
}

#[tokio::test]
async fn pushers_and_runs_beside_each_other_lose_and_double_nothing() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(0, 1, 0)]);
    let pushing = |first: i64| {
        let (world, view) = (&world, &view);
        async move {
            let mut table = open(world, view);
            for k in first..first + 15 {
                push(&mut table, view, &pushed(view, &[(k, 10, k)], 50)).await;
            }
        }
    };
    let running = async {
        for n in 0..4 {
            world.write(&format!("n{n}"), &[row(1000 + n, 1, n)]);
            world.run(&view, 100).await;
            tokio::task::yield_now().await;
        }
        world.try_run(&view, &full_refresh(), 100).await.unwrap();
    };
    tokio::join!(pushing(100), pushing(200), running);
    let mut want = vec![(0, 1, 1, 0)];
    want.extend((100..115).chain(200..215).map(|k| (k, 10, 50, k)));
    want.extend((0..4).map(|n| (1000 + n, 1, 1, n)));
    assert_eq!(world.table(&view).await, table(&want));
}

#[tokio::test]
async fn a_push_that_dies_at_any_write_is_there_once_when_it_is_repeated() {
    for writes in 0.. {
        let objects = Arc::new(InMemory::new());
        let world = World::over(objects.clone());
        let view = row_local();
        let rows = pushed(&view, &[(1, 10, 1), (2, 10, 2)], 50);
        let faulty = FaultyStore::after(writes, objects.clone());
        let store = OfflineStore::over(
            Arc::new(faulty.clone()),
            "memory:///offline".parse().unwrap(),
        );
        let mut dying = PushTable::of(&store, &world.project, &view.id).unwrap();
        let producer = Producer {
            name: "p".to_owned(),
            sequence: 1,
        };
        let this = [Push {
            rows: &rows,
            producer: Some(&producer),
        }];
        let died = dying.append(&view, &this).await.is_err();
        push_as(&mut open(&world, &view), &view, &rows, &[1]).await;
        let want = table(&[(1, 10, 50, 1), (2, 10, 50, 2)]);
        assert_eq!(world.table(&view).await, want, "died after {writes} writes");
        if !died {
            break;
        }
    }
}

#[tokio::test]
async fn a_table_that_was_taken_away_is_begun_again() {
    let objects = Arc::new(InMemory::new());
    let world = World::over(objects.clone());
    let view = row_local();
    let mut pushes = open(&world, &view);
    push(&mut pushes, &view, &pushed(&view, &[(1, 10, 1)], 50)).await;
    push(&mut pushes, &view, &pushed(&view, &[(1, 10, 2)], 50)).await;
    let all: Vec<_> = {
        use futures::TryStreamExt;
        use object_store::ObjectStore;
        let listed = objects.list(None).map_ok(|found| found.location);
        listed.try_collect().await.unwrap()
    };
    for path in all {
        use object_store::ObjectStoreExt;
        objects.delete(&path).await.unwrap();
    }
    push(&mut pushes, &view, &pushed(&view, &[(1, 10, 3)], 50)).await;
    assert_eq!(world.table(&view).await, table(&[(1, 10, 50, 3)]));
}

#[tokio::test]
async fn pushed_rows_are_loaded_online_like_others() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1), row(2, 10, 2)]);
    world.run(&view, 100).await;
    let (_, _, cursor) = world.online(&view, None, 100).await;
    let mut pushes = open(&world, &view);
    for v in 0..20 {
        push(&mut pushes, &view, &pushed(&view, &[(1, 10 + v, v)], 90)).await;
    }
    let (rows, ..) = world.online(&view, cursor.as_ref(), 100).await;
    assert_eq!(rows, table(&[(1, 29, 90, 19)]));
}
