//! What happens to one server, and what callers see of it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use vintner_testkit::redis::Proxy;

use super::{traffic::Traffic, *};
use crate::row::RowHeader;

/// Nothing that was acknowledged is lost when the server is killed.
const KEPT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_and_back_serves_within_a_second_what_it_had() {
    let mut server = RedisServer::start_with(&KEPT);
    let store = Arc::new(store(&server));
    let traffic = Traffic::start(&store).await;
    for _ in 0..3 {
        tokio::task::block_in_place(|| server.kill());
        let rows = rows(1);
        while read(&store, &rows).await.is_ok() {}
        tokio::task::block_in_place(|| server.restart());
        let back = traffic.goes_on().await;
        assert!(back < Duration::from_secs(1), "back after {back:?}");
    }
    let seen = traffic.end().await;
    assert!(seen.errors > 0);
    assert_eq!(seen.older, Vec::<String>::new());
}

/// Many rows are on their way in several batches when the server is killed. Whatever a call has acknowledged is there
/// when the server is back, the first load's rows and those that replace them alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_that_was_acknowledged_outlives_a_server_that_is_killed() {
    let mut server = RedisServer::start_with(&KEPT);
    let store = Arc::new(store(&server));
    let revision = revision("view@1", &[feature("value", "int64")], None);
    let at = move |step: i64| -> Vec<OnlineRow> {
        let row = |id: i64| row(&revision, &id.to_string(), time(step, 0), &[None]);
        (0..3000).map(row).collect()
    };
    let acknowledged = Arc::new(AtomicI64::new(-1));
    for _ in 0..3 {
        let writer = tokio::spawn({
            let (store, at, acknowledged) =
                (Arc::clone(&store), at.clone(), Arc::clone(&acknowledged));
            async move {
                for step in acknowledged.load(Ordering::SeqCst) + 1.. {
                    if let Err(err) = write(&store, &at(step)).await {
                        return err;
                    }
                    acknowledged.store(step, Ordering::SeqCst);
                }
                unreachable!("the server is killed before")
            }
        });
        let before = acknowledged.load(Ordering::SeqCst);
        while acknowledged.load(Ordering::SeqCst) < before + 2 {
            super::traffic::pause().await;
        }
        tokio::task::block_in_place(|| server.kill());
        let err = writer.await.unwrap();
        assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
        tokio::task::block_in_place(|| server.restart());
        let step = acknowledged.load(Ordering::SeqCst);
        let there = read(&store, &at(step)).await.unwrap();
        for (id, row) in there.iter().enumerate() {
            let event = |row: &Bytes| RowHeader::parse(row).unwrap().time.event.micros();
            let event = row.as_ref().map(event);
            assert!(
                event >= Some(step),
                "{id} is of {event:?}, {step} was acknowledged"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_answering_is_left_by_callers_who_do_not_wait_so_long() {
    let server = RedisServer::start();
    let store = store(&server);
    let rows = rows(1);
    write(&store, &rows).await.unwrap();
    server.stop();
    let began = Instant::now();
    let mut connections = None;
    // Nobody waits for the full time of an answer, and yet a new connection is tried in the end.
    while began.elapsed() < 2 * RESPONSE_TIMEOUT {
        let impatient = Duration::from_millis(50);
        let read = tokio::time::timeout(impatient, read(&store, &rows)).await;
        assert!(!matches!(read, Ok(Ok(_))), "a stopped server has answered");
        connections = read.ok().or(connections);
    }
    server.cont();
    assert_eq!(
        read(&store, &rows).await.unwrap()[0].as_deref(),
        Some(rows[0].row.as_bytes())
    );
    let clients: String = server.command(&["INFO", "stats"]);
    let made = super::server::field(&clients, "total_connections_received").unwrap();
    // The store's first one, a new one after the time of an answer, and those of this test.
    assert!(made.parse::<u32>().unwrap() >= 3, "{made} connections");
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_unavailable_until_it_has() {
    let slow = [
        "--key-load-delay",
        "500",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let mut server = RedisServer::start_with(&slow);
    let store = store(&server);
    let rows = rows(2000);
    write(&store, &rows).await.unwrap();
    server.command::<()>(&["SAVE"]);
    server.kill();
    server.restart_unready();
    let mut loading = 0;
    let began = Instant::now();
    loop {
        match read(&store, &rows).await {
            Ok(read) => {
                assert!(
                    read.iter()
                        .zip(&rows)
                        .all(|(read, row)| read.as_deref() == Some(row.row.as_bytes()))
                );
                break;
            }
            Err(err @ OnlineError::Unavailable { .. }) => {
                loading += usize::from(chain(&err).contains("LOADING"));
            }
            Err(other) => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(30));
        traffic::pause().await;
    }
    assert!(
        loading > 0,
        "nobody was told that the server loads its data"
    );
}

#[tokio::test]
async fn a_replica_is_not_read_until_it_is_a_primary() {
    let primary = RedisServer::start();
    let port = primary.port().to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    let store = store(&replica);
    let rows = rows(1);
    for err in [
        read(&store, &rows).await.unwrap_err(),
        write(&store, &rows).await.unwrap_err(),
        store.check().await.unwrap_err(),
    ] {
        assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
        insta::assert_snapshot!("a_replica", message(&replica, &err));
    }
    replica.command::<()>(&["REPLICAOF", "NO", "ONE"]);
    write(&store, &rows).await.unwrap();
    // Made a replica again, it refuses to write, and is left.
    replica.command::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    let err = write(&store, &rows).await.unwrap_err();
    assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
    insta::assert_snapshot!("a_replica", message(&replica, &err));
    replica.command::<()>(&["REPLICAOF", "NO", "ONE"]);
    write(&store, &rows).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_asked_for_again() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await;
    let store = at(&format!("redis://{}", proxy.address()));
    let rows = rows(50);
    write(&store, &rows).await.unwrap();
    let length = rows
        .iter()
        .map(|row| row.row.as_bytes().len() as u64)
        .sum::<u64>();
    for after in [
        0,
        1,
        2,
        3,
        5,
        8,
        30,
        31,
        32,
        33,
        length / 2,
        length - 1,
        length,
    ] {
        proxy.cut_after(after);
        let got = read(&store, &rows).await.unwrap();
        assert!(
            got.iter()
                .zip(&rows)
                .all(|(got, row)| got.as_deref() == Some(row.row.as_bytes()))
        );
        assert!(proxy.has_cut(), "after {after}");
        proxy.cut_after(after);
        let report = write(&store, &rows).await.unwrap();
        assert_eq!(report.written, 50, "after {after}");
    }
}

#[tokio::test]
async fn a_server_alone_is_not_taken_for_a_cluster() {
    let server = RedisServer::start();
    let cluster = RedisStore::new(RedisConfig {
        servers: RedisServers::Cluster(vec![server.url().parse().unwrap()]),
        tls: None,
    });
    let err = read(&cluster.unwrap(), &rows(1)).await.unwrap_err();
    assert!(matches!(err, OnlineError::Failed { .. }), "{err:?}");
    insta::assert_snapshot!(message(&server, &err));
}

#[expect(
    clippy::print_stdout,
    reason = "a test that is skipped says so, and why"
)]
#[tokio::test(flavor = "multi_thread")]
async fn valkey_keeps_the_rules_of_every_store() {
    let Some(server) = RedisServer::valkey() else {
        println!("skipped: the system has no valkey-server");
        return;
    };
    let store = store(&server);
    assert!(store.check().await.unwrap().version.starts_with("Valkey"));
    suite::run(Arc::new(store)).await;
}
