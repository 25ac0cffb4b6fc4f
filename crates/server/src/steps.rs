//! The steps of a materialization on their way to the caller.
//!
//! A run tells of its steps in a plain function call, which cannot wait; the caller reads them as fast as it likes.
//! The queue between them is bounded: when it is full, a view's progress takes the place of its older progress.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::Stream;
use vintner_ops::api::MaterializeEvent;

/// How many steps may wait before progress is left out. What is never left out, the start and the end of each view's
/// run, comes on top.
const BOUND: usize = 256;

/// A queue of steps: the run's end of it.
pub(crate) struct StepSender(Arc<Mutex<Queue>>);

/// A queue of steps: the caller's end of it. Ends when the sender is dropped.
pub(crate) struct Steps(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<MaterializeEvent>,
    closed: bool,
    reader: Option<Waker>,
}

/// A new queue.
pub(crate) fn queue() -> (StepSender, Steps) {
    let queue = Arc::default();
    (StepSender(Arc::clone(&queue)), Steps(queue))
}

impl StepSender {
    /// Adds a step, without waiting.
    pub(crate) fn send(&self, event: MaterializeEvent) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = queue.waiting.len() >= BOUND;
        match queue
            .waiting
            .iter_mut()
            .rev()
            .find(|old| replaces(&event, old))
        {
            Some(older) if full => *older = event,
            _ => queue.waiting.push_back(event),
        }
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }
}

/// Whether two steps are progress of one view in one store.
fn replaces(new: &MaterializeEvent, old: &MaterializeEvent) -> bool {
    match (new, old) {
        (
            MaterializeEvent::Progress { view, phase, .. },
            MaterializeEvent::Progress {
                view: older_view,
                phase: older_phase,
                ..
            },
        ) => view == older_view && phase == older_phase,
        _ => false,
    }
}

impl Drop for StepSender {
    fn drop(&mut self) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }
}

impl Stream for Steps {
    type Item = MaterializeEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<MaterializeEvent>> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.waiting.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use vintner_ops::api::Phase;

    use super::*;

    fn progress(view: &str, rows: u64) -> MaterializeEvent {
        MaterializeEvent::Progress {
            view: view.parse().unwrap(),
            phase: Phase::Offline,
            rows,
        }
    }

    fn started(view: &str) -> MaterializeEvent {
        MaterializeEvent::Started {
            view: view.parse().unwrap(),
            plan: String::new(),
        }
    }

    #[tokio::test]
    async fn every_step_comes_in_order_while_there_is_room() {
        let (sender, steps) = queue();
        let sent = [started("a@1"), progress("a@1", 1), progress("a@1", 2)];
        sent.iter().cloned().for_each(|event| sender.send(event));
        drop(sender);
        assert_eq!(steps.collect::<Vec<_>>().await, sent);
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_misses_old_progress_and_nothing_else() {
        let (sender, steps) = queue();
        let views: Vec<String> = (0..400).map(|i| format!("v{i}@1")).collect();
        for view in &views {
            sender.send(started(view));
        }
        for rows in 0..10_000 {
            sender.send(progress("v1@1", rows));
        }
        drop(sender);
        let got: Vec<_> = steps.collect().await;
        assert_eq!(got.len(), 401);
        assert_eq!(got.last(), Some(&progress("v1@1", 9_999)));
    }
}
