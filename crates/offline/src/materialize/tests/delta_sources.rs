//! Views that follow a Delta table.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use deltalake::{DeltaTable, ensure_table_uri, protocol::SaveMode};
use insta::assert_snapshot;
use vintner_registry::model::SourceFormat;

use super::world::*;
use crate::materialize::Action;

fn batch(rows: &[Row]) -> RecordBatch {
    let ints = |get: fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(Int64Array::from_iter(rows.iter().map(get)))
    };
    let times = |get: fn(&Row) -> Option<i64>| -> ArrayRef {
        let times = TimestampMicrosecondArray::from_iter(rows.iter().map(get));
        Arc::new(times.with_timezone("UTC"))
    };
    RecordBatch::try_from_iter_with_nullable([
        ("k", ints(|r| r.k), true),
        ("at", times(|r| r.at), true),
        ("made", times(|r| r.made), true),
        ("v", ints(|r| r.v), true),
    ])
    .unwrap()
}

/// A world whose `events` is a Delta table.
fn world() -> World {
    let mut world = World::new();
    let source = world.declared.get_mut("events").unwrap();
    source.format = SourceFormat::Delta;
    world
}

async fn write(world: &World, rows: &[Row], mode: SaveMode) {
    let url = ensure_table_uri(world.path("events").to_str().unwrap()).unwrap();
    let table = match DeltaTable::try_from_url(url.clone()).await {
        Ok(table) => table,
        Err(error) => panic!("{error}"),
    };
    table
        .write(vec![batch(rows)])
        .with_save_mode(mode)
        .await
        .unwrap();
}

async fn values(world: &World) -> Vec<(i64, i64)> {
    let rows = world.table(&row_local()).await.into_iter();
    rows.map(|row| (row.1, row.3[0].unwrap())).collect()
}

#[tokio::test]
async fn what_was_added_to_a_delta_table_is_appended() {
    let world = world();
    let view = row_local();
    write(&world, &[row(1, 10, 1)], SaveMode::Append).await;
    world.run(&view, 100).await;
    assert_eq!(world.run(&view, 100).await.plan.action, Action::NothingNew);
    write(&world, &[row(1, 5, 2)], SaveMode::Append).await;
    write(&world, &[row(1, 20, 3)], SaveMode::Append).await;
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"");
    assert_eq!(values(&world).await, [(5, 2), (10, 1), (20, 3)]);
    assert_eq!(world.run(&view, 100).await.plan.action, Action::NothingNew);
}

#[tokio::test]
async fn a_delta_table_that_was_rewritten_is_read_again() {
    let world = world();
    let view = row_local();
    write(&world, &[row(1, 10, 1)], SaveMode::Append).await;
    world.run(&view, 100).await;
    write(&world, &[row(1, 20, 2)], SaveMode::Overwrite).await;
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"");
    assert_eq!(values(&world).await, [(20, 2)]);
    assert_eq!(world.run(&view, 100).await.plan.action, Action::NothingNew);
}

#[tokio::test]
async fn a_window_of_a_delta_table_is_not_written_twice() {
    let world = world();
    let view = row_local();
    write(&world, &[row(1, 10, 1), row(1, 20, 1)], SaveMode::Append).await;
    world.run(&view, 100).await;
    write(&world, &[row(1, 10, 2), row(1, 20, 2)], SaveMode::Append).await;
    world.run_window(&view, 10, 20, 100).await;
    assert_eq!(values(&world).await, [(10, 1), (10, 2), (20, 1)]);
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"");
    assert_eq!(values(&world).await, [(10, 1), (10, 2), (20, 1), (20, 2)]);
}

#[tokio::test]
async fn a_window_of_a_delta_table_can_be_the_first_run() {
    let world = world();
    let view = row_local();
    write(&world, &[row(1, 10, 1), row(1, 20, 1)], SaveMode::Append).await;
    world.run_window(&view, 10, 20, 100).await;
    assert_eq!(values(&world).await, [(10, 1)]);
    let run = world.run(&view, 100).await;
    assert_snapshot!(run.plan, @"");
    assert_eq!(values(&world).await, [(10, 1), (20, 1)]);
}
