//! One script, run on the stores and through a service: every answer is the same.

use std::fs;

use serde_json::Value as Json;

use crate::harness::Repo;

/// Every operation, good and bad, in an order in which each has something to say.
const SCRIPT: &[&[&str]] = &[
    &["check"],
    &["plan"],
    &["plan", "--exit-code"],
    &[
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
    ],
    &["apply", "--yes"],
    &["apply", "--yes"],
    &["plan", "--exit-code"],
    &[
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
    ],
    &["materialize", "customer_profile"],
    &["materialize"],
    &["materialize"],
    &[
        "materialize",
        "customer_orders",
        "--start",
        "2026-01-01",
        "--end",
        "2026-02-01",
    ],
    &[
        "materialize",
        "customer_orders",
        "--start",
        "2026-02-01",
        "--end",
        "2026-01-01",
    ],
    &["materialize", "--full-refresh"],
    &["materialize", "customer_ordres"],
    &[
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
        "--entity",
        "customer_id=99",
    ],
    &[
        "get-online",
        "--features",
        "customer_orders,customer_profile:plan",
        "--entity",
        "customer_id=2",
        "--full-names",
    ],
    &[
        "get-online",
        "--features",
        "customer_orders:order",
        "--entity",
        "customer_id=2",
    ],
    &[
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=x",
    ],
    &[
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "client=1",
    ],
    &["list", "entity"],
    &["list", "source"],
    &["list", "feature_view"],
    &["list", "feature_service"],
    &["show", "entity", "customer"],
    &["show", "source", "orders"],
    &["show", "feature_view", "customer_orders"],
    &["show", "feature_service", "churn_model"],
    &["show", "feature_view", "customer_order"],
    &["history"],
    &["diff", "1", "1"],
    &["diff", "1", "7"],
    &["rollback", "1", "--yes"],
    &["rollback", "9", "--yes"],
    &["compact"],
    &["compact", "customer_orders"],
    &["compact", "customer_order"],
    &["vacuum", "--yes"],
    &["vacuum", "customer_orders", "--dry-run"],
    &["vacuum", "customer_order", "--yes"],
    &["datasets"],
    &["dataset", "show", "none"],
    &["dataset", "reproduce", "none", "--out", "out/none.csv"],
    &["runs"],
    &["runs", "customer_orders", "--limit", "1"],
];

/// What differs between any two runs: times and ids.
fn without_times(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            for name in [
                "offline_micros",
                "online_micros",
                "micros",
                "id",
                "started_at",
                "finished_at",
                "created_at",
                "out",
                "path",
            ] {
                if fields.contains_key(name) {
                    fields.insert(name.to_owned(), "…".into());
                }
            }
            if let Some(Json::String(plan)) = fields.get_mut("plan") {
                let words = plan.split(' ').map(|word| {
                    if word.contains("T") && word.contains("Z") {
                        "…"
                    } else {
                        word
                    }
                });
                *plan = words.collect::<Vec<_>>().join(" ");
            }
            fields.values_mut().for_each(without_times);
        }
        Json::Array(items) => items.iter_mut().for_each(without_times),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn answers(repo: &Repo, server: Option<&str>) -> Vec<String> {
    let through: Vec<&str> = server.map_or(vec![], |url| vec!["--server", url]);
    let run = |args: &[&str]| {
        let ended = repo.run(&[args, &["--format", "json"], &through].concat());
        let mut json: Json = serde_json::from_str(&ended.stdout).unwrap_or(Json::Null);
        without_times(&mut json);
        let stderr = repo.without_paths(&ended.stderr);
        format!("{} -> {:?}\n{json:#}\n{stderr}", args.join(" "), ended.code)
    };
    SCRIPT.iter().map(|args| run(args)).collect()
}

#[test]
fn the_same_script_has_the_same_answers_locally_and_through_grpc() {
    let (local, served) = (Repo::new(), Repo::new());
    let service = served.serve();
    let (ours, theirs) = (answers(&local, None), answers(&served, Some(&service.url)));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        similar_asserts(ours, theirs);
    }
    assert_eq!(service.stop(), Some(0));
}

