//! What was written and read through several processes, and what must be true of it.
//!
//! Every key has one writer at a time, which numbers its writes from 1; a row says its number. All times are of the
//! machine's one monotonic clock, in nanoseconds.

#![expect(
    clippy::cast_possible_truncation,
    reason = "no test takes that many nanoseconds or writes"
)]

use std::{collections::BTreeMap, time::Duration};

/// What happened.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) writes: Vec<Write>,
    pub(super) runs: Vec<Run>,
    pub(super) pushes: Vec<Push>,
}

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) process: usize,
    pub(super) key: usize,
    pub(super) number: u64,
    pub(super) acknowledged: u64,
}

/// Reads of one key, one after the other, that all gave the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) process: usize,
    pub(super) key: usize,
    pub(super) number: u64,
    /// When the first of them had ended.
    pub(super) first_ended: u64,
    /// When the last of them began.
    pub(super) last_began: u64,
}

/// A process has handled a push.
#[derive(Clone, Copy, Debug)]
pub(super) struct Push {
    pub(super) process: usize,
    pub(super) key: usize,
    pub(super) handled: u64,
}

impl History {
    /// Reads that are older than they may be: `late` after a write was acknowledged, all must reflect it.
    pub(super) fn stale(&self, late: Duration) -> Vec<String> {
        let late = late.as_nanos() as u64;
        let mut found = Vec::new();
        for run in &self.runs {
            let newer = self
                .writes
                .iter()
                .filter(|write| write.key == run.key && write.number > run.number);
            let Some(first) = newer.map(|write| write.acknowledged).min() else {
                continue;
            };
            if run.last_began > first + late {
                let micros = (run.last_began - first) / 1000;
                found.push(format!(
                    "{run:?} began {micros} us after a newer write was acknowledged"
                ));
            }
        }
        found
    }

    /// Reads that are older than one that had ended before, through the same process.
    pub(super) fn back(&self) -> Vec<String> {
        let mut found = Vec::new();
        for one in &self.runs {
            for other in &self.runs {
                let same = (one.process, one.key) == (other.process, other.key);
                if same && other.number < one.number && other.last_began > one.first_ended {
                    found.push(format!("{other:?} after {one:?}"));
                }
            }
        }
        found
    }

    /// Reads that do not reflect a write that the same process had made before.
    pub(super) fn not_own(&self) -> Vec<String> {
        let own = |run: &Run, write: &Write| {
            (run.process, run.key) == (write.process, write.key)
                && run.number < write.number
                && run.last_began > write.acknowledged
        };
        let pairs = self
            .runs
            .iter()
            .flat_map(|run| self.writes.iter().map(move |write| (run, write)));
        pairs
            .filter(|(run, write)| own(run, write))
            .map(|(run, write)| format!("{run:?} after {write:?}"))
            .collect()
    }

    /// Reads that do not reflect a write whose push had been handled before. Every write has been pushed to every
    /// process, so the n-th push of a key is that of its n-th write.
    pub(super) fn after_push(&self, processes: usize) -> Vec<String> {
        let mut found = Vec::new();
        for process in 0..processes {
            let mut pushes: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
            for push in self.pushes.iter().filter(|push| push.process == process) {
                pushes.entry(push.key).or_default().push(push.handled);
            }
            for (key, handled) in &mut pushes {
                handled.sort_unstable();
                let writes = self.writes.iter().filter(|write| write.key == *key).count();
                assert_eq!(handled.len(), writes, "pushes of key {key}");
            }
            for run in self.runs.iter().filter(|run| run.process == process) {
                // The push of the next write.
                let next = pushes
                    .get(&run.key)
                    .and_then(|handled| handled.get(run.number as usize));
                if let Some(handled) = next
                    && run.last_began > *handled
                {
                    found.push(format!("{run:?} after the push at {handled}"));
                }
            }
        }
        found
    }

    /// Per write, how long after its acknowledgement the last read of another process began that did not reflect it.
    pub(super) fn delays(&self) -> Vec<Duration> {
        let delay = |write: &Write| {
            let stale = self.runs.iter().filter(|run| {
                run.process != write.process && run.key == write.key && run.number < write.number
            });
            let last = stale.map(|run| run.last_began).max().unwrap_or(0);
            Duration::from_nanos(last.saturating_sub(write.acknowledged))
        };
        self.writes.iter().map(delay).collect()
    }
}

#[test]
fn the_checks_find_what_they_look_for_and_nothing_else() {
    let write = |number, acknowledged| Write {
        process: 0,
        key: 0,
        number,
        acknowledged,
    };
    let run = |process, number, first_ended, last_began| Run {
        process,
        key: 0,
        number,
        first_ended,
        last_began,
    };
    let push = |handled| Push {
        process: 1,
        key: 0,
        handled,
    };
    let found = |runs: &[Run]| {
        let history = History {
            writes: vec![write(1, 100), write(2, 200), write(3, 300)],
            pushes: vec![push(110), push(210), push(310)],
            runs: runs.to_vec(),
        };
        [
            history.stale(Duration::from_nanos(50)).len(),
            history.back().len(),
            history.not_own().len(),
            history.after_push(2).len(),
        ]
    };
    for (runs, want) in [
        (vec![], [0, 0, 0, 0]),
        (vec![run(1, 1, 90, 210), run(1, 2, 210, 310)], [0, 0, 0, 0]),
        (vec![run(1, 1, 90, 211)], [0, 0, 0, 1]),
        (vec![run(1, 1, 90, 251)], [1, 0, 0, 1]),
        (vec![run(1, 0, 90, 150)], [0, 0, 0, 1]),
        (vec![run(1, 0, 90, 151)], [1, 0, 0, 1]),
        (vec![run(1, 3, 290, 400)], [0, 0, 0, 0]),
        (vec![run(1, 2, 200, 220), run(1, 1, 90, 200)], [0, 0, 0, 0]),
        (vec![run(1, 2, 200, 220), run(1, 1, 90, 201)], [0, 1, 0, 0]),
        (vec![run(0, 2, 200, 220), run(1, 1, 90, 201)], [0, 0, 0, 0]),
        (vec![run(0, 1, 90, 200)], [0, 0, 0, 0]),
        (vec![run(0, 1, 90, 201)], [0, 0, 1, 0]),
    ] {
        assert_eq!(found(&runs), want, "{runs:?}");
    }
}
