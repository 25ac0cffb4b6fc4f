//! The online store and the tables: `verify` finds, explains and mends every kind of difference, `materialize
//! --online-only` fills an empty store, `teardown` deletes what nothing uses, in both stores.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use vintner_core::{EntityKey, JoinKey, KeySchema, KeyType, KeyValue, RowTime, Timestamp, ViewId};
use vintner_online::{
    EmbeddedStore, Lookup, OnlineRow, OnlineStore, PackedRow, RedisStore, Replacement,
};
use vintner_testkit::redis::RedisServer;

use crate::{
    harness::Repo,
    interrupt::{Calls, count, kill, spread},
};

/// The moment at which all commands run, long after everything in the data.
const NOW: &str = "2026-04-01T00:00:00Z";
const CUSTOMERS: i64 = 40;

/// A deployment whose online store can be reached around Vintner.
pub(crate) struct World {
    pub(crate) repo: Repo,
    pub(crate) redis: Option<RedisServer>,
}

impl World {
    /// One with each kind of store, applied and materialized.
    pub(crate) fn each(change: impl Fn(&Repo)) -> [Self; 2] {
        [None, Some(RedisServer::start())].map(|redis| {
            let repo = Repo::new().at(NOW);
            if let Some(redis) = &redis {
                repo.replace(
                    "vintner.yaml",
                    "online_store: {type: embedded, path: .vintner/online}",
                    &format!("online_store: {{type: redis, url: \"{}\"}}", redis.url()),
                );
            }
            let read = |name: &str| std::fs::read_to_string(repo.path(name)).unwrap();
            let mut profiles = read("data/profiles.csv");
            for id in 100..100 + CUSTOMERS {
                let _ = writeln!(profiles, "{id},2026-01-05T08:00:00Z,free,{id}.5");
            }
            repo.write("data/profiles.csv", &profiles);
            change(&repo);
            repo.done(&["apply", "--yes"]);
            repo.done(&["materialize"]);
            Self { repo, redis }
        })
    }

    fn store<T>(&self, work: impl AsyncFnOnce(Arc<dyn OnlineStore>) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store: Arc<dyn OnlineStore> = match &self.redis {
                Some(redis) => Arc::new(RedisStore::new(redis.url().parse().unwrap()).unwrap()),
                None => {
                    let folder = self.repo.path(".vintner/online");
                    Arc::new(EmbeddedStore::open(&folder).await.unwrap())
                }
            };
            work(store).await
        })
    }

    /// Everything that is stored of customers, by id.
    pub(crate) fn rows(&self, view: &str) -> Vec<(i64, Option<Vec<u8>>)> {
        let ids: Vec<_> = (1..10).chain(100..100 + CUSTOMERS).chain([9001]).collect();
        let keys: Vec<_> = ids.iter().map(|id| key(*id)).collect();
        let view: ViewId = view.parse().unwrap();
        self.store(async |store| {
            let lookup = Lookup {
                view: &view,
                keys: &keys,
                cache: None,
            };
            let rows = store.read(&project(), &[lookup]).await;
            let rows = rows.unwrap().remove(0);
            let rows = rows.into_iter().map(|row| row.map(|row| row.to_vec()));
            ids.into_iter().zip(rows).collect()
        })
    }

    /// Puts bytes in the place of a customer's row, or takes it away.
    fn tamper(&self, id: i64, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let (view, keys) = ("customer_profile@1".parse().unwrap(), [key(id)]);
        self.store(async |store| {
            let lookup = Lookup {
                view: &view,
                keys: &keys,
                cache: None,
            };
            let stored = store
                .read(&project(), &[lookup])
                .await
                .unwrap()
                .remove(0)
                .remove(0);
            let seen = stored.unwrap();
            let row = change(&seen).map(|bytes| PackedRow::from_bytes(bytes).unwrap());
            let [key] = keys.clone();
            let replacement = Replacement { key, seen, row };
            let done = store.replace(&project(), &view, None, &[replacement]).await;
            assert_eq!(done.unwrap(), 1);
        });
    }

    /// One difference of each kind.
    pub(crate) fn spoil(&self) {
        self.tamper(100, |_| None);
        self.tamper(101, |row| Some(at(row, "2026-01-05T07:59:59.999999Z")));
        self.tamper(102, |row| Some(at(row, "2026-01-05T08:00:00.000001Z")));
        self.tamper(103, |row| {
            let mut row = row.to_vec();
            let last = row.len() - 1;
            row[last] ^= 1; // the last letter of the plan
            Some(row)
        });
        self.tamper(104, |row| Some(row[..row.len() - 1].to_vec()));
        let (view, from) = ("customer_profile@1".parse().unwrap(), [key(105)]);
        self.store(async |store| {
            let lookup = Lookup {
                view: &view,
                keys: &from,
                cache: None,
            };
            let row = store
                .read(&project(), &[lookup])
                .await
                .unwrap()
                .remove(0)
                .remove(0);
            let row = at(&row.unwrap(), "2026-01-05T08:00:00Z");
            let row = PackedRow::from_bytes(row).unwrap();
            let extra = OnlineRow {
                key: key(9001),
                row,
            };
            store
                .write(&project(), &view, None, &[extra])
                .await
                .unwrap();
        });
    }

    fn verify(&self, args: &[&str]) -> (Option<i32>, Json) {
        let args = [&["verify", "customer_profile", "--format", "json"], args].concat();
        let ended = self.repo.run(&args);
        let found: Json = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        (ended.code, found[0].clone())
    }
}

