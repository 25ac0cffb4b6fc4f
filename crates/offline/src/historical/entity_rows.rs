//! Where entity rows come from: a file, a stream, or memory.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Seek},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::RecordBatch, csv, datatypes::SchemaRef, error::ArrowError, ipc::reader::FileReader,
};
use datafusion::{
    common::runtime::SpawnedTask,
    datasource::memory::MemorySourceConfig,
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{
        ExecutionPlan,
        stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter},
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vintner_core::JoinKey;

use super::{
    FileFormat, HistoricalError,
    arrow_rows::arrow_rows,
    csv_types::{self, CsvError},
};

/// How many rows are read from a file at a time.
const BATCH_ROWS: usize = 8192;

/// The rows that a training job asks about: keys, a moment, and whatever else they carry.
#[derive(Debug)]
pub struct EntityRows {
    schema: SchemaRef,
    rows: Rows,
    /// How many there are, if that is known before they are read.
    count: Option<u64>,
}

enum Rows {
    Batches(Vec<RecordBatch>),
    Stream(SendableRecordBatchStream),
    File(PathBuf, Reader),
}

/// A file's batches, one after another.
type Reader = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

impl EntityRows {
    /// Rows in memory, all with these columns.
    pub fn from_batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        let count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Self {
            schema,
            rows: Rows::Batches(batches),
            count: Some(count),
        }
    }

    /// Rows as they come.
    pub fn from_stream(stream: SendableRecordBatchStream) -> Self {
        Self {
            schema: stream.schema(),
            rows: Rows::Stream(stream),
            count: None,
        }
    }

    /// The rows of a Parquet, CSV or Arrow file, by its extension, in the file's order. The join keys of what will
    /// be asked for say how those columns of a CSV file are read; its other columns are read as what is in them.
    ///
    /// # Errors
    /// [`HistoricalError::Format`], and [`HistoricalError::Read`] when the file is missing or broken.
    pub async fn open(path: &Path, keys: &[JoinKey]) -> Result<Self, HistoricalError> {
        let format = FileFormat::of(path)?;
        let (path, keys) = (path.to_owned(), keys.to_vec());
        let opened = SpawnedTask::spawn_blocking({
            let path = path.clone();
            move || open(format, &path, &keys)
        });
        // The thread is only ever cut short when the whole process ends.
        let ended = |_| Err(io::Error::from(io::ErrorKind::Interrupted).into());
        match opened.join_unwind().await.unwrap_or_else(ended) {
            Ok(Opened {
                schema,
                reader,
                count,
            }) => Ok(Self {
                schema,
                rows: Rows::File(path, reader),
                count,
            }),
            Err(CsvError::File(source)) => Err(HistoricalError::Read { path, source }),
            Err(CsvError::Key(err)) => Err(err.into()),
        }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many there are, if that is known before they are read: a CSV file and a stream do not say.
    pub fn count(&self) -> Option<u64> {
        self.count
    }

    /// The rows as a stream, in their order.
    pub fn into_stream(self) -> SendableRecordBatchStream {
        match self.rows {
            Rows::Batches(batches) => {
                let batches = futures::stream::iter(batches.into_iter().map(Ok));
                Box::pin(RecordBatchStreamAdapter::new(self.schema, batches))
            }
            Rows::Stream(stream) => stream,
            Rows::File(path, reader) => in_background(self.schema, path, reader),
        }
    }

    /// A plan that gives the rows in their order, in one partition. Rows that are not in memory are given once.
    pub(super) fn into_plan(self) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema;
        let stream = match self.rows {
            Rows::Batches(batches) => {
                return Ok(MemorySourceConfig::try_new_exec(&[batches], schema, None)?);
            }
            rows => Self {
                schema: SchemaRef::clone(&schema),
                rows,
                count: self.count,
            }
            .into_stream(),
        };
        let partition = Once {
            schema: SchemaRef::clone(&schema),
            stream: Mutex::new(Some(stream)),
        };
        let plan =
            StreamingTableExec::try_new(schema, vec![Arc::new(partition)], None, [], false, None)?;
        Ok(Arc::new(plan))
    }
}

/// A file whose rows can be read.
struct Opened {
    schema: SchemaRef,
    reader: Reader,
    count: Option<u64>,
}

fn open(format: FileFormat, path: &Path, keys: &[JoinKey]) -> Result<Opened, CsvError> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty").into());
    }
    Ok(match format {
        FileFormat::Parquet => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
            let count = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
            let reader = builder.with_batch_size(BATCH_ROWS).build()?;
            Opened {
                schema: arrow::array::RecordBatchReader::schema(&reader),
                reader: Box::new(reader),
                count,
            }
        }
        FileFormat::Arrow => {
            let count = arrow_rows(&mut file);
            file.rewind()?;
            let reader = FileReader::try_new_buffered(file, None)?;
            Opened {
                schema: reader.schema(),
                reader: Box::new(reader),
                count,
            }
        }
        FileFormat::Csv => {
            let schema = csv_types::schema(path, keys)?;
            let reader = csv::ReaderBuilder::new(SchemaRef::clone(&schema))
                .with_header(true)
                .with_batch_size(BATCH_ROWS)
                .build_buffered(BufReader::new(file))?;
            Opened {
                schema,
                reader: Box::new(reader),
                count: None,
            }
        }
    })
}

/// Reads a file on a thread of its own, which stops when the stream is dropped.
fn in_background(schema: SchemaRef, path: PathBuf, reader: Reader) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStream::builder(schema, 2);
    let batches = builder.tx();
    builder.spawn_blocking(move || {
        for batch in reader {
            let batch = batch.map_err(|err| {
                let (path, source) = (path.clone(), err.into());
                DataFusionError::External(Box::new(HistoricalError::Read { path, source }))
            });
            if batches.blocking_send(batch).is_err() {
                break;
            }
        }
        Ok(())
    });
    builder.build()
}

/// A stream that can be taken once.
struct Once {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let taken = self
            .stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        taken.unwrap_or_else(|| {
            let again = "the entity rows came as a stream, which can be read only once";
            let err = DataFusionError::Execution(again.to_owned());
            let failed = futures::stream::once(std::future::ready(Err(err)));
            Box::pin(RecordBatchStreamAdapter::new(
                SchemaRef::clone(&self.schema),
                failed,
            ))
        })
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batches(batches) => write!(f, "{} batches", batches.len()),
            Self::Stream(_) => f.write_str("a stream"),
            Self::File(path, _) => write!(f, "{}", path.display()),
        }
    }
}
