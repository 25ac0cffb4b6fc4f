//! A cluster: routing, slots that move, and failovers.

use std::time::Duration;

use tokio::task::block_in_place;
use vintner_testkit::redis::{PRIMARIES, RedisCluster};

use super::{slot::slot, traffic::Traffic, *};

/// Long enough that nobody takes over while the machine has much to do.
const PATIENT: Duration = Duration::from_secs(15);
/// Short enough for a test to wait.
const IMPATIENT: Duration = Duration::from_millis(1000);

pub(crate) fn config(cluster: &RedisCluster) -> RedisConfig {
    let urls = cluster.urls();
    RedisConfig {
        servers: RedisServers::Cluster(urls.iter().map(|url| url.parse().unwrap()).collect()),
        tls: None,
    }
}

fn store(cluster: &RedisCluster) -> Arc<RedisStore> {
    Arc::new(RedisStore::new(config(cluster)).unwrap())
}

/// The slot of a row.
fn slot_of(row: &OnlineRow) -> u16 {
    slot(&row_key(&project(), &view(), &row.key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_keeps_the_rules_of_every_store_while_slots_and_primaries_change() {
    let cluster = RedisCluster::start(PATIENT);
    let store = store(&cluster);
    suite::run(Arc::clone(&store) as Arc<dyn OnlineStore>).await;
    assert!(
        store
            .check()
            .await
            .unwrap()
            .version
            .ends_with(", 3 primaries")
    );

    // One of its nodes is not taken for a server that has everything.
    let one = at(&cluster.urls()[0]);
    let err = read(&one, &rows(100)).await.unwrap_err();
    assert!(matches!(err, OnlineError::Failed { .. }), "{err:?}");
    insta::assert_snapshot!(chain(&err).replace(&cluster.urls()[0], "NODE"));

    // A slot moves under load, key by key: one with several views of an entity, so that one command's keys are on two
    // nodes on the way.
    let entity = &rows(1)[0];
    let views =
        ["view@1", "view@2", "view@3", "view@4"].map(|view| view.parse::<ViewId>().unwrap());
    for view in &views {
        store
            .write(&project(), view, None, std::slice::from_ref(entity))
            .await
            .unwrap();
    }
    let keys = [entity.key.clone()];
    let lookups = views.each_ref().map(|view| Lookup {
        view,
        keys: &keys,
        cache: None,
    });
    let moving = slot_of(entity);
    let before = store.begin_load(&project(), &view()).await.unwrap();
    let traffic = Traffic::start(&store).await;
    let handle = tokio::runtime::Handle::current();
    for _ in 0..PRIMARIES {
        let to = (cluster.owner(moving).unwrap() + 1) % PRIMARIES;
        block_in_place(|| {
            cluster.migrate(moving, to, || {
                handle.block_on(async {
                    let rows = store.read(&project(), &lookups).await.unwrap();
                    assert!(rows.iter().all(|rows| rows[0].is_some()), "{rows:?}");
                    let fresh = format!("moves to {to}");
                    let revision = revision("view@1", &[feature("value", "int64")], None);
                    let fresh = row(&revision, &fresh, time(0, 0), &[None]);
                    write(&store, std::slice::from_ref(&fresh)).await.unwrap();
                    assert!(read(&store, &[fresh]).await.unwrap()[0].is_some());
                });
            });
        });
        traffic.goes_on().await;
    }
    let seen = traffic.end().await;
    assert_eq!((seen.errors, seen.older), (0, vec![]));
    // The primaries are the same ones, so the load is whole.
    store
        .end_load(&project(), &view(), &before, b"moved")
        .await
        .unwrap();
    assert_eq!(
        store
            .load(&project(), &view())
            .await
            .unwrap()
            .progress
            .as_deref(),
        Some(b"moved".as_slice())
    );

    // A replica takes over in good order, which loses nothing. The progress is not believed all the same: nobody can
    // tell it from one that did.
    let begun = store.begin_load(&project(), &view()).await.unwrap();
    let cache = near_cache(&store).await;
    let traffic = Traffic::start(&store).await;
    block_in_place(|| cluster.fail_over(moving));
    traffic.goes_on().await;
    wait_for_tracking(&cache).await;
    let seen = traffic.end().await;
    assert_eq!(seen.older, Vec::<String>::new());
    let ended = store.end_load(&project(), &view(), &begun, b"all").await;
    assert!(
        matches!(ended, Err(OnlineError::LostRows { .. })),
        "{ended:?}"
    );
    assert_eq!(
        store.load(&project(), &view()).await.unwrap().progress,
        None
    );
    load(&store).await.unwrap();
    assert!(
        store
            .load(&project(), &view())
            .await
            .unwrap()
            .progress
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_goes_on_when_a_primary_is_killed_and_a_load_whose_rows_are_lost_is_not_noted() {
    let mut cluster = RedisCluster::start(IMPATIENT);
    let store = store(&cluster);
    let first = &rows(1)[0];
    let number = slot_of(first);

    // The replica is cut off while rows are written, so it takes over without them.
    load(&store).await.unwrap();
    let begun = store.begin_load(&project(), &view()).await.unwrap();
    assert!(begun.progress.is_some());
    let old = cluster.owner(number).unwrap();
    block_in_place(|| {
        let replica = cluster.replica_of(old);
        cluster.node(replica).stop();
        cluster.node(old).drop_replicas();
    });
    write(&store, &rows(100)).await.unwrap();
    // Noted while all primaries live, and void when one of them does not any more: its note may well outlive its rows.
    store
        .end_load(&project(), &view(), &begun, b"all")
        .await
        .unwrap();
    let later = store.begin_load(&project(), &view()).await.unwrap();
    assert_eq!(later.progress.as_deref(), Some(b"all".as_slice()));
    let traffic = Traffic::start(&store).await;
    block_in_place(|| {
        let replica = cluster.replica_of(old);
        cluster.node(old).kill();
        cluster.node(replica).cont();
        cluster.wait_for_failover(number, old);
    });
    traffic.goes_on().await;
    assert!(traffic.end().await.errors > 0);
    let ended = store.end_load(&project(), &view(), &later, b"more").await;
    assert!(
        matches!(ended, Err(OnlineError::LostRows { .. })),
        "{ended:?}"
    );
    let lost = read(&store, &rows(100)).await.unwrap();
    assert!(lost.iter().any(Option::is_none), "nothing was lost");
    let next = store.begin_load(&project(), &view()).await.unwrap();
    assert_eq!(
        next.progress, None,
        "rows are missing, so all are loaded again"
    );
    write(&store, &rows(100)).await.unwrap();
    store
        .end_load(&project(), &view(), &next, b"all")
        .await
        .unwrap();
    assert!(
        read(&store, &rows(100))
            .await
            .unwrap()
            .iter()
            .all(Option::is_some)
    );

    // Back, it is a replica of the one that took over. A cluster that lacks slots says so.
    block_in_place(|| {
        cluster.node(old).restart();
        cluster.wait_until_sound();
    });
    assert_eq!(store.check().await.unwrap().warnings, Vec::<String>::new());
    block_in_place(|| {
        let owner = cluster.owner(number).unwrap();
        let replica = cluster.replica_of(owner);
        cluster.node(replica).kill();
        cluster.node(owner).kill();
    });
    let err = read(&store, &rows(1)).await.unwrap_err();
    assert!(matches!(err, OnlineError::Unavailable { .. }), "{err:?}");
}
