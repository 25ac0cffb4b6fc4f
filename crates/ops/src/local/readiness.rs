//! Whether the online store answers, asked in the background.
//!
//! A service starts without its store and says that it is not ready. One answer makes it ready; it stays so until the
//! store has not answered for [`PATIENCE`], so that one slow answer takes no service out of rotation.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::Local;
use crate::error::OpsError;

/// How often a store that answers is asked.
const WHILE_READY: Duration = Duration::from_secs(1);
/// How often one that does not is asked: its return is noticed well within a second.
const WHILE_NOT_READY: Duration = Duration::from_millis(250);
/// How long one answer may take.
const BOUND: Duration = Duration::from_secs(1);
/// How long a store that answered need not answer before the service is no longer ready.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether online requests can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They can.
    Ready,
    /// They cannot, and why.
    NotReady(String),
}

/// What is known of the store, and since when.
#[derive(Debug, Default)]
struct Watched {
    answered: Option<Instant>,
}

impl Watched {
    /// What to say after the store was asked.
    fn asked(&mut self, now: Instant, answer: Result<(), String>) -> Readiness {
        match answer {
            Ok(()) => {
                self.answered = Some(now);
                Readiness::Ready
            }
            Err(_) if self.answered.is_some_and(|at| now < at + PATIENCE) => Readiness::Ready,
            Err(why) => Readiness::NotReady(why),
        }
    }
}

impl Local {
    /// What a service says before it has asked the store.
    pub fn not_asked_yet() -> Readiness {
        Readiness::NotReady("the online store has not been asked yet".to_owned())
    }

    /// Asks the online store whether it answers, again and again, and tells of every change. Runs until it is dropped.
    pub async fn keep_readiness_current(&self, tell: &watch::Sender<Readiness>) {
        let mut watched = Watched::default();
        loop {
            let answer = match timeout(BOUND, self.ask_online_store()).await {
                Ok(answer) => answer.map_err(|error| error.chain()),
                Err(_) => Err(format!(
                    "the online store has not answered within {BOUND:?}"
                )),
            };
            let now = watched.asked(Instant::now(), answer);
            let ready = now == Readiness::Ready;
            tell.send_if_modified(|said| {
                let turned = (*said == Readiness::Ready) != ready;
                match &now {
                    Readiness::Ready if turned => tracing::info!("ready: the online store answers"),
                    Readiness::NotReady(why) if turned || *said == Self::not_asked_yet() => {
                        tracing::warn!(%why, "not ready: the online store does not answer");
                    }
                    Readiness::Ready | Readiness::NotReady(_) => {}
                }
                let changed = *said != now;
                *said = now;
                changed
            });
            let pause = if ready { WHILE_READY } else { WHILE_NOT_READY };
            sleep_until(Instant::now() + pause).await;
        }
    }

    async fn ask_online_store(&self) -> Result<(), OpsError> {
        let store = self.online().await?;
        store.check().await.map_err(super::online::online_error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_makes_ready_and_only_a_long_silence_makes_not_ready() {
        let begin = Instant::now();
        let mut watched = Watched::default();
        let down = || Err("down".to_owned());
        let not_ready = || Readiness::NotReady("down".to_owned());
        for (millis, answer, want) in [
            (0, down(), not_ready()), // it was never there
            (1_000, Ok(()), Readiness::Ready),
            (2_000, down(), Readiness::Ready),
            (3_999, down(), Readiness::Ready),
            (4_000, down(), not_ready()),
            (4_250, Ok(()), Readiness::Ready),
            (7_249, down(), Readiness::Ready),
            (7_250, down(), not_ready()),
            (9_000, down(), not_ready()),
        ] {
            let said = watched.asked(begin + Duration::from_millis(millis), answer);
            assert_eq!(said, want, "at {millis} ms");
        }
    }
}
