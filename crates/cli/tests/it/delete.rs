//! `delete`: rows of entities go from both stores, stay away, and are told of; killed anywhere and done again, it is done.

mod servers;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use vintner_testkit::redis::RedisServer;

use crate::{
    harness::{Ended, Repo, Service},
    interrupt::{Calls, count, kill, spread, stop},
    stores::{assert_alike, deployment},
};

/// The moment at which all commands run, after everything in the data.
const NOW: &str = "2026-04-01T00:00:00Z";

/// How many times a deletion is killed, at most.
const KILLS: usize = 16;

/// How long a near cache may be behind, and as long again for slow machines.
const PATIENCE: Duration = Duration::from_secs(30);

const PUSHED: &str = "\
customer_id,event_timestamp,created_timestamp,plan,credit_limit,is_pro
1,2026-03-20T00:00:00Z,,pro,1,true
4,2026-03-20T00:00:00Z,,pro,4,true
";

const PUSH: &[&str] = &["push", "customer_profile", "--rows", "data/pushed.csv"];
const DELETE: &[&str] = &[
    "delete",
    "customer_profile",
    "--entity",
    "customer_id=1",
    "--entity",
    "customer_id=9",
    "--yes",
];

/// A repo whose views are loaded and pushed to, with the embedded online store or in Redis as said. `more` comes before.
fn on(redis: Option<&str>, more: impl FnOnce(&Repo)) -> Repo {
    let repo = Repo::new().at(NOW);
    if let Some(servers) = redis {
        repo.replace(
            "vintner.yaml",
            "{type: embedded, path: .vintner/online}",
            &format!("{{type: redis, {servers}}}"),
        );
        let view = "name: customer_profile\n";
        repo.replace("features.yaml", view, &format!("{view}near_cache: 1MiB\n"));
    }
    more(&repo);
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    repo.write("data/pushed.csv", PUSHED);
    repo.done(PUSH);
    repo
}

fn on_redis(url: &str) -> Repo {
    on(Some(&format!("url: \"{url}\"")), |_| ())
}

fn filled() -> Repo {
    on(None, |_| ())
}

