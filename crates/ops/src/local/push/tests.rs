//! Pushes, what they refuse and what their tokens promise. Histories of them are in `local::histories`.

use std::fs;

use vintner_online::Status;

use crate::{
    Fault, Operations as _,
    api::{After, Scope, WriteToken},
    local::world::{Row, World, after, push, request},
};

#[tokio::test]
async fn pushes_that_wait_for_each_other_share_a_commit() {
    let world = World::new().await;
    let now = world.now();
    let rows: Vec<[Row; 1]> = (0..64).map(|k| [(k, now, now, Some(k))]).collect();
    let pushes = rows.iter().map(|rows| push(&world.local, rows));
    let reports = futures::future::join_all(pushes).await;
    let versions: std::collections::BTreeSet<_> =
        reports.iter().map(|r| r.token.table_version()).collect();
    assert!(versions.len() < 16, "{versions:?}");
    for (k, report) in (0..).zip(&reports) {
        let found = world.online(k, after(&report.token)).await.unwrap();
        assert_eq!(found, (Status::Present, Some(k)));
    }
}

#[tokio::test]
async fn a_refused_row_leaves_nothing_of_its_push() {
    let world = World::new().await;
    let now = world.now();
    let far = now + 5_000_001;
    let refused = request(&[(1, now, now, Some(1)), (2, far, now, Some(2))], None);
    let error = world.local.push(&refused).await.unwrap_err();
    assert_eq!(error.fault, Fault::Data);
    assert!(
        error.message.starts_with("row 2, column `event_timestamp`"),
        "{error}"
    );
    let found = world.online(1, After::default()).await.unwrap();
    assert_eq!(found, (Status::NotFound, None));
    assert_eq!(world.historical(&[(1, now)], vec![]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_row_that_is_a_little_early_waits_for_its_time() {
    let world = World::new().await;
    let now = world.now();
    // The clock of this test stands still, and then no wait brings the time.
    let early = request(&[(1, now + 20_000, now, Some(1))], None);
    let error = world.local.push(&early).await.unwrap_err();
    assert_eq!(error.fault, Fault::Data);
    assert!(error.message.contains("is in the future"), "{error}");
    assert_eq!(
        world
            .historical(&[(1, now + 9_000_000)], vec![])
            .await
            .unwrap(),
        [None]
    );
}

#[tokio::test]
async fn a_token_is_a_promise_that_is_kept_or_refused() {
    let world = World::new().await;
    let now = world.now();
    let token = push(&world.local, &[(1, now, now, Some(7))]).await.token;
    assert_eq!(
        world.online(1, after(&token)).await.unwrap(),
        (Status::Present, Some(7))
    );
    assert_eq!(
        world
            .historical(&[(1, now)], vec![token.clone()])
            .await
            .unwrap(),
        [Some(7)]
    );

    let of = |project: &str, view: &str, version| {
        WriteToken::new(
            project.parse().unwrap(),
            view.parse().unwrap(),
            version,
            None,
        )
    };
    for (token, fault) in [
        (of("other", "readings@1", 0), Fault::Request),
        (of("p", "others@1", 0), Fault::Request),
        (
            of("p", "readings@1", token.table_version() + 1),
            Fault::Behind,
        ),
    ] {
        let online = world.online(1, after(&token)).await.unwrap_err();
        let historical = world
            .historical(&[(1, now)], vec![token.clone()])
            .await
            .unwrap_err();
        assert_eq!(
            (online.fault, historical.fault),
            (fault, fault),
            "{token}: {online}"
        );
    }

    // Another online store takes the place of this one: older, or empty, but never silently so.
    let world = world.reopened();
    // The view's writer has the store open until it has seen that nobody pushes any more.
    tokio::task::yield_now().await;
    fs::remove_dir_all(world.folder.path().join("o")).unwrap();
    let world = world.reopened();
    assert_eq!(
        world.online(1, After::default()).await.unwrap(),
        (Status::NotFound, None)
    );
    let lost = world.online(1, after(&token)).await.unwrap_err();
    assert_eq!(lost.fault, Fault::Behind);
    insta::assert_snapshot!(lost, @"the online store was started again or emptied since the rows of readings@1 were pushed, and has not been loaded from the table; the rows that must be seen are in version 0; `vintner materialize readings` brings them back");
    world.materialize(Scope::Incremental).await;
    assert_eq!(
        world.online(1, after(&token)).await.unwrap(),
        (Status::Present, Some(7))
    );
}
