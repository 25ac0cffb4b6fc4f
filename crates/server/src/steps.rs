//! The steps of a long operation on their way to the caller.
//!
//! A run tells of its steps in a plain function call, which cannot wait; the caller reads them as fast as it likes.
//! The queue between them is bounded: when it is full, a view's progress takes the place of its older progress.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{Stream, StreamExt as _, stream};
use vintner_core::waiting::{On, Task, waiting};
use vintner_ops::api::{KeysSeen, MaterializeEvent};

/// How many steps may wait before progress is left out. What is never left out, the start and the end of each view's
/// run, comes on top.
const BOUND: usize = 256;

/// A queue of steps: the run's end of it.
pub(crate) struct StepSender<E: Replaces>(Arc<Mutex<Queue<E>>>);

/// A queue of steps: the caller's end of it. Ends when the sender is dropped.
pub(crate) struct Steps<E>(Arc<Mutex<Queue<E>>>);

/// A step of which a later one may take the place.
pub(crate) trait Replaces {
    /// Whether it says all that an older step says.
    fn replaces(&self, older: &Self) -> bool;
}

struct Queue<E> {
    waiting: VecDeque<E>,
    closed: bool,
    reader: Option<Waker>,
}

/// A new queue.
pub(crate) fn queue<E: Replaces>() -> (StepSender<E>, Steps<E>) {
    let queue = Arc::new(Mutex::new(Queue {
        waiting: VecDeque::new(),
        closed: false,
        reader: None,
    }));
    (StepSender(Arc::clone(&queue)), Steps(queue))
}

/// The same stream, of what a task does: whoever waits for it waits for what the task waits for.
pub(crate) fn of_task<S: Stream + Unpin>(
    task: Arc<Task>,
    stream: S,
) -> impl Stream<Item = S::Item> {
    stream::unfold((stream, On::Task(task)), async |(mut stream, on)| {
        let item = waiting(&on, stream.next()).await?;
        Some((item, (stream, on)))
    })
}

impl<E: Replaces> StepSender<E> {
    /// Adds a step, without waiting.
    pub(crate) fn send(&self, event: E) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = queue.waiting.len() >= BOUND;
        match queue
            .waiting
            .iter_mut()
            .rev()
            .find(|old| event.replaces(old))
        {
            Some(older) if full => *older = event,
            _ => queue.waiting.push_back(event),
        }
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }
}

/// Progress of one view in one store.
impl Replaces for MaterializeEvent {
    fn replaces(&self, older: &Self) -> bool {
        match (self, older) {
            (
                Self::Progress { view, phase, .. },
                Self::Progress {
                    view: older_view,
                    phase: older_phase,
                    ..
                },
            ) => view == older_view && phase == older_phase,
            _ => false,
        }
    }
}

impl Replaces for KeysSeen {
    fn replaces(&self, older: &Self) -> bool {
        self.view == older.view
    }
}

impl<E: Replaces> Drop for StepSender<E> {
    fn drop(&mut self) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }
}

impl<E> Stream for Steps<E> {
    type Item = E;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
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
