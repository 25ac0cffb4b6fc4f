use insta::assert_snapshot;

use super::*;

fn facts(key: &str, sql: &str) -> String {
    shown(&planned(&query(key, sql)))
}

fn refresh(sql: &str) -> String {
    let mut view = query("origin", sql);
    // Only the decision matters here.
    view.event_timestamp = None;
    let mut input = Input::read(&view.input, &catalog()).unwrap_or_else(|f| panic!("{f:?}"));
    let (refresh, reason) = refresh::decide(&input.plan, &catalog());
    input.query = None;
    let kind = match refresh {
        Refresh::RowLocal { source } => format!("row-local({source})"),
        Refresh::Static { source } => format!("static({source})"),
        Refresh::Windowed => "windowed".to_owned(),
    };
    format!("{kind}: {reason}")
}

#[test]
fn a_projection_follows_its_source() {
    assert_snapshot!(facts("origin", "
        SELECT origin, observed_at, temp, precip > 0 AS raining FROM weather
        WHERE visib > 3 AND temp IS NOT NULL ORDER BY temp"), @r#"
    RowLocal { source: "weather" }: every row comes from one row of `weather`
    event observed_at, created loaded_at
    temp float64 = weather.temp, from [weather.temp]
    raining bool = weather.precip > 0, from [weather.precip]
    origin = weather.origin, event_timestamp = weather.observed_at, created_timestamp = weather.loaded_at of filter(weather, weather.temp IS NOT NULL AND weather.visib > 3)
    "#);
}

#[test]
fn all_columns_of_a_source_are_a_view() {
    let source = ViewInput::Source("weather".parse().unwrap());
    let whole = shown(&planned(&view("origin", source)));
    assert_snapshot!(whole, @r#"
    RowLocal { source: "weather" }: every row comes from one row of `weather`
    event observed_at, created loaded_at
    temp float64 = weather.temp, from [weather.temp]
    wind_speed float64 = weather.wind_speed, from [weather.wind_speed]
    precip float64 = weather.precip, from [weather.precip]
    Gust float32 = weather.Gust, from [weather.Gust]
    visib int32 = weather.visib, from [weather.visib]
    origin = weather.origin, event_timestamp = weather.observed_at, created_timestamp = weather.loaded_at of weather
    "#);
    assert_eq!(whole, facts("origin", "SELECT * FROM weather"));
}

#[test]
fn an_aggregate_is_windowed() {
    assert_snapshot!(facts("carrier", "
        SELECT carrier, date_trunc('day', time_hour) + INTERVAL '1 day' AS event_timestamp,
               avg(dep_delay) AS mean_delay, count(*) AS flights
        FROM flights GROUP BY 1, 2"), @"
    Windowed: the query aggregates with avg(), count()
    event event_timestamp, created none
    mean_delay float64 = avg(flights.dep_delay), from [flights.dep_delay]
    flights int64 = count(1), from []
    carrier = flights.carrier, event_timestamp = date_trunc('day', flights.time_hour) + INTERVAL '1 DAYS' of group(flights, by flights.carrier, date_trunc('day', flights.time_hour) + INTERVAL '1 DAYS')
    ");
}

#[test]
fn a_static_source_has_no_time() {
    assert_snapshot!(facts("tailnum", "SELECT tailnum, year, seats FROM planes"), @r#"
    Static { source: "planes" }: it reads only static sources, whose rows have no time
    event none, created none
    year int32 = planes.year, from [planes.year]
    seats int32 = planes.seats, from [planes.seats]
    tailnum = planes.tailnum of planes
    "#);
}

#[test]
fn a_join_to_a_static_source_follows_the_other() {
    assert_snapshot!(facts("tailnum", "
        SELECT f.tailnum, f.time_hour, p.year, CASE WHEN p.seats > 100 THEN 1 ELSE dep_delay END AS delay
        FROM flights f LEFT JOIN planes p ON f.tailnum = p.tailnum AND p.year > 1990"), @r#"
    RowLocal { source: "flights" }: every row comes from one row of `flights`
    event time_hour, created none
    year int32 = planes.year, from [planes.year]
    delay int64 = CASE WHEN (planes.seats > 100) THEN 1 ELSE flights.dep_delay END, from [flights.dep_delay, planes.seats]
    tailnum = flights.tailnum, event_timestamp = flights.time_hour of left join(flights, planes, flights.tailnum = planes.tailnum AND planes.year > 1990)
    "#);
}

#[test]
fn lineage_goes_through_steps_and_both_sides_of_a_self_join() {
    assert_snapshot!(facts("tailnum", "
        WITH d AS (SELECT tailnum, time_hour, dep_delay * 2 AS twice, origin FROM flights)
        SELECT a.tailnum, a.time_hour, a.twice + b.twice AS both, b.origin
        FROM d a JOIN d b ON a.tailnum = b.tailnum"), @"
    Windowed: the query joins `flights` with itself
    event time_hour, created none
    both int64 = flights.dep_delay * 2 + flights#2.dep_delay * 2, from [flights.dep_delay]
    origin string = flights#2.origin, from [flights.origin]
    tailnum = flights.tailnum, event_timestamp = flights.time_hour of inner join(flights, flights#2, flights.tailnum = flights#2.tailnum)
    ");
}

#[test]
fn lineage_leaves_windows_and_filters_aside() {
    assert_snapshot!(facts("origin", "
        SELECT origin, observed_at, lag(temp) OVER (PARTITION BY origin ORDER BY observed_at) AS before,
               row_number() OVER (PARTITION BY origin ORDER BY visib) AS place,
               (SELECT max(seats) FROM planes WHERE year > 2000) AS most
        FROM weather WHERE origin IN (SELECT origin FROM flights WHERE dep_delay > weather.temp)"), @"
    Windowed: the query reads `flights` in a subquery
    event observed_at, created none
    before float64 = lag(weather.temp) OVER (PARTITION BY weather.origin ORDER BY weather.observed_at ASC NULLS LAST RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), from [weather.temp]
    place int64 = row_number() OVER (PARTITION BY weather.origin ORDER BY weather.visib ASC NULLS LAST RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), from [weather.visib]
    most int32 = (max(^planes.seats) of group(filter(^planes, ^planes.year > 2000))), from [planes.seats]
    origin = weather.origin, event_timestamp = weather.observed_at of filter(weather, weather.origin IN (^flights.origin of filter(^flights, ^flights.dep_delay > weather.temp)))
    ");
}

#[test]
fn lineage_of_a_union_is_that_of_all_branches() {
    assert_snapshot!(facts("origin", "
        SELECT origin, observed_at, temp AS value FROM weather
        UNION ALL SELECT origin, observed_at, wind_speed FROM weather"), @"
    Windowed: the query uses UNION
    event observed_at, created none
    value float64 = one of (weather.temp, weather#2.wind_speed), from [weather.temp, weather.wind_speed]
    origin = one of (weather.origin, weather#2.origin), event_timestamp = one of (weather.observed_at, weather#2.observed_at) of union(weather, weather#2)
    ");
}

#[test]
fn unquoted_names_find_their_column_and_aliases_keep_their_case() {
    assert_snapshot!(facts("origin", r#"
        select ORIGIN, Observed_At, GUST, w.Temp AS MeanTemp, "Gust" + 1 AS more from Weather w"#), @r#"
    RowLocal { source: "weather" }: every row comes from one row of `weather`
    event observed_at, created loaded_at
    Gust float32 = weather.Gust, from [weather.Gust]
    MeanTemp float64 = weather.temp, from [weather.temp]
    more float32 = weather.Gust + 1, from [weather.Gust]
    origin = weather.origin, event_timestamp = weather.observed_at, created_timestamp = weather.loaded_at of weather
    "#);
}

#[test]
fn what_a_run_reads_is_decided_by_the_query() {
    let cases = [
        "SELECT * FROM weather",
        "SELECT origin FROM (SELECT * FROM weather w) WHERE temp > 1 ORDER BY temp",
        "SELECT f.origin FROM flights f JOIN planes p ON f.tailnum = p.tailnum",
        "SELECT f.origin FROM planes p RIGHT JOIN flights f ON f.tailnum = p.tailnum",
        "SELECT f.origin FROM planes p LEFT JOIN flights f ON f.tailnum = p.tailnum",
        "SELECT f.origin FROM flights f FULL JOIN planes p ON f.tailnum = p.tailnum",
        "SELECT f.origin FROM flights f JOIN weather w ON f.origin = w.origin",
        "SELECT a.origin FROM weather a JOIN weather b ON a.origin = b.origin",
        "SELECT origin FROM flights WHERE tailnum IN (SELECT tailnum FROM planes)",
        "SELECT origin FROM flights WHERE origin IN (SELECT origin FROM weather)",
        "SELECT origin, (SELECT max(seats) FROM planes) AS seats FROM flights",
        "SELECT origin, (SELECT max(temp) FROM weather) AS temp FROM flights",
        "SELECT f.origin FROM flights f JOIN (SELECT tailnum, max(year) AS y FROM planes GROUP BY 1) p USING (tailnum)",
        "SELECT max(year) AS y FROM planes",
        "SELECT a.tailnum FROM planes a JOIN planes b ON a.year = b.year",
        "SELECT origin, sum(temp) AS t FROM weather GROUP BY origin",
        "SELECT origin FROM weather GROUP BY origin",
        "SELECT origin, max(temp) FILTER (WHERE visib > 1) AS t, min(temp) AS u FROM weather GROUP BY origin HAVING count(*) > 1",
        "SELECT origin, avg(temp) OVER (PARTITION BY origin) AS t FROM weather",
        "SELECT DISTINCT origin FROM weather",
        "SELECT origin FROM weather ORDER BY temp LIMIT 3",
        "SELECT origin FROM weather UNION ALL SELECT origin FROM flights",
        "SELECT origin FROM weather UNION SELECT origin FROM weather",
        "SELECT origin FROM weather INTERSECT SELECT origin FROM flights",
        "SELECT origin, unnest(make_array(temp, wind_speed)) AS v FROM weather",
        "SELECT origin, k FROM weather JOIN (VALUES (1, 'a'), (2, 'b')) AS t(n, k) ON visib = n",
    ];
    let decided: Vec<String> = cases
        .iter()
        .map(|sql| format!("{sql}\n    {}", refresh(sql)))
        .collect();
    assert_snapshot!(decided.join("\n"), @"
    SELECT * FROM weather
        row-local(weather): every row comes from one row of `weather`
    SELECT origin FROM (SELECT * FROM weather w) WHERE temp > 1 ORDER BY temp
        row-local(weather): every row comes from one row of `weather`
    SELECT f.origin FROM flights f JOIN planes p ON f.tailnum = p.tailnum
        row-local(flights): every row comes from one row of `flights`
    SELECT f.origin FROM planes p RIGHT JOIN flights f ON f.tailnum = p.tailnum
        row-local(flights): every row comes from one row of `flights`
    SELECT f.origin FROM planes p LEFT JOIN flights f ON f.tailnum = p.tailnum
        windowed: the query keeps rows of a static source for which `flights` has none
    SELECT f.origin FROM flights f FULL JOIN planes p ON f.tailnum = p.tailnum
        windowed: the query keeps rows of a static source for which `flights` has none
    SELECT f.origin FROM flights f JOIN weather w ON f.origin = w.origin
        windowed: the query joins `flights` and `weather`, which both have time
    SELECT a.origin FROM weather a JOIN weather b ON a.origin = b.origin
        windowed: the query joins `weather` with itself
    SELECT origin FROM flights WHERE tailnum IN (SELECT tailnum FROM planes)
        row-local(flights): every row comes from one row of `flights`
    SELECT origin FROM flights WHERE origin IN (SELECT origin FROM weather)
        windowed: the query reads `weather` in a subquery
    SELECT origin, (SELECT max(seats) FROM planes) AS seats FROM flights
        row-local(flights): every row comes from one row of `flights`
    SELECT origin, (SELECT max(temp) FROM weather) AS temp FROM flights
        windowed: the query reads `weather` in a subquery
    SELECT f.origin FROM flights f JOIN (SELECT tailnum, max(year) AS y FROM planes GROUP BY 1) p USING (tailnum)
        row-local(flights): every row comes from one row of `flights`
    SELECT max(year) AS y FROM planes
        static(planes): it reads only static sources, whose rows have no time
    SELECT a.tailnum FROM planes a JOIN planes b ON a.year = b.year
        static(planes): it reads only static sources, whose rows have no time
    SELECT origin, sum(temp) AS t FROM weather GROUP BY origin
        windowed: the query aggregates with sum()
    SELECT origin FROM weather GROUP BY origin
        windowed: the query groups rows
    SELECT origin, max(temp) FILTER (WHERE visib > 1) AS t, min(temp) AS u FROM weather GROUP BY origin HAVING count(*) > 1
        windowed: the query aggregates with count(), max(), min()
    SELECT origin, avg(temp) OVER (PARTITION BY origin) AS t FROM weather
        windowed: the query uses avg() over a window of rows
    SELECT DISTINCT origin FROM weather
        windowed: the query uses DISTINCT
    SELECT origin FROM weather ORDER BY temp LIMIT 3
        windowed: the query uses LIMIT
    SELECT origin FROM weather UNION ALL SELECT origin FROM flights
        windowed: the query uses UNION
    SELECT origin FROM weather UNION SELECT origin FROM weather
        windowed: the query uses UNION
    SELECT origin FROM weather INTERSECT SELECT origin FROM flights
        windowed: the query uses DISTINCT
    SELECT origin, unnest(make_array(temp, wind_speed)) AS v FROM weather
        row-local(weather): every row comes from one row of `weather`
    SELECT origin, k FROM weather JOIN (VALUES (1, 'a'), (2, 'b')) AS t(n, k) ON visib = n
        row-local(weather): every row comes from one row of `weather`
    ");
}

#[test]
fn names_that_the_engine_gives_are_known() {
    let features = |sql: &str| planned(&query("origin", sql)).features.len();
    for sql in [
        "WITH w AS (SELECT origin, observed_at, max(temp) FROM weather GROUP BY 1, 2) \
         SELECT origin, observed_at, \"max(weather.temp)\" AS t FROM w",
        "SELECT origin, observed_at, column2 AS t FROM weather JOIN (VALUES (1, 2)) AS v ON visib = column1",
        "SELECT origin, observed_at, t.n FROM weather CROSS JOIN (SELECT max(seats) AS n FROM planes) AS t",
        "SELECT w.* EXCLUDE (loaded_at, TEMP, wind_speed, precip, gust) FROM weather w",
        "SELECT origin, observed_at, extract(hour FROM observed_at) AS hour FROM weather",
    ] {
        assert_eq!(features(sql), 1, "{sql}");
    }
}

#[test]
fn times_are_found_by_name_then_by_source_then_by_the_view() {
    let times = |sql: &str, event: Option<&str>, created: Option<&str>| {
        let mut view = query("origin", sql);
        view.event_timestamp = event.map(|c| c.parse().unwrap());
        view.created_timestamp = created.map(|c| c.parse().unwrap());
        let planned = planned(&view);
        let name =
            |c: &Option<ColumnName>| c.as_ref().map_or("none".to_owned(), ToString::to_string);
        let features: Vec<&str> = planned.features.iter().map(|f| f.name.as_str()).collect();
        format!(
            "{}, {}: {}",
            name(&planned.event_timestamp),
            name(&planned.created_timestamp),
            features.join(" ")
        )
    };
    for (sql, event, created, want) in [
        // The source's own columns, under their own names.
        (
            "SELECT origin, observed_at, temp FROM weather",
            None,
            None,
            "observed_at, loaded_at: temp",
        ),
        (
            "SELECT origin, observed_at, loaded_at, temp FROM weather",
            None,
            None,
            "observed_at, loaded_at: temp",
        ),
        // A column of the agreed name wins, and the source's is then a feature.
        (
            "SELECT origin, observed_at AS event_timestamp, observed_at, temp FROM weather",
            None,
            None,
            "event_timestamp, loaded_at: observed_at temp",
        ),
        (
            "SELECT origin, observed_at, observed_at AS created_timestamp, temp FROM weather",
            None,
            None,
            "observed_at, created_timestamp: temp",
        ),
        // What the view names wins over both.
        (
            "SELECT origin, observed_at, loaded_at, temp FROM weather",
            Some("loaded_at"),
            None,
            "loaded_at, loaded_at: observed_at temp",
        ),
        (
            "SELECT origin, observed_at, loaded_at AS seen, temp FROM weather",
            None,
            Some("seen"),
            "observed_at, seen: temp",
        ),
        // Another column under the source's name is not the source's: it is a feature, and the source's is carried.
        (
            "SELECT origin, observed_at, temp AS loaded_at FROM weather",
            None,
            None,
            "observed_at, loaded_at: loaded_at",
        ),
        // Nothing is carried through an aggregate.
        (
            "SELECT origin, observed_at, max(temp) AS temp FROM weather GROUP BY 1, 2",
            None,
            None,
            "observed_at, none: temp",
        ),
        (
            "SELECT origin, observed_at, loaded_at, max(temp) AS temp FROM weather GROUP BY 1, 2, 3",
            None,
            None,
            "observed_at, loaded_at: temp",
        ),
    ] {
        assert_eq!(times(sql, event, created), want, "{sql}");
    }
}

#[test]
fn types_are_those_that_running_the_query_gives() {
    let types = |expr: &str| {
        let sql = format!("SELECT origin, observed_at, {expr} AS x FROM weather");
        planned(&query("origin", &sql)).features[0]
            .feature_type
            .to_string()
    };
    for (expr, want) in [
        ("temp", "float64"),
        ("visib", "int32"),
        ("visib + 1", "int64"),
        ("visib / 2.0", "float64"),
        ("CASE WHEN temp > 1 THEN 1 ELSE 2.5 END", "float64"),
        ("\"Gust\" * 2", "float32"),
        ("origin || 'x'", "string"),
        ("upper(origin)", "string"),
        ("CAST(temp AS DECIMAL(10, 2))", "float64"),
        ("CAST(observed_at AS DATE)", "timestamp"),
        ("date_trunc('hour', observed_at)", "timestamp"),
        ("make_array(temp, wind_speed)", "list<float64>"),
        ("arrow_cast(visib, 'Dictionary(Int32, Utf8)')", "string"),
        ("arrow_cast(visib, 'UInt64')", "int64"),
        ("temp IS NULL", "bool"),
        ("CAST(NULL AS DOUBLE)", "float64"),
        ("CAST(visib AS VARCHAR)", "string"),
        ("TIMESTAMP '2013-01-01T00:00:00'", "timestamp"),
        ("sha256(origin)", "bytes"),
    ] {
        assert_eq!(types(expr), want, "{expr}");
    }
}

#[test]
fn the_contract_gives_descriptions_and_defaults() {
    let mut definition = query(
        "origin",
        "SELECT origin, observed_at, temp, visib FROM weather",
    );
    definition.contract = vec![FeatureField {
        name: "temp".parse().unwrap(),
        feature_type: F::Scalar(S::Float64),
        default: Some(vintner_core::Value::Float64(20.0)),
        description: "air temperature".to_owned(),
    }];
    let features = planned(&definition).features;
    assert_eq!(features[0], definition.contract[0]);
    assert_eq!(features[1].default, None);
}
