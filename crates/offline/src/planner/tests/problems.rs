use insta::assert_snapshot;
use vintner_core::Value;

use super::*;

fn problems_of(view: &ViewDefinition) -> String {
    match plan_view(view, &catalog()) {
        Ok(planned) => panic!("planned: {}", shown(&planned)),
        Err(problems) => listed(&problems),
    }
}

fn problems(sql: &str) -> String {
    problems_of(&query("origin", sql))
}

#[test]
fn a_query_that_is_not_sql() {
    assert_snapshot!(problems("SELECT origin,\n  observed_at,\n  FROM weather WHERE"), @"view, query line 3, column 20, length 1: the query is not SQL: expected: an expression, found: the end [plan::syntax]");
    assert_snapshot!(problems("SELECT 'open FROM weather"), @"view, query line 1, column 8, length 1: the query is not SQL: unterminated string literal [plan::syntax]");
    assert_snapshot!(problems(" -- nothing"), @"
    view, query: the query is empty [plan::empty_query]
      help: write a SELECT over the declared sources, or give the view a `source`
    ");
    assert_snapshot!(problems(&format!("SELECT {}1{} FROM weather", "(".repeat(200), ")".repeat(200))), @"
    view, query: the query is nested more than 50 deep [plan::too_deep]
      help: take steps out with `WITH name AS (SELECT …)`
    ");
}

#[test]
fn a_query_that_does_not_only_read() {
    assert_snapshot!(problems("SELECT origin FROM weather; DROP TABLE weather"), @"
    view, query: the query is more than one statement [plan::many_statements]
      help: a view has one SELECT; use `WITH name AS (SELECT …)` for steps in between
    ");
    assert_snapshot!(problems("DROP TABLE weather"), @"
    view, query: a view's query only reads, and `DROP` does not [plan::not_a_select]
      help: write a SELECT over the declared sources
    ");
    assert_snapshot!(problems("INSERT INTO weather SELECT * FROM weather"), @"
    view, query: a view's query only reads, and `INSERT` does not [plan::not_a_select]
      help: write a SELECT over the declared sources
    ");
    assert_snapshot!(problems("COPY weather TO 'out.parquet'"), @"
    view, query: a view's query only reads, and `COPY` does not [plan::not_a_select]
      help: write a SELECT over the declared sources
    ");
    assert_snapshot!(problems("EXPLAIN SELECT * FROM weather"), @"
    view, query: a view's query only reads, and `EXPLAIN` does not [plan::not_a_select]
      help: write a SELECT over the declared sources
    ");
    assert_snapshot!(problems("WITH x AS (DELETE FROM weather) SELECT * FROM x"), @"
    view, query: a view's query only reads, and `DELETE` does not [plan::not_a_select]
      help: write a SELECT over the declared sources
    ");
    assert_snapshot!(problems("SELECT * INTO copy FROM weather"), @"
    view, query: a view's query only reads, and `SELECT` does not [plan::not_a_select]
      help: write a SELECT over the declared sources
    ");
    assert_snapshot!(problems("SET datafusion.execution.batch_size = 1"), @"
    view, query: a view's query only reads, and `SET` does not [plan::not_a_select]
      help: write a SELECT over the declared sources
    ");
}

#[test]
fn unknown_names_are_found_all_at_once_with_the_nearest() {
    assert_snapshot!(problems("SELECT origin, observd_at, tmp,\n  w.wndspeed\nFROM weather w WHERE precip > 0 AND nothing_like_it"), @"
    view, query line 1, column 16, length 10: the source `weather` has no column `observd_at` [plan::unknown_column]
      help: did you mean `observed_at`?
    view, query line 1, column 28, length 3: the source `weather` has no column `tmp` [plan::unknown_column]
      help: did you mean `temp`?
    view, query line 2, column 5, length 8: the source `weather` has no column `wndspeed` [plan::unknown_column]
      help: did you mean `wind_speed`?
    view, query line 3, column 37, length 15: the source `weather` has no column `nothing_like_it` [plan::unknown_column]
      help: there are `origin`, `observed_at`, `loaded_at`, `temp`, `wind_speed`, `precip`, `Gust`, `visib`
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp FROM wether JOIN plains USING (tailnum)"), @"
    view, query line 1, column 39, length 6: the query reads `wether`, which is not a declared source [plan::unknown_source]
      help: did you mean `weather`?
    view, query line 1, column 51, length 6: the query reads `plains`, which is not a declared source [plan::unknown_source]
      help: did you mean `planes`?
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp FROM 'data/weather.parquet'"), @"
    view, query: the query reads `'data/weather.parquet'`, which is not a declared source [plan::unknown_source]
      help: there are `flights`, `planes`, `weather`
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp FROM other.weather"), @"
    view, query line 1, column 39, length 5: the query reads `other.weather`, which is not a declared source [plan::unknown_source]
      help: there are `flights`, `planes`, `weather`
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, avgg(temp) AS t FROM weather"), @"
    view, query line 1, column 29, length 4: there is no function `avgg` [plan::unknown_function]
      help: did you mean `avg`?
    ");
    assert_snapshot!(problems(r#"SELECT origin, observed_at, temp FROM weather WHERE origin = "New York""#), @"
    view, query line 1, column 62, length 10: the column `New York` is not known here [plan::unknown_column]
      help: double quotes are for names; text is written in single quotes
    ");
    assert_snapshot!(problems("WITH w AS (SELECT origin, max(temp) FROM weather GROUP BY 1) SELECT \"max(temp)\" AS t FROM w"), @"
    view, query line 1, column 69, length 11: the column `max(temp)` is not known here [plan::unknown_column]
      help: double quotes are for names; text is written in single quotes
    ");
    assert_snapshot!(problems(r#"SELECT origin, observed_at, "Temp" FROM weather"#), @"
    view, query line 1, column 29, length 6: the source `weather` has no column `Temp` [plan::unknown_column]
      help: did you mean `temp`?
    ");
}

#[test]
fn a_known_name_in_the_wrong_place() {
    assert_snapshot!(problems("SELECT origin, observed_at, w.dep_delay AS d FROM weather w JOIN flights USING (origin)"), @"
    view, query line 1, column 31, length 9: `w` has no column `dep_delay` [plan::unknown_column]
      help: `flights` has it: write `flights.dep_delay`
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp FROM weather JOIN flights ON tailnum = temp"), @"
    view, query line 1, column 8, length 6: more than one table has the column `origin` [plan::ambiguous_column]
      help: write the table before it: `table.origin`
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp AS warm FROM weather WHERE warm > 1"), @"
    view, query line 1, column 61, length 4: the column `warm` is not known here [plan::unknown_column]
      help: there are `origin`, `observed_at`, `loaded_at`, `temp`, `wind_speed`, `precip`, `Gust`, `visib`
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, max(temp) AS t FROM weather GROUP BY origin"), @"
    view, query line 1, column 16, length 11: `observed_at` is neither grouped by nor aggregated [plan::not_grouped]
      help: add it to GROUP BY, or aggregate it: `max(observed_at) AS observed_at`
    ");
}

#[test]
fn wrong_types_inside_the_query() {
    assert_snapshot!(problems("SELECT origin, observed_at, sum(origin) AS s FROM weather GROUP BY 1, 2"), @"
    view, query line 1, column 29, length 3: `sum()` does not take these types: `sum(Utf8)` [plan::argument_types]
      help: cast the arguments to types that it takes
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp + origin AS s FROM weather"), @"view, query: the query cannot be planned: Cannot coerce arithmetic expression Float64 + Utf8 to valid types [plan::query]");
    assert_snapshot!(problems("SELECT origin, observed_at, temp FROM weather WHERE temp"), @"view, query: the query cannot be planned: Cannot create filter with non-boolean predicate 'weather.temp' returning Float64 [plan::query]");
}

#[test]
fn join_keys_must_come_out() {
    assert_snapshot!(problems("SELECT upper(origin) AS orign, observed_at, temp FROM weather"), @"
    view, query: the query gives no column `origin`, which is a join key of the view's entities [plan::missing_join_key]
      help: did you mean `orign`?
    ");
    assert_snapshot!(problems("SELECT visib AS origin, observed_at, temp FROM weather"), @"
    view, query line 1, column 8, length 15: the join key `origin` is int32 in the query and string in the entity [plan::join_key_type]
      help: cast it: `CAST(visib AS VARCHAR) AS origin`
    ");
    assert_snapshot!(problems("SELECT make_array(origin) AS origin, observed_at, temp FROM weather"), @"
    view, query line 1, column 8, length 28: the join key `origin` is list<string> in the query and string in the entity [plan::join_key_type]
      help: cast it: `CAST(make_array(origin) AS VARCHAR) AS origin`
    ");
}

#[test]
fn an_event_timestamp_must_come_out() {
    assert_snapshot!(problems("SELECT origin, temp FROM weather"), @"
    view, query: the query gives no event timestamp, the time at which each row was true [plan::no_event_timestamp]
      help: select `observed_at`, the event timestamp of `weather`; or name a column with `AS event_timestamp`; or name one in the view's field `event_timestamp`
    ");
    assert_snapshot!(problems("SELECT origin, date_trunc('day', observed_at) AS observed_at, temp FROM weather"), @"
    view, query: the query gives no event timestamp, the time at which each row was true [plan::no_event_timestamp]
      help: select `observed_at`, the event timestamp of `weather`; or name a column with `AS event_timestamp`; or name one in the view's field `event_timestamp`
    ");
    assert_snapshot!(problems("SELECT origin, visib AS event_timestamp, temp FROM weather"), @"
    view, query line 1, column 16, length 24: `event_timestamp` is the rows' time, and is int32, not timestamp [plan::time_type]
      help: convert it: `to_timestamp_seconds(visib) AS event_timestamp`, or with `to_timestamp_millis`, `to_timestamp_micros`, `to_timestamp_nanos`
    ");
    assert_snapshot!(problems("SELECT origin, 'x' AS event_timestamp, temp FROM weather"), @"
    view, query line 1, column 16, length 22: `event_timestamp` is the rows' time, and is string, not timestamp [plan::time_type]
      help: convert it: `CAST('x' AS TIMESTAMP) AS event_timestamp`
    ");
    let mut named = query("origin", "SELECT origin, observed_at, temp FROM weather");
    named.event_timestamp = Some("observed".parse().unwrap());
    named.created_timestamp = Some("temp".parse().unwrap());
    assert_snapshot!(problems_of(&named), @"
    view, query line 1, column 29, length 4: `temp` is the rows' time, and is float64, not timestamp [plan::time_type]
      help: convert it: `to_timestamp_seconds(temp) AS temp`, or with `to_timestamp_millis`, `to_timestamp_micros`, `to_timestamp_nanos`
    view, field `event_timestamp`: the query gives no column `observed`, which `event_timestamp` names [plan::unknown_column]
      help: did you mean `observed_at`?
    ");
}

#[test]
fn features_need_a_name_and_a_type() {
    assert_snapshot!(problems("SELECT origin, observed_at, temp * 2, avg(temp) OVER (PARTITION BY origin) FROM weather"), @"
    view, query line 1, column 29, length 8: the column `temp * 2` has no name that a feature can have [plan::unusable_name]
      help: give it one with AS: at most 63 letters, digits and `_`, not beginning with a digit
    view, query line 1, column 39, length 8: the column `avg(temp) OVER (PARTITION BY origin)` has no name that a feature can have [plan::unusable_name]
      help: give it one with AS: at most 63 letters, digits and `_`, not beginning with a digit
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp AS \"a b\", temp AS ü FROM weather"), @r#"
    view, query line 1, column 29, length 13: the column `temp AS "a b"` has no name that a feature can have [plan::unusable_name]
      help: give it one with AS: at most 63 letters, digits and `_`, not beginning with a digit
    view, query line 1, column 44, length 9: the column `temp AS ü` has no name that a feature can have [plan::unusable_name]
      help: give it one with AS: at most 63 letters, digits and `_`, not beginning with a digit
    "#);
    assert_snapshot!(problems("SELECT origin, observed_at, temp, wind_speed AS temp FROM weather"), @"
    view, query line 1, column 35, length 18: the query gives two columns `temp` [plan::duplicate_column]
      help: leave one of them out, or give it another name with AS
    ");
    assert_snapshot!(problems("SELECT * FROM weather JOIN flights ON weather.origin = flights.origin"), @"
    view, query: the query gives two columns `origin` [plan::duplicate_column]
      help: leave one of them out, or give it another name with AS
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, struct(temp, visib) AS s, NULL AS n, INTERVAL '1 day' AS i FROM weather"), @r#"
    view, query line 1, column 52, length 1: `s` has the type Struct("c0": Float64, "c1": Int32), which no feature can have [plan::unusable_type]
      help: the types are bool, int32, int64, float32, float64, string, bytes, timestamp, and lists of these; select the parts that you need
    view, query line 1, column 55, length 9: `n` has the type Null, which no feature can have [plan::unusable_type]
      help: say which: `CAST(NULL AS DOUBLE) AS n`
    view, query line 1, column 75, length 12: `i` has the type Interval(MonthDayNano), which no feature can have [plan::unusable_type]
      help: the types are bool, int32, int64, float32, float64, string, bytes, timestamp, and lists of these; select the parts that you need
    "#);
    assert_snapshot!(problems("SELECT origin, observed_at FROM weather"), @"
    view, query: the query gives join keys and times only, and no feature [plan::no_features]
      help: select a column more
    ");
    let mut named = query(
        "origin",
        "SELECT origin, observed_at, observed_at AS event_timestamp, temp FROM weather",
    );
    named.event_timestamp = Some("observed_at".parse().unwrap());
    assert_snapshot!(problems_of(&named), @"
    view, query line 1, column 29, length 30: a feature cannot have the name `event_timestamp`, which every view's table has for its rows' time [plan::reserved_name]
      help: give it another name with AS
    ");
}

#[test]
fn a_run_must_be_repeatable() {
    assert_snapshot!(problems("SELECT origin, observed_at, random() AS r, now() - observed_at AS age, uuid() AS u,\n CURRENT_DATE AS d, current_timestamp AS c FROM weather"), @"
    view, query line 1, column 29, length 6: `random()` gives another answer each time, so no run could be repeated [plan::not_repeatable]
      help: make a value from the columns, such as `md5(key)`
    view, query line 1, column 44, length 3: `now()` gives another answer each time, so no run could be repeated [plan::not_repeatable]
      help: leave the present out: a feature's age is what its event timestamp and ttl are for
    view, query line 1, column 72, length 4: `uuid()` gives another answer each time, so no run could be repeated [plan::not_repeatable]
      help: make a value from the columns, such as `md5(key)`
    view, query line 2, column 2, length 12: `current_date()` gives another answer each time, so no run could be repeated [plan::not_repeatable]
      help: leave the present out: a feature's age is what its event timestamp and ttl are for
    view, query line 2, column 21, length 17: `current_timestamp()` gives another answer each time, so no run could be repeated [plan::not_repeatable]
      help: leave the present out: a feature's age is what its event timestamp and ttl are for
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp FROM weather LIMIT 10"), @"
    view, query line 1, column 53, length 2: LIMIT without ORDER BY keeps other rows each time [plan::unordered]
      help: add an ORDER BY that leaves no ties
    ");
    assert_snapshot!(problems("SELECT origin, max(observed_at) AS event_timestamp, array_agg(temp) AS all, last_value(temp) AS last FROM weather GROUP BY 1"), @"
    view, query line 1, column 53, length 9: `array_agg()` depends on the order of the rows, which is not given [plan::unordered]
      help: add an ORDER BY that leaves no ties
    view, query line 1, column 77, length 10: `last_value()` depends on the order of the rows, which is not given [plan::unordered]
      help: add an ORDER BY that leaves no ties
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, row_number() OVER (PARTITION BY origin) AS n FROM weather"), @"
    view, query line 1, column 29, length 10: `row_number()` depends on the order of the rows, which is not given [plan::unordered]
      help: add an ORDER BY that leaves no ties
    ");
    assert_snapshot!(problems("SELECT DISTINCT ON (origin) origin, observed_at, temp FROM weather"), @"
    view, query line 1, column 21, length 6: DISTINCT ON keeps other rows each time [plan::unordered]
      help: group by those columns and aggregate the others
    ");
}

#[test]
fn what_the_engine_cannot_do_is_said() {
    assert_snapshot!(problems("SELECT 1 AS origin"), @"
    view, query: the query reads no source [plan::no_source]
      help: there are `flights`, `planes`, `weather`
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp FROM weather, generate_series(1, 2)"), @"
    view, query line 1, column 48, length 15: the query reads `generate_series`, which is not a declared source [plan::unknown_source]
      help: there are `flights`, `planes`, `weather`
    ");
    assert_snapshot!(problems("WITH RECURSIVE r AS (SELECT origin, observed_at FROM weather UNION ALL SELECT * FROM r) SELECT *, 1 AS x FROM r"), @"
    view, query: a view's query cannot be recursive [plan::recursive]
      help: leave RECURSIVE out, and make such a table before, as a source
    ");
    assert_snapshot!(problems("SELECT origin, observed_at, temp FROM weather WHERE temp > $1"), @"
    view, query line 1, column 60, length 2: nothing gives the parameter `$1` a value [plan::placeholder]
      help: write the value itself
    ");
}

#[test]
fn a_contract_is_kept() {
    let feature = |name: &str, scalar, default| FeatureField {
        name: name.parse().unwrap(),
        feature_type: F::Scalar(scalar),
        default,
        description: String::new(),
    };
    let mut definition = query(
        "origin",
        "SELECT origin, observed_at, temp, visib FROM weather",
    );
    definition.contract = vec![
        feature("temp", S::Float32, None),
        feature("visib", S::Int32, Some(Value::Int64(1))),
        feature("windspeed", S::Float64, None),
        feature("origin", S::String, None),
    ];
    assert_snapshot!(problems_of(&definition), @"
    view, feature `origin`: `origin` is a join key, not a feature [plan::missing_feature]
      help: leave it out here
    view, feature `temp`: `temp` is declared as float32 and is float64 in the query [plan::feature_type]
      help: declare float64, or cast it in the query: `CAST(temp AS FLOAT) AS temp`
    view, feature `visib`: the default of `visib` is int64, and the feature is int32 [plan::default_type]
    view, feature `windspeed`: the query gives no column `windspeed` [plan::missing_feature]
      help: there are `temp`, `visib`
    ");
}

#[test]
fn a_static_view_has_no_time() {
    let mut definition = query(
        "tailnum",
        "SELECT tailnum, year, CAST('2013-01-01' AS TIMESTAMP) AS event_timestamp FROM planes",
    );
    definition.ttl = Some("6h".parse().unwrap());
    definition.event_timestamp = Some("year".parse().unwrap());
    definition.lookback = Some("1d".parse().unwrap());
    assert_snapshot!(problems_of(&definition), @"
    view, query line 1, column 28, length 45: a feature cannot have the name `event_timestamp`, which every view's table has for its rows' time [plan::reserved_name]
      help: give it another name with AS
    view, field `event_timestamp`: a view over static sources has no `event_timestamp`: its rows have always been true [plan::static_view]
      help: leave it out, or give the source an `event_timestamp` in place of `static`
    view, field `lookback`: `lookback` has no meaning here, since it reads only static sources, whose rows have no time [plan::lookback]
      help: leave it out
    view, field `ttl`: a view over static sources has no `ttl`: its rows have always been true [plan::static_view]
      help: leave it out
    ");
}

#[test]
fn a_view_of_a_source_names_its_field() {
    let of =
        |name: &str, key: &str| problems_of(&view(key, ViewInput::Source(name.parse().unwrap())));
    assert_snapshot!(of("wether", "origin"), @"
    view, field `source`: the view reads `wether`, which is not a declared source [plan::unknown_source]
      help: did you mean `weather`?
    ");
    assert_snapshot!(of("weather", "tailnum"), @"
    view, field `source`: the query gives no column `tailnum`, which is a join key of the view's entities [plan::missing_join_key]
      help: there are `origin`, `observed_at`, `loaded_at`, `temp`, `wind_speed`, `precip`, `Gust`, `visib`
    ");
}

#[test]
fn columns_that_are_left_out_say_why() {
    let mut catalog = catalog();
    let weather = catalog.get_mut("weather").unwrap();
    weather.left_out.push(LeftOut {
        column: "station".to_owned(),
        reason: crate::sources::LeftOutReason::Type("Struct(id Int64)".to_owned()),
    });
    let unusable = plan_view(
        &query("origin", "SELECT origin, observed_at, station FROM weather"),
        &catalog,
    );
    assert_snapshot!(listed(&unusable.unwrap_err()), @"view, query line 1, column 29, length 7: the column `station` of the source `weather` has the type Struct(id Int64), which no feature can have [plan::unusable_column]");
    catalog.get_mut("weather").unwrap().is_read = false;
    let unread = plan_view(
        &query(
            "origin",
            "SELECT origin, observed_at, whatever FROM weather",
        ),
        &catalog,
    );
    assert_snapshot!(listed(&unread.unwrap_err()), @"view, query: the view is not checked, since its source `weather` could not be read [plan::source_not_read]");
}

#[test]
fn a_source_has_the_times_that_it_declares() {
    let check = |event: &str, created: Option<&str>| {
        let known = source(
            "weather",
            Some(event),
            created,
            &[("seen", S::Timestamp), ("temp", S::Float64)],
        );
        let all: Vec<String> = check_source(&known)
            .into_iter()
            .map(|p| {
                format!(
                    "{}, {}: {} [{}] {}",
                    p.source,
                    p.field,
                    p.message,
                    p.code,
                    p.help.unwrap_or_default()
                )
            })
            .collect();
        all.join("\n")
    };
    assert_eq!(check("seen", Some("seen")), "");
    // A query may convert it.
    assert_eq!(check("temp", None), "");
    assert_snapshot!(check("sen", None), @"weather, event_timestamp: the source has no column `sen` [source::unknown_column] did you mean `seen`?");
    assert_snapshot!(check("seen", Some("temp")), @"weather, created_timestamp: the column `temp` is float64, not timestamp [source::time_type] write times as timestamps; or leave the field out, and convert the column in the view's query `AS created_timestamp`");
}
