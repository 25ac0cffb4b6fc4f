//! Saved datasets: the same bytes again, whatever has happened since, or a word on what is gone.

use std::fs;

use crate::harness::Repo;

/// Long after everything was written, so that the retention has run out.
const LATER: &str = "2099-01-01";

/// A repo with data, whose profiles can be written again and again.
fn repo() -> Repo {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo
}

/// Entity rows with the features of the repo's model, in a file of its own.
fn training_rows(repo: &Repo, out: &str, more: &[&str]) -> Vec<u8> {
    let args = [
        "get-historical",
        "--service",
        "churn_model",
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        out,
    ];
    repo.done(&[&args, more].concat());
    fs::read(repo.path(out)).unwrap()
}

fn reproduce(repo: &Repo, name: &str, out: &str, more: &[&str]) -> Vec<u8> {
    repo.done(&[&["dataset", "reproduce", name, "--out", out], more].concat());
    fs::read(repo.path(out)).unwrap()
}

/// Changes the customers' plans, so that later training rows differ from earlier ones.
fn write_more(repo: &Repo) {
    for (customer, at) in [(1, "2026-01-02"), (2, "2026-01-05"), (3, "2026-02-11")] {
        let profiles = fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
        let row = format!("{customer},{at}T10:00:00Z,another,\n");
        repo.write("data/profiles.csv", &(profiles + &row));
        repo.done(&["materialize", "--full-refresh"]);
    }
}

/// Deletes whatever the retention lets go of.
fn vacuum(repo: &Repo) -> serde_json::Value {
    repo.json(&["--now", LATER, "vacuum", "--yes"])
}

/// Text without hashes and times, which differ from run to run where a run's time is in the rows.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    for line in text.lines() {
        let line = match line.split_once("blake3:") {
            Some((before, hash)) => format!("{before}blake3:[hash]{}", &hash[64..]),
            None => line.to_owned(),
        };
        let line = match line.split_once(" in ") {
            Some((before, _)) if line.starts_with("wrote") => format!("{before} in [time]"),
            _ => line,
        };
        steady += &line;
        steady.push('\n');
    }
    steady
}

#[test]
fn a_saved_dataset_is_made_again_after_everything_has_changed() {
    let repo = repo();
    let formats = ["parquet", "arrow", "csv"];
    let saved = formats.map(|format| {
        let name = format!("of_{format}");
        training_rows(&repo, &format!("out/{name}.{format}"), &["--save", &name])
    });
    write_more(&repo);
    assert_ne!(training_rows(&repo, "out/now.csv", &[]), saved[2]);
    repo.done(&["compact"]);
    let vacuumed = vacuum(&repo);
    let views = vacuumed.as_array().unwrap();
    let files = |what: &str| -> usize {
        let views = views
            .iter()
            .map(|view| view[what].as_array().unwrap().len());
        views.sum()
    };
    assert!(files("pinned") > 0, "nothing is kept: {vacuumed}");
    assert!(files("deleted") > 0, "nothing is deleted: {vacuumed}");
    // Another version of a view, and of the service.
    repo.replace("features.yaml", "plan = 'pro' AS", "plan <> 'free' AS");
    repo.replace(
        "features.yaml",
        ", \"customer_orders:amount_of_the_day\"]",
        "]",
    );
    repo.done(&["apply", "--yes"]);
    let service = repo.serve();
    for (format, saved) in formats.iter().zip(&saved) {
        let name = format!("of_{format}");
        for (way, more) in [("local", &[][..]), ("served", &["--server", &service.url])] {
            let out = format!("again/{way}.{format}");
            assert!(
                reproduce(&repo, &name, &out, more) == *saved,
                "{format}, {way}"
            );
        }
    }
}

