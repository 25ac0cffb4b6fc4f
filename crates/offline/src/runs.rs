//! What ran: one row per run of a view and per deletion from one, in the operational table
//! `system/materialization_runs`.
//!
//! Start at [`Runs`]. The table is an ordinary Delta table, to be queried like any other. It is for people: nothing
//! that a run does depends on it. Whose rows were deleted is not in it.

use std::{str::FromStr, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    datatypes::{Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
};
use datafusion::{
    error::DataFusionError,
    logical_expr::{LogicalPlan, LogicalPlanBuilder, ident, lit},
    prelude::SessionContext,
};
use futures::TryStreamExt;
use uuid::Uuid;
use vintner_core::{ProjectName, ScalarType, Timestamp, ViewId, ViewName};

use crate::{
    delta::{
        Arrangement, Change, Columns, DataFiles, DeltaError, Effect, OfflineStore, Origin, Table,
        TableState, Waits, layout,
    },
    planner::session::{EngineConfig, session},
};

/// The table's name among the operational ones.
pub(crate) const TABLE: &str = "materialization_runs";
/// How often a record is written again because another one was first.
const ATTEMPTS: u32 = 32;
/// Once the table has this many small files, the next record puts them together.
const SMALL_FILES: usize = 32;
/// A file below this size is small.
const SMALL_BYTES: u64 = 1 << 20;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was to do, which may have been nothing.
    Succeeded,
    /// It did nothing, since there was an error.
    Failed,
}

/// What came of the rows that a run gave the online store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnlineCounts {
    /// Rows that were written.
    pub written: u64,
    /// Rows that were not, since the store has a later one.
    pub kept: u64,
    /// Rows whose event time has not come.
    pub held_back: u64,
}

/// What a run has materialized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Materialized {
    /// The first event time of the window, if it was one.
    pub window_start: Option<Timestamp>,
    /// The first event time after the window, if it has an end.
    pub window_end: Option<Timestamp>,
    /// Rows that the query gave.
    pub rows_read: u64,
    /// Rows that went into the view's table.
    pub rows_written: u64,
    /// Rows without key or time.
    pub rows_left_out: u64,
    /// What came of the rows online; none when the run did not load them.
    pub online: Option<OnlineCounts>,
}

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntitiesDeleted {
    /// Who asked for it.
    pub author: String,
    /// How many entities were asked for.
    pub entities: u64,
    /// How many of them had a row.
    pub found: u64,
    /// Rows that went from the view's table.
    pub rows: u64,
    /// Rows that went online.
    pub online_rows: u64,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A run: `materialize`.
    Materialize(Materialized),
    /// A deletion of entities' rows: `delete`.
    Delete(EntitiesDeleted),
}

/// The kinds of [`Work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Work::Materialize`].
    Materialize,
    /// [`Work::Delete`].
    Delete,
}

impl Kind {
    /// The word in the table.
    fn word(self) -> &'static str {
        match self {
            Self::Materialize => "materialize",
            Self::Delete => "delete",
        }
    }
}

/// One run of one view, or one deletion from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub id: Uuid,
    /// The view's project.
    pub project: ProjectName,
    /// The view and its version.
    pub view: ViewId,
    /// What was done.
    pub work: Work,
    /// What was done and why, in words.
    pub reason: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// The records of runs.
#[derive(Clone, Debug)]
pub struct Runs {
    table: Table,
}

impl Runs {
    /// The table's folder, within the offline store.
    pub const FOLDER: &str = "system/materialization_runs";

    /// The records in an offline store. The table comes to be with the first one.
    ///
    /// # Errors
    /// [`DeltaError::Location`] when the store's place makes no path.
    pub fn of(store: &OfflineStore) -> Result<Self, DeltaError> {
        store.system_table(TABLE).map(|table| Self { table })
    }

