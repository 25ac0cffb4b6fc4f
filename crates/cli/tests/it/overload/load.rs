//! Callers of a service that is asked for too much, and what they see.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use vintner_core::{Column, FeatureType, ScalarType, Value};
use vintner_ops::{
    Fault, Operations as _, OpsError,
    api::{After, EntityColumn, OnlineRequest},
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_server::Client;

use crate::harness::Service;

/// How long everything is measured.
pub(super) const MEASURE: Duration = Duration::from_secs(2);
/// How much the memory of the service may grow.
pub(super) const GROWTH: u64 = 48 << 20;

/// One feature of some customers.
pub(super) fn question(feature: &str, customers: i64) -> OnlineRequest {
    let integer = FeatureType::Scalar(ScalarType::Int64);
    let values = (1..=customers).map(|id| Some(Value::Int64(id)));
    OnlineRequest {
        features: FeatureRequest::Features(vec![feature.parse().unwrap()]),
        names: NameStyle::Short,
        after: After::default(),
        entities: vec![EntityColumn {
            name: "customer_id".to_owned(),
            values: Column::of(integer, values).unwrap(),
        }],
    }
}

pub(super) async fn ask(client: &Client, question: &OnlineRequest) -> Result<(), OpsError> {
    let answer = client.get_online(question.clone()).await?;
    assert!(!answer.features[0].values.is_null(0), "{answer:?}");
    Ok(())
}

/// How long requests took, by how they ended.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) answered: Vec<Duration>,
    pub(super) refused: Vec<Duration>,
    /// Their deadline passed.
    pub(super) late: Vec<Duration>,
}

impl Times {
    /// Notes a request; one that ended otherwise ends the test.
    fn note(&mut self, began: Instant, answer: Result<(), OpsError>) {
        let took = began.elapsed();
        let error = match answer {
            Ok(()) => return self.answered.push(took),
            Err(error) => error,
        };
        assert_eq!(error.fault, Fault::Store, "{}", error.chain());
        if error.message.starts_with("the service is busy with ") {
            self.refused.push(took);
        } else if error.message.contains("deadline") {
            self.late.push(took);
        } else {
            panic!("{}", error.chain());
        }
    }

    /// How many there were.
    pub(super) fn sent(&self) -> usize {
        self.answered.len() + self.refused.len() + self.late.len()
    }
}

/// The time that so many of a hundred took at most; none of no times.
pub(super) fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = times.len() * percent / 100;
    let at = at.min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

/// Asks one after the other until told to end.
pub(super) async fn closed(
    client: Client,
    question: OnlineRequest,
    is_over: Arc<AtomicBool>,
) -> Times {
    let mut times = Times::default();
    while !is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        times.note(began, ask(&client, &question).await);
    }
    times
}

/// Asks so often in a second, whatever comes of it, until told to end.
pub(super) async fn open(
    clients: &[Client],
    question: &OnlineRequest,
    rate: f64,
    is_over: &AtomicBool,
) -> Times {
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
            let (times, question) = (Arc::clone(&times), question.clone());
            asked.spawn(async move {
                let began = Instant::now();
                let answer = ask(&client, &question).await;
                times.lock().unwrap().note(began, answer);
            });
        }
    }
    while let Some(ended) = asked.join_next().await {
        ended.unwrap();
    }
    std::mem::take(&mut *times.lock().unwrap())
}

/// Runs a caller with another question beside something, and gives what both saw.
pub(super) async fn beside<T>(
    client: &Client,
    question: &OnlineRequest,
    work: impl AsyncFnOnce(Arc<AtomicBool>) -> T,
) -> (Times, T) {
    let is_over = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(closed(
        client.clone(),
        question.clone(),
        Arc::clone(&is_over),
    ));
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
pub(super) fn resident(service: &Service) -> u64 {
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
