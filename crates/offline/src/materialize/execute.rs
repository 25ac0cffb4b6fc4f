//! Does what a plan says, in one commit.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::{
    error::DataFusionError,
    logical_expr::{LogicalPlan, LogicalPlanBuilder, ident},
};
use deltalake::kernel::Remove;
use serde_json::{Value, json};
use vintner_core::Timestamp;
use vintner_registry::model::{Refresh, ViewRevision};

use super::{
    admission::{Admission, RowCounts},
    error::MaterializeError,
    input::{Input, Sides, instant, within},
    lanes::Lanes,
    plan::{Action, RunPlan},
    progress::Progress,
    request::EventWindow,
    run::RunEvent,
};
use crate::delta::{
    Arrangement, Change, Columns, DataFile, DataFiles, Deletions, DeltaError, Effect, Origin,
    Table, TableState, ViewLayout, Written,
    layout::{EVENT_TIMESTAMP, file_schema},
    progress,
};

/// Rows that stay are written into the same file as new ones while all of them fit in this many bytes. Larger files
/// are split from the window once, so that the next run of it touches little.
const MERGE_BYTES: u64 = 32 << 20;

/// What a run has done.
#[derive(Clone, Debug)]
pub(super) struct Executed {
    pub(super) counts: RowCounts,
    pub(super) version: u64,
    pub(super) files_added: usize,
    pub(super) files_removed: usize,
    pub(super) bytes_written: u64,
}

/// One execution of a plan.
pub(super) struct Execution<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) table: &'a Table,
    pub(super) base: Option<&'a TableState>,
    pub(super) deletions: Arc<Deletions>,
    pub(super) now: Timestamp,
    pub(super) observe: &'a (dyn Fn(RunEvent<'_>) + Send + Sync),
}

/// What is read, and what of it is left out.
struct Reading {
    rows: LogicalPlan,
    except: Vec<EventWindow>,
}

/// What became of all rows so far.
#[derive(Default)]
struct Total {
    counts: RowCounts,
    last_event: Option<Timestamp>,
}

/// What goes away.
struct Replaced {
    removes: Vec<Remove>,
    /// Rows of the files that go away, but are not in the window.
    staying: Option<LogicalPlan>,
    staying_bytes: u64,
    effect: Effect,
}

