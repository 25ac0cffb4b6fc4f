//! `materialize`: first the Delta table, then the online store from it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use futures::StreamExt as _;
use tokio::task::spawn_blocking;
use vintner_core::{KeyColumns, ProjectName, RowTime, Timestamp};
use vintner_offline::{
    delta::{
        DeletionWatch, KeyDigest,
        layout::{CREATED_TIMESTAMP, EVENT_TIMESTAMP},
    },
    materialize::{MaterializeContext, OnlineCursor, online_rows},
};
use vintner_online::{Expiry, Load, OnlineRow, OnlineStore, RowEncoder, RowLayout, WriteReport};
use vintner_registry::model::ViewRevision;

use super::{forget::OnlineRows, online::online_error};
use crate::{
    api::{MaterializeEvent, Phase},
    error::{Fault, OpsError},
};

/// Batches that are packed at one time, ahead of those that are being written.
const PACKED_AHEAD: usize = 2;
/// Batches that are being written at one time. One alone would leave the store idle from its last row to the next one's
/// first.
const WRITTEN_AT_ONCE: usize = 2;
/// How often a load looks whether rows of it were deleted meanwhile. So long they may be online again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an online load has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loaded {
    pub(super) report: WriteReport,
    pub(super) held_back: u64,
    pub(super) micros: u64,
}

/// Where a load begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Where the last one ended.
    LastLoad,
    /// At the table's beginning.
    Beginning,
}

/// Brings the online store up to what a view's Delta table holds as of `now`.
///
/// The place in the table up to which the store is loaded is kept in the store itself, so that a store that has lost
/// its data is filled again.
pub(super) async fn load_online(
    context: &MaterializeContext<'_>,
    online: &Arc<dyn OnlineStore>,
    view: &ViewRevision,
    from: From,
    now: Timestamp,
    events: &(dyn Fn(MaterializeEvent) + Send + Sync),
) -> Result<Loaded, OpsError> {
    let started = Instant::now();
    let project = context.project;
    let begun = online
        .begin_load(project, &view.id)
        .await
        .map_err(online_error)?;
    let since = match from {
        From::LastLoad => cursor_of(&begun),
        From::Beginning => None,
    };
    let load = online_rows(context, view, since.as_ref(), now)
        .await
        .map_err(|error| OpsError::from_error(Fault::Store, error))?;
    let loading = Loading {
        online: Arc::clone(online),
        project: project.clone(),
        view: Arc::new(view.clone()),
        layout: Arc::new(RowLayout::new(&view.layout())),
        expiry: view.ttl.map(|ttl| Expiry { ttl, now }),
        deleted: Arc::default(),
    };
    let mut forgetting = Forgetting {
        rows: OnlineRows {
            context,
            store: online,
            view,
            now,
        },
        watch: load.watch,
        all: Arc::clone(&loading.deleted),
        last: HashSet::new(),
        looked: Instant::now(),
    };
    // No two batches have a key in common, so several may be on their way in any order.
    let mut written = load
        .batches
        .map(|batch| loading.pack(batch.map_err(|e| OpsError::from_error(Fault::Store, e))))
        .buffered(PACKED_AHEAD)
        .map(|rows| loading.write(rows))
        .buffer_unordered(WRITTEN_AT_ONCE);
    let mut report = WriteReport::default();
    while let Some(part) = written.next().await {
        report += part?;
        forgetting.now_and_then().await?;
        events(MaterializeEvent::Progress {
            view: view.id.clone(),
            phase: Phase::Online,
            rows: report.written + report.kept,
        });
    }
    drop(written);
    // Only now, when every row has been acknowledged.
    forgetting.end(load.deleted).await?;
    if let Some(cursor) = load.cursor.filter(|cursor| since.as_ref() != Some(cursor)) {
        let cursor = cursor.to_json();
        online
            .end_load(project, &view.id, &begun, cursor.as_bytes())
            .await
            .map_err(online_error)?;
    }
    Ok(Loaded {
        report,
        held_back: load.held_back,
        micros: micros_since(started),
    })
}

/// Batches on their way into the online store.
struct Loading {
    online: Arc<dyn OnlineStore>,
    project: ProjectName,
    view: Arc<ViewRevision>,
    layout: Arc<RowLayout>,
    expiry: Option<Expiry>,
    /// Whose rows were deleted since the load began: those that it has are not to be written.
    deleted: Arc<Mutex<HashSet<KeyDigest>>>,
}

