//! The near cache in front of a real Redis server, and what the server does to it.

use vintner_core::Value;
use vintner_testkit::redis::RedisServer;

use super::{
    super::{CacheStats, LEASE, PROBE_INTERVAL},
    proxy::Proxy,
    *,
};
use crate::{RedisStore, tests::suite};

const DEADLINE: Duration = Duration::from_secs(30);
const CACHE: Option<ByteSize> = ByteSize::new(1 << 20);

fn cached(url: &str) -> Arc<NearCache> {
    let store = RedisStore::new(url.parse().unwrap()).unwrap();
    Arc::new(NearCache::new(Arc::new(store)))
}

fn stats(cache: &NearCache) -> CacheStats {
    cache.cache_stats().unwrap()
}

async fn read(cache: &NearCache, id: &str) -> Result<Option<Bytes>, OnlineError> {
    let lookup = Lookup {
        view: &view(),
        keys: &[key(id)],
        cache: CACHE,
    };
    let mut rows = cache.read(&project(), &[lookup]).await?;
    Ok(rows.pop().unwrap().pop().unwrap())
}

/// Reads until what is read and what is known of the cache are as wanted. Gives when the last read began that was not.
async fn until(
    cache: &NearCache,
    what: &str,
    wanted: impl Fn(Option<&[u8]>, &CacheStats) -> bool,
) -> Duration {
    let began = Instant::now();
    let mut last = Duration::ZERO;
    loop {
        let now = began.elapsed();
        if now > DEADLINE {
            panic!("not {what} within {DEADLINE:?}: {:?}", stats(cache));
        }
        if let Ok(row) = read(cache, "a").await
            && wanted(row.as_deref(), &stats(cache))
        {
            return last;
        }
        last = now;
        tokio::task::yield_now().await;
    }
}

async fn tracking(cache: &NearCache) {
    until(cache, "tracking", |_, stats| stats.tracking).await;
}

fn row_key_of(id: &str) -> Vec<u8> {
    row_key(&project(), &view(), &key(id))
}

