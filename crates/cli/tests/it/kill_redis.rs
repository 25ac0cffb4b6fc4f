//! SIGKILL between the writes to Redis: of `materialize`, and of Redis itself. Run again, both stores are what a clean
//! run leaves. Every deployment of a test has a database of its own on the test's server.

use std::{cell::Cell, fmt::Write as _, time::Duration};

use vintner_testkit::redis::{RedisCluster, RedisServer};

use crate::{
    harness::{Ended, Repo},
    interrupt::{Calls, Stopped, count, kill, spread, stop},
    stores::{Deployment, Entries, assert_alike},
};

/// The moment at which all commands run, after everything in the data.
const NOW: &str = "2026-04-01T00:00:00Z";

/// Customers in the data: the rows of each view go to Redis in several pipelines, and their changes in one.
const CUSTOMERS: usize = 1500;

/// How many times each test interrupts, at most: evenly spread, the first call and the last one among them.
const POINTS: usize = 8;
/// A run that makes a few calls less than the one that was counted ends before the last of them.
const MOST_POINTS: usize = POINTS / 2 + 1;

/// How many of these must find Redis with some of the rows and not with all: a run has other things to say to it too.
const IN_THE_MIDST: usize = 3;

/// How long a view may take to find out that Redis has gone: an attempt to connect, an answer, and one repetition of
/// both. Reading and planning come on top.
const DEADLINE: Duration = Duration::from_secs(10);

const MATERIALIZE: [&str; 1] = ["materialize"];

/// A server whose databases are given out one by one.
struct Redis {
    server: RedisServer,
    given: Cell<u16>,
}

impl Redis {
    fn start(options: &[&str]) -> Self {
        Self {
            server: RedisServer::start_with(&[options, &["--databases", "64"]].concat()),
            given: Cell::new(0),
        }
    }

    /// A repo that is applied, with data, and its database.
    fn repo(&self) -> (Repo, u16) {
        let database = self.given.replace(self.given.get() + 1);
        let repo = Repo::new().at(NOW);
        repo.replace(
            "vintner.yaml",
            "online_store: {type: embedded, path: .vintner/online}",
            &format!(
                "online_store: {{type: redis, url: \"{}\"}}",
                self.server.database_url(database)
            ),
        );
        data(&repo, 1..CUSTOMERS, "2026-01-05");
        repo.done(&["apply", "--yes"]);
        (repo, database)
    }

    fn deployment(&self, story: String, (repo, database): (Repo, u16)) -> Deployment {
        Deployment {
            story,
            repo,
            online: self.server.entries(database),
        }
    }
}

/// Adds a profile and an order of a day for each of some customers.
fn data(repo: &Repo, customers: impl Iterator<Item = usize>, day: &str) {
    let read = |name: &str| std::fs::read_to_string(repo.path(name)).unwrap();
    let mut profiles = read("data/profiles.csv");
    let mut orders = read("data/orders.csv");
    for id in customers {
        let _ = writeln!(profiles, "{id},{day}T08:00:00Z,free,{id}.5");
        let _ = writeln!(orders, "{},{id},{day}T09:00:00Z,{id}.25", 100 + id);
    }
    repo.write("data/profiles.csv", &profiles);
    repo.write("data/orders.csv", &orders);
}

/// A clean run, and how many calls of a kind a run makes.
fn clean(redis: &Redis, before: &dyn Fn(&Repo), calls: Calls) -> (Deployment, usize) {
    let [clean, counted] = [(); 2].map(|()| {
        let (repo, database) = redis.repo();
        before(&repo);
        let count = count(&repo, &MATERIALIZE, calls);
        let story = "a clean run".to_owned();
        (redis.deployment(story, (repo, database)), count)
    });
    // The first run also had to give the server its script.
    let (_, count) = counted;
    assert!(count > 5, "the run made only {count} calls");
    (clean.0, count)
}

/// `materialize`, stopped before a call that sends something to Redis. None when it ended before: several batches are on
/// their way at one time, and how many of them go out in one call is chance.
fn stopped_before(repo: &Repo, at: usize) -> Option<Stopped> {
    stop(repo, &MATERIALIZE, Calls::Socket, at)
}

