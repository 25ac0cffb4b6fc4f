//! `push`: rows checked, appended to a view's table, and put into the online store.
//!
//! * A push is checked here, in its caller's task, so that nothing can be refused once it is written.
//! * [`writer`] is the one task per view that writes. Pushes that wait for it share one commit.
//! * [`standing`] decides which rows take their place online.

mod standing;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::sleep_until,
};
use vintner_core::{
    Clock, Timestamp, ViewId,
    waiting::{On, Task, waiting},
};
use vintner_offline::push::{Producer, RowError, checked_rows};
use vintner_online::{OnlineRow, RowLayout};
use vintner_registry::model::{Project, ViewRevision};

use super::{
    Local, catalog,
    materialize::{micros_since, packed},
};
use crate::{
    api::{PushReport, PushRequest},
    error::{Fault, OpsError},
};
use writer::{Deployment, Writer};

/// How many rows may wait to be written, in all views together.
const MOST_ROWS: usize = 1_000_000;
/// How many bytes they may take.
const MOST_BYTES: usize = 256 << 20;
/// How many bytes one permit stands for.
const PERMIT_BYTES: usize = 1024;
/// The longest name that a producer may have, in bytes: it is kept in every version of the table.
const MOST_NAME_BYTES: usize = 256;

/// The tasks that write, and how much may wait for them.
#[derive(Debug)]
pub(super) struct Writers {
    of_views: Mutex<HashMap<ViewId, Way>>,
    /// Ended when this is dropped.
    tasks: Mutex<JoinSet<()>>,
    rows: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Default for Writers {
    fn default() -> Self {
        Self {
            of_views: Mutex::default(),
            tasks: Mutex::default(),
            rows: Arc::new(Semaphore::new(MOST_ROWS)),
            bytes: Arc::new(Semaphore::new(MOST_BYTES / PERMIT_BYTES)),
        }
    }
}

/// The way to a task that writes.
#[derive(Debug)]
struct Way {
    pushes: mpsc::UnboundedSender<Waiting>,
    task: Arc<Task>,
}

/// A push that waits to be written.
#[derive(Debug)]
struct Waiting {
    view: Arc<ViewRevision>,
    rows: RecordBatch,
    /// One per row; none when the view is not in the online store.
    online: Vec<OnlineRow>,
    producer: Option<Producer>,
    answer: oneshot::Sender<Result<PushReport, OpsError>>,
    /// Its place among all that wait.
    _room: [OwnedSemaphorePermit; 2],
}

/// Pushes rows, and answers when they are in both stores.
pub(super) async fn push(local: &Local, request: &PushRequest) -> Result<PushReport, OpsError> {
    let started = Instant::now();
    let snapshot = local.snapshot().await?;
    let view = view_of(local.project(&snapshot)?, request)?;
    check_producer(request.producer.as_ref())?;
    if request.rows.num_rows() == 0 {
        return Err(OpsError::new(
            Fault::Request,
            "there are no rows to push; push at least one",
        ));
    }
    let now = local.clock.now();
    let rows = checked_rows(&view, &request.rows, now, 0).map_err(row_error)?;
    let online = match view.online {
        true => packed(&view, &RowLayout::new(&view.layout()), &rows)?,
        false => Vec::new(),
    };
    let room = local.writers.room(&rows)?;
    wait_for(&*local.clock, &rows).await?;
    let (answer, answered) = oneshot::channel();
    let push = Waiting {
        view: Arc::new(view),
        rows,
        online,
        producer: request.producer.clone(),
        answer,
        _room: room,
    };
    let task = On::Task(local.writers.send(local, push).await?);
    let stopped = |_| OpsError::new(Fault::Store, "the push was stopped before it was written");
    let mut report = waiting(&task, answered).await.map_err(stopped)??;
    report.micros = micros_since(started);
    Ok(report)
}

fn view_of(project: &Project, request: &PushRequest) -> Result<ViewRevision, OpsError> {
    let current = catalog::view(project, request.view.as_str())?;
    let Some(version) = request.version else {
        return Ok(current.clone());
    };
    let view = project.views.get(&request.view);
    let revision = view.and_then(|view| view.revisions.get(&version));
    revision.cloned().ok_or_else(|| {
        OpsError::new(
            Fault::NotFound,
            format!(
                "the feature view `{}` has no version {version}; its current one is {}",
                request.view, current.id.version
            ),
        )
    })
}

fn check_producer(producer: Option<&Producer>) -> Result<(), OpsError> {
    let Some(Producer { name, sequence }) = producer else {
        return Ok(());
    };
    if name.is_empty() || name.len() > MOST_NAME_BYTES {
        return Err(OpsError::new(
            Fault::Request,
            format!("a producer's name has from 1 to {MOST_NAME_BYTES} bytes"),
        ));
    }
    if i64::try_from(*sequence).is_err() {
        let most = i64::MAX;
        return Err(OpsError::new(
            Fault::Request,
            format!("a sequence is no more than {most}"),
        ));
    }
    Ok(())
}

/// Rows are refused by whoever made them.
fn row_error(error: RowError) -> OpsError {
    OpsError::from_error(Fault::Data, error)
}

/// Waits until the time of every row has come: a row that is online before its time would hide the one before it. The
/// check of the rows has bounded how long that is.
async fn wait_for(clock: &dyn Clock, rows: &RecordBatch) -> Result<(), OpsError> {
    let events = rows
        .column_by_name(vintner_offline::delta::layout::EVENT_TIMESTAMP)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let Some((row, last)) = events.and_then(|events| {
        let events = events.values().iter().copied().enumerate();
        events.max_by_key(|(_, at)| *at)
    }) else {
        return Ok(());
    };
    let ahead = |now: Timestamp| u64::try_from(last.saturating_sub(now.micros())).unwrap_or(0);
    let wait = Duration::from_micros(ahead(clock.now()));
    if wait.is_zero() {
        return Ok(());
    }
    sleep_until(tokio::time::Instant::now() + wait).await;
    // A clock that stands still does not come there.
    if ahead(clock.now()) > 0 {
        return Err(row_error(RowError::Future {
            row: row as u64 + 1,
            column: vintner_offline::delta::layout::EVENT_TIMESTAMP.to_owned(),
            at: Timestamp::from_micros(last),
            now: clock.now(),
        }));
    }
    Ok(())
}

impl Writers {
    /// Room for rows among those that wait.
    ///
    /// # Errors
    /// [`Fault::Busy`] when there is none, [`Fault::Request`] for rows that never have room.
    fn room(&self, rows: &RecordBatch) -> Result<[OwnedSemaphorePermit; 2], OpsError> {
        let count = rows.num_rows();
        let permits = rows.get_array_memory_size().div_ceil(PERMIT_BYTES).max(1);
        if count > MOST_ROWS || permits > MOST_BYTES / PERMIT_BYTES {
            return Err(OpsError::new(
                Fault::Request,
                format!(
                    "{count} rows of {} KiB are too many for one push; push less at once",
                    permits
                ),
            ));
        }
        let take = |room: &Arc<Semaphore>, wanted: usize| {
            let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
            Arc::clone(room).try_acquire_many_owned(wanted).map_err(|_| {
                OpsError::new(
                    Fault::Busy,
                    "as many rows wait to be written as can wait; push these again later, or push fewer at once",
                )
            })
        };
        Ok([take(&self.rows, count)?, take(&self.bytes, permits)?])
    }

