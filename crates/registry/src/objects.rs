//! Where bytes are kept: a local folder or an object store, opened the same way for the registry and for tables.
//!
//! Not here: what is in the objects.

mod local;

use std::{path::Path, sync::Arc};

use object_store::{
    ObjectStore, ObjectStoreScheme, memory::InMemory, parse_url_opts, path::Path as ObjectPath,
};
use url::Url;

pub use local::LocalStore;

/// A place in an object store.
#[derive(Clone, Debug)]
pub struct Location {
    /// The store, whose paths begin where those of the URL do.
    pub objects: Arc<dyn ObjectStore>,
    /// The place as a URL whose path ends with `/`.
    pub url: Url,
}

/// A text that is neither a path nor the URL of an object store.
#[derive(Debug, thiserror::Error)]
#[error("`{location}` is neither a path nor the URL of an object store that can be used")]
pub struct LocationError {
    /// The text.
    pub location: String,
    /// What is wrong with it.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Location {
    /// Opens the place at a path, relative to `root`, or at the URL of an object store, which takes its credentials
    /// from the environment. Nothing is read or written.
    ///
    /// # Errors
    /// [`LocationError`] when `location` is neither.
    pub fn open(location: &str, root: &Path) -> Result<Self, LocationError> {
        let refuse = |source: Box<dyn std::error::Error + Send + Sync>| LocationError {
            location: location.to_owned(),
            source,
        };
        let url = match Url::parse(location) {
            Ok(url) if location.contains("://") => url,
            _ => {
                let path = std::path::absolute(root.join(location)).map_err(|e| refuse(e.into()))?;
                Url::from_directory_path(path)
                    .map_err(|()| refuse("the path does not make a URL".into()))?
            }
        };
        let (scheme, _) = ObjectStoreScheme::parse(&url).map_err(|e| refuse(e.into()))?;
        let objects: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => Arc::new(LocalStore::new()),
            ObjectStoreScheme::Memory => Arc::new(InMemory::new()),
            _ => {
                let options = std::env::vars().map(|(key, value)| (key.to_lowercase(), value));
                let (objects, _) = parse_url_opts(&url, options).map_err(|e| refuse(e.into()))?;
                objects.into()
            }
        };
        Ok(Self::over(objects, url))
    }

    /// A place in a given store.
    pub fn over(objects: Arc<dyn ObjectStore>, mut url: Url) -> Self {
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Self { objects, url }
    }

    /// The path that objects of this place begin with.
    pub fn prefix(&self) -> ObjectPath {
        ObjectPath::from_url_path(self.url.path()).unwrap_or_default()
    }
}
