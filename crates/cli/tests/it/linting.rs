//! `get-historical --lint`: what it warns of, here and by a service, and that it changes no row.

use std::fs;

use serde_json::Value as Json;

use crate::harness::{Ended, Repo};

/// A repo in which everything goes wrong that a training set can have wrong.
///
/// Readings come an hour after they were taken. Decisions are made at the very times of events, a day after the last
/// limit, and one of them before there was anything.
fn repo() -> Repo {
    let repo = Repo::empty();
    repo.write("vintner.yaml", "project: test\nregistry: .vintner/registry\noffline_store: .vintner/offline\nonline_store: {type: embedded, path: .vintner/online}\n");
    repo.write(
        "features.yaml",
        "\
kind: entity
name: meter
join_keys: {meter: int64}
---
kind: source
name: reading
path: data/readings.csv
event_timestamp: at
created_timestamp: came_at
---
kind: source
name: event
path: data/events.csv
event_timestamp: at
---
kind: feature_view
name: readings
entities: [meter]
query: SELECT meter, at, level, note FROM reading
features:
  note: {type: string, default: none}
---
kind: feature_view
name: events
entities: [meter]
query: SELECT meter, at, size FROM event
---
kind: feature_view
name: limits
entities: [meter]
ttl: 1h
query: SELECT meter, at, size AS most FROM event
---
kind: feature_service
name: model
features: [readings, events, limits]
",
    );
    repo.write(
        "data/readings.csv",
        "meter,at,came_at,level,note\n\
         1,2026-01-01T06:00:00Z,2026-01-01T07:00:00Z,5,\n\
         2,2026-01-01T06:00:00Z,2026-01-01T06:00:00Z,6,\n\
         3,2026-01-01T06:00:00Z,2026-01-01T06:00:00Z,7,checked\n",
    );
    repo.write(
        "data/events.csv",
        "meter,at,size\n1,2026-01-01T06:30:00Z,1\n2,2026-01-01T06:30:00Z,2\n",
    );
    repo.write(
        "data/decisions.csv",
        "meter,event_timestamp\n\
         1,2026-01-01T06:30:00Z\n\
         2,2026-01-01T06:30:00Z\n\
         1,2026-01-02T06:30:00Z\n\
         2,2026-01-02T06:30:00Z\n\
         1,2025-12-31T00:00:00Z\n\
         ,2026-01-02T06:30:00Z\n",
    );
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo
}

fn historical(repo: &Repo, out: &str, flags: &[&str]) -> Ended {
    let args = [
        "get-historical",
        "--service",
        "model",
        "--full-names",
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        out,
    ];
    let ended = repo.run(&[&args, flags].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

#[test]
fn every_finding_is_a_line_on_stderr() {
    let repo = repo();
    let plain = historical(&repo, "plain.csv", &[]);
    let linted = historical(&repo, "linted.csv", &["--lint"]);
    assert_eq!(plain.stderr, "");
    insta::assert_snapshot!("findings", linted.stderr);
    let same = |name: &str| fs::read_to_string(repo.path(name)).unwrap();
    assert_eq!(same("linted.csv"), same("plain.csv"));
    // What is advised helps: what had not arrived is not taken, and no event sees itself.
    let flags = ["--lint", "--boundary", "before"];
    let before = historical(&repo, "before.csv", &flags);
    assert!(
        !before.stderr.contains("lint::own_time"),
        "{}",
        before.stderr
    );
    let flags = ["--lint", "--knowledge", "available"];
    let available = historical(&repo, "available.csv", &flags);
    assert!(
        !available.stderr.contains("lint::late_values"),
        "{}",
        available.stderr
    );
}

#[test]
fn a_sound_training_set_is_told_so() {
    let repo = repo();
    repo.write(
        "data/decisions.csv",
        "meter,event_timestamp\n2,2026-01-01T06:15:00Z\n",
    );
    let args = ["get-historical", "--features", "readings:level"];
    let files = [
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        "out.csv",
        "--lint",
    ];
    let ended = repo.run(&[&args[..], &files].concat());
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), "lint: nothing to warn of\n")
    );
}

#[test]
fn the_counts_are_the_same_locally_and_by_a_service() {
    let repo = repo();
    let lint = |ended: Ended| -> Json {
        assert_eq!(ended.stderr, "");
        let answer: Json = serde_json::from_str(&ended.stdout).unwrap();
        answer["lint"].clone()
    };
    let flags = ["--lint", "--format", "json"];
    let local = lint(historical(&repo, "local.csv", &flags));
    insta::assert_json_snapshot!("lint", local);
    let service = repo.serve();
    let flags = [&flags[..], &["--server", &service.url]].concat();
    assert_eq!(lint(historical(&repo, "served.csv", &flags)), local);
    let flags = ["--format", "json"];
    assert_eq!(lint(historical(&repo, "plain.csv", &flags)), Json::Null);
}
