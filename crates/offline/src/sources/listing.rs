//! Which files a source has now: what cursors are made of, and what a scan reads.

use futures::TryStreamExt;
use glob::MatchOptions;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};
use vintner_core::SourceName;
use vintner_registry::model::{Source, SourceFormat};

use super::{
    error::SourceError,
    location::{Location, Target},
};

/// One file of a source. Two are equal exactly when nobody has written the file in between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its path below the source's folder, so that it stays when the repo moves.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, in microseconds since 1970 by the store's clock.
    pub modified_micros: i64,
    /// What the store calls this content, where it has a name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// What a source holds at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// Its files, in the order of their paths.
    Files(Vec<SourceFile>),
    /// The version of the Delta table.
    Delta {
        /// The version.
        version: u64,
    },
}

/// The files of a source and what their paths are relative to.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) base: Path,
    /// The base as the repo writes it.
    pub(super) shown_base: String,
    pub(super) files: Vec<ObjectMeta>,
}

impl Listing {
    /// The files as cursors keep them.
    pub(super) fn source_files(&self) -> Vec<SourceFile> {
        let mut files: Vec<SourceFile> = self
            .files
            .iter()
            .map(|meta| SourceFile {
                path: relative(&meta.location, &self.base),
                size: meta.size,
                modified_micros: meta.last_modified.timestamp_micros(),
                etag: meta.e_tag.clone(),
            })
            .collect();
        files.sort();
        files
    }
}

/// The extensions that mark a file of the format in a folder.
pub(super) const fn extensions(format: SourceFormat) -> &'static [&'static str] {
    match format {
        SourceFormat::Parquet | SourceFormat::Delta => &["parquet"],
        SourceFormat::Csv => &["csv"],
        SourceFormat::Json => &["json", "jsonl", "ndjson"],
    }
}

/// The files of a source, in the order of their paths; at least one.
pub(super) async fn list(source: &Source, location: &Location) -> Result<Listing, SourceError> {
    let mut listing = match &location.target {
        Target::Path(path) => list_path(source, location, path).await?,
        Target::Glob { base, pattern } => {
            let options = MatchOptions {
                case_sensitive: true,
                require_literal_separator: true,
                require_literal_leading_dot: true,
            };
            let mut files = list_below(source, location.store.as_ref(), base).await?;
            files.retain(|meta| pattern.matches_with(&relative(&meta.location, base), options));
            if files.is_empty() {
                return Err(SourceError::NoMatch {
                    name: source.name.clone(),
                    pattern: source.path.clone(),
                });
            }
            Listing {
                base: base.clone(),
                shown_base: location.shown.clone(),
                files,
            }
        }
    };
    listing.files.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(listing)
}

/// The files again that a cursor names, without asking the store.
pub(super) fn resolve(
    source: &Source,
    location: &Location,
    files: &[SourceFile],
) -> Result<Listing, SourceError> {
    let (base, shown_base) = match &location.target {
        Target::Glob { base, .. } => (base.clone(), location.shown.clone()),
        Target::Path(path) => match files {
            // The path is the file itself when its last part is that file's name.
            [only] if path.filename() == Some(only.path.as_str()) => parent(path, &location.shown),
            _ => (path.clone(), location.shown.clone()),
        },
    };
    let again = |file: &SourceFile| {
        let unreadable = || SourceError::Missing {
            name: source.name.clone(),
            path: file.path.clone(),
        };
        let modified = arrow::temporal_conversions::timestamp_us_to_datetime(file.modified_micros)
            .ok_or_else(unreadable)?;
        Ok(ObjectMeta {
            location: Path::parse(format!("{base}/{}", file.path)).map_err(|_| unreadable())?,
            last_modified: modified.and_utc(),
            size: file.size,
            e_tag: file.etag.clone(),
            version: None,
        })
    };
    Ok(Listing {
        files: files.iter().map(again).collect::<Result<_, _>>()?,
        base,
        shown_base,
    })
}

/// The folder that a file is in, and the same as the repo writes it.
fn parent(file: &Path, shown: &str) -> (Path, String) {
    let shown = shown.rsplit_once('/').map_or("", |(folder, _)| folder);
    (file.parent().unwrap_or_default(), shown.to_owned())
}

/// The part of a path below `base`.
pub(super) fn relative(path: &Path, base: &Path) -> String {
    let below: Vec<String> = path
        .prefix_match(base)
        .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect())
        .unwrap_or_default();
    below.join("/")
}

async fn list_path(
    source: &Source,
    location: &Location,
    path: &Path,
) -> Result<Listing, SourceError> {
    let store = location.store.as_ref();
    match store.head(path).await {
        Ok(meta) => {
            let (base, shown_base) = parent(path, &location.shown);
            return Ok(Listing {
                base,
                shown_base,
                files: vec![meta],
            });
        }
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(store_error(source, &source.path, error)),
    }
    let all = list_below(source, store, path).await?;
    let wanted = extensions(source.format);
    let (files, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|meta| {
        let extension = meta.location.extension();
        !is_hidden(&relative(&meta.location, path))
            && extension.is_some_and(|extension| wanted.contains(&extension))
    });
    if files.is_empty() {
        return Err(match others.first() {
            Some(other) => SourceError::EmptyFolder {
                name: source.name.clone(),
                path: source.path.clone(),
                format: source.format,
                instead: Some(relative(&other.location, path)),
            },
            // An object store has no empty folders, so an empty one is reported as a missing one everywhere.
            None => SourceError::Missing {
                name: source.name.clone(),
                path: source.path.clone(),
            },
        });
    }
    Ok(Listing {
        base: path.clone(),
        shown_base: location.shown.clone(),
        files,
    })
}

async fn list_below(
    source: &Source,
    store: &dyn ObjectStore,
    base: &Path,
) -> Result<Vec<ObjectMeta>, SourceError> {
    match store.list(Some(base)).try_collect().await {
        Ok(files) => Ok(files),
        Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(store_error(source, &source.path, error)),
    }
}

/// Writers keep their own files in a folder under names that begin like this: `_SUCCESS`, `_delta_log`, `.part.crc`.
fn is_hidden(relative: &str) -> bool {
    relative
        .split('/')
        .any(|part| part.starts_with('_') || part.starts_with('.'))
}

/// The error of a store, as the source's.
pub(super) fn store_error(source: &Source, file: &str, error: StoreError) -> SourceError {
    store_error_of(&source.name, file, error)
}

/// The error of a store, as that of the source of this name.
pub(super) fn store_error_of(name: &SourceName, file: &str, error: StoreError) -> SourceError {
    let name = name.clone();
    let file = file.to_owned();
    match error {
        StoreError::NotFound { .. } => SourceError::Missing { name, path: file },
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            SourceError::Denied { name, file }
        }
        other if is_denied(&other) => SourceError::Denied { name, file },
        other => SourceError::Read {
            name,
            file,
            cause: Box::new(other),
        },
    }
}

/// Whether the system refused, somewhere down the chain: the local store has no kind of its own for it.
fn is_denied(error: &StoreError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::PermissionDenied
        {
            return true;
        }
        next = error.source();
    }
    false
}