fn project() -> vintner_core::ProjectName {
    "shop".parse().unwrap()
}

fn key(id: i64) -> EntityKey {
    let join_key = JoinKey {
        name: "customer_id".parse().unwrap(),
        key_type: KeyType::Int64,
    };
    let schema = KeySchema::new(vec![join_key]).unwrap();
    EntityKey::encode(&schema, &[KeyValue::Int64(id)]).unwrap()
}

/// The same row with another event time.
fn at(row: &[u8], event: &str) -> Vec<u8> {
    let event: Timestamp = event.parse().unwrap();
    let mut row = row.to_vec();
    row[1..9].copy_from_slice(&(event.micros() ^ i64::MIN).to_be_bytes());
    // Made long ago, or a row that the table does not have would count as on its way there.
    let made = RowTime {
        event,
        created: event,
    }
    .created
    .micros();
    row[9..17].copy_from_slice(&(made ^ i64::MIN).to_be_bytes());
    row
}

const KINDS: [&str; 6] = ["missing", "extra", "older", "newer", "different", "corrupt"];

fn counts(found: &Json) -> [u64; 6] {
    KINDS.map(|kind| found[kind].as_u64().unwrap())
}

#[test]
fn every_kind_of_difference_is_found_told_and_mended() {
    for world in World::each(|_| {}) {
        let (code, found) = world.verify(&[]);
        assert_eq!((code, counts(&found)), (Some(0), [0; 6]), "{found}");
        assert!(found["same"].as_u64().unwrap() >= CUSTOMERS as u64);
        assert_eq!(found["same"], found["entities"]);
        let whole = world.rows("customer_profile@1");
        world.spoil();
        let told = world.repo.run(&["verify"]);
        assert_eq!(told.code, Some(1), "{told:?}");
        if world.redis.is_none() {
            insta::with_settings!({filters => vec![(r"\d+(\.\d+)? (µs|ms|s)\b", "[time]")]}, {
                insta::assert_snapshot!("differences", format!("{}{}", told.stdout, told.stderr));
            });
        }
        // A sample is the same each time.
        let (_, half) = world.verify(&["--sample", "50%"]);
        let (_, again) = world.verify(&["--sample", "50%"]);
        assert_eq!(half["entities"], again["entities"]);
        assert!(half["entities"].as_u64() < found["entities"].as_u64());
        assert_eq!(counts(&half), counts(&again));

        let (code, found) = world.verify(&["--repair"]);
        assert_eq!((code, counts(&found)), (Some(1), [1; 6]), "{found}");
        assert_eq!(found["repaired"], 5);
        let (code, found) = world.verify(&[]);
        assert_eq!(
            (code, counts(&found)),
            (Some(1), [0, 0, 0, 1, 0, 0]),
            "{found}"
        );
        let (code, found) = world.verify(&["--repair=force"]);
        assert_eq!(
            (code, &found["repaired"]),
            (Some(0), &Json::from(1)),
            "{found}"
        );
        let (code, found) = world.verify(&[]);
        assert_eq!((code, counts(&found)), (Some(0), [0; 6]), "{found}");
        assert!(world.rows("customer_profile@1") == whole);
    }
}

