//! Writes a result to a file, whole or not at all.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    csv,
    datatypes::{DataType, Schema, SchemaRef},
    ipc::writer::FileWriter,
};
use datafusion::{common::runtime::SpawnedTask, execution::SendableRecordBatchStream};
use futures::StreamExt;
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{FileFormat, HistoricalError, error::FileError, even_batches::EvenBatches};

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
        let unwritable = |source: std::io::Error| HistoricalError::Write {
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
        let (format, schema) = (self.format, SchemaRef::clone(&self.schema));
        // The writer may outlive this future, so the file goes away with the last of the two.
        let unfinished = Arc::clone(&self.unfinished);
        let writer = SpawnedTask::spawn_blocking(move || {
            Sink::create(format, &unfinished.0, &schema)?.write_all(waiting)
        });
        let mut failed = None;
        let mut even = EvenBatches::new(SchemaRef::clone(&self.schema));
        'rows: while let Some(batch) = rows.next().await {
            match batch.and_then(|batch| Ok(even.push(batch)?)) {
                Ok(whole) => {
                    for batch in whole {
                        // The writer has failed; it says how.
                        if batches.send(batch).await.is_err() {
                            break 'rows;
                        }
                    }
                }
                Err(err) => {
                    failed = Some(err);
                    break;
                }
            }
        }
        match even.rest() {
            // Whether it has failed, the writer says.
            Ok(Some(batch)) => drop(batches.send(batch).await),
            Ok(None) => {}
            Err(err) => failed = failed.or_else(|| Some(err.into())),
        }
        drop(batches);
        let written = writer.join_unwind().await;
        if let Some(err) = failed {
            return Err(err.into());
        }
        let interrupted =
            |_| FileError::from(std::io::Error::from(std::io::ErrorKind::Interrupted));
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

/// One of the three writers.
enum Sink {
    Parquet(Box<ArrowWriter<File>>),
    Csv(csv::Writer<BufWriter<File>>),
    Arrow(FileWriter<BufWriter<File>>),
}

impl Sink {
    fn create(format: FileFormat, path: &Path, schema: &SchemaRef) -> Result<Self, FileError> {
        let file = File::create_new(path)?;
        Ok(match format {
            FileFormat::Parquet => {
                let snappy = WriterProperties::builder().set_compression(Compression::SNAPPY);
                let schema = SchemaRef::clone(schema);
                let writer = ArrowWriter::try_new(file, schema, Some(snappy.build()))?;
                Self::Parquet(Box::new(writer))
            }
            FileFormat::Csv => {
                let mut writer = csv::Writer::new(BufWriter::new(file));
                // A result without rows has its header line too.
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
                Self::Csv(writer)
            }
            FileFormat::Arrow => Self::Arrow(FileWriter::try_new_buffered(file, schema)?),
        })
    }

    /// Writes batches until there are no more, and all of it to the disk. Gives the number of rows.
    fn write_all(mut self, mut batches: mpsc::Receiver<RecordBatch>) -> Result<u64, FileError> {
        let mut rows = 0;
        while let Some(batch) = batches.blocking_recv() {
            rows += batch.num_rows() as u64;
            match &mut self {
                Self::Parquet(writer) => writer.write(&batch)?,
                Self::Csv(writer) => writer.write(&batch)?,
                Self::Arrow(writer) => writer.write(&batch)?,
            }
        }
        let file = match self {
            Self::Parquet(writer) => writer.into_inner()?,
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

fn into_file(mut buffered: BufWriter<File>) -> Result<File, std::io::Error> {
    buffered.flush()?;
    buffered.into_inner().map_err(|err| err.into_error())
}
