//! One LMDB environment per folder and process: opening it, sharing it, growing its map.
//!
//! LMDB maps its file into memory at a size that is set beforehand. Three things follow, and are kept here:
//! * An environment may be open only once in a process, so all stores of one folder share one [`Environment`].
//! * The map may be changed only while the process has no transaction in it, so every transaction holds the read side
//!   of a lock whose write side is the change.
//! * Another process may have grown the file beyond this process's map, which LMDB says when a transaction begins.

use std::{
    collections::HashMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use heed::{
    CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls, types::Bytes,
};
use uuid::Uuid;
use vintner_core::{EntityKey, ViewId};

use super::{
    index::{Demand, Index, Values},
    stored_key::StoredKeys,
};
use crate::error::{OnlineError, StoreFailure};

/// The format of an environment: what its databases hold and how keys are made.
const FORMAT: &str = "1";

/// How many reads may go on at one moment, in all processes together.
const MAX_READERS: u32 = 1024;

/// How often an operation is repeated after the map has changed. Each growth doubles the map, so this is never reached.
const MAX_REPEATS: usize = 64;

/// How long to wait for an environment of the same folder that is just being closed.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(10);

/// The system's number of an input/output error, for which the standard library has no name.
const EIO: i32 = 5;

static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Environment>>>> = LazyLock::new(Mutex::default);

/// An open environment. It is closed when the last store that shares it is dropped.
#[derive(Debug)]
pub(super) struct Environment {
    folder: PathBuf,
    map: RwLock<Map>,
    /// Whether somebody waits to change the map, for which an index is not worth a delay.
    is_remapped: AtomicBool,
    /// Held while an index is made, so that an older one never takes the place of a newer one.
    indexing: Mutex<()>,
    databases: Databases,
    life: String,
}

/// The databases of an environment.
#[derive(Debug)]
pub(super) struct Databases {
    /// Packed rows.
    pub(super) rows: Database<'static, Bytes, Bytes>,
    /// A blob per view version.
    pub(super) progress: Database<'static, Bytes, Bytes>,
    /// What the environment says of itself.
    meta: Database<'static, Bytes, Bytes>,
}

#[derive(Debug)]
struct Map {
    env: Env<WithoutTls>,
    /// Whether the map was lost while it was to be changed. There is nothing to read then, and reading would crash.
    lost: bool,
    /// Where the rows of a snapshot lie. It goes when the map is changed.
    index: ArcSwapOption<Index>,
    demand: Demand,
}

impl Map {
    fn read_txn(&self) -> heed::Result<RoTxn<'_, WithoutTls>> {
        match self.env.read_txn() {
            Err(heed::Error::Mdb(MdbError::ReadersFull)) => {
                self.env.clear_stale_readers()?;
                self.env.read_txn()
            }
            other => other,
        }
    }

    /// Whether there is an index of the newest snapshot.
    fn is_indexed(&self) -> heed::Result<bool> {
        let txn = self.read_txn()?;
        let index = self.index.load();
        Ok(index
            .as_deref()
            .is_some_and(|index| index.within(&txn).is_some()))
    }
}

/// What was found in one snapshot.
pub(super) struct Looked<T> {
    pub(super) found: T,
    /// Whether it was searched for, and so much has been searched for that an index should be made.
    pub(super) index_pays: bool,
}

