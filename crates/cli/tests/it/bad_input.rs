//! Wrong input: what it says, its exit code, and that it changes nothing. No panic reaches a user.

use std::{fs, os::unix::fs::PermissionsExt as _};

use vintner_testkit::redis::RedisServer;

use crate::harness::Repo;

/// A repo that is applied and materialized.
fn running() -> Repo {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo
}

const HISTORICAL: [&str; 6] = [
    "get-historical",
    "--service",
    "churn_model",
    "--out",
    "out/training.csv",
    "--entity-rows",
];

#[test]
fn there_is_no_repo() {
    let repo = Repo::empty();
    insta::assert_snapshot!(repo.failure(&["check"]));
    insta::assert_snapshot!(repo.failure(&["check", "--repo", "nowhere"]));
}

#[test]
fn yaml_that_does_not_parse() {
    let repo = Repo::new();
    repo.write("broken.yaml", "kind: entity\nname: [unclosed\n");
    insta::assert_snapshot!(repo.failure(&["check"]));
    assert_eq!(repo.run(&["apply", "--yes"]).code, Some(2));
    assert_eq!(repo.run(&["plan"]).code, Some(2));
}

#[test]
fn every_mistake_is_told_at_once() {
    let repo = Repo::new();
    repo.replace(
        "features.yaml",
        "entities: [customer]",
        "entities: [custmer]",
    );
    repo.replace(
        "features.yaml",
        "path: data/orders.csv",
        "path: data/orders.csv\nformt: csv",
    );
    insta::assert_snapshot!(repo.failure(&["check"]));
}

#[test]
fn sql_that_does_not_parse_or_names_a_missing_column() {
    let repo = Repo::new();
    repo.replace(
        "features.yaml",
        "SELECT customer_id, updated_at, plan,",
        "SELEC customer_id, updated_at, plan,",
    );
    repo.replace("features.yaml", "sum(amount)", "sum(amuont)");
    insta::assert_snapshot!(repo.failure(&["check"]));
}

#[test]
fn a_source_that_cannot_be_read() {
    let repo = running();
    fs::remove_file(repo.path("data/orders.csv")).unwrap();
    insta::assert_snapshot!("missing_check", repo.failure(&["check"]));
    insta::assert_snapshot!(
        "missing_materialize",
        repo.failure(&["materialize", "customer_orders"])
    );
    repo.write("data/orders.csv", "");
    insta::assert_snapshot!(
        "empty_materialize",
        repo.failure(&["materialize", "customer_orders"])
    );
    repo.write(
        "data/orders.csv",
        "order_id,customer_id,ordered_at,amount\n1,1,2026-01-03T11:00:00Z\n",
    );
    insta::assert_snapshot!(
        "truncated_materialize",
        repo.failure(&["materialize", "customer_orders"])
    );
    repo.write(
        "data/orders.csv",
        "order_id,customer_id,ordered_at,price\n1,1,2026-01-03T11:00:00Z,1.0\n",
    );
    insta::assert_snapshot!(
        "changed_materialize",
        repo.failure(&["materialize", "customer_orders"])
    );
}

#[test]
fn a_parquet_source_that_is_cut_short() {
    let repo = Repo::new();
    let parquet = fs::read(crate::harness::here(
        "../../feature_repo/data/planes.parquet",
    ))
    .unwrap();
    fs::write(
        repo.path("data/profiles.parquet"),
        &parquet[..parquet.len() / 2],
    )
    .unwrap();
    repo.replace(
        "features.yaml",
        "data/profiles.csv",
        "data/profiles.parquet",
    );
    insta::assert_snapshot!(repo.failure(&["check"]));
}

#[test]
fn a_time_column_that_the_source_does_not_have() {
    let repo = Repo::new();
    // The view over it names its own event timestamp, and would not miss these.
    repo.replace(
        "features.yaml",
        "event_timestamp: ordered_at\n",
        "event_timestamp: orderd_at\ncreated_timestamp: amount\n",
    );
    insta::assert_snapshot!(repo.failure(&["check"]));
}

#[test]
fn entity_rows_that_do_not_fit() {
    let repo = running();
    for (name, text) in [
        (
            "no_key",
            "customer,event_timestamp\n1,2026-01-03T12:00:00Z\n",
        ),
        ("no_time", "customer_id,at_which\n1,2\n"),
        (
            "key_type",
            "customer_id,event_timestamp\nabc,2026-01-03T12:00:00Z\n",
        ),
        ("time_type", "customer_id,event_timestamp\n1,soon\n"),
        ("empty_file", ""),
    ] {
        let file = format!("data/{name}.csv");
        repo.write(&file, text);
        insta::assert_snapshot!(name, repo.failure(&[&HISTORICAL[..], &[&file]].concat()));
        assert!(!repo.path("out/training.csv").exists(), "{name}");
    }
    insta::assert_snapshot!(
        "no_file",
        repo.failure(&[&HISTORICAL[..], &["data/nothing.csv"]].concat())
    );
    insta::assert_snapshot!(
        "no_format",
        repo.failure(&[&HISTORICAL[..], &["features.yaml"]].concat())
    );
}

