//! What is wrong between objects.

use super::{DEPLOYMENT, report, report_definitions};

const ENTITY: &str = "kind: entity\nname: airport\njoin_keys: {origin: string}\n---\n";
const SOURCE: &str = "kind: source\nname: weather\npath: a.csv\nevent_timestamp: at\n---\n";

fn report_with(text: &str) -> String {
    report_definitions(&format!("{ENTITY}{SOURCE}{text}"))
}

#[test]
fn two_objects_of_one_name() {
    insta::assert_snapshot!(report_with(ENTITY), @r"
    repo::duplicate_name

      error: the entity `airport` is declared twice
       ╭─[weather.yaml:2:7]
     1 │ kind: entity
     2 │ name: airport
       ·       ───┬───
       ·          ╰── first declared here
     3 │ join_keys: {origin: string}
       ╰────
        ╭─[weather.yaml:11:7]
     10 │ kind: entity
     11 │ name: airport
        ·       ───┬───
        ·          ╰── again
     12 │ join_keys: {origin: string}
        ╰────
      help: rename or remove one of the two
    ");
    insta::assert_snapshot!(
        report(&[("vintner.yaml", DEPLOYMENT), ("a.yaml", ENTITY), ("b/c.yaml", ENTITY)]),
        @r"
    repo::duplicate_name

      error: the entity `airport` is declared twice
       ╭─[b/c.yaml:2:7]
     1 │ kind: entity
     2 │ name: airport
       ·       ───┬───
       ·          ╰── again
     3 │ join_keys: {origin: string}
       ╰────
      help: rename or remove one of the two
      ╰─▶   note: first declared here
             ╭─[a.yaml:2:7]
           1 │ kind: entity
           2 │ name: airport
             ·       ───┬───
             ·          ╰── here
           3 │ join_keys: {origin: string}
             ╰────
    "
    );
}

#[test]
fn an_entity_that_is_unknown() {
    insta::assert_snapshot!(
        report_with("kind: feature_view\nname: v\nentities: [airprt, plane]\nsource: weather\n"),
        @r"
    repo::unknown_entity

      error: no entity is named `airprt`
        ╭─[weather.yaml:12:12]
     11 │ name: v
     12 │ entities: [airprt, plane]
        ·            ───┬──
        ·               ╰── unknown entity
     13 │ source: weather
        ╰────
      help: did you mean `airport`?

    repo::unknown_entity

      error: no entity is named `plane`
        ╭─[weather.yaml:12:20]
     11 │ name: v
     12 │ entities: [airprt, plane]
        ·                    ──┬──
        ·                      ╰── unknown entity
     13 │ source: weather
        ╰────
      help: declare it: `kind: entity` and `name: plane`
    "
    );
}

#[test]
fn a_source_that_is_unknown() {
    insta::assert_snapshot!(
        report_with("kind: feature_view\nname: v\nentities: [airport]\nsource: wether\n"),
        @r"
    repo::unknown_source

      error: no source is named `wether`
        ╭─[weather.yaml:13:9]
     12 │ entities: [airport]
     13 │ source: wether
        ·         ───┬──
        ·            ╰── unknown source
        ╰────
      help: did you mean `weather`?
    "
    );
    insta::assert_snapshot!(
        report_definitions(&format!("{ENTITY}kind: feature_view\nname: v\nentities: [airport]\nsource: weather\n")),
        @r"
    repo::unknown_source

      error: no source is named `weather`
       ╭─[weather.yaml:8:9]
     7 │ entities: [airport]
     8 │ source: weather
       ·         ───┬───
       ·            ╰── unknown source
       ╰────
      help: declare it: `kind: source` and `name: weather`
    "
    );
    insta::assert_snapshot!(
        report_with(
            "kind: feature_view\nname: v\nentities: [airport]\nsource: weather\n---\nkind: feature_view\nname: w\nentities: [airport]\nsource: v\n"
        ),
        @r"
    repo::unknown_source

      error: no source is named `v`
        ╭─[weather.yaml:18:9]
     17 │ entities: [airport]
     18 │ source: v
        ·         ┬
        ·         ╰── unknown source
        ╰────
      help: `v` is a feature view; name the source that it is made from
    "
    );
}

#[test]
fn a_view_that_is_unknown() {
    insta::assert_snapshot!(
        report_with(
            "kind: feature_view\nname: airport_weather\nentities: [airport]\nsource: weather\n---\nkind: feature_service\nname: s\nfeatures:\n  - airport_weathr:temp\n  - weather\n  - plane\n"
        ),
        @r"
    repo::unknown_view

      error: no feature view is named `airport_weathr`
        ╭─[weather.yaml:18:5]
     17 │ features:
     18 │   - airport_weathr:temp
        ·     ─────────┬─────────
        ·              ╰── unknown view
     19 │   - weather
        ╰────
      help: did you mean `airport_weather`?

    repo::unknown_view

      error: no feature view is named `weather`
        ╭─[weather.yaml:19:5]
     18 │   - airport_weathr:temp
     19 │   - weather
        ·     ───┬───
        ·        ╰── unknown view
     20 │   - plane
        ╰────
      help: `weather` is a source; declare a feature view over it

    repo::unknown_view

      error: no feature view is named `plane`
        ╭─[weather.yaml:20:5]
     19 │   - weather
     20 │   - plane
        ·     ──┬──
        ·       ╰── unknown view
        ╰────
      help: declare it: `kind: feature_view` and `name: plane`
    "
    );
}

#[test]
fn an_entity_or_a_feature_that_is_twice() {
    insta::assert_snapshot!(
        report_with(
            "kind: feature_view\nname: v\nentities: [airport, airport]\nsource: weather\n---\nkind: feature_service\nname: s\nfeatures: [v, 'v:temp', 'v@2:temp', 'v@2:temp']\n"
        ),
        @r"
    repo::duplicate_element

      error: the entity `airport` is there twice
        ╭─[weather.yaml:12:21]
     11 │ name: v
     12 │ entities: [airport, airport]
        ·            ───┬───  ───┬───
        ·               │        ╰── again
        ·               ╰── first
     13 │ source: weather
        ╰────
      help: remove one of the two

    repo::duplicate_element

      error: `v:temp` is there twice: `v` gives it too
        ╭─[weather.yaml:17:15]
     16 │ name: s
     17 │ features: [v, 'v:temp', 'v@2:temp', 'v@2:temp']
        ·            ┬  ────┬───
        ·            │      ╰── again
        ·            ╰── first
        ╰────
      help: remove one of the two

    repo::duplicate_element

      error: `v@2:temp` is there twice
        ╭─[weather.yaml:17:37]
     16 │ name: s
     17 │ features: [v, 'v:temp', 'v@2:temp', 'v@2:temp']
        ·                         ─────┬────  ─────┬────
        ·                              │           ╰── again
        ·                              ╰── first
        ╰────
      help: remove one of the two
    "
    );
}

#[test]
fn entities_whose_join_keys_clash() {
    insta::assert_snapshot!(
        report_with(
            "kind: entity\nname: city\njoin_keys: {origin: int64}\n---\nkind: feature_view\nname: v\nentities: [airport, city]\nsource: weather\n"
        ),
        @r"
    repo::join_key_conflict

      error: the entities `airport` and `city` both have the join key `origin`
        ╭─[weather.yaml:16:21]
     11 │ name: city
     12 │ join_keys: {origin: int64}
        ·             ───┬──
        ·                ╰── this join key
     13 │ ---
     14 │ kind: feature_view
     15 │ name: v
     16 │ entities: [airport, city]
        ·                     ──┬─
        ·                       ╰── clashes
     17 │ source: weather
        ╰────
      help: rename one of the join keys; a view has one column for each
    "
    );
}

#[test]
fn a_ttl_over_a_static_source() {
    insta::assert_snapshot!(
        report_definitions(&format!(
            "{ENTITY}kind: source\nname: planes\npath: a.csv\nstatic: true\n---\nkind: feature_view\nname: v\nentities: [airport]\nsource: planes\nttl: 6h\n"
        )),
        @r"
    repo::ttl_on_static

      error: a view over a static source cannot have a ttl
        ╭─[weather.yaml:14:6]
     12 │ entities: [airport]
     13 │ source: planes
        ·         ───┬──
        ·            ╰── its rows have no time
     14 │ ttl: 6h
        ·      ─┬
        ·       ╰── counts from no time
        ╰────
      help: remove `ttl`; what has always been true does not grow old
    "
    );
}

#[test]
fn a_view_with_the_name_of_a_source() {
    insta::assert_snapshot!(
        report_with("kind: feature_view\nname: weather\nentities: [airport]\nsource: weather\n"),
        @r"
    repo::view_named_like_source

      warning: the feature view `weather` has the name of a source
        ╭─[weather.yaml:11:7]
      5 │ kind: source
      6 │ name: weather
        ·       ───┬───
        ·          ╰── the source
      7 │ path: a.csv
      8 │ event_timestamp: at
      9 │ ---
     10 │ kind: feature_view
     11 │ name: weather
        ·       ───┬───
        ·          ╰── the view
     12 │ entities: [airport]
        ╰────
      help: in queries the name is always the source; rename one of the two to make that plain
    "
    );
}

#[test]
fn a_view_that_is_made_from_itself() {
    insta::assert_snapshot!(
        report_with("kind: feature_view\nname: v\nentities: [airport]\nsource: v\n"),
        @r"
    repo::cycle

      error: the feature view `v` is made from itself: view `v` from view `v`
        ╭─[weather.yaml:13:9]
     12 │ entities: [airport]
     13 │ source: v
        ·         ┬
        ·         ╰── leads back to this view
        ╰────
      help: name a source with data of its own; a view reads sources, not views
    "
    );
    insta::assert_snapshot!(
        report_with(
            "kind: feature_view\nname: v\nentities: [airport]\nsource: w\n---\nkind: feature_view\nname: w\nentities: [airport]\nsource: v\n---\nkind: feature_view\nname: x\nentities: [airport]\nsource: v\n"
        ),
        @r"
    repo::cycle

      error: the feature view `v` is made from itself: view `v` from view `w` from view `v`
        ╭─[weather.yaml:13:9]
     12 │ entities: [airport]
     13 │ source: w
        ·         ┬
        ·         ╰── leads back to this view
     14 │ ---
     15 │ kind: feature_view
     16 │ name: w
     17 │ entities: [airport]
     18 │ source: v
        ·         ┬
        ·         ╰── by way of this
     19 │ ---
        ╰────
      help: name a source with data of its own; a view reads sources, not views

    repo::unknown_source

      error: no source is named `v`
        ╭─[weather.yaml:23:9]
     22 │ entities: [airport]
     23 │ source: v
        ·         ┬
        ·         ╰── unknown source
        ╰────
      help: `v` is a feature view; name the source that it is made from
    "
    );
    insta::assert_snapshot!(
        report_with(
            "kind: source\nname: back\npath: data/../.vintner/offline/flights/v/v1\nformat: delta\nevent_timestamp: event_timestamp\n---\nkind: feature_view\nname: v\nentities: [airport]\nsource: back\n"
        ),
        @r"
    repo::cycle

      error: the feature view `v` is made from itself: view `v` from source `back` from view `v`
        ╭─[weather.yaml:19:9]
     11 │ name: back
     12 │ path: data/../.vintner/offline/flights/v/v1
        ·       ──────────────────┬──────────────────
        ·                         ╰── by way of this
     13 │ format: delta
     14 │ event_timestamp: event_timestamp
     15 │ ---
     16 │ kind: feature_view
     17 │ name: v
     18 │ entities: [airport]
     19 │ source: back
        ·         ──┬─
        ·           ╰── leads back to this view
        ╰────
      help: name a source with data of its own; a view reads sources, not views
    "
    );
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_files() {
    let parsed = super::parse_files(&[
        ("vintner.yaml", "project: a b\nregistry: ${NONE}\n"),
        (
            "a.yaml",
            "kind: feature_view\nname: v_\nentities: [x]\nttl: 6\nsource: s\n",
        ),
        (
            "b.yaml",
            "kind: entity\nname: e\njoin_keys: {id: int}\n---\nkind: entity: b\n",
        ),
    ]);
    let told: Vec<String> = parsed
        .diagnostics
        .iter()
        .map(|diagnostic| {
            format!(
                "{} {} {}",
                diagnostic.place(),
                diagnostic.severity(),
                diagnostic.code()
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    vintner.yaml:1:1 error repo::missing_field
    vintner.yaml:1:1 error repo::missing_field
    vintner.yaml:1:10 error repo::bad_name
    vintner.yaml:2:11 error repo::undefined_variable
    a.yaml:2:7 error repo::bad_name
    a.yaml:4:6 error repo::bad_duration
    b.yaml:3:17 error repo::bad_type
    b.yaml:5:13 error repo::yaml_syntax
    ");
}
