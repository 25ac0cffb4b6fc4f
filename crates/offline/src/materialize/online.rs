//! What the online store should have: the latest row of each key whose time has come.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    error::DataFusionError,
    execution::SendableRecordBatchStream,
    logical_expr::{LogicalPlan, LogicalPlanBuilder, ident},
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{StreamExt, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};
use vintner_core::{RowTime, Timestamp};
use vintner_registry::model::ViewRevision;

use super::{
    error::MaterializeError,
    input::instant,
    latest::{LatestRows, Unseen},
    progress::optional_micros,
    run::MaterializeContext,
};
use crate::delta::{
    AddedFile, AddedFiles, DeletionWatch, DeltaError, KeyDigest, Table, TableState, ViewLayout,
    deletions::{deleted_between, is_deletion},
    layout::EVENT_TIMESTAMP,
};

/// How many commits are read at a time.
const COMMITS_READ_AT_ONCE: usize = 16;
/// Rows per batch of a load.
const BATCH_ROWS: usize = 8192;

/// How far a view's table has been loaded into an online store, which keeps this with the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineCursor {
    /// The table, since another one may come to its place.
    table: String,
    /// Its version.
    version: u64,
    /// The features that were loaded, as a fingerprint of their names and types.
    layout: u32,
    /// How many rows were held back, since their event time had not come.
    held_back: u64,
    /// The least event time of those rows.
    #[serde(
        with = "optional_micros",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    due: Option<Timestamp>,
}

impl OnlineCursor {
    /// The cursor of a table of which all rows are loaded but those that are held back.
    pub(super) fn at(state: &TableState, view: &ViewRevision, held_back: Held) -> Self {
        Self {
            table: state.id().to_owned(),
            version: state.version(),
            layout: view.layout().fingerprint(),
            held_back: held_back.rows,
            due: held_back.due,
        }
    }

    /// Whether everything that the table has as of `now` is loaded, when `newest` is the cursor of all of it.
    pub fn is_complete(&self, newest: &Self, now: Timestamp) -> bool {
        let same_rows = (&self.table, self.version, self.layout)
            == (&newest.table, newest.version, newest.layout);
        same_rows && self.due.is_none_or(|due| now < due)
    }

    /// Whether it says anything of the table and the features of another cursor: else all of the table is loaded.
    pub fn is_of(&self, newest: &Self) -> bool {
        self.table == newest.table && self.layout == newest.layout && self.version <= newest.version
    }

    /// The version of the table that has been loaded.
    pub fn table_version(&self) -> u64 {
        self.version
    }

    /// When the first of the rows that are held back is due.
    pub fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// The cursor as the online store keeps it: a small JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`OnlineCursor::to_json`] gives. None for anything else, so that everything is loaded again.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// What to put into the online store.
pub struct OnlineLoad {
    /// At most one row per key, with the columns of [`ViewLayout`], in no particular order.
    pub batches: SendableRecordBatchStream,
    /// How many rows that is.
    pub rows: u64,
    /// How many rows of the table are held back, since their event time has not come.
    pub held_back: u64,
    /// Where the next load goes on, once all of this one is in the store. None when there is no table.
    pub cursor: Option<OnlineCursor>,
    /// The entities whose rows were deleted since: what the store has of them is to be looked at.
    pub deleted: HashSet<KeyDigest>,
    /// Sees deletions that come while the rows are written, which may be of these. None when there is no table.
    pub watch: Option<DeletionWatch>,
}

/// The latest row of each key that has come to count since a cursor, or at all: the greatest row time at or before
/// `now`, and of equal ones the one with the greater values. A key whose latest row was given before may be given
/// again; one whose latest row is not new is not given.
///
/// Only what was added to the table since the cursor is read, and rows that were held back and are due; all of the
/// table without a cursor, or when the cursor is of another table or of other features. Rows that a run has replaced since
/// are no matter: a store that never goes back in time would not take an older row in place of one that it has. Which
/// entities' rows were deleted is told.
///
/// Memory: one row per key, not the history.
///
/// # Errors
/// [`MaterializeError`] when the table cannot be read.
pub fn online_rows<'a>(
    context: &'a MaterializeContext<'a>,
    view: &'a ViewRevision,
    since: Option<&'a OnlineCursor>,
    now: Timestamp,
) -> BoxFuture<'a, Result<OnlineLoad, MaterializeError>> {
    Box::pin(load(context, view, since, now))
}

