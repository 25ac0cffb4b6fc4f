//! `materialize` and `runs`.

use vintner_core::ViewName;
use vintner_ops::api::{EntitiesDeleted, MaterializeRequest, Run, Scope, ViewRun, Work};

use super::delete::counted;
use crate::{
    args::{Format, Global, Materialize},
    deployment,
    exit::{Exit, Failure},
    json, output,
    progress::Bars,
};

pub(crate) async fn materialize(global: &Global, args: Materialize) -> Result<Exit, Failure> {
    let request = MaterializeRequest {
        views: args.views,
        window: args.start.zip(args.end),
        scope: match (args.full_refresh, args.online_only) {
            (true, _) => Scope::FullRefresh,
            (false, true) => Scope::OnlineOnly,
            (false, false) => Scope::Incremental,
        },
    };
    let operations = deployment::open(global).await?;
    let bars = Bars::new();
    let runs = operations
        .materialize(&request, &|event| bars.event(&event))
        .await?;
    match global.format {
        Format::Json => output::json(&runs.iter().map(json::view_run).collect::<Vec<_>>())?,
        Format::Table => output::rows(
            &[
                "view",
                "rows written",
                "left out",
                "online",
                "kept",
                "held back",
                "rows/s",
                "time",
                "what was done",
            ],
            runs.iter().map(row).collect(),
        )?,
    }
    Ok(Exit::Done)
}

pub(crate) async fn runs(
    global: &Global,
    view: Option<&ViewName>,
    limit: usize,
) -> Result<Exit, Failure> {
    let runs = deployment::open(global).await?.runs(view, limit).await?;
    match global.format {
        Format::Json => output::json(&runs.iter().map(json::run).collect::<Vec<_>>())?,
        Format::Table => output::rows(
            &[
                "started",
                "view",
                "rows written",
                "online",
                "time",
                "what was done",
            ],
            runs.iter().map(recorded).collect(),
        )?,
    }
    Ok(Exit::Done)
}

fn recorded(run: &Run) -> Vec<String> {
    let (view, written, online) = match &run.work {
        Work::Materialized(run) => (&run.view, run.rows_written, run.online_written),
        Work::Deleted(deleted) => (&deleted.view, 0, 0),
    };
    let micros = run
        .finished_at
        .micros()
        .saturating_sub(run.started_at.micros());
    vec![
        run.started_at.to_string(),
        view.to_string(),
        output::count(written),
        output::count(online),
        output::seconds(u64::try_from(micros).unwrap_or(0)),
        what_was_done(run),
    ]
}

/// What was done, or why it failed.
pub(super) fn what_was_done(run: &Run) -> String {
    match &run.work {
        Work::Materialized(_) if !run.error.is_empty() => format!("failed: {}", run.error),
        Work::Materialized(run) => run.plan.clone(),
        Work::Deleted(deleted) => {
            let EntitiesDeleted {
                author,
                entities,
                rows,
                online_rows,
                ..
            } = deleted;
            let rows = counted(*rows, "row", "rows");
            let entities = counted(*entities, "entity", "entities");
            let online = output::count(*online_rows);
            match run.error.is_empty() {
                true => {
                    format!("{author} deleted {entities}: {rows} of the table, {online} online")
                }
                false => format!("{author} deletes {entities}: failed: {}", run.error),
            }
        }
    }
}

fn row(run: &ViewRun) -> Vec<String> {
    let micros = run.offline_micros + run.online_micros;
    let rate = (run.rows_written * 1_000_000)
        .checked_div(micros)
        .unwrap_or(0);
    vec![
        run.view.to_string(),
        output::count(run.rows_written),
        output::count(run.rows_left_out),
        output::count(run.online_written),
        output::count(run.online_kept),
        output::count(run.online_held_back),
        output::count(rate),
        output::seconds(micros),
        run.plan.clone(),
    ]
}
