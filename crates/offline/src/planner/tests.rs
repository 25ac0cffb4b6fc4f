use super::*;
use vintner_core::{FeatureType as F, JoinKey, KeyType, ScalarType as S};
use vintner_registry::model::SourceFormat;

fn source(
    name: &str,
    event: Option<&str>,
    created: Option<&str>,
    columns: &[(&str, S)],
) -> KnownSource {
    let columns = columns
        .iter()
        .map(|(name, t)| ((*name).to_owned(), F::Scalar(*t)))
        .collect();
    KnownSource::read(
        Source {
            name: name.parse().unwrap(),
            path: format!("data/{name}.parquet"),
            format: SourceFormat::Parquet,
            event_timestamp: event.map(|c| c.parse().unwrap()),
            created_timestamp: created.map(|c| c.parse().unwrap()),
            is_static: event.is_none(),
            columns: Vec::new(),
            about: About::default(),
        },
        SourceSchema {
            columns,
            left_out: Vec::new(),
        },
    )
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
    [
        source("weather", Some("observed_at"), Some("loaded_at"), &weather),
        source("flights", Some("time_hour"), None, &flights),
        source("planes", None, None, &planes),
    ]
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
        contract: Vec::new(),
        offline: true,
        online: true,
        about: About::default(),
    }
}

fn query(key: &str, sql: &str) -> ViewDefinition {
    view(key, ViewInput::Query(sql.to_owned()))
}

/// What is planned, as text.
fn plan(view: &ViewDefinition) -> String {
    match plan_view(view, &catalog()) {
        Ok(planned) => shown(&planned),
        Err(problems) => problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn shown(planned: &PlannedView) -> String {
    let mut lines = Vec::new();
    let name = |c: &Option<ColumnName>| c.as_ref().map_or("none".to_owned(), ToString::to_string);
    lines.push(format!("{:?}: {}", planned.refresh, planned.refresh_reason));
    lines.push(format!(
        "event {}, created {}",
        name(&planned.event_timestamp),
        name(&planned.created_timestamp)
    ));
    for feature in &planned.features {
        let lineage: Vec<String> = planned.lineage[&feature.name]
            .iter()
            .map(|c| format!("{}.{}", c.source, c.column))
            .collect();
        let definition = &planned.definitions[&feature.name];
        lines.push(format!(
            "{}: {} = {definition}  <- {}",
            feature.name,
            feature.feature_type,
            lineage.join(", ")
        ));
    }
    lines.push(format!("relation {}", planned.relation));
    lines.join("\n")
}

#[test]
fn try_it() {
    for (key, sql) in [
        (
            "origin",
            "SELECT origin, observed_at, temp, wind_speed, precip > 0 AS raining FROM weather",
        ),
        ("origin", "SELECT * FROM weather"),
        (
            "origin",
            "select ORIGIN, Observed_At, GUST, w.Temp AS MeanTemp from Weather w where visib > 3 and temp < 4 order by temp",
        ),
        (
            "carrier",
            "SELECT carrier, date_trunc('day', time_hour) + INTERVAL '1 day' AS event_timestamp, avg(dep_delay) AS mean_delay, count(*) AS n FROM flights GROUP BY 1, 2",
        ),
        ("tailnum", "SELECT tailnum, year, seats FROM planes"),
        (
            "tailnum",
            "SELECT f.tailnum, f.time_hour, p.year, CASE WHEN p.seats > 100 THEN 1 ELSE dep_delay END AS x FROM flights f LEFT JOIN planes p ON f.tailnum = p.tailnum AND p.year > 1990",
        ),
        (
            "tailnum",
            "WITH d AS (SELECT tailnum, time_hour, dep_delay * 2 AS twice FROM flights) SELECT a.tailnum, a.time_hour, a.twice + b.twice AS y FROM d a JOIN d b ON a.tailnum = b.tailnum",
        ),
        (
            "origin",
            "SELECT origin, observed_at, lag(temp) OVER (PARTITION BY origin ORDER BY observed_at) AS before, (SELECT max(seats) FROM planes) AS m FROM weather WHERE origin IN (SELECT origin FROM flights WHERE flights.dep_delay > weather.temp)",
        ),
        (
            "origin",
            "SELECT DISTINCT origin, observed_at, temp FROM weather UNION ALL SELECT origin, observed_at, precip FROM weather",
        ),
        ("origin", "SELEC origin FROM weather"),
        (
            "origin",
            "SELECT origin, observd_at, tmp FROM weather WHERE wndspeed > 3",
        ),
        ("origin", "SELECT origin, observed_at, temp FROM wether"),
        (
            "origin",
            "SELECT temp, avg(x), now() FROM weather; DELETE FROM x",
        ),
        (
            "origin",
            "SELECT origin, observed_at, temp, temp * 2, random() AS r, avgg(temp) AS q FROM weather LIMIT 3",
        ),
        (
            "origin",
            "SELECT origin, observed_at, temp, temp * 2, avgg(temp) AS q FROM weather",
        ),
        (
            "origin",
            "SELECT origin, observed_at, temp, temp * 2, sum(origin) FROM weather",
        ),
        (
            "origin",
            "SELECT origin, observed_at, temp, temp + 1, temp AS event_timestamp, NULL as nn FROM weather",
        ),
        ("visib", "SELECT visib, temp FROM weather"),
    ] {
        println!("--- {sql}\n{}\n", plan(&query(key, sql)));
    }
}
