//! Where the registry's versions are kept: one object per version, written only if its name is free.
//!
//! `<location>/registry/00000000000000000007.pb` is version 7. Whoever creates the object has made the version, so
//! two writers cannot both win, on a local folder as on an object store. `<location>/registry/LATEST` says where to
//! begin looking for the newest version; it may lag and may be missing, since the names themselves decide.
//!
//! * Holds always: an object that is there is whole and never changes. A version exists only if all before it do.
//! * Not here: what the next version is ([`crate::plan`]).

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{Error as ObjectError, ObjectStore as _, ObjectStoreExt as _, PutMode, path::Path as ObjectPath};
use vintner_core::RegistryVersion;

use crate::{
    codec::{self, DecodeError},
    model::Snapshot,
    objects::{Location, LocationError},
};

/// How many old versions are read at a time for the history.
const READS_AT_ONCE: usize = 16;

/// The registry's versions in a local folder or an object store.
#[derive(Debug)]
pub struct RegistryStore {
    location: Location,
    /// The newest version seen so far. Versions never change, so it is only ever replaced by a later one.
    newest: Mutex<Option<Arc<Snapshot>>>,
}

/// Why the registry could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The location is no place.
    #[error("the registry's location cannot be used")]
    Location(#[from] LocationError),
    /// The store failed.
    #[error("could not read {object} in the registry at {location}")]
    Read {
        /// What was read.
        object: String,
        /// The registry.
        location: String,
        /// What the store says.
        source: ObjectError,
    },
    /// An object that is no version of a registry.
    #[error("{object} in the registry at {location} cannot be understood")]
    Corrupt {
        /// What was read.
        object: String,
        /// The registry.
        location: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A version that does not exist.
    #[error("the registry has no version {version}; {}", existing(*.newest))]
    NoVersion {
        /// The version that was asked for.
        version: RegistryVersion,
        /// The newest one there is.
        newest: RegistryVersion,
    },
}

/// Why a version could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else has written that version.
    #[error("planned against registry version {planned}, which is now {current}; plan again")]
    Stale {
        /// The version that the new one was to follow.
        planned: RegistryVersion,
        /// The newest version.
        current: RegistryVersion,
    },
    /// The store failed.
    #[error("could not write version {version} of the registry at {location}")]
    Write {
        /// The version.
        version: RegistryVersion,
        /// The registry.
        location: String,
        /// What the store says.
        source: ObjectError,
    },
    /// The registry could not be read.
    #[error(transparent)]
    Read(#[from] RegistryError),
}

fn existing(newest: RegistryVersion) -> String {
    match newest {
        RegistryVersion::EMPTY => "nothing has been applied yet".to_owned(),
        RegistryVersion(1) => "it has version 1".to_owned(),
        newest => format!("it has versions 1 to {newest}"),
    }
}

impl RegistryStore {
    /// The registry at a path, relative to `root`, or at the URL of an object store. Nothing is read or written.
    ///
    /// # Errors
    /// [`RegistryError::Location`] when `location` is neither.
    pub fn open(location: &str, root: &Path) -> Result<Self, RegistryError> {
        Ok(Self::at_location(Location::open(location, root)?))
    }

    /// The registry at a place.
    pub fn at_location(location: Location) -> Self {
        Self { location, newest: Mutex::new(None) }
    }

    /// The newest version; [`Snapshot::empty`] when there is none. Cost: one look at the next name when nothing has
    /// changed since the last call.
    ///
    /// # Errors
    /// [`RegistryError`] when the store fails or holds something else.
    pub async fn latest(&self) -> Result<Arc<Snapshot>, RegistryError> {
        let mut newest = match self.seen() {
            Some(snapshot) => snapshot,
            None => self.start().await?,
        };
        while let Some(next) = self.get(newest.version.next()).await? {
            newest = Arc::new(next);
        }
        Ok(self.remember(newest))
    }

    /// One version.
    ///
    /// # Errors
    /// [`RegistryError::NoVersion`] when it does not exist; others when the store fails.
    pub async fn at(&self, version: RegistryVersion) -> Result<Arc<Snapshot>, RegistryError> {
        if let Some(seen) = self.seen()
            && seen.version == version
        {
            return Ok(seen);
        }
        match self.get(version).await? {
            Some(snapshot) => Ok(Arc::new(snapshot)),
            None => Err(RegistryError::NoVersion { version, newest: self.latest().await?.version }),
        }
    }

    /// The newest versions, newest first, `limit` at the most.
    ///
    /// # Errors
    /// As [`Self::latest`].
    pub async fn history(&self, limit: usize) -> Result<Vec<Arc<Snapshot>>, RegistryError> {
        let newest = self.latest().await?.version.0;
        let versions = (1..=newest).rev().take(limit).map(RegistryVersion);
        stream::iter(versions).map(|version| self.at(version)).buffered(READS_AT_ONCE).try_collect().await
    }

    /// Writes a version that follows the newest one.
    ///
    /// # Errors
    /// [`WriteError::Stale`] when somebody else has written that version first; then nothing is changed.
    pub async fn write(&self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let version = snapshot.version;
        let planned = RegistryVersion(version.0.saturating_sub(1));
        let current = self.latest().await?.version;
        if current != planned {
            return Err(WriteError::Stale { planned, current });
        }
        let bytes = codec::encode(snapshot);
        let put = self.location.objects.put_opts(&self.object(version), bytes.into(), PutMode::Create.into()).await;
        match put {
            Ok(_) => {}
            // A store that was asked twice, because its first answer got lost, refuses the second time.
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. })
                if self.get(version).await?.as_ref() == Some(snapshot) => {}
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. }) => {
                return Err(WriteError::Stale { planned, current: self.latest().await?.version });
            }
            Err(source) => {
                return Err(WriteError::Write { version, location: self.location.url.to_string(), source });
            }
        }
        self.remember(Arc::new(snapshot.clone()));
        let pointer = version.to_string().into_bytes().into();
        if let Err(error) = self.location.objects.put(&self.pointer(), pointer).await {
            tracing::warn!(%error, "the registry's pointer was not moved; readers look a little longer");
        }
        Ok(())
    }

    fn seen(&self) -> Option<Arc<Snapshot>> {
        self.newest.lock().ok()?.clone()
    }

    fn remember(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        if let Ok(mut newest) = self.newest.lock()
            && newest.as_ref().is_none_or(|seen| seen.version < snapshot.version)
        {
            *newest = Some(Arc::clone(&snapshot));
        }
        snapshot
    }

    /// Where a first look begins: the version that the pointer names, else the newest name in the folder.
    async fn start(&self) -> Result<Arc<Snapshot>, RegistryError> {
        if let Some(version) = self.pointed_at().await?
            && let Some(snapshot) = self.get(version).await?
        {
            return Ok(Arc::new(snapshot));
        }
        let folder = self.folder();
        let listed = self.location.objects.list(Some(&folder)).map_ok(|object| version_of(&object.location));
        let listed: Vec<Option<RegistryVersion>> =
            listed.try_collect().await.map_err(|source| self.read_error("the list of versions", source))?;
        let newest = match listed.into_iter().flatten().max() {
            None => None,
            Some(version) => self.get(version).await?,
        };
        Ok(Arc::new(newest.unwrap_or_else(Snapshot::empty)))
    }

    async fn pointed_at(&self) -> Result<Option<RegistryVersion>, RegistryError> {
        let Some(bytes) = self.bytes(&self.pointer()).await? else { return Ok(None) };
        Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()).map(RegistryVersion))
    }

    async fn get(&self, version: RegistryVersion) -> Result<Option<Snapshot>, RegistryError> {
        let object = self.object(version);
        let Some(bytes) = self.bytes(&object).await? else { return Ok(None) };
        codec::decode(&bytes).map(Some).map_err(|source| RegistryError::Corrupt {
            object: object.to_string(),
            location: self.location.url.to_string(),
            source,
        })
    }

    async fn bytes(&self, object: &ObjectPath) -> Result<Option<bytes::Bytes>, RegistryError> {
        let read = async { self.location.objects.get(object).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.read_error(object.filename().unwrap_or("an object"), source)),
        }
    }

    fn read_error(&self, object: &str, source: ObjectError) -> RegistryError {
        RegistryError::Read { object: object.to_owned(), location: self.location.url.to_string(), source }
    }

    fn folder(&self) -> ObjectPath {
        self.location.prefix().join("registry")
    }

    fn object(&self, version: RegistryVersion) -> ObjectPath {
        self.folder().join(format!("{:020}.pb", version.0))
    }

    fn pointer(&self) -> ObjectPath {
        self.folder().join("LATEST")
    }
}

