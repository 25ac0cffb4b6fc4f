//! Faults of Redis as a caller of the service meets them, over gRPC: the real service, a real Redis, the Rust client.
//!
//! Always: every request is answered within its deadline, with data or with an error that names the store and can be
//! tried again; no answer is older than what was acknowledged before it was asked for; a row that is there is found;
//! and the service goes on by itself within a second of Redis' first answer.

mod traffic;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use tokio::task::block_in_place;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use vintner_ops::{
    Fault, Operations as _, OpsError,
    api::{MaterializeRequest, Scope},
};
use vintner_server::Client;
use vintner_testkit::redis::{MASTER, Proxy, RedisSentinel, RedisServer};

use self::traffic::{Traffic, Truth, limits, limits_after, push};
use crate::{
    harness::{Repo, Service, until},
    stores::{Deployment, assert_alike},
};

/// The moment at which runs run whose results are compared, after everything in the data.
const NOW: &str = "2026-04-01T00:00:00Z";

/// How long after Redis' first answer the service may take to answer again.
const RECOVERY: Duration = Duration::from_secs(1);

/// How long a request to a store that does not answer may take when its caller has all the time: what the store is
/// given, and something for a machine that is busy.
const STORE_TIMEOUT: Duration = Duration::from_millis(2000 + 1000);

/// More than any request takes.
const LONG: Duration = Duration::from_secs(20);

/// Nothing that was acknowledged is lost when the server is killed; and a snapshot takes its time to be read.
const KEPT: [&str; 8] = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--key-load-delay",
    "300",
    "--loading-process-events-interval-bytes",
    "1024",
];

/// How many customers there are in the data; all have a profile.
const CUSTOMERS: usize = 2000;

/// A repo whose online store is in Redis as said, applied, with data.
fn repo_on(redis: &str) -> Repo {
    applied(Repo::new(), redis)
}

fn applied(repo: Repo, redis: &str) -> Repo {
    let embedded = "online_store: {type: embedded, path: .vintner/online}";
    let online = format!("online_store: {{type: redis, {redis}}}");
    repo.replace("vintner.yaml", embedded, &online);
    let mut profiles = fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
    for id in 4..=CUSTOMERS {
        let _ = writeln!(profiles, "{id},2026-01-05T08:00:00Z,free,0.5");
    }
    repo.write("data/profiles.csv", &profiles);
    repo.done(&["apply", "--yes"]);
    repo
}

fn url(address: &str) -> String {
    format!("url: \"redis://{address}\"")
}

async fn client(service: &Service) -> Client {
    Client::connect(&service.url).await.unwrap()
}

