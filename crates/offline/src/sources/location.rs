//! Where a source's data is: a store, and what to look for in it.

use std::{
    collections::HashMap,
    path::{Component, Path as LocalPath, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::execution::object_store::ObjectStoreUrl;
use glob::Pattern;
use object_store::{ObjectStore, local::LocalFileSystem, path::Path};
use url::Url;
use vintner_registry::{
    model::Source,
    store::remote::{self, RemoteError},
};

use super::error::SourceError;

/// A source's place.
#[derive(Clone, Debug)]
pub(super) struct Location {
    pub(super) store: Arc<dyn ObjectStore>,
    /// What the engine knows the store by.
    pub(super) store_url: ObjectStoreUrl,
    /// What is looked for.
    pub(super) target: Target,
    /// The path without its glob, as the repo writes it.
    pub(super) shown: String,
    /// The same as a URL, without the glob: the root of a Delta table.
    pub(super) url: Url,
}

/// What a source's path means.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A file or a folder; which one, only the store knows.
    Path(Path),
    /// The files under `base` whose path below it matches.
    Glob { base: Path, pattern: Pattern },
}

/// The stores that sources are on, one per bucket, made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Stores(Mutex<HashMap<String, Arc<dyn ObjectStore>>>);

impl Stores {
    /// Uses `store` for every URL that begins with `scheme://bucket`.
    pub(super) fn insert(&self, base: &Url, store: Arc<dyn ObjectStore>) {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.insert(base.as_str().trim_end_matches('/').to_owned(), store);
    }

    fn open(&self, base: &Url) -> Result<Arc<dyn ObjectStore>, RemoteError> {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = base.as_str().trim_end_matches('/').to_owned();
        if let Some(store) = stores.get(&key) {
            return Ok(Arc::clone(store));
        }
        let store = remote::open(base)?;
        stores.insert(key, Arc::clone(&store));
        Ok(store)
    }
}

/// Where the data of `source` is; relative paths are below `root`.
pub(super) fn locate(
    source: &Source,
    root: &LocalPath,
    stores: &Stores,
) -> Result<Location, SourceError> {
    match source.path.split_once("://") {
        Some(("file", path)) => local(source, LocalPath::new(path)),
        Some((scheme, rest)) => remote(source, scheme, rest, stores),
        None => local(source, &root.join(&source.path)),
    }
}

fn local(source: &Source, path: &LocalPath) -> Result<Location, SourceError> {
    let refuse = |reason: String| SourceError::Path {
        name: source.name.clone(),
        path: source.path.clone(),
        reason,
    };
    let absolute = std::path::absolute(path).map_err(|error| refuse(error.to_string()))?;
    let (fixed, pattern) = split_glob(&normalised(&absolute));
    let base = Path::from_absolute_path(&fixed).map_err(|error| refuse(error.to_string()))?;
    let url = Url::from_directory_path(&fixed)
        .map_err(|()| refuse("it is not an absolute path".to_owned()))?;
    Ok(Location {
        store: Arc::new(LocalFileSystem::new()),
        store_url: ObjectStoreUrl::local_filesystem(),
        target: target(base, pattern).map_err(refuse)?,
        shown: shown(source),
        url,
    })
}

fn remote(
    source: &Source,
    scheme: &str,
    rest: &str,
    stores: &Stores,
) -> Result<Location, SourceError> {
    let refuse = |reason: String| SourceError::Path {
        name: source.name.clone(),
        path: source.path.clone(),
        reason,
    };
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let base_url: Url = format!("{scheme}://{bucket}/")
        .parse()
        .map_err(|error: url::ParseError| refuse(error.to_string()))?;
    let store = stores
        .open(&base_url)
        .map_err(|error| refuse(error.to_string()))?;
    let (fixed, pattern) = split_glob(LocalPath::new(key));
    let key = fixed.to_str().unwrap_or_default();
    let base = Path::parse(key).map_err(|error| refuse(error.to_string()))?;
    let mut url = base_url.clone();
    url.set_path(&format!("{key}/"));
    Ok(Location {
        store,
        store_url: ObjectStoreUrl::parse(&base_url[..url::Position::BeforePath])
            .map_err(|error| refuse(error.to_string()))?,
        target: target(base, pattern).map_err(refuse)?,
        shown: shown(source),
        url,
    })
}

/// The path without its glob, as the repo writes it.
fn shown(source: &Source) -> String {
    let parts: Vec<&str> = source.path.split('/').collect();
    let fixed: Vec<&str> = parts
        .into_iter()
        .take_while(|part| !part.contains(['*', '?', '[']))
        .collect();
    fixed.join("/")
}

fn target(base: Path, pattern: Option<String>) -> Result<Target, String> {
    Ok(match pattern {
        None => Target::Path(base),
        Some(pattern) => Target::Glob {
            base,
            pattern: Pattern::new(&pattern).map_err(|error| error.to_string())?,
        },
    })
}

/// Takes `.` and `..` out of a path, by its text alone: a link is followed by the name the repo gives it.
fn normalised(path: &LocalPath) -> PathBuf {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts
}

/// The path up to the first part with a glob's characters, and the pattern from there on.
fn split_glob(path: &LocalPath) -> (PathBuf, Option<String>) {
    let is_pattern = |component: &Component<'_>| {
        component
            .as_os_str()
            .to_string_lossy()
            .contains(['*', '?', '['])
    };
    let fixed = path.components().take_while(|c| !is_pattern(c)).collect();
    let pattern: Vec<String> = path
        .components()
        .skip_while(|c| !is_pattern(c))
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    (fixed, (!pattern.is_empty()).then(|| pattern.join("/")))
}
