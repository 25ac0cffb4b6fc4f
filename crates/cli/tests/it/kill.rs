//! SIGKILL at the calls that change something on disk: run again, both stores and the registry are what a clean run
//! leaves.

use std::fs;

use serde_json::{Value as Json, json};

use crate::{
    harness::Repo,
    interrupt::{Calls, count, kill, spread},
    stores::{assert_alike, deployment},
};

/// The moment at which all commands run, after everything in the data.
const NOW: &str = "2026-04-01T00:00:00Z";

/// How many times each command is killed, at most: evenly spread over its calls, the first and the last among them.
const KILLS: usize = 16;

/// What the command line answers of both stores and the registry.
pub(crate) fn answers(repo: &Repo) -> Json {
    let out = repo.path("out/state.csv");
    let historical = [
        "get-historical",
        "--service",
        "churn_model",
        "--entity-rows",
        "data/decisions.csv",
        "--out",
    ];
    repo.done(&[&historical[..], &[out.to_str().unwrap()]].concat());
    let online = [
        "get-online",
        "--features",
        "customer_profile,customer_orders",
    ];
    let entities = ["1", "2", "3"].map(|id| format!("customer_id={id}"));
    let entities = entities.iter().flat_map(|entity| ["--entity", entity]);
    json!({
        "historical": fs::read_to_string(out).unwrap(),
        "online": repo.json(&[&online[..], &entities.collect::<Vec<_>>()].concat()),
        "history": repo.json(&["history"]),
    })
}

/// Kills `args` before some of its calls, runs it again, and compares with a clean run.
fn survives(before: &dyn Fn(&Repo), args: &[&str], after: &dyn Fn(&Repo)) {
    let clean = Repo::new().at(NOW);
    before(&clean);
    let calls = count(&clean, args, Calls::Disk);
    assert!(calls > 5, "{args:?} made only {calls} calls");
    after(&clean);
    let want = answers(&clean);
    let mut deployments = vec![deployment("a clean run", clean)];

    let points = spread(calls, KILLS);
    let mut killed = 0;
    for at in &points {
        let repo = Repo::new().at(NOW);
        before(&repo);
        killed += usize::from(kill(&repo, args, Calls::Disk, *at));
        repo.done(args);
        after(&repo);
        let story = format!("{args:?} killed before call {at} of {calls}");
        assert_eq!(answers(&repo), want, "{story}");
        deployments.push(deployment(&story, repo));
    }
    // Threads race, so that one run makes a few calls more than another.
    assert!(killed + 2 >= points.len(), "only {killed} runs were killed");
    assert_alike(&deployments);
}

fn apply(repo: &Repo) {
    repo.done(&["apply", "--yes"]);
}

fn materialize(repo: &Repo) {
    repo.done(&["materialize"]);
}

/// New rows in both sources, of customers that are known and of one that is not.
pub(crate) fn more_data(repo: &Repo) {
    for (file, rows) in [
        (
            "data/orders.csv",
            "8,1,2026-03-05T10:00:00Z,5.5\n9,3,2026-02-11T10:00:00Z,1.0\n",
        ),
        (
            "data/profiles.csv",
            "3,2026-03-04T10:00:00Z,free,10.0\n4,2026-03-04T10:00:00Z,pro,20.0\n",
        ),
    ] {
        let text = fs::read_to_string(repo.path(file)).unwrap();
        repo.write(file, &format!("{text}{rows}"));
    }
}

#[test]
fn apply_survives_a_kill_at_any_call() {
    survives(&|_| (), &["apply", "--yes"], &materialize);
}

#[test]
fn a_first_materialize_survives_a_kill_at_any_call() {
    survives(&apply, &["materialize"], &|_| ());
}

#[test]
fn a_later_materialize_survives_a_kill_at_any_call() {
    let before = |repo: &Repo| {
        apply(repo);
        materialize(repo);
        more_data(repo);
    };
    survives(&before, &["materialize"], &|_| ());
}

#[test]
fn two_runs_at_the_same_time_end_as_one() {
    let clean = Repo::new().at(NOW);
    apply(&clean);
    materialize(&clean);
    let mut deployments = vec![deployment("a clean run", clean)];
    for round in 0..5 {
        let repo = Repo::new().at(NOW);
        apply(&repo);
        let runs = [(); 2].map(|()| repo.command(&["materialize"]).spawn().unwrap());
        for mut run in runs {
            assert!(run.wait().unwrap().success());
        }
        let story = format!("two runs at the same time, round {round}");
        deployments.push(deployment(&story, repo));
    }
    assert_alike(&deployments);
}
