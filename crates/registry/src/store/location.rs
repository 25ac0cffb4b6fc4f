//! From the text in `vintner.yaml` to the store that it means.

use std::{
    path::{self, Path, PathBuf},
    sync::Arc,
};

use object_store::path::Path as ObjectPath;
use url::Url;

use super::{
    RegistryStore,
    folder::Folder,
    remote::{self, RemoteError},
};

/// Why a location is no registry.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The text is neither a path nor a URL.
    #[error(
        "the registry location `{location}` is not a URL: {reason}; write a path, or a URL like s3://bucket/path"
    )]
    Url {
        /// The location.
        location: String,
        /// What is wrong.
        reason: url::ParseError,
    },
    /// A URL of a kind that is not known.
    #[error(
        "the registry location `{location}` is of no known kind; write a path, file:///path, s3://bucket/path or memory:///"
    )]
    Unsupported {
        /// The location.
        location: String,
    },
    /// A `file` URL that is no path here.
    #[error(
        "the registry location `{location}` is no absolute path on this machine; write it like file:///path"
    )]
    FileUrl {
        /// The location.
        location: String,
    },
    /// The working folder is not known, so a relative path means nothing.
    #[error("could not find out which folder the registry location `{location}` is")]
    Folder {
        /// The location.
        location: String,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The store refuses the settings.
    #[error(
        "could not open the registry location `{location}`; check the URL and the AWS_… settings"
    )]
    Store {
        /// The location.
        location: String,
        /// Why not.
        source: RemoteError,
    },
}

pub(super) fn open(location: &str, root: &Path) -> Result<RegistryStore, OpenError> {
    let text = || location.to_owned();
    if !location.contains("://") {
        return open_folder(root.join(location), location);
    }
    let url = Url::parse(location).map_err(|reason| OpenError::Url {
        location: text(),
        reason,
    })?;
    if url.scheme() == "file" {
        let path = url.to_file_path();
        let path = path.map_err(|()| OpenError::FileUrl { location: text() })?;
        return open_folder(path, location);
    }
    let unsupported = || OpenError::Unsupported { location: text() };
    let prefix = ObjectPath::from_url_path(url.path()).map_err(|_| unsupported())?;
    let store = remote::open(&url).map_err(|error| match error {
        RemoteError::Unknown => unsupported(),
        source => OpenError::Store {
            location: text(),
            source,
        },
    })?;
    Ok(RegistryStore::new(store, &prefix, location))
}

fn open_folder(path: PathBuf, location: &str) -> Result<RegistryStore, OpenError> {
    // Absolute at once: what is meant must not depend on a later change of the working folder.
    let path = path::absolute(path).map_err(|source| OpenError::Folder {
        location: location.to_owned(),
        source,
    })?;
    let shown = path.display().to_string();
    Ok(RegistryStore::new(
        Arc::new(Folder::new(path)),
        &ObjectPath::default(),
        shown,
    ))
}
