//! What saves that died have left: entity rows without a manifest that names them.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use object_store::{Error, ObjectMeta, ObjectStore, path::Path};
use vintner_core::{DatasetName, Timestamp, Ttl};

use super::{DatasetError, Datasets, kept_rows};
use crate::maintenance::{Age, DeletedFile, delete_objects, leftovers, micros};

/// What a save under a name has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaved {
    /// The name that the dataset was to have.
    pub name: DatasetName,
    /// Files that were deleted, or would be, by their names in the dataset's folder.
    pub deleted: Vec<DeletedFile>,
    /// How many files are kept, since the save may not have ended yet.
    pub retained: usize,
}

impl Datasets {
    /// Deletes entity rows that no dataset has, once they are a day old and older than the retention before `now`: the
    /// save that kept them may not have ended before. What is of a dataset stays.
    ///
    /// Out: the datasets of which something was found, in the order of their names.
    ///
    /// # Errors
    /// [`DatasetError`] when files cannot be listed or deleted, or a manifest cannot be read. Some may be deleted then.
    pub async fn vacuum(
        &self,
        retention: Ttl,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<Vec<Unsaved>, DatasetError> {
        let age = Age::new(retention, now);
        // Listed before manifests are read: a save that ends meanwhile has its manifest by then.
        let mut kept = self.kept_files().await?;
        let mut found = Vec::new();
        for name in self.names().await? {
            let files = kept.remove(&name).unwrap_or_default();
            let unsaved = self.vacuum_one(name, files, age, dry_run).await?;
            if !unsaved.deleted.is_empty() || unsaved.retained > 0 {
                found.push(unsaved);
            }
        }
        Ok(found)
    }

    async fn vacuum_one(
        &self,
        name: DatasetName,
        files: Vec<(String, ObjectMeta)>,
        age: Age,
        dry_run: bool,
    ) -> Result<Unsaved, DatasetError> {
        let dataset = self.find(&name).await?;
        let of_dataset = dataset.map(|dataset| dataset.entity_rows.file);
        let folder = self.folder(&name);
        let mut unsaved = Unsaved {
            name,
            deleted: Vec::new(),
            retained: 0,
        };
        let mut objects = Vec::new();
        for (file, object) in files {
            let is_needed = of_dataset.as_ref() == Some(&file);
            if !is_needed && unsaved.take(age, &file, object.size, micros(&object)) {
                objects.push(object.location);
            }
        }
        let mut uploads = Vec::new();
        if let Some(folder) = folder.clone() {
            let left = leftovers::find(folder, &[kept_rows::SUFFIX, ".json"]).await;
            for upload in left.map_err(|error| self.folder_error("list", error))? {
                if unsaved.take(age, &upload.name, upload.bytes, upload.written) {
                    uploads.push(upload.name);
                }
            }
        }
        unsaved.deleted.sort_by(|a, b| a.path.cmp(&b.path));
        if !dry_run {
            let deleted = delete_objects(self.objects().as_ref(), objects).await;
            deleted.map_err(|error| self.files_error("delete", error))?;
            if let Some(folder) = folder {
                let deleted = leftovers::delete(folder, uploads).await;
                deleted.map_err(|error| self.folder_error("delete", error))?;
            }
        }
        Ok(unsaved)
    }

    /// The files of entity rows that there are, by the dataset in whose folder they are.
    async fn kept_files(
        &self,
    ) -> Result<BTreeMap<DatasetName, Vec<(String, ObjectMeta)>>, DatasetError> {
        let listed: Vec<ObjectMeta> = self
            .objects()
            .list(None)
            .try_collect()
            .await
            .map_err(|error| self.files_error("list", error))?;
        let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for object in listed {
            if let Some((name, file)) = kept_file(&object.location) {
                files.entry(name).or_default().push((file, object));
            }
        }
        Ok(files)
    }

    fn files_error(&self, what: &str, source: Error) -> DatasetError {
        self.store_error(format!("{what} the entity rows of datasets"), source)
    }

    fn folder_error(&self, what: &str, error: std::io::Error) -> DatasetError {
        let source = Error::Generic {
            store: "LocalStore",
            source: error.into(),
        };
        self.files_error(what, source)
    }
}

impl Unsaved {
    /// Takes in a file that no dataset has. Whether it is to be deleted.
    fn take(&mut self, age: Age, file: &str, bytes: u64, written: Timestamp) -> bool {
        let is_over = age.is_over(written);
        match is_over {
            true => self.deleted.push(DeletedFile {
                path: file.to_owned(),
                bytes,
            }),
            false => self.retained += 1,
        }
        is_over
    }
}

/// The dataset and the name of a file of entity rows. Nothing else is ever deleted.
fn kept_file(location: &Path) -> Option<(DatasetName, String)> {
    let (name, file) = location.as_ref().split_once('/')?;
    let is_kept = !file.contains('/')
        && file.starts_with(kept_rows::PREFIX)
        && file.ends_with(kept_rows::SUFFIX);
    is_kept.then(|| Some((name.parse().ok()?, file.to_owned())))?
}