    /// Adds a record. A record that cannot be written is a warning in the log: the run itself stands.
    pub async fn record(&self, run: &RunRecord) {
        if let Err(error) = self.try_record(run).await {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_default();
            tracing::warn!(run = %run.id, view = %run.view, "could not record a run: {error}: {cause}");
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`DeltaError`]; then there is no record.
    pub async fn try_record(&self, run: &RunRecord) -> Result<(), DeltaError> {
        let mut waits = Waits::new(ATTEMPTS - 1);
        loop {
            match self.append(run).await {
                Err(error) if error.is_conflict() && waits.next().await => {}
                other => return other,
            }
        }
    }

    /// The newest records, the newest first, of all views or of one, of all kinds or of one; none before the first run.
    ///
    /// # Errors
    /// [`DeltaError`] when the table cannot be read.
    pub async fn list(
        &self,
        project: Option<&ProjectName>,
        view: Option<&ViewName>,
        kind: Option<Kind>,
        limit: usize,
    ) -> Result<Vec<RunRecord>, DeltaError> {
        let Some(state) = self.table.newest().await? else {
            return Ok(Vec::new());
        };
        let read = async {
            let mut rows = LogicalPlanBuilder::from(state.rows_plan(&schema(), None).await?);
            for (column, wanted) in [
                ("project", project.map(ProjectName::as_str)),
                ("view", view.map(ViewName::as_str)),
                ("kind", kind.map(Kind::word)),
            ] {
                if let Some(wanted) = wanted {
                    rows = rows.filter(ident(column).eq(lit(wanted)))?;
                }
            }
            let newest_first = [
                ident("started_at").sort(false, false),
                ident("finished_at").sort(false, false),
                ident("run_id").sort(true, false),
            ];
            let rows = rows.sort(newest_first)?.limit(0, Some(limit))?.build()?;
            let mut runs = Vec::new();
            for batch in self.collect(rows).await? {
                runs.extend(read_batch(&batch)?);
            }
            Ok::<_, DataFusionError>(runs)
        };
        read.await.map_err(|e| self.table.read_error(e))
    }

    async fn append(&self, run: &RunRecord) -> Result<(), DeltaError> {
        let base = self.table.newest().await?;
        let schema = schema();
        let columns = layout::delta_schema(&schema)?;
        let statistics = vec!["started_at".to_owned()];
        let mut files = DataFiles::new(
            &self.table,
            &columns,
            statistics,
            Origin::Run,
            Arrangement::AsTheyCome,
        );
        let small = base.as_ref().map(small_files).unwrap_or_default();
        let written = async {
            if let (Some(base), false) = (&base, small.is_empty()) {
                let paths = small.iter().map(|file| file.path()).collect();
                let rows = base.rows_plan(&schema, Some(paths)).await;
                let rows = rows.map_err(|e| self.table.read_error(e))?;
                let batches = self.collect(rows).await;
                for batch in batches.map_err(|e| self.table.read_error(e))? {
                    files.write(0, &batch).await?;
                }
            }
            let batch = write_batch(run).map_err(|e| self.table.write_error(e))?;
            files.write(0, &batch).await
        };
        if let Err(error) = written.await {
            files.abandon().await;
            return Err(error);
        }
        let change = Change {
            written: files.finish().await?,
            removes: small.iter().map(|file| file.removal()).collect(),
            columns: match &base {
                Some(base) if *base.columns() == columns => Columns::Same,
                _ => Columns::New(columns),
            },
            effect: Effect::Appends,
            producers: Vec::new(),
            info: Vec::new(),
        };
        change.commit(&self.table, base.as_ref()).await.map(drop)
    }

    async fn collect(&self, rows: LogicalPlan) -> Result<Vec<RecordBatch>, DataFusionError> {
        let session: SessionContext = session(&EngineConfig::default())?;
        let frame = session.execute_logical_plan(rows).await?;
        frame.execute_stream().await?.try_collect().await
    }
}

/// The files to put together; none while they are few.
fn small_files(state: &TableState) -> Vec<crate::delta::DataFile> {
    let files = state.files().into_iter();
    let small: Vec<_> = files.filter(|file| file.bytes() < SMALL_BYTES).collect();
    match small.len() < SMALL_FILES {
        true => Vec::new(),
        false => small,
    }
}

const TEXTS: [&str; 5] = ["run_id", "project", "view", "kind", "reason"];
const COUNTS: [&str; 3] = ["rows_read", "rows_written", "rows_left_out"];
const ONLINE: [&str; 3] = ["online_written", "online_kept", "online_held_back"];
/// Those of a deletion: earlier releases had none.
const DELETED: [&str; 4] = [
    "entities",
    "entities_found",
    "rows_deleted",
    "online_deleted",
];

fn schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, ScalarType::String.arrow(), nullable);
    let count = |name: &str, nullable| Field::new(name, ScalarType::Int64.arrow(), nullable);
    let time = |name: &str, nullable| Field::new(name, ScalarType::Timestamp.arrow(), nullable);
    let mut fields: Vec<Field> = TEXTS.iter().map(|name| text(name, false)).collect();
    fields.push(count("view_version", false));
    fields.extend([time("window_start", true), time("window_end", true)]);
    fields.extend(COUNTS.iter().map(|name| count(name, false)));
    fields.extend(ONLINE.iter().map(|name| count(name, true)));
    fields.extend([time("started_at", false), time("finished_at", false)]);
    fields.extend([text("outcome", false), text("error", true)]);
    fields.push(text("author", true));
    fields.extend(DELETED.iter().map(|name| count(name, true)));
    Arc::new(Schema::new(fields))
}

