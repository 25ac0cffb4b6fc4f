//! How long writers that meet wait before they try again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder, Sleeper, TokioSleeper};
use uuid::Uuid;

/// The first wait. A commit takes about as long.
const SHORTEST: Duration = Duration::from_millis(20);
/// No wait is longer, but for the part that is left to chance.
const LONGEST: Duration = Duration::from_secs(2);

/// A number of waits, each about twice as long as the one before, and not the same for two writers.
pub(crate) struct Waits(ExponentialBackoff);

impl Waits {
    /// So many waits.
    pub(crate) fn new(times: u32) -> Self {
        let (seed, _) = Uuid::new_v4().as_u64_pair();
        let waits = ExponentialBuilder::new()
            .with_min_delay(SHORTEST)
            .with_max_delay(LONGEST)
            .with_max_times(usize::try_from(times).unwrap_or(usize::MAX))
            .with_jitter_seed(seed)
            .with_jitter();
        Self(waits.build())
    }

    /// Waits; false, and at once, when there were enough waits.
    pub(crate) async fn next(&mut self) -> bool {
        match self.0.next() {
            Some(wait) => {
                TokioSleeper.sleep(wait).await;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_come_to_an_end() {
        let mut waits = Waits::new(3);
        let began = std::time::Instant::now();
        for _ in 0..3 {
            assert!(waits.next().await);
        }
        let waited = began.elapsed();
        assert!(waited >= SHORTEST * 7, "{waited:?}");
        assert!(!waits.next().await);
    }
}
