use proptest::prelude::*;
use vintner_core::{Value, ViewId};

use super::*;
use crate::{
    fixture::{desired, entity, features, keys, revision, service, source},
    model::{About, Refresh, ViewInput},
};

fn flights() -> ProjectName {
    "flights".parse().unwrap()
}

/// Carries a plan out at version 1, 2 and so on.
fn applied(current: &Snapshot, plan: &Plan) -> Snapshot {
    apply(plan, current, "ann", "apply", Timestamp::from_micros(0)).unwrap()
}

/// The registry after applying each of these, one after the other.
fn after(steps: impl IntoIterator<Item = DesiredProject>) -> Snapshot {
    steps.into_iter().fold(Snapshot::empty(), |current, step| {
        applied(&current, &plan(&current, &flights(), step).unwrap())
    })
}

/// What `plan` says about a desired project.
fn told(current: &Snapshot, desired: DesiredProject) -> String {
    match plan(current, &flights(), desired) {
        Ok(plan) => plan.to_string(),
        Err(error) => error.to_string(),
    }
}

fn weather() -> ViewRevision {
    revision("weather", "origin: string", "temp: float64, gust: float64")
}

fn base() -> DesiredProject {
    let delays = revision("delays", "carrier: string", "mean: float64");
    let services = [
        ("all", "weather, delays:mean"),
        ("one", "weather:temp"),
        ("pinned", "weather@1:gust"),
    ];
    desired([weather(), delays], services)
}

/// The base project with a change to its view `weather`.
fn with_weather(change: impl FnOnce(&mut ViewRevision)) -> DesiredProject {
    let mut desired = base();
    change(&mut desired.views[0].0);
    desired
}

fn about(text: &str) -> About {
    About {
        description: text.into(),
        owner: format!("{text} owner"),
        tags: BTreeMap::from([("tier".into(), text.into()), (text.into(), "yes".into())]),
    }
}

