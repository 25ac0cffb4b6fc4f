//! The records of what ran: of runs, and of deletions.

use std::time::Instant;

use vintner_core::{Timestamp, ViewId, ViewName};
use vintner_offline::runs::{self, Kind, OnlineCounts, Outcome, RunRecord, Runs};

use super::{Local, materialize::micros_since};
use crate::{
    api::{EntitiesDeleted, Run, ViewRun, Work},
    error::{Fault, OpsError},
};

/// When something began, by the deployment's clock and by the machine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    at: Timestamp,
    pub(super) instant: Instant,
}

impl Local {
    pub(super) fn begin(&self) -> Began {
        Began {
            at: self.clock.now(),
            instant: Instant::now(),
        }
    }

    /// Records what was done. When that fails, what was done stands.
    pub(super) async fn record(
        &self,
        view: &ViewId,
        work: runs::Work,
        reason: String,
        began: Began,
        error: Option<&OpsError>,
    ) {
        // Not by the clock, which may stand still, and then nothing would take any time.
        let took = micros_since(began.instant);
        let record = RunRecord {
            id: uuid::Uuid::new_v4(),
            project: self.project.clone(),
            view: view.clone(),
            work,
            reason,
            started_at: began.at,
            finished_at: Timestamp::from_micros(began.at.micros().saturating_add_unsigned(took)),
            outcome: match error {
                Some(_) => Outcome::Failed,
                None => Outcome::Succeeded,
            },
            error: error.map(OpsError::chain),
        };
        if let Ok(runs) = self.run_table() {
            runs.record(&record).await;
        }
    }

    pub(super) fn run_table(&self) -> Result<Runs, OpsError> {
        Runs::of(&self.offline).map_err(|error| OpsError::from_error(Fault::Store, error))
    }

    /// The newest records, the newest first.
    pub(super) async fn records(
        &self,
        view: Option<&ViewName>,
        kind: Option<Kind>,
        limit: usize,
    ) -> Result<Vec<Run>, OpsError> {
        let records = self
            .run_table()?
            .list(Some(&self.project), view, kind, limit)
            .await;
        let records = records.map_err(|error| OpsError::from_error(Fault::Store, error))?;
        Ok(records.into_iter().map(run_of).collect())
    }
}

/// A run as it is recorded.
pub(super) fn materialized(
    run: &ViewRun,
    window: Option<(Timestamp, Timestamp)>,
    is_online: bool,
) -> runs::Work {
    runs::Work::Materialize(runs::Materialized {
        window_start: window.map(|(start, _)| start),
        window_end: window.map(|(_, end)| end),
        rows_read: run.rows_read,
        rows_written: run.rows_written,
        rows_left_out: run.rows_left_out,
        online: is_online.then_some(OnlineCounts {
            written: run.online_written,
            kept: run.online_kept,
            held_back: run.online_held_back,
        }),
    })
}

fn run_of(record: RunRecord) -> Run {
    let work = match record.work {
        runs::Work::Materialize(done) => {
            let online = done.online.unwrap_or_default();
            let (started, finished) = (record.started_at.micros(), record.finished_at.micros());
            Work::Materialized(ViewRun {
                plan: record.reason,
                rows_read: done.rows_read,
                rows_written: done.rows_written,
                rows_left_out: done.rows_left_out,
                online_written: online.written,
                online_kept: online.kept,
                online_held_back: online.held_back,
                offline_micros: u64::try_from(finished.saturating_sub(started)).unwrap_or(0),
                ..ViewRun::nothing(record.view)
            })
        }
        runs::Work::Delete(done) => Work::Deleted(EntitiesDeleted {
            view: record.view,
            author: done.author,
            entities: done.entities,
            found: done.found,
            rows: done.rows,
            online_rows: done.online_rows,
        }),
    };
    Run {
        id: record.id.to_string(),
        work,
        started_at: record.started_at,
        finished_at: record.finished_at,
        error: record.error.unwrap_or_default(),
    }
}
