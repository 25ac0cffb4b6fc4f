//! Documents that are no objects, and fields that are not right.

use super::report_definitions;

#[test]
fn a_document_that_is_no_mapping() {
    insta::assert_snapshot!(report_definitions("- kind: entity\n  name: a\n- kind: entity\n"), @r"
    repo::not_a_mapping

      error: a document must be one object, but is a list
       ╭─[weather.yaml:1:1]
     1 │ - kind: entity
       · ───────┬──────
       ·        ╰── a list
     2 │   name: a
       ╰────
      help: write `key: value` lines, and `---` on a line of its own between objects
    ");
    insta::assert_snapshot!(report_definitions("just words\n"), @r"
    repo::not_a_mapping

      error: a document must be one object, but is a text
       ╭─[weather.yaml:1:1]
     1 │ just words
       · ─────┬────
       ·      ╰── a text
       ╰────
      help: write `key: value` lines, and `---` on a line of its own between objects
    ");
}

#[test]
fn a_kind_that_is_missing() {
    insta::assert_snapshot!(report_definitions("name: airport\njoin_keys: {origin: string}\n"), @r"
    repo::missing_kind

      error: this object does not say its kind
       ╭─[weather.yaml:1:1]
     1 │ name: airport
       · ──┬─
       ·   ╰── needs `kind`
     2 │ join_keys: {origin: string}
       ╰────
      help: add `kind: KIND`, where KIND is one of `entity`, `source`, `feature_view` and
            `feature_service`
    ");
    insta::assert_snapshot!(report_definitions("name: airport\nkid: entity\n"), @r"
    repo::missing_kind

      error: this object does not say its kind
       ╭─[weather.yaml:2:1]
     1 │ name: airport
     2 │ kid: entity
       · ─┬─
       ·  ╰── not `kind`
       ╰────
      help: did you mean `kind`?
    ");
}

#[test]
fn a_kind_that_is_unknown() {
    insta::assert_snapshot!(report_definitions("kind: feature_veiw\nname: a\n"), @r"
    repo::unknown_kind

      error: there is no kind `feature_veiw`
       ╭─[weather.yaml:1:7]
     1 │ kind: feature_veiw
       ·       ──────┬─────
       ·             ╰── unknown kind
     2 │ name: a
       ╰────
      help: did you mean `feature_view`?
    ");
    insta::assert_snapshot!(report_definitions("kind: model\n"), @r"
    repo::unknown_kind

      error: there is no kind `model`
       ╭─[weather.yaml:1:7]
     1 │ kind: model
       ·       ──┬──
       ·         ╰── unknown kind
       ╰────
      help: the kinds are `entity`, `source`, `feature_view` and `feature_service`
    ");
    insta::assert_snapshot!(report_definitions("kind:\n"), @r"
    repo::unknown_kind

      error: `kind` is nothing
       ╭─[weather.yaml:1:5]
     1 │ kind:
       ·     ▲
       ·     ╰── unknown kind
       ╰────
      help: the kinds are `entity`, `source`, `feature_view` and `feature_service`
    ");
    insta::assert_snapshot!(report_definitions("kind: [entity]\n"), @r"
    repo::unknown_kind

      error: `kind` is a list
       ╭─[weather.yaml:1:7]
     1 │ kind: [entity]
       ·       ────┬───
       ·           ╰── unknown kind
       ╰────
      help: the kinds are `entity`, `source`, `feature_view` and `feature_service`
    ");
}

#[test]
fn a_field_that_is_unknown() {
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: airport\njoin_key: {origin: string}\n"),
        @r"
    repo::unknown_field

      error: an entity has no field `join_key`
       ╭─[weather.yaml:3:1]
     2 │ name: airport
     3 │ join_key: {origin: string}
       · ────┬───
       ·     ╰── unknown field
       ╰────
      help: did you mean `join_keys`?
    "
    );
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: airport\njoin_keys: {origin: string}\nttl: 6h\n"),
        @r"
    repo::unknown_field

      error: an entity has no field `ttl`
       ╭─[weather.yaml:4:1]
     3 │ join_keys: {origin: string}
     4 │ ttl: 6h
       · ─┬─
       ·  ╰── unknown field
       ╰────
      help: the fields are `kind`, `name`, `join_keys`, `description`, `owner` and `tags`
    "
    );
}

#[test]
fn a_key_that_is_twice() {
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: airport\njoin_keys: {a: int64, b: int64, a: string}\nname: port\n"),
        @r"
    repo::duplicate_key

      error: `a` is there twice
       ╭─[weather.yaml:3:33]
     2 │ name: airport
     3 │ join_keys: {a: int64, b: int64, a: string}
       ·             ┬                   ┬
       ·             │                   ╰── again
       ·             ╰── first
     4 │ name: port
       ╰────
      help: remove one of the two

    repo::duplicate_key

      error: `name` is there twice
       ╭─[weather.yaml:4:1]
     1 │ kind: entity
     2 │ name: airport
       · ──┬─
       ·   ╰── first
     3 │ join_keys: {a: int64, b: int64, a: string}
     4 │ name: port
       · ──┬─
       ·   ╰── again
       ╰────
      help: remove one of the two
    "
    );
}

#[test]
fn a_field_that_is_missing() {
    insta::assert_snapshot!(report_definitions("kind: entity\n"), @r"
    repo::missing_field

      error: an entity has no `name`
       ╭─[weather.yaml:1:7]
     1 │ kind: entity
       ·       ───┬──
       ·          ╰── needs `name`
       ╰────
      help: add `name: airport`

    repo::missing_field

      error: an entity has no `join_keys`
       ╭─[weather.yaml:1:7]
     1 │ kind: entity
       ·       ───┬──
       ·          ╰── needs `join_keys`
       ╰────
      help: add `join_keys: {airport_id: int64}`
    ");
    insta::assert_snapshot!(report_definitions("kind: source\nname: weather\npath: a.csv\n"), @r"
    repo::missing_field

      error: a source has no `event_timestamp`
       ╭─[weather.yaml:2:7]
     1 │ kind: source
     2 │ name: weather
       ·       ───┬───
       ·          ╰── needs `event_timestamp`
     3 │ path: a.csv
       ╰────
      help: name the column that says when a row was true; or add `static: true` when the rows have
            always been true
    ");
}

#[test]
fn a_value_of_the_wrong_type() {
    insta::assert_snapshot!(
        report_definitions(
            "kind: feature_view\nname: [v]\nentities: airport\nttl: [6h]\nquery: {select: a}\nfeatures: temp\nonline: 'no'\ntags:\n  - gold\n"
        ),
        @r"
    repo::wrong_type

      error: `name` must be a text, but is a list
       ╭─[weather.yaml:2:7]
     1 │ kind: feature_view
     2 │ name: [v]
       ·       ─┬─
       ·        ╰── a list
     3 │ entities: airport
       ╰────
      help: write something like `airport_weather`

    repo::wrong_type

      error: `entities` must be a list, but is a text
       ╭─[weather.yaml:3:11]
     2 │ name: [v]
     3 │ entities: airport
       ·           ───┬───
       ·              ╰── a text
     4 │ ttl: [6h]
       ╰────
      help: write something like `[airport]`

    repo::wrong_type

      error: `ttl` must be a duration, but is a list
       ╭─[weather.yaml:4:6]
     3 │ entities: airport
     4 │ ttl: [6h]
       ·      ──┬─
       ·        ╰── a list
     5 │ query: {select: a}
       ╰────
      help: write something like `6h`

    repo::wrong_type

      error: `query` must be a text, but is a mapping
       ╭─[weather.yaml:5:8]
     4 │ ttl: [6h]
     5 │ query: {select: a}
       ·        ─────┬─────
       ·             ╰── a mapping
     6 │ features: temp
       ╰────
      help: write something like `SELECT origin, observed_at, temp FROM weather`

    repo::wrong_type

      error: `features` must be a mapping, but is a text
       ╭─[weather.yaml:6:11]
     5 │ query: {select: a}
     6 │ features: temp
       ·           ──┬─
       ·             ╰── a text
     7 │ online: 'no'
       ╰────
      help: write something like `{temp: {type: float64}}`

    repo::wrong_type

      error: `online` must be true or false, but is a text
       ╭─[weather.yaml:7:9]
     6 │ features: temp
     7 │ online: 'no'
       ·         ──┬─
       ·           ╰── a text
     8 │ tags:
       ╰────
      help: write something like `true`

    repo::wrong_type

      error: `tags` must be a mapping, but is a list
       ╭─[weather.yaml:9:3]
     8 │ tags:
     9 │   - gold
       ·   ───┬──
       ·      ╰── a list
       ╰────
      help: write something like `{tier: gold}`
    "
    );
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: a\njoin_keys: {id: int64}\n? [b]\n: c\n"),
        @r"
    repo::wrong_type

      error: a key of an entity must be a text, but is a list
       ╭─[weather.yaml:4:3]
     3 │ join_keys: {id: int64}
     4 │ ? [b]
       ·   ─┬─
       ·    ╰── here
     5 │ : c
       ╰────
      help: write a name
    "
    );
}

#[test]
fn a_text_that_yaml_takes_for_something_else() {
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: true\njoin_keys: {id: int64}\nowner: 007\ntags: {version: 1.10}\n"),
        @r#"
    repo::needs_quotes

      error: `name` must be a text, but YAML reads `true` as a boolean
       ╭─[weather.yaml:2:7]
     1 │ kind: entity
     2 │ name: true
       ·       ──┬─
       ·         ╰── a boolean
     3 │ join_keys: {id: int64}
       ╰────
      help: quote it: "true"

    repo::needs_quotes

      error: `owner` must be a text, but YAML reads `007` as a number
       ╭─[weather.yaml:4:8]
     3 │ join_keys: {id: int64}
     4 │ owner: 007
       ·        ─┬─
       ·         ╰── a number
     5 │ tags: {version: 1.10}
       ╰────
      help: quote it: "007"

    repo::needs_quotes

      error: `version` must be a text, but YAML reads `1.10` as a number
       ╭─[weather.yaml:5:17]
     4 │ owner: 007
     5 │ tags: {version: 1.10}
       ·                 ──┬─
       ·                   ╰── a number
       ╰────
      help: quote it: "1.10"
    "#
    );
}

#[test]
fn a_field_that_says_nothing() {
    insta::assert_snapshot!(
        report_definitions(
            "kind: feature_view\nname: v\nentities: []\nttl:\nquery: |\n\nfeatures: {}\nowner: ~\n"
        ),
        @r"
    repo::empty

      error: `entities` is empty
       ╭─[weather.yaml:3:11]
     2 │ name: v
     3 │ entities: []
       ·           ─┬
       ·            ╰── nothing in here
     4 │ ttl:
       ╰────
      help: write something like `[airport]`

    repo::empty

      error: `ttl` is empty
       ╭─[weather.yaml:4:1]
     3 │ entities: []
     4 │ ttl:
       · ─┬─
       ·  ╰── nothing in here
     5 │ query: |
       ╰────
      help: write something like `6h`, or remove the line

    repo::empty

      error: `query` is empty
       ╭─[weather.yaml:5:1]
     4 │ ttl:
     5 │ query: |
       · ──┬──
       ·   ╰── nothing in here
     6 │ 
       ╰────
      help: write something like `SELECT origin, observed_at, temp FROM weather`, or remove the line

    repo::empty

      error: `features` is empty
       ╭─[weather.yaml:7:11]
     6 │ 
     7 │ features: {}
       ·           ─┬
       ·            ╰── nothing in here
     8 │ owner: ~
       ╰────
      help: write something like `{temp: {type: float64}}`, or remove the line

    repo::empty

      error: `owner` is empty
       ╭─[weather.yaml:8:8]
     7 │ features: {}
     8 │ owner: ~
       ·        ┬
       ·        ╰── nothing in here
       ╰────
      help: write something like `data-platform`, or remove the line
    "
    );
}

#[test]
fn a_name_that_is_none() {
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: air__port\njoin_keys: {origin-id: int64}\n"),
        @r"
    repo::bad_name

      error: the entity name `air__port` must not contain `__` nor begin or end with `_`, so that
      │ `view__feature` splits in one way only
       ╭─[weather.yaml:2:7]
     1 │ kind: entity
     2 │ name: air__port
       ·       ────┬────
       ·           ╰── not a name
     3 │ join_keys: {origin-id: int64}
       ╰────
      help: `air_port` would do

    repo::bad_name

      error: the column name `origin-id` may only have letters, digits and `_`, and must not start
      │ with a digit
       ╭─[weather.yaml:3:13]
     2 │ name: air__port
     3 │ join_keys: {origin-id: int64}
       ·             ────┬────
       ·                 ╰── not a name
       ╰────
      help: `origin_id` would do
    "
    );
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: '2nd'\njoin_keys: {id: int64}\n---\nkind: entity\nname: ''\njoin_keys: {id: int64}\n"),
        @r"
    repo::bad_name

      error: the entity name `2nd` may only have letters, digits and `_`, and must not start with a
      │ digit
       ╭─[weather.yaml:2:7]
     1 │ kind: entity
     2 │ name: '2nd'
       ·       ──┬──
       ·         ╰── not a name
     3 │ join_keys: {id: int64}
       ╰────
      help: write a name like `daily_weather`

    repo::bad_name

      error: the entity name is empty
       ╭─[weather.yaml:6:7]
     5 │ kind: entity
     6 │ name: ''
       ·       ─┬
       ·        ╰── not a name
     7 │ join_keys: {id: int64}
       ╰────
      help: write a name like `daily_weather`
    "
    );
}