#[test]
fn a_first_plan_creates_everything() {
    insta::assert_snapshot!(told(&Snapshot::empty(), base()), @r"
    + create entity `thing`
        join keys: id int64
    + create source `events`
        parquet at data/events.parquet
        event timestamp: at
    + create feature view `delays`
        join keys: carrier string
        features: mean float64
        refresh: by windows of event time (the query groups rows)
        data: `delays@1` starts empty; the next run makes its Delta table and its online rows
    + create feature view `weather`
        join keys: origin string
        features: temp float64, gust float64
        refresh: by windows of event time (the query groups rows)
        data: `weather@1` starts empty; the next run makes its Delta table and its online rows
    + create feature service `all`
        features: `weather` and `delays:mean`
    + create feature service `one`
        features: `weather:temp`
    + create feature service `pinned`
        features: `weather@1:gust`
    Project `flights`, from registry version 0: 7 to create.
    ");
}

#[test]
fn what_is_applied_already_needs_no_plan() {
    let current = after([base()]);
    let again = plan(&current, &flights(), base()).unwrap();
    assert!(again.is_empty());
    assert_eq!(again.next, current.projects[&flights()]);
    insta::assert_snapshot!(again, @"Project `flights`: nothing to change; registry version 1 is what is declared.");
}

#[test]
fn another_project_in_the_registry_is_left_alone() {
    let current = after([base()]);
    let other: ProjectName = "trains".parse().unwrap();
    let first = plan(&current, &other, desired([weather()], [])).unwrap();
    let both = applied(&current, &first);
    assert_eq!(both.projects[&flights()], current.projects[&flights()]);
    assert_eq!(both.projects.len(), 2);
    insta::assert_snapshot!(first, @r"
    + create entity `thing`
        join keys: id int64
    + create source `events`
        parquet at data/events.parquet
        event timestamp: at
    + create feature view `weather`
        join keys: origin string
        features: temp float64, gust float64
        refresh: by windows of event time (the query groups rows)
        data: `weather@1` starts empty; the next run makes its Delta table and its online rows
    Project `trains`, from registry version 1: 3 to create.
    ");
}

#[test]
fn what_leaves_stored_rows_right_keeps_the_version() {
    let current = after([base()]);
    let changed = told(
        &current,
        with_weather(|view| {
            view.ttl = Some("6h".parse().unwrap());
            view.features[0].default = Some(Value::Float64(-1.5));
            view.features[1].description = "in knots".into();
            view.lookback = Some("1d".parse().unwrap());
            view.input = ViewInput::Query("select * from events".into());
            view.refresh_reason = "the query has a window".into();
            view.about = about("gold");
            view.online = false;
            view.near_cache = Some("64MiB".parse().unwrap());
            view.lineage.remove("temp");
        }),
    );
    insta::assert_snapshot!(changed, @r#"
    ~ update feature view `weather`
        default of feature `temp`: none -> -1.5
        description of feature `gust`: "" -> "in knots"
        ttl: none -> 6h
        its query is written in another way
        lookback: none -> 1d
        near_cache: none -> 64MiB
        reason of its refresh: the query groups rows -> the query has a window
        lineage of feature `temp`: events.temp -> none
        online: true -> false
        description: "" -> "gold"
        owner: "" -> "gold owner"
        tag gold: none -> "yes"
        tag tier: none -> "gold"
        data: no stored row changes; readers get the new default of `temp` at once
        data: no stored row changes; readers use the new ttl at once
        data: the online rows stay until `teardown`, and are no longer written
    Project `flights`, from registry version 1: 1 to update.
    "#);
}

#[test]
fn a_longer_ttl_says_what_happens_to_rows_that_have_expired() {
    let ttl = |text: &str| with_weather(|view| view.ttl = text.parse().ok());
    insta::assert_snapshot!(told(&after([ttl("6h")]), ttl("12h")), @r"
    ~ update feature view `weather`
        ttl: 6h -> 12h
        data: no stored row changes; readers use the new ttl at once
        data: online rows that the old ttl has let expire come back when they are materialized again
    Project `flights`, from registry version 1: 1 to update.
    ");
    insta::assert_snapshot!(told(&after([ttl("12h")]), ttl("6h")), @r"
    ~ update feature view `weather`
        ttl: 12h -> 6h
        data: no stored row changes; readers use the new ttl at once
    Project `flights`, from registry version 1: 1 to update.
    ");
    insta::assert_snapshot!(told(&after([ttl("6h")]), ttl("")), @r"
    ~ update feature view `weather`
        ttl: 6h -> none
        data: no stored row changes; readers use the new ttl at once
        data: online rows that the old ttl has let expire come back when they are materialized again
    Project `flights`, from registry version 1: 1 to update.
    ");
}

#[test]
fn another_way_to_refresh_computes_the_history_again() {
    let row_local = with_weather(|view| {
        view.refresh = Refresh::RowLocal {
            source: "events".parse().unwrap(),
        };
    });
    insta::assert_snapshot!(told(&after([base()]), row_local), @r"
    ~ update feature view `weather`
        refresh: by windows of event time -> row by row from `events`
        data: the next run computes the whole history again
    Project `flights`, from registry version 1: 1 to update.
    ");
}

#[test]
fn an_added_feature_is_a_backfill() {
    let current = after([base()]);
    let more = with_weather(|view| {
        view.features
            .extend(features("rain: bool, seen: list<timestamp>"));
        view.ttl = Some("6h".parse().unwrap());
    });
    insta::assert_snapshot!(told(&current, more.clone()), @r"
    * backfill feature view `weather`
        feature `rain` is new: bool
        feature `seen` is new: list<timestamp>
        ttl: none -> 6h
        data: the next run computes the whole history again and rewrites the online rows
        data: until then `rain` and `seen` are null in training and NOT_FOUND online
        data: no stored row changes; readers use the new ttl at once
        data: the feature service `all` takes the whole view, so the columns change there too
    Project `flights`, from registry version 1: 1 to backfill.
    ");

    let next = applied(&current, &plan(&current, &flights(), more).unwrap());
    let view = &next.projects[&flights()].views["weather"];
    assert_eq!(view.revisions.len(), 1);
    let revision = view.current().unwrap();
    let written: Vec<_> = revision.layouts.iter().map(|l| l.fields.len()).collect();
    assert_eq!(written, [2, 4], "rows of both layouts can be read");
    assert_eq!(revision.layouts.last(), Some(&revision.layout()));
}

#[test]
fn the_order_of_features_is_a_layout_and_not_a_version() {
    let current = after([base()]);
    let turned = with_weather(|view| view.features.reverse());
    insta::assert_snapshot!(told(&current, turned.clone()), @r"
    ~ update feature view `weather`
        order of the features: `temp` and `gust` -> `gust` and `temp`
        data: the feature service `all` takes the whole view, so the columns change there too
    Project `flights`, from registry version 1: 1 to update.
    ");

    let back = after([base(), turned, base()]);
    let revision = back.projects[&flights()].views["weather"].current();
    assert_eq!(revision.unwrap().layouts.len(), 2, "no layout twice");
    assert_eq!(revision.unwrap().layouts[1], revision.unwrap().layout());
}

#[test]
fn what_makes_stored_rows_wrong_is_a_new_version() {
    let current = after([base()]);
    let told = |change: fn(&mut ViewRevision)| {
        let plan = plan(&current, &flights(), with_weather(change)).unwrap();
        let view = &plan.next.views["weather"];
        assert_eq!(
            view.revisions.keys().map(|v| v.0).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(
            view.revisions[&ViewVersion(1)],
            current.projects[&flights()].views["weather"].revisions[&ViewVersion(1)]
        );
        assert_eq!(view.current().unwrap().layouts.len(), 1);
        assert_eq!(plan.next.versions_used["weather"], ViewVersion(2));
        plan.changes[0].to_string()
    };
    insta::assert_snapshot!(told(|view| view.features[0].feature_type = "string".parse().unwrap()), @r"
    ! new version of feature view `weather`: 1 -> 2
        type of feature `temp`: float64 -> string
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    ");
    insta::assert_snapshot!(told(|view| { view.definitions.insert("temp".parse().unwrap(), "events.temp * 2".into()); }), @r"
    ! new version of feature view `weather`: 1 -> 2
        definition of feature `temp`: events.temp -> events.temp * 2
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    ");
    insta::assert_snapshot!(told(|view| { view.definitions.insert("temp".parse().unwrap(), "events.temp * 2\n+ 1".into()); }), @r"
    ! new version of feature view `weather`: 1 -> 2
        definition of feature `temp` is different
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    ");
    insta::assert_snapshot!(told(|view| view.relation = "filter events".into()), @r"
    ! new version of feature view `weather`: 1 -> 2
        how its rows are made: scan events -> filter events
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    ");
    insta::assert_snapshot!(told(|view| view.join_keys = keys("origin: string, dest: string")), @r"
    ! new version of feature view `weather`: 1 -> 2
        join keys: origin string -> dest string, origin string
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    ");
    insta::assert_snapshot!(told(|view| view.event_timestamp = Some("seen".parse().unwrap())), @r"
    ! new version of feature view `weather`: 1 -> 2
        event timestamp: at -> seen
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    ");
    insta::assert_snapshot!(told(|view| view.created_timestamp = Some("loaded".parse().unwrap())), @r"
    ! new version of feature view `weather`: 1 -> 2
        created timestamp: none -> loaded
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    ");
    insta::assert_snapshot!(told(|view| {
        view.refresh = Refresh::Static { source: "events".parse().unwrap() };
        view.ttl = Some("1h".parse().unwrap());
        view.features.extend(features("rain: bool"));
    }), @r"
    ! new version of feature view `weather`: 1 -> 2
        refresh: by windows of event time -> all of the static `events`
        feature `rain` is new: bool
        ttl: none -> 1h
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    ");
}

#[test]
fn a_removed_feature_is_a_new_version_and_services_must_follow() {
    let current = after([base()]);
    let less = || with_weather(|view| drop(view.features.remove(0)));
    insta::assert_snapshot!(told(&current, less()), @"the feature service `one`: the feature view `weather@2` has no feature `temp`; another version has it: `weather@1:temp`");
    let mut less = less();
    less.services[1] = service("one", "weather@1:temp");
    less.sources = vec![source("readings")];
    for DesiredView(view) in &mut less.views {
        view.sources = vec!["readings".parse().unwrap()];
    }
    insta::assert_snapshot!(told(&current, less), @r"
    - delete source `events`
        data: read by `weather@1`: what is materialized stays, and is no longer refreshed
    + create source `readings`
        parquet at data/readings.parquet
        event timestamp: at
    ~ update feature view `delays`
        sources: `events` -> `readings`
    ! new version of feature view `weather`: 1 -> 2
        feature `temp` is gone
        sources: `events` -> `readings`
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature service `all` goes over to `weather@2`
    ~ update feature service `one`
        `weather:temp` is gone
        `weather@1:temp` is new
        data: no stored row changes; what is served by it has the new columns at once
    Project `flights`, from registry version 1: 1 to create, 2 to update, 1 new version, 1 to delete.
    ");
}

#[test]
fn a_deleted_view_says_what_stays_and_its_versions_are_not_used_again() {
    let type_changed =
        with_weather(|view| view.features[0].feature_type = "int32".parse().unwrap());
    let current = after([base(), type_changed]);
    let nothing = desired([], []);
    insta::assert_snapshot!(told(&current, nothing.clone()), @r"
    - delete feature view `delays`
        data: kept until `teardown delays` and no longer refreshed: the Delta table and the online rows of `delays@1`
        data: a view that takes the name again begins with version 2
    - delete feature view `weather`
        data: kept until `teardown weather` and no longer refreshed: the Delta table and the online rows of `weather@1` and `weather@2`
        data: a view that takes the name again begins with version 3
    - delete feature service `all`
    - delete feature service `one`
    - delete feature service `pinned`
    Project `flights`, from registry version 2: 5 to delete.
    ");

    let gone = applied(
        &current,
        &plan(&current, &flights(), nothing.clone()).unwrap(),
    );
    assert!(plan(&gone, &flights(), nothing).unwrap().is_empty());
    let anew = desired([weather()], [("pinned", "weather@3:temp")]);
    insta::assert_snapshot!(told(&gone, anew), @r"
    + create feature view `weather`
        join keys: origin string
        features: temp float64, gust float64
        refresh: by windows of event time (the query groups rows)
        version 3, as versions up to 2 have had data
        data: `weather@3` starts empty; the next run makes its Delta table and its online rows
    + create feature service `pinned`
        features: `weather@3:temp`
    Project `flights`, from registry version 3: 2 to create.
    ");
    insta::assert_snapshot!(told(&gone, desired([weather()], [("pinned", "weather@1:temp")])), @"the feature service `pinned`: the feature view `weather` has no version 1; it has 3");
}

#[test]
fn entities_sources_and_services_change_in_place() {
    let mut changed = base();
    changed.entities[0].join_keys = keys("id: string");
    changed.entities[0].about = about("silver");
    changed.sources[0].path = "s3://lake/events".into();
    changed.sources[0].format = crate::model::SourceFormat::Delta;
    changed.sources[0].event_timestamp = None;
    changed.sources[0].created_timestamp = Some("loaded".parse().unwrap());
    changed.sources[0].is_static = true;
    changed.sources[0].columns = vec![
        ("at".into(), "timestamp".parse().unwrap()),
        ("temp".into(), "int32".parse().unwrap()),
        ("rain".into(), "bool".parse().unwrap()),
    ];
    changed.sources.push(source("extra"));
    changed.services[0] = service("all", "delays:mean, weather");
    changed.services[1] = service("one", "weather:gust");
    changed
        .services
        .push(service("two", "delays, weather:temp"));
    changed.services.remove(2);
    insta::assert_snapshot!(told(&after([base()]), changed), @r#"
    ~ update entity `thing`
        join keys: id int64 -> id string
        description: "" -> "silver"
        owner: "" -> "silver owner"
        tag silver: none -> "yes"
        tag tier: none -> "silver"
    ~ update source `events`
        path: data/events.parquet -> s3://lake/events
        format: parquet -> delta
        event timestamp: at -> none
        created timestamp: none -> loaded
        static: false -> true
        column `temp`: float64 -> int32
        column `gust` is gone
        column `rain` is new: bool
        data: read by `delays` and `weather`: what is materialized stays; the next run reads the source as it is declared now
    + create source `extra`
        parquet at data/extra.parquet
        event timestamp: at
    ~ update feature service `all`
        order of the features: `weather` and `delays:mean` -> `delays:mean` and `weather`
        data: no stored row changes; what is served by it has the new columns at once
    ~ update feature service `one`
        `weather:temp` is gone
        `weather:gust` is new
        data: no stored row changes; what is served by it has the new columns at once
    - delete feature service `pinned`
    + create feature service `two`
        features: `delays` and `weather:temp`
    Project `flights`, from registry version 1: 2 to create, 4 to update, 1 to delete.
    "#);

    let mut silver = base();
    silver.entities[0].about = about("silver");
    let mut gold = base();
    gold.entities[0].about = about("gold");
    gold.sources[0].columns.reverse();
    insta::assert_snapshot!(told(&after([silver]), gold), @r#"
    ~ update entity `thing`
        description: "silver" -> "gold"
        owner: "silver owner" -> "gold owner"
        tag silver: "yes" -> none
        tag tier: "silver" -> "gold"
        tag gold: none -> "yes"
    ~ update source `events`
        its columns come in another order
    Project `flights`, from registry version 1: 2 to update.
    "#);
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let mut wrong = base();
    wrong.entities.push(entity());
    wrong.sources.push(source("events"));
    wrong.views.push(weather().into());
    wrong.views[0].0.entities = vec!["thingy".parse().unwrap()];
    wrong.views[0].0.sources = vec!["event".parse().unwrap()];
    wrong.views[0].0.features.extend(features("temp: float64"));
    wrong.views[0].0.features[0].default = Some(Value::Int64(1));
    wrong.views[1].0.features.clear();
    wrong.services[0] = service("all", "weather@7, delays:mean, wether:temp, weather:tmp");
    wrong.services.push(service("all", "weather:temp"));
    insta::assert_snapshot!(told(&Snapshot::empty(), wrong), @r"
    the entity `thing` is declared twice
    the source `events` is declared twice
    the feature service `all` is declared twice
    the feature view `weather` is declared twice
    the feature view `delays` has no feature; its query gives only join keys and timestamps
    the feature view `weather` uses the entity `thingy`, which nothing declares; did you mean `thing`?
    the feature view `weather` reads the source `event`, which nothing declares; did you mean `events`?
    the default of `weather:temp` is of type int64; the feature is of type float64
    the feature view `weather` has the feature `temp` twice
    the feature service `all`: the feature view `weather` has no version 7; it has 1
    the feature service `all`: the feature view `delays@1` has no feature `mean`; there is none
    the feature service `all`: there is no feature view `wether`; did you mean `weather`?
    the feature service `all`: the feature view `weather@1` has no feature `tmp`; did you mean `temp`?
    ");
}

#[test]
fn versions_can_run_out() {
    let mut current = after([base()]);
    let project = current.projects.get_mut(&flights()).unwrap();
    let last = ViewVersion(u32::MAX);
    project
        .versions_used
        .insert("weather".parse().unwrap(), last);
    let type_changed =
        with_weather(|view| view.features[0].feature_type = "int32".parse().unwrap());
    insta::assert_snapshot!(plan(&current, &flights(), type_changed).unwrap_err().problems[0], @"the feature view `weather` has used up its versions; give it another name");
}

#[test]
fn a_plan_against_another_version_is_stale() {
    let first = plan(&Snapshot::empty(), &flights(), base()).unwrap();
    let current = after([base()]);
    let stale = apply(&first, &current, "ann", "apply", Timestamp::from_micros(0)).unwrap_err();
    assert_eq!((stale.planned.0, stale.current.0), (0, 1));
    insta::assert_snapshot!(stale, @"planned against registry version 0, which is now 1; plan again");
}

#[test]
fn a_rollback_brings_back_what_was() {
    let one = after([base()]);
    let type_changed = with_weather(|view| {
        view.features[0].feature_type = "int32".parse().unwrap();
        view.ttl = Some("6h".parse().unwrap());
    });
    let two = applied(&one, &plan(&one, &flights(), type_changed.clone()).unwrap());

    let back = rollback(&two, &one, &flights());
    insta::assert_snapshot!(back, @r"
    ! back to a version of feature view `weather`: 2 -> 1
        type of feature `temp`: int32 -> float64
        ttl: 6h -> none
        data: `weather@1` is current again, with the data that it has
        data: kept until `teardown weather` and no longer refreshed: the Delta table and the online rows of `weather@2`
        data: the feature services `all` and `one` go over to `weather@1`
    Project `flights`, from registry version 2: 1 new version.
    ");
    let three = applied(&two, &back);
    assert_eq!(three.version.0, 3);
    let (now, then) = (&three.projects[&flights()], &one.projects[&flights()]);
    assert_eq!(now.views, then.views);
    assert_eq!(now.versions_used["weather"], ViewVersion(2));

    let forward = rollback(&three, &two, &flights());
    insta::assert_snapshot!(forward, @r"
    ! new version of feature view `weather`: 1 -> 2
        type of feature `temp`: float64 -> int32
        ttl: none -> 6h
        data: `weather@2` is known again, with the data that it has
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    Project `flights`, from registry version 3: 1 new version.
    ");
    let four = applied(&three, &forward);
    assert_eq!(four.projects, two.projects);

    // The version that was rolled back has had data, so what is declared next does not get its number.
    let planned = plan(&three, &flights(), type_changed).unwrap();
    let revision = planned.next.views["weather"].current().unwrap();
    assert_eq!(revision.id.to_string(), "weather@3");

    let before_all = rollback(&two, &Snapshot::empty(), &flights());
    assert_eq!(before_all.next.views.len(), 0);
    assert_eq!(before_all.next.versions_used["weather"], ViewVersion(2));
    let gone = applied(&two, &before_all);
    insta::assert_snapshot!(rollback(&gone, &two, &flights()).changes[2], @r"
    + create feature view `delays`
        join keys: carrier string
        features: mean float64
        refresh: by windows of event time (the query groups rows)
        data: `delays@1` is known again, with the data that it has
    ");
}

#[test]
fn a_feature_that_a_rollback_took_does_not_come_back_with_old_values() {
    let more = |definition: &str| {
        with_weather(|view| {
            view.features.extend(features("rain: bool"));
            let rain = "rain".parse().unwrap();
            view.definitions.insert(rain, definition.into());
        })
    };
    let one = after([base()]);
    let two = after([base(), more("wet")]);
    let back = rollback(&two, &one, &flights());
    insta::assert_snapshot!(back, @r"
    ~ update feature view `weather`
        feature `rain` is gone
        data: what is stored of `rain` stays, and is no longer read
        data: the feature service `all` takes the whole view, so the columns change there too
    Project `flights`, from registry version 2: 1 to update.
    ");
    let three = applied(&two, &back);
    let revision = three.projects[&flights()].views["weather"].current();
    assert_eq!(
        revision.unwrap().layouts.len(),
        2,
        "rows written since can be read"
    );
    insta::assert_snapshot!(told(&three, more("soaked")), @r"
    ! new version of feature view `weather`: 1 -> 2
        feature `rain` was in `weather@1` before a rollback, and its table may still have other values of it
        feature `rain` is new: bool
        data: `weather@2` starts empty; the next run makes its Delta table and its online rows
        data: `weather@1` stays, with its data, for those who pin it
        data: the feature services `all` and `one` go over to `weather@2`
    Project `flights`, from registry version 3: 1 new version.
    ");
}

#[test]
fn a_diff_reads_like_a_plan() {
    let two = after([
        base(),
        with_weather(|view| view.ttl = Some("6h".parse().unwrap())),
    ]);
    let (a, b) = (after([base()]), two);
    insta::assert_snapshot!(diff(&a.projects[&flights()], &b.projects[&flights()]), @r"
    ~ update feature view `weather`
        ttl: none -> 6h
        data: no stored row changes; readers use the new ttl at once
    ");
    insta::assert_snapshot!(diff(&b.projects[&flights()], &a.projects[&flights()]), @r"
    ~ update feature view `weather`
        ttl: 6h -> none
        data: no stored row changes; readers use the new ttl at once
        data: online rows that the old ttl has let expire come back when they are materialized again
    ");
    insta::assert_snapshot!(diff(&a.projects[&flights()], &a.projects[&flights()]), @"no differences");
}

/// A small project out of a few parts, so that any two have much in common.
fn some_project() -> impl Strategy<Value = DesiredProject> {
    let field = (
        prop::sample::select(vec!["a", "b", "c"]),
        prop::sample::select(vec!["int64", "float64"]),
        prop::sample::select(vec!["x", "y"]),
        prop::option::of(Just(())),
    );
    let view = (
        prop::sample::select(vec!["v", "w"]),
        prop::collection::vec(field, 1..4),
        prop::sample::select(vec!["k: int64", "k: string", "j: bool, k: int64"]),
        prop::option::of(prop::sample::select(vec!["1h", "2h"])),
        prop::sample::select(vec!["scan", "filter"]),
        any::<(bool, bool, bool)>(),
    );
    let view = view.prop_map(
        |(name, fields, join_keys, ttl, relation, (online, tagged, row_local))| {
            let mut seen = BTreeSet::new();
            let fields: Vec<_> = fields.into_iter().filter(|f| seen.insert(f.0)).collect();
            let typed: Vec<_> = fields.iter().map(|f| format!("{}: {}", f.0, f.1)).collect();
            let mut view = revision(name, join_keys, &typed.join(", "));
            for (field, (name, kind, definition, default)) in view.features.iter_mut().zip(&fields)
            {
                let name = name.parse().unwrap();
                view.definitions.insert(name, (*definition).to_owned());
                field.default = default.map(|()| match *kind {
                    "int64" => Value::Int64(0),
                    _ => Value::Float64(0.0),
                });
            }
            view.ttl = ttl.map(|ttl| ttl.parse().unwrap());
            view.relation = relation.to_owned();
            view.online = online;
            if tagged {
                view.about = about("gold");
            }
            if row_local {
                view.refresh = Refresh::RowLocal {
                    source: "events".parse().unwrap(),
                };
            }
            view
        },
    );
    (prop::collection::vec(view, 0..3), any::<(bool, bool)>()).prop_map(|(views, (two, turned))| {
        let mut project = desired([], []);
        let mut seen = BTreeSet::new();
        for view in views {
            if seen.insert(view.id.name.clone()) {
                let name = view.id.name.to_string();
                project.services.push(service(&format!("of_{name}"), &name));
                project.views.push(view.into());
            }
        }
        if two {
            project.sources.push(source("extra"));
        }
        if turned {
            project.sources[0].columns.reverse();
        }
        project
    })
}

#[derive(Clone, Debug)]
enum Step {
    Apply(DesiredProject),
    Rollback(usize),
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => some_project().prop_map(Step::Apply),
        1 => (0usize..9).prop_map(Step::Rollback),
    ]
}

/// A project without what the registry keeps for itself.
fn declared(snapshot: &Snapshot) -> Project {
    let mut project = snapshot
        .projects
        .get(&flights())
        .cloned()
        .unwrap_or_default();
    project.versions_used.clear();
    project.retired.clear();
    for revision in project
        .views
        .values_mut()
        .flat_map(|v| v.revisions.values_mut())
    {
        revision.layouts.clear();
    }
    project
}

proptest! {
    #[test]
    fn planned_again_after_it_is_applied_there_is_nothing_to_do(steps in prop::collection::vec(some_project(), 1..5)) {
        let mut current = Snapshot::empty();
        for step in steps {
            let made = plan(&current, &flights(), step.clone()).unwrap();
            let before = current.projects.get(&flights()).cloned().unwrap_or_default();
            prop_assert_eq!(made.is_empty(), made.next == before, "a plan is empty exactly when nothing changes");
            current = applied(&current, &made);
            let again = plan(&current, &flights(), step).unwrap();
            prop_assert!(again.is_empty(), "{}", again);
            prop_assert_eq!(again.next, made.next);
        }
    }

    #[test]
    fn stored_rows_are_right_for_as_long_as_their_version_is_known(steps in prop::collection::vec(some_step(), 1..9)) {
        let mut history = vec![Snapshot::empty()];
        let mut meant: BTreeMap<(ViewId, FeatureName), (String, String, FeatureType)> = BTreeMap::new();
        let mut written: BTreeMap<ViewId, Vec<Layout>> = BTreeMap::new();
        let mut greatest: BTreeMap<ViewName, ViewVersion> = BTreeMap::new();
        for step in steps {
            let current = history.last().unwrap();
            let made = match step {
                Step::Apply(desired) => plan(current, &flights(), desired).unwrap(),
                Step::Rollback(to) => rollback(current, &history[to % history.len()], &flights()),
            };
            let next = applied(current, &made);
            let project = &next.projects[&flights()];
            for revision in project.views.values().flat_map(|v| v.revisions.values()) {
                for field in &revision.features {
                    let means = (revision.definitions[&field.name].clone(), revision.relation.clone(), field.feature_type);
                    let first = meant.entry((revision.id.clone(), field.name.clone())).or_insert_with(|| means.clone());
                    prop_assert_eq!(&*first, &means, "{}:{}", revision.id, field.name);
                }
                let layouts = written.entry(revision.id.clone()).or_default();
                layouts.push(revision.layout());
                prop_assert!(layouts.iter().all(|layout| revision.layouts.contains(layout)));
                prop_assert_eq!(revision.layouts.last(), Some(&revision.layout()));
            }
            for (view, used) in &project.versions_used {
                let before = greatest.insert(view.clone(), *used);
                prop_assert!(before.is_none_or(|before| before <= *used), "{view} went from {before:?} to {used}");
            }
            history.push(next);
        }
    }

    #[test]
    fn a_rollback_can_be_rolled_back(steps in prop::collection::vec(some_project(), 1..5), to in 0usize..5) {
        let mut history = vec![Snapshot::empty()];
        for step in steps {
            let current = history.last().unwrap();
            let next = applied(current, &plan(current, &flights(), step).unwrap());
            history.push(next);
        }
        let (old, last) = (&history[to % history.len()], history.last().unwrap());
        let back = applied(last, &rollback(last, old, &flights()));
        prop_assert_eq!(declared(&back), declared(old));
        let again = applied(&back, &rollback(&back, last, &flights()));
        prop_assert_eq!(declared(&again), declared(last));
        for (name, used) in last.projects.get(&flights()).into_iter().flat_map(|p| &p.versions_used) {
            prop_assert_eq!(again.projects[&flights()].versions_used.get(name), Some(used));
        }
        // No layout is forgotten on the way there and back.
        for revision in last.projects.get(&flights()).into_iter().flat_map(|p| p.views.values()).filter_map(View::current) {
            let project = &again.projects[&flights()];
            let now = &project.views[&revision.id.name].revisions[&revision.id.version];
            for layout in &revision.layouts {
                prop_assert!(now.layouts.contains(layout));
            }
        }
    }

    #[test]
    fn a_diff_is_empty_exactly_between_equals(a in some_project(), b in some_project()) {
        let (a, b) = (after([a]), after([b]));
        let same = declared(&a) == declared(&b);
        prop_assert_eq!(diff(&declared(&a), &declared(&b)).is_empty(), same);
    }
}
