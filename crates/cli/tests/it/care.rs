//! The care for stores where they are not one local Redis: `verify`, `teardown` and `doctor` through a service that has the
//! registry and the stores, and `doctor` on sentinels and on a cluster.

use std::time::Duration;

use serde_json::Value as Json;
use vintner_testkit::redis::{MASTER, PRIMARIES, RedisCluster, RedisSentinel};

use crate::{
    harness::{Ended, Repo, Service, until},
    truth::{World, is_empty, without_profiles},
};

/// A command that asks the service. The moment is the service's business.
fn served(world: &World, service: &Service, args: &[&str]) -> Ended {
    let args = [args, &["--server", &service.url]].concat();
    let mut command = world.repo.command(&args);
    Ended::of(command.env_remove("VINTNER_NOW"))
}

fn served_json(world: &World, service: &Service, args: &[&str]) -> (Option<i32>, Json) {
    let ended = served(world, service, &[args, &["--format", "json"]].concat());
    let json = serde_json::from_str(&ended.stdout);
    (
        ended.code,
        json.unwrap_or_else(|error| panic!("{error}: {ended:?}")),
    )
}

/// What was found, without how long it took.
fn without_times(mut found: Json) -> Json {
    for view in found.as_array_mut().unwrap() {
        view.as_object_mut().unwrap().remove("micros").unwrap();
    }
    found
}

#[test]
fn a_service_verifies_and_mends_its_own_stores_as_a_command_does() {
    for world in World::each(|_| {}) {
        let service = world.repo.serve();
        let (code, found) = served_json(&world, &service, &["verify"]);
        assert_eq!((code, found.as_array().unwrap().len()), (Some(0), 2));
        let whole = world.rows("customer_profile@1");
        world.spoil();
        let (code, found) = served_json(&world, &service, &["verify"]);
        assert_eq!(code, Some(1), "{found}");
        let local = world.repo.run(&["verify", "--format", "json"]);
        assert_eq!(local.code, Some(1), "{local:?}");
        let local: Json = serde_json::from_str(&local.stdout).unwrap();
        assert_eq!(without_times(found), without_times(local));

        let view = ["verify", "customer_profile"];
        let (code, found) = served_json(&world, &service, &[&view[..], &["--repair"]].concat());
        assert_eq!(
            (code, &found[0]["repaired"]),
            (Some(1), &Json::from(5)),
            "{found}"
        );
        let force = [&view[..], &["--repair=force"]].concat();
        let (code, found) = served_json(&world, &service, &force);
        assert_eq!(
            (code, &found[0]["repaired"]),
            (Some(0), &Json::from(1)),
            "{found}"
        );
        assert_eq!(served(&world, &service, &view).code, Some(0));
        assert!(world.rows("customer_profile@1") == whole);

        let unknown = served(&world, &service, &["verify", "customer_profiles"]);
        let local = world.repo.run(&["verify", "customer_profiles"]);
        assert_eq!(unknown.code, Some(2), "{unknown:?}");
        assert_eq!(unknown.stderr, local.stderr);
    }
}

#[test]
fn a_service_tears_down_what_nothing_uses_and_goes_on() {
    for world in World::each(|_| {}) {
        let service = world.repo.serve();
        let teardown = ["teardown", "customer_profile"];
        let yes = [&teardown[..], &["--yes"]].concat();
        // What it refuses, it refuses in the same words.
        let current = served(&world, &service, &yes);
        assert_eq!(current.code, Some(2), "{current:?}");
        assert_eq!(current.stderr, world.repo.run(&yes).stderr);
        without_profiles(&world.repo);
        let asks = served(&world, &service, &teardown);
        assert_eq!(asks.code, Some(2), "{asks:?}");
        assert_eq!(asks.stderr, world.repo.run(&teardown).stderr);
        assert!(!is_empty(&world, "customer_profile@1"));

        let orders = world.rows("customer_orders@1");
        let (code, done) = served_json(&world, &service, &yes);
        assert_eq!(code, Some(0), "{done}");
        let rows = done[0]["online_rows"].as_u64().unwrap();
        assert!(rows > 40 && done[0]["files"].as_u64() > Some(0), "{done}");
        assert!(is_empty(&world, "customer_profile@1"));
        let table = world.repo.path(".vintner/offline/shop/customer_profile/v1");
        assert!(!table.exists());
        assert!(world.rows("customer_orders@1") == orders);
        let (code, again) = served_json(&world, &service, &yes);
        assert_eq!((code, &again[0]["online_rows"]), (Some(0), &Json::from(0)));

        let asked = [
            "get-online",
            "--features",
            "customer_orders",
            "--entity",
            "customer_id=1",
        ];
        assert_eq!(served(&world, &service, &asked).code, Some(0));
        assert_eq!(served(&world, &service, &["verify"]).code, Some(0));
        assert_eq!(service.stop(), Some(0));
    }
}

fn healths(found: &Json) -> Vec<String> {
    let word = |part: &Json, name: &str| part[name].as_str().unwrap().to_owned();
    let parts = found.as_array().unwrap().iter();
    parts
        .map(|part| format!("{} {}", word(part, "part"), word(part, "health")))
        .collect()
}

