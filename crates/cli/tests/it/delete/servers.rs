//! Deletions from servers that fail: killed between what they send to Redis, and with a primary that is killed in their
//! midst, or after them with what its replica has not had. Whatever is done next leaves what one clean deletion leaves.

use std::{fmt::Write as _, fs, time::Duration};

use vintner_core::{EntityKey, JoinKey, KeySchema, KeyType, KeyValue};
use vintner_testkit::redis::{MASTER, PRIMARIES, RedisCluster, RedisSentinel, RedisServer};

use super::{on, statuses};
use crate::{
    harness::{Repo, until},
    interrupt::{Calls, count, kill, spread, stop},
    stores::{Deployment, Entries, assert_alike},
};

/// How many customers are deleted at a time: more than are replaced in two batches.
const PART: usize = 300;
/// The first of them. There are some before it that stay.
const FIRST: usize = 100;
const PARTS: usize = 16;

/// How long a server may be away before its replica takes over.
const IMPATIENT: Duration = Duration::from_millis(700);

/// How many points there are at which a deletion is killed, at most.
const POINTS: usize = 8;

const MATERIALIZE: &[&str] = &["materialize"];

/// A repo with its online rows in Redis, and a file of each part of the customers.
fn filled(redis: &str) -> Repo {
    on(Some(redis), |repo| {
        let mut profiles = fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
        for id in FIRST / 2..FIRST + PARTS * PART {
            let _ = writeln!(profiles, "{id},2026-01-05T08:00:00Z,free,{id}.5");
        }
        repo.write("data/profiles.csv", &profiles);
        for part in 0..PARTS {
            let ids = customers(part).map(|id| format!("{id}\n"));
            let ids: String = ids.collect();
            repo.write(&file(part), &format!("customer_id\n{ids}"));
        }
    })
}

fn file(part: usize) -> String {
    format!("data/part{part}.csv")
}

/// The customers of a part. The first one of all was pushed.
fn customers(part: usize) -> impl Iterator<Item = usize> {
    let first = FIRST + part * PART;
    (part == 0)
        .then_some(1)
        .into_iter()
        .chain(first..first + PART)
}

/// A command that deletes a part of the customers.
fn delete(file: &str) -> Vec<&str> {
    vec!["delete", "customer_profile", "--entity-rows", file, "--yes"]
}

/// The keys of a part's online rows.
fn keys(part: usize) -> Vec<Vec<u8>> {
    let schema = KeySchema::new(vec![JoinKey {
        name: "customer_id".parse().unwrap(),
        key_type: KeyType::Int64,
    }]);
    let schema = schema.unwrap();
    let key = |id: usize| {
        let id = KeyValue::Int64(i64::try_from(id).unwrap());
        let key = EntityKey::encode(&schema, &[id]).unwrap();
        [b"vn:{shop|", key.as_bytes(), b"}:customer_profile@1"].concat()
    };
    customers(part).map(key).collect()
}

/// How many of a part's rows are among these.
fn rows_of(part: usize, entries: &Entries) -> usize {
    let keys = keys(part).into_iter();
    keys.filter(|key| entries.contains_key(key)).count()
}

/// How many commits the view's table has.
fn commits(repo: &Repo) -> usize {
    let log = repo.path(".vintner/offline/shop/customer_profile/v1/_delta_log");
    fs::read_dir(log).unwrap().count()
}

/// What is in a cluster, as it would be on one server: there the notes of loads do not say in which life they hold.
fn as_of_one(entries: Entries) -> Entries {
    let note = |(key, value): (Vec<u8>, Vec<u8>)| {
        let life = value.iter().position(|byte| *byte == b'\n');
        match (key.starts_with(b"vn:progress:"), life) {
            (true, Some(end)) => (key, value[end + 1..].to_vec()),
            _ => (key, value),
        }
    };
    entries.into_iter().map(note).collect()
}

