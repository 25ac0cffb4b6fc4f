//! `get-historical`: entity rows in, training rows out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::oneshot;
use vintner_core::ProjectName;
use vintner_offline::stream::{DataFusionError, RecordBatchStreamAdapter, SessionContext};
use vintner_offline::{
    delta::OfflineStore,
    historical::{self, DatasetOptions, HistoricalError, plan_dataset},
    join::{JoinCounts, ViewCounts},
};
use vintner_registry::{
    model::{Project, Snapshot},
    selection::select,
};

use crate::{
    api::{EntityRows, HistoricalReport, HistoricalRequest, JoinWork, TrainingRows, ViewWork},
    error::{Fault, OpsError},
};

/// How many tables' logs are read at a time.
const LOGS_READ_AT_ONCE: usize = 16;

/// Begins the join. The answer's batches are made as they are taken; dropping them stops all reading.
pub(super) async fn get_historical(
    offline: &OfflineStore,
    session: SessionContext,
    snapshot: &Snapshot,
    (name, project): (&ProjectName, &Project),
    request: &HistoricalRequest,
    entity_rows: EntityRows,
) -> Result<TrainingRows, OpsError> {
    let started = Instant::now();
    let selection = select(project, &request.features, request.names)
        .map_err(|error| OpsError::from_error(Fault::NotFound, error))?;
    if let Some(view) = selection.views.iter().find(|view| !view.offline) {
        return Err(OpsError::new(
            Fault::Request,
            format!(
                "the feature view `{}` is not in the offline store: it says `offline: false`",
                view.id
            ),
        ));
    }
    let options = DatasetOptions {
        knowledge: request.knowledge,
        boundary: request.boundary,
        time_column: request.timestamp_column.clone(),
    };
    let plan = plan_dataset(&selection, &options, &entity_rows.schema).map_err(historical_error)?;
    let views = plan.views.iter().map(Arc::clone).collect::<Vec<_>>();
    let tables = futures::stream::iter(views)
        .map(|view| async move { offline.feature_table(name, &view, None).await })
        .buffered(LOGS_READ_AT_ONCE)
        .try_collect::<Vec<_>>()
        .await
        .map_err(|error| OpsError::from_error(Fault::Store, error))?;
    let batches = entity_rows
        .batches
        .map_err(|error| DataFusionError::External(Box::new(error)));
    let rows = RecordBatchStreamAdapter::new(entity_rows.schema, batches);
    let rows = historical::EntityRows::from_stream(Box::pin(rows));
    let run = plan
        .execute(session.task_ctx(), rows, tables)
        .map_err(historical_error)?;

    let planning = started.elapsed();
    let plan_text = run.explain();
    let (tell, report) = oneshot::channel();
    let join = run.join;
    let rows = run.rows.map_err(|error| historical_error(error.into()));
    // What has been counted is told when the last batch has been taken.
    let told = futures::stream::once(async move {
        let mut report = report_of(&join.counts());
        report.work.plan = plan_text;
        report.work.planning_micros = micros(planning);
        report.work.micros = micros(started.elapsed());
        let _ = tell.send(report);
        None
    });
    let batches = rows
        .map(Some)
        .chain(told)
        .filter_map(std::future::ready)
        .boxed();
    Ok(TrainingRows {
        schema: plan.schema,
        batches,
        registry_version: snapshot.version,
        report,
    })
}

fn report_of(counts: &JoinCounts) -> HistoricalReport {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let matched = counts
        .views
        .iter()
        .map(|view| (view.view.clone(), number(view.matched_rows)));
    HistoricalReport {
        rows: number(counts.rows),
        rows_without_key: number(counts.rows_without_key),
        rows_matched: matched.collect(),
        work: JoinWork {
            chunks: number(counts.chunks),
            entity_rows_micros: micros(counts.entity_rows_time),
            output_micros: micros(counts.output_time),
            views: counts.views.iter().map(work_of).collect(),
            ..JoinWork::default()
        },
    }
}

fn work_of(view: &ViewCounts) -> ViewWork {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    ViewWork {
        view: view.view.to_string(),
        files: number(view.pruned.files),
        files_opened: number(view.pruned.files_opened),
        row_groups: number(view.pruned.row_groups),
        row_groups_read: number(view.pruned.row_groups_read),
        rows: view.pruned.rows,
        rows_read: view.pruned.rows_read,
        bytes_read: view.bytes_read,
        values_read: number(view.winners),
        ties: number(view.ties),
        rows_matched: number(view.matched_rows),
        open_micros: micros(view.open_time),
        match_micros: micros(view.match_time),
        values_micros: micros(view.values_time),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A training dataset's errors, by whose fault they are. An operation's error that has travelled through the engine as
/// the entity rows' own comes out as it was.
pub(crate) fn historical_error(error: HistoricalError) -> OpsError {
    let error = match error {
        HistoricalError::Engine(engine) => match operation_error(engine) {
            Ok(error) => return error,
            Err(engine) => HistoricalError::Engine(engine),
        },
        other => other,
    };
    let fault = match error {
        HistoricalError::EntityRows(_)
        | HistoricalError::Format(_)
        | HistoricalError::Unwritable { .. } => Fault::Request,
        HistoricalError::EntityValue(_) | HistoricalError::Read { .. } => Fault::Data,
        HistoricalError::Write { .. } | HistoricalError::Engine(_) => Fault::Store,
    };
    OpsError::from_error(fault, error)
}

fn operation_error(error: DataFusionError) -> Result<OpsError, DataFusionError> {
    match error {
        DataFusionError::External(cause) => match cause.downcast::<OpsError>() {
            Ok(error) => Ok(*error),
            Err(cause) => Err(DataFusionError::External(cause)),
        },
        DataFusionError::Context(context, cause) => operation_error(*cause)
            .map_err(|cause| DataFusionError::Context(context, Box::new(cause))),
        other => Err(other),
    }
}
