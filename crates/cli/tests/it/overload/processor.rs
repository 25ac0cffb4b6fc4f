//! A service whose own processor is full: its store is embedded, it is kept to one core, and it is asked for ten times as
//! many batches as it can look up.
//!
//! What is asserted does not depend on how fast the machine is, or how busy.

use std::{fmt::Write as _, fs, process::Command, sync::Arc, time::Duration};

use tokio::task::{JoinSet, block_in_place};
use vintner_server::Client;

use super::{
    CONNECTIONS, LITTLE, MUCH, TIMES,
    load::{GROWTH, MEASURE, ask, beside, closed, open, quantile, question, resident},
};
use crate::harness::{Repo, Service, until};

/// How many entities a request asks for: many, so that to look them up takes far longer than to refuse to.
const ENTITIES: i64 = 2000;
/// How many calls are answered at one time.
const CALLS: usize = 8;
/// How long callers wait for an answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Keeps all threads of the service to one core. False where nothing does that.
fn keep_to_one_core(service: &Service) -> bool {
    let id = service.id().to_string();
    let taskset = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", "0", &id])
        .output();
    taskset.is_ok_and(|kept| kept.status.success())
}

#[expect(
    clippy::print_stderr,
    reason = "the figures are for whoever asks for them"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_processor_is_full_refuses_early_and_goes_on() {
    let repo = Repo::new();
    let mut profiles = fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
    for id in 4..=ENTITIES {
        let _ = writeln!(profiles, "{id},2026-01-05T08:00:00Z,free,0.5");
    }
    repo.write("data/profiles.csv", &profiles);
    block_in_place(|| {
        repo.done(&["apply", "--yes"]);
        repo.done(&["materialize"]);
    });
    let service = repo.serve_with(&["--max-calls", &CALLS.to_string()]);
    if !keep_to_one_core(&service) {
        eprintln!("SKIPPED: there is no `taskset` (util-linux) that keeps a process to one core");
        return;
    }
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = Client::connect(&service.url).await.unwrap();
        clients.push(client.with_deadline(DEADLINE));
    }
    let other = Client::connect(&service.url).await.unwrap();
    let (many, little) = (question(MUCH, ENTITIES), question(LITTLE, 1));
    ask(&other, &little).await.unwrap();

    // What it can do.
    let at_once = CALLS / 2;
    let able = |is_over: Arc<_>| {
        let mut callers = JoinSet::new();
        for client in &clients[..at_once] {
            callers.spawn(closed(client.clone(), many.clone(), Arc::clone(&is_over)));
        }
        callers.join_all()
    };
    let (alone, able) = beside(&other, &little, able).await;
    let able = able.iter().map(|times| times.answered.len()).sum::<usize>();
    let rate = able as f64 / MEASURE.as_secs_f64();
    let before = resident(&service);

    // Ten times that.
    let (others, much) = beside(&other, &little, async |is_over| {
        open(&clients, &many, rate * TIMES, &is_over).await
    })
    .await;
    let after = resident(&service);
    let figures = |times: &[Duration]| {
        format!(
            "{} (p50 {:?}, p99 {:?})",
            times.len(),
            quantile(times, 50),
            quantile(times, 99)
        )
    };
    eprintln!(
        "can answer {rate:.0} requests/s; in {MEASURE:?} {} were sent: answered {}, refused {}, late {}; the other \
         selection: answered {}, refused {}, alone {}; resident memory {} MiB before, {} MiB after",
        much.sent(),
        figures(&much.answered),
        figures(&much.refused),
        figures(&much.late),
        figures(&others.answered),
        figures(&others.refused),
        figures(&alone.answered),
        before >> 20,
        after >> 20,
    );
    assert!(much.sent() > 3 * able, "only that much more was sent");
    assert!(!others.answered.is_empty() && !much.answered.is_empty());
    // An answer that is late is none: the callers' own clocks see to that.
    assert!(much.answered.len() * 10 > able, "hardly any are answered");
    assert!(
        much.late.len() * 4 < much.refused.len(),
        "they wait to be refused"
    );
    assert!(after < before + GROWTH, "{before} bytes, and then {after}");
    // With the load it is all over.
    block_in_place(|| until("an idle service", || service.in_flight() == 0.0));
    for client in &clients {
        ask(client, &many).await.unwrap();
    }
    ask(&other, &little).await.unwrap();
    assert_eq!(block_in_place(|| service.stop()), Some(0));
}
