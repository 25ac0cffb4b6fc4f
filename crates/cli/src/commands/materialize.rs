//! `materialize` and `runs`.

use vintner_core::ViewName;
use vintner_ops::api::{MaterializeRequest, Scope, ViewRun};

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
            runs.iter()
                .map(|run| {
                    vec![
                        run.started_at.to_string(),
                        run.view_run.view.to_string(),
                        output::count(run.view_run.rows_written),
                        output::count(run.view_run.online_written),
                        output::seconds(run.view_run.offline_micros + run.view_run.online_micros),
                        if run.error.is_empty() {
                            run.view_run.plan.clone()
                        } else {
                            format!("failed: {}", run.error)
                        },
                    ]
                })
                .collect(),
        )?,
    }
    Ok(Exit::Done)
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
