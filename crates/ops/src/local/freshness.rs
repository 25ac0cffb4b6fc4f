//! How fresh the views are: found out in the background, from what the online store says it has loaded, the tables'
//! logs and the records of runs, so that asking for it costs nothing.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep_until};
use vintner_core::{Timestamp, ViewId};
use vintner_offline::{
    materialize::OnlineCursor,
    runs::{Kind, Outcome},
};
use vintner_registry::model::{Refresh, ViewRevision};

use super::{Local, online::online_error};
use crate::error::{Fault, OpsError};

/// How often it is found out.
const EVERY: Duration = Duration::from_secs(30);
/// Among how many of the newest runs the last one that succeeded is looked for.
const RUNS: usize = 10_000;

impl Local {
    /// Keeps what is known of the views' freshness current. Runs until it is dropped.
    pub async fn keep_freshness_current(&self) {
        loop {
            if let Err(error) = self.refresh_freshness().await {
                tracing::warn!(error = %error.chain(), "it cannot be told how fresh the views are");
            }
            sleep_until(Instant::now() + EVERY).await;
        }
    }

    /// Finds out how fresh every view is. What cannot be found out of one view leaves the others be.
    async fn refresh_freshness(&self) -> Result<(), OpsError> {
        let snapshot = self.snapshot().await?;
        let Some(project) = snapshot.projects.get(&self.project) else {
            return Ok(());
        };
        let runs = self.last_successes().await?;
        let mut failed = None;
        for view in project.views.values().filter_map(|view| view.current()) {
            let meter = self.meters.view(&view.id);
            let last_success = runs.get(&view.id).copied();
            meter.last_success.set(last_success.map(Timestamp::micros));
            if !view.online || matches!(view.refresh, Refresh::Static { .. }) {
                continue;
            }
            match self.newest_event_online(view, last_success).await {
                Ok(newest) => meter.newest_event.set(newest.map(Timestamp::micros)),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// When the last run of each view version that succeeded ended.
    async fn last_successes(&self) -> Result<BTreeMap<ViewId, Timestamp>, OpsError> {
        let records = self
            .run_table()?
            .list(Some(&self.project), None, Some(Kind::Materialize), RUNS)
            .await;
        let records = records.map_err(|error| OpsError::from_error(Fault::Store, error))?;
        let mut last = BTreeMap::new();
        for run in records {
            if run.outcome == Outcome::Succeeded {
                let at = last.entry(run.view).or_insert(run.finished_at);
                *at = run.finished_at.max(*at);
            }
        }
        Ok(last)
    }

    /// The newest event time of what has been loaded. Rows whose time had not come by the last run are not online.
    async fn newest_event_online(
        &self,
        view: &ViewRevision,
        last_success: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, OpsError> {
        let failed = |error| OpsError::from_error(Fault::Store, error);
        let load = self.online().await?.load(&self.project, &view.id).await;
        let progress = load.map_err(online_error)?.progress;
        let cursor = progress
            .as_deref()
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .and_then(OnlineCursor::from_json);
        let Some(cursor) = cursor else {
            return Ok(None);
        };
        let table = self
            .offline
            .table(&self.project, &view.id)
            .map_err(failed)?;
        let loaded = table.at(cursor.table_version()).await.map_err(failed)?;
        let newest = loaded.newest_event();
        Ok(match last_success {
            Some(run) => newest.map(|newest| newest.min(run)),
            None => newest,
        })
    }
}