#[test]
fn entity_rows_without_rows_and_with_nulls() {
    let repo = running();
    repo.write("data/none.csv", "customer_id,event_timestamp\n");
    repo.done(&[&HISTORICAL[..], &["data/none.csv"]].concat());
    let written = fs::read_to_string(repo.path("out/training.csv")).unwrap();
    assert_eq!(
        written.trim_end(),
        "customer_id,event_timestamp,plan,credit_limit,is_pro,amount_of_the_day"
    );
    repo.write(
        "data/nulls.csv",
        "customer_id,event_timestamp\n1,\n,2026-03-01T00:00:00Z\n1,2026-03-01T00:00:00Z\n",
    );
    let report = repo.json(&[&HISTORICAL[..], &["data/nulls.csv"]].concat());
    assert_eq!(report["rows"], 3);
    assert_eq!(report["rows_without_key"], 2);
    assert_eq!(report["rows_matched"]["customer_profile@1"], 1);
}

#[test]
fn names_that_do_not_exist() {
    let repo = running();
    for args in [
        &[
            "get-online",
            "--service",
            "churn_modle",
            "--entity",
            "customer_id=1",
        ][..],
        &[
            "get-online",
            "--features",
            "customer_profile:paln",
            "--entity",
            "customer_id=1",
        ],
        &[
            "get-online",
            "--features",
            "customer:plan",
            "--entity",
            "customer_id=1",
        ],
        &[
            "get-online",
            "--service",
            "churn_model",
            "--entity",
            "customer=1",
        ],
        &[
            "get-online",
            "--service",
            "churn_model",
            "--entity",
            "customer_id=one",
        ],
        &[
            "get-online",
            "--service",
            "churn_model",
            "--entity",
            "customer_id",
        ],
        &["materialize", "customer"],
        &["show", "entity", "custmer"],
        &["diff", "1", "5"],
        &["rollback", "5", "--yes"],
    ] {
        insta::assert_snapshot!(
            format!("unknown_{}", args.join("_").replace([':', '='], "_")),
            repo.failure(args)
        );
    }
}

#[test]
fn flags_that_do_not_fit() {
    let repo = running();
    for args in [
        &["materialize", "--start", "2026-01-01"][..],
        &["materialize", "--start", "yesterday", "--end", "2026-01-01"],
        &["get-online", "--entity", "customer_id=1"],
        &["serve", "--listen", "0.0.0.0:0"],
        &["list", "views", "--server", "http://127.0.0.1:1"],
        &["list", "views", "--server", "not a url"],
    ] {
        insta::assert_snapshot!(
            format!("flags_{}", args.join("_").replace([':', '/', ' '], "_")),
            repo.failure(args)
        );
    }
}

#[test]
fn a_redis_that_is_down_is_an_error_and_then_it_is_up() {
    let repo = Repo::new();
    let mut redis = RedisServer::start();
    repo.replace(
        "vintner.yaml",
        "online_store: {type: embedded, path: .vintner/online}",
        &format!("online_store: {{type: redis, url: \"{}\"}}", redis.url()),
    );
    redis.kill();
    repo.done(&["apply", "--yes"]);
    let failure = |args: &[&str]| repo.failure(args).replace(&redis.url(), "REDIS");
    insta::assert_snapshot!("redis_is_down_materialize", failure(&["materialize"]));
    insta::assert_snapshot!(
        "redis_is_down_get_online",
        failure(&[
            "get-online",
            "--service",
            "churn_model",
            "--entity",
            "customer_id=1",
        ])
    );
    redis.restart();
    repo.done(&["materialize"]);
    let answer = repo.json(&[
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
    ]);
    assert_eq!(answer["features"]["plan"]["values"][0], "pro");
}

#[test]
fn a_store_that_cannot_be_written_is_an_error_and_changes_nothing() {
    let repo = running();
    let orders = fs::read_to_string(repo.path("data/orders.csv")).unwrap();
    repo.write(
        "data/orders.csv",
        &format!("{orders}8,1,2026-03-05T10:00:00Z,5.5\n"),
    );
    let before = repo.json(&["show", "feature_view", "customer_orders"])["delta_version"].clone();
    // A file size limit is what a full disk looks like to the process, also for root, whom permissions do not stop.
    let limited = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -f 0; trap '' XFSZ; exec \"$0\" materialize customer_orders",
            crate::harness::BINARY,
        ])
        .current_dir(repo.root())
        .output()
        .unwrap();
    assert!(!limited.status.success(), "{limited:?}");
    let said = String::from_utf8_lossy(&limited.stderr).into_owned();
    let [error] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("there is one error to tell, and it is told once: {said}");
    };
    assert!(
        error.contains("could not write the table of customer_orders@1"),
        "{said}"
    );
    assert!(error.contains("the table is as it was before"), "{said}");
    assert_eq!(
        repo.json(&["show", "feature_view", "customer_orders"])["delta_version"],
        before
    );
    repo.done(&["materialize"]);
    assert_ne!(
        repo.json(&["show", "feature_view", "customer_orders"])["delta_version"],
        before
    );
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let repo = Repo::new();
    let path = repo.path("features.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        return; // root reads everything
    }
    let said = repo.failure(&["check"]);
    assert!(said.contains("features.yaml"), "{said}");
}