impl Execution<'_> {
    /// Reads, writes and commits.
    ///
    /// # Errors
    /// [`MaterializeError`]; then the table is as it was.
    pub(super) async fn run(&self, plan: &RunPlan) -> Result<Executed, MaterializeError> {
        let layout = ViewLayout::of(self.view());
        let window = match &plan.action {
            Action::ReplaceWindow(window) => *window,
            Action::ReplaceAll { before } => EventWindow {
                start: Timestamp::MIN,
                end: *before,
            },
            Action::NothingNew | Action::AppendFiles(_) => EventWindow {
                start: Timestamp::MIN,
                end: None,
            },
        };
        let readings = self.readings(plan, window).await?;
        let replaced = self.replaced(plan, window).await?;
        let columns = self.columns(plan, &layout)?;
        let schema = match (&columns, self.base) {
            (Columns::New(schema), _) => schema.clone(),
            (Columns::Same, Some(base)) => base.columns().as_ref().clone(),
            (Columns::Same, None) => layout.delta().map_err(|e| self.delta_error(e))?,
        };
        let new_files = || {
            let statistics = layout.statistics_columns();
            DataFiles::new(
                self.table,
                &schema,
                statistics,
                Origin::Run,
                Arrangement::AsTheyCome,
            )
        };
        let mut admitted = Total::default();
        let mut files = new_files();
        let mut apart = (replaced.staying_bytes > MERGE_BYTES).then(new_files);
        let staying_files = apart.as_mut().unwrap_or(&mut files);
        let mut written = match replaced.staying {
            Some(staying) => self.write_staying(staying_files, staying).await,
            None => Ok(()),
        };
        if written.is_ok() {
            let admission = |except| {
                let deletions = Arc::clone(&self.deletions);
                Admission::new(self.view(), deletions, window, except, self.now)
            };
            for Reading { rows, except } in readings {
                let admission = admission(except);
                written = self
                    .write_new(&mut files, rows, admission, &mut admitted)
                    .await;
                if written.is_err() {
                    break;
                }
            }
        }
        if let Err(error) = written {
            files.abandon().await;
            if let Some(apart) = apart {
                apart.abandon().await;
            }
            return Err(error);
        }
        let written = match apart {
            None => files.finish().await,
            Some(apart) => self.finish_both(files, apart).await,
        };
        let written = written.map_err(|e| self.delta_error(e))?;
        let mut done = Executed {
            counts: admitted.counts,
            version: 0,
            files_added: written.adds.len(),
            files_removed: replaced.removes.len(),
            bytes_written: written.bytes(),
        };
        let change = Change {
            written,
            removes: replaced.removes,
            columns,
            effect: replaced.effect,
            producers: Vec::new(),
            info: vec![
                (progress::KEY.to_owned(), self.record(plan, &admitted)?),
                ("vintner.reason".to_owned(), json!(plan.reason)),
            ],
        };
        let version = change.commit(self.table, self.base).await;
        done.version = version.map_err(|e| self.delta_error(e))?;
        Ok(done)
    }

    fn view(&self) -> &ViewRevision {
        self.input.view
    }

    async fn readings(
        &self,
        plan: &RunPlan,
        window: EventWindow,
    ) -> Result<Vec<Reading>, MaterializeError> {
        let one = |rows| {
            vec![Reading {
                rows,
                except: Vec::new(),
            }]
        };
        match &plan.action {
            Action::NothingNew => Ok(Vec::new()),
            Action::ReplaceAll { .. } => Ok(one(self.input.all().await?)),
            Action::ReplaceWindow(_) => {
                let sides = match plan.settles {
                    true => Sides::Start,
                    false => Sides::Both,
                };
                let rows = within(self.input.all().await?, window, sides);
                Ok(one(rows.map_err(|e| self.compute_error(e))?))
            }
            Action::AppendFiles(batches) => {
                let Refresh::RowLocal { source } = &self.view().refresh else {
                    return Ok(Vec::new());
                };
                let mut readings = Vec::new();
                for batch in batches {
                    readings.push(Reading {
                        rows: self.input.parts(source, batch).await?,
                        except: batch.except.clone(),
                    });
                }
                Ok(readings)
            }
        }
    }

    /// The files that go away, and those of their rows that do not.
    async fn replaced(
        &self,
        plan: &RunPlan,
        window: EventWindow,
    ) -> Result<Replaced, MaterializeError> {
        let mut replaced = Replaced {
            removes: Vec::new(),
            staying: None,
            staying_bytes: 0,
            effect: Effect::Appends,
        };
        let Some(base) = self.base else {
            return Ok(replaced);
        };
        match &plan.action {
            Action::NothingNew | Action::AppendFiles(_) => {}
            Action::ReplaceAll { .. } => {
                replaced.removes = computed(base).map(|file| file.removal()).collect();
                replaced.effect = Effect::Replaces("true".to_owned());
            }
            Action::ReplaceWindow(_) => {
                let mut partly = Vec::new();
                for file in computed(base) {
                    match Overlap::of(&file, window) {
                        Overlap::None => continue,
                        Overlap::Whole => {}
                        Overlap::Partly => {
                            replaced.staying_bytes += file.bytes();
                            partly.push(file.path());
                        }
                    }
                    replaced.removes.push(file.removal());
                }
                if !partly.is_empty() {
                    let rows = base
                        .rows_plan(&file_schema(&base.columns()), Some(partly))
                        .await;
                    let staying = rows.and_then(|rows| outside(rows, window));
                    let staying =
                        staying.map_err(|e| self.delta_error(self.table.read_error(e)))?;
                    replaced.staying = Some(staying);
                }
                replaced.effect = Effect::Replaces(predicate(window));
            }
        }
        Ok(replaced)
    }

    /// The columns change only when all rows are written again.
    fn columns(&self, plan: &RunPlan, layout: &ViewLayout) -> Result<Columns, MaterializeError> {
        let wanted = || layout.delta().map_err(|e| self.delta_error(e));
        Ok(match (self.base, &plan.action) {
            (None, _) => Columns::New(wanted()?),
            (Some(base), Action::ReplaceAll { .. }) if *base.columns() != wanted()? => {
                Columns::New(wanted()?)
            }
            (Some(_), _) => Columns::Same,
        })
    }

    async fn write_new(
        &self,
        files: &mut DataFiles,
        rows: LogicalPlan,
        admission: Admission,
        total: &mut Total,
    ) -> Result<(), MaterializeError> {
        let session = self.input.context.session;
        let admit = move |batch: RecordBatch| Ok(admission.admit(&batch)?);
        let lanes = Lanes::open(session, rows, admit).await;
        let mut lanes = lanes.map_err(|e| self.compute_error(e))?;
        while let Some((lane, admitted)) = lanes.next().await.map_err(|e| self.compute_error(e))? {
            let written = files.write(lane, &admitted.rows).await;
            written.map_err(|e| self.delta_error(e))?;
            total.counts += admitted.counts;
            total.last_event = total.last_event.max(admitted.last_event);
            (self.observe)(RunEvent::Rows(total.counts));
        }
        Ok(())
    }

    async fn write_staying(
        &self,
        files: &mut DataFiles,
        rows: LogicalPlan,
    ) -> Result<(), MaterializeError> {
        let read_error = |e| self.delta_error(self.table.read_error(e));
        let session = self.input.context.session;
        let lanes = Lanes::open(session, rows, Ok).await;
        let mut lanes = lanes.map_err(read_error)?;
        while let Some((lane, batch)) = lanes.next().await.map_err(read_error)? {
            let written = files.write(lane, &batch).await;
            written.map_err(|e| self.delta_error(e))?;
        }
        Ok(())
    }

    /// Closes two sets of files, or leaves none of either.
    async fn finish_both(
        &self,
        files: DataFiles,
        others: DataFiles,
    ) -> Result<Written, DeltaError> {
        match files.finish().await {
            Ok(written) => match others.finish().await {
                Ok(others) => Ok(written.and(others)),
                Err(error) => {
                    written.discard(self.table).await;
                    Err(error)
                }
            },
            Err(error) => {
                others.abandon().await;
                Err(error)
            }
        }
    }

    /// The plan's record, with what only the rows could say.
    fn record(&self, plan: &RunPlan, admitted: &Total) -> Result<Value, MaterializeError> {
        let mut progress: Progress = plan.progress.clone();
        progress.last_event = progress.last_event.max(admitted.last_event);
        if plan.settles {
            progress.held_back = admitted.counts.held_back > 0;
        }
        serde_json::to_value(progress).map_err(|e| self.delta_error(self.table.write_error(e)))
    }

    fn delta_error(&self, source: DeltaError) -> MaterializeError {
        MaterializeError::Delta {
            view: self.view().id.clone(),
            source,
        }
    }

    fn compute_error(&self, source: DataFusionError) -> MaterializeError {
        MaterializeError::Compute {
            view: self.view().id.clone(),
            source: Box::new(source),
        }
    }
}

