//! `delete`

use std::path::Path;

use vintner_ops::{
    Operations,
    api::{DEFAULT_RETENTION, DeleteRequest, Deleted, EntityColumn, TeardownTarget, ViewDeletion},
    files,
};
use vintner_registry::selection::FeatureRequest;

use super::{changes::agree, online::entity_columns};
use crate::{
    args::{Delete, Format, Global},
    deployment,
    exit::{Exit, Failure},
    json, output,
};

pub(crate) async fn delete(global: &Global, args: Delete) -> Result<Exit, Failure> {
    let operations = deployment::open(global).await?;
    let entities = match &args.entities.entity_rows {
        Some(file) => columns_of(operations.as_ref(), &args.target, file).await?,
        None => entity_columns(&args.entities.entities)?,
    };
    let mut request = DeleteRequest {
        target: args.target,
        entities,
        dry_run: true,
        author: deployment::author(),
    };
    if args.dry_run || !args.yes {
        let found = operations.delete(&request).await?;
        if args.dry_run {
            return tell(global, &found, &would_be(&found));
        }
        if let Some(question) = question(&found) {
            agree(false, &question)?;
        }
    }
    request.dry_run = false;
    let done = operations.delete(&request).await?;
    let told = told(&done, &request.target);
    tell(global, &done, &told)
}

fn tell(global: &Global, deleted: &Deleted, text: &str) -> Result<Exit, Failure> {
    match global.format {
        Format::Json => output::json(&json::deleted(deleted))?,
        Format::Table => output::text(text)?,
    }
    Ok(Exit::Done)
}

/// The join keys in a file.
async fn columns_of(
    operations: &dyn Operations,
    target: &TeardownTarget,
    file: &Path,
) -> Result<Vec<EntityColumn>, Failure> {
    let reference = target.to_string();
    let features = FeatureRequest::Features(vec![reference.parse().map_err(Failure::input)?]);
    let keys = operations.join_keys(&features).await?;
    Ok(files::read_entities(file, &keys).await?)
}

/// What is asked before anything is deleted; none when there is nothing.
fn question(found: &Deleted) -> Option<String> {
    let views = found.views.iter().filter(|view| view.found > 0);
    let views: Vec<_> = views
        .map(|view| {
            format!(
                "{} of {} in the table and {} online",
                counted(view.rows, "row", "rows"),
                view.view,
                output::count(view.online_rows),
            )
        })
        .collect();
    (!views.is_empty()).then(|| format!("Delete {} for good?", views.join(", and ")))
}

/// What would be deleted, in words.
fn would_be(found: &Deleted) -> String {
    let views = found.views.iter().map(|view| {
        format!(
            "{}: {} of {} would be deleted from the table, {} online; {}",
            view.view,
            counted(view.rows, "row", "rows"),
            counted(view.found, "entity", "entities"),
            output::count(view.online_rows),
            not_found(view)
        )
    });
    views.chain(retired(found)).collect::<Vec<_>>().join("\n")
}

/// What was deleted, in words, and what is left of it where.
fn told(done: &Deleted, target: &TeardownTarget) -> String {
    let mut lines = Vec::new();
    for view in &done.views {
        lines.push(format!(
            "{}: deleted {} of {} from the table, {} online, in {}; {}",
            view.view,
            counted(view.rows, "row", "rows"),
            counted(view.found, "entity", "entities"),
            output::count(view.online_rows),
            output::seconds(view.micros),
            not_found(view)
        ));
        lines.push(match view.table_version {
            Some(version) => format!(
                "  versions of the table before {version} can still be read, until `vintner vacuum {}` deletes their \
                 files, {DEFAULT_RETENTION} from now or after its --retention",
                view.view.name
            ),
            None => "  it has no table yet: its first run computes what the sources have of these entities"
                .to_owned(),
        });
        if !view.datasets.is_empty() {
            let names: Vec<_> = view.datasets.iter().map(|name| name.as_str()).collect();
            lines.push(format!(
                "  saved datasets keep older versions, and may have rows of these entities: {}",
                names.join(", ")
            ));
        }
    }
    lines.extend(retired(done));
    if done.views.iter().any(|view| view.table_version.is_some()) {
        lines.push(format!(
            "runs leave out rows of these entities of up to now, also with --full-refresh; what the sources have stays \
             there, and a new version of {} is computed from it",
            target.name
        ));
    }
    lines.join("\n")
}

fn not_found(view: &ViewDeletion) -> String {
    match view.entities - view.found {
        0 => "all were found".to_owned(),
        missing => format!("{} not found", counted(missing, "entity", "entities")),
    }
}

fn retired(deleted: &Deleted) -> impl Iterator<Item = String> {
    deleted.retired.iter().map(|view| {
        format!("{view} is retired and still stored; `vintner teardown {view}` deletes all of it")
    })
}

pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", output::count(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletion(view: &str, found: u64) -> ViewDeletion {
        ViewDeletion {
            view: view.parse().unwrap(),
            entities: 3,
            found,
            rows: 1200 * found,
            online_rows: found,
            table_version: (found > 0).then_some(7),
            files_removed: 2,
            files_added: 1,
            bytes_added: 4096,
            datasets: match found {
                3 => vec!["churn".parse().unwrap(), "other".parse().unwrap()],
                _ => vec![],
            },
            micros: 12_345,
        }
    }

    #[test]
    fn it_is_said_what_is_deleted_and_what_is_left() {
        let mut done = Deleted {
            views: vec![deletion("profile@3", 3), deletion("profile@2", 1)],
            retired: vec!["profile@1".parse().unwrap()],
        };
        let target = "profile".parse().unwrap();
        let mut text = [
            would_be(&done),
            question(&done).unwrap(),
            told(&done, &target),
        ]
        .join("\n\n");
        done = Deleted {
            views: vec![deletion("profile@3", 0)],
            retired: vec![],
        };
        assert_eq!(question(&done), None);
        text += &["", &would_be(&done), &told(&done, &target)].join("\n\n");
        insta::assert_snapshot!(text, @r"
        profile@3: 3,600 rows of 3 entities would be deleted from the table, 3 online; all were found
        profile@2: 1,200 rows of 1 entity would be deleted from the table, 1 online; 2 entities not found
        profile@1 is retired and still stored; `vintner teardown profile@1` deletes all of it

        Delete 3,600 rows of profile@3 in the table and 3 online, and 1,200 rows of profile@2 in the table and 1 online for good?

        profile@3: deleted 3,600 rows of 3 entities from the table, 3 online, in 12 ms; all were found
          versions of the table before 7 can still be read, until `vintner vacuum profile` deletes their files, 7d from now or after its --retention
          saved datasets keep older versions, and may have rows of these entities: churn, other
        profile@2: deleted 1,200 rows of 1 entity from the table, 1 online, in 12 ms; 2 entities not found
          versions of the table before 7 can still be read, until `vintner vacuum profile` deletes their files, 7d from now or after its --retention
        profile@1 is retired and still stored; `vintner teardown profile@1` deletes all of it
        runs leave out rows of these entities of up to now, also with --full-refresh; what the sources have stays there, and a new version of profile is computed from it

        profile@3: 0 rows of 0 entities would be deleted from the table, 0 online; 3 entities not found

        profile@3: deleted 0 rows of 0 entities from the table, 0 online, in 12 ms; 3 entities not found
          it has no table yet: its first run computes what the sources have of these entities
        ");
    }
}
