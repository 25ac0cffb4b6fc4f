//! What the online store is given.

use futures::TryStreamExt;
use vintner_core::{EntityKey, KeyValue};

use super::world::*;
use crate::{
    maintenance::{drop_table, table_files},
    materialize::table_keys,
};

fn made(row: Row, made: i64) -> Row {
    Row {
        made: Some(made),
        ..row
    }
}

#[tokio::test]
async fn the_latest_row_of_each_key_whose_time_has_come() {
    let world = World::new();
    let view = row_local();
    world.write(
        "a",
        &[
            row(1, 10, 1),
            row(1, 20, 2),
            row(1, 101, 3),
            row(2, 100, 4),
            row(3, 102, 5),
            made(row(4, 10, 6), 12),
            made(row(4, 10, 7), 11),
        ],
    );
    world.run(&view, 1000).await;
    let (rows, held_back, cursor) = world.online(&view, None, 100).await;
    assert_eq!(
        rows,
        [
            (1, 20, 20, vec![Some(2)]),
            (2, 100, 100, vec![Some(4)]),
            (4, 10, 12, vec![Some(6)]),
        ]
    );
    assert_eq!(held_back, 2);
    // Rows that were held back come when they are due, and nothing else is read again.
    let (rows, held_back, cursor) = world.online(&view, cursor.as_ref(), 101).await;
    assert_eq!((rows, held_back), (vec![(1, 101, 101, vec![Some(3)])], 1));
    let (rows, held_back, cursor) = world.online(&view, cursor.as_ref(), 101).await;
    assert_eq!((rows, held_back), (vec![], 1));
    let (rows, held_back, _) = world.online(&view, cursor.as_ref(), 102).await;
    assert_eq!((rows, held_back), (vec![(3, 102, 102, vec![Some(5)])], 0));
}

#[tokio::test]
async fn a_load_goes_on_with_what_was_added() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1), row(2, 20, 2), row(3, 200, 3)]);
    world.run(&view, 100).await;
    let (_, _, cursor) = world.online(&view, None, 100).await;
    world.write("b", &[row(1, 5, 9), row(4, 30, 4), row(4, 300, 5)]);
    world.run(&view, 100).await;
    let (rows, held_back, cursor) = world.online(&view, cursor.as_ref(), 100).await;
    // The older row of key 1 loses against the one that was loaded before, which is given again.
    let want = [(1, 10, 10, vec![Some(1)]), (4, 30, 30, vec![Some(4)])];
    assert_eq!((rows, held_back), (want.into(), 2));
    let (rows, held_back, _) = world.online(&view, cursor.as_ref(), 300).await;
    let want = [(3, 200, 200, vec![Some(3)]), (4, 300, 300, vec![Some(5)])];
    assert_eq!((rows, held_back), (want.into(), 0));
}

#[tokio::test]
async fn a_tie_with_a_row_that_was_loaded_before_is_decided_by_the_values() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 7), row(2, 10, 3)]);
    world.run(&view, 100).await;
    let (_, _, cursor) = world.online(&view, None, 100).await;
    world.write("b", &[row(1, 10, 5), row(2, 10, 4)]);
    world.run(&view, 100).await;
    let (rows, _, _) = world.online(&view, cursor.as_ref(), 100).await;
    let want = [(1, 10, 10, vec![Some(7)]), (2, 10, 10, vec![Some(4)])];
    assert_eq!(rows, want);
}

#[tokio::test]
async fn a_backfill_gives_every_row_again() {
    let world = World::new();
    world.write("a", &[row(1, 10, 1), row(2, 20, 2)]);
    world.run(&row_local(), 100).await;
    let (_, _, cursor) = world.online(&row_local(), None, 100).await;
    let wider = row_local_wider();
    world.run(&wider, 100).await;
    let (rows, _, _) = world.online(&wider, cursor.as_ref(), 100).await;
    let want = [
        (1, 10, 10, vec![Some(1), Some(2)]),
        (2, 20, 20, vec![Some(2), Some(4)]),
    ];
    assert_eq!(rows, want);
}