#[test]
fn what_was_made_just_now_may_be_on_its_way_to_the_table() {
    for world in World::each(|_| {}) {
        world.spoil();
        // Made at the moment at which the commands run.
        let now: Timestamp = NOW.parse().unwrap();
        for (ago, want) in [(299_999_999, [0, 1]), (300_000_000, [1, 0])] {
            let view = "customer_profile@1".parse().unwrap();
            let made = now.micros() - ago;
            world.store(async |store| {
                let keys = [key(9001)];
                let lookup = Lookup {
                    view: &view,
                    keys: &keys,
                    cache: None,
                };
                let stored = store
                    .read(&project(), &[lookup])
                    .await
                    .unwrap()
                    .remove(0)
                    .remove(0);
                let seen = stored.unwrap();
                let mut row = seen.to_vec();
                row[9..17].copy_from_slice(&(made ^ i64::MIN).to_be_bytes());
                let row = Some(PackedRow::from_bytes(row).unwrap());
                let [key] = keys.clone();
                let done = [Replacement { key, seen, row }];
                assert_eq!(
                    store.replace(&project(), &view, None, &done).await.unwrap(),
                    1
                );
            });
            let (_, found) = world.verify(&[]);
            assert_eq!([&found["extra"], &found["recent"]], want, "{found}");
        }
    }
}

#[test]
fn a_repair_that_is_killed_anywhere_can_be_run_again() {
    let [_, world] = World::each(|_| {});
    let whole = world.rows("customer_profile@1");
    let repair = ["verify", "--repair=force"];
    world.spoil();
    let calls = count(&world.repo, &repair, Calls::Socket);
    let mut killed = 0;
    for at in spread(calls, 6) {
        world.spoil();
        // What is on its way at one time goes out in more or fewer calls, so the last ones may not come.
        killed += usize::from(kill(&world.repo, &repair, Calls::Socket, at));
        world.repo.run(&repair);
        let (code, found) = world.verify(&[]);
        assert_eq!((code, counts(&found)), (Some(0), [0; 6]), "{at}: {found}");
        assert!(world.rows("customer_profile@1") == whole, "{at} of {calls}");
    }
    assert!(killed >= 4, "only {killed} repairs were killed");
}

#[test]
fn what_has_expired_is_rightly_absent_and_what_is_not_loaded_is_said_to_be() {
    let ttl = |repo: &Repo| {
        repo.replace(
            "features.yaml",
            "name: customer_profile\n",
            "name: customer_profile\nttl: 1d\n",
        )
    };
    for world in World::each(ttl) {
        let (code, found) = world.verify(&[]);
        assert_eq!((code, counts(&found)), (Some(0), [0; 6]), "{found}");
        // Only Redis lets rows go.
        assert_eq!(
            found["expired"].as_u64().unwrap() > 0,
            world.redis.is_some(),
            "{found}"
        );
    }
    for world in World::each(|_| {}) {
        let view = "customer_profile@1".parse().unwrap();
        let before = world.store(async |store| store.load(&project(), &view).await.unwrap());
        let text = std::fs::read_to_string(world.repo.path("data/profiles.csv")).unwrap();
        world.repo.write(
            "data/profiles.csv",
            &format!("{text}100,2026-01-06T08:00:00Z,pro,1.5\n300,2026-01-06T08:00:00Z,pro,1.5\n"),
        );
        let old = world.rows("customer_profile@1");
        world.repo.done(&["materialize"]);
        // As if the run had died between the table and the online store.
        let note = before.progress.clone().unwrap();
        world.store(async |store| {
            store
                .end_load(&project(), &view, &before, &note)
                .await
                .unwrap();
            store
                .delete_rows(&project(), &view, &[key(300)])
                .await
                .unwrap();
        });
        let old = old
            .into_iter()
            .find(|(id, _)| *id == 100)
            .unwrap()
            .1
            .unwrap();
        world.tamper(100, |_| Some(old.to_vec()));
        let (code, found) = world.verify(&[]);
        assert_eq!(
            (code, counts(&found)),
            (Some(1), [1, 0, 1, 0, 0, 0]),
            "{found}"
        );
        assert_eq!(found["not_loaded"], 2, "{found}");
        world.repo.done(&["materialize"]);
        assert_eq!(world.verify(&[]).0, Some(0));
    }
}