/// The version that an object's name stands for. Other names, like those of writers that were killed, are none.
fn version_of(object: &ObjectPath) -> Option<RegistryVersion> {
    let digits = object.filename()?.strip_suffix(".pb")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(RegistryVersion)).flatten()
}

/// What [`RegistryStore::history`] says of a version, for people.
pub fn summary(snapshot: &Snapshot) -> String {
    let count = |number: usize, noun: &str, nouns: &str| match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {nouns}"),
    };
    let projects = snapshot.projects.iter().map(|(name, project)| {
        format!(
            "{name}: {}, {}, {}, {}",
            count(project.entities.len(), "entity", "entities"),
            count(project.sources.len(), "source", "sources"),
            count(project.views.len(), "feature view", "feature views"),
            count(project.services.len(), "feature service", "feature services"),
        )
    });
    projects.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn in_memory() -> Location {
        Location::over(Arc::new(InMemory::new()), "memory:///r".parse().unwrap())
    }

    fn next(of: &Snapshot, author: &str) -> Snapshot {
        Snapshot { version: of.version.next(), author: author.to_owned(), ..of.clone() }
    }

    async fn wins(location: Location) {
        let (one, two) = (RegistryStore::at_location(location.clone()), RegistryStore::at_location(location));
        let base = one.latest().await.unwrap();
        assert_eq!((base.version, two.latest().await.unwrap().version), (RegistryVersion(0), RegistryVersion(0)));
        one.write(&next(&base, "one")).await.unwrap();
        let lost = two.write(&next(&base, "two")).await.unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(lost, @"planned against registry version 0, which is now 1; plan again");
        }
        assert_eq!(two.latest().await.unwrap().author, "one");
    }

    #[tokio::test]
    async fn of_two_writers_one_wins_and_the_other_is_told() {
        wins(in_memory()).await;
        let folder = tempfile::tempdir().unwrap();
        wins(Location::open("registry", folder.path()).unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_writers_at_the_same_time_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("r", folder.path()).unwrap();
        for round in 0..10 {
            let writers = (0..8).map(|i| {
                let store = RegistryStore::at_location(location.clone());
                tokio::spawn(async move {
                    let base = store.latest().await.unwrap();
                    assert_eq!(base.version.0, round);
                    (store, next(&base, &i.to_string()))
                })
            });
            let ready = futures::future::join_all(writers).await;
            let writes = ready.into_iter().map(|ready| {
                let (store, snapshot) = ready.unwrap();
                tokio::spawn(async move { store.write(&snapshot).await.map(|()| snapshot.author) })
            });
            let ended = futures::future::join_all(writes).await;
            let won: Vec<String> = ended.into_iter().filter_map(|end| end.unwrap().ok()).collect();
            assert_eq!(won.len(), 1, "round {round}");
            assert_eq!(RegistryStore::at_location(location.clone()).latest().await.unwrap().author, won[0]);
        }
    }

    #[tokio::test]
    async fn the_names_decide_whatever_the_pointer_says() {
        let location = in_memory();
        let store = RegistryStore::at_location(location.clone());
        for _ in 0..3 {
            let base = store.latest().await.unwrap();
            store.write(&next(&base, "a")).await.unwrap();
        }
        for pointer in [Some("1"), Some("3"), Some("9"), Some("nonsense"), None] {
            match pointer {
                Some(text) => drop(location.objects.put(&store.pointer(), text.to_owned().into()).await.unwrap()),
                None => location.objects.delete(&store.pointer()).await.unwrap(),
            }
            let fresh = RegistryStore::at_location(location.clone());
            assert_eq!(fresh.latest().await.unwrap().version, RegistryVersion(3), "{pointer:?}");
        }
        let history = store.history(2).await.unwrap();
        assert_eq!(history.iter().map(|s| s.version.0).collect::<Vec<_>>(), [3, 2]);
    }

    #[tokio::test]
    async fn a_version_that_does_not_exist_and_one_that_is_broken_are_errors() {
        let location = in_memory();
        let store = RegistryStore::at_location(location.clone());
        insta::assert_snapshot!(
            store.at(RegistryVersion(4)).await.unwrap_err(),
            @"the registry has no version 4; nothing has been applied yet"
        );
        store.write(&next(&Snapshot::empty(), "a")).await.unwrap();
        insta::assert_snapshot!(
            store.at(RegistryVersion(4)).await.unwrap_err(),
            @"the registry has no version 4; it has version 1"
        );
        location.objects.put(&store.object(RegistryVersion(2)), "not a version".into()).await.unwrap();
        let broken = RegistryStore::at_location(location).latest().await.unwrap_err();
        insta::assert_snapshot!(
            broken,
            @"r/registry/00000000000000000002.pb in the registry at memory:///r/ cannot be understood"
        );
    }

    #[tokio::test]
    async fn what_a_killed_writer_leaves_is_passed_over() {
        let location = in_memory();
        let store = RegistryStore::at_location(location.clone());
        let left = store.folder().join("_commit_1.json.tmp");
        location.objects.put(&left, "half".into()).await.unwrap();
        assert_eq!(store.latest().await.unwrap().version, RegistryVersion::EMPTY);
    }
}