#[test]
fn a_dataset_that_was_saved_through_a_service_is_the_same() {
    let repo = repo().at("2026-03-01");
    let service = repo.serve();
    let through: &[&str] = &["--server", &service.url];
    // The service's clock stands still; a command's own is not taken beside --server.
    let saving = [through, &["--save", "served"]].concat();
    let saved = served_rows(&repo, &saving);
    write_more(&repo);
    assert_eq!(service.stop(), Some(0));
    assert!(reproduce(&repo, "served", "again/local.parquet", &[]) == saved);
    let service = repo.serve();
    let again = repo
        .command(&[
            "dataset",
            "reproduce",
            "served",
            "--out",
            "again/served.parquet",
            "--server",
            &service.url,
        ])
        .env_remove("VINTNER_NOW")
        .output()
        .unwrap();
    assert!(again.status.success(), "{again:?}");
    assert!(fs::read(repo.path("again/served.parquet")).unwrap() == saved);
    let ended = repo
        .command(&["datasets", "--server", &service.url, "--format", "json"])
        .env_remove("VINTNER_NOW")
        .output()
        .unwrap();
    let theirs: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(theirs, repo.json(&["datasets"]));
    assert_eq!(theirs[0]["author"], "tester");
}

fn served_rows(repo: &Repo, more: &[&str]) -> Vec<u8> {
    let args = [
        "get-historical",
        "--service",
        "churn_model",
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        "out/served.parquet",
    ];
    let ended = repo
        .command(&[&args, more].concat())
        .env_remove("VINTNER_NOW")
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    fs::read(repo.path("out/served.parquet")).unwrap()
}

#[test]
fn what_is_printed_of_datasets() {
    let repo = repo().at("2026-03-01");
    assert_eq!(repo.done(&["datasets"]), "");
    let args = [
        "get-historical",
        "--features",
        "customer_profile:plan",
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        "out/rows.csv",
        "--boundary",
        "before",
        "--save",
        "plans",
    ];
    insta::assert_snapshot!("saved", steady(&repo.done(&args)));
    insta::assert_snapshot!("list", steady(&repo.done(&["datasets"])));
    insta::assert_snapshot!("show", steady(&repo.done(&["dataset", "show", "plans"])));
    let reproduced = repo.done(&["dataset", "reproduce", "plans", "--out", "out/again.csv"]);
    insta::assert_snapshot!("reproduced", steady(&reproduced));
    insta::assert_snapshot!("taken", repo.failure(&args));
    insta::assert_snapshot!("unknown", repo.failure(&["dataset", "show", "plan"]));
    insta::assert_snapshot!("no_name", repo.failure(&["dataset", "show", "my-plans"]));
    assert_eq!(
        repo.json(&["datasets"])[0],
        repo.json(&["dataset", "show", "plans"])
    );
}

#[test]
fn what_is_gone_is_told() {
    let repo = repo();
    training_rows(&repo, "out/rows.csv", &["--save", "lost"]);
    let project = fs::read_dir(repo.path(".vintner/offline")).unwrap();
    let project = project
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join("_datasets").is_dir())
        .unwrap();
    let remove = |folder: &str, ending: &str| {
        let files = fs::read_dir(project.join(folder)).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        let file = files
            .iter()
            .find(|path| path.to_string_lossy().ends_with(ending));
        let file = file.unwrap().clone();
        fs::remove_file(&file).unwrap();
        file.file_name().unwrap().to_string_lossy().into_owned()
    };
    let data = remove("customer_profile/v1", ".parquet");
    let rows = remove("_datasets/lost", ".arrows");
    let registry = repo.path(".vintner/registry/registry/00000000000000000001.pb");
    fs::write(&registry, "nothing").unwrap();
    let args = ["dataset", "reproduce", "lost", "--out", "out/again.csv"];
    let told = repo.failure(&args);
    let told = told
        .replace(&data, "[data file]")
        .replace(&rows, "[entity rows]");
    insta::assert_snapshot!("gone", told);
    assert!(!repo.path("out/again.csv").exists());
}
