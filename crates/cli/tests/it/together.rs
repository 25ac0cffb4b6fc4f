//! Commands that work on the same tables at the same time: all of them are done, the tables hold what one clean run
//! leaves, and no reader sees half of a commit.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use vintner_testkit::s3::S3Server;

use crate::{
    harness::Repo,
    interrupt::{Calls, count, spread, stop},
    s3::Bucket,
    stores::{assert_alike, deployment, embedded_entries},
};

/// The moment at which all runs run, after everything in the data.
const NOW: &str = "2026-04-01T00:00:00Z";

/// How many times each command is stopped while another one runs, at most.
const POINTS: usize = 3;

/// How often a command is repeated beside runs, at most: each compaction makes a version, and all of them are read.
const REPEATS: usize = 6;

const MATERIALIZE: &[&str] = &["materialize"];
const COMPACT: &[&str] = &["compact"];
const VACUUM: &[&str] = &["vacuum", "--yes"];

/// A repo whose tables have been written twice and compacted.
fn written(repo: &Repo) {
    repo.done(&["apply", "--yes"]);
    repo.done(MATERIALIZE);
    new_rows(repo, 0);
    repo.done(MATERIALIZE);
    repo.done(COMPACT);
}

/// New rows in both sources, later than all entity rows: what the join makes of those stays the same.
fn new_rows(repo: &Repo, round: usize) {
    let day = 11 + round;
    for (file, rows) in [
        (
            "data/orders.csv",
            format!("{},1,2026-03-{day}T10:00:00Z,5.5\n", 100 + round),
        ),
        (
            "data/profiles.csv",
            format!(
                "1,2026-03-{day}T10:00:00Z,free,10.0\n{},2026-03-{day}T11:00:00Z,pro,20.0\n",
                10 + round
            ),
        ),
    ] {
        let text = fs::read_to_string(repo.path(file)).unwrap();
        repo.write(file, &(text + &rows));
    }
}

/// Makes all files of the offline store a month older than the runs, so that the retention of what was replaced has run
/// out. What is written later is younger than any retention.
fn age(repo: &Repo) {
    let aged = Command::new("find")
        .arg(repo.path(".vintner/offline"))
        .args(["-exec", "touch", "-d", "2026-03-01T00:00:00Z", "{}", "+"])
        .status();
    assert!(aged.unwrap().success());
    assert!(due(repo).contains(".parquet"), "nothing is due");
}

/// The files that `vacuum` would delete.
fn due(repo: &Repo) -> String {
    repo.done(&["vacuum", "--dry-run"])
}

/// The join of the repo's entity rows, into a file.
fn join(out: &str) -> Vec<&str> {
    let rows = ["--entity-rows", "data/decisions.csv", "--out", out];
    [&["get-historical", "--service", "churn_model"], &rows[..]].concat()
}

fn joined(repo: &Repo, out: &str) -> String {
    repo.done(&join(out));
    fs::read_to_string(repo.path(out)).unwrap()
}

#[test]
fn views_that_are_materialized_at_the_same_time_end_as_one_run() {
    let clean = Repo::new().at(NOW);
    clean.done(&["apply", "--yes"]);
    let before = clean.copy();
    clean.done(MATERIALIZE);
    let mut deployments = vec![deployment("a clean run", clean)];
    for round in 0..3 {
        let repo = before.copy();
        let runs = ["customer_profile", "customer_orders"]
            .map(|view| repo.command(&["materialize", view]).spawn().unwrap());
        for mut run in runs {
            assert!(run.wait().unwrap().success());
        }
        let recorded = repo.json(&["runs"]);
        assert_eq!(recorded.as_array().unwrap().len(), 2, "{recorded}");
        deployments.push(deployment(
            &format!("both at the same time, round {round}"),
            repo,
        ));
    }
    assert_alike(&deployments);
}

