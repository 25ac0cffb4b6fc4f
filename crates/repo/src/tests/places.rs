//! Where later phases point.

use vintner_core::ViewName;

use super::{DEFINITIONS, DEPLOYMENT, parse_files};
use crate::{FieldPath, ObjectRef, Rendering, Repo};

fn repo() -> Repo {
    let parsed = parse_files(&[("vintner.yaml", DEPLOYMENT), ("weather.yaml", DEFINITIONS)]);
    parsed.into_result().unwrap()
}

fn view(name: &str) -> ObjectRef {
    ObjectRef::View(name.parse::<ViewName>().unwrap())
}

#[test]
fn every_part_of_an_object_has_its_place() {
    let repo = repo();
    let entry = |field, name: &str| FieldPath::Entry {
        field,
        name: name.to_owned(),
    };
    let element = |field, value: &str| FieldPath::Element {
        field,
        value: value.to_owned(),
    };
    let weather = view("airport_weather");
    let source = ObjectRef::Source("weather".parse().unwrap());
    let service = ObjectRef::Service("delay_model".parse().unwrap());
    let entity = ObjectRef::Entity("carrier".parse().unwrap());
    let cases = [
        (&weather, FieldPath::Name),
        (&weather, FieldPath::Field("ttl")),
        (&weather, FieldPath::Field("features")),
        (&weather, FieldPath::Field("features.temp.type")),
        (&weather, FieldPath::Field("owner")), // it has none
        (&weather, entry("features", "raining")),
        (&weather, entry("features", "none")),
        (&weather, element("entities", "airport")),
        (&weather, element("entities", "none")),
        (&weather, FieldPath::QueryPosition { line: 2, column: 6 }),
        (&source, FieldPath::Field("path")),
        (&service, element("features", "airport_weather:temp")),
        (&entity, entry("join_keys", "country")),
        (&ObjectRef::Deployment, FieldPath::Name),
        (
            &ObjectRef::Deployment,
            FieldPath::Field("online_store.path"),
        ),
        (&view("none"), FieldPath::Name),
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|(object, field)| {
            let place = repo.place(object, field);
            format!("{field:?} {place} {}", place.text())
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    Name weather.yaml:28:7 airport_weather
    Field("ttl") weather.yaml:30:6 6h
    Field("features") weather.yaml:36:1 features
    Field("features.temp.type") weather.yaml:37:16 float64
    Field("owner") weather.yaml:28:7 airport_weather
    Entry { field: "features", name: "raining" } weather.yaml:38:3 raining
    Entry { field: "features", name: "none" } weather.yaml:36:1 features
    Element { field: "entities", value: "airport" } weather.yaml:29:12 airport
    Element { field: "entities", value: "none" } weather.yaml:29:11 [airport]
    QueryPosition { line: 2, column: 6 } weather.yaml:33:8 weather
    Field("path") weather.yaml:17:7 ${DATA:-data}/weather.parquet
    Element { field: "features", value: "airport_weather:temp" } weather.yaml:52:27 "airport_weather:temp"
    Entry { field: "join_keys", name: "country" } weather.yaml:13:3 country
    Name vintner.yaml:1:10 flights
    Field("online_store.path") vintner.yaml:4:38 .vintner/online
    Name vintner.yaml:1:1 project
    "#);
}

#[test]
fn a_mistake_in_sql_is_underlined_in_the_yaml() {
    let diagnostic = repo().diagnose(
        &view("airport_weather"),
        FieldPath::QueryPosition {
            line: 1,
            column: 29,
        },
        "planner::unknown_column",
        "no column is named `temp`".to_owned(),
        Some("did you mean `temperature`?".to_owned()),
    );
    insta::assert_snapshot!(diagnostic.render(Rendering::default()), @r"
    planner::unknown_column

      error: no column is named `temp`
        ╭─[weather.yaml:32:31]
     31 │ query: |
     32 │   SELECT origin, observed_at, temp, precip > 0 AS raining
        ·                               ──┬─
        ·                                 ╰── here
     33 │   FROM weather
        ╰────
      help: did you mean `temperature`?
    ");
    let whole = repo().diagnose(
        &view("airport_weather"),
        FieldPath::QueryPosition { line: 0, column: 0 },
        "planner::sql",
        "the query ends too early".to_owned(),
        None,
    );
    insta::assert_snapshot!(whole.render(Rendering::default()), @r"
    planner::sql

      error: the query ends too early
        ╭─[weather.yaml:32:3]
     31 │     query: |
     32 │ ╭─▶   SELECT origin, observed_at, temp, precip > 0 AS raining
     33 │ ├─▶   FROM weather
        · ╰──── here
     34 │     event_timestamp: observed_at
        ╰────
    ");
}
