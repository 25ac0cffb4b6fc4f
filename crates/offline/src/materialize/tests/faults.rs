//! Runs that die, and runs that meet.

use std::sync::{Arc, Barrier};

use object_store::memory::InMemory;

use super::world::*;
use crate::{
    delta::faulty::FaultyStore,
    materialize::{Action, MaterializeRequest, RunEvent, materialize_view},
};

/// What happens to the source, and the run after it.
type Step = (&'static str, fn(&World), MaterializeRequest);

fn steps() -> Vec<Step> {
    vec![
        (
            "first run",
            |world| world.write("a", &[10, 20, 30].map(|at| row(1, at, 1))),
            MaterializeRequest::default(),
        ),
        (
            "new file",
            |world| world.write("b", &[5, 25, 35].map(|at| row(2, at, 2))),
            MaterializeRequest::default(),
        ),
        (
            "window",
            |world| world.write("c", &[10, 20, 30].map(|at| row(3, at, 3))),
            window(15, 30),
        ),
        ("after the window", |_| {}, MaterializeRequest::default()),
        (
            "changed file",
            |world| world.write("a", &[10, 20].map(|at| row(1, at, 9))),
            MaterializeRequest::default(),
        ),
    ]
}

#[tokio::test]
async fn a_run_that_dies_at_any_write_can_be_run_again() {
    for view in [row_local(), windowed(Some(100))] {
        let mut clean = Vec::new();
        let world = World::new();
        for (_, happens, request) in steps() {
            happens(&world);
            world.try_run(&view, &request, 100).await.unwrap();
            clean.push(world.table(&view).await);
        }
        for lies in [false, true] {
            for dying in 0..steps().len() {
                for writes in 0.. {
                    let died = die_and_run_again(&view, dying, writes, lies, &clean).await;
                    if !died {
                        break;
                    }
                }
            }
        }
    }
}

/// Runs all steps; one of them dies after so many writes and is run again. Whether it died.
async fn die_and_run_again(
    view: &vintner_registry::model::ViewRevision,
    dying: usize,
    writes: i64,
    lies: bool,
    clean: &[Vec<TableRow>],
) -> bool {
    let objects = Arc::new(InMemory::new());
    let world = World::over(objects.clone());
    let mut died = false;
    for (step, (name, happens, request)) in steps().into_iter().enumerate() {
        happens(&world);
        let about = format!(
            "{}: {name}, dead after {writes} writes, lies: {lies}",
            view.id
        );
        if step == dying {
            let faulty = match lies {
                true => FaultyStore::lying_after(writes, objects.clone()),
                false => FaultyStore::after(writes, objects.clone()),
            };
            let faulty = Arc::new(faulty);
            let before = world.table(view).await;
            let run = world
                .through(faulty.clone())
                .try_run(view, &request, 100)
                .await;
            died = faulty.died();
            let after = world.table(view).await;
            if run.is_err() {
                assert!(died, "{about}");
                assert_eq!(after, before, "{about}: half of it is there");
            } else {
                assert_eq!(after, clean[step], "{about}");
            }
        }
        world.try_run(view, &request, 100).await.unwrap();
        assert_eq!(world.table(view).await, clean[step], "{about}");
    }
    died
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_of_a_view_at_the_same_time_end_as_one() {
    for (view, request) in [
        (row_local(), MaterializeRequest::default()),
        (row_local(), window(15, 30)),
        (windowed(None), MaterializeRequest::default()),
    ] {
        for has_table in [false, true] {
            let world = Arc::new(World::new());
            world.write("a", &[10, 20, 30].map(|at| row(1, at, 1)));
            if has_table {
                world.run(&view, 100).await;
                world.write("b", &[10, 20, 30].map(|at| row(2, at, 2)));
            }
            // Both have planned before either writes.
            let planned = Arc::new(Barrier::new(2));
            let meet = |planned: Arc<Barrier>| {
                let (world, view, request) = (world.clone(), view.clone(), request.clone());
                tokio::spawn(async move {
                    let first = std::sync::atomic::AtomicBool::new(true);
                    let observe = |event: RunEvent<'_>| {
                        let again = !first.swap(false, std::sync::atomic::Ordering::SeqCst);
                        if let (RunEvent::Planned(_), false) = (event, again) {
                            planned.wait();
                        }
                    };
                    let context = world.context();
                    let declared = &world.declared;
                    materialize_view(&context, &view, declared, &request, us(100), &observe).await
                })
            };
            let (one, two) = tokio::join!(meet(planned.clone()), meet(planned));
            let runs = [one.unwrap().unwrap(), two.unwrap().unwrap()];
            let attempts: u32 = runs.iter().map(|run| run.attempts).sum();
            assert_eq!(attempts, 3, "one of both was first");
            let found = world.table(&view).await;
            let alone = World::new();
            alone.write("a", &[10, 20, 30].map(|at| row(1, at, 1)));
            if has_table {
                alone.run(&view, 100).await;
                alone.write("b", &[10, 20, 30].map(|at| row(2, at, 2)));
            }
            alone.try_run(&view, &request, 100).await.unwrap();
            assert_eq!(found, alone.table(&view).await, "{} {request:?}", view.id);
            if request == MaterializeRequest::default() {
                assert!(runs.iter().any(|run| run.plan.action == Action::NothingNew));
            }
        }
    }
}
