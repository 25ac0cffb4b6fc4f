//! `get-historical`

use std::collections::BTreeMap;

use vintner_core::{Ttl, ViewId};
use vintner_ops::{
    Operations,
    api::{
        Finding, HistoricalReport, HistoricalRequest, JoinWork, Lint, SaveAs, Snapshots, Spine,
        Split,
    },
    files,
};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use crate::{
    args::{self, Features, Format, GetHistorical, Global},
    deployment,
    exit::{Exit, Failure},
    output,
    progress::RowsProgress,
};

/// The features that the flags name.
pub(crate) fn feature_request(features: Features) -> Result<FeatureRequest, Failure> {
    match (features.service, features.features) {
        (Some(service), _) => Ok(FeatureRequest::Service(service)),
        (None, features) if !features.is_empty() => Ok(FeatureRequest::Features(features)),
        (None, _) => Err(Failure::input("name a --service or --features")),
    }
}

/// How columns are named.
pub(crate) fn name_style(full: bool) -> NameStyle {
    if full {
        NameStyle::Full
    } else {
        NameStyle::Short
    }
}

pub(crate) async fn get_historical(global: &Global, args: GetHistorical) -> Result<Exit, Failure> {
    let request = HistoricalRequest {
        features: feature_request(args.features)?,
        names: name_style(args.full_names),
        knowledge: match args.knowledge {
            args::Knowledge::Event => vintner_core::Knowledge::Event,
            args::Knowledge::Available => vintner_core::Knowledge::Available,
        },
        boundary: match args.boundary {
            args::Boundary::At => vintner_core::Boundary::At,
            args::Boundary::Before => vintner_core::Boundary::Before,
        },
        timestamp_column: args.timestamp_column,
        split: match args.split {
            Some(parts) => Some(Split::new(&parts, args.split_by).map_err(Failure::input)?),
            None => None,
        },
        save: args.save.map(|name| SaveAs {
            name,
            author: deployment::author(),
        }),
        lint: args.lint,
        after: args.after,
    };
    let started = std::time::Instant::now();
    let operations = deployment::open(global).await?;
    let (spine, count) = spine(
        args.spine,
        args.every,
        operations.as_ref(),
        &request.features,
    )
    .await?;
    let progress = RowsProgress::new(count);
    let spine = match spine {
        Spine::Rows(rows) => Spine::Rows(progress.reading(rows)),
        made => made,
    };
    let rows = operations.get_historical(&request, spine).await?;
    let registry_version = rows.registry_version;
    let report = files::write_training_rows(&args.out, rows, progress.writing()).await;
    progress.finish();
    let report = report?;
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);

    match global.format {
        Format::Json => {
            let mut answer = serde_json::json!({
                "out": args.out.display().to_string(),
                "rows": report.rows,
                "rows_matched": by_name(&report.rows_matched),
                "rows_without_key": report.rows_without_key,
                "registry_version": registry_version.0,
                "micros": micros,
            });
            if let Some(save) = &request.save {
                answer["dataset"] = save.name.as_str().into();
            }
            if args.explain {
                answer["explain"] = serde_json::json!(report.work);
            }
            if args.lint {
                answer["lint"] = serde_json::json!(report.lint);
            }
            output::json(&answer)?;
        }
        Format::Table => {
            let mut text = told(&report, &args.out.display().to_string(), micros);
            if let Some(save) = &request.save {
                let name = &save.name;
                text.push_str(&format!(
                    "\nsaved as {name}; `vintner dataset reproduce {name}` makes the same rows again"
                ));
            }
            output::text(&text)?;
            if args.explain {
                explain(&report.work)?;
            }
            if let Some(lint) = &report.lint {
                warn(lint);
            }
        }
    }
    Ok(Exit::Done)
}

/// The entity rows that the flags name, and how many there are where that is known before they are read.
async fn spine(
    spine: args::Spine,
    every: Option<Ttl>,
    operations: &dyn Operations,
    features: &FeatureRequest,
) -> Result<(Spine, Option<u64>), Failure> {
    if let Some(file) = spine.entity_rows {
        let keys = match file.extension() {
            // Only text does not say what its columns are.
            Some(extension) if extension.eq_ignore_ascii_case("csv") => {
                let keys = operations.join_keys(features).await?;
                keys.join_keys().to_vec()
            }
            _ => vec![],
        };
        let (rows, count) = files::read_entity_rows(&file, &keys).await?;
        return Ok((Spine::Rows(rows), count));
    }
    let made = match (spine.at, spine.between.as_deref(), every, spine.spine) {
        (Some(at), ..) => Ok(Spine::At(at)),
        (_, Some(&[from, to]), Some(every), _) => Snapshots::new(from, to, every)
            .map(Spine::Snapshots)
            .map_err(Failure::input),
        (.., Some(sql)) => Ok(Spine::Query(sql)),
        _ => Err(Failure::input(
            "name --entity-rows, --at, --between with --every, or --spine",
        )),
    };
    made.map(|spine| (spine, None))
}

/// What a lint has found, one line each.
fn warn(lint: &Lint) {
    for finding in &lint.findings {
        let Finding {
            code,
            message,
            help,
            ..
        } = finding;
        output::say(format!("warning[{code}]: {message}; {help}"));
    }
    if lint.findings.is_empty() {
        output::say("lint: nothing to warn of");
    }
}

/// What was read, what was left out, and where the time went.
fn explain(work: &JoinWork) -> std::io::Result<()> {
    output::text(&format!("\n{}\n", work.plan.trim_end()))?;
    let head = [
        "view",
        "files",
        "row groups",
        "rows",
        "bytes",
        "values",
        "ties",
        "open",
        "match",
        "values read",
    ];
    let of = |read: u64, all: u64| format!("{} of {}", output::count(read), output::count(all));
    let rows = work.views.iter().map(|view| {
        vec![
            view.view.clone(),
            of(view.files_opened, view.files),
            of(view.row_groups_read, view.row_groups),
            of(view.rows_read, view.rows),
            output::bytes(view.bytes_read),
            output::count(view.values_read),
            output::count(view.ties),
            output::seconds(view.open_micros),
            output::seconds(view.match_micros),
            output::seconds(view.values_micros),
        ]
    });
    output::rows(&head, rows.collect())?;
    output::text(&format!(
        "\nplanning {}, entity rows {}, output {}, in all {}; chunks: {}",
        output::seconds(work.planning_micros),
        output::seconds(work.entity_rows_micros),
        output::seconds(work.output_micros),
        output::seconds(work.micros),
        work.chunks,
    ))
}

fn by_name(counts: &BTreeMap<ViewId, u64>) -> serde_json::Map<String, serde_json::Value> {
    counts
        .iter()
        .map(|(view, count)| (view.to_string(), (*count).into()))
        .collect()
}

fn told(report: &HistoricalReport, out: &str, micros: u64) -> String {
    let mut text = format!(
        "wrote {} to {out} in {}",
        rows(report.rows),
        output::seconds(micros)
    );
    for (view, matched) in &report.rows_matched {
        text.push_str(&format!("\n  {view}: {} found a value", rows(*matched)));
    }
    if report.rows_without_key > 0 {
        text.push_str(&format!(
            "\n  in {} a join key or the time is null",
            rows(report.rows_without_key)
        ));
    }
    text
}

fn rows(count: u64) -> String {
    match count {
        1 => "1 row".to_owned(),
        _ => format!("{} rows", output::count(count)),
    }
}
