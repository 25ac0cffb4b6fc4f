//! The bytes of a Parquet file in an object store.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::{ParquetError, Result},
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

/// What is read from the end of a file at once, in the hope that the whole footer is in it.
const FOOTER_BYTES: usize = 64 * 1024;

/// Reads ranges of one file.
#[derive(Clone, Debug)]
pub(super) struct FileReader {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    bytes_read: Arc<AtomicU64>,
}

impl FileReader {
    /// A file of a known size. What is read is added to `bytes_read`.
    pub(super) fn new(
        objects: &Arc<dyn ObjectStore>,
        path: &Path,
        size: u64,
        bytes_read: &Arc<AtomicU64>,
    ) -> Self {
        Self {
            objects: Arc::clone(objects),
            path: path.clone(),
            size,
            bytes_read: Arc::clone(bytes_read),
        }
    }

    fn count<'a>(&self, bytes: impl IntoIterator<Item = &'a Bytes>) {
        let sum: usize = bytes.into_iter().map(Bytes::len).sum();
        self.bytes_read.fetch_add(sum as u64, Ordering::Relaxed);
    }
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let bytes = self.objects.get_range(&self.path, range).await;
            bytes.inspect(|bytes| self.count([bytes])).map_err(external)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let bytes = self.objects.get_ranges(&self.path, &ranges).await;
            bytes.inspect(|bytes| self.count(bytes)).map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let mut reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
        if let Some(options) = options {
            reader = reader
                .with_metadata_options(Some(options.metadata_options().clone()))
                .with_column_index_policy(options.column_index_policy())
                .with_offset_index_policy(options.offset_index_policy());
        }
        let size = self.size;
        async move { Ok(Arc::new(reader.load_and_finish(self, size).await?)) }.boxed()
    }
}

fn external(err: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(err))
}
