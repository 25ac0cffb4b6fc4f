//! Writes rows into new data files, which nobody sees until a commit adds them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    compute::cast,
    datatypes::SchemaRef,
};
use datafusion::common::runtime::SpawnedTask;
use deltalake::kernel::{Add, StructType};
use object_store::{ObjectStoreExt, path::Path};
use parquet::basic::Compression;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    error::DeltaError, file_name, file_name::Origin, layout::file_schema, stats, table::Table,
    upload::Upload,
};
use crate::parquet_file::{Error, ParquetFile, ROW_GROUP_ROWS, RowGroup};

/// Past this many bytes a data file is closed and the next one begun.
pub(crate) const TARGET_BYTES: usize = 128 << 20;
/// A row group of wide rows is closed at this many bytes in memory.
const ROW_GROUP_BYTES: usize = 48 << 20;
/// All lanes together hold at most so many bytes; past them the fullest one becomes a row group.
const LANES_BYTES: usize = 128 << 20;

/// How the rows of new files are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrangement {
    /// As they come. A file is closed when it is large enough.
    AsTheyCome,
    /// Each file has its rows in the order of these columns, nulls first, and is closed when the writer is told to. It is
    /// marked as such by its name, which is what the log keeps of it.
    Sorted {
        /// The columns.
        by: Vec<String>,
    },
}

/// New data files of a table. Rows come in lanes; a row group has rows of one lane, as long as there are enough, so
/// that what was near each other in the input stays so in the table.
///
/// Row groups are encoded and uploaded by a task of their own, while more rows come in. Memory: what the lanes hold,
/// three row groups on their way, and the parts that are being uploaded. Dropped, it stops; nothing is part of the
/// table, but finished files are left for `vacuum`.
pub(crate) struct DataFiles {
    table: Table,
    schema: SchemaRef,
    lanes: Vec<Lane>,
    row_groups: mpsc::Sender<Message>,
    writing: JoinSet<Result<Vec<Add>, DeltaError>>,
    rows: u64,
}

/// What was written, not yet committed.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The new files.
    pub(crate) adds: Vec<Add>,
    /// Their rows.
    pub(crate) rows: u64,
}

impl Written {
    /// The size of the new files.
    pub(crate) fn bytes(&self) -> u64 {
        self.adds
            .iter()
            .map(|add| u64::try_from(add.size).unwrap_or(0))
            .sum()
    }

    /// Takes the files away again: no version has them. What cannot be deleted is left to `vacuum`.
    pub(crate) async fn discard(self, table: &Table) {
        let objects = table.objects();
        for Add { path, .. } in self.adds {
            if let Err(error) = objects.delete(&Path::from(path.as_str())).await {
                tracing::debug!(%table, path, "could not delete a file that was not committed: {error}");
            }
        }
    }

    /// Both together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.adds.extend(other.adds);
        self.rows += other.rows;
        self
    }
}

impl DataFiles {
    /// New files with the columns of `schema`, with statistics of the columns named.
    pub(crate) fn new(
        table: &Table,
        schema: &StructType,
        statistics: Vec<String>,
        origin: Origin,
        arrangement: Arrangement,
    ) -> Self {
        let schema = file_schema(schema);
        // One row group waits while one is encoded.
        let (row_groups, incoming) = mpsc::channel(1);
        let files = Files {
            table: table.clone(),
            schema: schema.clone(),
            statistics,
            origin,
            arrangement,
            open: None,
            closing: JoinSet::new(),
            adds: Vec::new(),
        };
        let mut writing = JoinSet::new();
        writing.spawn(files.write(incoming));
        Self {
            table: table.clone(),
            schema,
            lanes: Vec::new(),
            row_groups,
            writing,
            rows: 0,
        }
    }

