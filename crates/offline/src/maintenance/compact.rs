//! Puts the rows of a table into few files of one range of event time each, sorted by key and time inside.

use std::time::{Duration, Instant};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Field, Schema, TimestampMicrosecondType},
};
use datafusion::{
    error::DataFusionError,
    execution::{SendableRecordBatchStream, memory_pool::MemoryLimit},
    logical_expr::{LogicalPlan, LogicalPlanBuilder, ident},
    prelude::SessionContext,
};
use futures::{StreamExt, future::BoxFuture};
use vintner_core::{ProjectName, ViewId};
use vintner_registry::model::ViewRevision;

use super::{
    error::MaintenanceError,
    plan::{FileFacts, Heap, plan_compaction},
    time_ranges::{Sampling, TimeRanges},
};
use crate::delta::{
    Arrangement, Change, Columns, DataFiles, Effect, OfflineStore, Origin, TARGET_BYTES, Table,
    TableState, ViewLayout, Waits, Written,
    layout::{CREATED_TIMESTAMP, EVENT_TIMESTAMP, file_schema},
};

/// How often compaction begins again because what it read was rewritten meanwhile.
const ATTEMPTS: u32 = 5;

/// What the care for tables works with.
#[derive(Clone, Copy)]
pub struct MaintenanceContext<'a> {
    /// Where tables are.
    pub store: &'a OfflineStore,
    /// The project.
    pub project: &'a ProjectName,
    /// Sorts rows. What its memory does not hold goes to its folder for spilled rows.
    pub session: &'a SessionContext,
}

/// What a compaction has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The view.
    pub view: ViewId,
    /// The table's version afterwards; none when there is no table.
    pub table_version: Option<u64>,
    /// How many files the table had.
    pub files_before: usize,
    /// How many of them were put together.
    pub files_removed: usize,
    /// How many files came of that. None of both: the table was compact.
    pub files_added: usize,
    /// The size of the files that were put together.
    pub bytes_removed: u64,
    /// The size of the new files.
    pub bytes_added: u64,
    /// How many rows were written again.
    pub rows: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Makes a view's table compact: files that each cover one range of event time and hold up to about 128 MiB, their rows
/// sorted by join keys, event time and created time. One version of the table comes of it, with the same rows. A table
/// that is compact is left as it is. Changes that come in meanwhile stay.
///
/// Memory: what the session's pool gives for sorting, and two row groups.
///
/// # Errors
/// [`MaintenanceError`]; then the table is as it was.
pub fn compact_view<'a>(
    context: &'a MaintenanceContext<'a>,
    view: &'a ViewRevision,
) -> BoxFuture<'a, Result<Compaction, MaintenanceError>> {
    Box::pin(async move {
        let mut waits = Waits::new(ATTEMPTS - 1);
        loop {
            match compact_to(context, view, TARGET_BYTES as u64).await {
                Err(MaintenanceError::Delta(error)) if error.is_conflict() => {
                    if !waits.next().await {
                        return Err(MaintenanceError::Busy {
                            view: view.id.clone(),
                            attempts: ATTEMPTS,
                            doing: "it was compacted",
                        });
                    }
                    tracing::info!(view = %view.id, "rewritten by somebody else meanwhile; compacting again");
                }
                other => return other,
            }
        }
    })
}

/// One attempt, to files of about so many bytes.
pub(super) async fn compact_to(
    context: &MaintenanceContext<'_>,
    view: &ViewRevision,
    target: u64,
) -> Result<Compaction, MaintenanceError> {
    let began = Instant::now();
    let table = context.store.table(context.project, &view.id)?;
    let mut done = Compaction {
        view: view.id.clone(),
        table_version: None,
        files_before: 0,
        files_removed: 0,
        files_added: 0,
        bytes_removed: 0,
        bytes_added: 0,
        rows: 0,
        elapsed: Duration::ZERO,
    };
    let Some(base) = table.newest().await? else {
        return Ok(done);
    };
    let files = base.files();
    done.table_version = Some(base.version());
    done.files_before = files.len();
    let heaps = plan_compaction(files.iter().map(FileFacts::from).collect(), target);
    if heaps.is_empty() {
        done.elapsed = began.elapsed();
        return Ok(done);
    }
    let layout = ViewLayout::of(view);
    let sorting = Sorting {
        session: sorting_session(context.session),
        view,
        base: &base,
        order: order(&layout),
        layout,
    };
    let mut written = Written::default();
    for origin in [Origin::Run, Origin::Push] {
        let heaps = heaps.iter().filter(|heap| heap.origin == origin);
        match sorting.rewrite_all(origin, heaps).await {
            Ok(more) => written = written.and(more),
            Err(error) => {
                written.discard(&table).await;
                return Err(error);
            }
        }
    }
    let written = count(&base, &heaps, written, &table).await?;
    done.files_removed = heaps.iter().map(|heap| heap.paths.len()).sum();
    done.bytes_removed = heaps.iter().map(|heap| heap.bytes).sum();
    done.files_added = written.adds.len();
    done.bytes_added = written.bytes();
    done.rows = written.rows;
    let moved = |path: &String| heaps.iter().any(|heap| heap.paths.contains(path));
    let change = Change {
        written,
        removes: files
            .iter()
            .filter(|file| moved(&file.path()))
            .map(|file| file.removal())
            .collect(),
        columns: Columns::Same,
        effect: Effect::Rearranges,
        producers: Vec::new(),
        info: Vec::new(),
    };
    done.table_version = Some(change.commit(&table, Some(&base)).await?);
    done.elapsed = began.elapsed();
    Ok(done)
}