#[test]
fn a_deletion_survives_a_kill_between_what_it_sends_to_redis() {
    let redis = RedisServer::start_with(&["--databases", "64"]);
    let repo = |database: u16| filled(&format!("url: \"{}\"", redis.database_url(database)));
    let deployment = |story: &str, repo: Repo, database: u16| Deployment {
        story: story.to_owned(),
        online: redis.entries(database),
        repo,
    };
    let file = file(0);
    let delete = delete(&file);
    let clean = repo(0);
    let before = commits(&clean);
    let calls = count(&clean, &delete, Calls::Socket);
    clean.done(MATERIALIZE);
    let mut deployments = vec![deployment("a clean deletion", clean, 0)];
    let (mut killed, mut partly) = (0, 0);
    // How many of a run's commands go out in one call is chance, so that one makes a few calls more or less.
    for (number, at) in (0..).zip(spread(calls + 2, POINTS)) {
        for (offset, next) in [(1, &delete[..]), (2, MATERIALIZE)] {
            let database = 2 * number + offset;
            let repo = repo(database);
            if !kill(&repo, &delete, Calls::Socket, at) {
                continue;
            }
            let online = rows_of(0, &redis.entries(database));
            let story =
                format!("killed before call {at} of {calls} with {online} rows, then {next:?}");
            if commits(&repo) == before {
                // Nothing is deleted yet, and so it stays.
                repo.done(MATERIALIZE);
                assert_eq!(online, PART + 1, "{story}");
                assert_eq!(rows_of(0, &redis.entries(database)), PART + 1, "{story}");
                repo.done(&["verify"]);
                repo.done(&delete);
            } else {
                killed += 1;
                partly += usize::from((1..=PART).contains(&online));
                repo.done(next);
            }
            assert_eq!(rows_of(0, &redis.entries(database)), 0, "{story}");
            repo.done(&["verify"]);
            repo.done(MATERIALIZE);
            deployments.push(deployment(&story, repo, database));
        }
    }
    assert!(
        killed >= POINTS / 2 && partly >= 2,
        "{killed} deletions of {calls} calls were killed between the stores, {partly} of them in the midst of the rows"
    );
    assert_alike(&deployments);
}

/// Servers that have replicas.
enum Fleet {
    Cluster(RedisCluster),
    Sentinel(RedisSentinel),
}

impl Fleet {
    /// How `vintner.yaml` names them.
    fn named(&self) -> String {
        match self {
            Self::Cluster(cluster) => format!("cluster: {:?}", cluster.urls()),
            Self::Sentinel(sentinel) => {
                format!(
                    "sentinel: {{master: {MASTER}, nodes: {:?}}}",
                    sentinel.addresses()
                )
            }
        }
    }

    /// The places of the servers that serve, each with all that it has.
    fn serving(&mut self) -> Vec<(usize, Entries)> {
        match self {
            Self::Cluster(cluster) => {
                let owners = (0..PRIMARIES).map(|third| cluster.owner(slot(third)).unwrap());
                let owners: Vec<usize> = owners.collect();
                let nodes = owners.into_iter();
                nodes
                    .map(|node| (node, cluster.nodes()[node].entries(0)))
                    .collect()
            }
            Self::Sentinel(sentinel) => {
                let master = sentinel.master();
                vec![(master, sentinel.server(master).entries(0))]
            }
        }
    }

    /// All that is stored.
    fn entries(&mut self) -> Entries {
        self.serving()
            .into_iter()
            .flat_map(|(_, entries)| entries)
            .collect()
    }

    /// Cuts the replica of a server off: it misses what is written from now on.
    fn cut_off(&mut self, place: usize) {
        match self {
            Self::Cluster(cluster) => {
                let replica = cluster.replica_of(place);
                cluster.node(replica).stop();
                cluster.node(place).drop_replicas();
            }
            Self::Sentinel(sentinel) => {
                sentinel.server(1 - place).stop();
                sentinel.server(place).drop_replicas();
            }
        }
    }

    /// Kills a server whose replica was not cut off.
    fn kill(&mut self, place: usize) {
        match self {
            Self::Cluster(cluster) => cluster.node(place).kill(),
            Self::Sentinel(sentinel) => sentinel.server(place).kill(),
        }
    }

    /// Waits until the replica of a server that was killed has taken over.
    fn wait_for_failover(&mut self, place: usize) {
        match self {
            Self::Cluster(cluster) => cluster.wait_for_failover(slot(place % PRIMARIES), place),
            Self::Sentinel(sentinel) => sentinel.wait_for_failover(place),
        }
    }

    /// Kills a server whose replica was cut off, which takes over with what it has.
    fn kill_and_lose(&mut self, place: usize) {
        match self {
            Self::Cluster(cluster) => drop(cluster.kill_owner(slot(place % PRIMARIES))),
            Self::Sentinel(sentinel) => {
                sentinel.server(place).kill();
                sentinel.server(1 - place).cont();
                sentinel.wait_for_failover(place);
            }
        }
    }

    /// Starts a server that was killed again: it becomes a replica, and has all.
    fn come_back(&mut self, place: usize) {
        match self {
            Self::Cluster(cluster) => {
                cluster.node(place).restart();
                cluster.wait_until_sound();
            }
            Self::Sentinel(sentinel) => {
                sentinel.server(place).restart();
                sentinel.wait_for_replica(place);
            }
        }
    }
}

