//! The online store that needs no server: an LMDB environment in a folder, shared by any number of processes.
//!
//! Keys and values are described in `docs/formats/online-row.md`. A write is on disk when the call returns, so it
//! survives the death of the process. Reads see the last committed write of every process and never wait for one.
//!
//! Rows stay until their view is deleted: nothing here expires, since the statuses of a read decide what counts. A
//! sweep of rows long past their ttl would only save space, and belongs here when it comes.
//!
//! [`environment`] opens, shares and grows the memory map, [`index`] finds rows in it; this module decides what is in it.
//! Not here: shared file systems. LMDB's locks need the processes on one machine.

mod delete;
mod environment;
mod index;
mod listing;
mod probe;
mod stored_key;

use std::{ops::Range, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use heed::RwTxn;
use smallvec::SmallVec;
use vintner_core::{EntityKey, ProjectName, ViewId};

use crate::{
    error::{OnlineError, StoreFailure},
    row::TIME_BYTES,
    store::{
        Expiry, KeyCursor, KeyPage, Load, Lookup, OnlineRow, OnlineStore, Probe, Replacement,
        StoreInfo, WriteReport,
    },
};
use environment::{Databases, Environment};
use stored_key::{
    StoredKeys, push_entity, push_entity_of_hashed, row_of, split_value, view_prefix,
};

/// The map size of a new environment. It grows by itself, and takes no space before it is filled.
const FIRST_MAP_BYTES: usize = 1 << 30;

/// Rows per transaction of writes, so that no other writer waits long behind one.
const WRITE_ROWS: usize = 16_384;
/// Bytes of keys and rows per transaction of writes, for the same reason.
const WRITE_BYTES: usize = 8 << 20;
/// Rows per transaction of a deletion.
const DELETE_ROWS: usize = 16_384;

/// Of so many rows nothing takes memory of its own while they are looked up.
const FEW: usize = 8;

/// The online store in an LMDB environment.
#[derive(Debug)]
pub struct EmbeddedStore {
    environment: Arc<Environment>,
}

impl EmbeddedStore {
    /// Opens the store in a folder, which is made when it is not there. Opening one folder twice gives one store.
    ///
    /// # Errors
    /// [`OnlineError`] when the folder is not ours to use, or holds something else.
    pub async fn open(folder: &Path) -> Result<Self, OnlineError> {
        Self::open_with(folder, FIRST_MAP_BYTES).await
    }

    async fn open_with(folder: &Path, map_bytes: usize) -> Result<Self, OnlineError> {
        let owned = folder.to_owned();
        let opened =
            tokio::task::spawn_blocking(move || Environment::open(&owned, map_bytes)).await;
        let environment = opened.map_err(|err| interrupted(&folder.display(), "open", &err))??;
        Ok(Self { environment })
    }

    /// The store's name in messages.
    pub(crate) fn name(&self) -> String {
        self.environment.name()
    }

    /// What stands for the progress of a view; empty until a first load has ended.
    fn noted(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OnlineError> {
        self.environment.read("read progress", |txn, databases| {
            Ok(databases.progress.get(txn, key)?.map(<[u8]>::to_vec))
        })
    }

    /// What was written stays, however often the environment is opened, but not when its folder is taken away.
    fn load_of(&self, noted: Option<Vec<u8>>) -> Load {
        Load {
            begun: noted.is_some(),
            progress: noted.filter(|noted| !noted.is_empty()),
            life: self.environment.life().to_owned(),
        }
    }

    /// Makes an index of the rows while reads go on. They do without it as well, so nothing waits for it.
    fn make_index(&self) {
        let environment = Arc::clone(&self.environment);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = environment.make_index() {
                tracing::warn!(%error, "the embedded online store is read without an index");
            }
        });
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        action: &str,
        work: impl FnOnce(&Environment) -> Result<T, OnlineError> + Send + 'static,
    ) -> Result<T, OnlineError> {
        let environment = Arc::clone(&self.environment);
        tokio::task::spawn_blocking(move || work(&environment))
            .await
            .map_err(|err| interrupted(&self.environment.name(), action, &err))?
    }
}

fn interrupted(store: &impl ToString, action: &str, err: &tokio::task::JoinError) -> OnlineError {
    OnlineError::Failed {
        store: store.to_string(),
        action: action.to_owned(),
        source: StoreFailure::Other(err.to_string()),
    }
}