impl Loading {
    /// Packs a batch, on a thread of its own, while others are written.
    fn pack(
        &self,
        batch: Result<RecordBatch, OpsError>,
    ) -> impl Future<Output = Result<Vec<OnlineRow>, OpsError>> + use<> {
        let (view, layout) = (Arc::clone(&self.view), Arc::clone(&self.layout));
        async move {
            let batch = batch?;
            let packed = spawn_blocking(move || packed(&view, &layout, &batch)).await;
            packed.map_err(|error| OpsError::from_error(Fault::Internal, error))?
        }
    }

    async fn write(&self, rows: Result<Vec<OnlineRow>, OpsError>) -> Result<WriteReport, OpsError> {
        let mut rows = rows?;
        {
            let deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
            if !deleted.is_empty() {
                rows.retain(|row| !deleted.contains(&KeyDigest::of(row.key.as_bytes())));
            }
        }
        let (project, view) = (&self.project, &self.view.id);
        let written = self.online.write(project, view, self.expiry, &rows).await;
        written.map_err(online_error)
    }
}

/// What a load does about rows that were deleted from the table: before it began, or while it writes.
struct Forgetting<'a> {
    rows: OnlineRows<'a>,
    watch: Option<DeletionWatch>,
    /// All that were deleted while it writes; batches that are written from now on leave them out.
    all: Arc<Mutex<HashSet<KeyDigest>>>,
    /// Those of the last look, which a batch that was on its way may have brought back.
    last: HashSet<KeyDigest>,
    looked: Instant,
}

impl Forgetting<'_> {
    /// While rows are written: looks now and then.
    async fn now_and_then(&mut self) -> Result<(), OpsError> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        let new = self.look().await?;
        {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(&new);
        }
        let last = std::mem::replace(&mut self.last, new);
        let deleted = last.union(&self.last).copied().collect();
        self.rows.forget_digests(&deleted).await?;
        self.looked = Instant::now();
        Ok(())
    }

    /// After all rows are written.
    async fn end(mut self, mut deleted: HashSet<KeyDigest>) -> Result<(), OpsError> {
        deleted.extend(self.look().await?);
        deleted.extend(&self.last);
        self.rows.forget_digests(&deleted).await.map(|_| ())
    }

    async fn look(&mut self) -> Result<HashSet<KeyDigest>, OpsError> {
        let looked = match &mut self.watch {
            Some(watch) => watch.look().await,
            None => return Ok(HashSet::new()),
        };
        looked.map_err(|error| OpsError::from_error(Fault::Store, error))
    }
}

/// How far a view's table is loaded. A note that cannot be read is none: the whole table is loaded then, and older rows
/// change nothing.
pub(super) fn cursor_of(load: &Load) -> Option<OnlineCursor> {
    let noted = load.progress.as_deref()?;
    OnlineCursor::from_json(std::str::from_utf8(noted).ok()?)
}

/// A batch of a view's table as online rows.
pub(super) fn packed(
    view: &ViewRevision,
    layout: &RowLayout,
    batch: &RecordBatch,
) -> Result<Vec<OnlineRow>, OpsError> {
    let broken = |what: &str| {
        OpsError::new(
            Fault::Internal,
            format!("the table of {} has no usable {what}", view.id),
        )
    };
    let columns = view
        .keys()
        .iter()
        .map(|key| batch.column_by_name(key.name.as_str()));
    let columns = columns
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| broken("join keys"))?;
    let keys = KeyColumns::new(&view.join_keys, &columns)
        .map_err(|error| OpsError::from_error(Fault::Internal, error))?;
    let time = |name: &str| {
        batch
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
    };
    let event = time(EVENT_TIMESTAMP).ok_or_else(|| broken(EVENT_TIMESTAMP))?;
    let created = time(CREATED_TIMESTAMP).ok_or_else(|| broken(CREATED_TIMESTAMP))?;
    let encoder = RowEncoder::new(layout, batch)
        .map_err(|error| OpsError::from_error(Fault::Internal, error))?;
    (0..batch.num_rows())
        .map(|row| {
            let time = RowTime {
                event: Timestamp::from_micros(event.value(row)),
                created: Timestamp::from_micros(created.value(row)),
            };
            Ok(OnlineRow {
                key: keys.key(row).ok_or_else(|| broken("join keys"))?,
                row: encoder
                    .pack(row, time)
                    .map_err(|error| OpsError::from_error(Fault::Data, error))?,
            })
        })
        .collect()
}

/// Microseconds since an instant.
pub(super) fn micros_since(started: Instant) -> u64 {
    micros(started.elapsed())
}

/// Microseconds, as they are told.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
