//! Saved training datasets: what is kept of one while it is made, and how it is made again.

use std::future::Future;

use arrow::datatypes::Schema;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::oneshot;
use vintner_core::{DatasetName, ProjectName, RegistryVersion, Timestamp};
use vintner_offline::{
    datasets::{DatasetError, Datasets, Gone, KeptRowsWriter, RowsHasher},
    delta::OfflineStore,
    stream::SessionContext,
};
use vintner_registry::store::{RegistryError, RegistryStore};

use super::{
    registry_error, tables,
    training::{self, Begun, Inputs},
};
use crate::{
    api::{
        BatchStream, Dataset, EntityRows, HistoricalRequest, KeptRows, ResultRows, SaveAs,
        TrainingRows,
    },
    error::{Fault, OpsError, chain},
};

/// The saved datasets of a project.
pub(super) fn of(offline: &OfflineStore, project: &ProjectName) -> Result<Datasets, OpsError> {
    Datasets::of(offline, project).map_err(|error| dataset_error(error.into()))
}

/// A dataset that shall be saved under a name that is free.
pub(super) struct Saving {
    datasets: Datasets,
    save: SaveAs,
}

/// Says before the work when a name is taken. Of those who save at the same time, the last step lets one through.
pub(super) async fn begin(
    offline: &OfflineStore,
    project: &ProjectName,
    save: &SaveAs,
) -> Result<Saving, OpsError> {
    let datasets = of(offline, project)?;
    datasets
        .check_free(&save.name)
        .await
        .map_err(dataset_error)?;
    let save = save.clone();
    Ok(Saving { datasets, save })
}

/// Makes training rows and saves the dataset: it is there when the last batch has been taken.
pub(super) fn save(
    begun: Begun,
    Saving { datasets, save }: Saving,
    version: RegistryVersion,
    request: &HistoricalRequest,
    inputs: Inputs,
    now: Timestamp,
) -> Result<TrainingRows, OpsError> {
    let reads = tables::reads(&inputs.tables);
    let (entity_rows, kept) = keep(&datasets, &save.name, inputs.entity_rows)?;
    let inputs = Inputs {
        entity_rows,
        ..inputs
    };
    let request = request.clone();
    training::join(begun, inputs, version, |schema, rows| {
        at_end(schema, rows, move |result| async move {
            let lost = |_| OpsError::new(Fault::Internal, "the entity rows were not kept whole");
            let dataset = Dataset {
                name: save.name,
                created_at: now,
                author: save.author,
                registry_version: version,
                selection: request.features,
                names: request.names,
                knowledge: request.knowledge,
                boundary: request.boundary,
                timestamp_column: request.timestamp_column,
                split: request.split,
                tables: reads,
                entity_rows: kept.await.map_err(lost)?,
                result,
            };
            datasets.save(&dataset).await.map_err(dataset_error)
        })
    })
}

/// Makes the rows of a saved dataset again: of the same table versions, with the registry version of then.
pub(super) async fn reproduce(
    session: SessionContext,
    offline: &OfflineStore,
    registry: &RegistryStore,
    project: &ProjectName,
    name: &DatasetName,
) -> Result<TrainingRows, OpsError> {
    let begun = Begun::with(session);
    let datasets = of(offline, project)?;
    let dataset = datasets.get(name).await.map_err(dataset_error)?;
    let version = dataset.registry_version;
    let mut gone = Vec::new();
    let snapshot = match registry.at(version).await {
        Ok(snapshot) if snapshot.projects.contains_key(project) => Some(snapshot),
        Ok(_) => {
            let reason = format!("it has no project `{project}`");
            gone.push(Gone::Registry { version, reason });
            None
        }
        Err(error @ RegistryError::Store { .. }) => return Err(registry_error(error)),
        Err(error) => {
            let reason = chain(&error);
            gone.push(Gone::Registry { version, reason });
            None
        }
    };
    gone.extend(datasets.gone(&dataset).await.map_err(dataset_error)?);
    let project_then = snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.projects.get(project));
    let Some(project_then) = project_then.filter(|_| gone.is_empty()) else {
        let name = name.clone();
        return Err(dataset_error(DatasetError::Gone { name, gone }));
    };
    let (schema, batches) = datasets
        .entity_rows(&dataset)
        .await
        .map_err(dataset_error)?;
    let entity_rows = EntityRows {
        schema,
        batches: batches.map_err(dataset_error).boxed(),
    };
    let request = HistoricalRequest {
        features: dataset.selection.clone(),
        names: dataset.names,
        knowledge: dataset.knowledge,
        boundary: dataset.boundary,
        timestamp_column: dataset.timestamp_column.clone(),
        split: dataset.split.clone(),
        save: None,
        lint: false,
        after: Vec::new(),
    };
    let selection = training::selection(project_then, &request)?;
    let plan = training::plan(&selection, &request, &entity_rows.schema)?;
    let tables = tables::as_read(offline, project, &plan.views, &dataset.tables).await?;
    let inputs = Inputs {
        plan,
        tables,
        entity_rows,
    };
    let expected = dataset.result.clone();
    let name = name.clone();
    training::join(begun, inputs, version, |schema, rows| {
        at_end(schema, rows, move |found| async move {
            match found == expected {
                true => Ok(()),
                false => Err(differs(&name, &expected, &found)),
            }
        })
    })
}