/// What the service says of its health to those who ask over gRPC.
async fn is_healthy(service: &Service) -> bool {
    let channel = Endpoint::from_shared(service.url.clone()).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let mut said = Vec::new();
    for name in ["", "vintner.v1.OnlineService"] {
        let request = HealthCheckRequest {
            service: name.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        said.push(answer.status);
    }
    assert_eq!(said[0], said[1], "the whole, and the online service");
    said[0] == 1
}

/// How many online requests were answered with each code, as the service has counted them.
fn codes(service: &Service) -> BTreeMap<String, u64> {
    let method = "vintner_grpc_request_duration_seconds_count{method=\"vintner.v1.OnlineService/GetOnlineFeatures\",code=\"";
    let metrics = service.page("/metrics").1;
    let counts = metrics.lines().filter_map(|line| {
        let (code, count) = line.strip_prefix(method)?.split_once("\"} ")?;
        Some((code.to_owned(), count.parse().unwrap()))
    });
    counts.collect()
}

/// Waits until a server answers, and then until a request is, which must not take long.
async fn comes_back(redis: &RedisServer, client: &Client, truth: &Truth) {
    block_in_place(|| until("Redis", || redis.answers()));
    let answered = Instant::now();
    while !truth.ask(client, LONG).await.is_data() {}
    let took = answered.elapsed();
    assert!(took < RECOVERY, "requests are answered after {took:?}");
}

/// One service lives through it all, and is never started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_service_lives_through_whatever_its_redis_does() {
    let mut redis = RedisServer::start_with(&KEPT);
    let repo = repo_on(&url(&redis.address()));
    repo.done(&["materialize"]);
    let store = format!("the online store {} ", redis.url());
    redis.kill();

    // It starts without Redis, says so, and is ready as soon as Redis is there.
    let service = repo.serve();
    let client = client(&service).await;
    let truth = Truth::new(&store);
    block_in_place(|| {
        until("that Redis is missed", || {
            service.page("/readyz").1.contains(&store)
        })
    });
    assert_eq!(service.page("/readyz").0, 503);
    assert!(!is_healthy(&service).await);
    let error = truth.ask(&client, LONG).await.error();
    assert_eq!(error.fault, Fault::Store, "{error}");
    assert_eq!(codes(&service), BTreeMap::from([("UNAVAILABLE".into(), 1)]));
    block_in_place(|| redis.restart());
    comes_back(&redis, &client, &truth).await;
    let ready = block_in_place(|| until("readiness", || service.page("/readyz").0 == 200));
    assert!(ready < RECOVERY, "ready after {ready:?}");
    assert!(is_healthy(&service).await);

    // Killed in mid-read, twice.
    for _ in 0..2 {
        let traffic = Traffic::start(&client, &truth, LONG).await;
        block_in_place(|| redis.kill());
        traffic.fails().await;
        block_in_place(|| redis.restart_unready());
        comes_back(&redis, &client, &truth).await;
        let seen = traffic.end().await;
        seen.check();
        assert!(seen.longest < STORE_TIMEOUT, "{seen:?}");
    }
    assert_codes(&service, &["OK", "UNAVAILABLE"]);

    // Paused for longer than the deadline, which is kept; and nothing is worked on that nobody waits for.
    let traffic = Traffic::start(&client, &truth, Duration::from_millis(200)).await;
    block_in_place(|| redis.stop());
    traffic.fails().await;
    traffic.end().await.check();
    let told = late(&client, Duration::from_millis(200), &truth).await;
    let [told, of_push] = told.map(|error| error.message.replace(&redis.url(), "REDIS"));
    assert_eq!(told, of_push);
    insta::assert_snapshot!(told, @"the online store REDIS did not answer within the deadline of 200ms; check that it runs and can be reached, then try again, or allow more time");
    block_in_place(|| until("an idle service", || service.in_flight() == 0.0));
    let late = codes(&service);
    assert!(LATE.iter().any(|code| late.contains_key(*code)), "{late:?}");
    redis.cont();
    comes_back(&redis, &client, &truth).await;
    assert_codes(&service, &["OK", "UNAVAILABLE"]);

    // Paused for longer than the store is given, by callers who have the time: they are told what does not answer.
    let traffic = Traffic::start(&client, &truth, LONG).await;
    block_in_place(|| redis.stop());
    traffic.fails().await;
    redis.cont();
    comes_back(&redis, &client, &truth).await;
    let seen = traffic.end().await;
    seen.check();
    assert!(seen.longest < STORE_TIMEOUT, "{seen:?}");

    // Full: a push is refused, reads go on, and the same push is done when there is room.
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let value = truth.next();
    let error = push(&client, 1, value).await.unwrap_err();
    assert_eq!(error.fault, Fault::Full, "{error}");
    let told = error.message.replace(&redis.url(), "REDIS");
    for part in [
        "the rows are in version ",
        "but not all of them in the online store: the online store REDIS is full; give it more room",
        "push them again with the same producer and sequence",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(truth.ask(&client, LONG).await.is_data());
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    push(&client, 1, value).await.unwrap();
    truth.acknowledged(value);
    assert!(truth.ask(&client, LONG).await.is_data());

    // Loading its snapshot.
    let _: String = redis.command(&["BGREWRITEAOF"]);
    block_in_place(|| {
        until("a snapshot", || {
            let info: String = redis.command(&["INFO", "persistence"]);
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        });
    });
    let traffic = Traffic::start(&client, &truth, LONG).await;
    block_in_place(|| redis.kill());
    traffic.fails().await;
    block_in_place(|| redis.restart_unready());
    comes_back(&redis, &client, &truth).await;
    let seen = traffic.end().await;
    seen.check();
    assert_codes(&service, &["OK", "UNAVAILABLE"]);
    let (code, log) = service.stop_with_log();
    assert_eq!(code, Some(0));
    assert!(log.contains("LOADING"), "{log}");
}

/// What a read and a push are told whose time is over while the store does not answer.
async fn late(client: &Client, allowed: Duration, truth: &Truth) -> [OpsError; 2] {
    let client = client.clone().with_deadline(allowed);
    // On a machine that is busy the caller's own clock may be the first to say so, or the time be over in the table.
    let by_store = |error: &OpsError| error.message.contains("did not answer within");
    let began = Instant::now();
    let asked = async || loop {
        let error = limits(&client, &[1]).await.unwrap_err();
        if by_store(&error) || began.elapsed() > LONG {
            return error;
        }
    };
    let pushed = async || loop {
        let error = push(&client, 1, truth.next()).await.unwrap_err();
        if by_store(&error) || began.elapsed() > LONG {
            return error;
        }
    };
    let errors = [asked().await, pushed().await];
    for error in &errors {
        assert_eq!(error.fault, Fault::Store, "{error}");
    }
    errors
}

/// What a call with a deadline ends with: the service's own clock, or the caller's, who then leaves.
const LATE: [&str; 2] = ["DEADLINE_EXCEEDED", "CANCELLED"];

/// Online requests were answered with each of these codes, and with no others but those of deadlines.
fn assert_codes(service: &Service, want: &[&str]) {
    let found = codes(service);
    let met = |code: &&String| !LATE.contains(&code.as_str());
    let met: Vec<_> = found.keys().filter(met).collect();
    assert_eq!(met, want, "{found:?}");
}

/// A password that Redis does not take (any more), and a server that is a replica: the service says so, and goes on by
/// itself when somebody has put it right.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redis_that_refuses_is_told_of_and_found_again() {
    const PASSWORD: &str = "open-sesame";
    let primary = RedisServer::start();
    let acl = |rule: &[&str]| {
        let _: String = primary.command(&[&["ACL", "SETUSER", "vintner"], rule].concat());
    };
    let takes = format!(">{PASSWORD}");
    acl(&["on", &takes, "~*", "&*", "+@all"]);
    let login = format!("vintner:{PASSWORD}@");
    let repo = repo_on(&url(&format!("{login}{}", primary.address())));
    repo.done(&["materialize"]);
    acl(&["resetpass", ">another"]);
    let service = repo.serve();
    let asking = client(&service).await;
    let truth = Truth::new(&format!("the online store {} ", primary.url()));
    let error = truth.ask(&asking, LONG).await.error();
    insta::assert_snapshot!(error.message.replace(&primary.url(), "REDIS"), @"the online store REDIS denies access; check the user, the password and the certificate that vintner.yaml gives, and what that user may do");
    block_in_place(|| {
        until("that the password is missed", || {
            service.page("/readyz").1.contains("denies access")
        });
    });
    acl(&[&takes]);
    comes_back(&primary, &asking, &truth).await;
    let (_, log) = service.stop_with_log();
    assert!(
        log.contains("Password authentication failed") && !log.contains(PASSWORD),
        "{log}"
    );

    let port = primary.port().to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    let keys = |server: &RedisServer| server.command::<u64>(&["DBSIZE"]);
    block_in_place(|| until("the rows", || keys(&replica) == keys(&primary)));
    let from = format!("{login}{}", primary.address());
    repo.replace("vintner.yaml", &from, &replica.address());
    let service = repo.serve();
    let asking = client(&service).await;
    let truth = Truth::new(&format!("the online store {} ", replica.url()));
    for _ in 0..2 {
        truth.ask(&asking, LONG).await.error();
        let error = push(&asking, 1, truth.next()).await.unwrap_err();
        assert_eq!(error.fault, Fault::Store, "{error}");
        block_in_place(|| {
            until("that the replica is told of", || {
                service.page("/readyz").1.contains("is a read-only replica")
            });
        });
        let _: String = replica.command(&["REPLICAOF", "NO", "ONE"]);
        comes_back(&replica, &asking, &truth).await;
        let value = truth.next();
        push(&asking, 1, value).await.unwrap();
        truth.acknowledged(value);
        assert!(truth.ask(&asking, LONG).await.is_data());
        // Made a replica again, as a sentinel does it.
        let _: String = replica.command(&["REPLICAOF", "127.0.0.1", &port]);
        let _: i64 = replica.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    assert_codes(&service, &["OK", "UNAVAILABLE"]);
}

/// The connection is cut at some byte of an answer, which nobody sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_that_is_cut_is_whole_at_the_caller() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.address()).await;
    let repo = repo_on(&url(&proxy.address()));
    block_in_place(|| repo.done(&["materialize"]));
    let service = repo.serve();
    let client = client(&service).await.with_deadline(LONG);
    let customers: Vec<i64> = (1..).take(CUSTOMERS + 10).collect();
    let want = limits(&client, &customers).await.unwrap();
    assert_eq!(want.iter().flatten().count(), CUSTOMERS);
    for after in [0, 1, 4, 5, 100, 1_000, 10_000, 20_000] {
        proxy.cut_after(after);
        assert_eq!(limits(&client, &customers).await.unwrap(), want);
        assert!(proxy.has_cut(), "after {after}");
    }
    for (value, after) in (1..).zip([0, 3, 30, 60]) {
        proxy.cut_after(after);
        push(&client, 3, value).await.unwrap();
        let found = limits(&client, &[3]).await.unwrap();
        assert_eq!(found, [Some(f64::from(value))]);
        assert!(proxy.has_cut(), "after {after}");
    }
    assert_codes(&service, &["OK"]);
}