/// What a run said of the last view that failed, whichever Redis and whichever view it was: how many it was still at is
/// chance.
fn said(ended: &Ended, url: &str) -> String {
    let said = ended.stderr.lines().last().unwrap_or_default();
    let said = said.replace(url, "REDIS");
    let said = said.replace("customer_profile@1", "VIEW");
    said.replace("customer_orders@1", "VIEW")
}

/// Kills `materialize` between what it sends to Redis, runs it again, and compares with a clean run.
fn survives(before: &dyn Fn(&Repo)) {
    let redis = Redis::start(&[]);
    let (clean, calls) = clean(&redis, before, Calls::Socket);
    let mut deployments = vec![clean];
    let mut kills = 0;
    for at in spread(calls, POINTS) {
        let (repo, database) = redis.repo();
        before(&repo);
        let killed = kill(&repo, &MATERIALIZE, Calls::Socket, at);
        kills += usize::from(killed);
        repo.done(&MATERIALIZE);
        let story = format!("killed ({killed}) before call {at} of {calls}");
        deployments.push(redis.deployment(story, (repo, database)));
    }
    assert!(kills >= MOST_POINTS, "only {kills} runs were killed");
    assert_alike(&deployments);
}

#[test]
fn a_first_materialize_survives_a_kill_between_its_writes_to_redis() {
    survives(&|_| ());
}

#[test]
fn a_later_materialize_survives_a_kill_between_its_writes_to_redis() {
    survives(&|repo| {
        repo.done(&MATERIALIZE);
        data(repo, CUSTOMERS - 50..CUSTOMERS + 50, "2026-02-05");
    });
}

/// Kills Redis between what `materialize` sends, starts it again, runs `materialize` again, and compares with a clean
/// run. `kept` says whether Redis comes back with what it had.
fn redis_is_killed(options: &[&str], kept: bool) {
    let mut redis = Redis::start(options);
    let (clean, calls) = clean(&redis, &|_| (), Calls::Socket);
    let mut deployments = vec![clean];
    let (mut partly, mut told) = (0, String::new());
    for at in spread(calls, POINTS) {
        let (repo, database) = redis.repo();
        let Some(stopped) = stopped_before(&repo, at) else {
            continue;
        };
        redis.server.kill();
        let (ended, took) = stopped.go_on();
        let story = format!("Redis killed before call {at} of {calls}");
        assert_eq!(ended.code, Some(1), "{story}: {ended:?}");
        assert!(took < 2 * DEADLINE, "{story}: it took {took:?}");
        let url = redis.server.database_url(database);
        told = said(&ended, &url);
        assert!(
            told.contains("the online store REDIS is not available; check that it runs"),
            "{story}: {told}"
        );

        redis.server.restart();
        let rows = without(redis.server.entries(database), b"vn:life").len();
        assert!(kept || rows == 0, "{story}: it kept {rows} keys");
        partly += usize::from(rows > 1 && rows < deployments[0].online.len());
        repo.done(&MATERIALIZE);
        deployments.push(redis.deployment(story, (repo, database)));
    }
    assert!(
        !kept || partly >= IN_THE_MIDST,
        "only {partly} times Redis had a part of the rows"
    );
    insta::assert_snapshot!("redis_is_killed", told);
    assert!(deployments.len() > MOST_POINTS);
    assert_alike(&deployments);
}

#[test]
fn a_redis_that_is_killed_and_comes_back_empty_is_filled_again() {
    redis_is_killed(&[], false);
}

#[test]
fn a_redis_that_is_killed_and_comes_back_with_a_part_is_filled_up() {
    redis_is_killed(&["--appendonly", "yes", "--appendfsync", "always"], true);
}

/// Whoever watches over Redis may start it again so soon that the run sees no more than a lost connection.
#[test]
fn a_redis_that_comes_back_empty_while_it_is_loaded_is_not_taken_for_full() {
    let mut redis = Redis::start(&[]);
    let (clean, calls) = clean(&redis, &|_| (), Calls::Socket);
    let mut deployments = vec![clean];
    let mut told = None;
    for at in spread(calls, POINTS) {
        let (repo, database) = redis.repo();
        let Some(stopped) = stopped_before(&repo, at) else {
            continue;
        };
        redis.server.kill();
        redis.server.restart();
        let (ended, _) = stopped.go_on();
        let story = format!("Redis started again before call {at} of {calls}");
        match ended.code {
            // It says that all is done; then it must be.
            Some(0) => {}
            Some(1) => {
                told = Some(said(&ended, &redis.server.database_url(database)));
                repo.done(&MATERIALIZE);
            }
            _ => panic!("{story}: {ended:?}"),
        }
        deployments.push(redis.deployment(story, (repo, database)));
    }
    assert!(deployments.len() > MOST_POINTS);
    assert_alike(&deployments);
    insta::assert_snapshot!(told.expect("some run was told that rows may be missing"));
}

