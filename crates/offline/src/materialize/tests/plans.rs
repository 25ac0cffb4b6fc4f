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
            had_runs: true,
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
    assert_snapshot!(text, @"
    same files
      plain@1: nothing to do, since nothing is new in `events`
    more files
      plain@1: append the rows of 1 file, since `events` has a new file
    fewer files
      plain@1: nothing to do, since nothing is new in `events`
    other content
      plain@1: replace all rows, since the file `b` of `events` has changed since it was read
    other content, and a file gone
      error: the file `b` of `events` has changed since it was read, so all rows of plain@1 must be recomputed; but 1 of the files that were read from `events` are gone (`a` for one), and their rows would be lost. Bring the files back, or accept the loss with --full-refresh
    the same, accepted
      plain@1: replace all rows, since --full-refresh was given
    a window
      plain@1: replace the rows of 1970-01-01T00:00:00.00001Z to before 1970-01-01T00:00:00.00002Z, since a window was asked for; a file that was read is gone, and its rows go too
    a Delta table as it was
      plain@1: nothing to do, since nothing is new in `events`
    a Delta table that grew
      plain@1: append the rows of 2 files, since `events` has 2 new files
    a Delta table that was compacted
      plain@1: nothing to do, since nothing is new in `events`
    a Delta table that changed
      plain@1: replace all rows, since rows of the table `events` were changed or removed since its version 3
    files that became a Delta table
      plain@1: replace all rows, since `events` is a Delta table now, and was files when it was read
    ");
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
    assert_snapshot!(text, @"
    nothing new
      sums@1: nothing to do, since its sources have not changed
    rows whose time has come
      sums@1: replace the rows of 1970-01-01T00:00:00.00004Z to before 1970-01-01T00:00:00.0001Z, since there are rows whose time has come since the last run; recomputed from 10us before the last event time
    rows whose time is asked for not to come
      sums@1: nothing to do, since its sources have not changed
    new data
      sums@1: replace the rows of 1970-01-01T00:00:00.00004Z to before 1970-01-01T00:00:00.0001Z, since the source `events` has changed; recomputed from 10us before the last event time
    new data, up to an end
      sums@1: replace the rows of 1970-01-01T00:00:00.00004Z to before 1970-01-01T00:00:00.000055Z, since the source `events` has changed; recomputed from 10us before the last event time
    new data, up to an end in the future
      sums@1: replace the rows of 1970-01-01T00:00:00.00004Z to before 1970-01-01T00:00:00.0001Z, since the source `events` has changed; recomputed from 10us before the last event time
    new data, up to an end long ago
      sums@1: nothing to do, since the source `events` has changed, but the table ends at 1970-01-01T00:00:00.00005Z, which is not before 1970-01-01T00:00:00.00004Z
    a window
      sums@1: replace the rows of 1970-01-01T00:00:00.00001Z to before 1970-01-01T00:00:00.00002Z, since a window was asked for
    a window that reaches into the future
      sums@1: replace the rows of 1970-01-01T00:00:00.00001Z to before 1970-01-01T00:00:00.0001Z, since a window was asked for
    a window in the future
      error: --start 1970-01-01T00:00:00.0001Z is not before now, which is 1970-01-01T00:00:00.0001Z; no window of the future is computed
    all
      sums@1: replace all rows, with those before 1970-01-01T00:00:00.0001Z, since --full-refresh was given
    ");
}

#[test]
fn a_source_that_is_not_declared_is_an_error() {
    let found = Found {
        sources: [("events".parse().unwrap(), files(&[("a", 1)]))].into(),
        ..Found::default()
    };
    let error = plan_run(&joined(), &found, &MaterializeRequest::default(), us(100));
    assert_snapshot!(error.unwrap_err(), @"the view joined@1 reads the source `names`, which is not declared");
}
