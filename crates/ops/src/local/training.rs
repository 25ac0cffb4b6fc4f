//! `get-historical`: entity rows in, training rows out.

use std::{collections::BTreeMap, time::Instant};

use arrow::datatypes::SchemaRef;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::oneshot;
use vintner_core::{RegistryVersion, Timestamp};
use vintner_offline::stream::{DataFusionError, RecordBatchStreamAdapter, SessionContext};
use vintner_offline::{
    delta::OpenTable,
    historical::{self, DatasetOptions, DatasetPlan, HistoricalError, plan_dataset},
    join::{JoinCounts, ViewCounts},
};
use vintner_registry::{
    model::{Project, Snapshot},
    selection::{Selection, select},
};

use super::{
    after, datasets,
    materialize::micros,
    spine::{PlannedSpine, Stores},
    tables,
};
use crate::{
    api::{
        BatchStream, EntityRows, FeatureLint, HistoricalReport, HistoricalRequest, JoinWork, Lint,
        Spine, TrainingRows, ViewLint, ViewWork,
    },
    error::{Fault, OpsError},
    lint::findings,
};

/// What a dataset is made with, and since when.
pub(super) struct Begun {
    session: SessionContext,
    at: Instant,
}

impl Begun {
    /// Now, in this session.
    pub(super) fn with(session: SessionContext) -> Self {
        Self {
            session,
            at: Instant::now(),
        }
    }
}

/// What a dataset is made of.
pub(super) struct Inputs {
    pub(super) plan: DatasetPlan,
    /// One table per planned view.
    pub(super) tables: Vec<OpenTable>,
    pub(super) entity_rows: EntityRows,
}

/// Begins the join. The answer's batches are made as they are taken; dropping them stops all reading.
pub(super) async fn get_historical(
    stores: Stores<'_>,
    session: SessionContext,
    (snapshot, project): (&Snapshot, &Project),
    request: &HistoricalRequest,
    spine: Spine,
    now: Timestamp,
) -> Result<TrainingRows, OpsError> {
    let begun = Begun::with(session);
    let selection = selection(project, request)?;
    let spine = PlannedSpine::new(spine, project, &selection, request)?;
    let plan = plan(&selection, request, spine.schema())?;
    let saving = match &request.save {
        Some(save) => Some(datasets::begin(stores.offline, stores.project, save).await?),
        None => None,
    };
    // First which versions there are, then just these are read, by all that read them.
    let tables = tables::newest(stores.offline, stores.project, &plan.views).await?;
    after::tables(stores.project, &tables, &request.after)?;
    let entity_rows = spine.entity_rows(&begun.session, stores, &tables).await?;
    let inputs = Inputs {
        plan,
        tables,
        entity_rows,
    };
    match saving {
        Some(saving) => datasets::save(begun, saving, snapshot.version, request, inputs, now),
        None => join(begun, inputs, snapshot.version, |_, rows| Ok(rows)),
    }
}

/// The features that are asked for.
pub(super) fn selection(
    project: &Project,
    request: &HistoricalRequest,
) -> Result<Selection, OpsError> {
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
    Ok(selection)
}

/// What is asked for, planned for entity rows with these columns.
pub(super) fn plan(
    selection: &Selection,
    request: &HistoricalRequest,
    entity_schema: &SchemaRef,
) -> Result<DatasetPlan, OpsError> {
    let options = DatasetOptions {
        knowledge: request.knowledge,
        boundary: request.boundary,
        time_column: request.timestamp_column.clone(),
        split: request.split.clone(),
        lint: request.lint,
    };
    plan_dataset(selection, &options, entity_schema).map_err(historical_error)
}

/// Begins to join. `watch` is given the columns and the rows of the result, and gives
/// the rows back.
pub(super) fn join(
    begun: Begun,
    inputs: Inputs,
    registry_version: RegistryVersion,
    watch: impl FnOnce(&SchemaRef, BatchStream) -> Result<BatchStream, OpsError>,
) -> Result<TrainingRows, OpsError> {
    let Inputs {
        plan,
        tables,
        entity_rows,
    } = inputs;
    let tables = tables::feature_tables(&tables)?;
    let batches = entity_rows
        .batches
        .map_err(|error| DataFusionError::External(Box::new(error)));
    let rows = RecordBatchStreamAdapter::new(entity_rows.schema, batches);
    let rows = historical::EntityRows::from_stream(Box::pin(rows));
    let run = plan
        .execute(begun.session.task_ctx(), rows, tables)
        .map_err(historical_error)?;

    let planning = begun.at.elapsed();
    let plan_text = run.explain();
    let (tell, report) = oneshot::channel();
    let join = run.join;
    let planned = plan.clone();
    let rows = run.rows.map_err(|error| historical_error(error.into()));
    let rows = watch(&plan.schema, rows.boxed())?;
    // What has been counted is told when the last batch has been taken.
    let told = futures::stream::once(async move {
        let mut report = report_of(&join.counts(), &planned);
        report.work.plan = plan_text;
        report.work.planning_micros = micros(planning);
        report.work.micros = micros(begun.at.elapsed());
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
        registry_version,
        report,
    })
}

fn report_of(counts: &JoinCounts, plan: &DatasetPlan) -> HistoricalReport {
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
        lint: plan.lint.then(|| lint_of(counts, plan)),
    }
}

fn lint_of(counts: &JoinCounts, plan: &DatasetPlan) -> Lint {
    let views = counts.views.iter().enumerate().map(|(place, view)| {
        let lint = view.lint.clone().unwrap_or_default();
        let (input, revision) = (&plan.join.views[place], &plan.views[place]);
        let outputs = plan.join.outputs.iter().filter(|o| o.view == place);
        let nulls: BTreeMap<_, _> = plan
            .join
            .asked(place)
            .into_iter()
            .map(|feature| &input.features[feature].0)
            .zip(lint.nulls)
            .collect();
        ViewLint {
            view: view.view.to_string(),
            ttl: revision.ttl.map(|ttl| ttl.to_string()),
            created_timestamp: revision.created_timestamp.as_ref().map(|c| c.to_string()),
            first_event: lint.first_event.map(|event| event.to_string()),
            rows_with_key: number(lint.asking),
            rows_before_first: number(lint.before_first),
            rows_matched: number(view.matched_rows),
            rows_expired: number(lint.expired),
            rows_late: number(lint.late),
            rows_own_time: number(lint.own_time),
            features: outputs
                .map(|output| FeatureLint {
                    feature: output.feature.to_string(),
                    column: output.name.clone(),
                    rows_null: number(nulls.get(&output.feature).copied().unwrap_or_default()),
                    has_default: output.default.is_some(),
                })
                .collect(),
        }
    });
    let views: Vec<ViewLint> = views.collect();
    Lint {
        findings: findings(number(counts.rows), &views),
        views,
    }
}

fn work_of(view: &ViewCounts) -> ViewWork {
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

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
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