impl Environment {
    /// Opens the environment in a folder, or shares it when it is open already. May block.
    pub(super) fn open(folder: &Path, map_bytes: usize) -> Result<Arc<Self>, OnlineError> {
        let failed = |source: StoreFailure| OnlineError::Failed {
            store: name(folder),
            action: "be opened".to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(|err| failed(err.into()))?;
        let folder = folder.canonicalize().map_err(|err| failed(err.into()))?;
        loop {
            let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(shared) = open.get(&folder).and_then(Weak::upgrade) {
                return Ok(shared);
            }
            match open_environment(&folder, map_bytes) {
                Ok(env) => {
                    let environment = Arc::new(Self::with(folder.clone(), env)?);
                    open.retain(|_, shared| shared.strong_count() > 0);
                    open.insert(folder, Arc::downgrade(&environment));
                    return Ok(environment);
                }
                // Its last user is dropping it right now.
                Err(heed::Error::EnvAlreadyOpened) => {
                    drop(open);
                    let closed = heed::env_closing_event(&folder)
                        .is_none_or(|closing| closing.wait_timeout(CLOSING_TIMEOUT));
                    if !closed {
                        return Err(failed(heed::Error::EnvAlreadyOpened.into()));
                    }
                }
                Err(err) => return Err(failed(err.into())),
            }
        }
    }

    fn with(folder: PathBuf, env: Env<WithoutTls>) -> Result<Self, OnlineError> {
        let failed = |source: StoreFailure| OnlineError::Failed {
            store: name(&folder),
            action: "be opened".to_owned(),
            source,
        };
        check_length(&folder, &env).map_err(failed)?;
        // A process that was killed while it read holds a slot and keeps old pages from being used again.
        let cleared = env
            .clear_stale_readers()
            .map_err(|err| failed(err.into()))?;
        if cleared > 0 {
            tracing::info!(cleared, folder = %folder.display(), "cleared readers of dead processes");
        }
        let databases = open_databases(&env).map_err(|err| failed(err.into()))?;
        let format = databases.format(&env).map_err(|err| failed(err.into()))?;
        if format != FORMAT.as_bytes() {
            return Err(OnlineError::Format {
                store: name(&folder),
                found: String::from_utf8_lossy(&format).into_owned(),
                known: FORMAT,
            });
        }
        let life = databases.life(&env).map_err(|err| failed(err.into()))?;
        Ok(Self {
            folder,
            map: RwLock::new(Map {
                env,
                lost: false,
                index: ArcSwapOption::empty(),
                demand: Demand::default(),
            }),
            is_remapped: AtomicBool::new(false),
            indexing: Mutex::default(),
            databases,
            life,
        })
    }

    /// The store's name in messages.
    pub(super) fn name(&self) -> String {
        name(&self.folder)
    }

    /// What tells this environment from another one that was in the folder before. Empty in one that was made when
    /// nothing asked for it.
    pub(super) fn life(&self) -> &str {
        &self.life
    }

    /// Reads in one transaction. `work` may run more than once.
    pub(super) fn read<T>(
        &self,
        action: &str,
        mut work: impl FnMut(&RoTxn<'_>, &Databases) -> heed::Result<T>,
    ) -> Result<T, OnlineError> {
        self.with_map(action, |map| {
            let txn = map.read_txn()?;
            work(&txn, &self.databases)
        })
    }

    /// Gives `work` the values of the rows of these keys, in their order, all of one snapshot. It may run more than once.
    pub(super) fn look_up<T>(
        &self,
        action: &str,
        keys: &StoredKeys,
        mut work: impl FnMut(&[Option<&[u8]>]) -> T,
    ) -> Result<Looked<T>, OnlineError> {
        self.with_map(action, |map| {
            let txn = map.read_txn()?;
            let index = map.index.load();
            if let Some(index) = index.as_deref().and_then(|index| index.within(&txn)) {
                return Ok(Looked {
                    found: work(&index.values(&self.databases, keys)?),
                    index_pays: false,
                });
            }
            let rows = self.databases.rows;
            let mut values = Values::with_capacity(keys.len());
            for key in keys.iter() {
                values.push(rows.get(&txn, key)?);
            }
            let found = work(&values);
            let index_pays = map.demand.searched(txn.id(), values.len(), rows.len(&txn)?);
            Ok(Looked { found, index_pays })
        })
    }

    /// Makes an index of the rows as they are now. It is given up when nobody else uses the environment, when rows change,
    /// and when the map is to be changed. May block.
    pub(super) fn make_index(self: &Arc<Self>) -> Result<(), OnlineError> {
        let is_wanted = || Arc::strong_count(self) > 1 && !self.is_remapped.load(Ordering::Relaxed);
        let _one = self.indexing.lock().unwrap_or_else(PoisonError::into_inner);
        self.with_map("index its rows", |map| {
            if map.is_indexed()? {
                return Ok(());
            }
            // So that there are never two.
            map.index.store(None);
            let index = Index::build(&map.env, &self.databases, is_wanted)?;
            map.index.store(index.map(Arc::new));
            Ok(())
        })
    }

    /// Writes in one transaction, which is on disk when this returns. `work` may run more than once, each time on
    /// what was there before the first. May block.
    pub(super) fn write<T>(
        &self,
        action: &str,
        mut work: impl FnMut(&mut RwTxn<'_>, &Databases) -> heed::Result<T>,
    ) -> Result<T, OnlineError> {
        self.with_map(action, |map| {
            let mut txn = map.env.write_txn()?;
            let done = work(&mut txn, &self.databases)?;
            txn.commit()?;
            Ok(done)
        })
    }

    pub(super) fn collision(&self, view: &ViewId, key: EntityKey) -> OnlineError {
        OnlineError::KeyCollision {
            store: self.name(),
            view: view.clone(),
            key,
        }
    }

    #[cfg(test)]
    pub(super) fn set_format(&self, format: &[u8]) {
        self.write("test", |txn, databases| {
            databases.meta.put(txn, b"format", format)
        })
        .unwrap();
    }

    /// Whether reads go by an index now.
    #[cfg(test)]
    pub(super) fn is_indexed(&self) -> bool {
        self.map("test").unwrap().is_indexed().unwrap()
    }

    /// Runs `transaction` until the map is large enough for it.
    fn with_map<T>(
        &self,
        action: &str,
        mut transaction: impl FnMut(&Map) -> heed::Result<T>,
    ) -> Result<T, OnlineError> {
        let mut repeats = 0;
        loop {
            let map = self.map(action)?;
            let seen = map.env.info().map_size;
            let failure = match transaction(&map) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            drop(map);
            repeats += 1;
            match failure {
                heed::Error::Mdb(MdbError::MapFull) if repeats < MAX_REPEATS => {
                    self.remap(seen, Some(seen.saturating_mul(2)), action)?;
                }
                heed::Error::Mdb(MdbError::MapResized) if repeats < MAX_REPEATS => {
                    self.remap(seen, None, action)?;
                }
                failure @ heed::Error::Mdb(MdbError::ReadersFull) => {
                    return Err(OnlineError::Unavailable {
                        store: self.name(),
                        source: failure.into(),
                    });
                }
                failure => return Err(self.failed(action, failure.into())),
            }
        }
    }

    fn map(&self, action: &str) -> Result<RwLockReadGuard<'_, Map>, OnlineError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        if map.lost {
            let reason =
                "its memory map was lost when it was to grow; start this process again".to_owned();
            return Err(self.failed(action, StoreFailure::Other(reason)));
        }
        Ok(map)
    }

    /// Takes over the size that another process has given the file, and grows the map to `wanted` bytes when that is
    /// more. Does nothing when another thread has changed the map since `seen`.
    fn remap(&self, seen: usize, wanted: Option<usize>, action: &str) -> Result<(), OnlineError> {
        self.is_remapped.store(true, Ordering::Relaxed);
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        self.is_remapped.store(false, Ordering::Relaxed);
        if map.lost || map.env.info().map_size != seen {
            return Ok(());
        }
        map.index.store(None);
        let resized = resize(&map.env, 0).and_then(|()| match wanted {
            Some(wanted) if wanted > map.env.info().map_size => resize(&map.env, wanted),
            _ => Ok(()),
        });
        if let Err(err) = resized {
            map.lost = true;
            return Err(self.failed(action, err.into()));
        }
        tracing::debug!(bytes = map.env.info().map_size, folder = %self.folder.display(), "remapped the online store");
        Ok(())
    }

    fn failed(&self, action: &str, source: StoreFailure) -> OnlineError {
        if is_full(&source) {
            return OnlineError::Full {
                store: self.name(),
                source,
            };
        }
        // LMDB calls a write that ended half way so, which is how a full disk often shows.
        let source = match source {
            StoreFailure::Lmdb(heed::Error::Io(err)) if err.raw_os_error() == Some(EIO) => {
                StoreFailure::Other(format!("{err}; the disk is full or failing"))
            }
            source => source,
        };
        OnlineError::Failed {
            store: self.name(),
            action: action.to_owned(),
            source,
        }
    }
}

fn is_full(source: &StoreFailure) -> bool {
    let kind = match source {
        StoreFailure::Lmdb(heed::Error::Io(err)) | StoreFailure::Io(err) => err.kind(),
        _ => return false,
    };
    matches!(
        kind,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

fn name(folder: &Path) -> String {
    format!("in {}", folder.display())
}

#[expect(
    unsafe_code,
    reason = "LMDB maps a file; see the comment on what makes that sound here"
)]
pub(super) fn open_environment(folder: &Path, map_bytes: usize) -> heed::Result<Env<WithoutTls>> {
    // Reader slots belong to transactions and not to threads, so that closing the environment while a thread ends
    // cannot touch memory that is gone.
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options
        .map_size(map_bytes)
        .max_dbs(3)
        .max_readers(MAX_READERS);
    // Sound as long as the file is changed by LMDB only and lies on a local file system, which the documentation of
    // the embedded store asks for; no flag that weakens locks or syncing is set.
    unsafe { options.open(folder) }
}

#[expect(
    unsafe_code,
    reason = "the map is changed under the write side of the lock that every transaction reads"
)]
fn resize(env: &Env<WithoutTls>, bytes: usize) -> heed::Result<()> {
    // Sound: the only caller holds the map's lock exclusively, so this process has no transaction in it.
    unsafe { env.resize(bytes) }
}

