//! Where the registry lives: one object per version on an object store, written once and never changed.
//!
//! Below a location there are `registry/<version, 20 digits>.pb`, and `registry/LATEST`, a pointer that may lag. A
//! version is written only when no object has its name yet, so of two writers one wins and the other is told to plan
//! again. A reader begins at the pointer and looks for the next names until one is missing, so a version counts from
//! the moment its object is there.
//!
//! * Holds always: versions have no gaps, and an object that is there is whole. On a local folder see [`folder`].
//! * Cost: [`RegistryStore::latest`] is one small request when nothing is new.
//! * Not here: what is in a snapshot ([`crate::codec`]), whether it should become the next one ([`crate::plan`]).

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, path::Path as ObjectPath};
use prost::Message;
use tracing::warn;
use vintner_core::{RegistryVersion, Timestamp};
use vintner_proto::v1;

use crate::{
    codec::{self, DecodeError},
    model::{Project, Snapshot},
    plan::Stale,
};

pub mod folder;
mod location;
pub mod probe;
pub mod remote;

pub use location::OpenError;

/// How many versions are read at the same time for a history.
const READS_AT_ONCE: usize = 8;

/// The registry of one deployment.
#[derive(Debug)]
pub struct RegistryStore {
    store: Arc<dyn ObjectStore>,
    /// The folder of the objects, within the store.
    folder: ObjectPath,
    /// Where that is, for people.
    location: Location,
    /// The newest version that has been seen. Versions never change, so it stays right.
    newest: Mutex<Option<Arc<Snapshot>>>,
}

/// A place as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(String);

/// What a version is, in a line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// The version.
    pub version: RegistryVersion,
    /// When it was written.
    pub created_at: Timestamp,
    /// Who wrote it.
    pub author: String,
    /// What made it.
    pub reason: String,
    /// How many objects it has, over all projects.
    pub counts: Counts,
}

/// How many objects a version has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Projects.
    pub projects: usize,
    /// Entities.
    pub entities: usize,
    /// Sources.
    pub sources: usize,
    /// Feature views, each once whatever its versions.
    pub views: usize,
    /// Feature services.
    pub services: usize,
}

/// Why a version could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such version.
    #[error("there is no registry version {version}; the latest at {location} is {latest}")]
    Unknown {
        /// The version.
        version: RegistryVersion,
        /// The latest.
        latest: RegistryVersion,
        /// The registry.
        location: Location,
    },
    /// The store did not answer, or refused.
    #[error("could not {what} at {location}")]
    Store {
        /// What was tried.
        what: String,
        /// The registry.
        location: Location,
        /// The store's own error.
        source: object_store::Error,
    },
    /// The object of a version is damaged, or is of a newer format.
    #[error("could not read registry version {version} at {location}")]
    Decode {
        /// The version.
        version: RegistryVersion,
        /// The registry.
        location: Location,
        /// What is wrong.
        source: DecodeError,
    },
    /// The object of a version holds another one.
    #[error(
        "the object of registry version {version} at {location} holds version {found}; \
         it was copied or renamed, restore the right one"
    )]
    Misplaced {
        /// The version whose name it has.
        version: RegistryVersion,
        /// The version that it holds.
        found: RegistryVersion,
        /// The registry.
        location: Location,
    },
}

/// Why a version was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The version is there already: another writer was first.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The version before it is not there.
    #[error(
        "registry version {before} is not at {location}, so {version} cannot follow it; \
         the registry was moved or emptied since it was read: plan again"
    )]
    Gap {
        /// The version.
        version: RegistryVersion,
        /// The one before it.
        before: RegistryVersion,
        /// The registry.
        location: Location,
    },
    /// Version 0 is the empty registry, which has no object.
    #[error("registry version 0 is the empty registry and cannot be written")]
    Empty,
    /// The store did not answer, or refused. Nothing was written, as far as can be known.
    #[error("could not write registry version {version} to {location}")]
    Store {
        /// The version.
        version: RegistryVersion,
        /// The registry.
        location: Location,
        /// The store's own error.
        source: object_store::Error,
    },
}

impl RegistryStore {
    /// The registry at a location: a path, which is relative to `root`, or a URL (`file://`, `s3://`, `memory://`).
    /// Credentials and settings of S3 come from the environment, see [`remote`].
    ///
    /// Touches nothing: a folder that is not there is an empty registry until something is written.
    ///
    /// # Errors
    /// [`OpenError`] when the location is of no known kind or lacks a setting.
    pub fn open(location: &str, root: &Path) -> Result<Self, OpenError> {
        location::open(location, root)
    }

