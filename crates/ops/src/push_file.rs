//! Pushes a file: checked as a whole, then batch by batch, so that a push that was cut short goes on where it stopped.
//!
//! The producer is the file itself: a hash of its bytes. A batch's number is its sequence. So whoever pushes the same file
//! again writes what is missing, and nothing twice.

use std::path::Path;

use vintner_core::{Timestamp, ViewName};
use vintner_offline::push::{PushFile, PushFileError};

use crate::{
    Operations,
    api::{Detail, ObjectKind, Producer, PushOutcome, PushRequest, ViewDetail, WriteToken},
    error::{Fault, OpsError},
};

/// How many rows are pushed at a time, which every service takes unless it was told to take less.
pub const BATCH_ROWS: usize = 10_000;

/// What the push of a file has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The view version.
    pub view: vintner_core::ViewId,
    /// Rows of the file.
    pub rows: u64,
    /// Rows that an earlier push of the same file had written.
    pub already_there: u64,
    /// Rows that took their place in the online store now.
    pub online: u64,
    /// Rows that are in the table only, since the online store has later ones.
    pub late: u64,
    /// For reads that must see the rows; none when there are no rows.
    pub token: Option<WriteToken>,
}

/// Pushes the rows of a file to the current version of a view. `progress` is told how many rows of how many are written.
///
/// # Errors
/// When a row is refused, nothing has been written. Any other error may leave the first rows written; the same call writes
/// the others.
pub async fn push_file(
    operations: &dyn Operations,
    view: &ViewName,
    path: &Path,
    now: Timestamp,
    batch_rows: usize,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<FileReport, OpsError> {
    let detail = operations
        .show(ObjectKind::FeatureView, view.as_str())
        .await?;
    let Detail::FeatureView(detail) = detail else {
        return Err(OpsError::new(
            Fault::Internal,
            format!("{view} is no feature view"),
        ));
    };
    let ViewDetail { revision, .. } = *detail;
    let file = PushFile::new(path, batch_rows).map_err(file_error)?;
    let id = revision.id.clone();
    let (name, rows) = blocking({
        let (file, revision) = (file.clone(), revision.clone());
        move || {
            let rows = file.check(&revision, now)?;
            Ok((format!("file-{}", file.fingerprint()?), rows))
        }
    })
    .await?;
    let mut report = FileReport {
        view: id.clone(),
        rows,
        already_there: 0,
        online: 0,
        late: 0,
        token: None,
    };
    let mut batches = blocking(move || file.batches(&revision)).await?;
    let mut done = 0;
    for sequence in 1.. {
        let (next, rest) = blocking(move || Ok((batches.next().transpose()?, batches))).await?;
        batches = rest;
        let Some(rows) = next else { break };
        let count = rows.num_rows() as u64;
        let request = PushRequest {
            view: id.name.clone(),
            version: Some(id.version),
            rows,
            producer: Some(Producer {
                name: name.clone(),
                sequence,
            }),
        };
        let pushed = operations.push(&request).await?;
        if pushed.outcome == PushOutcome::AlreadyThere {
            report.already_there += count;
        }
        report.online += pushed.online;
        report.late += pushed.late;
        report.token = Some(pushed.token);
        done += count;
        progress(done, report.rows);
    }
    Ok(report)
}

/// Runs what reads files where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PushFileError> + Send + 'static,
) -> Result<T, OpsError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended
        .map_err(|error| OpsError::from_error(Fault::Internal, error))?
        .map_err(file_error)
}

fn file_error(error: PushFileError) -> OpsError {
    let fault = match &error {
        PushFileError::Format(_) => Fault::Request,
        PushFileError::Read { .. } | PushFileError::Line { .. } | PushFileError::Rows { .. } => {
            Fault::Data
        }
    };
    OpsError::from_error(fault, error)
}
