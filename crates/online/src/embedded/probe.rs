//! An environment tried out.

use std::time::{Duration, Instant};

use super::environment::Environment;
use crate::{error::OnlineError, store::Probe};

/// How often each call is timed.
const TIMES: usize = 5;
/// The key that is written. No view's, whose keys have zero bytes.
const KEY: &[u8] = b"_doctor";

pub(super) fn probe(environment: &Environment) -> Result<Probe, OnlineError> {
    let mut latencies = [const { Vec::new() }; 3];
    for _ in 0..TIMES {
        let started = Instant::now();
        environment.write("write a test value", |txn, databases| {
            databases.progress.put(txn, KEY, b"ok")
        })?;
        let written = Instant::now();
        environment.read("read a test value", |txn, databases| {
            databases.progress.get(txn, KEY).map(|_| ())
        })?;
        let read = Instant::now();
        environment.write("delete a test value", |txn, databases| {
            databases.progress.delete(txn, KEY).map(|_| ())
        })?;
        let times = [written - started, read - written, read.elapsed()];
        for (all, one) in latencies.iter_mut().zip(times) {
            all.push(one);
        }
    }
    let rows = environment.read("count rows", |txn, databases| databases.rows.len(txn))?;
    Ok(Probe {
        latencies: latencies.map(median),
        clocks: Vec::new(),
        facts: vec![("rows".to_owned(), rows.to_string())],
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
