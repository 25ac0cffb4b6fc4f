//! What is wrong within one object.

use super::report_definitions;

/// The reports for a feature view with these further lines.
fn report_view(lines: &str) -> String {
    report_definitions(&format!(
        "kind: entity\nname: airport\njoin_keys: {{origin: string}}\n\
         ---\nkind: source\nname: weather\npath: a.csv\nevent_timestamp: at\n\
         ---\nkind: feature_view\nname: view\nentities: [airport]\n{lines}"
    ))
}

#[test]
fn a_duration_that_is_none() {
    insta::assert_snapshot!(report_view("source: weather\nttl: 6\n"), @r"
    repo::bad_duration

      error: `6` is not a duration; write a number and a unit, like 6h, 7d, 90min or 1h 30m
        ╭─[weather.yaml:14:6]
     13 │ source: weather
     14 │ ttl: 6
        ·      ┬
        ·      ╰── not a duration
        ╰────
      help: say the unit: 6s, 6min, 6h or 6d
    ");
    insta::assert_snapshot!(report_view("source: weather\nttl: six hours\nlookback: 0s\n"), @r"
    repo::bad_duration

      error: `six hours` is not a duration; write a number and a unit, like 6h, 7d, 90min or 1h 30m
        ╭─[weather.yaml:14:6]
     13 │ source: weather
     14 │ ttl: six hours
        ·      ────┬────
        ·          ╰── not a duration
     15 │ lookback: 0s
        ╰────
      help: write something like `6h`

    repo::bad_duration

      error: the duration `0s` is out of range; it must be at least one microsecond and at most
      │ 292,000 years
        ╭─[weather.yaml:15:11]
     14 │ ttl: six hours
     15 │ lookback: 0s
        ·           ─┬
        ·            ╰── not a duration
        ╰────
      help: write something like `7d`
    ");
}

#[test]
fn a_size_that_is_none() {
    insta::assert_snapshot!(report_view("source: weather\nnear_cache: 64 megs\n"), @r"
    repo::bad_size

      error: `64 megs` is not a size; write a number of bytes from 1, or a number and a unit as in
      │ `64MiB`
        ╭─[weather.yaml:14:13]
     13 │ source: weather
     14 │ near_cache: 64 megs
        ·             ───┬───
        ·                ╰── not a size
        ╰────
      help: write something like `64MiB`
    ");
    insta::assert_snapshot!(report_view("source: weather\nnear_cache: 0\n"), @r"
    repo::bad_size

      error: `0` is not a size; write a number of bytes from 1, or a number and a unit as in `64MiB`
        ╭─[weather.yaml:14:13]
     13 │ source: weather
     14 │ near_cache: 0
        ·             ┬
        ·             ╰── not a size
        ╰────
      help: write something like `64MiB`
    ");
}

#[test]
fn a_type_that_is_none() {
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: a\njoin_keys: {id: float64, b: strng, c: [int64]}\n"),
        @r"
    repo::bad_type

      error: `float64` is not a join key type; the types are bool, int32, int64, string and bytes
       ╭─[weather.yaml:3:17]
     2 │ name: a
     3 │ join_keys: {id: float64, b: strng, c: [int64]}
       ·                 ───┬───
       ·                    ╰── not one of them
       ╰────
      help: write something like `int64`

    repo::bad_type

      error: `strng` is not a join key type; the types are bool, int32, int64, string and bytes
       ╭─[weather.yaml:3:29]
     2 │ name: a
     3 │ join_keys: {id: float64, b: strng, c: [int64]}
       ·                             ──┬──
       ·                               ╰── not one of them
       ╰────
      help: did you mean `string`?

    repo::wrong_type

      error: `c` must be a text, but is a list
       ╭─[weather.yaml:3:39]
     2 │ name: a
     3 │ join_keys: {id: float64, b: strng, c: [int64]}
       ·                                       ───┬───
       ·                                          ╰── a list
       ╰────
      help: write something like `int64`
    "
    );
    insta::assert_snapshot!(
        report_view("source: weather\nfeatures:\n  temp: {type: flot64}\n  wind: {type: decimal}\n  rain: float64\n  gust:\n"),
        @r"
    repo::bad_type

      error: `flot64` is not a feature type; the types are bool, int32, int64, float32, float64,
      │ string, bytes, timestamp, and list<…> of these
        ╭─[weather.yaml:15:16]
     14 │ features:
     15 │   temp: {type: flot64}
        ·                ───┬──
        ·                   ╰── not one of them
     16 │   wind: {type: decimal}
        ╰────
      help: did you mean `float64`?

    repo::bad_type

      error: `decimal` is not a feature type; the types are bool, int32, int64, float32, float64,
      │ string, bytes, timestamp, and list<…> of these
        ╭─[weather.yaml:16:16]
     15 │   temp: {type: flot64}
     16 │   wind: {type: decimal}
        ·                ───┬───
        ·                   ╰── not one of them
     17 │   rain: float64
        ╰────
      help: write something like `float64`

    repo::wrong_type

      error: `rain` must be a mapping, but is a text
        ╭─[weather.yaml:17:9]
     16 │   wind: {type: decimal}
     17 │   rain: float64
        ·         ───┬───
        ·            ╰── a text
     18 │   gust:
        ╰────
      help: write something like `{type: float64}`

    repo::empty

      error: `gust` is empty
        ╭─[weather.yaml:18:3]
     17 │   rain: float64
     18 │   gust:
        ·   ──┬─
        ·     ╰── nothing in here
        ╰────
      help: write something like `{type: float64}`
    "
    );
}

#[test]
fn a_default_that_is_not_of_its_type() {
    insta::assert_snapshot!(
        report_view(
            "source: weather\nfeatures:\n  a: {type: int32, default: 3000000000}\n  b: {type: string, default: 1}\n  c: {type: list<int64>, default: [1, x]}\n  d: {type: float64, default: [1]}\n  e: {type: bool, default: ~}\n"
        ),
        @r#"
    repo::bad_default

      error: the default of a feature of type int32 cannot be the number `3000000000`
        ╭─[weather.yaml:15:29]
     14 │ features:
     15 │   a: {type: int32, default: 3000000000}
        ·                             ─────┬────
        ·                                  ╰── not of type int32
     16 │   b: {type: string, default: 1}
        ╰────
      help: write something like 0 (at most 2147483647)

    repo::bad_default

      error: the default of a feature of type string cannot be the number `1`
        ╭─[weather.yaml:16:30]
     15 │   a: {type: int32, default: 3000000000}
     16 │   b: {type: string, default: 1}
        ·                              ┬
        ·                              ╰── not of type string
     17 │   c: {type: list<int64>, default: [1, x]}
        ╰────
      help: quote it: "1"

    repo::bad_default

      error: the default of a feature of type int64 cannot be the text `x`
        ╭─[weather.yaml:17:39]
     16 │   b: {type: string, default: 1}
     17 │   c: {type: list<int64>, default: [1, x]}
        ·                                       ┬
        ·                                       ╰── not of type int64
     18 │   d: {type: float64, default: [1]}
        ╰────
      help: write something like 0 (at most 9223372036854775807)

    repo::bad_default

      error: the default of a feature of type float64 cannot be a list
        ╭─[weather.yaml:18:31]
     17 │   c: {type: list<int64>, default: [1, x]}
     18 │   d: {type: float64, default: [1]}
        ·                               ─┬─
        ·                                ╰── not of type float64
     19 │   e: {type: bool, default: ~}
        ╰────
      help: write something like 0.0

    repo::bad_default

      error: the default of a feature of type bool cannot be nothing
        ╭─[weather.yaml:19:28]
     18 │   d: {type: float64, default: [1]}
     19 │   e: {type: bool, default: ~}
        ·                            ┬
        ·                            ╰── not of type bool
        ╰────
      help: write something like false
    "#
    );
}

#[test]
fn a_feature_with_fields_that_are_unknown_or_missing() {
    insta::assert_snapshot!(report_view("source: weather\nfeatures:\n  a: {typ: int32}\n"), @r"
    repo::unknown_field

      error: a feature has no field `typ`
        ╭─[weather.yaml:15:7]
     14 │ features:
     15 │   a: {typ: int32}
        ·       ─┬─
        ·        ╰── unknown field
        ╰────
      help: did you mean `type`?
    ");
}

#[test]
fn a_source_and_a_query_or_neither() {
    insta::assert_snapshot!(report_view("source: weather\nquery: SELECT 1\n"), @r"
    repo::source_or_query

      error: a feature view has both a `source` and a `query`
        ╭─[weather.yaml:13:9]
     12 │ entities: [airport]
     13 │ source: weather
        ·         ───┬───
        ·            ╰── the source
     14 │ query: SELECT 1
        ·        ────┬───
        ·            ╰── the query
        ╰────
      help: remove `source`; the query says itself which sources it reads
    ");
    insta::assert_snapshot!(report_view(""), @r"
    repo::source_or_query

      error: a feature view has neither a `source` nor a `query`
        ╭─[weather.yaml:11:7]
     10 │ kind: feature_view
     11 │ name: view
        ·       ──┬─
        ·         ╰── needs one of them
     12 │ entities: [airport]
        ╰────
      help: add `source: NAME` to take all columns of a source, or `query: SELECT …`
    ");
}

#[test]
fn a_query_that_is_empty() {
    insta::assert_snapshot!(report_view("query: \"  \"\n"), @r#"
    repo::empty

      error: `query` is empty
        ╭─[weather.yaml:13:8]
     12 │ entities: [airport]
     13 │ query: "  "
        ·        ──┬─
        ·          ╰── nothing in here
        ╰────
      help: write something like `SELECT origin, observed_at, temp FROM weather`, or remove the line
    "#);
}

#[test]
fn a_view_that_no_store_holds() {
    insta::assert_snapshot!(report_view("source: weather\nonline: false\noffline: false\n"), @r"
    repo::no_store

      warning: no store holds the feature view `view`
        ╭─[weather.yaml:14:9]
     13 │ source: weather
     14 │ online: false
        ·         ──┬──
        ·           ╰── not online
     15 │ offline: false
        ·          ──┬──
        ·            ╰── not offline
        ╰────
      help: remove one of the two lines, or the view
    ");
}

#[test]
fn a_format_that_is_unknown_or_unsaid() {
    insta::assert_snapshot!(
        report_definitions(
            "kind: source\nname: a\npath: data/a\nevent_timestamp: t\n---\nkind: source\nname: b\npath: data/b\nformat: parket\nevent_timestamp: t\n"
        ),
        @r"
    repo::bad_format

      error: the path does not say which format its files have
       ╭─[weather.yaml:3:7]
     2 │ name: a
     3 │ path: data/a
       ·       ───┬──
       ·          ╰── no known extension
     4 │ event_timestamp: t
       ╰────
      help: add `format: parquet`, `csv`, `json` or `delta`

    repo::bad_format

      error: `parket` is not a format of sources; the formats are parquet, csv, json and delta
        ╭─[weather.yaml:9:9]
      8 │ path: data/b
      9 │ format: parket
        ·         ───┬──
        ·            ╰── not one of them
     10 │ event_timestamp: t
        ╰────
      help: did you mean `parquet`?
    "
    );
}

#[test]
fn a_static_source_with_a_time() {
    insta::assert_snapshot!(
        report_definitions("kind: source\nname: a\npath: a.csv\nstatic: true\nevent_timestamp: t\n"),
        @r"
    repo::static_with_time

      error: a static source has the time column `event_timestamp`
       ╭─[weather.yaml:5:18]
     4 │ static: true
     5 │ event_timestamp: t
       ·                  ┬
       ·                  ╰── has a time
       ╰────
      help: remove `event_timestamp` when the rows have always been true; else remove `static: true`
    "
    );
    insta::assert_snapshot!(
        report_definitions("kind: source\nname: a\npath: a.csv\nstatic: yes\n"),
        @r"
    repo::wrong_type

      error: `static` must be true or false, but is a text
       ╭─[weather.yaml:4:9]
     3 │ path: a.csv
     4 │ static: yes
       ·         ─┬─
       ·          ╰── a text
       ╰────
      help: write something like `true`
    "
    );
}

#[test]
fn variables_in_the_path_of_a_source() {
    insta::assert_snapshot!(
        report_definitions("kind: source\nname: a\npath: \"s3://${BUCKET}/${}/${EMPTY}/${x\"\nevent_timestamp: t\n"),
        @r#"
    repo::undefined_variable

      error: the variable `BUCKET` is not set
       ╭─[weather.yaml:3:13]
     2 │ name: a
     3 │ path: "s3://${BUCKET}/${}/${EMPTY}/${x"
       ·             ────┬────
       ·                 ╰── not set
     4 │ event_timestamp: t
       ╰────
      help: set BUCKET in the environment, or give a default: ${BUCKET:-default}

    repo::bad_variable

      error: `` is not the name of a variable
       ╭─[weather.yaml:3:23]
     2 │ name: a
     3 │ path: "s3://${BUCKET}/${}/${EMPTY}/${x"
       ·                       ─┬─
       ·                        ╰── not a variable
     4 │ event_timestamp: t
       ╰────
      help: write ${VAR} or ${VAR:-default}, or $${ for the text `${` itself

    repo::bad_variable

      error: a `${` has no `}`
       ╭─[weather.yaml:3:36]
     2 │ name: a
     3 │ path: "s3://${BUCKET}/${}/${EMPTY}/${x"
       ·                                    ─┬─
       ·                                     ╰── not closed
     4 │ event_timestamp: t
       ╰────
      help: write ${VAR}, or $${ for the text `${` itself
    "#
    );
    insta::assert_snapshot!(
        report_definitions("kind: source\nname: a\npath: ${EMPTY}\nevent_timestamp: t\n"),
        @r"
    repo::empty

      error: `path` is empty once its variables are expanded
       ╭─[weather.yaml:3:7]
     2 │ name: a
     3 │ path: ${EMPTY}
       ·       ────┬───
       ·           ╰── nothing in here
     4 │ event_timestamp: t
       ╰────
      help: set the variable, or give a default: ${VAR:-default}
    "
    );
}

#[test]
fn a_service_of_no_features() {
    insta::assert_snapshot!(report_definitions("kind: feature_service\nname: s\nfeatures: []\n"), @r#"
    repo::empty

      error: `features` is empty
       ╭─[weather.yaml:3:11]
     2 │ name: s
     3 │ features: []
       ·           ─┬
       ·            ╰── nothing in here
       ╰────
      help: write something like `[airport_weather, "carrier_delays:mean_delay"]`
    "#);
}

#[test]
fn a_feature_that_is_not_named_right() {
    insta::assert_snapshot!(
        report_definitions("kind: feature_service\nname: s\nfeatures:\n  - view: temp\n  - 'a:b:c'\n  - 7\n  - view@0\n"),
        @r#"
    repo::bad_reference

      error: `view: temp` is a mapping, not the name of a feature
       ╭─[weather.yaml:4:5]
     3 │ features:
     4 │   - view: temp
       ·     ─────┬────
       ·          ╰── a mapping
     5 │   - 'a:b:c'
       ╰────
      help: write it without the space: "view:temp"

    repo::bad_reference

      error: `a:b:c` names no feature: the feature name `b:c` may only have letters, digits and `_`,
      │ and must not start with a digit
       ╭─[weather.yaml:5:5]
     4 │   - view: temp
     5 │   - 'a:b:c'
       ·     ───┬───
       ·        ╰── names no feature
     6 │   - 7
       ╰────
      help: write `view:feature`, or `view` for all features of a view

    repo::needs_quotes

      error: an element of `features` must be a text, but YAML reads `7` as a number
       ╭─[weather.yaml:6:5]
     5 │   - 'a:b:c'
     6 │   - 7
       ·     ┬
       ·     ╰── a number
     7 │   - view@0
       ╰────
      help: quote it: "7"

    repo::bad_reference

      error: `view@0` names no feature: `0` is not a view version; write a number from 1, as in
      │ `weather@2`
       ╭─[weather.yaml:7:5]
     6 │   - 7
     7 │   - view@0
       ·     ───┬──
       ·        ╰── names no feature
       ╰────
      help: write `view:feature`, or `view` for all features of a view
    "#
    );
}

#[test]
fn a_secret_in_clear() {
    insta::assert_snapshot!(
        report_definitions(
            "kind: source\nname: a\npath: https://me:hunter2@host/a.csv\nevent_timestamp: t\ntags: {db_password: \"hunter2\", tokenizer: bert}\n"
        ),
        @r#"
    repo::secret_in_clear

      warning: the password of a URL is written in clear
       ╭─[weather.yaml:3:18]
     2 │ name: a
     3 │ path: https://me:*******@host/a.csv
       ·                  ───┬───
       ·                     ╰── in clear
     4 │ event_timestamp: t
       ╰────
      help: put it in the environment and write ${PASSWORD} here

    repo::secret_in_clear

      warning: a secret is written in clear
       ╭─[weather.yaml:5:22]
     4 │ event_timestamp: t
     5 │ tags: {db_password: "*******", tokenizer: bert}
       ·                      ───┬───
       ·                         ╰── in clear
       ╰────
      help: put it in the environment and write ${DB_PASSWORD} here
    "#
    );
}
