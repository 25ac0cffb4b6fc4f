//! The store against real servers. What is the same whichever way servers are found is in the one suite.

mod access;
pub(crate) mod cluster;
mod faults;
mod sentinel;
mod traffic;

use std::{sync::Arc, time::Instant};

use redis::{Client, Commands};
use vintner_core::{Ttl, Value};
use vintner_testkit::redis::RedisServer;

use super::*;
use crate::near_cache::NearCache;
use crate::tests::{CACHE, chain, feature, key, revision, row, suite, time, us};

fn at(url: &str) -> RedisStore {
    RedisStore::new(url.parse().unwrap()).unwrap()
}

fn store(server: &RedisServer) -> RedisStore {
    at(&server.url())
}

fn project() -> ProjectName {
    "project".parse().unwrap()
}

fn view() -> ViewId {
    "view@1".parse().unwrap()
}

fn rows(count: i64) -> Vec<OnlineRow> {
    let revision = revision("view@1", &[feature("value", "int64")], None);
    (0..count)
        .map(|i| {
            row(
                &revision,
                &i.to_string(),
                time(i, 0),
                &[Some(Value::Int64(i))],
            )
        })
        .collect()
}

async fn write(store: &RedisStore, rows: &[OnlineRow]) -> Result<WriteReport, OnlineError> {
    store.write(&project(), &view(), None, rows).await
}

async fn read(store: &RedisStore, rows: &[OnlineRow]) -> Result<Vec<Option<Bytes>>, OnlineError> {
    let (view, keys) = (
        view(),
        rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(),
    );
    let mut read = store
        .read(
            &project(),
            &[Lookup {
                view: &view,
                keys: &keys,
                cache: None,
            }],
        )
        .await?;
    Ok(read.remove(0))
}

/// A near cache in front of a store, once the servers tell it what changes.
async fn near_cache(store: &Arc<RedisStore>) -> Arc<NearCache> {
    let cache = Arc::new(NearCache::new(Arc::clone(store) as _));
    wait_for_tracking(&cache).await;
    cache
}

async fn wait_for_tracking(cache: &NearCache) {
    let (view, keys) = (view(), [key("0")]);
    let lookup = Lookup {
        view: &view,
        keys: &keys,
        cache: CACHE,
    };
    let on = async {
        loop {
            let read = cache.read(&project(), &[lookup]).await;
            if read.is_ok() && cache.cache_stats().is_some_and(|stats| stats.tracking) {
                return;
            }
            traffic::pause().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), on).await;
    waited.expect("the near cache is told of changes");
}

/// Loads nothing, and notes that.
async fn load(store: &RedisStore) -> Result<(), OnlineError> {
    let begun = store.begin_load(&project(), &view()).await?;
    store
        .end_load(&project(), &view(), &begun, b"progress")
        .await
}

