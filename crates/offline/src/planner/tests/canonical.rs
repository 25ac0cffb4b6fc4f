use super::*;

const DAILY: &str = "SELECT carrier, date_trunc('day', time_hour) AS event_timestamp, avg(dep_delay) AS mean \
                     FROM flights WHERE dep_delay > 0 AND origin = 'JFK' GROUP BY 1, 2";

fn forms(sql: &str) -> (BTreeMap<FeatureName, String>, String) {
    let planned = planned(&query("carrier", sql));
    (planned.definitions, planned.relation)
}

#[test]
fn the_way_it_is_written_does_not_matter() {
    for same in [
        // Keywords, white space, comments.
        "select carrier, DATE_TRUNC('day', time_hour) as event_timestamp, AVG(dep_delay) mean from flights \
         where dep_delay > 0 and origin = 'JFK' group by 1, 2 -- daily",
        // Another alias, columns qualified.
        "SELECT f.carrier, date_trunc('day', f.time_hour) AS event_timestamp, avg(f.dep_delay) AS mean \
         FROM flights AS f WHERE f.dep_delay > 0 AND f.origin = 'JFK' GROUP BY 1, 2",
        // Conditions the other way round, keys by expression.
        "SELECT carrier, date_trunc('day', time_hour) AS event_timestamp, avg(dep_delay) AS mean FROM flights \
         WHERE origin = 'JFK' AND dep_delay > 0 GROUP BY carrier, date_trunc('day', time_hour)",
        // Steps in between.
        "WITH f AS (SELECT carrier, date_trunc('day', time_hour) AS day, dep_delay AS d, origin FROM flights), \
         g AS (SELECT * FROM f WHERE d > 0) \
         SELECT carrier, day AS event_timestamp, avg(d) AS mean FROM g WHERE origin = 'JFK' GROUP BY carrier, day",
        // An order of the output.
        "SELECT carrier, date_trunc('day', time_hour) AS event_timestamp, avg(dep_delay) AS mean FROM flights \
         WHERE dep_delay > 0 AND origin = 'JFK' GROUP BY 1, 2 ORDER BY mean",
    ] {
        assert_eq!(forms(same), forms(DAILY), "{same}");
    }
}

#[test]
fn another_feature_changes_nothing_else() {
    for (before, after) in [
        (DAILY.to_owned(), DAILY.replace("AS mean", "AS mean, max(dep_delay) AS longest, count(*) AS n")),
        (DAILY.to_owned(), DAILY.replace("avg(dep_delay)", "sum(dep_delay) AS total, avg(dep_delay)")),
        (
            "SELECT carrier, time_hour, dep_delay FROM flights".to_owned(),
            "SELECT carrier, time_hour, origin AS o, dep_delay, row_number() OVER (ORDER BY time_hour) AS n FROM flights"
                .to_owned(),
        ),
    ] {
        let ((old, old_relation), (new, new_relation)) = (forms(&before), forms(&after));
        assert_eq!(old_relation, new_relation, "{after}");
        assert!(new.len() > old.len());
        for (feature, definition) in old {
            assert_eq!(new[&feature], definition, "{after}");
        }
    }
}

#[test]
fn another_meaning_changes_the_definition() {
    let mean = |sql: &str| forms(sql).0["mean"].clone();
    for other in [
        DAILY.replace("avg(dep_delay)", "avg(dep_delay + 1)"),
        DAILY.replace("avg(dep_delay)", "median(dep_delay)"),
        DAILY.replace("avg(dep_delay)", "avg(DISTINCT dep_delay)"),
        DAILY.replace(
            "avg(dep_delay)",
            "avg(dep_delay) FILTER (WHERE origin = 'LGA')",
        ),
    ] {
        assert_ne!(mean(&other), mean(DAILY), "{other}");
        assert_eq!(forms(&other).1, forms(DAILY).1, "{other}");
    }
}

#[test]
fn other_rows_change_the_relation() {
    for other in [
        DAILY.replace("dep_delay > 0", "dep_delay >= 0"),
        DAILY.replace(" AND origin = 'JFK'", ""),
        DAILY.replace("'day'", "'hour'"),
        DAILY.replace("GROUP BY 1, 2", "GROUP BY 1, 2, origin"),
        DAILY.replace("GROUP BY 1, 2", "GROUP BY 1, 2 HAVING count(*) > 3"),
        DAILY.replace("GROUP BY 1, 2", "GROUP BY 1, 2 ORDER BY mean LIMIT 5"),
        DAILY.replace("flights", "flights JOIN planes USING (tailnum)"),
    ] {
        let other = other.replace("SELECT carrier", "SELECT flights.carrier");
        assert_ne!(forms(&other).1, forms(DAILY).1, "{other}");
    }
    let distinct = |columns: &str| {
        forms(&format!(
            "SELECT DISTINCT carrier, time_hour, {columns} FROM flights"
        ))
        .1
    };
    assert_ne!(
        distinct("origin"),
        distinct("origin, dep_delay"),
        "another column makes other rows distinct"
    );
}

#[test]
fn the_two_sides_of_a_self_join_are_not_one() {
    let value = |side: &str| {
        let sql = format!(
            "WITH d AS (SELECT carrier, time_hour, dep_delay FROM flights) \
             SELECT a.carrier, a.time_hour, {side}.dep_delay AS x FROM d a JOIN d b ON a.time_hour > b.time_hour"
        );
        forms(&sql).0["x"].clone()
    };
    assert_ne!(value("a"), value("b"));
}
