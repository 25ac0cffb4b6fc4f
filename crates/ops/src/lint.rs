//! Whether a training set leaks or starves: exact counts of entity rows, and what they give cause to warn of.
//!
//! Start at [`findings`], which is pure: the same counts give the same findings. The counts are made while the rows are,
//! by [`vintner_offline::join`].
//!
//! * Holds always: a finding changes nothing. The rows are the same with lint and without it.
//! * Not here: how counts are made, how findings are printed.

use serde::{Deserialize, Serialize};

/// From how many percent of all entity rows on it is a finding that they are before a view's first row.
const BEFORE_FIRST_PERCENT: u64 = 1;
/// From how many percent of all entity rows on it is a finding that they find no row, or a null.
const NULLS_PERCENT: u64 = 50;
/// From how many percent of the entity rows that would find a row without the ttl on it is a finding that they find none.
const EXPIRED_PERCENT: u64 = 50;
/// From how many percent of the entity rows that find a row on it is a finding that it is of their own time.
const OWN_TIME_PERCENT: u64 = 25;
// Of values that arrived after their entity row's time, a single one is a finding: it is a leak.

/// What a lint of a training set has counted, and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lint {
    /// What was found, in the order of the views; empty when there is nothing to warn of.
    pub findings: Vec<Finding>,
    /// The counts, in the order in which the views are joined.
    pub views: Vec<ViewLint>,
}

/// What was counted of one view. All counts are of entity rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewLint {
    /// The view version, written `view@2`.
    pub view: String,
    /// The view's ttl, as people write it.
    pub ttl: Option<String>,
    /// The column that says when the view's rows became known; without one it is the time of the run that wrote them.
    pub created_timestamp: Option<String>,
    /// The first event time in the view's table, in RFC 3339; none when it has no rows.
    pub first_event: Option<String>,
    /// Those that have a time and all of the view's join keys.
    pub rows_with_key: u64,
    /// Of these, those at whose time no row of the view had come, of whatever key.
    pub rows_before_first: u64,
    /// Those that found a row.
    pub rows_matched: u64,
    /// Those that found none, and would have found one without the ttl.
    pub rows_expired: u64,
    /// Those that found a row which became known after their time.
    pub rows_late: u64,
    /// Those that found a row of exactly their own time.
    pub rows_own_time: u64,
    /// The view's columns in the result, in the order asked.
    pub features: Vec<FeatureLint>,
}

/// What was counted of one column of the result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureLint {
    /// The feature.
    pub feature: String,
    /// The column of the result.
    pub column: String,
    /// Entity rows for which it is null or missing, before a default takes its place.
    pub rows_null: u64,
    /// Whether a default hides that.
    pub has_default: bool,
}

/// Something to warn of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable name, like `lint::late_values`.
    pub code: String,
    /// The view version.
    pub view: String,
    /// The feature, where it is about one.
    pub feature: Option<String>,
    /// What was found, with counts and shares.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// What the counts of a training set of so many rows give cause to warn of.
pub fn findings(rows: u64, views: &[ViewLint]) -> Vec<Finding> {
    views.iter().flat_map(|view| of_view(rows, view)).collect()
}