fn write_batch(run: &RunRecord) -> Result<RecordBatch, ArrowError> {
    let text = |value: Option<&str>| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let count = |value: Option<u64>| -> ArrayRef {
        let value = value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        Arc::new(Int64Array::from(vec![value]))
    };
    let time = |value: Option<Timestamp>| -> ArrayRef {
        let value = TimestampMicrosecondArray::from(vec![value.map(Timestamp::micros)]);
        Arc::new(value.with_timezone("UTC"))
    };
    let outcome = match run.outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
    };
    let (kind, materialized, deleted) = match &run.work {
        Work::Materialize(done) => (Kind::Materialize, done, None),
        Work::Delete(done) => (Kind::Delete, &Materialized::default(), Some(done)),
    };
    let online = materialized.online;
    let columns = vec![
        text(Some(&run.id.to_string())),
        text(Some(run.project.as_str())),
        text(Some(run.view.name.as_str())),
        text(Some(kind.word())),
        text(Some(&run.reason)),
        count(Some(u64::from(run.view.version.0))),
        time(materialized.window_start),
        time(materialized.window_end),
        count(Some(materialized.rows_read)),
        count(Some(materialized.rows_written)),
        count(Some(materialized.rows_left_out)),
        count(online.map(|online| online.written)),
        count(online.map(|online| online.kept)),
        count(online.map(|online| online.held_back)),
        time(Some(run.started_at)),
        time(Some(run.finished_at)),
        text(Some(outcome)),
        text(run.error.as_deref()),
        text(deleted.map(|deleted| deleted.author.as_str())),
        count(deleted.map(|deleted| deleted.entities)),
        count(deleted.map(|deleted| deleted.found)),
        count(deleted.map(|deleted| deleted.rows)),
        count(deleted.map(|deleted| deleted.online_rows)),
    ];
    RecordBatch::try_new(schema(), columns)
}

fn read_batch(batch: &RecordBatch) -> Result<Vec<RunRecord>, DataFusionError> {
    (0..batch.num_rows())
        .map(|row| Row { batch, row }.read())
        .collect()
}

/// One row of the table.
struct Row<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

