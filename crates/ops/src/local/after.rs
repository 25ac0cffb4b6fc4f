//! Reads that must see rows that were pushed: they see them, or fail.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use vintner_core::{ProjectName, ViewId};
use vintner_offline::{delta::OpenTable, materialize::OnlineCursor};
use vintner_online::{Load, OnlineStore};

use super::online::online_error;
use crate::{
    api::{After, WriteToken},
    error::{Fault, OpsError},
};

/// The first wait for a store that is behind; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Refuses tables that are older than what was pushed.
///
/// # Errors
/// [`Fault::Request`] for a token of something else than is read, [`Fault::Behind`].
pub(super) fn tables(
    project: &ProjectName,
    tables: &[OpenTable],
    tokens: &[WriteToken],
) -> Result<(), OpsError> {
    for token in tokens {
        let views = tables.iter().map(OpenTable::view);
        check_place(project, views, token)?;
        let table = tables.iter().find(|table| table.view() == token.view());
        let version = table.and_then(OpenTable::version);
        if version < Some(token.table_version()) {
            return Err(OpsError::new(
                Fault::Behind,
                format!(
                    "the table of {} is at {}, and the rows that must be seen are in version {}; this is not the \
                     offline store that they were pushed to, or an older copy of it",
                    token.view(),
                    version.map_or("no version".to_owned(), |v| format!("version {v}")),
                    token.table_version(),
                ),
            ));
        }
    }
    Ok(())
}

/// Waits until the online store has what was pushed.
///
/// # Errors
/// [`Fault::Request`] for a token of something else than is read, [`Fault::Behind`] when the patience is over.
pub(super) async fn online(
    store: &dyn OnlineStore,
    project: &ProjectName,
    views: &[&ViewId],
    after: &After,
) -> Result<(), OpsError> {
    let until = Instant::now() + after.patience;
    let mut wait = FIRST_WAIT;
    for token in &after.tokens {
        check_version(views, token)?;
        check_place(project, views.iter().copied(), token)?;
        loop {
            let load = store.load(project, token.view()).await;
            let loaded = match has(&load.map_err(online_error)?, token) {
                Ok(()) => break,
                Err(loaded) => loaded,
            };
            if until <= Instant::now() {
                return Err(behind(token, loaded));
            }
            sleep_until(until.min(Instant::now() + wait)).await;
            wait = LONGEST_WAIT.min(wait * 2);
        }
    }
    Ok(())
}

/// Whether a store has what a token stands for; if not, the version of the table that it is loaded up to.
fn has(load: &Load, token: &WriteToken) -> Result<(), Option<u64>> {
    if token.is_of_life(&load.life) {
        return Ok(());
    }
    let progress = load.progress.as_deref();
    let cursor = progress
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(OnlineCursor::from_json);
    let loaded = cursor.map(|cursor| cursor.table_version());
    match loaded >= Some(token.table_version()) {
        true => Ok(()),
        false => Err(loaded),
    }
}

fn behind(token: &WriteToken, loaded: Option<u64>) -> OpsError {
    let loaded = match loaded {
        Some(version) => format!("is loaded up to version {version} of the table"),
        None => "has not been loaded from the table".to_owned(),
    };
    OpsError::new(
        Fault::Behind,
        format!(
            "the online store was started again or emptied since the rows of {view} were pushed, and {loaded}; the rows \
             that must be seen are in version {wanted}; `vintner materialize {name}` brings them back",
            view = token.view(),
            wanted = token.table_version(),
            name = token.view().name,
        ),
    )
}

/// Refuses a token of a newer version of a view than the one that is served.
fn check_version(views: &[&ViewId], token: &WriteToken) -> Result<(), OpsError> {
    let of_token = token.view();
    let older = |view: &&&ViewId| view.name == of_token.name && view.version < of_token.version;
    match views.iter().find(older) {
        None => Ok(()),
        Some(view) => Err(OpsError::new(
            Fault::Behind,
            format!(
                "the rows that must be seen are of {of_token}, and {view} is what is read: a new version is served once it \
                 has been loaded as a whole, which `vintner materialize {}` does",
                of_token.name
            ),
        )),
    }
}

/// Refuses a token of another project, or of a view version that is not read.
fn check_place<'a>(
    project: &ProjectName,
    mut views: impl Iterator<Item = &'a ViewId> + Clone,
    token: &WriteToken,
) -> Result<(), OpsError> {
    if token.project() != project {
        return Err(OpsError::new(
            Fault::Request,
            format!(
                "a token is of the project `{}`, and this is `{project}`; give the token to reads of its project",
                token.project()
            ),
        ));
    }
    let known: Vec<_> = views.clone().map(ToString::to_string).collect();
    match views.any(|view| view == token.view()) {
        true => Ok(()),
        false => Err(OpsError::new(
            Fault::Request,
            format!(
                "a token is of {}, and the features that are asked for are of {}; give tokens of these alone",
                token.view(),
                known.join(", ")
            ),
        )),
    }
}
