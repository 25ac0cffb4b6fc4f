use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
};

use futures::{TryStreamExt, future::BoxFuture};
use object_store::memory::InMemory;
use proptest::prelude::*;
use vintner_core::{EntityKey, KeyValue, Ttl};

use super::{
    compacting::{Interrupted, files, scattered},
    *,
};
use crate::{
    delta::{KeyDigest, faulty::FaultyStore},
    maintenance::{Deletion, Mode, VacuumRequest, delete_entities, vacuum_view},
    materialize::{Action, ExpectedRows, MaterializeRequest, OnlineCursor, online_rows},
    push::tests::{open, push, push_as, pushed},
};

const NOW: i64 = 100;
/// A time by which every file is old enough to be vacuumed.
const LATER: i64 = 4_000_000_000_000_000;

fn keys(view: &ViewRevision, keys: &[i64]) -> HashSet<EntityKey> {
    let key = |k: &i64| EntityKey::encode(&view.join_keys, &[KeyValue::Int64(*k)]).unwrap();
    keys.iter().map(key).collect()
}

async fn delete(world: &World, view: &ViewRevision, of: &[i64], at: i64) -> Deletion {
    let context = context(world, &world.store);
    let entities = keys(view, of);
    delete_entities(&context, view, &entities, us(at), Mode::Done)
        .await
        .unwrap()
}

/// The keys of a table's rows, in their order.
async fn keys_left(world: &World, view: &ViewRevision) -> Vec<i64> {
    world.table(view).await.iter().map(|row| row.0).collect()
}

#[tokio::test]
async fn only_files_with_rows_of_the_entity_are_written_again_and_each_for_itself() {
    let view = row_local();
    let world = World::new();
    for (name, rows) in [
        ("a", vec![row(1, 10, 1), row(3, 20, 2)]),
        ("b", vec![row(2, 10, 1), row(2, 20, 2)]),
        ("c", vec![row(1, 30, 1), row(2, 30, 2), row(3, 30, 3)]),
        ("d", vec![row(4, 40, 1)]),
    ] {
        world.write(name, &rows);
        world.run(&view, NOW).await;
    }
    let told = {
        let (context, entities) = (context(&world, &world.store), keys(&view, &[2, 9]));
        delete_entities(&context, &view, &entities, us(NOW), Mode::Told).await
    };
    let told = told.unwrap();
    assert_eq!((told.rows, told.table_version), (3, None));
    assert_eq!(world.table(&view).await.len(), 8);
    let done = delete(&world, &view, &[2, 9], NOW).await;
    assert_eq!((done.rows, &done.found), (3, &keys(&view, &[2])));
    assert_eq!((done.files_removed, done.files_added), (2, 1));
    assert_eq!(done.table_version, Some(4));
    let found = files(&world, &view).await;
    assert_eq!(
        found,
        [
            vec![(1, 10), (3, 20)],
            vec![(1, 30), (3, 30)],
            vec![(4, 40)]
        ]
    );
    // Done again it changes nothing, and makes no version.
    let again = delete(&world, &view, &[2, 9], NOW).await;
    assert_eq!((again.rows, again.files_removed), (0, 0));
    assert_eq!(again.table_version, Some(4));
    // At a later moment it is another deletion.
    let later = delete(&world, &view, &[2, 9], NOW + 1).await;
    assert_eq!((later.rows, later.table_version), (0, Some(5)));
    // The last row of a file, and of the table.
    delete(&world, &view, &[1, 3, 4], NOW).await;
    assert_eq!(files(&world, &view).await, Vec::<Vec<(i64, i64)>>::new());
    assert_eq!(world.run(&view, NOW).await.plan.action, Action::NothingNew);
    // The version before can be read until it is vacuumed.
    assert_eq!(world.delta(&view).at(3).await.unwrap().rows(), 8);
}

