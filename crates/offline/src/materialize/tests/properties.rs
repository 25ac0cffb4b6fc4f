//! One run leaves what many leave, for cases drawn from a small grid in which times meet.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::world::*;
use crate::materialize::{MaterializeError, PlanError};

/// What happens to the folder, or what is run.
#[derive(Clone, Debug)]
enum Step {
    Add(Vec<Row>),
    Change(usize, Vec<Row>),
    Remove(usize),
    Run,
    Window(i64, i64),
}

pub(super) const NOW: i64 = 100;

pub(super) fn some_row() -> impl Strategy<Value = Row> {
    let key = prop_oneof![8 => (1..3i64).prop_map(Some), 1 => Just(None)];
    let at =
        prop_oneof![12 => (8..13i64).prop_map(Some), 2 => Just(Some(NOW + 1)), 1 => Just(None)];
    let made = prop_oneof![3 => (8..10i64).prop_map(Some), 1 => Just(None)];
    let v = prop_oneof![3 => (0..3i64).prop_map(Some), 1 => Just(None)];
    (key, at, made, v).prop_map(|(k, at, made, v)| Row { k, at, made, v })
}

pub(super) fn some_rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(some_row(), 0..5)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => some_rows().prop_map(Step::Add),
        1 => (0..4usize, some_rows()).prop_map(|(file, rows)| Step::Change(file, rows)),
        1 => (0..4usize).prop_map(Step::Remove),
        4 => Just(Step::Run),
        2 => (8..12i64, 1..4i64).prop_map(|(start, length)| Step::Window(start, start + length)),
    ];
    prop::collection::vec(step, 1..9)
}

/// What the folder holds, what has been read of it, and rows that only the table has.
#[derive(Default)]
struct Model {
    files: BTreeMap<String, Vec<Row>>,
    read: BTreeSet<String>,
    ghosts: Vec<Row>,
    has_table: bool,
    made: usize,
}

impl Model {
    fn current(&self) -> Vec<Row> {
        self.files.values().flatten().copied().collect()
    }

    fn expected(&self) -> Vec<TableRow> {
        as_table(self.files.values().flatten().chain(&self.ghosts), NOW)
    }

    fn name(&self, file: usize) -> Option<String> {
        self.files.keys().nth(file).cloned()
    }
}

async fn row_local_runs_agree_with_one(steps: &[Step]) -> Result<(), TestCaseError> {
    let world = World::new();
    let view = row_local();
    let mut model = Model::default();
    world.write("first", &[row(1, 10, 0)]);
    model.files.insert("first".into(), vec![row(1, 10, 0)]);
    for step in steps.iter().chain([&Step::Run]) {
        match step {
            Step::Add(rows) => {
                model.made += 1;
                let name = format!("f{}", model.made);
                world.write(&name, rows);
                model.files.insert(name, rows.clone());
            }
            Step::Change(file, rows) => {
                if let Some(name) = model.name(*file) {
                    world.write(&name, rows);
                    model.files.insert(name, rows.clone());
                }
            }
            Step::Remove(file) => {
                // A file that no run has read leaves nothing behind; the folder never becomes empty.
                let name = model.name(*file).filter(|name| model.read.contains(name));
                if let Some(name) = name.filter(|_| model.files.len() > 1) {
                    world.remove(&name);
                    let rows = model.files.remove(&name).unwrap_or_default();
                    model.ghosts.extend(rows);
                }
            }
            Step::Window(start, end) => {
                let run = world
                    .try_run(&view, &window(*start, *end), NOW)
                    .await
                    .unwrap();
                let inside = |at: i64| (*start..*end).contains(&at);
                let mut found = world.table(&view).await;
                found.retain(|row| inside(row.1));
                let mut want = as_table(&model.current(), NOW);
                want.retain(|row| inside(row.1));
                prop_assert_eq!(found, want, "{}", run.plan);
                model
                    .ghosts
                    .retain(|row| row.at.is_none_or(|at| !inside(at)));
                model.has_table = true;
            }
            Step::Run => {
                let run = world.try_run(&view, &Default::default(), NOW).await;
                let run = match run {
                    Err(MaterializeError::Plan(PlanError::FilesGone { .. })) => {
                        model.ghosts.clear();
                        world.try_run(&view, &full_refresh(), NOW).await
                    }
                    other => other,
                };
                let plan = run.unwrap().plan;
                model.has_table = true;
                model.read = model.files.keys().cloned().collect();
                prop_assert_eq!(world.table(&view).await, model.expected(), "{}", plan);
                let again = world.run(&view, NOW).await;
                prop_assert_eq!(again.plan.action.name(), "nothing_new", "{}", again.plan);
            }
        }
    }
    Ok(())
}

/// The sums of a view with windows, over all rows.
fn sums(rows: &[Row]) -> BTreeMap<(i64, i64), Option<i64>> {
    let mut sums: BTreeMap<(i64, i64), Option<i64>> = BTreeMap::new();
    for row in rows {
        if let (Some(k), Some(at)) = (row.k, row.at) {
            let sum = sums.entry((at, k)).or_default();
            *sum = match (*sum, row.v) {
                (sum, None) => sum,
                (sum, Some(v)) => Some(sum.unwrap_or(0) + v),
            };
        }
    }
    sums
}

