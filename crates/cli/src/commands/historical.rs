//! `get-historical`

use futures::StreamExt as _;
use vintner_offline::historical::files;
use vintner_ops::{
    Fault, OpsError,
    api::{EntityRows, HistoricalReport, HistoricalRequest, TrainingRows},
};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use crate::{
    args::{self, Features, Format, GetHistorical, Global},
    deployment,
    exit::{Exit, Failure},
    output, progress,
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
    };
    let started = std::time::Instant::now();
    let operations = deployment::open(global).await?;
    let entity_rows = files::read(&args.entity_rows)
        .await
        .map_err(|e| Failure::input(deployment::chain(&e)))?;
    let entity_rows = EntityRows {
        schema: entity_rows.schema(),
        batches: entity_rows
            .map(|batch| batch.map_err(|error| OpsError::from_error(Fault::Data, error)))
            .boxed(),
    };
    let TrainingRows {
        schema,
        mut batches,
        registry_version,
        report,
    } = operations.get_historical(&request, entity_rows).await?;

    let bar = progress::spinner();
    let mut writer = files::Writer::create(&args.out, schema)
        .map_err(|e| Failure::input(deployment::chain(&e)))?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        writer
            .write(&batch)
            .map_err(|e| Failure::store(deployment::chain(&e)))?;
        bar.inc(batch.num_rows() as u64);
    }
    writer
        .finish()
        .map_err(|e| Failure::store(deployment::chain(&e)))?;
    bar.finish_and_clear();
    let report = report.await.unwrap_or_default();
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);

    match global.format {
        Format::Json => output::json(&serde_json::json!({
            "out": args.out.display().to_string(),
            "rows": report.rows,
            "rows_matched": by_name(&report.rows_matched),
            "rows_without_key": by_name(&report.rows_without_key),
            "registry_version": registry_version.0,
            "micros": micros,
        }))?,
        Format::Table => output::text(&told(&report, &args.out.display().to_string(), micros))?,
    }
    Ok(Exit::Done)
}

fn by_name(
    counts: &std::collections::BTreeMap<vintner_core::ViewName, u64>,
) -> serde_json::Map<String, serde_json::Value> {
    counts
        .iter()
        .map(|(view, count)| (view.to_string(), (*count).into()))
        .collect()
}

fn told(report: &HistoricalReport, out: &str, micros: u64) -> String {
    let mut text = format!(
        "wrote {} rows to {out} in {}",
        output::count(report.rows),
        output::seconds(micros)
    );
    for (view, matched) in &report.rows_matched {
        let without = report.rows_without_key.get(view).copied().unwrap_or(0);
        text.push_str(&format!(
            "\n  {view}: {} rows found a value",
            output::count(*matched)
        ));
        if without > 0 {
            text.push_str(&format!(
                ", {} have a null key or time",
                output::count(without)
            ));
        }
    }
    text
}