async fn load(
    context: &MaterializeContext<'_>,
    view: &ViewRevision,
    since: Option<&OnlineCursor>,
    now: Timestamp,
) -> Result<OnlineLoad, MaterializeError> {
    let delta_error = |source| MaterializeError::Delta {
        view: view.id.clone(),
        source,
    };
    let table = context.store.table(context.project, &view.id);
    let table = table.map_err(delta_error)?;
    let latest = LatestRows::new(view);
    let layout = ViewLayout::of(view);
    let Some(state) = table.newest().await.map_err(delta_error)? else {
        return Ok(OnlineLoad {
            batches: stream(layout.arrow(), latest),
            rows: 0,
            held_back: 0,
            cursor: None,
            deleted: HashSet::new(),
            watch: None,
        });
    };
    let mut loading = Loading {
        context,
        view,
        state: &state,
        layout,
        now,
        latest,
        held_back: Held::default(),
    };
    let since = since.filter(|since| since.table == state.id() && since.version <= state.version());
    let noted = since.map(|since| since.version);
    let since = since.filter(|since| since.layout == view.layout().fingerprint());
    let (added, deleted) = match since {
        Some(since) => {
            let news = News::since(&state, since).await.map_err(delta_error)?;
            (news.added, news.deleted)
        }
        None => {
            let deletions = state.deletions().await.map_err(delta_error)?;
            (None, deletions.after(noted))
        }
    };
    match (since, added) {
        (Some(since), Some(added)) => loading.go_on(since, added).await?,
        _ => loading.read_all().await?,
    }
    let cursor = OnlineCursor::at(&state, view, loading.held_back);
    Ok(OnlineLoad {
        rows: loading.latest.len() as u64,
        held_back: loading.held_back.rows,
        batches: stream(loading.layout.arrow(), loading.latest),
        cursor: Some(cursor),
        deleted,
        watch: Some(DeletionWatch::after(table, state.version())),
    })
}

/// Rows whose time has not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) rows: u64,
    pub(super) due: Option<Timestamp>,
}

impl Held {
    fn add(&mut self, event: Timestamp) {
        self.rows += 1;
        self.due = Some(self.due.map_or(event, |due| due.min(event)));
    }
}

/// Rows of a table that compete for being the latest.
pub(super) struct Loading<'a> {
    pub(super) context: &'a MaterializeContext<'a>,
    pub(super) view: &'a ViewRevision,
    pub(super) state: &'a TableState,
    pub(super) layout: ViewLayout,
    pub(super) now: Timestamp,
    pub(super) latest: LatestRows,
    pub(super) held_back: Held,
}

impl Loading<'_> {
    async fn read_all(&mut self) -> Result<(), MaterializeError> {
        self.offer(self.state, None, None, |_| Unseen::Taken).await
    }

    /// Reads what was added since, and of the rest what may matter beside it: rows that were held back, and rows
    /// that may tie with the added ones.
    async fn go_on(
        &mut self,
        since: &OnlineCursor,
        added: Vec<AddedFile>,
    ) -> Result<(), MaterializeError> {
        let mut by_version: BTreeMap<Option<u64>, Vec<String>> = BTreeMap::new();
        for file in added {
            by_version.entry(file.version).or_default().push(file.path);
        }
        let added = by_version.remove(&None).unwrap_or_default();
        let is_due = since.due.is_some_and(|due| due <= self.now);
        let others: Vec<_> = self.state.files().iter().map(|file| file.path()).collect();
        let gone = since.held_back > 0 && self.state.version() > since.version;
        let others: Vec<_> = others
            .into_iter()
            .filter(|path| !added.contains(path))
            .collect();
        if !added.is_empty() {
            self.offer(self.state, Some(added), None, |_| Unseen::Taken)
                .await?;
        }
        for (version, moved) in by_version {
            let Some(version) = version else { continue };
            let then = self.state.table().at(version).await;
            let then = then.map_err(|source| MaterializeError::Delta {
                view: self.view.id.clone(),
                source,
            })?;
            self.offer(&then, Some(moved), None, |_| Unseen::Taken)
                .await?;
        }
        // Rows that were held back may have come or gone; then they are counted again.
        let recount = is_due || gone;
        let held_from = since.due.filter(|_| recount);
        if !recount {
            self.held_back.rows += since.held_back;
            self.held_back.due = self.held_back.due.into_iter().chain(since.due).min();
        }
        let from = held_from.into_iter().chain(self.latest.earliest()).min();
        let Some(from) = from.filter(|_| !others.is_empty()) else {
            return Ok(());
        };
        let was_held = move |row: RowTime| held_from.is_some_and(|held| held <= row.event);
        let unseen = move |row: RowTime| match was_held(row) {
            true => Unseen::Taken,
            false => Unseen::Left,
        };
        self.offer(self.state, Some(others), Some((from, held_from)), unseen)
            .await
    }

    /// Lets the rows of some files, or of all, from an event time on, compete; counts those whose time has not come,
    /// if they are at or after the second instant.
    pub(super) async fn offer(
        &mut self,
        state: &TableState,
        files: Option<Vec<String>>,
        from: Option<(Timestamp, Option<Timestamp>)>,
        unseen: impl Fn(RowTime) -> Unseen,
    ) -> Result<(), MaterializeError> {
        let rows = state.rows_plan(self.layout.arrow(), files).await;
        let rows = rows.and_then(|rows| match from {
            Some((from, _)) => after(rows, from),
            None => Ok(rows),
        });
        let failed = |e: DataFusionError| MaterializeError::Delta {
            view: self.view.id.clone(),
            source: state.table().read_error(e),
        };
        let rows = rows.map_err(failed)?;
        let counted = |event: Timestamp| match from {
            None => true,
            Some((_, held_from)) => held_from.is_some_and(|held| held <= event),
        };
        let frame = self.context.session.execute_logical_plan(rows).await;
        let mut stream = frame
            .map_err(failed)?
            .execute_stream()
            .await
            .map_err(failed)?;
        let now = self.now;
        while let Some(batch) = stream.next().await {
            let held_back = &mut self.held_back;
            let offered = self.latest.offer(&batch.map_err(failed)?, |row| {
                if row.event <= now {
                    return Some(unseen(row));
                }
                if counted(row.event) {
                    held_back.add(row.event);
                }
                None
            });
            offered.map_err(failed)?;
        }
        Ok(())
    }
}

