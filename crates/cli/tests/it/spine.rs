//! Training datasets without a file of entity rows, and splits.

use std::fs;

use crate::harness::Repo;

fn repo() -> Repo {
    let repo = Repo::new();
    repo.replace(
        "features.yaml",
        "entities: [customer]\nquery: |\n  SELECT customer_id, updated_at",
        "entities: [customer]\nttl: 10d\nquery: |\n  SELECT customer_id, updated_at",
    );
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo
}

const FEATURES: &[&str] = &[
    "get-historical",
    "--features",
    "customer_profile:plan,customer_orders:amount_of_the_day",
    "--out",
];

/// The training rows that the flags ask for, as CSV.
fn rows(repo: &Repo, flags: &[&str]) -> String {
    repo.done(&[FEATURES, &["out/rows.csv"], flags].concat());
    fs::read_to_string(repo.path("out/rows.csv")).unwrap()
}

fn failure(repo: &Repo, flags: &[&str]) -> String {
    repo.failure(&[FEATURES, &["out/none.csv"], flags].concat())
}

#[test]
fn one_row_for_every_key_that_is_known_at_a_moment() {
    let repo = repo();
    // The first customer's plan has outlived its ttl by the end of the month; the customer is still known.
    insta::assert_snapshot!(rows(&repo, &["--at", "2026-01-31"]), @"
    customer_id,event_timestamp,plan,amount_of_the_day
    1,2026-01-31T00:00:00Z,,35.5
    2,2026-01-31T00:00:00Z,,42.0
    ");
    insta::assert_snapshot!(rows(&repo, &["--at", "2026-01-05T08:00:00Z"]), @"
    customer_id,event_timestamp,plan,amount_of_the_day
    1,2026-01-05T08:00:00Z,free,35.5
    2,2026-01-05T08:00:00Z,free,
    ");
    insta::assert_snapshot!(rows(&repo, &["--at", "2026-01-05T08:00:00Z", "--boundary", "before"]), @"
    customer_id,event_timestamp,plan,amount_of_the_day
    1,2026-01-05T08:00:00Z,free,35.5
    ");
    // Nothing had arrived before the run.
    insta::assert_snapshot!(rows(&repo, &["--at", "2026-01-31", "--knowledge", "available"]), @"customer_id,event_timestamp,plan,amount_of_the_day");
}

#[test]
fn one_row_for_every_key_at_every_moment() {
    let repo = repo();
    let between = ["--between", "2026-01-04", "2026-01-06", "--every", "1d"];
    insta::assert_snapshot!(rows(&repo, &between), @"
    customer_id,event_timestamp,plan,amount_of_the_day
    1,2026-01-04T00:00:00Z,free,35.5
    1,2026-01-05T00:00:00Z,free,35.5
    1,2026-01-06T00:00:00Z,free,35.5
    2,2026-01-06T00:00:00Z,free,
    ");
}

/// What has always been true makes its keys known at every moment, also before 1970.
#[test]
fn the_keys_of_a_static_view_are_always_known() {
    let repo = Repo::empty();
    repo.write(
        "vintner.yaml",
        "project: fleet\nregistry: .vintner/registry\noffline_store: .vintner/offline\n\
         online_store: {type: embedded, path: .vintner/online}\n",
    );
    repo.write(
        "features.yaml",
        "kind: entity\nname: plane\njoin_keys: {tail: string}\n\
         ---\nkind: source\nname: planes\npath: data/planes.csv\nstatic: true\n\
         ---\nkind: source\nname: checks\npath: data/checks.csv\nevent_timestamp: at\n\
         ---\nkind: feature_view\nname: plane\nentities: [plane]\nquery: SELECT tail, seats FROM planes\n\
         ---\nkind: feature_view\nname: check\nentities: [plane]\nttl: 1h\nquery: SELECT tail, at, passed FROM checks\n",
    );
    repo.write("data/planes.csv", "tail,seats\nN2,180\nN10,90\n");
    repo.write(
        "data/checks.csv",
        "tail,at,passed\nN9,1969-12-31T23:00:00Z,true\n",
    );
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let between = [
        "--between",
        "1969-12-31T22:59:59.999999Z",
        "1970-01-01T00:59:59.999999Z",
        "--every",
        "1h",
    ];
    repo.done(
        &[
            &[
                "get-historical",
                "--features",
                "check,plane",
                "--out",
                "out/rows.csv",
            ][..],
            &between,
        ]
        .concat(),
    );
    insta::assert_snapshot!(fs::read_to_string(repo.path("out/rows.csv")).unwrap(), @"
    tail,event_timestamp,passed,seats
    N10,1969-12-31T22:59:59.999999Z,,90
    N2,1969-12-31T22:59:59.999999Z,,180
    N10,1969-12-31T23:59:59.999999Z,,90
    N2,1969-12-31T23:59:59.999999Z,,180
    N9,1969-12-31T23:59:59.999999Z,true,
    N10,1970-01-01T00:59:59.999999Z,,90
    N2,1970-01-01T00:59:59.999999Z,,180
    N9,1970-01-01T00:59:59.999999Z,,
    ");
}

#[test]
fn the_rows_of_a_query_over_views_and_sources() {
    let repo = repo();
    let sql =
        "SELECT Customer_Id, ordered_at AS event_timestamp, amount > 50 AS is_large FROM orders";
    insta::assert_snapshot!(rows(&repo, &["--spine", sql, "--split", "train=2026-02-01,test"]), @"
    customer_id,event_timestamp,is_large,plan,amount_of_the_day,split
    1,2026-01-03T11:00:00Z,false,free,,train
    1,2026-01-03T18:00:00Z,false,free,,train
    1,2026-02-03T10:00:00Z,true,pro,35.5,test
    2,2026-01-07T09:30:00Z,false,free,,train
    2,2026-03-02T07:45:00Z,false,free,42.0,test
    3,2026-02-11T20:15:00Z,true,pro,,test
    3,2026-02-11T21:00:00Z,false,pro,,test
    ");
    let sql = "SELECT p.customer_id, max(o.ordered_at) AS at FROM customer_profile p JOIN orders o USING (customer_id) \
               WHERE credit_limit >= 100 GROUP BY p.customer_id ORDER BY p.customer_id DESC";
    insta::assert_snapshot!(rows(&repo, &["--spine", sql]), @"
    customer_id,at,plan,amount_of_the_day
    3,2026-02-11T21:00:00Z,pro,
    1,2026-02-03T10:00:00Z,pro,35.5
    ");
}

#[test]
fn what_is_wrong_is_told_before_anything_is_read() {
    let repo = Repo::new();
    repo.write(
        "more.yaml",
        "kind: entity\nname: order\njoin_keys: {order_id: int64}\n\
         ---\nkind: feature_view\nname: orders\nentities: [order]\nquery: SELECT order_id, ordered_at, amount FROM orders\n",
    );
    // No run has been made, so there is nothing to read.
    repo.done(&["apply", "--yes"]);
    let query = |sql: &str| failure(&repo, &["--spine", sql]);
    let mut told = vec![
        failure(&repo, &[]),
        failure(&repo, &["--at", "2026-01-01", "--spine", "SELECT 1"]),
        failure(&repo, &["--between", "2026-01-01", "2026-02-01"]),
        failure(&repo, &["--at", "2026-01-01", "--every", "1d"]),
        failure(
            &repo,
            &["--between", "2026-02-01", "2026-01-01", "--every", "1d"],
        ),
        failure(
            &repo,
            &["--between", "2026-01-01", "2026-02-01", "--every", "1s"],
        ),
        failure(
            &repo,
            &["--between", "2026-01-01", "2026-02-01", "--every=-1d"],
        ),
        failure(&repo, &["--at", "2026-01-01", "--timestamp-column", "at"]),
        query("SELECT customer, updatd_at AS event_timestamp FROM profiles"),
        query("SELECT customer_id, event_timestamp FROM customer_profil"),
        query("SELECT order_id, event_timestamp FROM orders"),
        query("SELECT customer_id FROM profiles"),
        query("DELETE FROM profiles"),
        failure(
            &repo,
            &["--at", "2026-01-01", "--split", "train=0.5,test=2026-01-01"],
        ),
        failure(
            &repo,
            &["--at", "2026-01-01", "--split", "train=0.9,test=0.2"],
        ),
        failure(
            &repo,
            &[
                "--at",
                "2026-01-01",
                "--split",
                "train=0.8,test=0.2",
                "--split-by",
                "customer",
            ],
        ),
        failure(&repo, &["--at", "2026-01-01", "--split-by", "customer_id"]),
    ];
    told.push(repo.failure(&[
        "get-historical",
        "--features",
        "customer_profile,orders",
        "--at",
        "2026-01-01",
        "--out",
        "out/none.csv",
    ]));
    insta::assert_snapshot!("what_is_wrong", told.join("\n"));
    assert!(!repo.path("out/none.csv").exists());
}

/// Each customer's part.
fn parts(csv: &str) -> Vec<(String, String)> {
    let cells = csv.lines().skip(1).map(|line| {
        let cells: Vec<_> = line.split(',').collect();
        (cells[0].to_owned(), cells[cells.len() - 1].to_owned())
    });
    cells.collect()
}

#[test]
fn a_customer_is_in_one_part_whatever_else_is_asked() {
    let repo = repo();
    let split = ["--split", "train=0.5,valid=0.2,test=0.3"];
    let between = ["--between", "2026-01-01", "2026-03-01", "--every", "1d"];
    let daily = parts(&rows(&repo, &[&between, &split[..]].concat()));
    let decisions = ["--entity-rows", "data/decisions.csv"];
    let decided = parts(&rows(&repo, &[&decisions, &split[..]].concat()));
    let mut seen: Vec<_> = daily.iter().chain(&decided).collect();
    seen.sort();
    seen.dedup();
    let seen: Vec<_> = seen
        .iter()
        .map(|(customer, part)| format!("{customer}: {part}"))
        .collect();
    assert_eq!(seen, ["1: train", "2: train", "3: test"], "and so for ever");
    // By another column, rows of one customer can be in several parts.
    let by = ["--split-by", "churned,customer_id"];
    let found = parts(&rows(&repo, &[&decisions, &split[..], &by].concat()));
    assert_eq!(found.len(), 7);
}

#[test]
fn a_saved_dataset_of_rows_that_were_made_is_made_again() {
    let repo = repo();
    let made = [
        (
            "keys",
            vec!["--at", "2026-02-12", "--split", "train=0.5,test=0.5"],
        ),
        (
            "query",
            vec![
                "--spine",
                "SELECT customer_id, ordered_at AS event_timestamp, amount FROM orders",
                "--split",
                "train=2026-02-01,test",
            ],
        ),
    ];
    let saved = made.clone().map(|(name, flags)| {
        let out = format!("out/{name}.parquet");
        repo.done(&[FEATURES, &[&out, "--save", name], &flags[..]].concat());
        fs::read(repo.path(&out)).unwrap()
    });
    repo.write(
        "data/orders.csv",
        "order_id,customer_id,ordered_at,amount\n1,7,2026-01-03T11:00:00Z,20.0\n",
    );
    repo.write(
        "data/profiles.csv",
        "customer_id,updated_at,plan,credit_limit\n1,2026-01-01T09:00:00Z,other,1.0\n",
    );
    repo.done(&["materialize", "--full-refresh"]);
    for ((name, flags), saved) in made.iter().zip(&saved) {
        repo.done(&[FEATURES, &["out/now.parquet"], &flags[..]].concat());
        assert!(fs::read(repo.path("out/now.parquet")).unwrap() != *saved);
        repo.done(&["dataset", "reproduce", name, "--out", "out/again.parquet"]);
        assert!(
            fs::read(repo.path("out/again.parquet")).unwrap() == *saved,
            "{name}"
        );
    }
    let shown = |name: &str| {
        let shown = repo.done(&["dataset", "show", name]);
        let line = shown.lines().find(|line| line.starts_with("split"));
        line.unwrap().to_owned()
    };
    insta::assert_snapshot!(shown("keys"), @"split:            train=0.5,test=0.5 by the join keys");
    insta::assert_snapshot!(shown("query"), @"split:            train=2026-02-01T00:00:00Z,test by time");
}

/// A query that reads a view whose features are asked for reads the version of its table that the join reads.
#[test]
fn a_dataset_is_of_one_version_of_each_table() {
    let repo = repo();
    let sql = "SELECT customer_id, event_timestamp, plan AS spine_plan FROM customer_profile";
    let rows = rows(&repo, &["--spine", sql]);
    for row in rows.lines().skip(1) {
        let cells: Vec<_> = row.split(',').collect();
        assert_eq!(cells[2], cells[3], "{row}");
    }
    assert_eq!(rows.lines().count(), 6);
}