fn similar_asserts(ours: &str, theirs: &str) {
    assert!(
        ours == theirs,
        "locally:\n{ours}\n\nthrough the service:\n{theirs}"
    );
}

#[test]
fn a_training_dataset_is_the_same_locally_and_through_flight() {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let service = repo.serve();
    for (i, flags) in [
        &["--service", "churn_model"][..],
        &[
            "--service",
            "churn_model",
            "--full-names",
            "--knowledge",
            "available",
        ],
        &[
            "--features",
            "customer_orders:amount_of_the_day,customer_profile",
            "--boundary",
            "before",
        ],
    ]
    .iter()
    .enumerate()
    {
        let mut written = vec![];
        for through in [&[][..], &["--server", &service.url]] {
            let out = repo.path(&format!("out/{i}_{}.csv", through.len()));
            let args = [
                "get-historical",
                "--entity-rows",
                "data/decisions.csv",
                "--out",
                out.to_str().unwrap(),
            ];
            let mut report = repo.json(&[&args, flags as &[&str], through].concat());
            without_times(&mut report);
            written.push((fs::read_to_string(out).unwrap(), report));
        }
        assert_eq!(written[0], written[1], "{flags:?}");
        assert_eq!(written[0].0.lines().count(), 8, "{}", written[0].0);
    }
    for (flags, code) in [
        (&["--service", "churn"][..], 2),
        (&["--service", "churn_model", "--timestamp-column", "no"], 2),
    ] {
        let args = [
            "get-historical",
            "--entity-rows",
            "data/decisions.csv",
            "--out",
            "out/none.csv",
        ];
        let local = repo.run(&[&args, flags].concat());
        let remote = repo.run(&[&args, flags, &["--server", &service.url]].concat());
        assert_eq!(
            (local.code, &local.stderr),
            (Some(code), &remote.stderr),
            "{flags:?}"
        );
        assert_eq!(remote.code, Some(code));
    }
}

#[test]
fn rows_that_are_made_and_their_parts_are_the_same_locally_and_through_flight() {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let service = repo.serve();
    let joined = "SELECT p.customer_id, o.ordered_at AS event_timestamp, o.amount, p.plan AS \"Plan of then\" \
                  FROM customer_profile p JOIN orders o USING (customer_id)";
    for flags in [
        &["--at", "2026-02-11T00:00:00.000001Z"][..],
        &["--at", "2026-01-31", "--knowledge", "available"],
        &[
            "--between",
            "2026-01-01",
            "2026-03-01",
            "--every",
            "12h",
            "--boundary",
            "before",
        ],
        &[
            "--spine",
            joined,
            "--split",
            "train=2026-02-01,valid=2026-02-11T20:15:00Z,test",
        ],
        &[
            "--spine",
            joined,
            "--split",
            "train=0.6,test=0.4",
            "--split-by",
            "amount_cents",
        ],
        &["--spine", joined, "--split", "train=0.6,test=0.4"],
        &[
            "--entity-rows",
            "data/decisions.csv",
            "--split",
            "a=0.6,b=0.4",
            "--split-by",
            "churned,customer_id",
        ],
        &["--spine", "SELECT customer, 1 FROM orders"],
        &[
            "--spine",
            "SELECT customer_id, CAST(plan AS BIGINT) AS n, event_timestamp FROM customer_profile",
        ],
        &["--at", "2026-01-31", "--split", "train=0.6,test=0.5"],
        &["--between", "2026-01-01", "2026-03-01", "--every", "1us"],
    ] {
        let answers = [&[][..], &["--server", &service.url]].map(|through| {
            let out = repo.path("out/made.parquet");
            let _ = fs::remove_file(&out);
            let args = [
                "get-historical",
                "--service",
                "churn_model",
                "--out",
                out.to_str().unwrap(),
            ];
            let ended = repo.run(&[&args, flags, &["--format", "json"], through].concat());
            let mut report: Json = serde_json::from_str(&ended.stdout).unwrap_or(Json::Null);
            without_times(&mut report);
            (ended.code, ended.stderr, report, fs::read(out).ok())
        });
        let [local, remote] = answers;
        assert_eq!(local, remote, "{flags:?}");
        assert_eq!(
            local.0 == Some(0),
            local.3.is_some(),
            "{flags:?}: {}",
            local.1
        );
        assert!(matches!(local.0, Some(0 | 2)), "{flags:?}: {}", local.1);
    }
}