async fn windowed_runs_agree_with_the_rule(
    lookback: Option<u64>,
    steps: &[(Vec<Row>, i64)],
) -> Result<(), TestCaseError> {
    let world = World::new();
    let view = windowed(lookback);
    let mut rows = Vec::new();
    let mut table: BTreeMap<(i64, i64), Option<i64>> = BTreeMap::new();
    for (step, (new, now)) in steps.iter().enumerate() {
        world.write(&format!("f{step}"), new);
        rows.extend(new.iter().copied());
        let back = i64::try_from(lookback.unwrap_or(0)).unwrap();
        let last = table.keys().next_back().map(|(at, _)| *at);
        let from = last.map_or(i64::MIN, |last| last - back);
        table.retain(|(at, _), _| *at < from || now <= at);
        let recomputed = sums(&rows).into_iter();
        table.extend(recomputed.filter(|((at, _), _)| (from..*now).contains(at)));
        let run = world.run(&view, *now).await;
        let found: BTreeMap<_, _> = world
            .table(&view)
            .await
            .into_iter()
            .map(|row| ((row.1, row.0), row.3[0]))
            .collect();
        prop_assert_eq!(&found, &table, "at {}: {}", now, run.plan);
        let again = world.run(&view, *now).await;
        prop_assert_eq!(again.plan.action.name(), "nothing_new", "{}", again.plan);
    }
    Ok(())
}

/// Rows that are new, the time of the run, and a window that is replaced before it.
type LoadStep = (Vec<Row>, i64, Option<(i64, i64)>);

/// Loading after each of many runs leaves in the online store what loading once at the end does.
async fn online_loads_agree_with_one(steps: &[LoadStep]) -> Result<(), TestCaseError> {
    let world = World::new();
    let view = row_local();
    let mut store: BTreeMap<i64, TableRow> = BTreeMap::new();
    let mut cursor = None;
    for (step, (new, now, replaced)) in steps.iter().enumerate() {
        world.write(&format!("f{step}"), new);
        match replaced {
            // The created times of rows without one are those of the run, so that they differ between runs.
            Some((start, end)) => world.run_window(&view, *start, *end, *now).await,
            None => world.run(&view, *now).await,
        };
        let (rows, held_back, next) = world.online(&view, cursor.as_ref(), *now).await;
        cursor = next;
        for row in rows {
            let stands = store
                .get(&row.0)
                .is_some_and(|old| (old.1, old.2) > (row.1, row.2));
            if !stands {
                store.insert(row.0, row);
            }
        }
        let (all, all_held_back, _) = world.online(&view, None, *now).await;
        let found: Vec<_> = store.values().cloned().collect();
        prop_assert_eq!(&found, &all, "at {}", now);
        prop_assert_eq!(held_back, all_held_back);
        let latest: Vec<_> = naive_latest(&world.table(&view).await, *now);
        prop_assert_eq!(all, latest);
    }
    Ok(())
}

fn naive_latest(table: &[TableRow], now: i64) -> Vec<TableRow> {
    let mut latest: BTreeMap<i64, &TableRow> = BTreeMap::new();
    for row in table.iter().filter(|row| row.1 <= now) {
        let best = latest.entry(row.0).or_insert(row);
        if (row.1, row.2, &row.3) > (best.1, best.2, &best.3) {
            *best = row;
        }
    }
    latest.into_values().cloned().collect()
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

fn ascending(mut nows: Vec<i64>) -> Vec<i64> {
    nows.sort_unstable();
    nows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn row_local_runs_leave_what_one_run_leaves(steps in steps()) {
        block_on(row_local_runs_agree_with_one(&steps))?;
    }

    #[test]
    fn windowed_runs_leave_what_the_rule_says(
        lookback in prop_oneof![Just(None), (1..4u64).prop_map(Some), Just(Some(1000))],
        files in prop::collection::vec(some_rows(), 1..5),
        nows in prop::collection::vec(8..15i64, 5).prop_map(ascending),
    ) {
        let steps: Vec<_> = files.into_iter().zip(nows).collect();
        block_on(windowed_runs_agree_with_the_rule(lookback, &steps))?;
    }

    #[test]
    fn many_online_loads_leave_what_one_leaves(
        files in prop::collection::vec(some_rows(), 1..5),
        nows in prop::collection::vec(8..14i64, 5).prop_map(ascending),
        replaced in prop::collection::vec(prop::option::weighted(0.3, (8..11i64, 1..4i64)), 5),
    ) {
        let windows = replaced.into_iter().map(|w| w.map(|(start, length)| (start, start + length)));
        let steps = files.into_iter().zip(nows).zip(windows);
        let steps: Vec<_> = steps.map(|((rows, now), window)| (rows, now, window)).collect();
        block_on(online_loads_agree_with_one(&steps))?;
    }
}