#[test]
fn a_service_looks_at_its_own_stores() {
    let [_, mut world] = World::each(|_| {});
    let service = world.repo.serve();
    let doctor = || served_json(&world, &service, &["doctor"]);
    let (code, found) = doctor();
    // Its clock stands still at another time than that of Redis.
    let mut want = [
        "service good",
        "registry good",
        "offline store good",
        "online store warning",
        "clock good",
    ];
    assert_eq!(
        (code, healths(&found)),
        (Some(0), want.map(str::to_owned).to_vec())
    );
    let (_, local) = {
        let ended = world.repo.run(&["doctor", "--format", "json"]);
        (
            ended.code,
            serde_json::from_str::<Json>(&ended.stdout).unwrap(),
        )
    };
    for at in 1..4 {
        assert_eq!(found[at]["place"], local[at]["place"]);
    }
    world.redis.as_mut().unwrap().kill();
    let (code, found) = served_json(&world, &service, &["doctor"]);
    want[3] = "online store broken";
    assert_eq!(
        (code, healths(&found)),
        (Some(1), want.map(str::to_owned).to_vec())
    );
    let advice = found[3]["advice"][0].as_str().unwrap();
    assert!(advice.contains("is not available"), "{advice}");
    service.stop();
    let gone = Repo::run(&world.repo, &["doctor"]);
    assert_eq!(gone.code, Some(1));
}

/// A repo with its online store in these servers.
fn repo_on(redis: &str) -> Repo {
    let repo = Repo::new();
    let embedded = "online_store: {type: embedded, path: .vintner/online}";
    let online = format!("online_store: {{type: redis, {redis}}}");
    repo.replace("vintner.yaml", embedded, &online);
    repo
}

/// What the doctor says of the online store, and the exit code.
fn doctor(repo: &Repo) -> (Option<i32>, Json) {
    let ended = repo.run(&["doctor", "--format", "json"]);
    let found: Json =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    (ended.code, found[3].clone())
}

#[test]
fn the_doctor_looks_at_the_master_that_sentinels_name() {
    let mut redis = RedisSentinel::start(Duration::from_millis(700));
    let nodes = redis.addresses().join("\", \"");
    let repo = repo_on(&format!(
        "sentinel: {{master: {MASTER}, nodes: [\"{nodes}\"]}}"
    ));
    let (code, found) = doctor(&repo);
    assert_eq!(
        (code, &found["health"]),
        (Some(0), &Json::from("good")),
        "{found}"
    );
    let place = found["place"].as_str().unwrap();
    assert!(
        place.starts_with(&format!("Redis master `{MASTER}` of the sentinels ")),
        "{place}"
    );
    assert_eq!(found["facts"]["role"], "master");
    assert_eq!(found["facts"]["replicas"], "1");
    assert_eq!(found["facts"]["cluster"], "0");
    for call in ["write", "read", "delete"] {
        assert!(found["latency_micros"][call].as_u64().is_some(), "{found}");
    }
    let old = redis.master();
    redis.server(old).kill();
    redis.wait_for_failover(old);
    let (code, found) = doctor(&repo);
    assert_eq!(
        (code, &found["health"]),
        (Some(0), &Json::from("good")),
        "{found}"
    );
    assert_eq!(found["facts"]["replicas"], "0");
    (0..3).for_each(|sentinel| redis.sentinel(sentinel).kill());
    let (code, found) = doctor(&repo);
    assert_eq!(
        (code, &found["health"]),
        (Some(1), &Json::from("broken")),
        "{found}"
    );
}

#[test]
fn the_doctor_looks_at_every_primary_of_a_cluster() {
    let mut redis = RedisCluster::start(Duration::from_secs(1));
    let urls = redis.urls().join("\", \"");
    let repo = repo_on(&format!("cluster: [\"{urls}\"]"));
    let (code, found) = doctor(&repo);
    assert_eq!(
        (code, &found["health"]),
        (Some(0), &Json::from("good")),
        "{found}"
    );
    let version = found["facts"]["version"].as_str().unwrap();
    assert!(version.ends_with(", 3 primaries"), "{version}");
    for node in 0..PRIMARIES {
        let of = redis.node(node).address();
        for (fact, want) in [("role", "master"), ("replicas", "1"), ("cluster", "1")] {
            assert_eq!(found["facts"][format!("{fact} of {of}")], want, "{found}");
        }
        assert!(
            found["facts"]
                .get(format!("clock difference of {of}"))
                .is_some(),
            "{found}"
        );
    }
    // One primary is set up wrong: it is named.
    let wrong = redis.node(1).address();
    let _: String = redis
        .node(1)
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let (code, found) = doctor(&repo);
    assert_eq!(
        (code, &found["health"]),
        (Some(0), &Json::from("warning")),
        "{found}"
    );
    let advice = found["advice"][0].as_str().unwrap();
    assert!(
        advice.starts_with(&format!("the maxmemory-policy of {wrong} is allkeys-lru")),
        "{advice}"
    );
    let _: String = redis
        .node(1)
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    // One dies with its replica: slots are not served.
    redis.node(PRIMARIES).kill();
    redis.node(0).kill();
    until("that slots are missed", || {
        doctor(&repo).1["health"] == "broken"
    });
    redis.node(0).restart();
    until("that all is well", || doctor(&repo).1["health"] == "good");
}
