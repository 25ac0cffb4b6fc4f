//! For how long what the cache holds may be given out.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A moment of this process's monotonic clock, in nanoseconds. None is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) fn now() -> Self {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        let nanos = BEGINNING.elapsed().as_nanos();
        // A process does not live for 584 years.
        Self(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
    }

    pub(super) fn after(self, time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Held from the moment that tracking is on, and only for as long as its servers go on answering. Once it has ended,
/// or someone has found that it has run out, it stays ended: whoever found so has read past the cache, and what is in
/// the cache may be older than what that one has read.
#[derive(Debug)]
pub(super) struct Lease {
    /// In nanoseconds, as [`Moment`]; 0 once it has ended.
    until: AtomicU64,
}

impl Lease {
    pub(super) fn until(moment: Moment) -> Self {
        Self {
            until: AtomicU64::new(moment.0),
        }
    }

    /// Whether it holds; when it has run out it ends.
    pub(super) fn holds(&self, now: Moment) -> bool {
        let mut until = self.until.load(Ordering::SeqCst);
        while until <= now.0 {
            let ended = self
                .until
                .compare_exchange(until, 0, Ordering::SeqCst, Ordering::SeqCst);
            match ended {
                Ok(_) => return false,
                Err(0) => return false,
                Err(extended) => until = extended,
            }
        }
        true
    }

    /// Makes it hold for longer. False when it has ended.
    pub(super) fn extend(&self, to: Moment) -> bool {
        let extended = self
            .until
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |until| {
                (until != 0).then_some(until.max(to.0))
            });
        extended.is_ok()
    }

    pub(super) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_until_its_moment_and_stays_ended_once_someone_has_found_it_run_out() {
        let lease = Lease::until(Moment(10));
        assert!(lease.holds(Moment(9)));
        assert!(lease.extend(Moment(20)));
        assert!(lease.extend(Moment(15)), "it is never made shorter");
        assert!(lease.holds(Moment(19)));
        assert!(!lease.holds(Moment(20)));
        assert!(!lease.extend(Moment(30)));
        assert!(!lease.holds(Moment(1)));
    }

    #[test]
    fn a_lease_that_nobody_found_run_out_can_be_extended() {
        let lease = Lease::until(Moment(10));
        assert!(lease.extend(Moment(20)), "though it is past 10 by now");
        assert!(lease.holds(Moment(15)));
    }

    #[test]
    fn a_lease_that_was_ended_does_not_hold() {
        let lease = Lease::until(Moment(10));
        lease.end();
        assert!(!lease.holds(Moment(1)));
        assert!(!lease.extend(Moment(30)));
    }

    #[test]
    fn moments_go_on() {
        let (one, two) = (Moment::now(), Moment::now());
        assert!(one <= two && one > Moment(0));
        assert!(one.after(Duration::from_secs(1)) > one);
    }
}
