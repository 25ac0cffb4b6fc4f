//! Rows deleted at a bounded rate, so that a store's other clients do not notice.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::{Instant, sleep_until};
use vintner_core::{EntityKey, ProjectName, ViewId};

use crate::{error::OnlineError, store::OnlineStore};

/// Keys per call to the store at most, so that each call is short.
const BATCH_KEYS: u32 = 512;

/// Deletes rows of a view version by their entities.
#[derive(Debug)]
pub struct PacedDeletion<'a> {
    store: &'a dyn OnlineStore,
    project: &'a ProjectName,
    view: &'a ViewId,
    rate: NonZeroU32,
    next: Option<Instant>,
}

impl<'a> PacedDeletion<'a> {
    /// At most `rate` entities a second, whether they have a row or not.
    pub fn new(
        store: &'a dyn OnlineStore,
        project: &'a ProjectName,
        view: &'a ViewId,
        rate: NonZeroU32,
    ) -> Self {
        Self {
            store,
            project,
            view,
            rate,
            next: None,
        }
    }

    /// Deletes the rows of these entities and says how many there were. Can be dropped between any two calls to the
    /// store, and done again.
    ///
    /// # Errors
    /// [`OnlineError`] of the store.
    pub async fn delete(&mut self, keys: &[EntityKey]) -> Result<u64, OnlineError> {
        let mut deleted = 0;
        let batch = self.rate.get().min(BATCH_KEYS);
        for keys in keys.chunks(batch as usize) {
            if let Some(next) = self.next {
                sleep_until(next).await;
            }
            let takes =
                Duration::from_secs(1).mul_f64(keys.len() as f64 / f64::from(self.rate.get()));
            self.next = Some(Instant::now() + takes);
            deleted += self
                .store
                .delete_rows(self.project, self.view, keys)
                .await?;
        }
        Ok(deleted)
    }
}
