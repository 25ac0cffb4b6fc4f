//! Work that everyone who needs its result at the same time shares.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use super::errors::Failure;

type Work<T> = Shared<BoxFuture<'static, Result<T, Failure>>>;

/// One attempt at a time: the first who needs it begins it, others wait for the same one. Nobody waits with a lock
/// held, and nobody has to be the one who goes on waiting.
pub(super) struct Attempt<T: Clone>(Mutex<Option<Work<T>>>);

impl<T: Clone> Attempt<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The result of the attempt that goes on, or of one that begins now.
    pub(super) async fn join(
        &self,
        begin: impl FnOnce() -> BoxFuture<'static, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let work = self.lock().get_or_insert_with(|| begin().shared()).clone();
        let result = work.clone().await;
        let mut current = self.lock();
        if current
            .as_ref()
            .is_some_and(|current| current.ptr_eq(&work))
        {
            *current = None;
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Option<Work<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_at_the_same_time_share_and_the_next_begins_anew() {
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        let attempt = Attempt::new();
        let work = || {
            async {
                let number = BEGUN.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(number)
            }
            .boxed()
        };
        let (one, two) = join(attempt.join(work), attempt.join(work)).await;
        assert_eq!((one.unwrap(), two.unwrap()), (0, 0));
        assert_eq!(attempt.join(work).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn an_attempt_whose_first_waiter_is_gone_is_finished_by_the_next() {
        let attempt = Attempt::new();
        let (send, receive) = tokio::sync::oneshot::channel();
        let mut first =
            Box::pin(attempt.join(|| async move { Ok(receive.await.unwrap()) }.boxed()));
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        send.send(7).unwrap();
        let never = || async { panic!("the first one goes on") }.boxed();
        assert_eq!(attempt.join(never).await.unwrap(), 7);
    }
}