#[tokio::test]
async fn files_stay_sorted_and_pushed_rows_stay_pushed() {
    let view = row_local();
    let world = World::new();
    world.write("a", &scattered(3000));
    world.run(&view, 1_000_000_000).await;
    let mut table = open(&world, &view);
    push(
        &mut table,
        &view,
        &pushed(&view, &[(1, 5, 7), (2, 6, 8)], NOW),
    )
    .await;
    compact(&world, &view).await;
    push(
        &mut table,
        &view,
        &pushed(&view, &[(2, 7, 9), (3, 8, 9)], NOW),
    )
    .await;
    let done = delete(&world, &view, &[2], 1_000_000_000).await;
    assert_eq!(done.files_removed, 3);
    let newest = world.delta(&view).newest().await.unwrap().unwrap();
    let mut names: Vec<_> = newest
        .files()
        .iter()
        .map(|file| (file.path().starts_with("pushed-"), file.is_sorted()))
        .collect();
    names.sort_unstable();
    assert_eq!(names, [(false, true), (true, false), (true, true)]);
    assert!(
        files(&world, &view)
            .await
            .iter()
            .all(|rows| rows.is_sorted())
    );
    // No run takes pushed rows, nor brings those that were deleted.
    let left = world.table(&view).await;
    let run = world.try_run(&view, &full_refresh(), 1_000_000_000).await;
    assert_eq!(run.unwrap().counts.deleted, 231);
    assert_eq!(world.table(&view).await, left);
}

#[tokio::test]
async fn runs_leave_out_what_was_deleted_up_to_that_moment() {
    let late = [row(1, 49, 1), row(1, 50, 2), row(1, 51, 3), row(2, 49, 4)];
    for view in [row_local(), windowed(Some(100))] {
        let world = World::new();
        world.write("a", &[10, 20, 30].map(|at| row(1, at, 1)));
        world.write("b", &[10, 20, 30].map(|at| row(2, at, 1)));
        world.run(&view, 50).await;
        let done = delete(&world, &view, &[1], 50).await;
        assert_eq!(done.rows, 3, "{}", view.id);
        let run = world.run(&view, 60).await;
        assert_eq!(run.plan.action, Action::NothingNew, "{}", view.id);
        // What comes later about times before is left out as well, both ends of it.
        world.write("c", &late);
        let run = world.run(&view, 60).await;
        assert!(run.counts.deleted >= 2, "{}: {:?}", view.id, run.counts);
        assert_eq!(
            keys_left(&world, &view).await,
            [1, 2, 2, 2, 2],
            "{}",
            view.id
        );
        let left = world.table(&view).await;
        assert_eq!(left[0].1, 51, "{}", view.id);
        for request in [full_refresh(), window(0, 60)] {
            world.try_run(&view, &request, 60).await.unwrap();
            assert_eq!(world.table(&view).await, left, "{} {request:?}", view.id);
        }
    }
}

#[tokio::test]
async fn a_backfill_and_a_changed_static_source_do_not_bring_rows_back() {
    let world = World::new();
    world.write("a", &[row(1, 10, 1), row(2, 10, 2)]);
    world.run(&row_local(), NOW).await;
    delete(&world, &row_local(), &[1], NOW).await;
    let wider = row_local_wider();
    world.run(&wider, NOW).await;
    assert_eq!(keys_left(&world, &wider).await, [2]);

    let view = unchanging();
    world.write_at("names.parquet", &[row(1, 10, 1), row(2, 10, 2)]);
    world.run(&view, NOW).await;
    delete(&world, &view, &[1], NOW).await;
    world.write_at(
        "names.parquet",
        &[row(1, 10, 1), row(2, 10, 3), row(3, 10, 3)],
    );
    world.run(&view, NOW).await;
    assert_eq!(keys_left(&world, &view).await, [2, 3]);
}

#[tokio::test]
async fn producers_and_later_pushes_are_as_they_were() {
    let view = row_local();
    let world = World::new();
    world.write("a", &[row(9, 10, 1)]);
    let mut table = open(&world, &view);
    let rows = pushed(&view, &[(1, 10, 1), (2, 10, 2)], NOW);
    push_as(&mut table, &view, &rows, &[1, 2]).await;
    delete(&world, &view, &[1], NOW).await;
    // What was pushed was pushed, also for one who opens the table anew.
    for mut table in [table, open(&world, &view)] {
        let again = push_as(&mut table, &view, &rows, &[1, 2]).await;
        assert_eq!(again.written, [false, false]);
    }
    assert_eq!(keys_left(&world, &view).await, [2, 2]);
    let mut table = open(&world, &view);
    // Rows that are pushed later stay, whatever their time.
    push_as(&mut table, &view, &pushed(&view, &[(1, 10, 5)], NOW), &[3]).await;
    world.try_run(&view, &full_refresh(), NOW).await.unwrap();
    assert_eq!(keys_left(&world, &view).await, [1, 2, 2, 9]);
}

