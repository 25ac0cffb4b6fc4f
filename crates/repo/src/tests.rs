//! What people read when something is wrong with a repo: one snapshot for each mistake.

mod any_input;
mod deployment;
mod documents;
mod objects;
mod places;
mod references;
mod schema;
mod yaml;

use crate::{Parsed, Rendering, RepoFile, parse};

/// A deployment without fault.
const DEPLOYMENT: &str = "\
project: flights
registry: .vintner/registry
offline_store: .vintner/offline
online_store: {type: embedded, path: .vintner/online}
";

/// Definitions without fault, each kind and each field at least once.
const DEFINITIONS: &str = r#"# Definitions of the weather at airports.
kind: entity
name: airport
join_keys: {origin: string}
description: Where a flight begins.
owner: data-platform
tags: {tier: gold}
---
kind: entity
name: carrier
join_keys:
  carrier: string
  country: int32
---
kind: source
name: weather
path: ${DATA:-data}/weather.parquet
event_timestamp: observed_at
created_timestamp: loaded_at
---
kind: source
name: airports
path: data/airports/*
format: csv
static: true
---
kind: feature_view
name: airport_weather
entities: [airport]
ttl: 6h
query: |
  SELECT origin, observed_at, temp, precip > 0 AS raining
  FROM weather
event_timestamp: observed_at
created_timestamp: loaded_at
features:
  temp: {type: float64, description: "air temperature, degrees Fahrenheit", default: 60}
  raining: {type: bool, default: false}
  codes: {type: list<string>, default: [a, null]}
lookback: 7d
offline: true
online: true
near_cache: 64MiB
---
kind: feature_view
name: airport_facts
entities: [airport, carrier]
source: airports
---
kind: feature_service
name: delay_model
features: [airport_facts, "airport_weather:temp", "airport_weather:raining"]
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "REDIS_URL" => Some("redis://:hunter2@db:6379".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn parse_files(files: &[(&str, &str)]) -> Parsed {
    let files: Vec<RepoFile> = files
        .iter()
        .map(|(path, text)| RepoFile {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    parse(&files, &env)
}

/// The reports for these files, as people read them.
fn report(files: &[(&str, &str)]) -> String {
    let parsed = parse_files(files);
    let errors = parsed.diagnostics.iter().any(crate::Diagnostic::is_error);
    assert_eq!(
        parsed.repo.is_none(),
        errors,
        "a repo exactly without errors"
    );
    let reports: Vec<String> = parsed
        .diagnostics
        .iter()
        .map(|diagnostic| diagnostic.render(Rendering::default()))
        .collect();
    reports.join("\n")
}

/// The reports for definitions beside a deployment without fault.
fn report_definitions(text: &str) -> String {
    report(&[("vintner.yaml", DEPLOYMENT), ("weather.yaml", text)])
}

/// The reports for a deployment.
fn report_deployment(text: &str) -> String {
    report(&[("vintner.yaml", text)])
}

#[test]
fn a_repo_without_fault_has_no_diagnostics() {
    let parsed = parse_files(&[("vintner.yaml", DEPLOYMENT), ("weather.yaml", DEFINITIONS)]);
    assert_eq!(parsed.diagnostics, []);
    let repo = parsed.repo.unwrap();
    let values: Vec<_> = repo.sources.iter().map(|source| &source.value).collect();
    insta::assert_debug_snapshot!((&repo.deployment, values), @r#"
    (
        Deployment {
            project: "flights",
            registry: ".vintner/registry",
            offline_store: ".vintner/offline",
            online_store: Embedded {
                path: ".vintner/online",
            },
        },
        [
            SourceDef {
                name: "weather",
                path: "data/weather.parquet",
                format: Parquet,
                event_timestamp: Some(
                    "observed_at",
                ),
                created_timestamp: Some(
                    "loaded_at",
                ),
                is_static: false,
                about: About {
                    description: "",
                    owner: "",
                    tags: {},
                },
            },
            SourceDef {
                name: "airports",
                path: "data/airports/*",
                format: Csv,
                event_timestamp: None,
                created_timestamp: None,
                is_static: true,
                about: About {
                    description: "",
                    owner: "",
                    tags: {},
                },
            },
        ],
    )
    "#);
    let values: Vec<_> = repo.views.iter().map(|view| &view.value).collect();
    insta::assert_debug_snapshot!(values, @r#"
    [
        FeatureViewDef {
            name: "airport_weather",
            entities: [
                "airport",
            ],
            ttl: Some(
                Ttl(
                    21600000000,
                ),
            ),
            input: Query(
                "SELECT origin, observed_at, temp, precip > 0 AS raining\nFROM weather\n",
            ),
            event_timestamp: Some(
                "observed_at",
            ),
            created_timestamp: Some(
                "loaded_at",
            ),
            features: [
                FeatureField {
                    name: "temp",
                    feature_type: Scalar(
                        Float64,
                    ),
                    default: Some(
                        Float64(
                            60.0,
                        ),
                    ),
                    description: "air temperature, degrees Fahrenheit",
                },
                FeatureField {
                    name: "raining",
                    feature_type: Scalar(
                        Bool,
                    ),
                    default: Some(
                        Bool(
                            false,
                        ),
                    ),
                    description: "",
                },
                FeatureField {
                    name: "codes",
                    feature_type: List(
                        String,
                    ),
                    default: Some(
                        List(
                            String,
                            [
                                Some(
                                    String(
                                        "a",
                                    ),
                                ),
                                None,
                            ],
                        ),
                    ),
                    description: "",
                },
            ],
            lookback: Some(
                Ttl(
                    604800000000,
                ),
            ),
            offline: true,
            online: true,
            near_cache: Some(
                ByteSize(
                    67108864,
                ),
            ),
            about: About {
                description: "",
                owner: "",
                tags: {},
            },
        },
        FeatureViewDef {
            name: "airport_facts",
            entities: [
                "airport",
                "carrier",
            ],
            ttl: None,
            input: Source(
                "airports",
            ),
            event_timestamp: None,
            created_timestamp: None,
            features: [],
            lookback: None,
            offline: true,
            online: true,
            near_cache: None,
            about: About {
                description: "",
                owner: "",
                tags: {},
            },
        },
    ]
    "#);
    let entities: Vec<_> = repo.entities.iter().map(|entity| &entity.value).collect();
    let services: Vec<_> = repo.services.iter().map(|service| &service.value).collect();
    insta::assert_debug_snapshot!((entities, services), @r#"
    (
        [
            EntityDef {
                name: "airport",
                join_keys: [
                    JoinKey {
                        name: "origin",
                        key_type: String,
                    },
                ],
                about: About {
                    description: "Where a flight begins.",
                    owner: "data-platform",
                    tags: {
                        "tier": "gold",
                    },
                },
            },
            EntityDef {
                name: "carrier",
                join_keys: [
                    JoinKey {
                        name: "carrier",
                        key_type: String,
                    },
                    JoinKey {
                        name: "country",
                        key_type: Int32,
                    },
                ],
                about: About {
                    description: "",
                    owner: "",
                    tags: {},
                },
            },
        ],
        [
            FeatureServiceDef {
                name: "delay_model",
                features: [
                    FeatureRef {
                        view: "airport_facts",
                        version: None,
                        feature: All,
                    },
                    FeatureRef {
                        view: "airport_weather",
                        version: None,
                        feature: One(
                            "temp",
                        ),
                    },
                    FeatureRef {
                        view: "airport_weather",
                        version: None,
                        feature: One(
                            "raining",
                        ),
                    },
                ],
                about: About {
                    description: "",
                    owner: "",
                    tags: {},
                },
            },
        ],
    )
    "#);
}

#[test]
fn every_code_has_its_snapshot() {
    let snapshots = [
        include_str!("tests/deployment.rs"),
        include_str!("tests/documents.rs"),
        include_str!("tests/objects.rs"),
        include_str!("tests/references.rs"),
        include_str!("tests/yaml.rs"),
        include_str!(
            "tests/snapshots/vintner_repo__tests__deployment__redis_that_is_not_said_right.snap"
        ),
    ];
    for code in crate::code::ALL {
        let is_code = |line: &str| line.trim() == *code;
        assert!(
            snapshots.iter().any(|text| text.lines().any(is_code)),
            "{code}"
        );
    }
}

#[test]
fn files_that_say_nothing_are_fine() {
    for text in ["", "# nothing yet\n", "---\n---\n", "\u{feff}", "\n\n"] {
        assert_eq!(report_definitions(text), "", "{text:?}");
    }
}

#[test]
fn colours_and_ascii_are_for_the_terminal_to_choose() {
    let parsed = parse_files(&[
        ("vintner.yaml", DEPLOYMENT),
        ("a.yaml", "kind: entty\nname: a"),
    ]);
    let rendering = Rendering {
        width: 40,
        color: false,
        unicode: false,
    };
    insta::assert_snapshot!(parsed.diagnostics[0].render(rendering), @r"
    repo::unknown_kind

      error: there is no kind `entty`
       ,-[a.yaml:1:7]
     1 | kind: entty
       :       ^^|^^
       :         `-- unknown kind
     2 | name: a
       `----
      help: did you mean `entity`?
    ");
    let colored = parsed.diagnostics[0].render(Rendering {
        color: true,
        ..rendering
    });
    assert!(colored.contains("\u{1b}["));
}