#[async_trait]
impl OnlineStore for EmbeddedStore {
    async fn write(
        &self,
        project: &ProjectName,
        view: &ViewId,
        _expiry: Option<Expiry>,
        rows: &[OnlineRow],
    ) -> Result<WriteReport, OnlineError> {
        let action = format!("write rows of {view}");
        let prefix = view_prefix(project, view);
        let mut report = WriteReport::default();
        let mut rows = rows.iter().peekable();
        while rows.peek().is_some() {
            let mut batch = Batch::default();
            while let Some(row) = rows
                .next_if(|_| batch.entries.len() < WRITE_ROWS && batch.bytes.len() < WRITE_BYTES)
            {
                batch.push(&prefix, row);
            }
            let (action, view) = (action.clone(), view.clone());
            report += self
                .blocking(&action.clone(), move |environment| {
                    let outcome =
                        environment.write(&action, |txn, databases| batch.put(txn, databases))?;
                    outcome.map_err(|key| environment.collision(&view, key))
                })
                .await?;
        }
        Ok(report)
    }

    async fn read(
        &self,
        project: &ProjectName,
        lookups: &[Lookup<'_>],
    ) -> Result<Vec<Vec<Option<Bytes>>>, OnlineError> {
        // The map is in memory or a page fault away, so a read does not leave its thread. All rows are copied into
        // one buffer, since nothing may point into the map after its transaction.
        let mut keys = StoredKeys::default();
        for lookup in lookups {
            keys.push_all(&view_prefix(project, lookup.view), lookup.keys);
        }
        let mut buffer = BytesMut::new();
        let mut places = SmallVec::<[Option<Range<usize>>; FEW]>::new();
        let read = |values: &[Option<&[u8]>]| {
            buffer.clear();
            places.clear();
            buffer.reserve(values.iter().flatten().map(|value| value.len()).sum());
            places.reserve(values.len());
            let wanted = lookups.iter().flat_map(|lookup| {
                let keys = lookup.keys.iter();
                keys.map(move |key| (lookup.view, key))
            });
            for ((view, key), (value, kind)) in wanted.zip(values.iter().zip(keys.kinds())) {
                let start = buffer.len();
                places.push(match value {
                    None => None,
                    Some(value) => {
                        let row = row_of(kind, value, key.as_bytes()).ok_or((view, key))?;
                        buffer.extend_from_slice(row);
                        Some(start..buffer.len())
                    }
                });
            }
            Ok(())
        };
        let looked = self.environment.look_up("read rows", &keys, read)?;
        if looked.index_pays {
            self.make_index();
        }
        let read: Result<(), (&ViewId, &EntityKey)> = looked.found;
        read.map_err(|(view, key)| self.environment.collision(view, key.clone()))?;
        let buffer = buffer.freeze();
        let mut rows = places
            .into_iter()
            .map(|place| place.map(|place| buffer.slice(place)));
        let rows_of = |lookup: &Lookup<'_>| rows.by_ref().take(lookup.keys.len()).collect();
        Ok(lookups.iter().map(rows_of).collect())
    }

    async fn load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        Ok(self.load_of(self.noted(&view_prefix(project, view))?))
    }