fn of_view(rows: u64, view: &ViewLint) -> Vec<Finding> {
    let mut found = Vec::new();
    if rows == 0 {
        return found;
    }
    let name = &view.view;
    let mut tell = |code: &str, message: String, help: String| {
        found.push(Finding {
            code: format!("lint::{code}"),
            view: name.clone(),
            feature: None,
            message,
            help,
        });
    };
    let Some(first) = &view.first_event else {
        let bare = name.split('@').next().unwrap_or(name);
        tell(
            "no_rows",
            format!("{name} has no rows, so all of its features are null"),
            format!("run `vintner materialize {bare}`"),
        );
        return found;
    };

    let before = view.rows_before_first;
    if before > 0 && reaches(before, rows, BEFORE_FIRST_PERCENT) {
        tell(
            "before_first_row",
            format!(
                "{} are before the first row of {name}, which is of {first}",
                share(before, rows, "entity rows")
            ),
            "leave these entity rows out, or give the view's sources an earlier history".to_owned(),
        );
    }

    let with_expired = view.rows_matched + view.rows_expired;
    if let Some(ttl) = &view.ttl
        && view.rows_expired > 0
        && reaches(view.rows_expired, with_expired, EXPIRED_PERCENT)
    {
        tell(
            "ttl",
            format!(
                "{} find none, since it is older than the ttl of {ttl}",
                share(
                    view.rows_expired,
                    with_expired,
                    &format!("entity rows that have a row of {name} before them")
                )
            ),
            "give the view a longer ttl, if an older value still says something".to_owned(),
        );
    }

    let missing = rows.saturating_sub(view.rows_matched);
    let starves = reaches(missing, rows, NULLS_PERCENT);
    if starves {
        tell(
            "no_value",
            format!(
                "{} find no row of {name}",
                share(missing, rows, "entity rows")
            ),
            format!(
                "compare their keys and times with the view's: {} lack a key or a time, {} are before its first row, \
                 {} are too late for its ttl",
                rows.saturating_sub(view.rows_with_key),
                before,
                view.rows_expired
            ),
        );
    }

    let of_matched = format!("entity rows that find a row of {name}");
    if view.rows_late > 0 {
        let late = share(view.rows_late, view.rows_matched, &of_matched);
        match &view.created_timestamp {
            Some(column) => tell(
                "late_values",
                format!("{late} find one that arrived after their time, by `{column}`"),
                "ask for `--knowledge available`, which takes only what had arrived".to_owned(),
            ),
            None => tell(
                "arrival_unknown",
                format!(
                    "{late} find one that was materialized after their time, and when it arrived is not known: the view \
                     has no created timestamp"
                ),
                "give the view or its source a `created_timestamp`; without one, leaks by late values cannot be told, and \
                 `--knowledge available` takes the time of the run"
                    .to_owned(),
            ),
        }
    }

    if view.rows_own_time > 0 && reaches(view.rows_own_time, view.rows_matched, OWN_TIME_PERCENT) {
        tell(
            "own_time",
            format!(
                "{} find one of exactly their own time",
                share(view.rows_own_time, view.rows_matched, &of_matched)
            ),
            "if the entity rows are the events that the view is made from, they see themselves: ask for \
             `--boundary before`"
                .to_owned(),
        );
    }

    for feature in &view.features {
        let nulls = feature.rows_null.saturating_sub(missing);
        let in_all = !starves && reaches(feature.rows_null, rows, NULLS_PERCENT);
        let in_matched = nulls > 0 && reaches(nulls, view.rows_matched, NULLS_PERCENT);
        if in_all || in_matched {
            let hidden = match feature.has_default {
                true => "; its default hides that",
                false => "",
            };
            found.push(Finding {
                code: "lint::nulls".to_owned(),
                view: name.clone(),
                feature: Some(feature.feature.clone()),
                message: format!(
                    "`{}` is null for {}: {} find a null, {} no row of {name}{hidden}",
                    feature.column,
                    share(feature.rows_null, rows, "entity rows"),
                    nulls,
                    missing
                ),
                help: "leave the feature out, or see why its source has no values".to_owned(),
            });
        }
    }
    found
}

