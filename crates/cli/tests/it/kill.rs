//! SIGKILL at the calls that change something on disk: run again, both stores are what a clean run leaves.

use std::{
    fs, os::unix::process::ExitStatusExt as _, path::PathBuf, process::Command, sync::LazyLock,
};

use serde_json::{Value as Json, json};

use crate::harness::{Repo, here};

/// The library that counts the calls and kills, built once from the C file beside this one.
static KILL_AT: LazyLock<PathBuf> = LazyLock::new(|| {
    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("kill_at_{}.so", std::process::id()));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(here("tests/it/kill_at.c"))
        .arg("-ldl")
        .status();
    assert!(
        built
            .expect("these tests need a C compiler named cc")
            .success()
    );
    library
});

/// Everything that both stores and the registry answer, times of runs left out.
fn state(repo: &Repo) -> Json {
    let out = repo.path("out/state.csv");
    let rows = repo.path("data/decisions.csv");
    let historical = [
        "get-historical",
        "--service",
        "churn_model",
        "--entity-rows",
    ];
    repo.done(
        &[
            &historical[..],
            &[rows.to_str().unwrap(), "--out", out.to_str().unwrap()],
        ]
        .concat(),
    );
    let online = [
        "--entity",
        "customer_id=1",
        "--entity",
        "customer_id=2",
        "--entity",
        "customer_id=3",
    ];
    let views = ["customer_profile", "customer_orders"].map(|view| {
        let shown = repo.json(&["show", "feature_view", view]);
        json!([
            shown["name"],
            shown["version"],
            shown["rows"],
            shown["newest_event"],
            shown["features"]
        ])
    });
    let history: Vec<Json> = repo
        .json(&["history"])
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["summary"].clone())
        .collect();
    json!({
        "historical": fs::read_to_string(out).unwrap(),
        "online": repo.json(&[&["get-online", "--features", "customer_profile,customer_orders"][..], &online].concat()),
        "views": views,
        "history": history,
    })
}

/// Kills `args` before each of its calls that change the disk (at most `most` of them, evenly spread), runs it again,
/// and compares with a clean run.
fn survives(before: &dyn Fn(&Repo), args: &[&str], after: &dyn Fn(&Repo), most: usize) {
    let clean = Repo::new();
    before(&clean);
    let count_file = clean.path("count");
    let ran = clean
        .command(args)
        .env("LD_PRELOAD", &*KILL_AT)
        .env("KILL_COUNT", &count_file)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let calls: usize = fs::read_to_string(count_file).unwrap().parse().unwrap();
    after(&clean);
    let want = state(&clean);
    assert!(
        calls > 5,
        "{args:?} made only {calls} calls that change the disk"
    );

    let mut killed = 0;
    for at in (1..=calls).step_by(calls.div_ceil(most)) {
        let repo = Repo::new();
        before(&repo);
        let ran = repo
            .command(args)
            .env("LD_PRELOAD", &*KILL_AT)
            .env("KILL_AT", at.to_string())
            .output()
            .unwrap();
        killed += usize::from(ran.status.signal() == Some(9));
        repo.done(args);
        after(&repo);
        assert_eq!(
            state(&repo),
            want,
            "{args:?} killed before call {at} of {calls}"
        );
    }
    assert!(
        killed * 2 > most.min(calls),
        "only {killed} runs were killed"
    );
}

fn apply(repo: &Repo) {
    repo.done(&["apply", "--yes"]);
}

fn materialize(repo: &Repo) {
    repo.done(&["materialize"]);
}

#[test]
fn apply_survives_a_kill_at_any_call() {
    survives(&|_| (), &["apply", "--yes"], &materialize, 25);
}

#[test]
fn a_first_materialize_survives_a_kill_at_any_call() {
    survives(&apply, &["materialize"], &|_| (), 40);
}

#[test]
fn a_later_materialize_survives_a_kill_at_any_call() {
    let before = |repo: &Repo| {
        apply(repo);
        materialize(repo);
        let orders = fs::read_to_string(repo.path("data/orders.csv")).unwrap();
        repo.write(
            "data/orders.csv",
            &format!("{orders}8,1,2026-03-05T10:00:00Z,5.5\n9,3,2026-02-11T10:00:00Z,1.0\n"),
        );
        let profiles = fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
        repo.write(
            "data/profiles.csv",
            &format!("{profiles}3,2026-03-04T10:00:00Z,free,10.0\n"),
        );
    };
    survives(&before, &["materialize"], &|_| (), 40);
}

#[test]
fn two_runs_at_the_same_time_end_as_one() {
    let clean = Repo::new();
    apply(&clean);
    materialize(&clean);
    let repo = Repo::new();
    apply(&repo);
    let mut first = repo.command(&["materialize"]).spawn().unwrap();
    let mut second = repo.command(&["materialize"]).spawn().unwrap();
    assert!(first.wait().unwrap().success());
    assert!(second.wait().unwrap().success());
    assert_eq!(state(&repo), state(&clean));
}