    /// Appends rows to a lane; lanes are numbered from 0. The columns are found by name; one that the batch does not
    /// have becomes null.
    ///
    /// # Errors
    /// [`DeltaError::Write`]; then [`DataFiles::abandon`] is the only thing left to do.
    pub(crate) async fn write(
        &mut self,
        lane: usize,
        batch: &RecordBatch,
    ) -> Result<(), DeltaError> {
        let mut batch = conform(batch, &self.schema).map_err(|e| self.table.write_error(e))?;
        self.rows += batch.num_rows() as u64;
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, Lane::default);
        }
        while batch.num_rows() > 0 {
            batch = self.lanes[lane].fill(&batch);
            if self.lanes[lane].is_full() {
                let full = std::mem::take(&mut self.lanes[lane]);
                self.send(Message::RowGroup(full.batches)).await?;
            }
        }
        while self.lanes.iter().map(|lane| lane.bytes).sum::<usize>() > LANES_BYTES {
            let fullest = self.lanes.iter_mut().max_by_key(|lane| lane.bytes);
            let full = fullest.map(std::mem::take).unwrap_or_default();
            self.send(Message::RowGroup(full.batches)).await?;
        }
        Ok(())
    }

    /// Closes the file that is being written; what comes next begins another one.
    ///
    /// # Errors
    /// [`DeltaError::Write`]; then [`DataFiles::abandon`] is the only thing left to do.
    pub(crate) async fn next_file(&mut self) -> Result<(), DeltaError> {
        self.send_rest().await?;
        self.send(Message::NextFile).await
    }

    /// Closes the files.
    ///
    /// # Errors
    /// [`DeltaError::Write`]; then no new file is left.
    pub(crate) async fn finish(mut self) -> Result<Written, DeltaError> {
        self.send_rest().await?;
        self.send(Message::Finish).await?;
        Ok(Written {
            adds: self.outcome().await?,
            rows: self.rows,
        })
    }

    async fn send_rest(&mut self) -> Result<(), DeltaError> {
        // What is left of the lanes goes together: few rows make one row group and one file.
        let mut rest = Lane::default();
        for lane in std::mem::take(&mut self.lanes) {
            for mut batch in lane.batches {
                while batch.num_rows() > 0 {
                    batch = rest.fill(&batch);
                    if rest.is_full() {
                        let full = std::mem::take(&mut rest);
                        self.send(Message::RowGroup(full.batches)).await?;
                    }
                }
            }
        }
        match rest.rows {
            0 => Ok(()),
            _ => self.send(Message::RowGroup(rest.batches)).await,
        }
    }

    /// Takes away what was written.
    pub(crate) async fn abandon(self) {
        let Self {
            row_groups,
            mut writing,
            ..
        } = self;
        drop(row_groups);
        // It ends without a result, or with the error that the caller knows of.
        writing.join_next().await;
    }

    async fn send(&mut self, message: Message) -> Result<(), DeltaError> {
        match self.row_groups.send(message).await {
            Ok(()) => Ok(()),
            // The task has ended, and it ends early only with an error.
            Err(_) => match self.outcome().await {
                Err(error) => Err(error),
                Ok(_) => Err(self.table.write_error("writing has ended before its rows")),
            },
        }
    }

    async fn outcome(&mut self) -> Result<Vec<Add>, DeltaError> {
        match self.writing.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(self.table.write_error(error)),
            None => Err(self.table.write_error("writing has failed before")),
        }
    }
}

/// What the task that writes is told. When it is told nothing any more, what it has written is not wanted.
enum Message {
    RowGroup(Vec<RecordBatch>),
    NextFile,
    Finish,
}

/// Rows that wait to become a row group.
#[derive(Default)]
struct Lane {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Lane {
    /// Takes as many of the rows as there is room for, and gives back the others.
    fn fill(&mut self, rows: &RecordBatch) -> RecordBatch {
        let taken = rows.num_rows().min(ROW_GROUP_ROWS - self.rows);
        let batch = rows.slice(0, taken);
        self.rows += taken;
        self.bytes += bytes(&batch);
        self.batches.push(batch);
        rows.slice(taken, rows.num_rows() - taken)
    }

    fn is_full(&self) -> bool {
        self.rows >= ROW_GROUP_ROWS || self.bytes >= ROW_GROUP_BYTES
    }
}

/// The size of a batch's values, not of the buffers that they are parts of.
fn bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| {
            let size = column.to_data().get_slice_memory_size();
            size.unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}

/// A file that is being written.
struct Open {
    file: ParquetFile,
    upload: Upload,
    /// The row group that comes next in it.
    encoding: Option<SpawnedTask<Result<RowGroup, Error>>>,
}

impl Open {
    /// Puts the row group that comes next into the file. After an error nothing is left of it.
    async fn put_encoded(self) -> Result<Self, Error> {
        let Self {
            file,
            mut upload,
            encoding,
        } = self;
        let put = async {
            let Some(encoding) = encoding else {
                return Ok(file);
            };
            let group = encoding.join_unwind().await??;
            let (file, bytes) = file.append(group).await?;
            upload.put(bytes).await?;
            Ok::<_, Error>(file)
        };
        match put.await {
            Ok(file) => Ok(Self {
                file,
                upload,
                encoding: None,
            }),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }
}

/// The task that writes.
struct Files {
    table: Table,
    schema: SchemaRef,
    statistics: Vec<String>,
    origin: Origin,
    arrangement: Arrangement,
    open: Option<Open>,
    /// Files whose last bytes are on their way.
    closing: JoinSet<Result<Add, DeltaError>>,
    adds: Vec<Add>,
}

impl Files {
    async fn write(
        mut self,
        mut incoming: mpsc::Receiver<Message>,
    ) -> Result<Vec<Add>, DeltaError> {
        let outcome = loop {
            let done = match incoming.recv().await {
                Some(Message::RowGroup(rows)) => self.append(rows).await,
                Some(Message::NextFile) => self.close_open().await,
                Some(Message::Finish) => break self.close_all().await,
                None => break Err(self.table.write_error("it was given up")),
            };
            if done.is_err() {
                break done;
            }
        };
        match outcome {
            Ok(()) => Ok(self.adds),
            Err(error) => {
                self.discard().await;
                Err(error)
            }
        }
    }

