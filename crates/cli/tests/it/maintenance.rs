//! `compact` and `vacuum`: the same rows in fewer files, for us and for readers that are not ours.

use serde_json::Value as Json;

use crate::{
    foreign_readers::read_with_python,
    harness::Repo,
    interrupt::{Calls, count, kill, spread},
};

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

#[test]
fn versions_that_are_no_longer_used_are_vacuumed_too() {
    let repo = written_three_times();
    // Once as another version, once not at all.
    repo.replace("features.yaml", "plan = 'pro' AS", "plan <> 'free' AS");
    repo.done(&["apply", "--yes"]);
    let vacuum = |views: &[&str]| {
        let args = [&["vacuum", "--dry-run", "--now", LATER], views].concat();
        let told = repo.json(&args);
        let told = told.as_array().unwrap().iter().map(|view| {
            let deleted = view["deleted"].as_array().unwrap().len();
            (view["view"].as_str().unwrap().to_owned(), deleted)
        });
        told.collect::<Vec<_>>()
    };
    let of = |view: &str, files| (view.to_owned(), files);
    let (orders, old, new) = (
        of("customer_orders@1", 0),
        of("customer_profile@1", 2),
        of("customer_profile@2", 0),
    );
    assert_eq!(vacuum(&[]), [orders.clone(), new.clone(), old.clone()]);
    assert_eq!(vacuum(&["customer_profile"]), [new, old.clone()]);
    assert_eq!(vacuum(&["customer_orders"]), vec![orders.clone()]);
    let features = std::fs::read_to_string(repo.path("features.yaml")).unwrap();
    let documents = features.split("---\n");
    let kept = documents.filter(|text| !text.contains("customer_profile"));
    repo.write("features.yaml", &kept.collect::<Vec<_>>().join("---\n"));
    repo.done(&["apply", "--yes"]);
    assert_eq!(vacuum(&[]), [orders, old]);
}

#[test]
fn what_a_save_that_died_has_left_goes_with_time() {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let rows = [
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        "out/rows.csv",
    ];
    let args = [
        "get-historical",
        "--service",
        "churn_model",
        "--save",
        "died",
    ];
    let save = [&args[..], &rows].concat();
    let calls = count(&repo.copy(), &save, Calls::Disk);
    let left = |repo: &Repo| {
        let folder = repo.path(".vintner/offline/shop/_datasets/died");
        let files = std::fs::read_dir(folder).into_iter().flatten();
        files.count()
    };
    let mut told = 0;
    for at in spread(calls, 8) {
        let repo = repo.copy();
        kill(&repo, &save, Calls::Disk, at);
        let is_saved = repo.run(&["dataset", "show", "died"]).code == Some(0);
        let (found, kept) = (left(&repo), if is_saved { 2 } else { 0 });
        repo.done(&["vacuum", "--yes"]);
        assert_eq!(
            left(&repo),
            found,
            "before call {at} of {calls}: it may be at work"
        );
        let vacuum = repo.json(&["vacuum", "--yes", "--now", LATER]);
        let folders = vacuum.as_array().unwrap().iter();
        let folders: Vec<_> = folders.filter(|f| f["folder"].is_string()).collect();
        assert_eq!(left(&repo), kept, "before call {at} of {calls}: {vacuum}");
        assert_eq!(folders.len(), usize::from(found > kept), "{vacuum}");
        for folder in folders {
            told += 1;
            assert_eq!(folder["folder"], "shop/_datasets/died");
        }
    }
    assert!(told > 0, "no save has left anything");
}