#[tokio::test]
async fn the_first_run_of_a_view_that_was_only_pushed_to_is_told_as_one_whatever_was_deleted() {
    for view in [row_local(), windowed(None)] {
        for gone in [&[][..], &[1], &[1, 2]] {
            let world = World::new();
            world.write("a", &[row(9, 10, 1)]);
            let rows = pushed(&view, &[(1, 10, 1), (2, 10, 2)], NOW);
            push_as(&mut open(&world, &view), &view, &rows, &[1]).await;
            delete(&world, &view, gone, NOW).await;
            let run = world.run(&view, NOW).await;
            assert_eq!(run.plan.reason, "first run", "{gone:?}");
            let left = [1, 2, 9].into_iter().filter(|key| !gone.contains(key));
            let left: Vec<i64> = left.collect();
            assert_eq!(keys_left(&world, &view).await, left);
        }
    }
}

#[tokio::test]
async fn a_view_without_a_table_has_nothing_to_delete() {
    let world = World::new();
    let done = delete(&world, &row_local(), &[1], NOW).await;
    assert_eq!((done.rows, done.table_version), (0, None));
    assert!(world.delta(&row_local()).newest().await.unwrap().is_none());
}

/// A table of keys 1 and 2, whose key 1 is deleted while something else commits in between.
async fn deleted_while<F>(happens: F) -> (Arc<World>, Deletion)
where
    F: FnOnce(Arc<World>) -> BoxFuture<'static, ()> + Send + 'static,
{
    let view = row_local();
    let objects = Arc::new(InMemory::new());
    let world = Arc::new(World::over(objects.clone()));
    for (name, key) in [("a", 1), ("b", 2)] {
        world.write(name, &[10, 20].map(|at| row(key, at, 1)));
        world.run(&view, NOW).await;
    }
    let meanwhile = world.clone();
    let store = Interrupted {
        inner: objects,
        happens: Mutex::new(Some(Box::new(move || happens(meanwhile)))),
    };
    let store = OfflineStore::over(Arc::new(store), "memory:///offline".parse().unwrap());
    let entities = keys(&view, &[1]);
    let context = context(&world, &store);
    let done = delete_entities(&context, &view, &entities, us(NOW), Mode::Done);
    let done = done.await.unwrap();
    (world, done)
}

#[tokio::test]
async fn a_deletion_meets_whatever_else_is_done() {
    let view = row_local();
    // A run: what it has written is deleted too.
    let (world, done) = deleted_while(|world| {
        Box::pin(async move {
            world.write("c", &[row(1, 30, 1), row(2, 30, 1)]);
            world.run(&row_local(), NOW).await;
        })
    })
    .await;
    assert_eq!((done.rows, done.table_version), (3, Some(3)));
    assert_eq!(keys_left(&world, &view).await, [2, 2, 2]);
    // A compaction: the files that it made have the rows.
    let (world, done) = deleted_while(|world| {
        Box::pin(async move {
            compact(&world, &row_local()).await;
        })
    })
    .await;
    assert_eq!((done.rows, done.files_removed), (2, 1));
    assert_eq!(keys_left(&world, &view).await, [2, 2]);
    // A push: it is later, so its rows stay, and nothing is done again.
    let (world, done) = deleted_while(|world| {
        Box::pin(async move {
            let view = row_local();
            let rows = pushed(&view, &[(1, 30, 1), (2, 30, 1)], NOW);
            push(&mut open(&world, &view), &view, &rows).await;
        })
    })
    .await;
    assert_eq!((done.rows, done.table_version), (2, Some(3)));
    assert_eq!(keys_left(&world, &view).await, [1, 2, 2, 2]);
    // Another deletion: both count.
    let (world, _) = deleted_while(|world| {
        Box::pin(async move {
            delete(&world, &row_local(), &[2], NOW).await;
        })
    })
    .await;
    assert_eq!(keys_left(&world, &view).await, Vec::<i64>::new());
    world.try_run(&view, &full_refresh(), NOW).await.unwrap();
    assert_eq!(keys_left(&world, &view).await, Vec::<i64>::new());
}

#[tokio::test]
async fn a_run_that_meets_a_deletion_leaves_out_what_was_deleted() {
    let view = row_local();
    for request in [MaterializeRequest::default(), full_refresh()] {
        let objects = Arc::new(InMemory::new());
        let world = Arc::new(World::over(objects.clone()));
        world.write("a", &[row(1, 10, 1), row(2, 10, 1)]);
        world.run(&view, NOW).await;
        world.write("b", &[row(1, 20, 1), row(2, 20, 1)]);
        let meanwhile = world.clone();
        let happens = move || -> BoxFuture<'static, ()> {
            Box::pin(async move {
                delete(&meanwhile, &row_local(), &[1], NOW).await;
            })
        };
        let store = Arc::new(Interrupted {
            inner: objects,
            happens: Mutex::new(Some(Box::new(happens))),
        });
        let run = world.through(store).try_run(&view, &request, NOW).await;
        assert_eq!(run.unwrap().attempts, 2);
        assert_eq!(keys_left(&world, &view).await, [2, 2], "{request:?}");
    }
}