#[test]
fn the_online_store_is_filled_from_the_tables_alone() {
    for world in World::each(|_| {}) {
        let whole = world.rows("customer_profile@1");
        match &world.redis {
            Some(redis) => redis.empty(),
            None => std::fs::remove_dir_all(world.repo.path(".vintner/online")).unwrap(),
        }
        for source in ["profiles", "orders"] {
            std::fs::remove_file(world.repo.path(&format!("data/{source}.csv"))).unwrap();
        }
        assert_eq!(world.verify(&[]).0, Some(1));
        world.repo.done(&["materialize", "--online-only"]);
        assert!(world.rows("customer_profile@1") == whole);
        assert_eq!(world.verify(&[]).0, Some(0));
        // The whole table each time: a row that was lost behind the progress comes back.
        world.tamper(100, |_| None);
        world
            .repo
            .done(&["materialize", "--online-only", "customer_profile"]);
        assert!(world.rows("customer_profile@1") == whole);
        let progress = world.store(async |store| {
            let view = "customer_profile@1".parse().unwrap();
            store.load(&project(), &view).await.unwrap().progress
        });
        assert!(progress.is_some());
    }
}

/// Takes the views and services that nothing needs any more out of the repo.
pub(crate) fn without_profiles(repo: &Repo) {
    let text = std::fs::read_to_string(repo.path("features.yaml")).unwrap();
    let objects = text.split("---\n").filter(|object| {
        !object.contains("name: customer_profile") && !object.contains("kind: feature_service")
    });
    repo.write("features.yaml", &objects.collect::<Vec<_>>().join("---\n"));
    repo.done(&["apply", "--yes"]);
}

pub(crate) fn is_empty(world: &World, view: &str) -> bool {
    world.rows(view).iter().all(|(_, row)| row.is_none())
}

#[test]
fn a_deleted_view_is_torn_down_and_nothing_else() {
    for world in World::each(|_| {}) {
        let repo = &world.repo;
        let current = repo.failure(&["teardown", "customer_profile", "--yes"]);
        without_profiles(repo);
        let asks = repo.failure(&["teardown", "customer_profile"]);
        if world.redis.is_none() {
            let unknown = repo.failure(&["teardown", "nothing", "--yes"]);
            insta::assert_snapshot!("refused", format!("{current}\n{asks}\n{unknown}"));
        }
        let orders = world.rows("customer_orders@1");
        if let Some(redis) = &world.redis {
            // Not even asking for a list of keys would be allowed.
            redis.forbid("scan");
        }
        let done = repo.json(&["teardown", "customer_profile", "--yes"]);
        assert!(
            done[0]["online_rows"].as_u64().unwrap() >= CUSTOMERS as u64,
            "{done}"
        );
        assert!(is_empty(&world, "customer_profile@1"));
        assert!(
            !repo
                .path(".vintner/offline/shop/customer_profile")
                .join("v1")
                .exists()
        );
        assert!(world.rows("customer_orders@1") == orders);
        let again = repo.done(&["teardown", "customer_profile", "--yes"]);
        assert_eq!(
            again,
            "customer_profile@1\t0\t0\t0 B\tnothing: nothing is left of it\n"
        );
        if let Some(redis) = &world.redis {
            assert!(
                !redis
                    .entries(0)
                    .keys()
                    .any(|key| key.windows(16).any(|part| part == b"customer_profile"))
            );
        }
    }
}

