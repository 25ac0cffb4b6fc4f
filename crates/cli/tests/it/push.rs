//! `push`: files of every format, into both stores, once.

use std::{fs, thread};

use serde_json::{Value as Json, json};

use crate::{
    harness::{Ended, Repo},
    interrupt::{Calls, count, kill, spread},
    stores::{assert_alike, deployment},
};

/// The moment at which all commands run, after everything in the data.
const NOW: &str = "2026-04-01T00:00:00Z";

/// How many times a push is killed, at most.
const KILLS: usize = 16;

/// Late for customer 1, new for 4, twice for 5 with the later one first, and tied for 6.
const ROWS: &str = "\
customer_id,event_timestamp,created_timestamp,plan,credit_limit,is_pro
1,2026-01-15T00:00:00Z,,free,110,false
4,2026-03-20T00:00:00Z,,pro,1,true
5,2026-03-22T00:00:00Z,,pro,3,true
5,2026-03-21T00:00:00Z,,free,2,false
6,2026-03-20T00:00:00Z,2026-03-20T00:00:00Z,free,9,
6,2026-03-20T00:00:00Z,2026-03-20T00:00:00Z,free,10,
2,2026-03-30T00:00:00Z,,,,
";

fn applied() -> Repo {
    let repo = Repo::new().at(NOW);
    repo.done(&["apply", "--yes"]);
    repo
}

fn materialized() -> Repo {
    let repo = applied();
    repo.done(&["materialize"]);
    repo.write("data/pushed.csv", ROWS);
    repo
}

const PUSH: &[&str] = &["push", "customer_profile", "--rows", "data/pushed.csv"];

/// What both paths say of the customers of [`ROWS`].
fn answers(repo: &Repo) -> Json {
    let entities: Vec<String> = (1..8).map(|id| format!("customer_id={id}")).collect();
    let entities = entities.iter().flat_map(|entity| ["--entity", entity]);
    let online = ["get-online", "--features", "customer_profile"];
    let mut rows = "customer_id,event_timestamp\n".to_owned();
    for id in 1..8 {
        for day in ["2026-01-16", "2026-02-20", "2026-03-20", "2026-03-31"] {
            rows += &format!("{id},{day}T00:00:00Z\n");
        }
    }
    repo.write("data/asked.csv", &rows);
    let historical = [
        "get-historical",
        "--features",
        "customer_profile",
        "--entity-rows",
        "data/asked.csv",
    ];
    repo.done(&[&historical[..], &["--out", "out/asked.csv"]].concat());
    json!({
        "online": repo.json(&[&online[..], &entities.collect::<Vec<_>>()].concat()),
        "historical": fs::read_to_string(repo.path("out/asked.csv")).unwrap(),
    })
}

#[test]
fn rows_are_on_both_paths_when_the_push_has_answered() {
    let repo = materialized();
    let told = repo.json(PUSH);
    assert_eq!(
        (
            &told["view"],
            &told["rows"],
            &told["already_there"],
            &told["online"],
            &told["late"]
        ),
        (
            &json!("customer_profile@1"),
            &json!(7),
            &json!(0),
            &json!(5),
            &json!(2)
        )
    );
    let answers = answers(&repo);
    let limits = &answers["online"]["features"]["credit_limit"];
    assert_eq!(
        limits["values"],
        json!([500.0, null, 1000.0, 1.0, 3.0, 10.0, null])
    );
    assert_eq!(limits["statuses"][1], "NULL_VALUE");
    assert_eq!(limits["statuses"][6], "NOT_FOUND");
    let historical = answers["historical"].as_str().unwrap();
    for line in [
        "1,2026-01-16T00:00:00Z,free,110.0,false",
        "2,2026-03-31T00:00:00Z,,,",
        "5,2026-03-31T00:00:00Z,pro,3.0,true",
        "6,2026-03-20T00:00:00Z,free,10.0,",
    ] {
        assert!(historical.contains(line), "{line} is not in\n{historical}");
    }
    // The same file again is the same push.
    let again = repo.json(PUSH);
    assert_eq!(
        (&again["rows"], &again["already_there"]),
        (&json!(7), &json!(7))
    );
    // No run takes them away, and compaction changes nothing.
    for command in [
        &["materialize"][..],
        &["materialize", "--full-refresh"],
        &["compact"],
        &["materialize", "--full-refresh"],
    ] {
        repo.done(command);
        assert_eq!(self::answers(&repo), answers, "{command:?}");
    }
    let token = told["token"].as_str().unwrap();
    let after = [
        "get-online",
        "--features",
        "customer_profile",
        "--entity",
        "customer_id=4",
        "--after",
        token,
    ];
    assert_eq!(
        repo.json(&after)["features"]["credit_limit"]["values"],
        json!([1.0])
    );
}

#[test]
fn a_view_can_be_pushed_to_before_its_first_run() {
    let repo = applied();
    repo.write("data/pushed.csv", ROWS);
    repo.done(PUSH);
    repo.done(&["materialize"]);
    let other = materialized();
    other.done(PUSH);
    assert_eq!(answers(&repo), answers(&other));
}

