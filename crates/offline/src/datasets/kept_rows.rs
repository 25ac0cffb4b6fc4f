//! The entity rows of a dataset, kept beside its manifest: an Arrow IPC stream, compressed with Zstandard.
//!
//! A stream, since its dictionaries may change from batch to batch. The batches are kept as they came, so that the join
//! reads what it has read.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        CompressionType,
        reader::StreamDecoder,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use uuid::Uuid;
use vintner_core::DatasetName;

use super::{ContentHash, Dataset, DatasetError, Datasets, KeptRows, RowsHasher};
use crate::delta::Upload;

/// What the names of kept entity rows begin and end with.
pub(super) const PREFIX: &str = "entity_rows-";
pub(super) const SUFFIX: &str = ".arrows";

/// Entity rows that are being kept. Until it is finished there is no file.
pub struct KeptRowsWriter {
    datasets: Datasets,
    name: DatasetName,
    file: String,
    writer: StreamWriter<Vec<u8>>,
    upload: Upload,
    hasher: RowsHasher,
    bytes: u64,
}

impl KeptRowsWriter {
    /// Begins to keep entity rows with these columns for a dataset.
    ///
    /// # Errors
    /// [`DatasetError::Column`] for a column that cannot be hashed.
    pub fn new(
        datasets: &Datasets,
        name: &DatasetName,
        schema: &Schema,
    ) -> Result<Self, DatasetError> {
        // Of two that save under one name, only one comes to have a manifest. Their files do not meet.
        let file = format!("{PREFIX}{}{SUFFIX}", Uuid::new_v4().simple());
        let objects: Arc<dyn ObjectStore> = Arc::clone(datasets.objects());
        let failed = |source| datasets.rows_error("keep the entity rows", name, source);
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::ZSTD))
            .map_err(failed)?;
        let writer = StreamWriter::try_new_with_options(Vec::new(), schema, options);
        Ok(Self {
            name: name.clone(),
            upload: Upload::new(objects, Path::from(name.as_str()).join(file.as_str())),
            file,
            writer: writer.map_err(failed)?,
            hasher: RowsHasher::new(schema)?,
            bytes: 0,
            datasets: datasets.clone(),
        })
    }

    /// Keeps a batch.
    ///
    /// # Errors
    /// [`DatasetError`]; then nothing is kept.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), DatasetError> {
        let encoded = self
            .hasher
            .update(batch)
            .and_then(|()| self.writer.write(batch));
        encoded.map_err(|source| self.rows_error(source))?;
        self.send().await
    }

    /// Makes the file.
    ///
    /// # Errors
    /// [`DatasetError`]; then there is none.
    pub async fn finish(mut self) -> Result<KeptRows, DatasetError> {
        self.writer
            .finish()
            .map_err(|source| self.rows_error(source))?;
        self.send().await?;
        let (datasets, name) = (self.datasets, self.name);
        self.upload.finish().await.map_err(|source| {
            datasets.store_error(
                format!("keep the entity rows of the dataset `{name}`"),
                source,
            )
        })?;
        Ok(KeptRows {
            file: self.file,
            bytes: self.bytes,
            rows: self.hasher.rows(),
            hash: self.hasher.finish(),
        })
    }

    async fn send(&mut self) -> Result<(), DatasetError> {
        let encoded = std::mem::take(self.writer.get_mut());
        self.bytes += encoded.len() as u64;
        let sent = self.upload.put(encoded.into()).await;
        sent.map_err(|source| {
            let what = format!("keep the entity rows of the dataset `{}`", self.name);
            self.datasets.store_error(what, source)
        })
    }

    fn rows_error(&self, source: ArrowError) -> DatasetError {
        self.datasets
            .rows_error("keep the entity rows", &self.name, source)
    }
}

impl std::fmt::Debug for KeptRowsWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptRowsWriter({}/{})", self.name, self.file)
    }
}

/// The kept entity rows of a dataset: their columns, and the batches as they were kept. When they are not the rows that
/// were saved, the stream ends in an error.
pub(super) async fn read(
    datasets: &Datasets,
    dataset: &Dataset,
) -> Result<
    (
        SchemaRef,
        BoxStream<'static, Result<RecordBatch, DatasetError>>,
    ),
    DatasetError,
> {
    let path = Path::from(dataset.name.as_str()).join(dataset.entity_rows.file.as_str());
    let what = || format!("read the entity rows of the dataset `{}`", dataset.name);
    let found = datasets.objects().get(&path).await;
    let found = found.map_err(|source| datasets.store_error(what(), source))?;
    let (failed, what) = (datasets.clone(), what());
    let bytes = found
        .into_stream()
        .map_ok(Buffer::from)
        .map_err(move |source| failed.store_error(what.clone(), source));
    let mut rows = Reader {
        datasets: datasets.clone(),
        name: dataset.name.clone(),
        kept: dataset.entity_rows.clone(),
        bytes: bytes.boxed(),
        waiting: Buffer::from(Vec::<u8>::new()),
        decoder: StreamDecoder::new(),
        hasher: None,
    };
    // The columns come before the first batch, and are there also when no batch comes.
    let first = rows.next_batch().await?;
    let schema = rows.decoder.schema().ok_or_else(|| rows.changed())?;
    let mut hasher = RowsHasher::new(&schema)?;
    if let Some(batch) = &first {
        hasher.update(batch).map_err(|source| rows.error(source))?;
    }
    rows.hasher = Some(hasher);
    let is_over = first.is_none();
    if is_over {
        rows.verify()?;
    }
    let rest = stream::try_unfold((rows, is_over), |(mut rows, is_over)| async move {
        if is_over {
            return Ok(None);
        }
        match rows.next_batch().await? {
            Some(batch) => {
                if let Some(hasher) = &mut rows.hasher {
                    hasher.update(&batch).map_err(|source| rows.error(source))?;
                }
                Ok(Some((batch, (rows, false))))
            }
            None => rows.verify().map(|()| None),
        }
    });
    let first = stream::iter(first.map(Ok));
    Ok((schema, first.chain(rest).boxed()))
}

struct Reader {
    datasets: Datasets,
    name: DatasetName,
    kept: KeptRows,
    bytes: BoxStream<'static, Result<Buffer, DatasetError>>,
    waiting: Buffer,
    decoder: StreamDecoder,
    hasher: Option<RowsHasher>,
}

impl Reader {
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>, DatasetError> {
        loop {
            while !self.waiting.is_empty() {
                let decoded = self.decoder.decode(&mut self.waiting);
                if let Some(batch) = decoded.map_err(|source| self.error(source))? {
                    return Ok(Some(batch));
                }
            }
            match self.bytes.next().await.transpose()? {
                Some(bytes) => self.waiting = bytes,
                None => {
                    let ended = self.decoder.finish();
                    return ended.map(|()| None).map_err(|source| self.error(source));
                }
            }
        }
    }

    /// Whether the rows were those that were saved.
    fn verify(&self) -> Result<(), DatasetError> {
        let found: Option<ContentHash> = self.hasher.as_ref().map(RowsHasher::finish);
        match found == Some(self.kept.hash) {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    fn changed(&self) -> DatasetError {
        DatasetError::Changed {
            name: self.name.clone(),
            location: self.datasets.location().to_owned(),
            file: self.kept.file.clone(),
        }
    }

    fn error(&self, source: ArrowError) -> DatasetError {
        self.datasets
            .rows_error("read the kept entity rows", &self.name, source)
    }
}