#[test]
fn a_teardown_that_is_killed_anywhere_can_be_run_again() {
    let teardown = ["teardown", "customer_profile", "--yes", "--rate", "100000"];
    let [_, counted] = World::each(|_| {});
    without_profiles(&counted.repo);
    let calls = count(&counted.repo, &teardown, Calls::Socket);
    let mut killed = 0;
    for at in spread(calls, 5) {
        let [_, world] = World::each(|_| {});
        without_profiles(&world.repo);
        killed += usize::from(kill(&world.repo, &teardown, Calls::Socket, at));
        world.repo.done(&teardown);
        assert!(is_empty(&world, "customer_profile@1"), "{at} of {calls}");
        assert!(
            !world
                .repo
                .path(".vintner/offline/shop/customer_profile/v1")
                .exists()
        );
    }
    assert!(killed >= 3, "only {killed} teardowns were killed");
}

#[test]
fn an_old_version_is_retired_and_torn_down_and_the_current_one_stays() {
    for world in World::each(|_| {}) {
        let repo = &world.repo;
        repo.replace(
            "features.yaml",
            "plan = 'pro' AS is_pro",
            "plan <> 'pro' AS is_pro",
        );
        repo.done(&["apply", "--yes"]);
        repo.done(&["materialize"]);
        let rows = world.rows("customer_profile@2");
        repo.done(&["teardown", "customer_profile@1", "--yes"]);
        assert!(is_empty(&world, "customer_profile@1"));
        assert!(world.rows("customer_profile@2") == rows);
        let shown = repo.json(&["show", "view", "customer_profile"]);
        assert_eq!(shown["versions"], serde_json::json!([2]), "{shown}");
        assert_eq!(repo.run(&["verify"]).code, Some(0));
    }
}

#[test]
fn a_service_deletes_the_online_rows_of_retired_versions_and_keeps_their_tables() {
    for world in World::each(|_| {}) {
        without_profiles(&world.repo);
        let service = world.repo.serve();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_empty(&world, "customer_profile@1") {
            assert!(Instant::now() < deadline, "the rows are still there");
            std::thread::yield_now();
        }
        drop(service);
        assert!(
            world
                .repo
                .path(".vintner/offline/shop/customer_profile/v1")
                .is_dir()
        );
        assert_eq!(world.repo.run(&["verify"]).code, Some(0));
    }
}

#[test]
fn the_doctor_works_when_nothing_else_does() {
    for mut world in World::each(|_| {}) {
        let healths = |found: &Json| -> Vec<String> {
            let parts = found.as_array().unwrap().iter();
            let parts = parts.map(|part| {
                format!(
                    "{} {}",
                    part["part"].as_str().unwrap(),
                    part["health"].as_str().unwrap()
                )
            });
            parts.collect()
        };
        let good = [
            "repo good",
            "registry good",
            "offline store good",
            "online store good",
            "clock good",
        ];
        // The clock stands still at another time than that of Redis, which is told.
        let found: Json = {
            let ended = world.repo.run(&["doctor", "--format", "json"]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            serde_json::from_str(&ended.stdout).unwrap()
        };
        let mut want = good.map(str::to_owned);
        if world.redis.is_some() {
            want[3] = "online store warning".to_owned();
            assert_eq!(
                found[3]["facts"]["maxmemory-policy"], "noeviction",
                "{found}"
            );
        }
        assert_eq!(healths(&found), want);
        if let Some(redis) = &mut world.redis {
            redis.kill();
            let ended = world.repo.run(&["doctor", "--format", "json"]);
            assert_eq!(ended.code, Some(1), "{ended:?}");
            let found: Json = serde_json::from_str(&ended.stdout).unwrap();
            want[3] = "online store broken".to_owned();
            assert_eq!(healths(&found), want);
        }
        world.repo.write("vintner.yaml", "project: [");
        let ended = world.repo.run(&["doctor", "--format", "json"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let found: Json = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(healths(&found), ["repo broken", "clock good"]);
    }
}
