//! Writes a result to a file, whole or not at all.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    csv,
    datatypes::{DataType, Schema, SchemaRef},
    ipc::writer::FileWriter,
};
use bytes::Bytes;
use datafusion::{
    common::runtime::SpawnedTask, error::DataFusionError, execution::SendableRecordBatchStream,
};
use futures::TryStreamExt;
use parquet::{basic::Compression, errors::ParquetError};
use tokio::{sync::mpsc, task::JoinError};
use uuid::Uuid;

use super::{
    FileFormat, HistoricalError,
    error::FileError,
    even_batches::{EVEN_ROWS, EvenBatches},
};
use crate::parquet_file::{ParquetFile, ROW_GROUP_ROWS};

/// How many batches may wait to be written. While one is encoded, the next are joined.
const WAITING_BATCHES: usize = 2;

/// A file that a result is going to be in. Until it is finished, its bytes are in a hidden file beside it, which is
/// removed when this is dropped.
#[derive(Debug)]
pub struct ResultFile {
    path: PathBuf,
    unfinished: Arc<Unfinished>,
    format: FileFormat,
    schema: SchemaRef,
}

/// What has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl ResultFile {
    /// Prepares to write a result with these columns to a file, in the format that its extension names. Nothing is
    /// made yet, so this can be asked before the result is.
    ///
    /// # Errors
    /// [`HistoricalError::Format`]; [`HistoricalError::Unwritable`] for a column that the format cannot hold;
    /// [`HistoricalError::Write`] when there is no such folder.
    pub fn prepare(path: &Path, schema: &SchemaRef) -> Result<Self, HistoricalError> {
        let format = FileFormat::of(path)?;
        if format == FileFormat::Csv {
            check_csv(schema)?;
        }
        let unwritable = |source: io::Error| HistoricalError::Write {
            path: path.to_owned(),
            source: source.into(),
        };
        // The folder, once and for all: the working directory may be another one when the file is finished.
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = folder.canonicalize().map_err(unwritable)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = folder.join(format!(".{name}.{}.part", Uuid::new_v4().simple()));
        Ok(Self {
            path: folder.join(path.file_name().unwrap_or_default()),
            unfinished: Arc::new(Unfinished(unfinished)),
            format,
            schema: SchemaRef::clone(schema),
        })
    }

    /// Writes all rows of a result. The same rows make the same bytes, whatever batches they come in; but an Arrow file
    /// with dictionaries has those that came. The file is there afterwards, in place of any older one; after an error or when
    /// this is dropped, what was there before still is.
    ///
    /// # Errors
    /// The result's own, and [`HistoricalError::Write`].
    pub async fn write(
        self,
        mut rows: SendableRecordBatchStream,
    ) -> Result<Written, HistoricalError> {
        let (batches, waiting) = mpsc::channel(WAITING_BATCHES);
        let schema = SchemaRef::clone(&self.schema);
        // The writer may outlive this future, so the file goes away with the last of the two.
        let unfinished = Arc::clone(&self.unfinished);
        let writer =
            match self.format {
                FileFormat::Parquet => SpawnedTask::spawn(async move {
                    write_parquet(&unfinished.0, &schema, waiting).await
                }),
                FileFormat::Csv => SpawnedTask::spawn_blocking(move || {
                    Sink::csv(&unfinished.0, &schema)?.write_all(waiting)
                }),
                FileFormat::Arrow => SpawnedTask::spawn_blocking(move || {
                    Sink::arrow(&unfinished.0, &schema)?.write_all(waiting)
                }),
            };
        let given = give(&mut rows, &batches).await;
        drop(batches);
        let written = writer.join_unwind().await;
        given?;
        written
            .map_err(interrupted)
            .and_then(|rows| {
                let rows = rows?;
                fs::rename(&self.unfinished.0, &self.path)?;
                let bytes = fs::metadata(&self.path)?.len();
                Ok(Written { rows, bytes })
            })
            .map_err(|source| HistoricalError::Write {
                path: self.path.clone(),
                source,
            })
    }
}

/// Gives the writer batches of one size until there are no more. Where the writer has failed, it says how.
async fn give(
    rows: &mut SendableRecordBatchStream,
    batches: &mpsc::Sender<RecordBatch>,
) -> Result<(), HistoricalError> {
    let mut even = EvenBatches::new(rows.schema());
    while let Some(batch) = rows.try_next().await? {
        for batch in even.push(batch).map_err(DataFusionError::from)? {
            if batches.send(batch).await.is_err() {
                return Ok(());
            }
        }
    }
    if let Some(batch) = even.rest().map_err(DataFusionError::from)? {
        // Whether it has failed, the writer says.
        let _ = batches.send(batch).await;
    }
    Ok(())
}