#[tokio::test]
async fn a_deletion_that_dies_at_any_write_can_be_done_again() {
    let view = row_local();
    for lies in [false, true] {
        for writes in 0.. {
            let objects = Arc::new(InMemory::new());
            let world = World::over(objects.clone());
            world.write("a", &[row(1, 10, 1), row(2, 10, 1)]);
            world.run(&view, NOW).await;
            push(
                &mut open(&world, &view),
                &view,
                &pushed(&view, &[(1, 30, 1), (2, 30, 1)], NOW),
            )
            .await;
            let before = world.table(&view).await;
            let faulty = match lies {
                true => FaultyStore::lying_after(writes, objects),
                false => FaultyStore::after(writes, objects),
            };
            let store = OfflineStore::over(
                Arc::new(faulty.clone()),
                "memory:///offline".parse().unwrap(),
            );
            let entities = keys(&view, &[1]);
            let context = context(&world, &store);
            let ended = delete_entities(&context, &view, &entities, us(NOW), Mode::Done);
            let story = format!("dead after {writes} writes, lies: {lies}");
            if ended.await.is_err() {
                let found = world.table(&view).await;
                assert!(found == before || found.len() == 2, "{story}: {found:?}");
            }
            delete(&world, &view, &[1], NOW).await;
            assert_eq!(keys_left(&world, &view).await, [2, 2], "{story}");
            world.try_run(&view, &full_refresh(), NOW).await.unwrap();
            assert_eq!(keys_left(&world, &view).await, [2, 2], "{story}");
            if !faulty.died() {
                break;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<Row>),
    Push(Vec<(i64, i64, i64)>),
    Delete(Vec<i64>, i64),
    Full,
    Window(i64, i64),
    Compact(u64),
    Vacuum,
    Load,
}

fn some_row() -> impl Strategy<Value = Row> {
    let at = prop_oneof![8 => 8..13i64, 1 => Just(-1), 1 => Just(NOW), 2 => Just(NOW + 1)];
    (1..5i64, at, 8..10i64, 0..3i64).prop_map(|(k, at, made, v)| Row {
        k: Some(k),
        at: Some(at),
        made: Some(made),
        v: Some(v),
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pushed = (1..5i64, 8..13i64, 0..3i64);
    let moment = prop_oneof![Just(-1), Just(9), Just(10), Just(11), Just(NOW)];
    let step = prop_oneof![
        4 => prop::collection::vec(some_row(), 0..6).prop_map(Step::Add),
        3 => prop::collection::vec(pushed, 1..4).prop_map(Step::Push),
        4 => (prop::collection::vec(1..6i64, 1..3), moment).prop_map(|(k, at)| Step::Delete(k, at)),
        1 => Just(Step::Full),
        1 => (8..12i64, 1..4i64).prop_map(|(start, length)| Step::Window(start, start + length)),
        2 => prop_oneof![Just(1u64), Just(2_000), Just(1 << 30)].prop_map(Step::Compact),
        1 => Just(Step::Vacuum),
        3 => Just(Step::Load),
    ];
    prop::collection::vec(step, 1..14)
}

/// What a table should hold: worked out from what was done, row by row.
#[derive(Default)]
struct Oracle {
    source: Vec<TableRow>,
    computed: Vec<TableRow>,
    pushed: Vec<TableRow>,
    deleted: BTreeMap<i64, i64>,
}

impl Oracle {
    fn is_admitted(&self, row: &TableRow) -> bool {
        self.deleted.get(&row.0).is_none_or(|at| row.1 > *at)
    }

    fn run(&mut self, rows: Vec<TableRow>) {
        self.source.extend(rows.clone());
        let rows = rows.into_iter().filter(|row| self.is_admitted(row));
        let rows: Vec<_> = rows.collect();
        self.computed.extend(rows);
    }

    fn run_again(&mut self, start: i64, end: i64) {
        let inside = |row: &TableRow| start <= row.1 && row.1 < end;
        self.computed.retain(|row| !inside(row));
        let rows = self.source.iter();
        let rows: Vec<_> = rows
            .filter(|row| inside(row) && self.is_admitted(row))
            .cloned()
            .collect();
        self.computed.extend(rows);
    }

    fn delete(&mut self, keys: &[i64], at: i64) -> u64 {
        let before = self.computed.len() + self.pushed.len();
        for rows in [&mut self.computed, &mut self.pushed] {
            rows.retain(|row| !keys.contains(&row.0));
        }
        for key in keys {
            let moment = self.deleted.entry(*key).or_insert(at);
            *moment = at.max(*moment);
        }
        (before - self.computed.len() - self.pushed.len()) as u64
    }

    fn table(&self) -> Vec<TableRow> {
        let mut rows = [self.computed.clone(), self.pushed.clone()].concat();
        rows.sort();
        rows
    }

    fn online(&self) -> Vec<TableRow> {
        let mut latest: BTreeMap<i64, TableRow> = BTreeMap::new();
        for row in self.table().into_iter().filter(|row| row.1 <= NOW) {
            latest.insert(row.0, row);
        }
        latest.into_values().collect()
    }
}

/// Loads as the online store is loaded: rows take their place by their times, and what was deleted is looked at again.
async fn load(
    world: &World,
    view: &ViewRevision,
    store: &mut BTreeMap<i64, TableRow>,
    cursor: Option<OnlineCursor>,
) -> Option<OnlineCursor> {
    let context = world.context();
    let load = online_rows(&context, view, cursor.as_ref(), us(NOW))
        .await
        .unwrap();
    let batches: Vec<_> = load.batches.try_collect().await.unwrap();
    for row in batches.iter().flat_map(rows) {
        let stands = store
            .get(&row.0)
            .is_some_and(|old| (old.1, old.2) > (row.1, row.2));
        if !stands {
            store.insert(row.0, row);
        }
    }
    let is_deleted = |k: &i64| {
        let key = keys(view, &[*k]);
        key.iter()
            .any(|key| load.deleted.contains(&KeyDigest::of(key.as_bytes())))
    };
    let deleted: Vec<_> = store.keys().copied().filter(is_deleted).collect();
    store.retain(|key, _| !deleted.contains(key));
    let expected = ExpectedRows::newest(&context, view).await.unwrap();
    let wanted = expected
        .of_keys(keys(view, &deleted), us(NOW))
        .await
        .unwrap();
    let wanted: Vec<_> = wanted.try_collect().await.unwrap();
    store.extend(wanted.iter().flat_map(rows).map(|row| (row.0, row)));
    load.cursor
}

async fn follows_the_oracle(steps: &[Step]) -> Result<(), TestCaseError> {
    let (world, view) = (World::new(), row_local());
    let mut oracle = Oracle::default();
    let (mut store, mut cursor) = (BTreeMap::new(), None);
    world.write("first", &[row(9, 9, 9)]);
    world.run(&view, NOW).await;
    oracle.run(vec![(9, 9, 9, vec![Some(9)])]);
    for (number, step) in steps.iter().chain([&Step::Load]).enumerate() {
        match step {
            Step::Add(rows) => {
                world.write(&format!("f{number}"), rows);
                world.run(&view, NOW).await;
                let rows = rows
                    .iter()
                    .map(|r| (r.k.unwrap(), r.at.unwrap(), r.made.unwrap(), vec![r.v]));
                oracle.run(rows.collect());
            }
            Step::Push(rows) => {
                push(&mut open(&world, &view), &view, &pushed(&view, rows, NOW)).await;
                let rows = rows.iter().map(|(k, at, v)| (*k, *at, NOW, vec![Some(*v)]));
                oracle.pushed.extend(rows);
            }
            Step::Delete(of, at) => {
                let done = delete(&world, &view, of, *at).await;
                prop_assert_eq!(done.rows, oracle.delete(of, *at));
                let again = delete(&world, &view, of, *at).await;
                prop_assert_eq!((again.rows, again.table_version), (0, done.table_version));
            }
            Step::Full => {
                world.try_run(&view, &full_refresh(), NOW).await.unwrap();
                oracle.run_again(i64::MIN, i64::MAX);
            }
            Step::Window(start, end) => {
                world.run_window(&view, *start, *end, NOW).await;
                oracle.run_again(*start, *end);
            }
            Step::Compact(target) => {
                compact_to(&context(&world, &world.store), &view, *target)
                    .await
                    .unwrap();
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
                cursor = load(&world, &view, &mut store, cursor).await;
                let found: Vec<_> = store.values().cloned().collect();
                prop_assert_eq!(found, oracle.online());
            }
        }
        prop_assert_eq!(world.table(&view).await, oracle.table());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn tables_and_loads_are_what_sources_pushes_and_deletions_make_of_them(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follows_the_oracle(&steps))?;
    }
}