/// The master dies before its replica has had a row that was acknowledged. Who asks with the token of the push is not
/// given an older row; and the next run brings the row back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_that_lost_a_push_is_told_to_who_must_see_it() {
    let mut redis = RedisSentinel::start(Duration::from_millis(700));
    let nodes = redis.addresses().join("\", \"");
    let repo = repo_on(&format!(
        "sentinel: {{master: {MASTER}, nodes: [\"{nodes}\"]}}"
    ));
    let service = repo.serve();
    let client = client(&service).await.with_deadline(LONG);
    let run = MaterializeRequest {
        views: Vec::new(),
        window: None,
        scope: Scope::Incremental,
    };
    client.materialize(&run, &|_| ()).await.unwrap();
    let kept = push(&client, 1, 1).await.unwrap().token;
    let first = redis.master();
    block_in_place(|| {
        redis.wait_for_replica(1 - first);
        redis.server(1 - first).stop();
        redis.server(first).drop_replicas();
    });
    let lost = push(&client, 1, 2).await.unwrap().token;
    assert_eq!(limits(&client, &[1]).await.unwrap(), [Some(2.0)]);
    block_in_place(|| {
        redis.server(first).kill();
        redis.server(1 - first).cont();
        redis.wait_for_failover(first);
    });
    let hurry = client.clone().with_deadline(Duration::from_millis(800));
    // Until the new master is found there may be other errors; never an answer.
    let error = loop {
        let error = limits_after(&hurry, &lost).await.unwrap_err();
        if error.fault == Fault::Behind {
            break error;
        }
        assert_eq!(error.fault, Fault::Store, "{error}");
    };
    insta::assert_snapshot!(error.message, @"the online store was started again or emptied since the rows of customer_profile@1 were pushed, and is loaded up to version 0 of the table; the rows that must be seen are in version 2; `vintner materialize customer_profile` brings them back");
    client.materialize(&run, &|_| ()).await.unwrap();
    for token in [&lost, &kept] {
        assert_eq!(limits_after(&client, token).await.unwrap(), [Some(2.0)]);
    }
    assert_eq!(limits(&client, &[1]).await.unwrap(), [Some(2.0)]);
}

