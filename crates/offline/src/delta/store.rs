//! Where the offline store is, and which table is where in it.

use std::{path::Path, sync::Arc};

use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::{ObjectStore, path::Path as ObjectPath, prefix::PrefixStore};
use url::Url;
use vintner_core::{ProjectName, ViewId, name::SYSTEM};
use vintner_registry::store::{
    folder::Folder,
    probe::{ObjectProbe, probe},
    remote,
};

use super::{error::DeltaError, table::Table};

/// The offline store: a folder, or a prefix in an object store, with one Delta table per view version.
#[derive(Clone, Debug)]
pub struct OfflineStore {
    objects: Arc<dyn ObjectStore>,
    root: Url,
}

impl OfflineStore {
    /// Opens the offline store at a path, relative to `root`, or at the URL of an object store, see [`remote`].
    /// Nothing is read or written.
    ///
    /// # Errors
    /// [`DeltaError::Location`] when `location` is neither.
    pub fn open(location: &str, root: &Path) -> Result<Self, DeltaError> {
        let refuse = |source: Box<dyn std::error::Error + Send + Sync>| DeltaError::Location {
            location: location.to_owned(),
            source,
        };
        let (url, local) = match Url::parse(location) {
            Ok(url) if location.contains("://") => {
                let local = url.scheme() == "file";
                (url, local)
            }
            _ => {
                let path =
                    std::path::absolute(root.join(location)).map_err(|e| refuse(e.into()))?;
                let url = Url::from_directory_path(path)
                    .map_err(|()| refuse("the path does not make a URL".into()))?;
                (url, true)
            }
        };
        if local {
            // The paths of tables are those of their URLs, which begin at the root of the file system.
            return Ok(Self::over(Arc::new(Folder::new("/".into())), url));
        }
        let objects = remote::open(&url).map_err(|e| refuse(e.into()))?;
        Ok(Self::over(objects, url))
    }

    /// An offline store under `root` in a given object store, whose paths begin where those of the URL do.
    pub fn over(objects: Arc<dyn ObjectStore>, mut root: Url) -> Self {
        if !root.path().ends_with('/') {
            root.set_path(&format!("{}/", root.path()));
        }
        Self { objects, root }
    }

    /// Where it is.
    pub fn location(&self) -> &Url {
        &self.root
    }

    /// Whether the store does what is asked of it: see [`probe`](vintner_registry::store::probe::probe).
    ///
    /// # Errors
    /// The store's own.
    pub async fn probe(&self) -> object_store::Result<ObjectProbe> {
        let prefix = ObjectPath::from_url_path(self.root.path())?;
        probe(&self.objects, &prefix).await
    }

    /// The table of a view version: `<project>/<view>/v<version>/`. It need not exist.
    pub fn table(&self, project: &ProjectName, view: &ViewId) -> Result<Table, DeltaError> {
        let path = format!("{project}/{}/v{}/", view.name, view.version);
        let log = self.log(&path)?;
        Ok(Table::new(
            log,
            view.to_string(),
            format!("vintner/{project}/{view}"),
        ))
    }

    /// An operational table: `system/<name>/`. No project's folder, since no project may have that name.
    pub(crate) fn system_table(&self, name: &str) -> Result<Table, DeltaError> {
        let log = self.log(&format!("{SYSTEM}/{name}/"))?;
        Ok(Table::new(
            log,
            name.to_owned(),
            format!("vintner/{SYSTEM}/{name}"),
        ))
    }

    /// A folder of the store, by its path in it, and where that is.
    pub(crate) fn folder(
        &self,
        path: &str,
    ) -> Result<(PrefixStore<Arc<dyn ObjectStore>>, Url), DeltaError> {
        let refuse = |source| DeltaError::Location {
            location: self.root.to_string(),
            source,
        };
        let url = self.root.join(path).map_err(|e| refuse(e.into()))?;
        let prefix = ObjectPath::from_url_path(url.path()).map_err(|e| refuse(e.into()))?;
        Ok((PrefixStore::new(self.objects.clone(), prefix), url))
    }

    fn log(&self, path: &str) -> Result<LogStoreRef, DeltaError> {
        let (table, url) = self.folder(path)?;
        let table = Arc::new(table);
        Ok(default_logstore(
            table,
            self.objects.clone(),
            &url,
            &StorageConfig::default(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path_or_a_url() {
        let root = Path::new("/repo");
        for (location, want) in [
            (".vintner/offline", Some("file:///repo/.vintner/offline/")),
            ("/data/offline", Some("file:///data/offline/")),
            ("with space", Some("file:///repo/with%20space/")),
            ("file:///data/offline", Some("file:///data/offline/")),
            ("s3://bucket/offline", Some("s3://bucket/offline/")),
            ("memory:///offline", Some("memory:///offline/")),
            ("ftp://host/offline", None),
            ("gs://bucket/offline", None),
            ("s3://", None),
        ] {
            let store = OfflineStore::open(location, root);
            let found = store.ok().map(|store| store.location().to_string());
            assert_eq!(found.as_deref(), want, "{location}");
        }
    }

    #[test]
    fn a_table_is_named_by_project_view_and_version() {
        let store = OfflineStore::open("offline", Path::new("/repo")).unwrap();
        let project = "flights".parse().unwrap();
        let table = store
            .table(&project, &"weather@2".parse().unwrap())
            .unwrap();
        assert_eq!(table.location(), "file:///repo/offline/flights/weather/v2/");
    }
}
