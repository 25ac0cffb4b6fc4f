//! Deletes the rows of entities: the files that have some are written again without them, in one commit.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch},
    compute::{filter_record_batch, not},
    datatypes::Schema,
};
use datafusion::{error::DataFusionError, prelude::SessionContext};
use futures::{StreamExt, future::BoxFuture};
use serde_json::json;
use vintner_core::{EntityKey, KeyColumns, KeySchema, KeyValue, Timestamp, ViewId};
use vintner_registry::model::ViewRevision;

use super::{
    compact::{MaintenanceContext, order, sorting_session, stream},
    error::MaintenanceError,
};
use crate::delta::{
    Arrangement, Change, Columns, DataFile, DataFiles, Deletions, DeltaError, Effect, Origin,
    TableState, ViewLayout, Waits, Written, at_least_of, layout::file_schema,
};

/// How often a deletion begins again because what it read was written anew meanwhile.
const ATTEMPTS: u32 = 8;

/// What a deletion has done, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The view.
    pub view: ViewId,
    /// The entities that had rows.
    pub found: HashSet<EntityKey>,
    /// How many rows that were.
    pub rows: u64,
    /// The first version of the table that is without them; none when there is no table, or nothing was written.
    pub table_version: Option<u64>,
    /// How many files had some of them.
    pub files_removed: usize,
    /// How many files have their other rows now.
    pub files_added: usize,
    /// The size of those files.
    pub bytes_added: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Whether a deletion is done, or it is only said what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is done.
    Done,
    /// Only said.
    Told,
}

/// Deletes the rows of entities from a view's table, whether runs have computed them or they were pushed. One version of
/// the table comes of it, which also records that runs leave out rows of these entities of up to the moment `at`. Rows that
/// are pushed meanwhile are later ones, and stay. When no entity has rows and all of that is recorded, nothing is written.
///
/// Cost: of the files that can have such rows by their statistics, the join keys are read; those that do have some are
/// written again. Memory: some row groups.
///
/// # Errors
/// [`MaintenanceError`]; then the table is as it was.
pub fn delete_entities<'a>(
    context: &'a MaintenanceContext<'a>,
    view: &'a ViewRevision,
    entities: &'a HashSet<EntityKey>,
    at: Timestamp,
    mode: Mode,
) -> BoxFuture<'a, Result<Deletion, MaintenanceError>> {
    Box::pin(async move {
        let mut waits = Waits::new(ATTEMPTS - 1);
        loop {
            match attempt(context, view, entities, at, mode).await {
                Err(MaintenanceError::Delta(error)) if error.is_conflict() => {
                    if !waits.next().await {
                        return Err(MaintenanceError::Busy {
                            view: view.id.clone(),
                            attempts: ATTEMPTS,
                            doing: "rows were deleted from it",
                        });
                    }
                    tracing::info!(view = %view.id, "written by somebody else meanwhile; deleting again");
                }
                other => return other,
            }
        }
    })
}

async fn attempt(
    context: &MaintenanceContext<'_>,
    view: &ViewRevision,
    entities: &HashSet<EntityKey>,
    at: Timestamp,
    mode: Mode,
) -> Result<Deletion, MaintenanceError> {
    let began = Instant::now();
    let table = context.store.table(context.project, &view.id)?;
    let mut done = Deletion {
        view: view.id.clone(),
        found: HashSet::new(),
        rows: 0,
        table_version: None,
        files_removed: 0,
        files_added: 0,
        bytes_added: 0,
        elapsed: Duration::ZERO,
    };
    let Some(base) = table.newest().await? else {
        return Ok(done);
    };
    let deletions = base.deletions().await?;
    let layout = ViewLayout::of(view);
    base.check_types(&layout)?;
    let deleting = Deleting {
        session: sorting_session(context.session),
        view,
        base: &base,
        order: order(&layout),
        layout,
        entities,
        values: decoded(&view.join_keys, entities).map_err(|error| table.read_error(error))?,
    };
    let files = deleting.files_with_rows(&mut done).await?;
    if mode == Mode::Told {
        done.elapsed = began.elapsed();
        return Ok(done);
    }
    if files.is_empty() && is_recorded(&deletions, entities, at) {
        done.table_version = Some(base.version());
        done.elapsed = began.elapsed();
        return Ok(done);
    }
    let written = deleting.rewrite_all(&files).await?;
    let written = deleting.count(&files, written, done.rows).await?;
    done.files_removed = files.len();
    done.files_added = written.adds.len();
    done.bytes_added = written.bytes();
    let change = Change {
        written,
        removes: files.iter().map(DataFile::removal).collect(),
        columns: Columns::Same,
        effect: Effect::Deletes,
        producers: Vec::new(),
        info: vec![
            deletions.record(entities.iter(), at),
            (
                "vintner.reason".to_owned(),
                json!(deletion_reason(entities.len())),
            ),
        ],
    };
    done.table_version = Some(change.commit(&table, Some(&base)).await?);
    done.elapsed = began.elapsed();
    Ok(done)
}

/// What a deletion of so many entities is, in words.
pub fn deletion_reason(entities: usize) -> String {
    match entities {
        1 => "the rows of an entity were deleted".to_owned(),
        count => format!("the rows of {count} entities were deleted"),
    }
}

/// Whether runs leave out all of these anyway.
fn is_recorded(deletions: &Deletions, entities: &HashSet<EntityKey>, at: Timestamp) -> bool {
    entities.iter().all(|key| deletions.cover(key, at))
}

/// The values of the entities' join keys.
fn decoded(
    schema: &KeySchema,
    entities: &HashSet<EntityKey>,
) -> Result<Vec<Vec<KeyValue>>, vintner_core::KeyError> {
    entities.iter().map(|key| key.decode(schema)).collect()
}

