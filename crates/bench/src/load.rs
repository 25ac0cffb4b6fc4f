//! Closed and open loops over any number of connections.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;

use crate::{Error, side::Side};

/// How hard to ask, and how long.
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) measure: Duration,
    pub(crate) warm_up: Duration,
}

/// What came of it.
pub(crate) struct Outcome {
    /// Latencies, in nanoseconds.
    pub(crate) times: Histogram<u64>,
    took: Duration,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }
}

/// Runs a load on connections that `connect` makes.
pub(crate) async fn run<S: Side>(
    load: &Load,
    connect: impl AsyncFn() -> Result<S, Error>,
) -> Result<Outcome, Error> {
    let mut sides = Vec::new();
    for _ in 0..load.connections {
        sides.push(connect().await?);
    }
    let begin = Instant::now() + Duration::from_millis(20);
    let from = begin + load.warm_up;
    let until = from + load.measure;
    let mut workers = Vec::new();
    let mut queues = Vec::new();
    for side in sides {
        match load.rate {
            None => workers.push(tokio::spawn(closed(side, from, until))),
            Some(_) => {
                let (queue, due) = mpsc::unbounded_channel();
                queues.push(queue);
                workers.push(tokio::spawn(open(side, due, from)));
            }
        }
    }
    if let Some(rate) = load.rate {
        let interval = Duration::from_secs_f64(1.0 / rate);
        tokio::task::spawn_blocking(move || pace(&queues, begin, until, interval));
    }
    let mut times = empty();
    for worker in workers {
        times.add(worker.await??)?;
    }
    Ok(Outcome {
        times,
        took: load.measure,
    })
}

/// Sends the next request when there is an answer.
async fn closed<S: Side>(
    mut side: S,
    from: Instant,
    until: Instant,
) -> Result<Histogram<u64>, Error> {
    let mut times = empty();
    loop {
        let sent = Instant::now();
        side.ask().await?;
        let done = Instant::now();
        if done >= until {
            return Ok(times);
        }
        if sent >= from {
            times.saturating_record(nanos(done - sent));
        }
    }
}

/// Sends requests as they become due, one after the other.
async fn open<S: Side>(
    mut side: S,
    mut due: mpsc::UnboundedReceiver<Instant>,
    from: Instant,
) -> Result<Histogram<u64>, Error> {
    let mut times = empty();
    while let Some(due) = due.recv().await {
        side.ask().await?;
        if due >= from {
            times.saturating_record(nanos(due.elapsed()));
        }
    }
    Ok(times)
}

/// Gives every connection its share of the times at which requests are due. A thread of its own, since the runtime's
/// timer counts in milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "the time at which a request is due is what is waited for"
)]
fn pace(
    queues: &[mpsc::UnboundedSender<Instant>],
    begin: Instant,
    until: Instant,
    interval: Duration,
) {
    let mut due = begin;
    for queue in queues.iter().cycle() {
        if due >= until {
            return;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if queue.send(due).is_err() {
            return;
        }
        due += interval;
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// From a microsecond to a minute, with three digits.
fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}
