//! One small world for all tests of the planner: weather with times, flights with an event time only, static planes.

mod canonical;
mod entity_queries;
mod facts;
mod problems;
mod run;

use vintner_core::{
    FeatureField, FeatureName, FeatureType as F, JoinKey, KeySchema, KeyType, ScalarType as S,
    SourceName, ViewId,
};
use vintner_registry::model::{About, Source, SourceFormat, ViewInput, ViewRevision};

use super::*;
use crate::sources::{LeftOut, SourceSchema, table_schema};

fn source(
    name: &str,
    event: Option<&str>,
    created: Option<&str>,
    columns: &[(&str, S)],
) -> KnownSource {
    let columns = columns
        .iter()
        .map(|(name, t)| ((*name).to_owned(), F::Scalar(*t)));
    let source = Source {
        name: name.parse().unwrap(),
        path: format!("data/{name}.parquet"),
        format: SourceFormat::Parquet,
        event_timestamp: event.map(|c| c.parse().unwrap()),
        created_timestamp: created.map(|c| c.parse().unwrap()),
        is_static: event.is_none(),
        columns: Vec::new(),
        about: About::default(),
    };
    let schema = SourceSchema {
        columns: columns.collect(),
        left_out: Vec::new(),
    };
    KnownSource::read(source, schema)
}

fn catalog() -> Catalog {
    let weather = [
        ("origin", S::String),
        ("observed_at", S::Timestamp),
        ("loaded_at", S::Timestamp),
        ("temp", S::Float64),
        ("wind_speed", S::Float64),
        ("precip", S::Float64),
        ("Gust", S::Float32),
        ("visib", S::Int32),
    ];
    let flights = [
        ("carrier", S::String),
        ("origin", S::String),
        ("tailnum", S::String),
        ("time_hour", S::Timestamp),
        ("dep_delay", S::Int64),
    ];
    let planes = [
        ("tailnum", S::String),
        ("year", S::Int32),
        ("seats", S::Int32),
    ];
    let sources = [
        source("weather", Some("observed_at"), Some("loaded_at"), &weather),
        source("flights", Some("time_hour"), None, &flights),
        source("planes", None, None, &planes),
    ];
    sources
        .into_iter()
        .map(|source| (source.source.name.clone(), source))
        .collect()
}

fn view(key: &str, input: ViewInput) -> ViewDefinition {
    let key = JoinKey {
        name: key.parse().unwrap(),
        key_type: KeyType::String,
    };
    ViewDefinition {
        name: "view".parse().unwrap(),
        entities: vec!["thing".parse().unwrap()],
        join_keys: KeySchema::new(vec![key]).unwrap(),
        input,
        event_timestamp: None,
        created_timestamp: None,
        ttl: None,
        lookback: None,
        near_cache: None,
        contract: Vec::new(),
        offline: true,
        online: true,
        about: About::default(),
    }
}

fn query(key: &str, sql: &str) -> ViewDefinition {
    view(key, ViewInput::Query(sql.to_owned()))
}

fn planned(view: &ViewDefinition) -> PlannedView {
    match plan_view(view, &catalog()) {
        Ok(planned) => planned,
        Err(problems) => panic!("{}", listed(&problems)),
    }
}

fn listed(problems: &[PlanProblem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The facts of a planned view, for people.
fn shown(planned: &PlannedView) -> String {
    let name = |c: &Option<ColumnName>| c.as_ref().map_or("none".to_owned(), ToString::to_string);
    let mut lines = vec![
        format!("{:?}: {}", planned.refresh, planned.refresh_reason),
        format!(
            "event {}, created {}",
            name(&planned.event_timestamp),
            name(&planned.created_timestamp)
        ),
    ];
    for feature in &planned.features {
        let columns: Vec<String> = planned.lineage[&feature.name]
            .iter()
            .map(|c| format!("{}.{}", c.source, c.column))
            .collect();
        let definition = &planned.definitions[&feature.name];
        lines.push(format!(
            "{} {} = {definition}, from [{}]",
            feature.name,
            feature.feature_type,
            columns.join(", ")
        ));
    }
    lines.push(planned.relation.clone());
    lines.join("\n")
}