fn differs(name: &DatasetName, saved: &ResultRows, found: &ResultRows) -> OpsError {
    OpsError::new(
        Fault::Store,
        format!(
            "the dataset `{name}` did not come out as it was saved: {} rows with the hash {}, and now {} rows with {}; \
             a data file was changed in place, or this version of Vintner joins otherwise than the one that saved it",
            saved.rows, saved.hash, found.rows, found.hash
        ),
    )
}

/// The same entity rows, which are kept as they are taken. What was kept is told when the last one has been.
fn keep(
    datasets: &Datasets,
    name: &DatasetName,
    rows: EntityRows,
) -> Result<(EntityRows, oneshot::Receiver<KeptRows>), OpsError> {
    let writer = KeptRowsWriter::new(datasets, name, &rows.schema).map_err(dataset_error)?;
    let (tell, kept) = oneshot::channel();
    let batches = stream::try_unfold(
        (rows.batches, writer, tell),
        |(mut batches, mut writer, tell)| async move {
            match batches.next().await.transpose()? {
                Some(batch) => {
                    writer.write(&batch).await.map_err(dataset_error)?;
                    Ok(Some((batch, (batches, writer, tell))))
                }
                None => {
                    let kept = writer.finish().await.map_err(dataset_error)?;
                    // Nobody listens any more when the answer was dropped.
                    let _ = tell.send(kept);
                    Ok(None)
                }
            }
        },
    );
    let rows = EntityRows {
        schema: rows.schema,
        batches: batches.boxed(),
    };
    Ok((rows, kept))
}

/// The same rows; `end` is done after the last one, and its error is theirs.
fn at_end<End, Ended>(schema: &Schema, rows: BatchStream, end: End) -> Result<BatchStream, OpsError>
where
    End: FnOnce(ResultRows) -> Ended + Send + 'static,
    Ended: Future<Output = Result<(), OpsError>> + Send,
{
    let hasher = RowsHasher::new(schema).map_err(|error| dataset_error(error.into()))?;
    let rows = stream::try_unfold(
        (rows, hasher, end),
        |(mut rows, mut hasher, end)| async move {
            match rows.next().await.transpose()? {
                Some(batch) => {
                    let hashed = hasher.update(&batch);
                    hashed.map_err(|error| OpsError::from_error(Fault::Internal, error))?;
                    Ok(Some((batch, (rows, hasher, end))))
                }
                None => {
                    let result = ResultRows {
                        rows: hasher.rows(),
                        hash: hasher.finish(),
                    };
                    end(result).await.map(|()| None)
                }
            }
        },
    );
    Ok(rows.boxed())
}

/// A dataset's errors, by whose fault they are.
pub(super) fn dataset_error(error: DatasetError) -> OpsError {
    let fault = match error {
        DatasetError::Taken { .. } | DatasetError::Column(_) => Fault::Request,
        DatasetError::Unknown { .. } => Fault::NotFound,
        DatasetError::Rows { .. }
        | DatasetError::Manifest { .. }
        | DatasetError::Changed { .. }
        | DatasetError::Gone { .. }
        | DatasetError::Store { .. }
        | DatasetError::Delta(_) => Fault::Store,
    };
    OpsError::from_error(fault, error)
}