/// The statuses of customers, as a service tells them.
fn statuses(repo: &Repo, service: &Service, customers: &[usize]) -> Vec<String> {
    let entities: Vec<_> = customers
        .iter()
        .map(|id| format!("customer_id={id}"))
        .collect();
    let entities = entities.iter().flat_map(|entity| ["--entity", entity]);
    let args = ["get-online", "--features", "customer_profile:plan"];
    let to = ["--server", &service.url, "--format", "json"];
    let args = [&args[..], &to, &entities.collect::<Vec<_>>()].concat();
    // A client has no `--now` of its own.
    let ended = Ended::of(repo.command(&args).env_remove("VINTNER_NOW"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut told: Json = serde_json::from_str(&ended.stdout).unwrap();
    serde_json::from_value(told["features"]["plan"]["statuses"].take()).unwrap()
}

/// The statuses of customers 1 to 4, and what training rows find of them.
fn found(repo: &Repo) -> (Json, String) {
    let entities: Vec<String> = (1..5).map(|id| format!("customer_id={id}")).collect();
    let entities = entities.iter().flat_map(|entity| ["--entity", entity]);
    let online = ["get-online", "--features", "customer_profile:plan"];
    let online = repo.json(&[&online[..], &entities.collect::<Vec<_>>()].concat());
    let rows = (1..5).map(|id| format!("{id},2026-02-20T00:00:00Z\n{id},2026-03-31T00:00:00Z\n"));
    let rows: String = rows.collect();
    repo.write(
        "data/asked.csv",
        &format!("customer_id,event_timestamp\n{rows}"),
    );
    repo.done(&[
        "get-historical",
        "--features",
        "customer_profile:plan",
        "--entity-rows",
        "data/asked.csv",
        "--out",
        "out/asked.csv",
    ]);
    let historical = fs::read_to_string(repo.path("out/asked.csv")).unwrap();
    (online["features"]["plan"]["statuses"].clone(), historical)
}

/// What is found once customer 1 is deleted.
fn without_1() -> (Json, String) {
    let online = json!(["NOT_FOUND", "PRESENT", "PRESENT", "PRESENT"]);
    let historical = "\
customer_id,event_timestamp,plan
1,2026-02-20T00:00:00Z,
1,2026-03-31T00:00:00Z,
2,2026-02-20T00:00:00Z,free
2,2026-03-31T00:00:00Z,free
3,2026-02-20T00:00:00Z,pro
3,2026-03-31T00:00:00Z,pro
4,2026-02-20T00:00:00Z,
4,2026-03-31T00:00:00Z,pro
";
    (online, historical.to_owned())
}

#[test]
fn deleted_rows_are_on_no_path_whatever_runs_afterwards() {
    let repo = filled();
    let told = repo.json(&[DELETE, &["--dry-run"]].concat());
    let view = &told["views"][0];
    assert_eq!(
        [
            &view["entities"],
            &view["found"],
            &view["rows"],
            &view["online_rows"]
        ],
        [&json!(2), &json!(1), &json!(3), &json!(1)]
    );
    assert_eq!(
        (&view["table_version"], &told["retired"]),
        (&Json::Null, &json!([]))
    );
    let done = repo.json(DELETE);
    let view = &done["views"][0];
    assert_eq!(view["view"], "customer_profile@1");
    assert_eq!(
        [
            &view["found"],
            &view["rows"],
            &view["online_rows"],
            &view["table_version"]
        ],
        [&json!(1), &json!(3), &json!(1), &json!(2)]
    );
    let want = without_1();
    for command in [
        &["verify"][..],
        &["materialize"],
        &["materialize", "--online-only"],
        &["materialize", "--full-refresh"],
        &[
            "materialize",
            "--start",
            "2026-01-01",
            "--end",
            "2026-04-01",
        ],
        &["compact"],
        &["vacuum", "--retention", "1us", "--yes"],
        // The push is known to have been written.
        PUSH,
        &["verify"],
        DELETE,
        &["verify"],
    ] {
        repo.done(command);
        assert_eq!(found(&repo), want, "{command:?}");
    }
    // The source says something new of all, in the file that was read before.
    let profiles = fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
    repo.write(
        "data/profiles.csv",
        &(profiles + "1,2026-03-31T00:00:00Z,free,7.0\n2,2026-03-31T00:00:00Z,pro,7.0\n"),
    );
    let run = repo.json(&["materialize", "customer_profile"]);
    assert_eq!(run[0]["rows_left_out"], 3, "{run}");
    assert_eq!(found(&repo).0, want.0);
    repo.done(&["verify"]);
    // Orders are of another view, and still there; an aggregating one loses the rows of the key.
    let orders = |customer: &str| {
        let entity = format!("customer_id={customer}");
        let features = [
            "get-online",
            "--features",
            "customer_orders:orders_of_the_day",
        ];
        let found = repo.json(&[&features[..], &["--entity", &entity]].concat());
        found["features"]["orders_of_the_day"]["statuses"][0].clone()
    };
    assert_eq!(orders("1"), "PRESENT");
    repo.done(&[
        "delete",
        "customer_orders",
        "--entity",
        "customer_id=1",
        "--yes",
    ]);
    let all = fs::read_to_string(repo.path("data/orders.csv")).unwrap();
    repo.write(
        "data/orders.csv",
        &(all + "8,2,2026-03-20T00:00:00Z,1.0\n9,1,2026-03-20T00:00:00Z,1.0\n"),
    );
    for command in [&["materialize"][..], &["materialize", "--full-refresh"]] {
        repo.done(command);
        assert_eq!(
            (orders("1"), orders("2")),
            (json!("NOT_FOUND"), json!("PRESENT"))
        );
    }
}

#[test]
fn what_a_person_reads() {
    let repo = filled();
    repo.done(&[
        "get-historical",
        "--features",
        "customer_profile",
        "--entity-rows",
        "data/decisions.csv",
        "--out",
        "out/saved.csv",
        "--save",
        "churn",
    ]);
    let mut told = repo.done(&[DELETE, &["--dry-run"]].concat());
    told += &repo.failure(&DELETE[..DELETE.len() - 1]);
    told += &repo.done(DELETE);
    told += &repo.done(DELETE);
    told += &repo.done(&[
        "delete",
        "customer_profile@1",
        "--entity",
        "customer_id=77",
        "--yes",
    ]);
    let time = |text: &str| {
        let lines = text
            .lines()
            .map(|line| match line.split_once(" online, in ") {
                Some((before, after)) => {
                    let after = after.split_once(';').unwrap().1;
                    format!("{before} online, in [time];{after}\n")
                }
                None => format!("{line}\n"),
            });
        lines.collect::<String>()
    };
    insta::assert_snapshot!(time(&told));
}

/// Who deleted when from what and how much is among the runs; whose rows they were is not.
#[test]
fn a_deletion_is_told_among_the_runs_without_keys() {
    let mut redis = RedisServer::start();
    let repo = on_redis(&redis.url());
    let deletions = |runs: Json| {
        let mut runs: Vec<Json> = serde_json::from_value(runs).unwrap();
        runs.retain(|run| run["kind"] == "delete");
        runs
    };
    // Neither what is only said nor what is refused.
    repo.done(&[DELETE, &["--dry-run"]].concat());
    repo.failure(&[&DELETE[..3], &["customer=1", "--yes"]].concat());
    assert_eq!(deletions(repo.json(&["runs"])), Vec::<Json>::new());

    repo.done(DELETE);
    let service = repo.serve();
    let args = ["runs", "customer_profile", "--format", "json"];
    let args = [&args[..], &["--server", &service.url]].concat();
    // A client has no `--now` of its own.
    let ended = Ended::of(repo.command(&args).env_remove("VINTNER_NOW"));
    let served: Json = serde_json::from_str(&ended.stdout).unwrap();
    for told in [repo.json(&["runs"]), served] {
        let kinds = told.as_array().unwrap().iter();
        let runs = kinds.filter(|run| run["kind"] == "materialize");
        assert!(runs.count() > 0, "{told}");
        let [mut deletion] = <[Json; 1]>::try_from(deletions(told)).unwrap();
        for field in ["id", "finished_at"] {
            let field = deletion[field].take();
            assert!(
                field.as_str().is_some_and(|text| text.len() > 20),
                "{field}"
            );
        }
        let want = json!({
            "id": null,
            "kind": "delete",
            "view": "customer_profile@1",
            "author": "tester",
            "entities": 2,
            "found": 1,
            "rows": 3,
            "online_rows": 1,
            "started_at": NOW,
            "finished_at": null,
            "error": "",
        });
        assert_eq!(deletion, want);
    }
    assert_eq!(service.stop(), Some(0));
    let shown = repo.json(&["show", "feature_view", "customer_profile"]);
    assert_eq!(shown["last_run"]["kind"], "materialize", "{shown}");

    redis.kill();
    repo.failure(DELETE);
    let failed = deletions(repo.json(&["runs"]));
    let failed: Vec<_> = failed.iter().filter(|run| run["error"] != "").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(
        (&failed[0]["entities"], &failed[0]["rows"]),
        (&json!(2), &json!(0))
    );
    let text = repo.done(&["runs"]).replace(&redis.url(), "REDIS");
    for part in [
        "tester deleted 2 entities: 3 rows of the table, 1 online\n",
        "tester deletes 2 entities: failed: the online store REDIS is not available",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_is_refused_is_told_with_its_place_and_deletes_nothing() {
    let repo = filled();
    let before = found(&repo);
    repo.write("data/other.csv", "customer\n1\n");
    repo.write("data/wrong.csv", "customer_id\n1\nx\n");
    repo.write("data/null.csv", "customer_id,why\n1,asked\n,asked\n");
    repo.write("data/none.csv", "customer_id\n");
    let mut told = String::new();
    for args in [
        &["customer_profil", "--entity", "customer_id=1"][..],
        &["customer_profile@2", "--entity", "customer_id=1"],
        &["customer_profile", "--entity", "customer=1"],
        &["customer_profile", "--entity", "customer_id=one"],
        &["customer_profile", "--entity", "customer_id=1,plan=pro"],
        &["customer_profile", "--entity", "1"],
        &["customer_profile"],
        &["customer_profile", "--entity-rows", "data/other.csv"],
        &["customer_profile", "--entity-rows", "data/wrong.csv"],
        &["customer_profile", "--entity-rows", "data/null.csv"],
        &["customer_profile", "--entity-rows", "data/none.csv"],
        &["customer_profile", "--entity-rows", "data/missing.csv"],
        &["customer_profile", "--entity-rows", "data/decisions.txt"],
        &["customer_profil", "--entity-rows", "data/null.csv"],
    ] {
        told += &format!("# delete {}\n", args.join(" "));
        told += &repo.failure(&[&["delete"], args, &["--yes"]].concat());
    }
    insta::assert_snapshot!(told);
    assert_eq!(found(&repo), before);
}

#[test]
fn entities_come_from_files_and_through_the_service() {
    let repo = filled();
    repo.write(
        "data/entities.csv",
        "why,customer_id\nasked,1\nasked,9\nasked,1\n",
    );
    let service = repo.serve();
    let args = [
        "delete",
        "customer_profile",
        "--entity-rows",
        "data/entities.csv",
        "--yes",
    ];
    let args = [&args[..], &["--server", &service.url, "--format", "json"]].concat();
    // A client has no `--now` of its own.
    let ended = Ended::of(repo.command(&args).env_remove("VINTNER_NOW"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told: Json = serde_json::from_str(&ended.stdout).unwrap();
    let view = &told["views"][0];
    assert_eq!(
        [
            &view["entities"],
            &view["found"],
            &view["rows"],
            &view["online_rows"]
        ],
        [&json!(2), &json!(1), &json!(3), &json!(1)]
    );
    let args = [
        "delete",
        "customer_profil",
        "--entity",
        "customer_id=1",
        "--yes",
    ];
    let args = [&args[..], &["--server", &service.url]].concat();
    let ended = Ended::of(repo.command(&args).env_remove("VINTNER_NOW"));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("did you mean `customer_profile`"),
        "{ended:?}"
    );
    assert_eq!(service.stop(), Some(0));
    assert_eq!(found(&repo), without_1());
}

#[test]
fn a_deletion_survives_a_kill_at_any_call() {
    let clean = filled();
    let calls = count(&clean, DELETE, Calls::Disk);
    assert!(calls > 5, "{DELETE:?} made only {calls} calls");
    clean.done(&["materialize"]);
    let want = without_1();
    assert_eq!(found(&clean), want);
    let mut deployments = vec![deployment("a clean deletion", clean)];
    let points = spread(calls, KILLS);
    let mut killed = 0;
    for (number, at) in points.iter().enumerate() {
        let repo = filled();
        killed += usize::from(kill(&repo, DELETE, Calls::Disk, *at));
        let story = format!("killed before call {at} of {calls}");
        // Whatever is done next makes it whole: the deletion itself, or a run and then the deletion.
        if number % 2 == 1 {
            repo.done(&["materialize"]);
        }
        repo.done(DELETE);
        assert_eq!(found(&repo), want, "{story}");
        repo.done(&["materialize"]);
        repo.done(&["verify"]);
        deployments.push(deployment(&story, repo));
    }
    assert!(
        killed + 2 >= points.len(),
        "only {killed} deletions were killed"
    );
    assert_alike(&deployments);
}

#[test]
fn deletions_pushes_and_runs_of_several_processes_end_in_one_order() {
    let repo = filled();
    let mut text = "customer_id,event_timestamp,plan,credit_limit,is_pro\n".to_owned();
    for id in 100..140 {
        text += &format!("{id},2026-03-10T00:00:00Z,pushed,{id},true\n");
    }
    repo.write("data/many.csv", &text);
    let ids = |ids: std::ops::Range<u32>| {
        let ids: Vec<String> = ids.map(|id| format!("customer_id={id}")).collect();
        ids
    };
    thread::scope(|scope| {
        let repo = &repo;
        scope.spawn(|| {
            let push = ["push", "customer_profile", "--rows", "data/many.csv"];
            repo.done(&[&push[..], &["--batch-rows", "4"]].concat());
        });
        scope.spawn(|| {
            for _ in 0..3 {
                repo.done(&["materialize", "--full-refresh"]);
            }
        });
        for range in [1..2, 100..120, 2..3] {
            let ids = ids(range);
            scope.spawn(move || {
                let entities = ids.iter().flat_map(|id| ["--entity", id.as_str()]);
                let entities: Vec<_> = entities.collect();
                repo.done(&[&["delete", "customer_profile", "--yes"], &entities[..]].concat());
            });
        }
        scope.spawn(|| repo.done(&["compact"]));
    });
    // What was pushed before the deletion has gone, what was pushed after it is there: on both paths the same.
    repo.done(&["verify"]);
    repo.done(&["materialize"]);
    repo.done(&["verify"]);
    let all: Vec<_> = [ids(1..5), ids(100..140)].concat();
    let entities = all.iter().flat_map(|id| ["--entity", id.as_str()]);
    let online = ["get-online", "--features", "customer_profile:plan"];
    let online = repo.json(&[&online[..], &entities.collect::<Vec<_>>()].concat());
    let statuses = online["features"]["plan"]["statuses"].as_array().unwrap();
    let expected = ["NOT_FOUND", "NOT_FOUND", "PRESENT", "PRESENT"];
    assert_eq!(statuses[..4], expected.map(|status| json!(status)));
    assert!(
        statuses[24..].iter().all(|status| status == "PRESENT"),
        "{statuses:?}"
    );
    repo.done(&[
        "delete",
        "customer_profile",
        "--entity-rows",
        "data/many.csv",
        "--yes",
    ]);
    let told = repo.json(&["show", "feature_view", "customer_profile"]);
    assert_eq!(told["rows"], 2);
}

#[test]
fn a_service_with_a_near_cache_forgets_what_another_process_deletes() {
    let redis = RedisServer::start();
    let repo = on_redis(&redis.url());
    let service = repo.serve();
    let status = || statuses(&repo, &service, &[1]).remove(0);
    for _ in 0..3 {
        assert_eq!(status(), "PRESENT");
    }
    repo.done(DELETE);
    let began = Instant::now();
    while status() != "NOT_FOUND" {
        assert!(began.elapsed() < PATIENCE, "the service still has the row");
    }
    // Once forgotten, it does not come back.
    for _ in 0..3 {
        assert_eq!(status(), "NOT_FOUND");
    }
    repo.done(&["materialize", "--online-only"]);
    assert_eq!(status(), "NOT_FOUND");
    repo.done(&["verify"]);
    assert_eq!(service.stop(), Some(0));
}

/// A run that was stopped before any of the things that it sends to Redis, with a deletion meanwhile, goes on and ends
/// without the rows, and so does one that is killed there and run again.
#[test]
fn a_run_that_meets_a_deletion_anywhere_ends_without_the_rows() {
    let redis = RedisServer::start_with(&["--databases", "64"]);
    let run = ["materialize", "--online-only"];
    let calls = count(&on_redis(&redis.database_url(0)), &run, Calls::Socket);
    let mut met = 0;
    for (number, at) in (1..).zip(spread(calls, 8)) {
        for is_killed in [false, true] {
            let database = 2 * number + u16::from(is_killed);
            let repo = on_redis(&redis.database_url(database));
            let Some(stopped) = stop(&repo, &run, Calls::Socket, at) else {
                // How many of a run's commands go out in one call is chance, so that one run makes a few calls less.
                continue;
            };
            met += 1;
            repo.done(DELETE);
            let story = format!("call {at} of {calls}, killed: {is_killed}");
            match is_killed {
                true => drop(stopped),
                false => {
                    let (ended, _) = stopped.go_on();
                    // One that stood still for too long hears nothing of what it had asked Redis.
                    assert!(matches!(ended.code, Some(0 | 1)), "{story}: {ended:?}");
                    if ended.code == Some(0) {
                        assert_eq!(found(&repo), without_1(), "{story}");
                    }
                }
            }
            repo.done(&["materialize"]);
            assert_eq!(found(&repo), without_1(), "{story}");
            repo.done(&["verify"]);
        }
    }
    assert!(met >= 8, "only {met} runs met a deletion");
}
