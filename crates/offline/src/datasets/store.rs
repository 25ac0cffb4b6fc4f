//! Where a project's saved datasets are: `<offline_store>/<project>/_datasets/<name>/`, with `manifest.json` and the entity
//! rows. No view's folder, since no view's name begins with `_`.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, path::Path};
use serde::{Deserialize, Serialize};
use url::Url;
use vintner_core::{DatasetName, ProjectName};
use vintner_registry::selection::Suggestion;

use super::{Dataset, DatasetError, Gone, TableRead, kept_rows};
use crate::{
    delta::{DeltaError, OfflineStore},
    maintenance::Pin,
};

const MANIFEST: &str = "manifest.json";
/// The format of manifests that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// How many manifests are read at a time.
const READS_AT_ONCE: usize = 8;

/// The saved datasets of one project.
#[derive(Clone, Debug)]
pub struct Datasets {
    store: OfflineStore,
    project: ProjectName,
    objects: Arc<dyn ObjectStore>,
    location: Url,
}

/// A manifest as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored<D> {
    format: u32,
    #[serde(flatten)]
    dataset: D,
}

/// What is read of a manifest of any format.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Datasets {
    /// The folder, within the project's.
    pub const FOLDER: &str = "_datasets";

    /// Those of a project in an offline store. Nothing is read.
    ///
    /// # Errors
    /// [`DeltaError::Location`] when the store's place makes no path.
    pub fn of(store: &OfflineStore, project: &ProjectName) -> Result<Self, DeltaError> {
        let (objects, url) = store.folder(&format!("{project}/{}/", Self::FOLDER))?;
        Ok(Self {
            store: store.clone(),
            project: project.clone(),
            objects: Arc::new(objects),
            location: url,
        })
    }

    /// The dataset of that name.
    ///
    /// # Errors
    /// [`DatasetError::Unknown`]; [`DatasetError`] when it cannot be read.
    pub async fn get(&self, name: &DatasetName) -> Result<Dataset, DatasetError> {
        match self.find(name).await? {
            Some(dataset) => Ok(dataset),
            None => {
                let names = self.names().await?;
                let names = names.iter().map(DatasetName::as_str);
                Err(DatasetError::Unknown {
                    suggestion: Suggestion::among(name.as_str(), names),
                    name: name.clone(),
                })
            }
        }
    }

    /// All of them, in the order of their names.
    ///
    /// # Errors
    /// [`DatasetError`] when one of them cannot be read.
    pub async fn list(&self) -> Result<Vec<Dataset>, DatasetError> {
        let found = stream::iter(self.names().await?)
            .map(|name| async move { self.find(&name).await })
            .buffered(READS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        // A folder without a manifest is what a save that died has left.
        Ok(found.into_iter().flatten().collect())
    }

    /// The table versions that datasets need, which `vacuum` must keep.
    ///
    /// # Errors
    /// [`DatasetError`] when a dataset cannot be read: then nobody knows what it needs.
    pub async fn pins(&self) -> Result<Vec<Pin>, DatasetError> {
        let datasets = self.list().await?;
        let tables = datasets.into_iter().flat_map(|dataset| dataset.tables);
        let pins: BTreeSet<Pin> = tables
            .filter_map(|table| Some((table.view, table.delta_version?)))
            .collect();
        Ok(pins.into_iter().collect())
    }

    /// Says when a name is taken.
    ///
    /// # Errors
    /// [`DatasetError::Taken`]; [`DatasetError`] when that cannot be found out.
    pub async fn check_free(&self, name: &DatasetName) -> Result<(), DatasetError> {
        match self.find(name).await? {
            None => Ok(()),
            Some(other) => Err(taken(other)),
        }
    }

    /// Saves a dataset, whose entity rows are kept already. When this returns well, it is durable.
    ///
    /// # Errors
    /// [`DatasetError::Taken`] when the name is; then the entity rows are taken away again.
    pub async fn save(&self, dataset: &Dataset) -> Result<(), DatasetError> {
        let name = &dataset.name;
        let stored = Stored {
            format: FORMAT,
            dataset,
        };
        let bytes = serde_json::to_vec_pretty(&stored).map_err(|e| self.manifest_error(name, e))?;
        let path = manifest_path(name);
        let put = self
            .objects
            .put_opts(&path, bytes.into(), PutMode::Create.into())
            .await;
        let Err(error) = put else {
            return Ok(());
        };
        match self.find(name).await? {
            // Only the answer got lost on the way.
            Some(found) if found == *dataset => Ok(()),
            Some(other) => {
                let rows = Path::from(name.as_str()).join(dataset.entity_rows.file.as_str());
                if let Err(error) = self.objects.delete(&rows).await {
                    tracing::debug!(%rows, "could not take back kept entity rows: {error}");
                }
                Err(taken(other))
            }
            None => Err(self.store_error(format!("save the dataset `{name}`"), error)),
        }
    }

    /// The kept entity rows of a dataset: their columns, and the batches as they came. When they are not the rows that
    /// were saved, the stream ends in an error.
    ///
    /// # Errors
    /// [`DatasetError`] when they cannot be read.
    pub async fn entity_rows(
        &self,
        dataset: &Dataset,
    ) -> Result<
        (
            SchemaRef,
            BoxStream<'static, Result<RecordBatch, DatasetError>>,
        ),
        DatasetError,
    > {
        kept_rows::read(self, dataset).await
    }

    /// Everything that is gone of what a dataset was made from, the registry aside.
    ///
    /// # Errors
    /// [`DatasetError`] when that cannot be found out.
    pub async fn gone(&self, dataset: &Dataset) -> Result<Vec<Gone>, DatasetError> {
        let mut gone = Vec::new();
        let file = &dataset.entity_rows.file;
        let path = Path::from(dataset.name.as_str()).join(file.as_str());
        match self.objects.head(&path).await {
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => {
                gone.push(Gone::EntityRows { file: file.clone() });
            }
            Err(source) => {
                let what = format!("look for the entity rows of the dataset `{}`", dataset.name);
                return Err(self.store_error(what, source));
            }
        }
        for table in &dataset.tables {
            gone.extend(self.gone_of(table).await?);
        }
        Ok(gone)
    }

    async fn gone_of(&self, read: &TableRead) -> Result<Option<Gone>, DatasetError> {
        let Some(version) = read.delta_version else {
            return Ok(None);
        };
        let view = read.view.clone();
        let table = self.store.table(&self.project, &view)?;
        let state = match table.at(version).await {
            Ok(state) => state,
            Err(DeltaError::NoSuchVersion { .. }) => {
                return Ok(Some(Gone::Version { view, version }));
            }
            Err(error) => return Err(error.into()),
        };
        if read.delta_id.as_deref().is_some_and(|id| id != state.id()) {
            return Ok(Some(Gone::Table { view, version }));
        }
        let objects = table.objects();
        let there: BTreeSet<String> = objects
            .list(None)
            .map_ok(|object| object.location.to_string())
            .try_collect()
            .await
            .map_err(|source| {
                let what = format!("list the files of {view}");
                DatasetError::Store {
                    what,
                    location: table.location().to_owned(),
                    source,
                }
            })?;
        let files = state.files();
        let paths = files.iter().map(|file| file.path());
        let missing: Vec<_> = paths.filter(|path| !there.contains(path)).collect();
        Ok((!missing.is_empty()).then_some(Gone::Files {
            view,
            version,
            missing,
            of: files.len(),
        }))
    }

    /// The names of the folders that there are.
    pub(super) async fn names(&self) -> Result<Vec<DatasetName>, DatasetError> {
        let listed = self.objects.list_with_delimiter(None).await;
        let listed =
            listed.map_err(|source| self.store_error("list the datasets".to_owned(), source))?;
        let names = listed.common_prefixes.iter().filter_map(Path::filename);
        let mut names: Vec<DatasetName> = names.filter_map(|name| name.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    pub(super) async fn find(&self, name: &DatasetName) -> Result<Option<Dataset>, DatasetError> {
        let what = || format!("read the manifest of the dataset `{name}`");
        let found = match self.objects.get(&manifest_path(name)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(self.store_error(what(), source)),
        };
        let bytes = found.bytes().await;
        let bytes = bytes.map_err(|source| self.store_error(what(), source))?;
        let failed = |error| self.manifest_error(name, error);
        let Format { format } = serde_json::from_slice(&bytes).map_err(failed)?;
        if format > FORMAT {
            return Err(DatasetError::Manifest {
                name: name.clone(),
                location: self.location.to_string(),
                source: format!(
                    "it is of format {format}, and this version reads up to {FORMAT}; use a newer Vintner"
                )
                .into(),
            });
        }
        let stored: Stored<Dataset> = serde_json::from_slice(&bytes).map_err(failed)?;
        if stored.dataset.name != *name {
            return Err(DatasetError::Manifest {
                name: name.clone(),
                location: self.location.to_string(),
                source: format!(
                    "it is of the dataset `{}`: it was copied or renamed",
                    stored.dataset.name
                )
                .into(),
            });
        }
        Ok(Some(stored.dataset))
    }

    /// Where they are, for people.
    pub fn location(&self) -> &str {
        self.location.as_str()
    }

    /// The folder of a dataset, when it is one of the machine's file system.
    pub(super) fn folder(&self, name: &DatasetName) -> Option<PathBuf> {
        let local = self.location.scheme() == "file";
        let folder = local.then(|| self.location.to_file_path().ok())??;
        Some(folder.join(name.as_str()))
    }

    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    pub(super) fn store_error(&self, what: String, source: object_store::Error) -> DatasetError {
        DatasetError::Store {
            what,
            location: self.location.to_string(),
            source,
        }
    }

    pub(super) fn rows_error(
        &self,
        what: &'static str,
        name: &DatasetName,
        source: ArrowError,
    ) -> DatasetError {
        DatasetError::Rows {
            what,
            name: name.clone(),
            location: self.location.to_string(),
            source,
        }
    }

    fn manifest_error(&self, name: &DatasetName, error: serde_json::Error) -> DatasetError {
        DatasetError::Manifest {
            name: name.clone(),
            location: self.location.to_string(),
            source: Box::new(error),
        }
    }
}

fn manifest_path(name: &DatasetName) -> Path {
    Path::from(name.as_str()).join(MANIFEST)
}

fn taken(other: Dataset) -> DatasetError {
    DatasetError::Taken {
        name: other.name,
        created_at: other.created_at,
        author: other.author,
    }
}