impl Row<'_> {
    fn read(&self) -> Result<RunRecord, DataFusionError> {
        let version = self.count("view_version")?.unwrap_or_default();
        let must = |name: &str, time: Option<Timestamp>| time.ok_or_else(|| corrupt(name));
        Ok(RunRecord {
            id: self.parse("run_id")?,
            project: self.parse("project")?,
            view: ViewId {
                name: self.parse("view")?,
                version: version
                    .to_string()
                    .parse()
                    .map_err(|_| corrupt("view_version"))?,
            },
            work: match self.text("kind")? {
                Some(kind) if kind == Kind::Delete.word() => Work::Delete(self.deleted()?),
                _ => Work::Materialize(self.materialized()?),
            },
            reason: self.parse("reason")?,
            started_at: must("started_at", self.time("started_at")?)?,
            finished_at: must("finished_at", self.time("finished_at")?)?,
            outcome: match self.text("outcome")? {
                Some("succeeded") => Outcome::Succeeded,
                _ => Outcome::Failed,
            },
            error: self.text("error")?.map(ToOwned::to_owned),
        })
    }

    fn materialized(&self) -> Result<Materialized, DataFusionError> {
        let count = |name| Ok::<_, DataFusionError>(self.count(name)?.unwrap_or_default());
        let online = match self.count("online_written")? {
            None => None,
            Some(written) => Some(OnlineCounts {
                written,
                kept: count("online_kept")?,
                held_back: count("online_held_back")?,
            }),
        };
        Ok(Materialized {
            window_start: self.time("window_start")?,
            window_end: self.time("window_end")?,
            rows_read: count("rows_read")?,
            rows_written: count("rows_written")?,
            rows_left_out: count("rows_left_out")?,
            online,
        })
    }

    fn deleted(&self) -> Result<EntitiesDeleted, DataFusionError> {
        let count = |name| Ok::<_, DataFusionError>(self.count(name)?.unwrap_or_default());
        Ok(EntitiesDeleted {
            author: self.text("author")?.unwrap_or_default().to_owned(),
            entities: count("entities")?,
            found: count("entities_found")?,
            rows: count("rows_deleted")?,
            online_rows: count("online_deleted")?,
        })
    }

    fn column(&self, name: &str) -> Result<&ArrayRef, DataFusionError> {
        self.batch.column_by_name(name).ok_or_else(|| corrupt(name))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, DataFusionError> {
        let column = self.column(name)?.as_string_opt::<i32>();
        let column = column.ok_or_else(|| corrupt(name))?;
        Ok(column.is_valid(self.row).then(|| column.value(self.row)))
    }

    fn count(&self, name: &str) -> Result<Option<u64>, DataFusionError> {
        let column = self.column(name)?.as_primitive_opt::<Int64Type>();
        let column = column.ok_or_else(|| corrupt(name))?;
        let value = column.is_valid(self.row).then(|| column.value(self.row));
        Ok(value.and_then(|value| u64::try_from(value).ok()))
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>, DataFusionError> {
        let column = self.column(name)?;
        let column = column.as_primitive_opt::<TimestampMicrosecondType>();
        let column = column.ok_or_else(|| corrupt(name))?;
        let value = column.is_valid(self.row).then(|| column.value(self.row));
        Ok(value.map(Timestamp::from_micros))
    }

    fn parse<T: FromStr>(&self, name: &str) -> Result<T, DataFusionError> {
        let text = self.text(name)?.ok_or_else(|| corrupt(name))?;
        text.parse().map_err(|_| corrupt(name))
    }
}

fn corrupt(column: &str) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the column `{column}` of the runs has a value that no run writes"
    ))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::{
        delta::faulty::FaultyStore,
        maintenance::{Vacuum, VacuumRequest, vacuum_runs},
    };

    fn runs() -> Runs {
        over(Arc::new(InMemory::new()))
    }

    fn over(objects: Arc<dyn object_store::ObjectStore>) -> Runs {
        let store = OfflineStore::over(objects, "memory:///offline".parse().unwrap());
        Runs::of(&store).unwrap()
    }

    fn run(view: &str, started: i64) -> RunRecord {
        RunRecord {
            id: Uuid::new_v4(),
            project: "flights".parse().unwrap(),
            view: view.parse().unwrap(),
            work: Work::Materialize(Materialized {
                rows_read: 3,
                rows_written: 2,
                rows_left_out: 1,
                ..Materialized::default()
            }),
            reason: "`weather` has a new file".to_owned(),
            started_at: Timestamp::from_micros(started),
            finished_at: Timestamp::from_micros(started + 1),
            outcome: Outcome::Succeeded,
            error: None,
        }
    }

    #[tokio::test]
    async fn records_come_back_as_they_were_the_newest_first() {
        let runs = runs();
        assert_eq!(runs.list(None, None, None, 10).await.unwrap(), []);
        let plain = run("weather@1", 10);
        let full = RunRecord {
            work: Work::Materialize(Materialized {
                window_start: Some(Timestamp::from_micros(-5)),
                window_end: Some(Timestamp::from_micros(5)),
                online: Some(OnlineCounts {
                    written: 1,
                    kept: 2,
                    held_back: 3,
                }),
                ..Materialized::default()
            }),
            outcome: Outcome::Failed,
            error: Some("no space left on device".to_owned()),
            ..run("planes@3", 20)
        };
        let deletion = RunRecord {
            work: Work::Delete(EntitiesDeleted {
                author: "ann".to_owned(),
                entities: 4,
                found: 3,
                rows: 9,
                online_rows: 2,
            }),
            ..run("weather@1", 5)
        };
        for record in [&full, &deletion, &plain] {
            runs.try_record(record).await.unwrap();
        }
        let all = runs.list(None, None, None, 10).await.unwrap();
        assert_eq!(all, [full.clone(), plain.clone(), deletion.clone()]);
        assert_eq!(runs.list(None, None, None, 1).await.unwrap(), [full]);
        let weather = "weather".parse().unwrap();
        let project = "flights".parse().unwrap();
        let found = runs.list(Some(&project), Some(&weather), None, 10).await;
        assert_eq!(found.unwrap(), [plain.clone(), deletion.clone()]);
        for (kind, want) in [(Kind::Delete, deletion), (Kind::Materialize, plain)] {
            let found = runs.list(None, Some(&weather), Some(kind), 10).await;
            assert_eq!(found.unwrap(), [want], "{kind:?}");
        }
        let other = "other".parse().unwrap();
        assert_eq!(runs.list(Some(&other), None, None, 10).await.unwrap(), []);
    }

    /// The table of a release that recorded no deletions.
    #[tokio::test]
    async fn a_table_without_the_columns_of_deletions_is_read_and_gets_them() {
        let runs = runs();
        let old = run("weather@1", 1);
        let whole = schema();
        let known = whole.fields().len() - 1 - DELETED.len();
        let batch = write_batch(&old).unwrap();
        let batch = batch.project(&(0..known).collect::<Vec<_>>()).unwrap();
        let columns = layout::delta_schema(&batch.schema()).unwrap();
        let mut files = DataFiles::new(
            &runs.table,
            &columns,
            vec!["started_at".to_owned()],
            Origin::Run,
            Arrangement::AsTheyCome,
        );
        files.write(0, &batch).await.unwrap();
        let change = Change {
            written: files.finish().await.unwrap(),
            removes: Vec::new(),
            columns: Columns::New(columns),
            effect: Effect::Appends,
            producers: Vec::new(),
            info: Vec::new(),
        };
        change.commit(&runs.table, None).await.unwrap();
        let all = runs.list(None, None, None, 10).await.unwrap();
        assert_eq!(all, std::slice::from_ref(&old));
        let new = RunRecord {
            work: Work::Delete(EntitiesDeleted::default()),
            ..run("weather@1", 2)
        };
        runs.try_record(&new).await.unwrap();
        let all = runs.list(None, None, None, 10).await.unwrap();
        assert_eq!(all, [new, old]);
    }

    #[tokio::test]
    async fn many_records_are_few_files() {
        let runs = runs();
        let count = SMALL_FILES + 5;
        for started in 0..count {
            let started = i64::try_from(started).unwrap();
            runs.try_record(&run("weather@1", started)).await.unwrap();
        }
        let all = runs.list(None, None, None, 1000).await.unwrap();
        assert_eq!(all.len(), count);
        let state = runs.table.newest().await.unwrap().unwrap();
        assert!(state.files().len() < 10, "{}", state.files().len());
    }

    #[tokio::test]
    async fn files_whose_records_were_put_together_are_deleted_in_time() {
        let objects: Arc<dyn object_store::ObjectStore> = Arc::new(InMemory::new());
        let store = OfflineStore::over(Arc::clone(&objects), "memory:///o".parse().unwrap());
        let runs = Runs::of(&store).unwrap();
        let count = SMALL_FILES + 1;
        for started in 0..count {
            let started = i64::try_from(started).unwrap();
            runs.try_record(&run("weather@1", started)).await.unwrap();
        }
        let request = VacuumRequest {
            retention: "7d".parse().unwrap(),
            pins: &[],
            dry_run: false,
        };
        let later = "2099-01-01T00:00:00Z".parse().unwrap();
        let done = vacuum_runs(&store, &request, later).await.unwrap();
        assert_eq!(done.deleted.len(), SMALL_FILES);
        assert_eq!(
            runs.list(None, None, None, 1000).await.unwrap().len(),
            count
        );
        let again = vacuum_runs(&store, &request, later).await.unwrap();
        assert_eq!(again, Vacuum::default());
    }

    #[tokio::test]
    async fn records_at_the_same_time_are_all_written() {
        let runs = runs();
        let records = (0..8).map(|started| run("weather@1", started));
        let records: Vec<_> = records.collect();
        let written = records.iter().map(|record| runs.try_record(record));
        for result in futures::future::join_all(written).await {
            result.unwrap();
        }
        assert_eq!(runs.list(None, None, None, 100).await.unwrap().len(), 8);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_written_fails_nothing() {
        let objects = Arc::new(InMemory::new());
        let runs = over(Arc::new(FaultyStore::after(0, objects)));
        runs.record(&run("weather@1", 10)).await;
        assert_eq!(runs.list(None, None, None, 10).await.unwrap(), []);
    }
}