struct Deleting<'a> {
    session: SessionContext,
    view: &'a ViewRevision,
    base: &'a TableState,
    order: Vec<String>,
    layout: ViewLayout,
    entities: &'a HashSet<EntityKey>,
    values: Vec<Vec<KeyValue>>,
}

impl Deleting<'_> {
    /// The files that have rows of the entities; counts those.
    async fn files_with_rows(
        &self,
        done: &mut Deletion,
    ) -> Result<Vec<DataFile>, MaintenanceError> {
        let keys = self.layout.arrow().fields()[..self.layout.keys()].to_vec();
        let keys = Schema::new(keys).into();
        let mut found = Vec::new();
        let files = self.base.files().into_iter();
        for file in files.filter(|file| file.can_hold(&self.view.join_keys, &self.values)) {
            let rows = self.base.rows_plan(&keys, Some(vec![file.path()])).await;
            let rows = rows.and_then(|rows| at_least_of(&self.view.join_keys, &self.values, rows));
            let batches = stream(&self.session, rows).await;
            let mut batches = batches.map_err(|error| self.error(error))?;
            let before = done.rows;
            while let Some(batch) = batches.next().await {
                let batch = batch.map_err(|error| self.error(error))?;
                let columns: Vec<&ArrayRef> = batch.columns().iter().collect();
                let columns = KeyColumns::new(&self.view.join_keys, &columns);
                let columns = columns.map_err(|error| self.base.table().read_error(error))?;
                let keys = (0..batch.num_rows()).filter_map(|row| columns.key(row));
                for key in keys.filter(|key| self.entities.contains(key)) {
                    done.rows += 1;
                    done.found.insert(key);
                }
            }
            if done.rows > before {
                found.push(file);
            }
        }
        Ok(found)
    }

    /// Writes the rows of files without those of the entities, each file by itself: so what was sorted, of one range of
    /// time, or pushed, stays so.
    async fn rewrite_all(&self, files: &[DataFile]) -> Result<Written, MaintenanceError> {
        let mut written = Written::default();
        for origin in [Origin::Run, Origin::Push] {
            for is_sorted in [false, true] {
                let files = files.iter();
                let files =
                    files.filter(|file| (file.origin(), file.is_sorted()) == (origin, is_sorted));
                match self.rewrite(files, origin, is_sorted).await {
                    Ok(more) => written = written.and(more),
                    Err(error) => {
                        written.discard(self.base.table()).await;
                        return Err(error);
                    }
                }
            }
        }
        Ok(written)
    }

    async fn rewrite(
        &self,
        files: impl Iterator<Item = &DataFile>,
        origin: Origin,
        is_sorted: bool,
    ) -> Result<Written, MaintenanceError> {
        let mut to = DataFiles::new(
            self.base.table(),
            &self.base.columns(),
            self.layout.statistics_columns(),
            origin,
            match is_sorted {
                false => Arrangement::AsTheyCome,
                true => Arrangement::Sorted {
                    by: self.order.clone(),
                },
            },
        );
        for file in files {
            if let Err(error) = self.rewrite_one(file, &mut to).await {
                to.abandon().await;
                return Err(error);
            }
        }
        Ok(to.finish().await?)
    }

    /// The rows come in the order of the file: the session reads it in one piece.
    async fn rewrite_one(
        &self,
        file: &DataFile,
        to: &mut DataFiles,
    ) -> Result<(), MaintenanceError> {
        let schema = file_schema(&self.base.columns());
        let rows = self.base.rows_plan(&schema, Some(vec![file.path()])).await;
        let batches = stream(&self.session, rows).await;
        let mut batches = batches.map_err(|error| self.error(error))?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| self.error(error))?;
            to.write(0, &self.staying(&batch)?).await?;
        }
        Ok(to.next_file().await?)
    }

    /// The rows of other entities.
    fn staying(&self, batch: &RecordBatch) -> Result<RecordBatch, DeltaError> {
        let read_error = |error| self.base.table().read_error(error);
        let keys = self.view.keys().iter();
        let columns: Vec<&ArrayRef> = keys
            .filter_map(|key| batch.column_by_name(key.name.as_str()))
            .collect();
        let keys = KeyColumns::new(&self.view.join_keys, &columns);
        let keys = keys.map_err(|error| read_error(error.to_string()))?;
        let goes: BooleanArray = (0..batch.num_rows())
            .map(|row| {
                Some(
                    keys.key(row)
                        .is_some_and(|key| self.entities.contains(&key)),
                )
            })
            .collect();
        let staying = not(&goes).and_then(|stays| filter_record_batch(batch, &stays));
        staying.map_err(|error| read_error(error.to_string()))
    }

    /// As many rows must stay as the log says there were, less those that go. Nothing but a bug, here or in what reads,
    /// makes a difference; it must not cost rows of others.
    async fn count(
        &self,
        files: &[DataFile],
        written: Written,
        deleted: u64,
    ) -> Result<Written, MaintenanceError> {
        let table = self.base.table();
        // The log counts rows that another writer has marked as deleted.
        let known = files.iter().all(|file| !file.has_deleted_rows());
        let rows: Option<u64> = files.iter().map(DataFile::rows).sum();
        match rows.filter(|_| known) {
            Some(rows) if rows != written.rows + deleted => {
                let stay = written.rows;
                written.discard(table).await;
                let error = format!(
                    "the log says that there are {rows} rows, of which {deleted} go, and {stay} were to stay"
                );
                Err(table.write_error(error).into())
            }
            _ => Ok(written),
        }
    }

    fn error(&self, source: DataFusionError) -> MaintenanceError {
        self.base.table().read_error(source).into()
    }
}
