//! A service that is asked for about ten times what it can answer: what is too much is refused at once, what is let in is
//! answered, memory stays where it is, and neither one selection of features nor one client takes it from the others.
//!
//! The store is slow here, by a proxy, so that what the service can do is known and is the same on every machine.
//! `cargo nextest run -p vintner-cli -E 'test(overload)' --no-capture` prints the figures.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinSet, block_in_place},
    time::{MissedTickBehavior, interval},
};
use vintner_core::{Column, FeatureType, ScalarType, Value};
use vintner_ops::{
    Fault, Operations as _, OpsError,
    api::{After, EntityColumn, OnlineRequest},
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_server::Client;
use vintner_testkit::redis::{Proxy, RedisServer};

use crate::harness::{Repo, Service, until};

/// How long the store takes for an answer.
const STORE: Duration = Duration::from_millis(40);
/// How many calls are answered at one time, and how many of them for one selection.
const CALLS: usize = 16;
const OF_A_SELECTION: usize = 4;
/// How much more is asked for than can be answered.
const TIMES: f64 = 10.0;
/// Over so many connections: each may have several calls at one time, and the others wait at the client.
const CONNECTIONS: usize = 16;
/// How long everything is measured.
const MEASURE: Duration = Duration::from_secs(2);
/// How much the memory of the service may grow.
const GROWTH: u64 = 48 << 20;
/// How long a refusal may take, all but one in a hundred, on a machine that is busy.
const REFUSAL: Duration = Duration::from_millis(500);

/// The selection that is asked for too often, and another one.
const MUCH: &str = "customer_profile:credit_limit";
const LITTLE: &str = "customer_profile:plan";

async fn ask(client: &Client, feature: &str) -> Result<(), OpsError> {
    let integer = FeatureType::Scalar(ScalarType::Int64);
    let request = OnlineRequest {
        features: FeatureRequest::Features(vec![feature.parse().unwrap()]),
        names: NameStyle::Short,
        after: After::default(),
        entities: vec![EntityColumn {
            name: "customer_id".to_owned(),
            values: Column::of(integer, [Some(Value::Int64(1))]).unwrap(),
        }],
    };
    let answer = client.get_online(request).await?;
    assert!(!answer.features[0].values.is_null(0), "{answer:?}");
    Ok(())
}

/// How long requests took, by how they ended.
#[derive(Debug, Default)]
struct Times {
    answered: Vec<Duration>,
    refused: Vec<Duration>,
}

impl Times {
    /// Notes a request; one that ended otherwise ends the test.
    fn note(&mut self, began: Instant, answer: Result<(), OpsError>) {
        let took = began.elapsed();
        match answer {
            Ok(()) => self.answered.push(took),
            Err(error) if error.message.starts_with("the service is busy with ") => {
                assert_eq!(error.fault, Fault::Store);
                self.refused.push(took);
            }
            Err(error) => panic!("{}", error.chain()),
        }
    }
}

/// The time that so many of a hundred took at most.
fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = times.len() * percent / 100;
    times[at.min(times.len() - 1)]
}

/// Asks one after the other until told to end.
async fn closed(client: Client, feature: &'static str, is_over: Arc<AtomicBool>) -> Times {
    let mut times = Times::default();
    while !is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        times.note(began, ask(&client, feature).await);
    }
    times
}

/// Asks so often in a second, whatever comes of it, until told to end.
async fn open(clients: &[Client], rate: f64, is_over: &AtomicBool) -> Times {
    let times = Arc::new(Mutex::new(Times::default()));
    let mut asked = JoinSet::new();
    let mut clients = clients.iter().cycle();
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begin = Instant::now();
    let mut sent = 0;
    while !is_over.load(Ordering::SeqCst) {
        tick.tick().await;
        while f64::from(sent) < begin.elapsed().as_secs_f64() * rate {
            sent += 1;
            let client = clients.next().unwrap().clone();
            let times = Arc::clone(&times);
            asked.spawn(async move {
                let began = Instant::now();
                let answer = ask(&client, MUCH).await;
                times.lock().unwrap().note(began, answer);
            });
        }
    }
    while let Some(ended) = asked.join_next().await {
        ended.unwrap();
    }
    std::mem::take(&mut *times.lock().unwrap())
}

/// Runs callers of the other selection beside something, and gives what both saw.
async fn beside<T>(client: &Client, work: impl AsyncFnOnce(Arc<AtomicBool>) -> T) -> (Times, T) {
    let is_over = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(closed(client.clone(), LITTLE, Arc::clone(&is_over)));
    let clock = tokio::spawn({
        let is_over = Arc::clone(&is_over);
        async move {
            tokio::time::sleep_until(tokio::time::Instant::now() + MEASURE).await;
            is_over.store(true, Ordering::SeqCst);
        }
    });
    let done = work(is_over).await;
    clock.await.unwrap();
    (others.await.unwrap(), done)
}

/// The memory that the service has of the machine, in bytes.
fn resident(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kibibytes << 10
}

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
    ask(&other, LITTLE).await.unwrap();
    proxy.slow_by(STORE);

    // What it can do for this selection: as many callers as it takes, each on a connection of its own.
    let (alone, able) = beside(&other, async |is_over| {
        let mut callers = JoinSet::new();
        for client in &clients[..OF_A_SELECTION] {
            callers.spawn(closed(client.clone(), MUCH, Arc::clone(&is_over)));
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
    let (others, much) = beside(&other, async |is_over| {
        open(&clients, rate * TIMES, &is_over).await
    })
    .await;
    let after = resident(&service);
    let sent = much.answered.len() + much.refused.len();
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
    let (others, ()) = beside(&other, async |_| ()).await;
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