/// A message without what differs between runs.
fn message(server: &RedisServer, err: &OnlineError) -> String {
    chain(err).replace(&server.address(), "ADDRESS")
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_rules_of_every_store() {
    let server = RedisServer::start();
    suite::run(Arc::new(store(&server))).await;
}

#[tokio::test]
async fn keys_are_as_documented() {
    let server = RedisServer::start();
    let store = store(&server);
    let rows = rows(1);
    write(&store, &rows).await.unwrap();
    load(&store).await.unwrap();
    let mut keys: Vec<Vec<u8>> = server.connection().keys("*").unwrap();
    keys.sort();
    let row_key = [
        b"vn:{project|".as_slice(),
        rows[0].key.as_bytes(),
        b"}:view@1",
    ]
    .concat();
    assert_eq!(
        keys,
        [
            b"vn:life".to_vec(),
            b"vn:progress:project:view@1".to_vec(),
            row_key.clone()
        ]
    );
    let stored: Vec<u8> = server.connection().get(row_key).unwrap();
    assert_eq!(stored, rows[0].row.as_bytes());
}

#[tokio::test]
async fn keys_expire_when_ttl_and_grace_have_run_out() {
    const MINUTE: i64 = 60_000_000;
    let server = RedisServer::start();
    let store = store(&server);
    let revision = revision("view@1", &[feature("value", "int64")], None);
    let key = row_key(&project(), &view(), &key("x"));
    let mut connection = server.connection();
    let ttl = Ttl::from_micros(10 * MINUTE.unsigned_abs());
    // A clock long ago: the life of a row is counted from it.
    let now = us(1000 * MINUTE);
    let minutes = |count: i64| Some(count * 60_000);
    for (ttl, event, want) in [
        (ttl, 1000, minutes(70)),
        (ttl, 1005, minutes(75)),
        (None, 1005, Some(-1)), // equal rows replace, and with them the life
        (ttl, 1005, minutes(75)),
        (ttl, 1004, minutes(75)),           // what is kept keeps its life
        (ttl, i64::MAX / MINUTE, Some(-1)), // longer than anyone waits
    ] {
        let row = row(
            &revision,
            "x",
            time(event.saturating_mul(MINUTE), 0),
            &[None],
        );
        let expiry = ttl.map(|ttl| Expiry { ttl, now });
        store
            .write(&project(), &view(), expiry, &[row])
            .await
            .unwrap();
        let left: i64 = connection.pttl(&key).unwrap();
        let want = want.unwrap();
        assert!(
            left == want || (want > 0 && (want - 30_000..=want + 1).contains(&left)),
            "event {event}: {left} ms left, not {want}"
        );
    }
}

#[tokio::test]
async fn a_row_past_its_grace_is_not_kept_and_removes_an_older_one() {
    let server = RedisServer::start();
    let store = store(&server);
    let expiry = |now| {
        Some(Expiry {
            ttl: Ttl::from_micros(1).unwrap(),
            now: us(now),
        })
    };
    let hour = 3_600_000_000;
    let rows = rows(3);
    let one = |i: usize| std::slice::from_ref(&rows[i]);
    let write = async |i: usize, now| {
        let mut rows = one(i).to_vec();
        rows[0].key = key("x");
        store
            .write(&project(), &view(), expiry(now), &rows)
            .await
            .unwrap()
    };
    let there = async || {
        read(
            &store,
            &[OnlineRow {
                key: key("x"),
                ..rows[0].clone()
            }],
        )
        .await
        .unwrap()[0]
            .is_some()
    };
    write(1, 0).await;
    assert!(there().await);
    // Event 0, and its grace is over: nothing happens to what is newer.
    assert_eq!(
        write(0, 2 * hour).await,
        WriteReport {
            written: 0,
            kept: 1
        }
    );
    assert!(there().await);
    // Event 2: what is older goes with it.
    assert_eq!(
        write(2, 2 * hour).await,
        WriteReport {
            written: 1,
            kept: 0
        }
    );
    assert!(!there().await);
}

#[tokio::test]
async fn many_rows_get_the_life_that_one_gets() {
    const HOUR: i64 = 3_600_000_000;
    let server = RedisServer::start();
    let store = store(&server);
    let revision = revision("view@1", &[feature("value", "int64")], None);
    // With the grace a row stays two hours: those of entities 0 and 1 are past that, and the last one's never is.
    let expiry = Some(Expiry {
        ttl: Ttl::from_micros(HOUR.unsigned_abs()).unwrap(),
        now: us(1000 * HOUR),
    });
    let event = |id: i64| match id {
        0 | 1 => 997 * HOUR,
        999 => i64::MAX,
        id => 999 * HOUR + id,
    };
    let row = |id: i64, event| row(&revision, &id.to_string(), time(event, 0), &[None]);
    let older = row(0, 0);
    write(&store, &[older, row(2, i64::MIN), row(3, i64::MAX)])
        .await
        .unwrap();
    let rows: Vec<_> = (0..1000).map(|id| row(id, event(id))).collect();
    for _ in 0..2 {
        let report = store
            .write(&project(), &view(), expiry, &rows)
            .await
            .unwrap();
        assert_eq!((report.written, report.kept), (999, 1));
        let mut connection = server.connection();
        for (id, row) in rows.iter().enumerate() {
            let left: i64 = connection
                .pttl(row_key(&project(), &view(), &row.key))
                .unwrap();
            let right = match id {
                0 | 1 => left == -2,
                3 | 999 => left == -1,
                _ => (3_500_000..=3_600_001).contains(&left),
            };
            assert!(right, "{id}: {left}");
        }
    }
}

#[tokio::test]
async fn a_server_that_becomes_full_in_mid_write_is_an_error_and_writing_again_completes() {
    let server = RedisServer::start();
    let store = store(&server);
    let limit = |bytes: &str| server.command::<()>(&["CONFIG", "SET", "maxmemory", bytes]);
    write(&store, &rows(1)).await.unwrap();
    let memory: String = server.command(&["INFO", "memory"]);
    let used: u64 = server::field(&memory, "used_memory")
        .unwrap()
        .parse()
        .unwrap();
    let rows = rows(20_000);
    limit(&(used + (1 << 20)).to_string());
    let full = write(&store, &rows).await.unwrap_err();
    assert!(matches!(full, OnlineError::Full { .. }), "{full:?}");
    let there: usize = server.command(&["DBSIZE"]);
    assert!((1..rows.len()).contains(&there), "{there} rows are there");
    limit("0");
    let report = write(&store, &rows).await.unwrap();
    assert_eq!((report.written, report.kept), (20_000, 0));
    let read = read(&store, &rows).await.unwrap();
    let right =
        |(read, row): (&Option<Bytes>, &OnlineRow)| read.as_deref() == Some(row.row.as_bytes());
    assert!(read.iter().zip(&rows).all(right));
}

#[tokio::test]
async fn a_server_that_forgets_the_script_is_given_it_again() {
    let server = RedisServer::start();
    let store = store(&server);
    for event in 0..3 {
        redis::cmd("SCRIPT")
            .arg("FLUSH")
            .exec(&mut server.connection())
            .unwrap();
        let report = write(&store, &rows(700)).await.unwrap();
        assert_eq!(
            report,
            WriteReport {
                written: 700,
                kept: 0
            },
            "time {event}"
        );
    }
}

#[tokio::test]
async fn a_stored_value_without_a_row_time_is_replaced() {
    let server = RedisServer::start();
    let store = store(&server);
    let rows = rows(3);
    for (row, length) in rows.iter().zip([0, 1, 16]) {
        let damaged = vec![0xff_u8; length];
        let key = row_key(&project(), &view(), &row.key);
        let _: () = server.connection().set(key, damaged).unwrap();
    }
    assert_eq!(
        write(&store, &rows).await.unwrap(),
        WriteReport {
            written: 3,
            kept: 0
        }
    );
    let read = read(&store, &rows).await.unwrap();
    assert!(
        read.iter()
            .zip(&rows)
            .all(|(read, row)| read.as_deref() == Some(row.row.as_bytes()))
    );
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_until_it_is_back() {
    let mut server = RedisServer::start();
    server.kill();
    let store = store(&server);
    let rows = rows(1);
    for _ in 0..3 {
        let err = read(&store, &rows).await.unwrap_err();
        assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
    }
    let err = write(&store, &rows).await.unwrap_err();
    insta::assert_snapshot!(message(&server, &err));
    for check in [
        store.check().await.err(),
        load(&store).await.err(),
        store.keys(&project(), &view(), None).await.err(),
        store.forget(&project(), &view()).await.err(),
    ] {
        assert!(
            matches!(check, Some(OnlineError::Unavailable { .. })),
            "{check:?}"
        );
    }
    server.restart();
    write(&store, &rows).await.unwrap();
    assert_eq!(
        read(&store, &rows).await.unwrap()[0].as_deref(),
        Some(rows[0].row.as_bytes())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_mid_write_is_an_error_and_writing_again_completes() {
    let mut server = RedisServer::start();
    let store = Arc::new(store(&server));
    let rows = rows(2000);
    let writer = tokio::spawn({
        let (store, rows) = (Arc::clone(&store), rows.clone());
        async move {
            loop {
                if let Err(err) = write(&store, &rows).await {
                    return err;
                }
            }
        }
    });
    // Kill it once it has begun to write.
    let mut connection = server.connection();
    while redis::cmd("DBSIZE").query::<i64>(&mut connection).unwrap() == 0 {}
    server.kill();
    let err = writer.await.unwrap();
    assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
    assert!(matches!(
        read(&store, &rows[..1]).await,
        Err(OnlineError::Unavailable { .. })
    ));

    server.restart();
    assert_eq!(
        read(&store, &rows[..1]).await.unwrap(),
        [None],
        "it kept nothing on disk"
    );
    let report = write(&store, &rows).await.unwrap();
    assert_eq!(
        report,
        WriteReport {
            written: 2000,
            kept: 0
        }
    );
    assert!(
        read(&store, &rows)
            .await
            .unwrap()
            .iter()
            .all(Option::is_some)
    );
}

#[tokio::test]
async fn a_load_that_the_server_may_have_lost_is_not_noted() {
    let flush = |server: &mut RedisServer| {
        redis::cmd("FLUSHALL")
            .exec(&mut server.connection())
            .unwrap();
    };
    let restart = |server: &mut RedisServer| {
        server.kill();
        server.restart();
    };
    // With `appendfsync always` nothing is lost, but that is more than the server tells.
    let kept = ["--appendonly", "yes", "--appendfsync", "always"];
    type Case<'a> = (&'a str, &'a [&'a str], &'a dyn Fn(&mut RedisServer));
    let cases: [Case<'_>; 3] = [
        ("emptied", &[], &flush),
        ("came back empty", &[], &restart),
        ("came back with what it had", &kept, &restart),
    ];
    for (name, options, accident) in cases {
        let mut server = RedisServer::start_with(options);
        let store = store(&server);
        load(&store).await.unwrap();
        let begun = store.begin_load(&project(), &view()).await.unwrap();
        write(&store, &rows(1)).await.unwrap();
        accident(&mut server);
        let ended = store
            .end_load(&project(), &view(), &begun, b"all")
            .await
            .unwrap_err();
        assert!(
            matches!(ended, OnlineError::LostRows { .. }),
            "{name}: {ended:?}"
        );
        let next = store.begin_load(&project(), &view()).await.unwrap();
        assert_ne!(next.progress.as_deref(), Some(b"all".as_slice()), "{name}");
        store
            .end_load(&project(), &view(), &next, b"all")
            .await
            .unwrap_or_else(|err| panic!("{name}: {err}"));
        insta::assert_snapshot!("a_load_that_may_be_lost", message(&server, &ended));
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_an_error_in_bounded_time() {
    let server = RedisServer::start();
    let store = store(&server);
    let rows = rows(1);
    write(&store, &rows).await.unwrap();
    server.stop();
    let began = Instant::now();
    let err = read(&store, &rows).await.unwrap_err();
    assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
    assert!(
        began.elapsed() < RESPONSE_TIMEOUT + Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    server.cont();
    assert_eq!(
        read(&store, &rows).await.unwrap()[0].as_deref(),
        Some(rows[0].row.as_bytes())
    );
}

#[tokio::test]
async fn passwords_are_used_and_never_shown() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let with = |user: &str| server.url().replace("redis://", &format!("redis://{user}"));
    let right = at(&with(":s3cret@"));
    right.check().await.unwrap();
    let mut messages = Vec::new();
    for user in ["", ":wr0ng@", "nobody:wr0ng@"] {
        let store = at(&with(user));
        let err = store.check().await.unwrap_err();
        assert!(matches!(err, OnlineError::Denied { .. }), "{err:?}");
        let shown = format!("{store:?} {err:?} {}", chain(&err));
        assert!(
            !shown.contains("wr0ng") && !shown.contains("s3cret"),
            "{shown}"
        );
        messages.push(message(&server, &err));
    }
    insta::assert_snapshot!(messages.join("\n"));
}

#[tokio::test]
async fn a_login_that_was_turned_down_is_tried_again() {
    let server = RedisServer::start_with(&["--requirepass", "old"]);
    let url = server.url().replace("redis://", "redis://:new@");
    let store = at(&url);
    let denied = store.check().await.unwrap_err();
    assert!(matches!(denied, OnlineError::Denied { .. }), "{denied:?}");
    let admin = Client::open(server.url().replace("redis://", "redis://:old@")).unwrap();
    let mut admin = admin.get_connection().unwrap();
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("requirepass")
        .arg("new")
        .exec(&mut admin)
        .unwrap();
    store.check().await.unwrap();
}

#[tokio::test]
async fn what_the_server_refuses_is_said() {
    let server = RedisServer::start();
    let store = store(&server);
    let rows = rows(1);
    let config = |name: &str, value: &str| {
        redis::cmd("CONFIG")
            .arg("SET")
            .arg(name)
            .arg(value)
            .exec(&mut server.connection())
            .unwrap()
    };
    config("maxmemory", "1");
    let full = write(&store, &rows).await.unwrap_err();
    config("maxmemory", "0");
    let _: () = server
        .connection()
        .hset(row_key(&project(), &view(), &rows[0].key), "field", 1)
        .unwrap();
    let other = write(&store, &rows).await.unwrap_err();
    assert!(matches!(full, OnlineError::Full { .. }), "{full:?}");
    assert!(matches!(other, OnlineError::Failed { .. }), "{other:?}");
    insta::assert_snapshot!(format!(
        "{}\n{}",
        message(&server, &full),
        message(&server, &other)
    ));
    config("maxmemory-policy", "allkeys-lru");
    insta::assert_snapshot!(store.check().await.unwrap().warnings.join("\n"));
}

#[test]
fn a_url_is_checked_and_shown_without_its_secret() {
    let show = |text: &str| match text.parse::<RedisUrl>() {
        Ok(url) => format!("{url} {url:?}"),
        Err(err) => format!("error: {err}"),
    };
    let shown = [
        "redis://localhost",
        "redis://localhost:6380/2",
        "redis://user:p%40ss@redis.example.com/0",
        "redis://:pass@[::1]:7000",
        "rediss://:pass@localhost",
        "http://:pass@localhost",
        "redis://",
        "redis://:pass@",
        "redis://localhost/database",
        "localhost:6379",
        ":pass@localhost",
        "",
    ]
    .map(|text| {
        format!(
            "{} -> {}",
            text.replace("pass", "SECRET").replace("p%40ss", "SECRET"),
            show(text)
        )
    });
    assert!(
        !shown
            .iter()
            .any(|line| line.contains("pass@") || line.contains("p%40ss"))
    );
    insta::assert_snapshot!(shown.join("\n"));
}