#[tokio::test]
async fn held_back_rows_that_went_away_are_not_counted() {
    let world = World::new();
    let view = row_local();
    world.write("a", &[row(1, 10, 1), row(1, 200, 2), row(1, 300, 3)]);
    world.run(&view, 100).await;
    let (_, held_back, cursor) = world.online(&view, None, 100).await;
    assert_eq!(held_back, 2);
    world.write("a", &[row(1, 10, 1), row(1, 300, 3)]);
    world.run(&view, 100).await;
    let (_, held_back, cursor) = world.online(&view, cursor.as_ref(), 100).await;
    assert_eq!(held_back, 1);
    let (rows, held_back, _) = world.online(&view, cursor.as_ref(), 300).await;
    assert_eq!((rows, held_back), (vec![(1, 300, 300, vec![Some(3)])], 0));
}

#[tokio::test]
async fn without_a_table_there_is_nothing() {
    let world = World::new();
    let (rows, held_back, cursor) = world.online(&row_local(), None, 100).await;
    assert_eq!((rows, held_back, cursor), (vec![], 0, None));
}

#[tokio::test]
async fn parts_of_the_keys_make_up_what_should_be_online() {
    let world = World::new();
    let view = row_local();
    let rows = |k: i64| [row(k, 10, k), row(k, 20 + k % 3, -k), row(k, 1000, 7)];
    world.write("a", &(0..30).flat_map(rows).collect::<Vec<_>>());
    world.run(&view, 2000).await;
    world.write("b", &(20..50).flat_map(rows).collect::<Vec<_>>());
    world.run(&view, 2000).await;
    for now in [9, 10, 21, 1000] {
        let (want, held_back, _) = world.online(&view, None, now).await;
        for limit in [1, 7, 49, 50, 1000] {
            let (found, held, parts) = world.expected(&view, limit, now).await;
            assert_eq!((&found, held), (&want, held_back), "{limit} at {now}");
            assert!(
                parts >= want.len().div_ceil(limit).max(1),
                "{limit} at {now}"
            );
        }
    }
    let nothing = world.expected(&row_local_wider(), 7, 1000).await.0;
    assert_eq!(nothing.len(), 50, "a feature without values yet is null");
}

#[tokio::test]
async fn a_table_knows_its_keys_and_can_be_dropped_without_its_view() {
    let world = World::new();
    let view = row_local();
    world.write(
        "a",
        &[row(1, 10, 1), row(1, 20, 2), row(2, 10, 3), row(-3, 10, 3)],
    );
    world.run(&view, 100).await;
    let context = world.context();
    let (store, project) = (context.store, context.project);
    let keys = table_keys(store, project, &view.id, context.session).await;
    let keys: Vec<Vec<EntityKey>> = keys.unwrap().unwrap().try_collect().await.unwrap();
    let mut keys = keys.concat();
    keys.sort();
    let want =
        [-3, 1, 2].map(|k| EntityKey::encode(&view.join_keys, &[KeyValue::Int64(k)]).unwrap());
    assert_eq!(keys, want);

    let found = table_files(store, project, &view.id).await.unwrap();
    assert!(found.files >= 2 && found.bytes > 0, "{found:?}");
    assert_eq!(drop_table(store, project, &view.id).await.unwrap(), found);
    assert_eq!(world.online(&view, None, 100).await, (vec![], 0, None));
    let keys = table_keys(store, project, &view.id, context.session).await;
    assert!(keys.unwrap().is_none());
    assert_eq!(drop_table(store, project, &view.id).await.unwrap().files, 0);
    // It begins anew.
    world.run(&view, 100).await;
    assert_eq!(world.online(&view, None, 100).await.0.len(), 3);
}
