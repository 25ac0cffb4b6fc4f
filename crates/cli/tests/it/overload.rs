//! A service that is asked for about ten times what it can answer: what is too much is refused at once, what is let in is
//! answered, memory stays where it is, and neither one selection of features nor one client takes it from the others.
//!
//! The store is slow here, by a proxy, so that what the service can do is known and is the same on every machine. In
//! [`processor`] the service itself is what is too slow.
//! `cargo nextest run -p vintner-cli -E 'test(overload)' --no-capture` prints the figures.

mod load;
mod processor;

use std::{sync::Arc, time::Duration};

use tokio::task::{JoinSet, block_in_place};
use vintner_server::Client;
use vintner_testkit::redis::{Proxy, RedisServer};

use self::load::{GROWTH, MEASURE, ask, beside, closed, open, quantile, question, resident};
use crate::harness::{Repo, until};

/// How long the store takes for an answer.
const STORE: Duration = Duration::from_millis(40);
/// How many calls are answered at one time, and how many of them for one selection.
const CALLS: usize = 16;
const OF_A_SELECTION: usize = 4;
/// How much more is asked for than can be answered.
const TIMES: f64 = 10.0;
/// Over so many connections: each may have several calls at one time, and the others wait at the client.
const CONNECTIONS: usize = 16;
/// How long a refusal may take, all but one in a hundred, on a machine that is busy.
const REFUSAL: Duration = Duration::from_millis(500);

/// The selection that is asked for too often, and another one.
const MUCH: &str = "customer_profile:credit_limit";
const LITTLE: &str = "customer_profile:plan";

#[expect(
    clippy::print_stderr,
    reason = "the figures are for whoever asks for them"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_service_under_overload_refuses_early_and_goes_on() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.address()).await;
    let repo = Repo::new();
    let embedded = "online_store: {type: embedded, path: .vintner/online}";
    let online = format!(
        "online_store: {{type: redis, url: \"redis://{}\"}}",
        proxy.address()
    );
    repo.replace("vintner.yaml", embedded, &online);
    block_in_place(|| {
        repo.done(&["apply", "--yes"]);
        repo.done(&["materialize"]);
    });
    let share = format!("{}%", 100 * OF_A_SELECTION / CALLS);
    let calls = CALLS.to_string();
    let service = repo.serve_with(&["--max-calls", &calls, "--selection-share", &share]);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(&service.url).await.unwrap());
    }
    let other = Client::connect(&service.url).await.unwrap();
    let (many, little) = (question(MUCH, 1), question(LITTLE, 1));
    ask(&other, &little).await.unwrap();
    proxy.slow_by(STORE);

    // What it can do for this selection: as many callers as it takes, each on a connection of its own.
    let (alone, able) = beside(&other, &little, async |is_over| {
        let mut callers = JoinSet::new();
        for client in &clients[..OF_A_SELECTION] {
            callers.spawn(closed(client.clone(), many.clone(), Arc::clone(&is_over)));
        }
        callers.join_all().await
    })
    .await;
    let refused = able.iter().map(|times| times.refused.len()).sum::<usize>();
    assert_eq!(refused, 0, "as many as it takes are refused");
    let able = able.iter().map(|times| times.answered.len()).sum::<usize>();
    let rate = able as f64 / MEASURE.as_secs_f64();
    let before = resident(&service);

    // Ten times that.
    let (others, much) = beside(&other, &little, async |is_over| {
        open(&clients, &many, rate * TIMES, &is_over).await
    })
    .await;
    let after = resident(&service);
    let sent = much.sent();
    let p99 = |times: &[Duration]| quantile(times, 99);
    eprintln!(
        "can answer {rate:.0} requests/s; asked for {:.0}/s: answered {:.0}/s (p50 {:?}, p99 {:?}), refused {:.0}/s \
         (p50 {:?}, p99 {:?}); the other selection: {} answered and {} refused (p99 {:?}), alone {} (p99 {:?}); \
         resident memory {} MiB before, {} MiB after",
        sent as f64 / MEASURE.as_secs_f64(),
        much.answered.len() as f64 / MEASURE.as_secs_f64(),
        quantile(&much.answered, 50),
        p99(&much.answered),
        much.refused.len() as f64 / MEASURE.as_secs_f64(),
        quantile(&much.refused, 50),
        p99(&much.refused),
        others.answered.len(),
        others.refused.len(),
        p99(&others.answered),
        alone.answered.len(),
        p99(&alone.answered),
        before >> 20,
        after >> 20,
    );
    assert!(
        sent as f64 > able as f64 * TIMES / 2.0,
        "only {sent} were sent, and it can do {able}"
    );
    assert!(
        much.answered.len() * 2 > able,
        "{} of {able} are answered",
        much.answered.len()
    );
    let half = quantile(&much.refused, 50);
    assert!(half < STORE, "half of the refusals take {half:?}");
    assert!(
        p99(&much.refused) < REFUSAL,
        "a refusal takes {:?}",
        p99(&much.refused)
    );
    assert!(after < before + GROWTH, "{before} bytes, and then {after}");
    // The others hardly notice.
    assert!(others.answered.len() * 2 > alone.answered.len());
    assert!(
        others.refused.len() * 100 <= others.answered.len(),
        "{} refused",
        others.refused.len()
    );

    // A client that sends nothing more on calls that it has begun, as many as it can.
    let slow = Client::connect(&service.url).await.unwrap();
    let mut held = JoinSet::new();
    for _ in 0..CALLS {
        let slow = slow.clone();
        held.spawn(async move {
            let _answers = slow.push_stream(futures::stream::pending()).await;
            std::future::pending::<()>().await;
        });
    }
    block_in_place(|| until("calls that are held", || service.in_flight() >= 1.0));
    let (others, ()) = beside(&other, &little, async |_| ()).await;
    assert!(service.in_flight() >= 1.0, "they are held to the end");
    assert_eq!(others.refused.len(), 0, "beside a client that holds calls");
    assert!(others.answered.len() * 2 > alone.answered.len());
    held.shutdown().await;
    assert_eq!(block_in_place(|| service.stop()), Some(0));
}

#[test]
fn limits_that_cannot_be_are_refused() {
    let repo = Repo::new();
    let refused = |args: &[&str]| {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(args);
        repo.failure(&all)
    };
    let said: Vec<_> = [
        &["--max-calls", "0"][..],
        &["--selection-share", "101%"],
        &["--connection-share", "0.5"],
        &["--max-message", "2GiB"],
        &["--max-entities", "20", "--max-entities-at-once", "10"],
    ]
    .into_iter()
    .map(refused)
    .collect();
    insta::assert_snapshot!(said.join("\n"));
}
