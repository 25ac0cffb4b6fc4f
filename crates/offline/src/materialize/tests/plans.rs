//! Plans, which are made without any files.

use std::fmt::Write;

use insta::assert_snapshot;

use super::world::{full_refresh, joined, row_local, us, window, windowed};
use crate::{
    materialize::{
        Found, FoundTable, MaterializeRequest,
        plan::plan_run,
        progress::{Progress, fingerprint},
    },
    sources::{DeltaChange, DeltaFile, SourceFile, SourceState},
};
use vintner_registry::model::ViewRevision;

fn file(path: &str, size: u64) -> SourceFile {
    SourceFile {
        path: path.to_owned(),
        size,
        modified_micros: 0,
        etag: None,
    }
}

fn files(files: &[(&str, u64)]) -> SourceState {
    SourceState::Files(files.iter().map(|(path, size)| file(path, *size)).collect())
}

/// What a run finds when the table was made from `read`, and the source is `now`.
fn found(view: &ViewRevision, read: Option<SourceState>, now: SourceState) -> Found {
    let mut progress = Progress::none(view);
    progress.last_event = Some(us(50));
    progress.end = Some(us(60));
    if let Some(read) = &read {
        progress
            .others
            .insert("events".to_owned(), fingerprint(read));
    }
    progress.cursor = read;
    Found {
        table: Some(FoundTable {
            progress: Some(progress),
            difference: None,
        }),
        sources: [("events".parse().unwrap(), now)].into(),
        followed: None,
    }
}

#[test]
fn plans_of_a_row_local_view() {
    let view = row_local();
    let two = || files(&[("a", 1), ("b", 1)]);
    let delta = |version| SourceState::Delta { version };
    let with_change = |change| Found {
        followed: Some(change),
        ..found(&view, Some(delta(3)), delta(5))
    };
    let appended = |paths: &[&str]| DeltaChange::Appended {
        to_version: 5,
        files: paths
            .iter()
            .map(|path| DeltaFile {
                path: (*path).to_owned(),
                version: 5,
            })
            .collect(),
    };
    let go_on = MaterializeRequest::default;
    let mut text = String::new();
    for (case, found, request) in [
        ("same files", found(&view, Some(two()), two()), go_on()),
        (
            "more files",
            found(&view, Some(two()), files(&[("a", 1), ("b", 1), ("c", 1)])),
            go_on(),
        ),
        (
            "fewer files",
            found(&view, Some(two()), files(&[("b", 1)])),
            go_on(),
        ),
        (
            "other content",
            found(&view, Some(two()), files(&[("a", 1), ("b", 2)])),
            go_on(),
        ),
        (
            "other content, and a file gone",
            found(&view, Some(two()), files(&[("b", 2)])),
            go_on(),
        ),
        (
            "the same, accepted",
            found(&view, Some(two()), files(&[("b", 2)])),
            full_refresh(),
        ),
        (
            "a window",
            found(&view, Some(two()), files(&[("a", 1), ("c", 1)])),
            window(10, 20),
        ),
        (
            "a Delta table as it was",
            with_change(DeltaChange::Unchanged),
            go_on(),
        ),
        (
            "a Delta table that grew",
            with_change(appended(&["x", "y"])),
            go_on(),
        ),
        (
            "a Delta table that was compacted",
            with_change(appended(&[])),
            go_on(),
        ),
        (
            "a Delta table that changed",
            with_change(DeltaChange::Rewritten { to_version: 5 }),
            go_on(),
        ),
        (
            "files that became a Delta table",
            found(&view, Some(two()), delta(1)),
            go_on(),
        ),
    ] {
        match plan_run(&view, &found, &request, us(100)) {
            Ok(plan) => writeln!(text, "{case}\n  {plan}").unwrap(),
            Err(error) => writeln!(text, "{case}\n  error: {error}").unwrap(),
        }
    }
    assert_snapshot!(text, @"");
}

#[test]
fn plans_of_a_view_with_windows() {
    let view = windowed(Some(10));
    let (old, new) = (files(&[("a", 1)]), files(&[("a", 1), ("b", 1)]));
    let held_back = |mut found: Found| {
        let progress = found
            .table
            .as_mut()
            .and_then(|t| t.progress.as_mut())
            .unwrap();
        progress.held_back = true;
        found
    };
    let until = |end| MaterializeRequest {
        end: Some(us(end)),
        ..Default::default()
    };
    let go_on = MaterializeRequest::default;
    let mut text = String::new();
    for (case, found, request) in [
        (
            "nothing new",
            found(&view, Some(old.clone()), old.clone()),
            go_on(),
        ),
        (
            "rows whose time has come",
            held_back(found(&view, Some(old.clone()), old.clone())),
            go_on(),
        ),
        (
            "rows whose time is asked for not to come",
            held_back(found(&view, Some(old.clone()), old.clone())),
            until(60),
        ),
        (
            "new data",
            found(&view, Some(old.clone()), new.clone()),
            go_on(),
        ),
        (
            "new data, up to an end",
            found(&view, Some(old.clone()), new.clone()),
            until(55),
        ),
        (
            "new data, up to an end in the future",
            found(&view, Some(old.clone()), new.clone()),
            until(1000),
        ),
        (
            "new data, up to an end long ago",
            found(&view, Some(old.clone()), new.clone()),
            until(40),
        ),
        (
            "a window",
            found(&view, Some(old.clone()), new.clone()),
            window(10, 20),
        ),
        (
            "a window that reaches into the future",
            found(&view, Some(old.clone()), new.clone()),
            window(10, 1000),
        ),
        (
            "a window in the future",
            found(&view, Some(old.clone()), new.clone()),
            window(100, 200),
        ),
        ("all", found(&view, Some(old.clone()), new), full_refresh()),
    ] {
        match plan_run(&view, &found, &request, us(100)) {
            Ok(plan) => writeln!(text, "{case}\n  {plan}").unwrap(),
            Err(error) => writeln!(text, "{case}\n  error: {error}").unwrap(),
        }
    }
    assert_snapshot!(text, @"");
}

#[test]
fn a_source_that_is_not_declared_is_an_error() {
    let found = Found {
        sources: [("events".parse().unwrap(), files(&[("a", 1)]))].into(),
        ..Found::default()
    };
    let error = plan_run(&joined(), &found, &MaterializeRequest::default(), us(100));
    assert_snapshot!(error.unwrap_err(), @"");
}
