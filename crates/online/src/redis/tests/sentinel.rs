//! A master that sentinels watch over, and a failover.

use std::time::Duration;

use tokio::task::block_in_place;
use vintner_testkit::redis::{MASTER, RedisSentinel};

use super::{traffic::Traffic, *};

const DOWN_AFTER: Duration = Duration::from_millis(700);

fn config(sentinels: &[String], master: &str) -> RedisConfig {
    let nodes = sentinels
        .iter()
        .map(|node| Address::from_server(node, "").unwrap());
    RedisConfig {
        servers: RedisServers::Sentinel(SentinelConfig {
            master: master.to_owned(),
            nodes: nodes.collect(),
            login: Login::default(),
            sentinel_login: Login::default(),
        }),
        tls: None,
    }
}

fn store(servers: &RedisSentinel) -> Arc<RedisStore> {
    Arc::new(RedisStore::new(config(&servers.addresses(), MASTER)).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_master_keeps_the_rules_of_every_store_and_is_found_again_after_a_failover() {
    let mut servers = RedisSentinel::start(DOWN_AFTER);
    let store = store(&servers);
    suite::run(Arc::clone(&store) as Arc<dyn OnlineStore>).await;

    // Killed under load. What a replica has not had yet may be lost, so older answers are no mistake then.
    let traffic = Traffic::start(&store).await;
    let begun = store.begin_load(&project(), &view()).await.unwrap();
    let old = block_in_place(|| {
        let old = servers.master();
        servers.server(old).kill();
        servers.wait_for_failover(old);
        old
    });
    traffic.goes_on().await;
    assert!(traffic.end().await.errors > 0);
    let ended = store.end_load(&project(), &view(), &begun, b"all").await;
    assert!(
        matches!(ended, Err(OnlineError::LostRows { .. })),
        "{ended:?}"
    );

    // Stopped, with callers who do not wait long.
    block_in_place(|| {
        servers.server(old).restart();
        servers.wait_for_replica(old);
    });
    let rows = rows(1);
    write(&store, &rows).await.unwrap();
    block_in_place(|| {
        let master = servers.master();
        servers.server(master).stop();
        servers.wait_for_failover(master);
    });
    let find = async {
        loop {
            let impatient = Duration::from_millis(100);
            if let Ok(Ok(read)) = tokio::time::timeout(impatient, read(&store, &rows)).await {
                return read;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(10), find).await;
    assert_eq!(found.unwrap()[0].as_deref(), Some(rows[0].row.as_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_that_lost_acknowledged_rows_is_told_and_so_is_one_forth_and_back() {
    let mut servers = RedisSentinel::start(DOWN_AFTER);
    let store = store(&servers);
    load(&store).await.unwrap();

    // The master changes and changes back: it is the same process, but not the same data.
    let begun = store.begin_load(&project(), &view()).await.unwrap();
    let first = servers.master();
    for _ in 0..2 {
        block_in_place(|| {
            let old = servers.fail_over();
            servers.wait_for_replica(old);
        });
    }
    assert_eq!(servers.master(), first);
    let ended = store.end_load(&project(), &view(), &begun, b"all").await;
    assert!(
        matches!(ended, Err(OnlineError::LostRows { .. })),
        "{ended:?}"
    );

    // The replica is cut off while rows are written, so it takes over without them.
    let begun = store.begin_load(&project(), &view()).await.unwrap();
    block_in_place(|| {
        servers.server(1 - first).stop();
        servers.server(first).drop_replicas();
    });
    write(&store, &rows(100)).await.unwrap();
    block_in_place(|| {
        servers.server(first).kill();
        servers.server(1 - first).cont();
        servers.wait_for_failover(first);
    });
    assert_eq!(read(&store, &rows(100)).await.unwrap(), vec![None; 100]);
    let ended = store.end_load(&project(), &view(), &begun, b"all").await;
    assert!(
        matches!(ended, Err(OnlineError::LostRows { .. })),
        "{ended:?}"
    );
    let next = store.begin_load(&project(), &view()).await.unwrap();
    assert_eq!(next.progress.as_deref(), Some(b"progress".as_slice()));
    write(&store, &rows(100)).await.unwrap();
    store
        .end_load(&project(), &view(), &next, b"all")
        .await
        .unwrap();

    // With all sentinels gone, the connection that is there goes on; without it, nobody knows where the master is.
    let address = servers.addresses();
    block_in_place(|| (0..3).for_each(|sentinel| servers.sentinel(sentinel).kill()));
    read(&store, &rows(1)).await.unwrap();
    let late = RedisStore::new(config(&address, MASTER)).unwrap();
    let err = read(&late, &rows(1)).await.unwrap_err();
    assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
    block_in_place(|| servers.sentinel(1).restart());
    read(&late, &rows(1)).await.unwrap();
    let unknown = RedisStore::new(config(&address, "nobody")).unwrap();
    let unknown = read(&unknown, &rows(1)).await.unwrap_err();
    assert!(matches!(unknown, OnlineError::Failed { .. }), "{unknown:?}");
    let mut messages = format!("{}\n{}", chain(&err), chain(&unknown));
    // Any of them may have been the first to answer.
    for address in &address {
        messages = messages.replace(address, "SENTINEL");
    }
    insta::assert_snapshot!(messages);
}