/// The files that a run may replace: what was pushed is no source's, and stays.
fn computed(base: &TableState) -> impl Iterator<Item = DataFile> {
    let files = base.files().into_iter();
    files.filter(|file| file.origin() == Origin::Run)
}

/// How much of a file is inside a window.
enum Overlap {
    None,
    Partly,
    Whole,
}

impl Overlap {
    fn of(file: &DataFile, window: EventWindow) -> Self {
        let Some(events) = file.events() else {
            return Self::Partly;
        };
        let after = window.end.is_some_and(|end| end <= events.first);
        if after || events.last < window.start {
            return Self::None;
        }
        match window.contains(events.first) && window.contains(events.last) {
            true => Self::Whole,
            false => Self::Partly,
        }
    }
}

/// The rows that are not inside a window.
fn outside(rows: LogicalPlan, window: EventWindow) -> Result<LogicalPlan, DataFusionError> {
    let before = ident(EVENT_TIMESTAMP).lt(instant(window.start));
    let filter = match window.end {
        Some(end) => before.or(ident(EVENT_TIMESTAMP).gt_eq(instant(end))),
        None => before,
    };
    LogicalPlanBuilder::from(rows).filter(filter)?.build()
}

/// A window as SQL, for people who read the log.
fn predicate(window: EventWindow) -> String {
    let start =
        (window.start > Timestamp::MIN).then(|| format!("{EVENT_TIMESTAMP} >= '{}'", window.start));
    let end = window.end.map(|end| format!("{EVENT_TIMESTAMP} < '{end}'"));
    let sides: Vec<_> = start.into_iter().chain(end).collect();
    match sides.is_empty() {
        true => "true".to_owned(),
        false => sides.join(" AND "),
    }
}