#[test]
fn every_format_and_the_service_push_the_same() {
    let repo = materialized();
    repo.done(PUSH);
    let want = answers(&repo);

    let repo = materialized();
    let line = |id: i64, at: &str, plan: Json, limit: Json, pro: Json| {
        json!({"customer_id": id, "event_timestamp": at, "created_timestamp": if id == 6 { json!("2026-03-20T00:00:00Z") } else { Json::Null },
               "plan": plan, "credit_limit": limit, "is_pro": pro}).to_string()
    };
    let lines = [
        line(
            1,
            "2026-01-15T00:00:00Z",
            json!("free"),
            json!(110),
            json!(false),
        ),
        line(
            4,
            "2026-03-20T00:00:00Z",
            json!("pro"),
            json!(1),
            json!(true),
        ),
        line(
            5,
            "2026-03-22T00:00:00Z",
            json!("pro"),
            json!(3),
            json!(true),
        ),
        line(
            5,
            "2026-03-21T00:00:00Z",
            json!("free"),
            json!(2),
            json!(false),
        ),
        line(
            6,
            "2026-03-20T00:00:00Z",
            json!("free"),
            json!(9),
            Json::Null,
        ),
        line(
            6,
            "2026-03-20T00:00:00Z",
            json!("free"),
            json!(10),
            Json::Null,
        ),
        line(
            2,
            "2026-03-30T00:00:00Z",
            Json::Null,
            Json::Null,
            Json::Null,
        ),
    ];
    repo.write("data/pushed.json", &(lines.join("\n\n") + "\n"));
    repo.done(&[
        "push",
        "customer_profile",
        "--rows",
        "data/pushed.json",
        "--batch-rows",
        "2",
    ]);
    assert_eq!(answers(&repo), want);

    let repo = materialized();
    let service = repo.serve();
    // A client has no `--now` of its own.
    let asked = |args: &[&str]| -> Json {
        let args = [args, &["--server", &service.url, "--format", "json"]].concat();
        let ended = Ended::of(repo.command(&args).env_remove("VINTNER_NOW"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let told = asked(PUSH);
    assert_eq!(told["rows"], 7);
    let token = told["token"].as_str().unwrap();
    let online = [
        "get-online",
        "--features",
        "customer_profile",
        "--entity",
        "customer_id=4",
    ];
    let found = asked(&[&online[..], &["--after", token]].concat());
    assert_eq!(found["features"]["credit_limit"]["values"], json!([1.0]));
    assert_eq!(service.stop(), Some(0));
    assert_eq!(answers(&repo), want);
}

#[test]
fn what_is_refused_is_told_with_its_place_and_writes_nothing() {
    let repo = materialized();
    let want = answers(&repo);
    let bad = [
        ("a.csv", ROWS.replace("plan", "plans")),
        (
            "b.csv",
            ROWS.replace("2026-03-21T00:00:00Z", "2026-04-21T00:00:00Z"),
        ),
        ("c.csv", ROWS.replace("\n6,", "\n,")),
        ("d.csv", ROWS.replace("free,10,", "free,ten,")),
        ("e.json", "{\"customer_id\": 1}\n".to_owned()),
        ("f.json", "{\"customer_id\": 1\n".to_owned()),
        ("g.txt", ROWS.to_owned()),
    ];
    let mut told = String::new();
    for (name, text) in bad {
        repo.write(&format!("data/{name}"), &text);
        let path = format!("data/{name}");
        told += &repo.failure(&[
            "push",
            "customer_profile",
            "--rows",
            &path,
            "--batch-rows",
            "2",
        ]);
    }
    told += &repo.failure(&["push", "customer_profil", "--rows", "data/pushed.csv"]);
    told += &repo.failure(&[
        "get-online",
        "--features",
        "customer_profile",
        "--entity",
        "customer_id=4",
        "--after",
        "vt1.shop",
    ]);
    insta::assert_snapshot!(told);
    assert_eq!(answers(&repo), want);
}

#[test]
fn a_push_survives_a_kill_at_any_call() {
    let args = &[PUSH, &["--batch-rows", "2"]].concat()[..];
    let clean = materialized();
    let calls = count(&clean, args, Calls::Disk);
    assert!(calls > 5, "{args:?} made only {calls} calls");
    let want = answers(&clean);
    clean.done(&["materialize"]);
    let mut deployments = vec![deployment("a clean push", clean)];
    let points = spread(calls, KILLS);
    let mut killed = 0;
    for at in &points {
        let repo = materialized();
        killed += usize::from(kill(&repo, args, Calls::Disk, *at));
        repo.done(args);
        let story = format!("killed before call {at} of {calls}");
        assert_eq!(answers(&repo), want, "{story}");
        repo.done(&["materialize"]);
        deployments.push(deployment(&story, repo));
    }
    assert!(
        killed + 2 >= points.len(),
        "only {killed} pushes were killed"
    );
    assert_alike(&deployments);
}

#[test]
fn pushes_and_runs_of_several_processes_lose_and_double_nothing() {
    let repo = materialized();
    let pushers = 3;
    for pusher in 0..pushers {
        let mut text = "customer_id,event_timestamp,plan,credit_limit,is_pro\n".to_owned();
        for row in 0..20 {
            let id = 100 + row;
            text += &format!(
                "{id},2026-03-{:02}T00:00:00Z,p{pusher},{row},true\n",
                10 + pusher
            );
        }
        repo.write(&format!("data/pusher{pusher}.csv"), &text);
    }
    thread::scope(|scope| {
        for pusher in 0..pushers {
            let repo = &repo;
            scope.spawn(move || {
                let path = format!("data/pusher{pusher}.csv");
                repo.done(&[
                    "push",
                    "customer_profile",
                    "--rows",
                    &path,
                    "--batch-rows",
                    "4",
                ]);
            });
        }
        scope.spawn(|| {
            for _ in 0..3 {
                repo.done(&["materialize", "--full-refresh"]);
            }
        });
    });
    let told = repo.json(&["show", "feature_view", "customer_profile"]);
    assert_eq!(told["rows"], 5 + 20 * pushers);
    let online = [
        "get-online",
        "--features",
        "customer_profile:plan",
        "--entity",
        "customer_id=100",
    ];
    assert_eq!(
        repo.json(&online)["features"]["plan"]["values"],
        json!(["p2"])
    );
}