    /// The registry below a prefix of a store that the caller has opened.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &ObjectPath,
        location: impl Into<String>,
    ) -> Self {
        Self {
            store,
            folder: prefix.clone().join("registry"),
            location: Location(location.into()),
            newest: Mutex::new(None),
        }
    }

    /// Where the registry is, for people.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Whether the store does what is asked of it: see [`probe`](probe::probe).
    ///
    /// # Errors
    /// The store's own.
    pub async fn probe(&self) -> object_store::Result<probe::ObjectProbe> {
        probe::probe(self.store.as_ref(), &self.folder).await
    }

    /// The latest version; [`Snapshot::empty`] before the first.
    ///
    /// # Errors
    /// [`RegistryError`] when the store does not answer or the latest version is damaged. An older version is never
    /// given in its place.
    pub async fn latest(&self) -> Result<Arc<Snapshot>, RegistryError> {
        let known = self.newest();
        let start = match &known {
            Some(snapshot) => snapshot.version,
            None => self.first_guess().await?,
        };
        let mut latest = start;
        while self.exists(next(latest)).await? {
            latest = next(latest);
        }
        match known {
            Some(snapshot) if snapshot.version == latest => Ok(snapshot),
            _ if latest == RegistryVersion::EMPTY => Ok(Arc::new(Snapshot::empty())),
            _ => Ok(self.keep(self.read(latest).await?)),
        }
    }

    /// One version, old or new.
    ///
    /// # Errors
    /// [`RegistryError`] when there is no such version, it is damaged or the store does not answer.
    pub async fn at(&self, version: RegistryVersion) -> Result<Arc<Snapshot>, RegistryError> {
        if version == RegistryVersion::EMPTY {
            return Ok(Arc::new(Snapshot::empty()));
        }
        if let Some(newest) = self.newest().filter(|newest| newest.version == version) {
            return Ok(newest);
        }
        match self.read(version).await {
            Err(RegistryError::Store {
                source: object_store::Error::NotFound { .. },
                ..
            }) => Err(RegistryError::Unknown {
                version,
                latest: self.latest().await?.version,
                location: self.location.clone(),
            }),
            read => read.map(Arc::new),
        }
    }

    /// The latest versions, at most so many, the newest first.
    ///
    /// # Errors
    /// [`RegistryError`] when one of them cannot be read.
    pub async fn history(&self, limit: usize) -> Result<Vec<VersionInfo>, RegistryError> {
        let latest = self.latest().await?.version.0;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let versions = (1..=latest).rev().zip(0..limit);
        stream::iter(versions)
            .map(|(version, _)| self.at(RegistryVersion(version)))
            .buffered(READS_AT_ONCE)
            .map_ok(|snapshot| VersionInfo::of(&snapshot))
            .try_collect()
            .await
    }

    /// Makes a snapshot the next version, unless that is there already.
    ///
    /// When this returns well, the version is durable and every reader sees it. A write whose answer got lost on the
    /// way is recognized and counts as done.
    ///
    /// # Errors
    /// [`WriteError::Stale`] when another writer was first: read, plan and write again.
    pub async fn write(&self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let version = snapshot.version;
        let before = version.0.checked_sub(1).ok_or(WriteError::Empty)?;
        let before = RegistryVersion(before);
        let failed = |source| WriteError::Store {
            version,
            location: self.location.clone(),
            source,
        };
        // Readers look for the next name, so they would never find what comes after a gap.
        if before != RegistryVersion::EMPTY && !self.has(before).await.map_err(failed)? {
            return Err(WriteError::Gap {
                version,
                before,
                location: self.location.clone(),
            });
        }
        let mut message = v1::Snapshot::from(snapshot);
        message.write_id = uuid::Uuid::new_v4().to_string();
        let bytes = message.encode_to_vec();
        let put = self
            .store
            .put_opts(&self.object(version), bytes.into(), PutMode::Create.into())
            .await;
        if let Err(error) = put {
            match self.write_id(version).await {
                // The object is there and is this one: only the answer got lost.
                Ok(Some(found)) if found == message.write_id => {}
                Ok(Some(_)) => {
                    let latest = self.latest().await.map(|latest| latest.version);
                    return Err(WriteError::Stale(Stale {
                        planned: before,
                        current: latest.unwrap_or(version),
                    }));
                }
                Ok(None) | Err(_) => return Err(failed(error)),
            }
        }
        self.keep(snapshot.clone());
        self.point_at(version).await;
        Ok(())
    }

    /// Where to begin to look for the latest version: where the pointer says, if that is there; else the greatest
    /// there is.
    async fn first_guess(&self) -> Result<RegistryVersion, RegistryError> {
        if let Some(version) = self.pointer().await?
            && self.exists(version).await?
        {
            return Ok(version);
        }
        let mut objects = self.store.list(Some(&self.folder));
        let mut greatest = RegistryVersion::EMPTY;
        while let Some(object) = objects.next().await {
            match object {
                Ok(object) => {
                    let version = object.location.filename().and_then(version_of);
                    greatest = greatest.max(version.unwrap_or_default());
                }
                Err(object_store::Error::NotFound { .. }) => break,
                Err(source) => return Err(self.error("list the registry's versions", source)),
            }
        }
        Ok(greatest)
    }

    /// What the pointer says. None when it is missing or is no number, as after a crash.
    async fn pointer(&self) -> Result<Option<RegistryVersion>, RegistryError> {
        let get = async { self.store.get(&self.pointer_object()).await?.bytes().await };
        match get.await {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes).unwrap_or_default();
                Ok(text
                    .trim()
                    .parse()
                    .ok()
                    .filter(is_possible)
                    .map(RegistryVersion))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.error("read the registry's pointer", source)),
        }
    }

    /// Moves the pointer. It may lag, so failing to move it, or moving it back in a race, costs a few requests only.
    async fn point_at(&self, version: RegistryVersion) {
        let text = format!("{version}\n");
        if let Err(error) = self.store.put(&self.pointer_object(), text.into()).await {
            warn!(%version, location = %self.location, %error, "the registry's pointer was not moved");
        }
    }

    async fn read(&self, version: RegistryVersion) -> Result<Snapshot, RegistryError> {
        let get = async { self.store.get(&self.object(version)).await?.bytes().await };
        let bytes = get
            .await
            .map_err(|source| self.error(format!("read registry version {version}"), source))?;
        let snapshot = codec::decode(&bytes).map_err(|source| RegistryError::Decode {
            version,
            location: self.location.clone(),
            source,
        })?;
        if snapshot.version != version {
            return Err(RegistryError::Misplaced {
                version,
                found: snapshot.version,
                location: self.location.clone(),
            });
        }
        Ok(snapshot)
    }

    /// By whom a version was written. None when there is no such version.
    async fn write_id(
        &self,
        version: RegistryVersion,
    ) -> Result<Option<String>, object_store::Error> {
        let get = async { self.store.get(&self.object(version)).await?.bytes().await };
        match get.await {
            // What cannot be decoded was not written by us, but it is there.
            Ok(bytes) => Ok(Some(
                v1::Snapshot::decode(bytes)
                    .map_or_else(|_| String::new(), |message| message.write_id),
            )),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn exists(&self, version: RegistryVersion) -> Result<bool, RegistryError> {
        let has = self.has(version).await;
        has.map_err(|source| self.error(format!("look for registry version {version}"), source))
    }

    async fn has(&self, version: RegistryVersion) -> Result<bool, object_store::Error> {
        match self.store.head(&self.object(version)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn object(&self, version: RegistryVersion) -> ObjectPath {
        self.folder.clone().join(object_name(version))
    }

    fn pointer_object(&self) -> ObjectPath {
        self.folder.clone().join("LATEST")
    }

    fn newest(&self) -> Option<Arc<Snapshot>> {
        let newest = self.newest.lock();
        newest.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers a snapshot if it is the newest.
    fn keep(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest
            .as_ref()
            .is_none_or(|newest| newest.version < snapshot.version)
        {
            *newest = Some(Arc::clone(&snapshot));
        }
        snapshot
    }

    fn error(&self, what: impl Into<String>, source: object_store::Error) -> RegistryError {
        RegistryError::Store {
            what: what.into(),
            location: self.location.clone(),
            source,
        }
    }
}

impl VersionInfo {
    fn of(snapshot: &Snapshot) -> Self {
        let count = |of: fn(&Project) -> usize| snapshot.projects.values().map(of).sum();
        Self {
            version: snapshot.version,
            created_at: snapshot.created_at,
            author: snapshot.author.clone(),
            reason: snapshot.reason.clone(),
            counts: Counts {
                projects: snapshot.projects.len(),
                entities: count(|project| project.entities.len()),
                sources: count(|project| project.sources.len()),
                views: count(|project| project.views.len()),
                services: count(|project| project.services.len()),
            },
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn next(version: RegistryVersion) -> RegistryVersion {
    RegistryVersion(version.0.saturating_add(1))
}

/// Twenty digits hold every version, so that the order of the names is that of the versions.
fn object_name(version: RegistryVersion) -> String {
    format!("{:020}.pb", version.0)
}

/// The version that an object's name says; none for other objects.
fn version_of(name: &str) -> Option<RegistryVersion> {
    let digits = name.strip_suffix(".pb")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
    digits.parse().ok().filter(is_possible).map(RegistryVersion)
}

fn is_possible(version: &u64) -> bool {
    (1..=codec::GREATEST_VERSION).contains(version)
}

#[cfg(test)]
mod tests;
