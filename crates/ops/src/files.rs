//! Files of rows on this machine: entity rows in, training rows out, in Parquet, CSV or Arrow by extension.

use std::path::Path;

use arrow::array::Array as _;
use futures::{StreamExt as _, TryStreamExt as _};
use vintner_core::{Column, FeatureType, JoinKey, KeySchema, arrow_values::value_at};
use vintner_offline::stream::{DataFusionError, RecordBatchStreamAdapter};
use vintner_offline::{
    historical::{self, ResultFile},
    sources::normalise,
};

use crate::{
    api::{EntityColumn, EntityRows, HistoricalReport, TrainingRows},
    error::{Fault, OpsError},
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

/// The entities of a file: one value per row of each of these join keys. Its other columns say nothing.
///
/// # Errors
/// When the file is missing, broken, or of an unknown format, has no column for a join key, or a value that is none of the
/// key's type.
pub async fn read_entities(path: &Path, keys: &KeySchema) -> Result<Vec<EntityColumn>, OpsError> {
    let refused =
        |message: String| OpsError::new(Fault::Data, format!("{}: {message}", path.display()));
    let (rows, _) = read_entity_rows(path, keys.join_keys()).await?;
    let schema = rows.schema;
    let batches: Vec<_> = rows.batches.try_collect().await?;
    let columns = keys.join_keys().iter().map(|key| {
        let name = key.name.as_str();
        if schema.field_with_name(name).is_err() {
            let found: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            return Err(refused(format!(
                "there is no column for the join key `{name}` ({}); the columns are {}",
                key.key_type,
                found.join(", ")
            )));
        }
        let kind = FeatureType::Scalar(key.key_type.scalar());
        let (mut values, mut before) = (Column::with_capacity(kind, 0), 0);
        for batch in &batches {
            let Some(column) = batch.column_by_name(name) else {
                continue;
            };
            let column = normalise(name, column, kind).map_err(|lossy| {
                refused(format!(
                    "row {}, column `{name}`: `{}` is not a value of the {} join key",
                    before + lossy.row + 1,
                    lossy.value,
                    key.key_type
                ))
            })?;
            for row in 0..column.len() {
                let value = value_at(&column, kind, row);
                let pushed = values.push(value.as_ref());
                pushed.map_err(|error| OpsError::from_error(Fault::Internal, error))?;
            }
            before += column.len();
        }
        Ok(EntityColumn {
            name: name.to_owned(),
            values,
        })
    });
    columns.collect()
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
                fault: Fault::Store,
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