/// Refuses a file that is shorter than it says: reading beyond its end would end the process.
fn check_length(folder: &Path, env: &Env<WithoutTls>) -> Result<(), StoreFailure> {
    let page = u64::from(env.unnamed_database_stat().page_size);
    let wanted = (env.info().last_page_number as u64 + 1) * page;
    let found = std::fs::metadata(folder.join("data.mdb"))?.len();
    if found < wanted {
        return Err(StoreFailure::Other(format!(
            "data.mdb has {found} bytes and should have at least {wanted}: it has been cut off; \
             remove the folder and materialize again"
        )));
    }
    Ok(())
}

/// The databases, made when they are not there.
pub(super) fn open_databases(env: &Env<WithoutTls>) -> heed::Result<Databases> {
    // First without a write transaction, which would wait for a writer in another process.
    let txn = env.read_txn()?;
    let opened = env.open_databases_and_commit(txn, |opener, txn| {
        let open = |name| opener.open_database::<Bytes, Bytes>(txn, Some(name));
        let (meta, rows, progress) = (open("meta")?, open("rows")?, open("progress")?);
        heed::Result::Ok(match (meta, rows, progress) {
            (Some(meta), Some(rows), Some(progress)) => {
                CommitOrAbort::Commit((meta, rows, progress))
            }
            _ => CommitOrAbort::Abort(()),
        })
    })?;
    let (meta, rows, progress) = match opened.commit() {
        Some(opened) => opened,
        None => {
            let txn = env.write_txn()?;
            let created = env.create_databases_and_commit(txn, |opener, txn| {
                let meta = opener.create_database::<Bytes, Bytes>(txn, Some("meta"))?;
                let rows = opener.create_database::<Bytes, Bytes>(txn, Some("rows"))?;
                let progress = opener.create_database::<Bytes, Bytes>(txn, Some("progress"))?;
                if meta.get(txn, b"format")?.is_none() {
                    meta.put(txn, b"format", FORMAT.as_bytes())?;
                    meta.put(txn, b"life", Uuid::new_v4().to_string().as_bytes())?;
                }
                heed::Result::Ok(CommitOrAbort::<_, ()>::Commit((meta, rows, progress)))
            })?;
            created.unwrap_commit()
        }
    };
    Ok(Databases {
        rows,
        progress,
        meta,
    })
}

impl Databases {
    /// The format that the environment says it has.
    fn format(&self, env: &Env<WithoutTls>) -> heed::Result<Vec<u8>> {
        let txn = env.read_txn()?;
        Ok(self.meta.get(&txn, b"format")?.unwrap_or_default().to_vec())
    }

    fn life(&self, env: &Env<WithoutTls>) -> heed::Result<String> {
        let txn = env.read_txn()?;
        let life = self.meta.get(&txn, b"life")?.unwrap_or_default();
        Ok(String::from_utf8_lossy(life).into_owned())
    }
}