/// The first slot of the primary that a cluster has in a place at first.
fn slot(place: usize) -> u16 {
    u16::try_from(place * 16_384 / PRIMARIES).unwrap()
}

fn failovers_are_survived(mut fleet: Fleet) {
    let one = RedisServer::start();
    let clean = filled(&format!("url: \"{}\"", one.url()));
    let repo = filled(&fleet.named());
    let service = repo.serve();
    let asked: Vec<usize> = (0..PARTS)
        .map(|part| customers(part).last().unwrap())
        .collect();
    let asked = [&[1, 2][..], &asked].concat();
    let told = |missing: std::ops::Range<usize>| {
        // The service may have to find the server that has taken over.
        let mut want = vec!["PRESENT"; asked.len()];
        want[2..][missing.clone()].fill("NOT_FOUND");
        if missing.contains(&0) {
            want[0] = "NOT_FOUND";
        }
        until("what the service must say", || {
            statuses(&repo, &service, &asked) == want
        });
    };
    told(0..0);
    let parts: Vec<String> = (0..PARTS).map(file).collect();
    let calls = count(&repo, &delete(&parts[0]), Calls::Socket);
    told(0..1);

    // Killed when some rows of a part are gone and some are not. Where that is is chance, so there are some attempts.
    let (mut ends, mut gone) = ((calls / 2..=calls + 1).rev().cycle(), 1);
    let killed = loop {
        assert!(gone + 1 < PARTS, "no deletion was met in its midst");
        let delete = delete(&parts[gone]);
        let Some(stopped) = stop(&repo, &delete, Calls::Socket, ends.next().unwrap()) else {
            gone += 1;
            continue;
        };
        let serving = fleet.serving();
        let left = serving
            .iter()
            .map(|(place, entries)| (place, rows_of(gone, entries)));
        let left: Vec<_> = left.filter(|(_, rows)| *rows > 0).collect();
        let rows: usize = left.iter().map(|(_, rows)| rows).sum();
        if let (Some((place, _)), true) = (left.first(), rows < PART) {
            let place = **place;
            fleet.kill(place);
            let (ended, _) = stopped.go_on();
            // It may be over when the replica has taken its place; else it says how to go on.
            if ended.code != Some(0) {
                assert_eq!(ended.code, Some(1), "{ended:?}");
                for part in [
                    "the rows are gone from version ",
                    "but not all of them from the online store: ",
                    "delete them again, or run `vintner materialize customer_profile`",
                ] {
                    assert!(ended.stderr.contains(part), "{ended:?}");
                }
            }
            fleet.wait_for_failover(place);
            repo.done(&delete);
            break place;
        }
        let (ended, _) = stopped.go_on();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        gone += 1;
    };
    gone += 1;
    repo.done(&["verify"]);
    told(0..gone);
    fleet.come_back(killed);

    // Done, and lost where a replica takes over that has not heard of it: the next run sees to it.
    for file in &parts[gone..PARTS - 1] {
        repo.done(&delete(file));
    }
    // The one that was killed is asked for what it knows of the cluster: another one must be away.
    let is_other = |place: &usize| place % PRIMARIES != killed % PRIMARIES;
    let mut serving = fleet.serving().into_iter().map(|(place, _)| place);
    let place = serving.find(is_other).unwrap();
    fleet.cut_off(place);
    repo.done(&delete(&parts[PARTS - 1]));
    assert_eq!(rows_of(PARTS - 1, &fleet.entries()), 0);
    fleet.kill_and_lose(place);
    assert!(rows_of(PARTS - 1, &fleet.entries()) > 0, "nothing was lost");
    repo.done(MATERIALIZE);
    repo.done(&["verify"]);
    told(0..PARTS);
    assert_eq!(service.stop(), Some(0));

    for file in &parts {
        clean.done(&delete(file));
    }
    clean.done(MATERIALIZE);
    assert_alike(&[
        Deployment {
            story: "clean deletions".to_owned(),
            repo: clean,
            online: one.entries(0),
        },
        Deployment {
            story: "failovers".to_owned(),
            online: as_of_one(fleet.entries()),
            repo,
        },
    ]);
}

#[test]
fn a_deletion_survives_failovers_of_a_cluster() {
    failovers_are_survived(Fleet::Cluster(RedisCluster::start(IMPATIENT)));
}

#[test]
fn a_deletion_survives_failovers_by_sentinels() {
    failovers_are_survived(Fleet::Sentinel(RedisSentinel::start(IMPATIENT)));
}
