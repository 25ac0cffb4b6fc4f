//! What a piece of work waits for, so that whoever ends it can say what kept it.
//!
//! Who waits says so with [`waiting`]; who has the work done keeps a [`Waits`] for it and polls within it. Between the two
//! nothing is handed on: what is polled within is found by way of the thread. A task of its own is not within: it is a
//! [`Task`], and others wait for it.
//!
//! Not here: deadlines, and words for people.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::ids::ViewId;

thread_local! {
    /// Of the work that this thread does at this moment.
    static CURRENT: RefCell<Waits> = const { RefCell::new(Waits { count: 0, on: None }) };
}

/// Something that work can wait for.
#[derive(Clone, Debug)]
pub enum On {
    /// The online store of this name, which has no secrets.
    OnlineStore(Arc<str>),
    /// The table of this view version, and its turn to be written there.
    Table(ViewId),
    /// A task of its own, which may wait for something itself.
    Task(Arc<Task>),
}

/// A task of its own, for whose work others wait.
#[derive(Debug, Default)]
pub struct Task(Mutex<Waits>);

/// What one piece of work waits for.
#[derive(Debug, Default)]
pub struct Waits {
    /// How many of its parts wait.
    count: usize,
    /// What the last of them waits for.
    on: Option<On>,
}

impl Waits {
    /// What the work waits for at this moment, if it said so: never a task.
    pub fn on(&self) -> Option<On> {
        match self.on.as_ref().filter(|_| self.count > 0)? {
            On::Task(task) => task.on(),
            on => Some(on.clone()),
        }
    }

    /// Does a part of the work.
    pub fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        /// Puts back what was there, also when the work panics.
        struct Within<'a> {
            own: &'a mut Waits,
            before: Waits,
        }
        impl Drop for Within<'_> {
            fn drop(&mut self) {
                *self.own = CURRENT.replace(std::mem::take(&mut self.before));
            }
        }
        let before = CURRENT.replace(std::mem::take(self));
        let _within = Within { own: self, before };
        work()
    }
}

/// Does what may have to wait for something.
pub async fn waiting<T>(on: &On, work: impl Future<Output = T>) -> T {
    /// Whether it is counted among what waits.
    #[derive(Default)]
    struct Mark {
        is_set: bool,
    }
    impl Drop for Mark {
        fn drop(&mut self) {
            if self.is_set {
                // What ends the work may drop it where nothing is counted.
                CURRENT.with_borrow_mut(|waits| waits.count = waits.count.saturating_sub(1));
            }
        }
    }
    let mut work = pin!(work);
    let mut mark = Mark::default();
    poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() && !mark.is_set {
            mark.is_set = true;
            CURRENT.with_borrow_mut(|waits| {
                waits.count += 1;
                waits.on = Some(on.clone());
            });
        }
        polled
    })
    .await
}

impl Task {
    /// Does the task's work.
    pub async fn work<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            // Not held while it works, so that whoever asks need not wait.
            let mut waits = std::mem::take(&mut *self.waits());
            let polled = waits.during(|| work.as_mut().poll(cx));
            *self.waits() = waits;
            polled
        })
        .await
    }

    /// What it waits for at this moment, if it said so: never a task.
    pub fn on(&self) -> Option<On> {
        self.waits().on()
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    type Work<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

    fn words(waits: &Waits) -> String {
        match waits.on() {
            None => String::new(),
            Some(On::OnlineStore(name)) => name.to_string(),
            Some(On::Table(view)) => view.to_string(),
            Some(On::Task(_)) => panic!("a task is asked itself"),
        }
    }

    fn store(name: &str) -> On {
        On::OnlineStore(name.into())
    }

    /// Never done, until it may be.
    async fn until(is_done: &std::cell::Cell<bool>) {
        poll_fn(|_| match is_done.get() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    fn poll(waits: &mut Waits, work: &mut Work<'_>) -> Poll<()> {
        let mut cx = Context::from_waker(Waker::noop());
        waits.during(|| work.as_mut().poll(&mut cx))
    }

    #[test]
    fn work_waits_for_what_it_says_and_only_while_it_does() {
        let (first, second) = (Default::default(), Default::default());
        let mut waits = Waits::default();
        let (one, two) = (store("one"), On::Table("v@1".parse().unwrap()));
        let mut work: Work<'_> = Box::pin(async {
            waiting(&store("at once"), async {}).await;
            waiting(&one, until(&first)).await;
            waiting(&two, until(&second)).await;
            std::future::pending().await
        });
        assert_eq!(words(&waits), "");
        assert!(poll(&mut waits, &mut work).is_pending());
        assert_eq!(words(&waits), "one");
        assert!(poll(&mut waits, &mut work).is_pending());
        assert_eq!(words(&waits), "one");
        first.set(true);
        assert!(poll(&mut waits, &mut work).is_pending());
        assert_eq!(words(&waits), "v@1");
        second.set(true);
        assert!(poll(&mut waits, &mut work).is_pending());
        assert_eq!(words(&waits), "");
    }

    #[test]
    fn of_parts_that_wait_at_one_time_each_counts() {
        let (first, second) = (Default::default(), Default::default());
        let one = store("one");
        let mut waits = Waits::default();
        let part = |is_done| Box::pin(waiting(&one, until(is_done)));
        let mut parts: Vec<Work<'_>> = vec![part(&first), part(&second)];
        let mut poll_all = |parts: &mut Vec<_>| {
            for part in parts {
                let _ = poll(&mut waits, part);
            }
            waits.on().is_some()
        };
        assert!(poll_all(&mut parts));
        first.set(true);
        assert!(poll_all(&mut parts), "one is left");
        drop(parts.remove(0));
        second.set(true);
        assert!(!poll_all(&mut parts));
    }

    #[test]
    fn what_one_waits_for_is_nothing_to_another() {
        let (mut waits, mut others) = (Waits::default(), Waits::default());
        let one = store("one");
        let mut work: Work<'_> = Box::pin(waiting(&one, std::future::pending()));
        others.during(|| {
            assert!(poll(&mut waits, &mut work).is_pending());
            let panicked =
                std::panic::catch_unwind(|| Waits::default().during(|| panic!("it fails")));
            assert!(panicked.is_err());
        });
        // Dropped where it was never counted.
        others.during(|| drop(work));
        assert_eq!(
            (words(&waits), words(&others)),
            ("one".to_owned(), String::new())
        );
    }

    #[test]
    fn who_waits_for_a_task_waits_for_what_that_waits_for() {
        let is_done = Default::default();
        let task = Arc::new(Task::default());
        let one = store("one");
        let mut work: Work<'_> = Box::pin(task.work(async {
            waiting(&one, until(&is_done)).await;
            std::future::pending::<()>().await;
        }));
        let on = On::Task(Arc::clone(&task));
        let mut waits = Waits::default();
        let mut others: Work<'_> = Box::pin(waiting(&on, std::future::pending()));
        assert!(poll(&mut waits, &mut others).is_pending());
        assert_eq!(words(&waits), "");
        let mut outer = Waits::default();
        assert!(poll(&mut outer, &mut work).is_pending());
        assert_eq!(
            (words(&waits), words(&outer)),
            ("one".to_owned(), String::new())
        );
        is_done.set(true);
        assert!(poll(&mut outer, &mut work).is_pending());
        assert_eq!(words(&waits), "");
    }
}
