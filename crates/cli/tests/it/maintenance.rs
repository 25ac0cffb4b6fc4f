//! `compact` and `vacuum`: the same rows in fewer files, for us and for readers that are not ours.

use serde_json::Value as Json;

use crate::{foreign_readers::read_with_python, harness::Repo};

/// Long after everything was written, so that the retention has run out.
const LATER: &str = "2099-01-01";

/// A repo whose view `customer_profile` was written three times.
fn written_three_times() -> Repo {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    for customer in [4, 5] {
        let profiles = std::fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
        let row = format!("{customer},2026-03-0{customer}T00:00:00Z,free,\n");
        repo.write("data/profiles.csv", &(profiles + &row));
        repo.done(&["materialize"]);
    }
    repo
}

/// An answer without what differs between any two runs.
fn steady(mut json: Json) -> Json {
    for view in json.as_array_mut().unwrap() {
        for (name, value) in view.as_object_mut().unwrap() {
            if name == "micros" || name.starts_with("bytes") {
                *value = "…".into();
            }
            for file in value.as_array_mut().into_iter().flatten() {
                if let Some(file) = file.as_object_mut() {
                    assert!(file["bytes"].as_u64() > Some(0), "{file:?}");
                    file["path"] = "…".into();
                    file["bytes"] = "…".into();
                }
            }
        }
    }
    json
}

#[test]
fn a_compact_table_has_the_same_rows_for_everybody() {
    let repo = written_three_times();
    let profiles = || read_with_python(&repo, "customer_profile");
    let (before, online) = (
        profiles(),
        repo.json(&[
            "get-online",
            "--service",
            "churn_model",
            "--entity",
            "customer_id=1",
        ]),
    );
    insta::assert_json_snapshot!("compact", steady(repo.json(&["compact"])));
    assert_eq!(profiles(), before);
    insta::assert_json_snapshot!(
        "compact_again",
        steady(repo.json(&["compact", "customer_profile"]))
    );
    let asked = repo.json(&[
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
    ]);
    assert_eq!(asked, online);
    let runs = repo.json(&["materialize"]);
    let plans: Vec<_> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["plan"].as_str().unwrap())
        .collect();
    assert!(
        plans.iter().all(|plan| plan.starts_with("nothing to do")),
        "{plans:?}"
    );
    insta::assert_json_snapshot!(
        "vacuum",
        steady(repo.json(&["vacuum", "--yes", "--now", LATER]))
    );
    assert_eq!(profiles(), before);
    insta::assert_json_snapshot!(
        "vacuum_again",
        steady(repo.json(&["vacuum", "--yes", "--now", LATER]))
    );
}

#[test]
fn nothing_is_deleted_that_nobody_agreed_to() {
    let repo = written_three_times();
    repo.done(&["compact"]);
    let early = repo.run(&["vacuum", "--yes"]);
    assert_eq!((early.code, early.stdout.as_str()), (Some(0), ""));
    insta::assert_snapshot!(early.stderr);
    let listed = repo.run(&["vacuum", "customer_profile", "--dry-run", "--now", LATER]);
    assert!(listed.stdout.lines().count() > 0);
    let refused = repo.run(&["vacuum", "customer_profile", "--now", LATER]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("pass --yes"), "{}", refused.stderr);
    assert_eq!(refused.stdout, listed.stdout);
    let done = repo.run(&["vacuum", "customer_profile", "--yes", "--now", LATER]);
    assert_eq!(done.stdout, listed.stdout);
    insta::assert_snapshot!(repo.failure(&["vacuum", "--retention", "soon"]));
    insta::assert_snapshot!(repo.failure(&["compact", "customer_profiles"]));
}
