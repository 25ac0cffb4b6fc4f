//! A service whose log nobody reads: it answers as if somebody did, and when the reader is back there are whole lines and
//! the number of those that are missing.

use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::task::{JoinSet, block_in_place};
use vintner_core::{Column, FeatureType, ScalarType, Value};
use vintner_ops::{
    Fault, Operations as _,
    api::{After, EntityColumn, OnlineRequest},
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_server::Client;

use crate::harness::{Repo, Service, until};

/// How many calls fail, each with a line in the log: several times what the pipe and the service keep of them.
const CALLS: usize = 10_000;
/// How many callers ask at one time.
const CALLERS: usize = 32;
/// How long one call may take on a machine that is busy.
const LONG: Duration = Duration::from_secs(20);
/// How long a service that stops may take when nobody reads its last lines.
const END: Duration = Duration::from_secs(10);

/// A service whose online store is not there, so that every request is a failure that is logged.
fn failing() -> (Repo, Service) {
    let repo = Repo::new();
    repo.replace(
        "vintner.yaml",
        "online_store: {type: embedded, path: .vintner/online}",
        "online_store: {type: redis, url: \"redis://127.0.0.1:1\"}",
    );
    repo.done(&["apply", "--yes"]);
    let service = repo.serve_unheard(&["--log-format", "json"]);
    (repo, service)
}

/// Makes the calls, all of which fail in time.
async fn fail(service: &Service) {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let client = Client::connect(&service.url).await.unwrap();
        let client = client.with_deadline(LONG);
        callers.spawn(async move {
            for _ in 0..CALLS.div_ceil(CALLERS) {
                let request = OnlineRequest {
                    features: FeatureRequest::Service("churn_model".parse().unwrap()),
                    names: NameStyle::Short,
                    after: After::default(),
                    entities: vec![EntityColumn {
                        name: "customer_id".to_owned(),
                        values: Column::of(
                            FeatureType::Scalar(ScalarType::Int64),
                            [Some(Value::Int64(1))],
                        )
                        .unwrap(),
                    }],
                };
                let error = client.get_online(request).await.unwrap_err();
                assert_eq!(error.fault, Fault::Store, "{error}");
                assert!(error.message.contains("is not available"), "{error}");
            }
        });
    }
    callers.join_all().await;
}

fn dropped(service: &Service) -> u64 {
    let metrics = service.page("/metrics").1;
    let mut lines = metrics.lines();
    let found = lines.find_map(|line| line.strip_prefix("vintner_log_lines_dropped_total "));
    found.unwrap().parse().unwrap()
}

/// The entries of a log, each of which is whole.
fn entries(log: &str) -> Vec<Json> {
    assert!(log.ends_with('\n'), "{log:?}");
    let entry = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(entry).collect()
}

fn count(entries: &[Json], message: &str) -> u64 {
    let found = entries.iter().filter(|entry| entry["message"] == message);
    found.count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_stops_no_call_and_is_whole_when_it_is_read() {
    let (_repo, mut service) = failing();
    fail(&service).await;
    let missing = block_in_place(|| dropped(&service));
    assert!(missing > 0, "all lines had room");
    service.hear();
    // What is logged from now on is read.
    fail(&service).await;
    let missing = block_in_place(|| dropped(&service));
    let (code, log) = block_in_place(|| service.stop_with_log());
    assert_eq!(code, Some(0));
    let entries = entries(&log);
    assert_eq!(entries.last().unwrap()["message"], "stopped");
    let told = entries.iter().filter_map(|entry| entry["lines"].as_u64());
    assert_eq!(told.sum::<u64>(), missing);
    let failed = count(&entries, "a call failed");
    let all = 2 * (CALLS.div_ceil(CALLERS) * CALLERS) as u64;
    assert!(failed < all, "{failed} of {all}");
    assert!(failed + missing >= all, "{failed} and {missing} of {all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_stops_though_nobody_reads_its_log() {
    let (_repo, service) = failing();
    fail(&service).await;
    block_in_place(|| until("an idle service", || service.in_flight() == 0.0));
    let began = Instant::now();
    let (code, log) = block_in_place(|| service.stop_with_log());
    let took = began.elapsed();
    assert_eq!(code, Some(0));
    assert!(took < END, "it took {took:?}");
    assert!(count(&entries(&log), "a call failed") > 0);
}