    /// Begins to encode a row group, and meanwhile puts the one before into its file.
    async fn append(&mut self, rows: Vec<RecordBatch>) -> Result<(), DeltaError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(&rows)?,
        };
        let next = SpawnedTask::spawn(open.file.encode(&rows));
        drop(rows);
        let mut open = open
            .put_encoded()
            .await
            .map_err(|e| self.table.write_error(e))?;
        open.encoding = Some(next);
        match self.is_complete(&open.file) {
            true => self.close(open).await,
            false => {
                self.open = Some(open);
                Ok(())
            }
        }
    }

    /// A new file, for rows of which these are the first.
    fn begin(&self, rows: &[RecordBatch]) -> Result<Open, DeltaError> {
        let (is_sorted, sorted_by) = match &self.arrangement {
            Arrangement::AsTheyCome => (false, &[][..]),
            Arrangement::Sorted { by } => (true, by.as_slice()),
        };
        let lz4 = Compression::LZ4_RAW;
        let file = ParquetFile::new(&self.schema, lz4, &self.statistics, sorted_by, rows);
        let path = file_name::new(self.origin, is_sorted);
        Ok(Open {
            file: file.map_err(|e| self.table.write_error(e))?,
            upload: Upload::new(self.table.objects(), path),
            encoding: None,
        })
    }

    fn is_complete(&self, file: &ParquetFile) -> bool {
        self.arrangement == Arrangement::AsTheyCome && file.bytes() >= TARGET_BYTES
    }

    /// Ends a file. Its last bytes go their way while the next file begins, but no more than one file's.
    async fn close(&mut self, open: Open) -> Result<(), DeltaError> {
        let open = open.put_encoded().await;
        let Open { file, upload, .. } = open.map_err(|e| self.table.write_error(e))?;
        let closed = self.wait_for_closing().await;
        let ended = match closed {
            Ok(()) => file.finish().await.map_err(|e| self.table.write_error(e)),
            Err(error) => Err(error),
        };
        match ended {
            Ok((bytes, metadata)) => {
                let stats = stats::of(&metadata, &self.statistics);
                self.closing
                    .spawn(last_bytes(self.table.clone(), upload, bytes, stats));
                Ok(())
            }
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn close_open(&mut self) -> Result<(), DeltaError> {
        match self.open.take() {
            Some(open) => self.close(open).await,
            None => Ok(()),
        }
    }

    async fn close_all(&mut self) -> Result<(), DeltaError> {
        self.close_open().await?;
        self.wait_for_closing().await
    }

    async fn wait_for_closing(&mut self) -> Result<(), DeltaError> {
        while let Some(closed) = self.closing.join_next().await {
            let add = closed.map_err(|e| self.table.write_error(e))?;
            self.adds.push(add?);
        }
        Ok(())
    }

    /// Takes away what was written.
    async fn discard(mut self) {
        if let Some(open) = self.open.take() {
            open.upload.abort().await;
        }
        while let Some(closed) = self.closing.join_next().await {
            self.adds.extend(closed.ok().and_then(Result::ok));
        }
        let written = Written {
            adds: self.adds,
            rows: 0,
        };
        written.discard(&self.table).await;
    }
}

/// Sends the last bytes of a file and makes it an object.
async fn last_bytes(
    table: Table,
    mut upload: Upload,
    bytes: bytes::Bytes,
    stats: String,
) -> Result<Add, DeltaError> {
    let path = upload.path().clone();
    if let Err(error) = upload.put(bytes).await {
        upload.abort().await;
        return Err(table.write_error(error));
    }
    upload.finish().await.map_err(|e| table.write_error(e))?;
    let mut add = Add {
        path: path.to_string(),
        data_change: true,
        stats: Some(stats),
        ..Add::default()
    };
    // The store's clock dates the file, as it does those that are left behind.
    match table.objects().head(&path).await {
        Ok(found) => {
            add.size = i64::try_from(found.size).unwrap_or(i64::MAX);
            add.modification_time = found.last_modified.timestamp_millis();
            Ok(add)
        }
        Err(error) => {
            let adds = vec![add];
            Written { adds, rows: 0 }.discard(&table).await;
            Err(table.write_error(error))
        }
    }
}

/// The columns of `schema`, by name, from a batch whose columns have the same types but for the names of list items.
fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, Box<dyn std::error::Error + Send + Sync>> {
    let columns = schema.fields().iter().map(|field| {
        let wanted = field.data_type();
        match batch.column_by_name(field.name()) {
            None => Ok(arrow::array::new_null_array(wanted, batch.num_rows())),
            Some(column) if column.data_type() == wanted => Ok(Arc::clone(column)),
            Some(column) => cast(column, wanted),
        }
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

#[cfg(test)]
mod tests;
