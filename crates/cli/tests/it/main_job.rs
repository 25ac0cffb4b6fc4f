//! The main job as a newcomer does it: init, check, plan, apply, materialize, train, serve.

use std::fs;

use crate::harness::Repo;

fn training_rows(repo: &Repo, flags: &[&str]) -> String {
    let out = repo.path("out/training.csv");
    let args = [
        "get-historical",
        "--service",
        "churn_model",
        "--entity-rows",
        "data/decisions.csv",
        "--out",
    ];
    repo.done(&[&args[..], &[out.to_str().unwrap()], flags].concat());
    fs::read_to_string(out).unwrap()
}

#[test]
fn what_init_writes_works_at_once() {
    let repo = Repo::new();
    insta::assert_snapshot!("check", repo.done(&["check"]));
    insta::assert_snapshot!("plan", repo.done(&["plan"]));
    assert_eq!(repo.run(&["plan", "--exit-code"]).code, Some(3));
    insta::assert_snapshot!("apply", repo.done(&["apply", "--yes"]));
    assert_eq!(repo.run(&["plan", "--exit-code"]).code, Some(0));
    repo.done(&["materialize"]);
    insta::assert_snapshot!("training_rows", training_rows(&repo, &[]));
    let online = [
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
        "--entity",
        "customer_id=4",
    ];
    insta::assert_snapshot!("online", repo.done(&online));
    insta::assert_snapshot!(
        "online_json",
        repo.done(&[&online[..], &["--format", "json"]].concat())
    );
}

#[test]
fn a_past_moment_is_asked_with_now() {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    // In the middle of January only the first rows of customer 1 have come.
    repo.done(&["materialize", "--now", "2026-01-15"]);
    for run in repo.json(&["runs"]).as_array().unwrap() {
        assert_eq!(run["started_at"], "2026-01-15T00:00:00Z");
        assert_ne!(run["finished_at"], run["started_at"], "{run}");
    }
    let online = [
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
        "--now",
    ];
    insta::assert_snapshot!(repo.done(&[&online[..], &["2026-01-15"]].concat()));
    // What was held back is loaded by a run after its time, without anything new in the source.
    repo.done(&["materialize", "--now", "2026-02-05"]);
    insta::assert_snapshot!(repo.done(&[&online[..], &["2026-02-05"]].concat()));
}

#[test]
fn late_rows_reach_both_stores() {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let before = training_rows(&repo, &[]);
    let profiles = fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
    repo.write(
        "data/profiles.csv",
        &format!("{profiles}1,2026-01-09T00:00:00Z,trial,7.0\n"),
    );
    repo.done(&["materialize"]);
    let after = training_rows(&repo, &[]);
    let changed: Vec<_> = after
        .lines()
        .filter(|line| !before.contains(line))
        .collect();
    assert_eq!(changed.len(), 1, "{after}");
    assert!(changed[0].contains("trial"), "{changed:?}");
}

#[test]
fn an_added_feature_is_filled_for_the_past() {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo.replace(
        "features.yaml",
        "plan = 'pro' AS is_pro",
        "plan = 'pro' AS is_pro, credit_limit * 2 AS twice",
    );
    insta::assert_snapshot!("plan_backfill", repo.done(&["plan"]));
    repo.done(&["apply", "--yes"]);
    let online = [
        "get-online",
        "--features",
        "customer_profile:twice",
        "--entity",
        "customer_id=1",
    ];
    let before = repo.done(&online);
    assert!(before.contains("NOT_FOUND"), "{before}");
    let rows = training_rows(&repo, &[]);
    assert!(rows.lines().next().unwrap().contains("twice"), "{rows}");
    repo.done(&["materialize"]);
    let after = repo.done(&online);
    assert!(
        after.contains("1000") && after.contains("PRESENT"),
        "{after}"
    );
}

#[test]
fn an_incompatible_change_is_a_new_version_and_the_old_one_goes_on() {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo.replace("features.yaml", "sum(amount) AS", "max(amount) AS");
    insta::assert_snapshot!("plan_new_version", repo.done(&["plan"]));
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let ask = |features: &str| {
        let answer = repo.json(&[
            "get-online",
            "--features",
            features,
            "--entity",
            "customer_id=3",
        ]);
        answer["features"]["amount_of_the_day"]["values"][0].clone()
    };
    assert_eq!(ask("customer_orders:amount_of_the_day"), 99.9);
    assert_eq!(ask("customer_orders@1:amount_of_the_day"), 111.9);
    insta::assert_snapshot!("diff", repo.done(&["diff", "1", "2"]));
    repo.done(&["rollback", "1", "--yes"]);
    assert_eq!(ask("customer_orders:amount_of_the_day"), 111.9);
}

#[test]
fn apply_asks_first() {
    let repo = Repo::new();
    let ended = repo.run(&["apply"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--yes"), "{ended:?}");
    assert_eq!(repo.json(&["history"]), serde_json::json!([]));
}

#[test]
fn help_names_the_exit_codes() {
    insta::assert_snapshot!(Repo::new().done(&["--help"]));
}

#[test]
fn completions_are_printed_for_each_shell() {
    let repo = Repo::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            repo.done(&["completions", shell])
                .contains("get-historical"),
            "{shell}"
        );
    }
}
