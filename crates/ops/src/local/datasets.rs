//! Saved training datasets: what is kept of one while it is made, and how it is made again.

use std::{future::Future, sync::Arc};

use arrow::datatypes::Schema;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::oneshot;
use vintner_core::{DatasetName, ProjectName, Timestamp};
use vintner_offline::{
    datasets::{DatasetError, Datasets, Gone, KeptRowsWriter, RowsHasher},
    delta::OfflineStore,
    feature_table::FeatureTable,
    historical::DatasetPlan,
    stream::SessionContext,
};
use vintner_registry::{
    model::{Snapshot, ViewRevision},
    store::{RegistryError, RegistryStore},
};

use super::{
    registry_error,
    training::{self, Begun},
};
use crate::{
    api::{
        BatchStream, Dataset, EntityRows, HistoricalRequest, KeptRows, ResultRows, SaveAs,
        TableRead, TrainingRows,
    },
    error::{Fault, OpsError, chain},
};

/// How many tables' logs are read at a time.
const LOGS_READ_AT_ONCE: usize = 16;

/// The saved datasets of a project.
pub(super) fn of(offline: &OfflineStore, project: &ProjectName) -> Result<Datasets, OpsError> {
    Datasets::of(offline, project).map_err(|error| dataset_error(error.into()))
}

/// Makes training rows and saves the dataset: it is there when the last batch has been taken.
pub(super) async fn save(
    begun: Begun,
    offline: &OfflineStore,
    (project, snapshot): (&ProjectName, &Snapshot),
    (request, save): (&HistoricalRequest, &SaveAs),
    plan: DatasetPlan,
    entity_rows: EntityRows,
    now: Timestamp,
) -> Result<TrainingRows, OpsError> {
    let datasets = of(offline, project)?;
    // Said before the work; of those who save at the same time, the last step lets one through.
    datasets
        .check_free(&save.name)
        .await
        .map_err(dataset_error)?;
    // First which versions there are, then just these are read.
    let reads = newest(offline, project, &plan.views).await?;
    let tables = tables(offline, project, &plan.views, &reads).await?;
    let (entity_rows, kept) = keep(&datasets, &save.name, entity_rows)?;
    let (version, request, save) = (snapshot.version, request.clone(), save.clone());
    training::join(begun, plan, tables, entity_rows, version, |schema, rows| {
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
        save: None,
    };
    let plan = training::plan(project_then, &request, &entity_rows.schema)?;
    let tables = tables(offline, project, &plan.views, &dataset.tables).await?;
    let expected = dataset.result.clone();
    let name = name.clone();
    training::join(begun, plan, tables, entity_rows, version, |schema, rows| {
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

/// The newest versions of views' tables.
async fn newest(
    offline: &OfflineStore,
    project: &ProjectName,
    views: &[Arc<ViewRevision>],
) -> Result<Vec<TableRead>, OpsError> {
    stream::iter(views.to_vec())
        .map(|view| async move {
            let state = offline.table(project, &view.id)?.newest().await?;
            Ok(TableRead {
                view: view.id.clone(),
                delta_version: state.as_ref().map(|state| state.version()),
                delta_id: state.map(|state| state.id().to_owned()),
            })
        })
        .buffered(LOGS_READ_AT_ONCE)
        .try_collect()
        .await
        .map_err(|error: DatasetError| dataset_error(error))
}

/// Views' tables as they were read, in the order of the views.
async fn tables(
    offline: &OfflineStore,
    project: &ProjectName,
    views: &[Arc<ViewRevision>],
    reads: &[TableRead],
) -> Result<Vec<FeatureTable>, OpsError> {
    let pairs: Vec<_> = views.iter().cloned().zip(reads.iter().cloned()).collect();
    let is_same = pairs.iter().all(|(view, read)| view.id == read.view);
    if !is_same || views.len() != reads.len() {
        return Err(OpsError::new(
            Fault::Store,
            "the dataset's manifest names other feature views than its features come from; restore it from a backup",
        ));
    }
    stream::iter(pairs)
        .map(|(view, read)| async move {
            match read.delta_version {
                Some(version) => offline.feature_table(project, &view, Some(version)).await,
                None => {
                    let table = offline.table(project, &view.id)?;
                    Ok(FeatureTable::empty(table.location()))
                }
            }
        })
        .buffered(LOGS_READ_AT_ONCE)
        .try_collect()
        .await
        .map_err(|error| OpsError::from_error(Fault::Store, error))
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