#[test]
fn a_redis_that_no_longer_answers_is_an_error_in_bounded_time() {
    let redis = Redis::start(&[]);
    let (clean, calls) = clean(&redis, &|_| (), Calls::Socket);
    let (repo, database) = redis.repo();
    let stopped = stopped_before(&repo, calls / 2).unwrap();
    redis.server.stop();
    let (ended, took) = stopped.go_on();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(took < 2 * DEADLINE, "it took {took:?}");
    let url = redis.server.database_url(database);
    insta::assert_snapshot!(said(&ended, &url));
    redis.server.cont();
    repo.done(&MATERIALIZE);
    let story = "Redis stopped and went on".to_owned();
    assert_alike(&[clean, redis.deployment(story, (repo, database))]);
}

/// One run stops before a call, another one runs from its beginning to its end, and the first one goes on.
#[test]
fn a_run_inside_another_run_ends_as_one() {
    let redis = Redis::start(&[]);
    let mut deployments = Vec::new();
    for calls in [Calls::Disk, Calls::Socket] {
        let (clean, count) = clean(&redis, &|_| (), calls);
        deployments.push(clean);
        for at in spread(count, POINTS) {
            let (repo, database) = redis.repo();
            let Some(outer) = stop(&repo, &MATERIALIZE, calls, at) else {
                // Threads race, so that one run makes a few calls less than another.
                continue;
            };
            repo.done(&MATERIALIZE);
            let (ended, _) = outer.go_on();
            let story = format!("a run before the call {at} of {count} ({calls:?}) of another");
            assert_eq!(ended.code, Some(0), "{story}: {ended:?}");
            deployments.push(redis.deployment(story, (repo, database)));
        }
    }
    assert!(
        deployments.len() >= 2 * POINTS,
        "only {} runs had another one inside",
        deployments.len() - 2
    );
    assert_alike(&deployments);
}

/// Entries without those whose keys begin so.
fn without(entries: Entries, prefix: &[u8]) -> Entries {
    let entries = entries.into_iter();
    entries
        .filter(|(key, _)| !key.starts_with(prefix))
        .collect()
}

/// The rows of an online store, without the marks of its servers and the notes of how far it is loaded: those of a cluster
/// say in which life they hold.
fn rows(entries: Entries) -> Entries {
    without(without(entries, b"vn:life"), b"vn:progress:")
}

#[test]
fn a_cluster_whose_primary_is_killed_is_filled_by_the_next_run() {
    let redis = Redis::start(&[]);
    let (clean, calls) = clean(&redis, &|_| (), Calls::Socket);
    let mut cluster = RedisCluster::start(Duration::from_secs(1));
    let (repo, database) = redis.repo();
    let urls: Vec<String> = cluster
        .urls()
        .iter()
        .map(|url| format!("\"{url}\""))
        .collect();
    repo.replace(
        "vintner.yaml",
        &format!("url: \"{}\"", redis.server.database_url(database)),
        &format!("cluster: [{}]", urls.join(", ")),
    );
    let stopped = stopped_before(&repo, calls / 2).unwrap();
    cluster.node(0).kill();
    let (ended, took) = stopped.go_on();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(took < 2 * DEADLINE, "it took {took:?}");
    assert!(
        ended.stderr.contains("the online store Redis Cluster at "),
        "{ended:?}"
    );
    cluster.wait_for_failover(0, 0);
    repo.done(&MATERIALIZE);
    let (got, want) = (rows(cluster.entries()), rows(clean.online));
    assert!(
        want.len() > CUSTOMERS,
        "the clean run left {} rows",
        want.len()
    );
    assert!(
        got == want,
        "{} rows, and a clean run leaves {}",
        got.len(),
        want.len()
    );
}