/// What rows are sorted by.
pub(super) fn order(layout: &ViewLayout) -> Vec<String> {
    let keys = layout.arrow().fields()[..layout.keys()].iter();
    let keys = keys.map(|field| field.name().as_str());
    let times = [EVENT_TIMESTAMP, CREATED_TIMESTAMP];
    keys.chain(times).map(str::to_owned).collect()
}

/// The session with what sorting needs. One sorter has all of the memory, and half of it for merging: a row's sort key can
/// be as large as the row, and merging what is in memory holds the keys of all of it.
pub(super) fn sorting_session(session: &SessionContext) -> SessionContext {
    let runtime = session.runtime_env();
    let mut config = session.copied_config().with_target_partitions(1);
    if let MemoryLimit::Finite(bytes) = runtime.memory_pool.memory_limit() {
        config = config.with_sort_spill_reservation_bytes(bytes / 2);
    }
    SessionContext::new_with_config_rt(config, runtime)
}

struct Sorting<'a> {
    session: SessionContext,
    view: &'a ViewRevision,
    base: &'a TableState,
    order: Vec<String>,
    layout: ViewLayout,
}

impl Sorting<'_> {
    /// Writes the rows of heaps of one origin into files of that origin.
    async fn rewrite_all(
        &self,
        origin: Origin,
        heaps: impl Iterator<Item = &Heap>,
    ) -> Result<Written, MaintenanceError> {
        let mut files = DataFiles::new(
            self.base.table(),
            &self.base.columns(),
            self.layout.statistics_columns(),
            origin,
            Arrangement::Sorted {
                by: self.order.clone(),
            },
        );
        for heap in heaps {
            if let Err(error) = self.rewrite(heap, &mut files).await {
                files.abandon().await;
                return Err(error);
            }
        }
        Ok(files.finish().await?)
    }

    /// Writes the rows of a heap into files of their own.
    async fn rewrite(&self, heap: &Heap, files: &mut DataFiles) -> Result<(), MaintenanceError> {
        let ranges = match heap.pieces {
            1 => TimeRanges::default(),
            pieces => self.ranges(heap, pieces).await?,
        };
        let schema = file_schema(&self.base.columns());
        let event = schema.index_of(EVENT_TIMESTAMP);
        let event = event.map_err(|e| self.error(e.into()))?;
        let rows = self.base.rows_plan(&schema, Some(heap.paths.clone())).await;
        let sorted = rows.and_then(|rows| self.sorted(rows, &ranges));
        let batches = stream(&self.session, sorted).await;
        let mut batches = batches.map_err(|error| self.error(error))?;
        let mut current = 0;
        while let Some(batch) = batches.next().await {
            let parts = batch.and_then(|batch| ranges.split(&batch, event));
            for (range, rows) in parts.map_err(|e| self.error(e))? {
                if range != current {
                    files.next_file().await?;
                    current = range;
                }
                files.write(0, &rows).await?;
            }
        }
        Ok(files.next_file().await?)
    }

    /// Ranges of time with equally many rows of the heap.
    async fn ranges(&self, heap: &Heap, pieces: usize) -> Result<TimeRanges, MaintenanceError> {
        let schema = file_schema(&self.base.columns());
        let event: Vec<Field> = schema
            .fields()
            .iter()
            .filter(|field| field.name() == EVENT_TIMESTAMP)
            .map(|field| field.as_ref().clone())
            .collect();
        let event = Schema::new(event).into();
        let rows = self.base.rows_plan(&event, Some(heap.paths.clone())).await;
        let batches = stream(&self.session, rows).await;
        let mut batches = batches.map_err(|error| self.error(error))?;
        let mut sampling = Sampling::new();
        while let Some(batch) = batches.next().await {
            let batch: RecordBatch = batch.map_err(|e| self.error(e))?;
            let events = batch.column(0);
            if let Some(events) = events.as_primitive_opt::<TimestampMicrosecondType>() {
                sampling.add(events.values());
            }
        }
        Ok(sampling.ranges(pieces))
    }

    fn sorted(
        &self,
        rows: LogicalPlan,
        ranges: &TimeRanges,
    ) -> Result<LogicalPlan, DataFusionError> {
        let range = (!ranges.is_one()).then(|| ranges.number_of(ident(EVENT_TIMESTAMP)));
        let columns = self.order.iter().map(ident);
        let by = range.into_iter().chain(columns);
        let by: Vec<_> = by.map(|expression| expression.sort(true, true)).collect();
        LogicalPlanBuilder::from(rows).sort(by)?.build()
    }

    fn error(&self, source: DataFusionError) -> MaintenanceError {
        MaintenanceError::Sort {
            view: self.view.id.clone(),
            source: Box::new(source),
        }
    }
}

/// Begins to read the rows of a plan.
pub(super) async fn stream(
    session: &SessionContext,
    rows: Result<LogicalPlan, DataFusionError>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let frame = session.execute_logical_plan(rows?).await?;
    frame.execute_stream().await
}

/// As many rows must come out as the log says went in. Nothing but a bug, here or in what reads, makes a difference; it
/// must not cost rows.
async fn count(
    base: &TableState,
    heaps: &[Heap],
    written: Written,
    table: &Table,
) -> Result<Written, MaintenanceError> {
    let is_moved = |path: &str| {
        heaps
            .iter()
            .any(|heap| heap.paths.iter().any(|p| p == path))
    };
    let files = base.files().into_iter();
    let rows: Option<u64> = files
        .filter(|file| is_moved(&file.path()))
        .map(|file| file.rows())
        .sum();
    match rows {
        Some(rows) if rows != written.rows => {
            let found = written.rows;
            written.discard(table).await;
            let error = format!("the log says that there are {rows} rows, and {found} were read");
            Err(table.write_error(error).into())
        }
        _ => Ok(written),
    }
}
