//! `datasets` and `dataset`: saved training datasets.

use std::path::Path;

use vintner_core::{Boundary, DatasetName, Knowledge};
use vintner_ops::{api::Dataset, files};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use super::catalog::Page;
use crate::{
    args::{Format, Global},
    deployment,
    exit::{Exit, Failure},
    output,
    progress::RowsProgress,
};

pub(crate) async fn list(global: &Global) -> Result<Exit, Failure> {
    let datasets = deployment::open(global).await?.datasets().await?;
    match global.format {
        Format::Json => output::json(&datasets)?,
        Format::Table => output::rows(
            &["name", "rows", "saved", "by", "features"],
            datasets.iter().map(row).collect(),
        )?,
    }
    Ok(Exit::Done)
}

fn row(dataset: &Dataset) -> Vec<String> {
    vec![
        dataset.name.to_string(),
        output::count(dataset.result.rows),
        dataset.created_at.to_string(),
        dataset.author.clone(),
        asked(&dataset.selection),
    ]
}

pub(crate) async fn show(global: &Global, name: &DatasetName) -> Result<Exit, Failure> {
    let dataset = deployment::open(global).await?.dataset(name).await?;
    match global.format {
        Format::Json => output::json(&dataset)?,
        Format::Table => output::text(&describe(&dataset))?,
    }
    Ok(Exit::Done)
}

pub(crate) async fn reproduce(
    global: &Global,
    name: &DatasetName,
    out: &Path,
) -> Result<Exit, Failure> {
    let started = std::time::Instant::now();
    let operations = deployment::open(global).await?;
    let dataset = operations.dataset(name).await?;
    let progress = RowsProgress::new(Some(dataset.result.rows));
    let rows = operations.reproduce(name).await?;
    let report = files::write_training_rows(out, rows, progress.writing()).await;
    progress.finish();
    let rows = report?.rows;
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    match global.format {
        Format::Json => output::json(&serde_json::json!({
            "dataset": name.as_str(),
            "out": out.display().to_string(),
            "rows": rows,
            "hash": dataset.result.hash.to_string(),
            "registry_version": dataset.registry_version.0,
            "micros": micros,
        }))?,
        Format::Table => output::text(&format!(
            "wrote {} rows to {} in {}\nthey are those that were saved: {}",
            output::count(rows),
            out.display(),
            output::seconds(micros),
            dataset.result.hash,
        ))?,
    }
    Ok(Exit::Done)
}

fn describe(dataset: &Dataset) -> String {
    let mut page = Page(String::new());
    page.line("dataset", &dataset.name);
    page.line(
        "saved",
        format!("{} by {}", dataset.created_at, dataset.author),
    );
    page.line("features", asked(&dataset.selection));
    page.line("registry version", dataset.registry_version);
    page.line(
        "knowledge",
        match dataset.knowledge {
            Knowledge::Event => "event",
            Knowledge::Available => "available",
        },
    );
    page.line(
        "boundary",
        match dataset.boundary {
            Boundary::At => "at",
            Boundary::Before => "before",
        },
    );
    page.line(
        "names",
        match dataset.names {
            NameStyle::Short => "",
            NameStyle::Full => "full",
        },
    );
    page.line(
        "timestamp column",
        dataset.timestamp_column.as_deref().unwrap_or_default(),
    );
    page.line(
        "split",
        dataset
            .split
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    );
    let kept = &dataset.entity_rows;
    page.line(
        "entity rows",
        format!("{}, {}", output::count(kept.rows), kept.hash),
    );
    let result = &dataset.result;
    page.line(
        "result rows",
        format!("{}, {}", output::count(result.rows), result.hash),
    );
    let tables = dataset.tables.iter().map(|table| {
        let version = table.delta_version;
        vec![
            table.view.to_string(),
            version.map_or("no run yet".to_owned(), |version| version.to_string()),
        ]
    });
    page.table(&["view", "version of its table"], tables.collect());
    page.0
}

/// The features in one line.
fn asked(selection: &FeatureRequest) -> String {
    match selection {
        FeatureRequest::Service(service) => format!("service {service}"),
        FeatureRequest::Features(features) => {
            let features: Vec<_> = features.iter().map(ToString::to_string).collect();
            features.join(", ")
        }
    }
}
