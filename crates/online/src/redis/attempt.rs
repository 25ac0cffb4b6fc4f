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

/// When the attempt began that is waited for.
enum Begun {
    Now,
    Earlier,
}

impl<T: Clone> Attempt<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The result of the attempt that goes on, or of one that begins now. One that others have begun, perhaps long ago,
    /// and that fails is made once more.
    pub(super) async fn join(
        &self,
        begin: impl Fn() -> BoxFuture<'static, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.join_once(&begin).await {
            (Err(_), Begun::Earlier) => self.join_once(&begin).await.0,
            (result, _) => result,
        }
    }

    async fn join_once(
        &self,
        begin: impl Fn() -> BoxFuture<'static, Result<T, Failure>>,
    ) -> (Result<T, Failure>, Begun) {
        let (work, begun) = {
            let mut current = self.lock();
            match &*current {
                Some(work) => (work.clone(), Begun::Earlier),
                None => (current.insert(begin().shared()).clone(), Begun::Now),
            }
        };
        let result = work.clone().await;
        let mut current = self.lock();
        if current
            .as_ref()
            .is_some_and(|current| current.ptr_eq(&work))
        {
            *current = None;
        }
        (result, begun)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Work<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join;

    use super::{super::errors::Fault, *};

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
        let receive = Mutex::new(Some(receive));
        let mut first = Box::pin(attempt.join(|| {
            let receive = receive.lock().unwrap().take().unwrap();
            async move { Ok(receive.await.unwrap()) }.boxed()
        }));
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        send.send(7).unwrap();
        let never = || async { panic!("the first one goes on") }.boxed();
        assert_eq!(attempt.join(never).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn an_attempt_of_long_ago_that_fails_is_made_anew() {
        let attempt = Attempt::new();
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let receive = Mutex::new(Some(receive));
        let mut first = Box::pin(attempt.join(|| {
            let receive = receive.lock().unwrap().take().unwrap();
            async move {
                receive.await.ok();
                Err(Fault::NotReached.into())
            }
            .boxed()
        }));
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        drop(send);
        let now = || async { Ok(7) }.boxed();
        assert_eq!(attempt.join(now).await.unwrap(), 7);
        let fails = || async { Err(Fault::NotReached.into()) }.boxed();
        attempt.join(fails).await.unwrap_err();
    }
}
