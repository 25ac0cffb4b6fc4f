//! Files of rows on this machine: entity rows in, training rows out, in Parquet, CSV or Arrow by extension.

use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _};
use vintner_core::JoinKey;
use vintner_offline::historical::{self, ResultFile};
use vintner_offline::stream::{DataFusionError, RecordBatchStreamAdapter};

use crate::{
    api::{EntityRows, HistoricalReport, TrainingRows},
    error::OpsError,
    local::historical_error,
};

/// The rows of a file, and how many there are where the file says it. The join keys say how those columns of a CSV file
/// are read.
///
/// # Errors
/// When the file is missing, broken, or of an unknown format.
pub async fn read_entity_rows(
    path: &Path,
    keys: &[JoinKey],
) -> Result<(EntityRows, Option<u64>), OpsError> {
    let rows = historical::EntityRows::open(path, keys)
        .await
        .map_err(historical_error)?;
    let (schema, count) = (rows.schema().clone(), rows.count());
    let batches = rows
        .into_stream()
        .map_err(|error| historical_error(error.into()))
        .boxed();
    Ok((EntityRows { schema, batches }, count))
}

/// Writes training rows to a file, which is there afterwards, whole, or not at all. `progress` is told the rows of
/// each batch.
///
/// # Errors
/// The rows' own, and when the file cannot be written.
pub async fn write_training_rows(
    path: &Path,
    rows: TrainingRows,
    progress: impl Fn(usize) + Send + 'static,
) -> Result<HistoricalReport, OpsError> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|error| {
            let message = format!("could not make the folder {}", folder.display());
            OpsError {
                fault: crate::Fault::Store,
                message,
                source: Some(Box::new(error)),
            }
        })?;
    }
    let file = ResultFile::prepare(path, &rows.schema).map_err(historical_error)?;
    let batches = rows
        .batches
        .map_err(|error| DataFusionError::External(Box::new(error)));
    let batches = batches.inspect_ok(move |batch| progress(batch.num_rows()));
    let stream = Box::pin(RecordBatchStreamAdapter::new(rows.schema, batches));
    file.write(stream).await.map_err(historical_error)?;
    Ok(rows.report.await.unwrap_or_default())
}