    /// Hands a push to the task that writes its view, which is begun when there is none.
    async fn send(&self, local: &Local, push: Waiting) -> Result<Arc<Task>, OpsError> {
        let id = push.view.id.clone();
        let online = match push.view.online {
            true => Some(Arc::clone(local.online().await?)),
            false => None,
        };
        let mut of_views = self.of_views.lock().unwrap_or_else(PoisonError::into_inner);
        let push = match of_views.get(&id) {
            Some(way) => match way.pushes.send(push) {
                Ok(()) => return Ok(Arc::clone(&way.task)),
                // Its task has ended, which is a mistake of ours; another one goes on.
                Err(back) => back.0,
            },
            None => push,
        };
        let deployment = Deployment {
            root: local.root.clone(),
            project: local.project.clone(),
            offline: local.offline.clone(),
            clock: Arc::clone(&local.clock),
            session: local.session()?,
        };
        let writer = Writer::of(deployment, online, &id)?;
        let (pushes, incoming) = mpsc::unbounded_channel();
        let task = Arc::new(Task::default());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        let own = Arc::clone(&task);
        tasks.spawn(async move { own.work(writer.run(incoming)).await });
        let sent = pushes.send(push);
        let way = Way {
            pushes,
            task: Arc::clone(&task),
        };
        of_views.insert(id, way);
        match sent {
            Ok(()) => Ok(task),
            Err(_) => Err(OpsError::new(
                Fault::Internal,
                "the task that writes has ended",
            )),
        }
    }
}
