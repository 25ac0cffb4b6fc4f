//! `get-historical --explain` and `--memory`.

use serde_json::Value as Json;

use crate::harness::Repo;

fn historical<'a>(repo: &Repo, out: &'a str, flags: &[&'a str]) -> Vec<String> {
    let out = repo.path(out).to_str().unwrap().to_owned();
    let rows = repo.path("data/decisions.csv");
    let args = ["get-historical", "--service", "churn_model"].map(str::to_owned);
    let files = ["--entity-rows", rows.to_str().unwrap(), "--out", &out].map(str::to_owned);
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    args.into_iter().chain(files).chain(flags).collect()
}

fn ready() -> Repo {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo
}

fn run(repo: &Repo, args: &[String]) -> String {
    repo.done(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What differs between two runs of one question.
fn steady(text: &str) -> String {
    let mut work: Json = serde_json::from_str(text).unwrap();
    let explain = work["explain"].as_object_mut().unwrap();
    for name in [
        "planning_micros",
        "entity_rows_micros",
        "output_micros",
        "micros",
    ] {
        assert!(explain[name].as_u64() > Some(0), "{name}");
        explain[name] = "…".into();
    }
    for view in explain["views"].as_array_mut().unwrap() {
        assert!(view["bytes_read"].as_u64() > Some(0), "{view}");
        for name in ["bytes_read", "open_micros", "match_micros", "values_micros"] {
            view[name] = "…".into();
        }
    }
    serde_json::to_string_pretty(&work["explain"]).unwrap()
}

#[test]
fn explain_says_what_was_read_locally_and_by_a_service() {
    let repo = ready();
    let flags = ["--explain", "--format", "json"];
    let local = steady(&run(&repo, &historical(&repo, "out/a.parquet", &flags)));
    insta::assert_snapshot!("explain", local);
    let service = repo.serve();
    let flags = [&flags[..], &["--server", &service.url]].concat();
    let served = steady(&run(&repo, &historical(&repo, "out/b.parquet", &flags)));
    assert_eq!(served, local);
    let same = |name: &str| std::fs::read(repo.path(name)).unwrap();
    assert!(same("out/a.parquet") == same("out/b.parquet"));
}

#[test]
fn a_size_of_memory_that_is_none_is_refused() {
    let repo = ready();
    for size in ["much", "12 parsecs", "1KiB"] {
        let args = historical(&repo, "out/a.csv", &["--memory", size]);
        let ended = repo.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ended.code, Some(2), "{size}");
        assert!(ended.stderr.contains("--memory"), "{}", ended.stderr);
    }
    run(
        &repo,
        &historical(&repo, "out/a.csv", &["--memory", "64MiB"]),
    );
}