/// A run through the service, in the midst of which Redis does not answer, or dies: it ends with an error in time, and
/// the next one, on the same service, leaves what a clean run does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_whose_redis_dies_ends_in_time_and_is_taken_up_again() {
    const ROWS: usize = 10_000;
    let mut redis = RedisServer::start_with(&KEPT[..4]);
    let repo = |database: u16| {
        let online = format!("url: \"{}\"", redis.database_url(database));
        let repo = applied(Repo::new().at(NOW), &online);
        let mut orders = fs::read_to_string(repo.path("data/orders.csv")).unwrap();
        for id in 8..ROWS {
            let _ = writeln!(orders, "{id},{id},2026-01-05T09:00:00Z,{id}.25");
        }
        repo.write("data/orders.csv", &orders);
        repo
    };
    let (clean, repo) = (repo(0), repo(1));
    block_in_place(|| clean.done(&["materialize"]));
    let clean = Deployment {
        story: "a clean run".to_owned(),
        online: redis.entries(0),
        repo: clean,
    };
    let service = repo.serve();
    let client = client(&service).await;
    let run = MaterializeRequest {
        views: Vec::new(),
        window: None,
        scope: Scope::Incremental,
    };
    redis.stop();
    let allowed = Duration::from_secs(1);
    let began = Instant::now();
    let hurry = client.clone().with_deadline(allowed);
    let error = hurry.materialize(&run, &|_| ()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Store, "{error}");
    let store = format!(
        "the online store {} did not answer within the deadline of 1s; ",
        redis.database_url(1)
    );
    let own = "has not answered before the deadline";
    assert!(
        error.message.contains(&store) || error.message.contains(own),
        "{error}"
    );
    assert!(began.elapsed() < 2 * allowed, "after {:?}", began.elapsed());
    redis.cont();

    let running = tokio::spawn({
        let (client, run) = (client.clone(), run.clone());
        async move { client.materialize(&run, &|_| ()).await }
    });
    let began = block_in_place(|| {
        until("some rows", || {
            redis.command::<u64>(&[
                "EVAL",
                "redis.call('SELECT', 1) return redis.call('DBSIZE')",
                "0",
            ]) > 100
        });
        redis.kill();
        Instant::now()
    });
    let error = running.await.unwrap().unwrap_err();
    assert!(
        began.elapsed() < 2 * STORE_TIMEOUT,
        "after {:?}",
        began.elapsed()
    );
    let store = format!(
        "the online store {} is not available",
        redis.database_url(1)
    );
    assert!(error.message.contains(&store), "{error}");
    assert_eq!(error.fault, Fault::Store, "{error}");
    block_in_place(|| redis.restart());
    let rows = redis.entries(1).len();
    assert!(
        100 < rows && rows < clean.online.len(),
        "{rows} rows are there"
    );
    client.materialize(&run, &|_| ()).await.unwrap();
    let story = "Redis was killed in the midst of it".to_owned();
    let online = redis.entries(1);
    assert_eq!(block_in_place(|| service.stop()), Some(0));
    block_in_place(|| {
        assert_alike(&[
            clean,
            Deployment {
                story,
                repo,
                online,
            },
        ])
    });
}