/// Sensors whose keys are text, also where they look like numbers: `007` is not `7`.
fn sensors() -> Repo {
    let repo = Repo::empty();
    repo.write(
        "vintner.yaml",
        "project: sensors\nregistry: .vintner/registry\noffline_store: .vintner/offline\n\
         online_store: {type: embedded, path: .vintner/online}\n",
    );
    repo.write(
        "features.yaml",
        "kind: entity\nname: sensor\njoin_keys: {sensor: string}\n\
         ---\nkind: source\nname: readings\npath: data/readings.csv\nevent_timestamp: at\n\
         ---\nkind: feature_view\nname: reading\nentities: [sensor]\nquery: SELECT sensor, at, temp FROM readings\n",
    );
    repo.write(
        "data/readings.csv",
        "sensor,at,temp\n007,2026-01-01T00:00:00Z,1.5\n7,2026-01-01T00:00:00Z,2.5\n",
    );
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo
}

/// The training rows of a file, which must be the same through both ways.
fn training_rows(repo: &Repo, server: &str, features: &str, entity_rows: &str) -> String {
    repo.write("data/rows.csv", entity_rows);
    let mut written = [&[][..], &["--server", server]].map(|through| {
        let out = repo.path("out/rows.csv");
        let args = [
            "get-historical",
            "--entity-rows",
            "data/rows.csv",
            "--features",
            features,
            "--out",
            out.to_str().unwrap(),
        ];
        repo.done(&[&args, through].concat());
        fs::read_to_string(out).unwrap()
    });
    assert_eq!(written[0], written[1], "{features}");
    std::mem::take(&mut written[0])
}

#[test]
fn text_keys_that_look_like_numbers_are_text() {
    let repo = sensors();
    let service = repo.serve();
    // In the first file every key could be a number; in the second one could not be the number that it looks like.
    insta::assert_snapshot!(
        training_rows(&repo, &service.url, "reading", "sensor,event_timestamp\n7,2026-01-02T00:00:00Z\n10,2026-01-02T00:00:00Z\n"),
        @"
        sensor,event_timestamp,temp
        7,2026-01-02T00:00:00Z,2.5
        10,2026-01-02T00:00:00Z,
        "
    );
    insta::assert_snapshot!(
        training_rows(&repo, &service.url, "reading", "sensor,event_timestamp\n007,2026-01-02T00:00:00Z\n7,2026-01-02T00:00:00Z\n"),
        @"
        sensor,event_timestamp,temp
        007,2026-01-02T00:00:00Z,1.5
        7,2026-01-02T00:00:00Z,2.5
        "
    );
}

#[test]
fn keys_have_the_types_of_the_view_version_that_is_asked_for() {
    let repo = sensors();
    repo.replace("features.yaml", "{sensor: string}", "{sensor: int64}");
    repo.replace("features.yaml", "readings.csv", "numbers.csv");
    repo.write(
        "data/numbers.csv",
        "sensor,at,temp\n7,2026-01-01T00:00:00Z,3.5\n",
    );
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let service = repo.serve();
    let rows = "sensor,event_timestamp\n7,2026-01-02T00:00:00Z\n";
    insta::assert_snapshot!(training_rows(&repo, &service.url, "reading@1", rows), @"
    sensor,event_timestamp,temp
    7,2026-01-02T00:00:00Z,2.5
    ");
    insta::assert_snapshot!(training_rows(&repo, &service.url, "reading@2", rows), @"
    sensor,event_timestamp,temp
    7,2026-01-02T00:00:00Z,3.5
    ");
}
