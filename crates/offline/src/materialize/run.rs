//! One run of one view: look, plan, execute; again when somebody else was first.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use vintner_core::{ProjectName, SourceName, Timestamp, ViewId};
use vintner_registry::model::{Refresh, Source, ViewRevision};

use super::{
    admission::RowCounts,
    error::MaterializeError,
    execute::Execution,
    input::Input,
    plan::{Action, Found, FoundTable, PlanError, RunPlan, plan_run},
    progress::Progress,
    request::MaterializeRequest,
};
use crate::{
    delta::{Deletions, OfflineStore, Origin, TableState, ViewLayout, Waits},
    sources::{DeltaChange, SourceState, Sources},
};

/// How often a run plans again because somebody else was first. Each time somebody got something done.
const ATTEMPTS: u32 = 8;

/// What runs work with.
#[derive(Clone, Copy)]
pub struct MaterializeContext<'a> {
    /// Where tables are.
    pub store: &'a OfflineStore,
    /// The project whose views run.
    pub project: &'a ProjectName,
    /// Opens sources.
    pub sources: &'a Sources,
    /// Executes queries.
    pub session: &'a SessionContext,
}

/// What a run tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum RunEvent<'a> {
    /// What will be done. Comes again when the run plans again; the counts then begin at 0 again.
    Planned(&'a RunPlan),
    /// Rows so far.
    Rows(RowCounts),
}

/// What a run of a view has done.
#[derive(Clone, Debug)]
pub struct ViewRun {
    /// The view.
    pub view: ViewId,
    /// What was done, and why.
    pub plan: RunPlan,
    /// The table's version afterwards; none when there is no table, since there was nothing to do.
    pub table_version: Option<u64>,
    /// Rows read, written and left out.
    pub counts: RowCounts,
    /// Data files that are new.
    pub files_added: usize,
    /// Data files that are no longer part of the table.
    pub files_removed: usize,
    /// The size of the new files.
    pub bytes_written: u64,
    /// How often the run was planned: more than once when somebody else wrote the table meanwhile.
    pub attempts: u32,
    /// How long it took.
    pub elapsed: Duration,
}

/// Brings a view's table up to date with its sources, as far as `request` asks and `now` allows.
///
/// `sources` has at least the view's sources. `observe` is told what is planned, and the counts after each batch.
/// Running it again with nothing new does nothing; a run that fails, at any moment, leaves the table as it was.
///
/// # Errors
/// [`MaterializeError`].
pub fn materialize_view<'a>(
    context: &'a MaterializeContext<'a>,
    view: &'a ViewRevision,
    sources: &'a BTreeMap<SourceName, Source>,
    request: &'a MaterializeRequest,
    now: Timestamp,
    observe: &'a (dyn Fn(RunEvent<'_>) + Send + Sync),
) -> BoxFuture<'a, Result<ViewRun, MaterializeError>> {
    // Boxed, so that callers can spawn it: the compiler sees that a future is `Send` only with one lifetime.
    Box::pin(attempt(context, view, sources, request, now, observe))
}

async fn attempt(
    context: &MaterializeContext<'_>,
    view: &ViewRevision,
    sources: &BTreeMap<SourceName, Source>,
    request: &MaterializeRequest,
    now: Timestamp,
    observe: &(dyn Fn(RunEvent<'_>) + Send + Sync),
) -> Result<ViewRun, MaterializeError> {
    let began = Instant::now();
    let delta_error = |source| MaterializeError::Delta {
        view: view.id.clone(),
        source,
    };
    let table = context.store.table(context.project, &view.id);
    let table = table.map_err(delta_error)?;
    let mut attempts = 1;
    let mut waits = Waits::new(ATTEMPTS - 1);
    loop {
        let base = table.newest().await.map_err(delta_error)?;
        let found = look(context, view, sources, base.as_ref()).await?;
        let plan = plan_run(view, &found, request, now)?;
        observe(RunEvent::Planned(&plan));
        let mut run = ViewRun {
            view: view.id.clone(),
            table_version: base.as_ref().map(TableState::version),
            counts: RowCounts::default(),
            files_added: 0,
            files_removed: 0,
            bytes_written: 0,
            attempts,
            elapsed: began.elapsed(),
            plan,
        };
        if run.plan.action == Action::NothingNew {
            return Ok(run);
        }
        let deletions = match &base {
            Some(base) => base.deletions().await.map_err(delta_error)?,
            None => Deletions::default(),
        };
        let input = Input {
            context,
            view,
            sources,
            states: &found.sources,
        };
        let execution = Execution {
            input: &input,
            table: &table,
            base: base.as_ref(),
            deletions: Arc::new(deletions),
            now,
            observe,
        };
        match execution.run(&run.plan).await {
            Ok(done) => {
                run.table_version = Some(done.version);
                run.counts = done.counts;
                run.files_added = done.files_added;
                run.files_removed = done.files_removed;
                run.bytes_written = done.bytes_written;
                run.elapsed = began.elapsed();
                return Ok(run);
            }
            Err(error) if error.is_conflict() && waits.next().await => {
                tracing::info!(view = %view.id, attempts, "another run was first; planning again");
                attempts += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What a plan is made from.
async fn look(
    context: &MaterializeContext<'_>,
    view: &ViewRevision,
    sources: &BTreeMap<SourceName, Source>,
    base: Option<&TableState>,
) -> Result<Found, MaterializeError> {
    let delta_error = |source| MaterializeError::Delta {
        view: view.id.clone(),
        source,
    };
    let source_error = |source| MaterializeError::Source {
        view: view.id.clone(),
        source: Box::new(source),
    };
    let mut found = Found::default();
    for name in &view.sources {
        let source = declared(view, sources, name)?;
        let state = context.sources.listing(source).await;
        found
            .sources
            .insert(name.clone(), state.map_err(source_error)?);
    }
    let Some(base) = base else {
        return Ok(found);
    };
    let record = base.newest_progress().await.map_err(delta_error)?;
    let has_record = record.is_some();
    let progress = record.and_then(Progress::read);
    if let Refresh::RowLocal { source: name } = &view.refresh
        && let Some(SourceState::Delta { version }) =
            progress.as_ref().and_then(|p| p.cursor.as_ref())
        && let Some(SourceState::Delta { .. }) = found.sources.get(name)
    {
        let source = declared(view, sources, name)?;
        let change = context.sources.delta_changes(source, *version).await;
        let change = change.map_err(source_error)?;
        // The table may have moved on since it was listed; the plan takes all of it from one look.
        match change {
            DeltaChange::Appended { to_version, .. } | DeltaChange::Rewritten { to_version } => {
                let version = to_version;
                found
                    .sources
                    .insert(name.clone(), SourceState::Delta { version });
            }
            DeltaChange::Unchanged => {}
        }
        found.followed = Some(change);
    }
    let difference = ViewLayout::of(view).difference(&base.columns());
    let missing = progress.as_ref().and_then(|p| p.missing_features(view));
    found.table = Some(FoundTable {
        had_runs: has_record || has_rows_of_runs(base),
        progress,
        difference: difference.or(missing),
    });
    Ok(found)
}

fn has_rows_of_runs(table: &TableState) -> bool {
    let files = table.files();
    files.iter().any(|file| file.origin() == Origin::Run)
}

fn declared<'a>(
    view: &ViewRevision,
    sources: &'a BTreeMap<SourceName, Source>,
    name: &SourceName,
) -> Result<&'a Source, PlanError> {
    sources.get(name).ok_or_else(|| PlanError::NoSource {
        view: view.id.clone(),
        name: name.clone(),
    })
}