/// What has come to a table, and gone, since a cursor.
struct News {
    /// The files that hold all rows added. None when that cannot be told, or would be all files. Rows that compaction has
    /// moved since are read from the files that they came in, as long as those are there.
    added: Option<Vec<AddedFile>>,
    /// The entities whose rows were deleted.
    deleted: HashSet<KeyDigest>,
}

impl News {
    async fn since(state: &TableState, since: &OnlineCursor) -> Result<Self, DeltaError> {
        let table = state.table();
        let mut added = AddedFiles::default();
        let mut deletion = None;
        // Pushes make many commits.
        let commits = stream::iter(since.version + 1..=state.version())
            .map(|version| async move { Ok((version, table.actions(version).await?)) })
            .buffered(COMMITS_READ_AT_ONCE);
        let mut commits = std::pin::pin!(commits);
        while let Some(commit) = commits.next().await {
            match commit? {
                (version, Some(actions)) => {
                    added.then(version, &actions);
                    if is_deletion(&actions) {
                        deletion = Some(version);
                    }
                }
                (_, None) => {
                    let deletions = state.deletions().await?;
                    return Ok(Self {
                        added: None,
                        deleted: deletions.after(Some(since.version)),
                    });
                }
            }
        }
        Ok(Self {
            added: still_there(table, since, added).await?,
            deleted: deleted_between(table, since.version, deletion).await?,
        })
    }
}

/// The files of added rows, if all of them are still there.
async fn still_there(
    table: &Table,
    since: &OnlineCursor,
    added: AddedFiles,
) -> Result<Option<Vec<AddedFile>>, DeltaError> {
    let Some(files) = added.files() else {
        return Ok(None);
    };
    for file in &files {
        if file.version.is_none() {
            continue;
        }
        // Rows that are held back are counted from the files that they are in, and would be counted twice.
        if since.held_back > 0 || !table.has_file(&file.path).await? {
            return Ok(None);
        }
    }
    Ok(Some(files))
}

fn after(rows: LogicalPlan, from: Timestamp) -> Result<LogicalPlan, DataFusionError> {
    let filter = ident(EVENT_TIMESTAMP).gt_eq(instant(from));
    LogicalPlanBuilder::from(rows).filter(filter)?.build()
}

/// The rows in batches.
pub(super) fn stream(schema: &SchemaRef, latest: LatestRows) -> SendableRecordBatchStream {
    let batches = latest.into_batches(BATCH_ROWS);
    let batches = batches.map(|batch| -> Result<RecordBatch, DataFusionError> { Ok(batch?) });
    let batches = futures::stream::iter(batches);
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}