/// Whether a part of a whole is at least so many percent of it.
fn reaches(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

/// `3 of 4 entity rows (75.0 %)`. The share is cut off, so that 100 % are all.
fn share(part: u64, whole: u64, of: &str) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    let share = match tenths {
        0 if part > 0 => "less than 0.1 %".to_owned(),
        tenths => format!("{}.{} %", tenths / 10, tenths % 10),
    };
    format!("{part} of {whole} {of} ({share})")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view of 1,000 entity rows that gives no cause to warn.
    fn sound() -> ViewLint {
        ViewLint {
            view: "weather@2".to_owned(),
            ttl: Some("6h".to_owned()),
            created_timestamp: Some("loaded_at".to_owned()),
            first_event: Some("2013-01-01T00:00:00Z".to_owned()),
            rows_with_key: 1000,
            rows_before_first: 0,
            rows_matched: 1000,
            rows_expired: 0,
            rows_late: 0,
            rows_own_time: 0,
            features: vec![FeatureLint {
                feature: "temp".to_owned(),
                column: "weather__temp".to_owned(),
                rows_null: 0,
                has_default: false,
            }],
        }
    }

    fn told(change: impl FnOnce(&mut ViewLint)) -> String {
        let mut view = sound();
        change(&mut view);
        let found = findings(1000, &[view]);
        let lines = found.iter().map(|found| {
            let Finding {
                code,
                view,
                feature,
                message,
                help,
            } = found;
            assert_eq!(view, "weather@2");
            let feature = feature.as_deref().unwrap_or("-");
            format!("{code} {feature}: {message}; {help}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_finding_says_how_many_and_what_to_do() {
        insta::assert_snapshot!(told(|view| view.first_event = None), @"lint::no_rows -: weather@2 has no rows, so all of its features are null; run `vintner materialize weather`");
        insta::assert_snapshot!(told(|view| view.rows_before_first = 10), @"lint::before_first_row -: 10 of 1000 entity rows (1.0 %) are before the first row of weather@2, which is of 2013-01-01T00:00:00Z; leave these entity rows out, or give the view's sources an earlier history");
        insta::assert_snapshot!(told(|view| (view.rows_matched, view.rows_expired) = (900, 900)), @"lint::ttl -: 900 of 1800 entity rows that have a row of weather@2 before them (50.0 %) find none, since it is older than the ttl of 6h; give the view a longer ttl, if an older value still says something");
        insta::assert_snapshot!(told(|view| (view.rows_matched, view.rows_with_key) = (500, 990)), @"lint::no_value -: 500 of 1000 entity rows (50.0 %) find no row of weather@2; compare their keys and times with the view's: 10 lack a key or a time, 0 are before its first row, 0 are too late for its ttl");
        insta::assert_snapshot!(told(|view| view.rows_late = 1), @"lint::late_values -: 1 of 1000 entity rows that find a row of weather@2 (0.1 %) find one that arrived after their time, by `loaded_at`; ask for `--knowledge available`, which takes only what had arrived");
        insta::assert_snapshot!(told(|view| (view.rows_late, view.created_timestamp) = (1000, None)), @"lint::arrival_unknown -: 1000 of 1000 entity rows that find a row of weather@2 (100.0 %) find one that was materialized after their time, and when it arrived is not known: the view has no created timestamp; give the view or its source a `created_timestamp`; without one, leaks by late values cannot be told, and `--knowledge available` takes the time of the run");
        insta::assert_snapshot!(told(|view| view.rows_own_time = 250), @"lint::own_time -: 250 of 1000 entity rows that find a row of weather@2 (25.0 %) find one of exactly their own time; if the entity rows are the events that the view is made from, they see themselves: ask for `--boundary before`");
        insta::assert_snapshot!(told(|view| view.features[0].rows_null = 500), @"lint::nulls temp: `weather__temp` is null for 500 of 1000 entity rows (50.0 %): 500 find a null, 0 no row of weather@2; leave the feature out, or see why its source has no values");
        insta::assert_snapshot!(told(|view| {
            view.rows_matched = 400;
            view.features[0].rows_null = 800;
            view.features[0].has_default = true;
        }), @r"
        lint::no_value -: 600 of 1000 entity rows (60.0 %) find no row of weather@2; compare their keys and times with the view's: 0 lack a key or a time, 0 are before its first row, 0 are too late for its ttl
        lint::nulls temp: `weather__temp` is null for 800 of 1000 entity rows (80.0 %): 200 find a null, 600 no row of weather@2; its default hides that; leave the feature out, or see why its source has no values
        ");
    }

    /// Just under each threshold; and what is no leak when there is no row.
    #[test]
    fn what_is_little_is_no_finding() {
        type Change = fn(&mut ViewLint);
        let changes: [Change; 6] = [
            |_| {},
            |view| view.rows_before_first = 9,
            |view| (view.rows_matched, view.rows_expired) = (900, 899),
            |view| (view.rows_matched, view.rows_own_time) = (1000, 249),
            |view| (view.rows_matched, view.features[0].rows_null) = (501, 499),
            // All nulls are explained by what its view finds.
            |view| view.features[0].rows_null = 499,
        ];
        for change in changes {
            assert_eq!(told(change), "");
        }
        assert_eq!(findings(0, &[ViewLint::default()]), []);
    }

    /// Ten features of a view without rows are one finding, not ten.
    #[test]
    fn what_a_view_lacks_is_said_once() {
        let found = told(|view| {
            view.rows_matched = 0;
            let feature = FeatureLint {
                rows_null: 1000,
                ..view.features[0].clone()
            };
            view.features = vec![feature; 10];
        });
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}