    async fn begin_load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        let key = view_prefix(project, view);
        let noted = self.noted(&key)?;
        if noted.is_none() {
            let action = format!("begin to load {view}");
            self.blocking(&action.clone(), move |environment| {
                environment.write(&action, |txn, databases| {
                    // Another load may have ended since the reading.
                    databases.progress.get_or_put(txn, &key, b"").map(|_| ())
                })
            })
            .await?;
        }
        Ok(self.load_of(noted))
    }

    async fn end_load(
        &self,
        project: &ProjectName,
        view: &ViewId,
        _load: &Load,
        progress: &[u8],
    ) -> Result<(), OnlineError> {
        let action = format!("note the progress of {view}");
        let (key, progress) = (view_prefix(project, view), progress.to_vec());
        let noted = self
            .blocking(&action.clone(), move |environment| {
                environment.write(&action, |txn, databases| {
                    let begun = databases.progress.get(txn, &key)?.is_some();
                    if begun {
                        databases.progress.put(txn, &key, &progress)?;
                    }
                    Ok(begun)
                })
            })
            .await?;
        match noted {
            true => Ok(()),
            false => Err(OnlineError::LostRows {
                store: self.environment.name(),
                view: view.clone(),
            }),
        }
    }

    async fn keys(
        &self,
        project: &ProjectName,
        view: &ViewId,
        from: Option<&KeyCursor>,
    ) -> Result<KeyPage, OnlineError> {
        let prefix = view_prefix(project, view);
        let from = from.map(|from| from.0.clone());
        let action = format!("list the entities of {view}");
        self.blocking(&action.clone(), move |environment| {
            environment.read(&action, |txn, databases| {
                listing::page(txn, databases, &prefix, from.as_deref())
            })
        })
        .await
    }

    async fn delete_rows(
        &self,
        project: &ProjectName,
        view: &ViewId,
        keys: &[EntityKey],
    ) -> Result<u64, OnlineError> {
        let action = format!("delete rows of {view}");
        let prefix = view_prefix(project, view);
        let mut deleted = 0;
        for keys in keys.chunks(DELETE_ROWS) {
            let (keys, prefix, action, view) =
                (keys.to_vec(), prefix.clone(), action.clone(), view.clone());
            deleted += self
                .blocking(&action.clone(), move |environment| {
                    let done = environment.write(&action, |txn, databases| {
                        delete::rows(txn, databases, &prefix, &keys)
                    })?;
                    done.map_err(|key| environment.collision(&view, key))
                })
                .await?;
        }
        Ok(deleted)
    }

    async fn replace(
        &self,
        project: &ProjectName,
        view: &ViewId,
        _expiry: Option<Expiry>,
        replacements: &[Replacement],
    ) -> Result<u64, OnlineError> {
        let action = format!("replace rows of {view}");
        let prefix = view_prefix(project, view);
        let mut changed = 0;
        for part in replacements.chunks(WRITE_ROWS) {
            let (part, prefix, action, view) =
                (part.to_vec(), prefix.clone(), action.clone(), view.clone());
            changed += self
                .blocking(&action.clone(), move |environment| {
                    let done = environment.write(&action, |txn, databases| {
                        delete::replace(txn, databases, &prefix, &part)
                    })?;
                    done.map_err(|key| environment.collision(&view, key))
                })
                .await?;
        }
        Ok(changed)
    }

    async fn forget(&self, project: &ProjectName, view: &ViewId) -> Result<(), OnlineError> {
        let action = format!("forget the progress of {view}");
        let key = view_prefix(project, view);
        self.blocking(&action.clone(), move |environment| {
            environment.write(&action, |txn, databases| {
                databases.progress.delete(txn, &key).map(|_| ())
            })
        })
        .await
    }

    async fn probe(&self) -> Result<Probe, OnlineError> {
        self.blocking("be tried out", probe::probe).await
    }

    async fn check(&self) -> Result<StoreInfo, OnlineError> {
        self.environment.read("describe itself", |txn, databases| {
            databases.rows.stat(txn).map(|_| ())
        })?;
        let version = heed::lmdb_version();
        Ok(StoreInfo {
            store: self.environment.name(),
            version: format!("LMDB {}.{}.{}", version.major, version.minor, version.patch),
            warnings: Vec::new(),
        })
    }
}

/// Rows on their way to a thread that may block: one buffer of keys and values, and where they are in it.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    kind: u8,
    key: Range<usize>,
    value: Range<usize>,
}

impl Batch {
    fn push(&mut self, prefix: &[u8], row: &OnlineRow) {
        let key_at = self.bytes.len();
        let mut stored_key = prefix.to_vec();
        let kind = push_entity(&mut stored_key, &row.key);
        self.bytes.extend_from_slice(&stored_key);
        let value_at = self.bytes.len();
        push_entity_of_hashed(&mut self.bytes, kind, &row.key);
        self.bytes.extend_from_slice(row.row.as_bytes());
        self.entries.push(Entry {
            kind,
            key: key_at..value_at,
            value: value_at..self.bytes.len(),
        });
    }

    /// Puts every row that is not older than what is stored. The inner error is an entity whose place is taken.
    fn put(
        &self,
        txn: &mut RwTxn<'_>,
        databases: &Databases,
    ) -> heed::Result<Result<WriteReport, EntityKey>> {
        let mut report = WriteReport::default();
        for entry in &self.entries {
            let (key, value) = (
                &self.bytes[entry.key.clone()],
                &self.bytes[entry.value.clone()],
            );
            let Some((entity, row)) = split_value(entry.kind, value) else {
                continue;
            };
            let stored = match databases.rows.get(txn, key)? {
                None => None,
                Some(stored) => match row_of(entry.kind, stored, entity) {
                    Some(stored) => stored.get(TIME_BYTES),
                    None => return Ok(Err(EntityKey::from_bytes(entity))),
                },
            };
            // What has no row time is damaged, and is replaced.
            if stored > row.get(TIME_BYTES) {
                report.kept += 1;
            } else {
                databases.rows.put(txn, key, value)?;
                report.written += 1;
            }
        }
        Ok(Ok(report))
    }
}

#[cfg(test)]
mod tests;