/// Writes a Parquet file. The columns of a row group are encoded side by side, while the one before is appended. What
/// the file's bytes are depends on the rows alone, since the batches are of one size. Gives the number of rows.
async fn write_parquet(
    path: &Path,
    schema: &SchemaRef,
    mut batches: mpsc::Receiver<RecordBatch>,
) -> Result<u64, FileError> {
    let mut file = File::create_new(path)?;
    let (mut parquet, mut rows) = (None, 0);
    let mut encoded: Option<SpawnedTask<_>> = None;
    loop {
        let group = next_group(&mut batches).await;
        rows += group
            .iter()
            .map(|batch| batch.num_rows() as u64)
            .sum::<u64>();
        let mut open = match parquet.take() {
            Some(parquet) => parquet,
            None => {
                ParquetFile::new(schema, Compression::SNAPPY, &[], &[], &group).map_err(encoding)?
            }
        };
        let ended = group.is_empty();
        let next = (!ended).then(|| SpawnedTask::spawn(open.encode(&group)));
        drop(group);
        if let Some(before) = std::mem::replace(&mut encoded, next) {
            let before = before.join_unwind().await.map_err(interrupted)?;
            let (appended, bytes) =
                (open.append(before.map_err(encoding)?).await).map_err(encoding)?;
            (open, file) = (appended, write_all(file, bytes).await?);
        }
        if ended {
            let (bytes, _) = open.finish().await.map_err(encoding)?;
            let file = write_all(file, bytes).await?;
            file.sync_all()?;
            return Ok(rows);
        }
        parquet = Some(open);
    }
}

/// The batches of the next row group; none when there are no more.
async fn next_group(batches: &mut mpsc::Receiver<RecordBatch>) -> Vec<RecordBatch> {
    let mut group = Vec::new();
    while group.len() < ROW_GROUP_ROWS / EVEN_ROWS
        && let Some(batch) = batches.recv().await
    {
        group.push(batch);
    }
    group
}

async fn write_all(mut file: File, bytes: Bytes) -> Result<File, FileError> {
    let write = move || file.write_all(&bytes).map(|()| file);
    let written = SpawnedTask::spawn_blocking(write).join_unwind().await;
    Ok(written.map_err(interrupted)??)
}

/// The runtime is being shut down.
fn interrupted(_: JoinError) -> FileError {
    io::Error::from(io::ErrorKind::Interrupted).into()
}

fn encoding(err: Box<dyn std::error::Error + Send + Sync>) -> FileError {
    FileError::Parquet(ParquetError::External(err))
}

fn check_csv(schema: &Schema) -> Result<(), HistoricalError> {
    let unwritable = schema
        .fields()
        .iter()
        .find(|field| field.data_type().is_nested() && !is_dictionary(field.data_type()));
    match unwritable {
        None => Ok(()),
        Some(field) => Err(HistoricalError::Unwritable {
            format: FileFormat::Csv,
            column: field.name().clone(),
            found: field.data_type().clone(),
        }),
    }
}

fn is_dictionary(found: &DataType) -> bool {
    matches!(found, DataType::Dictionary(_, values) if !values.is_nested())
}

/// A file that goes away unless it has been renamed.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Renamed, or never made: there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

/// The writer of one of the formats that are written batch by batch.
enum Sink {
    Csv(csv::Writer<BufWriter<File>>),
    Arrow(FileWriter<BufWriter<File>>),
}

impl Sink {
    fn csv(path: &Path, schema: &SchemaRef) -> Result<Self, FileError> {
        let mut writer = csv::Writer::new(BufWriter::new(File::create_new(path)?));
        // A result without rows has its header line too.
        writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
        Ok(Self::Csv(writer))
    }

    fn arrow(path: &Path, schema: &SchemaRef) -> Result<Self, FileError> {
        let file = File::create_new(path)?;
        Ok(Self::Arrow(FileWriter::try_new_buffered(file, schema)?))
    }

    /// Writes batches until there are no more, and all of it to the disk. Gives the number of rows.
    fn write_all(mut self, mut batches: mpsc::Receiver<RecordBatch>) -> Result<u64, FileError> {
        let mut rows = 0;
        while let Some(batch) = batches.blocking_recv() {
            rows += batch.num_rows() as u64;
            match &mut self {
                Self::Csv(writer) => writer.write(&batch)?,
                Self::Arrow(writer) => writer.write(&batch)?,
            }
        }
        let file = match self {
            Self::Csv(writer) => into_file(writer.into_inner())?,
            Self::Arrow(mut writer) => {
                writer.finish()?;
                into_file(writer.into_inner()?)?
            }
        };
        file.sync_all()?;
        Ok(rows)
    }
}

fn into_file(mut buffered: BufWriter<File>) -> Result<File, io::Error> {
    buffered.flush()?;
    buffered.into_inner().map_err(|err| err.into_error())
}