/// One command stops before a call that changes something on disk, another one runs from its beginning to its end, and
/// the first one goes on.
#[test]
fn a_command_inside_another_one_changes_nothing_of_what_comes_of_them() {
    let before = Repo::new().at(NOW);
    written(&before);
    age(&before);
    new_rows(&before, 1);
    let want = joined(&before, "out/want.csv");
    let clean = before.copy();
    clean.done(MATERIALIZE);
    let mut deployments = vec![deployment("a clean run", clean)];
    let join = join("out/outer.csv");
    let mut stopped = 0;
    for (outer, inner) in [
        (COMPACT, MATERIALIZE),
        (MATERIALIZE, COMPACT),
        (COMPACT, COMPACT),
        (VACUUM, MATERIALIZE),
        (MATERIALIZE, VACUUM),
        (&join, COMPACT),
        (&join, VACUUM),
    ] {
        // What there is to compact comes with a run.
        let before = before.copy();
        if outer == COMPACT || inner == COMPACT {
            before.done(MATERIALIZE);
            new_rows(&before, 2);
        }
        let calls = count(&before.copy(), outer, Calls::Disk);
        for at in spread(calls, POINTS) {
            let repo = before.copy();
            let story = format!("{inner:?} before call {at} of {calls} of {outer:?}");
            let Some(first) = stop(&repo, outer, Calls::Disk, at) else {
                // Threads race, so that one run makes a few calls less than another.
                continue;
            };
            stopped += 1;
            let second = repo.run(inner);
            assert_eq!(second.code, Some(0), "{story}: {second:?}");
            let (first, _) = first.go_on();
            assert_eq!(first.code, Some(0), "{story}: {first:?}");
            if outer == join {
                let read = fs::read_to_string(repo.path("out/outer.csv")).unwrap();
                assert_eq!(read, want, "{story}");
            }
            finish(&repo, 2);
            deployments.push(deployment(&story, repo));
        }
    }
    assert!(
        stopped >= 12,
        "only {stopped} commands had another one inside"
    );
    finish(&deployments[0].repo, 2);
    deployments[0].online = embedded_entries(&deployments[0].repo.path(".vintner/online"));
    assert_alike(&deployments);
}

/// Makes the data that of a given round, whatever it was, and materializes it.
fn finish(repo: &Repo, round: usize) {
    for row in 1..=round {
        let orders = fs::read_to_string(repo.path("data/orders.csv")).unwrap();
        if !orders.contains(&format!("\n{},", 100 + row)) {
            new_rows(repo, row);
        }
    }
    repo.done(MATERIALIZE);
}

/// Runs, compactions, vacuums and joins, all at once, for some rounds of new data. The others end soon after the runs.
fn all_at_once(repo: &Repo, rounds: usize) {
    let want = joined(repo, "out/want.csv");
    let is_over = AtomicBool::new(false);
    let repeat = |args: &[&str], check: &dyn Fn()| {
        for time in 0..REPEATS {
            if time > 0 && is_over.load(Ordering::SeqCst) {
                return;
            }
            repo.done(args);
            check();
        }
    };
    thread::scope(|scope| {
        // Also when a run fails: the others must come to their end.
        let _over = Over(&is_over);
        scope.spawn(|| repeat(COMPACT, &|| ()));
        scope.spawn(|| repeat(VACUUM, &|| ()));
        for out in ["out/one.csv", "out/two.csv"] {
            let (repeat, want) = (&repeat, &want);
            scope.spawn(move || {
                repeat(&join(out), &|| {
                    assert_eq!(&fs::read_to_string(repo.path(out)).unwrap(), want);
                });
            });
        }
        for round in 1..=rounds {
            new_rows(repo, round);
            let runs = [(); 2].map(|()| repo.command(MATERIALIZE).spawn().unwrap());
            for mut run in runs {
                assert!(run.wait().unwrap().success());
            }
        }
    });
}

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn everything_at_once_ends_as_one_run_after_the_other() {
    const ROUNDS: usize = 3;
    let repo = Repo::new().at(NOW);
    written(&repo);
    age(&repo);
    let clean = repo.copy();
    all_at_once(&repo, ROUNDS);
    for repo in [&repo, &clean] {
        finish(repo, ROUNDS);
    }
    let left = due(&repo);
    assert!(!left.contains(".parquet"), "what was due is there: {left}");
    assert_alike(&[
        deployment("a clean run", clean),
        deployment("everything at once", repo),
    ]);
}

#[test]
fn everything_at_once_on_s3_ends_as_one_run_after_the_other() {
    const ROUNDS: usize = 2;
    let server = S3Server::start();
    let s3 = Bucket::new(&server);
    written(&s3.repo);
    let clean = s3.copy();
    all_at_once(&s3.repo, ROUNDS);
    for repo in [&s3.repo, &clean.repo] {
        finish(repo, ROUNDS);
    }
    assert_alike(&[
        clean.deployment("a clean run"),
        s3.deployment("everything at once"),
    ]);
}