fn set(server: &RedisServer, value: &str) {
    let mut set = redis::cmd("SET");
    let set = set.arg(row_key_of("a")).arg(value);
    set.exec(&mut server.connection()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_store_keeps_the_rules_of_every_store() {
    let server = RedisServer::start();
    let cache = cached(&server.url());
    tracking(&cache).await;
    suite::run(Arc::clone(&cache) as Arc<dyn OnlineStore>).await;
    let hits: u64 = stats(&cache).views.iter().map(|view| view.hits).sum();
    assert!(hits > 0, "{:?}", stats(&cache));
}

#[tokio::test]
async fn tracking_begins_with_the_first_read_that_names_a_budget() {
    let server = RedisServer::start();
    let cache = cached(&server.url());
    let tracked = || {
        let mut info = redis::cmd("INFO");
        let info = info
            .arg("clients")
            .query::<String>(&mut server.connection());
        info.unwrap().contains("tracking_clients:1")
    };
    let lookup = Lookup {
        view: &view(),
        keys: &[key("a")],
        cache: None,
    };
    cache.read(&project(), &[lookup]).await.unwrap();
    assert!(!tracked() && stats(&cache).views.is_empty());
    tracking(&cache).await;
    assert!(tracked());
    drop(cache);
    let began = Instant::now();
    while tracked() {
        assert!(began.elapsed() < DEADLINE, "it goes with the store");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_way_in_which_a_row_changes_is_heard() {
    let server = RedisServer::start();
    let cache = cached(&server.url());
    tracking(&cache).await;
    let (row, other) = (row_key_of("a"), row_key_of("other"));
    let command = |words: &[&[u8]]| {
        let mut command = redis::cmd(str::from_utf8(words[0]).unwrap());
        let mut connection = server.connection();
        for word in &words[1..] {
            command.arg(*word);
        }
        command.exec(&mut connection).unwrap();
    };
    let script = b"return redis.call('SET', KEYS[1], 'new')";
    /// What is done, in words and as a command, and what is read then.
    type Case<'a> = (&'a str, &'a [&'a [u8]], Option<&'a [u8]>);
    let cases: [Case<'_>; 12] = [
        ("set", &[b"SET", &row, b"new"], Some(b"new")),
        ("script", &[b"EVAL", script, b"1", &row], Some(b"new")),
        ("append", &[b"APPEND", &row, b"er"], Some(b"older")),
        ("delete", &[b"DEL", &row], None),
        ("unlink", &[b"UNLINK", &row], None),
        ("expiry", &[b"PEXPIRE", &row, b"1"], None),
        ("expiry now", &[b"PEXPIRE", &row, b"0"], None),
        ("rename away", &[b"RENAME", &row, &other], None),
        ("rename to", &[b"RENAME", &other, &row], Some(b"other")),
        ("move", &[b"MOVE", &row, b"1"], None),
        ("flush", &[b"FLUSHDB"], None),
        ("flush all", &[b"FLUSHALL", b"ASYNC"], None),
    ];
    for (name, words, want) in cases {
        command(&[b"FLUSHALL"]);
        command(&[b"SET", &row, b"old"]);
        command(&[b"SET", &other, b"other"]);
        until(&cache, "cached", |row, stats| {
            stats.tracking && row == Some(b"old")
        })
        .await;
        command(words);
        until(&cache, name, |row, _| row == want).await;
    }
    // And of what there was not.
    command(&[b"DEL", &row]);
    until(&cache, "absent", |row, _| row.is_none()).await;
    command(&[b"SET", &row, b"new"]);
    until(&cache, "new", |row, _| row == Some(b"new")).await;
}

#[tokio::test]
async fn a_row_that_only_another_database_has_is_another_row() {
    let server = RedisServer::start();
    let cache = cached(&server.database_url(1));
    tracking(&cache).await;
    set(&server, "in database 0");
    assert_eq!(read(&cache, "a").await.unwrap(), None);
}

#[tokio::test]
async fn a_push_connection_that_is_closed_empties_the_cache_until_there_is_another() {
    let server = RedisServer::start();
    let cache = cached(&server.url());
    tracking(&cache).await;
    set(&server, "old");
    until(&cache, "cached", |row, _| row == Some(b"old")).await;
    let generations = stats(&cache).generations;
    let mut connection = server.connection();
    let mut kill = redis::cmd("CLIENT");
    // All but the one that asks: the store's own as well.
    kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .exec(&mut connection)
        .unwrap();
    set(&server, "new");
    until(&cache, "new", |row, _| row == Some(b"new")).await;
    until(&cache, "tracking again", |_, stats| {
        stats.tracking && stats.generations > generations
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_the_network_holds_back_are_missed_for_no_longer_than_the_lease() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server.address());
    let cache = cached(&proxy.url());
    tracking(&cache).await;
    for round in 0..3 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        set(&server, &old);
        let hits = |stats: &CacheStats| stats.views.iter().map(|view| view.hits).sum::<u64>();
        let before = hits(&stats(&cache));
        // Its own push has come, as it is read from the cache several times.
        until(&cache, "cached", |row, stats| {
            stats.tracking && row == Some(old.as_bytes()) && hits(stats) > before + 100
        })
        .await;
        proxy.freeze(true);
        set(&server, &new);
        let late = until(&cache, "new", |row, _| row == Some(new.as_bytes())).await;
        assert!(late <= LEASE, "{late:?}");
        let off = |_: Option<&[u8]>, stats: &CacheStats| !stats.tracking;
        until(&cache, "off", off).await;
        proxy.freeze(false);
        tracking(&cache).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_at_the_same_address_is_noticed_within_the_lease() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let proxy = Proxy::to(&servers[0].address());
    let cache = cached(&proxy.url());
    tracking(&cache).await;
    set(&servers[0], "first");
    set(&servers[1], "second");
    until(&cache, "cached", |row, _| row == Some(b"first")).await;
    // The tracking connection goes on leading to the first.
    proxy.lead_to(&servers[1].address());
    let late = until(&cache, "second", |row, _| row == Some(b"second")).await;
    assert!(late <= LEASE, "{late:?}");
    until(&cache, "tracking", |_, stats| {
        stats.tracking && stats.generations > 1
    })
    .await;
    set(&servers[1], "third");
    until(&cache, "third", |row, _| row == Some(b"third")).await;
}

#[tokio::test]
async fn without_the_right_to_track_reads_go_past_the_cache() {
    let server = RedisServer::start();
    let mut user = redis::cmd("ACL");
    let words = [
        "SETUSER", "reader", "on", ">secret", "~*", "+@all", "-client",
    ];
    user.arg(&words).exec(&mut server.connection()).unwrap();
    let url = server.url().replace("redis://", "redis://reader:secret@");
    let cache = cached(&url);
    let began = Instant::now();
    let mut bypassed = 0;
    while began.elapsed() < 3 * PROBE_INTERVAL {
        set(&server, "new");
        assert_eq!(
            read(&cache, "a").await.unwrap().as_deref(),
            Some(&b"new"[..])
        );
        bypassed += 1;
        set(&server, "newer");
        assert_eq!(
            read(&cache, "a").await.unwrap().as_deref(),
            Some(&b"newer"[..])
        );
        bypassed += 1;
    }
    let stats = stats(&cache);
    assert!(!stats.tracking && stats.generations == 0, "{stats:?}");
    assert_eq!(stats.views[0].bypassed, bypassed);
}

#[tokio::test]
async fn a_failing_server_is_an_error_and_what_is_cached_is_not_given_out() {
    let mut server = RedisServer::start();
    let cache = cached(&server.url());
    tracking(&cache).await;
    set(&server, "old");
    until(&cache, "cached", |row, _| row == Some(b"old")).await;
    server.kill();
    let began = Instant::now();
    while read(&cache, "a").await.is_ok() {
        assert!(began.elapsed() < DEADLINE, "it goes on answering");
    }
    let err = read(&cache, "a").await.unwrap_err();
    assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
    server.restart();
    until(&cache, "back and empty", |row, stats| {
        row.is_none() && stats.tracking
    })
    .await;
    let revision = revision("view@1", &[feature("value", "int64")], None);
    let row = row(&revision, "a", time(1, 1), &[Some(Value::Int64(1))]);
    let rows = [row.clone()];
    cache.write(&project(), &view(), None, &rows).await.unwrap();
    let read = read(&cache, "a").await.unwrap();
    assert_eq!(read.as_deref(), Some(row.row.as_bytes()));
}
