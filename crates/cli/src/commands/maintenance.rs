//! `compact` and `vacuum`.

use vintner_core::ViewName;
use vintner_ops::api::{VacuumRequest, Vacuumed, VacuumedFile, ViewCompaction, ViewVacuum};

use super::changes::agree;
use crate::{
    args::{Format, Global, Vacuum},
    deployment,
    exit::{Exit, Failure},
    json, output,
};

pub(crate) async fn compact(global: &Global, views: Vec<ViewName>) -> Result<Exit, Failure> {
    let done = deployment::open(global).await?.compact(&views).await?;
    match global.format {
        Format::Json => output::json(&done.iter().map(json::compaction).collect::<Vec<_>>())?,
        Format::Table => output::rows(
            &["view", "files", "rows moved", "time", "what was done"],
            done.iter().map(compaction).collect(),
        )?,
    }
    Ok(Exit::Done)
}

fn compaction(done: &ViewCompaction) -> Vec<String> {
    let files = done.files_before - done.files_removed + done.files_added;
    let what = match done {
        ViewCompaction {
            table_version: None,
            ..
        } => "nothing: there are no rows yet".to_owned(),
        ViewCompaction {
            files_removed: 0, ..
        } => "nothing: it is compact".to_owned(),
        done => format!(
            "put {} of {} into {} of {}",
            counted(done.files_removed),
            output::bytes(done.bytes_removed),
            counted(done.files_added),
            output::bytes(done.bytes_added),
        ),
    };
    vec![
        done.view.to_string(),
        output::count(files),
        output::count(done.rows),
        output::seconds(done.micros),
        what,
    ]
}

pub(crate) async fn vacuum(global: &Global, args: Vacuum) -> Result<Exit, Failure> {
    let operations = deployment::open(global).await?;
    let mut request = VacuumRequest {
        views: args.views,
        retention: args.retention,
        dry_run: true,
    };
    if args.dry_run {
        let found = operations.vacuum(&request).await?;
        show(global, &found)?;
        return Ok(Exit::Done);
    }
    if !args.yes {
        let found = operations.vacuum(&request).await?;
        if found.files() == 0 {
            show(global, &found)?;
            return Ok(Exit::Done);
        }
        if global.format == Format::Table {
            show(global, &found)?;
        }
        let question = format!("Delete {} for good?", counted(found.files()));
        agree(false, &question)?;
    }
    request.dry_run = false;
    let deleted = operations.vacuum(&request).await?;
    match global.format {
        Format::Table if !args.yes => {
            output::say(format_args!("deleted {}", counted(deleted.files())));
        }
        _ => show(global, &deleted)?,
    }
    Ok(Exit::Done)
}

/// The files that are not needed, one per row, and what is kept on stderr.
fn show(global: &Global, done: &Vacuumed) -> Result<(), Failure> {
    if global.format == Format::Json {
        return Ok(output::json(&json::vacuumed(done))?);
    }
    let views = done.views.iter();
    let views = views.map(|view| (view.view.to_string(), &view.deleted));
    let folders = done.folders.iter();
    let folders = folders.map(|folder| (folder.folder.clone(), &folder.deleted));
    let mut files = Vec::new();
    for (place, deleted) in views.chain(folders) {
        let rows = deleted.iter();
        files.extend(rows.map(|file| {
            let (path, bytes) = (file.path.clone(), output::bytes(file.bytes));
            vec![place.clone(), path, bytes]
        }));
    }
    if !files.is_empty() {
        output::rows(&["view or folder", "not needed", "size"], files)?;
    }
    for view in &done.views {
        output::say(told(view));
    }
    for folder in &done.folders {
        output::say(needs(&folder.folder, &folder.deleted, folder.retained));
    }
    Ok(())
}

/// One line on a view.
fn told(view: &ViewVacuum) -> String {
    let mut text = needs(&view.view.to_string(), &view.deleted, view.retained);
    if !view.pinned.is_empty() {
        text += &format!(
            "; {} kept for saved datasets",
            counted(view.pinned.len() as u64)
        );
    }
    for version in &view.lost_versions {
        text += &format!("; version {version}, which a saved dataset needs, can no longer be read");
    }
    text
}

/// What is not needed of a place, and what may be.
fn needs(place: &str, deleted: &[VacuumedFile], retained: u64) -> String {
    let bytes = deleted.iter().map(|file| file.bytes).sum();
    let mut text = match deleted.len() as u64 {
        0 => format!("{place}: nothing to delete"),
        files => format!(
            "{place}: {} of {} not needed",
            counted(files),
            output::bytes(bytes)
        ),
    };
    if retained > 0 {
        text += &format!(
            "; {} kept until the retention has run out",
            counted(retained)
        );
    }
    text
}

fn counted(files: u64) -> String {
    match files {
        1 => "1 file".to_owned(),
        files => format!("{} files", output::count(files)),
    }
}
