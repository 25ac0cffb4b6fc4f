//! One Parquet file, of a table or with a result: how it is laid out, and how rows become its bytes.
//!
//! The layout serves the point-in-time join, which reads keys and times of much and features of little. Nanoseconds per
//! value and bytes per value below are of parquet 59 on one core, pages in memory; `benches` has no part in them.
//!
//! * **Row groups of 128 Ki rows**, pages of 8 Ki rows, or of 2 Ki where the rows are sorted by key. A page is the unit that
//!   the page index lets a reader skip; a row group is what the writer holds. Columns that readers skip by (join keys and both
//!   times) have bounds per page, the others per row group: bounds of features are rarely asked for, and cost time.
//! * **Numbers and times that do not repeat: `DELTA_BINARY_PACKED`, not compressed again.** Keys of 100 k entities in any
//!   order: 1.1 ns and 2.3 bytes, where `PLAIN` with Snappy takes 5.9 ns and 4.5 bytes and a dictionary 6.2 ns and 4.5
//!   bytes. Sorted keys and times take less than a byte to four.
//! * **Floats that do not repeat: `PLAIN`.** Random ones: 0.4 ns and 8 bytes. A dictionary takes 1.7 ns and 10 bytes, and
//!   37 ns to write instead of 4. Those that do not get smaller by it, as the first rows say, are not compressed.
//! * **What repeats: a dictionary**, as the first rows of the file say. 100 different floats: 1.6 ns and 0.9 bytes.
//! * **Strings that do not repeat: `DELTA_LENGTH_BYTE_ARRAY`**, half the time of `PLAIN`.
//! * **`LZ4_RAW`** for what is compressed. On floats with two decimals it costs half as much as Snappy (2.9 against
//!   6.0 ns), at the same size. Zstandard costs 6 to 13 ns. Delta Lake for Python,
//!   DuckDB and Polars read all of these. Results are given away, so they are in Snappy, which every reader knows.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher},
    sync::Arc,
    thread::available_parallelism,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, RecordBatch},
    datatypes::{
        DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
        TimestampMicrosecondType,
    },
};
use bytes::Bytes;
use foldhash::fast::RandomState;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::{
    arrow::{
        ArrowSchemaConverter, ArrowWriter,
        arrow_writer::{
            ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
        },
    },
    basic::{Compression, Encoding, Type},
    errors::ParquetError,
    file::{
        metadata::{ParquetMetaData, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
};
use tokio::task::spawn_blocking;

/// A row group has at most this many rows. It is what the writer holds in memory, and the unit in which a reader
/// skips by statistics alone.
pub(crate) const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Rows per page: the unit in which a reader skips by the page index. All columns of fixed width have their pages
/// end at the same rows.
const PAGE_ROWS: usize = 8 * 1024;
/// The same where rows are sorted, so that a page has few keys, and most pages none that is asked about.
const SORTED_PAGE_ROWS: usize = 2 * 1024;
/// Pages of wide values end before that.
const PAGE_BYTES: usize = 256 << 10;
/// How many values of a column are looked at to see whether they repeat.
const SAMPLE_ROWS: usize = 32 * 1024;
/// How many of these are looked at before it is asked whether it is clear already.
const STEP_ROWS: usize = 1024;
/// How much of a column of floats is compressed to see whether it gets smaller.
const SAMPLE_BYTES: usize = 16 << 10;
/// It is worth it when less than this fraction is left.
const WORTH: (usize, usize) = (9, 10);
/// A column gets a dictionary when a value of the sample is there at least so many times on average.
const REPEATS: usize = 3;

/// What goes wrong while rows become bytes.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A Parquet file that is being written. Its bytes are handed out as they come to be.
pub(crate) struct ParquetFile {
    schema: SchemaRef,
    writer: SerializedFileWriter<Vec<u8>>,
    row_groups: ArrowRowGroupWriterFactory,
    /// How many leaves each column has in the Parquet schema.
    leaves: Vec<usize>,
    /// Row groups whose encoding has begun.
    begun: usize,
    written: usize,
}

/// A row group, encoded, that waits to be appended.
pub(crate) struct RowGroup(Vec<ArrowColumnChunk>);

impl ParquetFile {
    /// A file of the columns of `schema`; `first` is what it begins with, and decides on the encoding of columns.
    /// `pruned_by` names the columns that readers skip by, `sorted_by` those that the rows are sorted by.
    ///
    /// # Errors
    /// When the columns do not make a Parquet schema.
    pub(crate) fn new(
        schema: &SchemaRef,
        compression: Compression,
        pruned_by: &[String],
        sorted_by: &[String],
        first: &[RecordBatch],
    ) -> Result<Self, Error> {
        let parquet = ArrowSchemaConverter::new().convert(schema)?;
        let mut leaves = vec![0; schema.fields().len()];
        let mut properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_data_page_row_count_limit(match sorted_by.is_empty() {
                true => PAGE_ROWS,
                false => SORTED_PAGE_ROWS,
            })
            .set_data_page_size_limit(PAGE_BYTES)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(format!("vintner {}", env!("CARGO_PKG_VERSION")));
        for leaf in 0..parquet.num_columns() {
            let column = parquet.get_column_root_idx(leaf);
            leaves[column] += 1;
            let path = parquet.column(leaf).path().clone();
            if pruned_by.contains(schema.field(column).name()) {
                let page = EnabledStatistics::Page;
                properties = properties.set_column_statistics_enabled(path.clone(), page);
            }
            if repeats(first, column) {
                continue;
            }
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            match parquet.column(leaf).physical_type() {
                Type::INT32 | Type::INT64 => {
                    properties = properties
                        .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
                        .set_column_compression(path, Compression::UNCOMPRESSED);
                }
                Type::BYTE_ARRAY => {
                    let encoding = Encoding::DELTA_LENGTH_BYTE_ARRAY;
                    properties = properties.set_column_encoding(path, encoding);
                }
                Type::FLOAT | Type::DOUBLE if !shrinks(first, column) => {
                    let uncompressed = Compression::UNCOMPRESSED;
                    properties = properties.set_column_compression(path, uncompressed);
                }
                _ => {}
            }
        }
        if !sorted_by.is_empty() {
            let leaf =
                |name: &String| Some(leaves[..schema.index_of(name).ok()?].iter().sum::<usize>());
            let sorted = sorted_by.iter().map_while(|name| {
                Some(SortingColumn {
                    column_idx: i32::try_from(leaf(name)?).ok()?,
                    descending: false,
                    nulls_first: true,
                })
            });
            properties = properties.set_sorting_columns(Some(sorted.collect()));
        }
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties.build()))?;
        let (writer, row_groups) = writer.into_serialized_writer()?;
        Ok(Self {
            schema: schema.clone(),
            writer,
            row_groups,
            leaves,
            begun: 0,
            written: 0,
        })
    }

    /// Begins to encode a row group, its columns at the same time, while others are appended. The row groups of a file
    /// are begun in the order in which they are appended.
    ///
    /// # Errors
    /// When the batches do not have the columns of the file.
    pub(crate) fn encode(
        &mut self,
        rows: &[RecordBatch],
    ) -> impl Future<Output = Result<RowGroup, Error>> + Send + use<> {
        let writers = self.row_groups.create_column_writers(self.begun);
        self.begun += 1;
        let columns = writers.map(|writers| self.columns(rows, writers));
        async move {
            let at_once = available_parallelism().map_or(1, usize::from);
            let chunks: Vec<_> = stream::iter(columns?)
                .map(|column| blocking(move || column.encode()))
                .buffered(at_once)
                .try_collect()
                .await?;
            Ok(RowGroup(chunks.into_iter().flatten().collect()))
        }
    }

    fn columns(&self, rows: &[RecordBatch], writers: Vec<ArrowColumnWriter>) -> Vec<Column> {
        let mut writers = writers.into_iter();
        (self.leaves.iter().enumerate())
            .map(|(column, leaves)| Column {
                field: self.schema.field(column).clone(),
                values: rows
                    .iter()
                    .map(|batch| Arc::clone(batch.column(column)))
                    .collect(),
                writers: writers.by_ref().take(*leaves).collect(),
            })
            .collect()
    }

    /// Appends a row group. Gives the file back, with the bytes that come next in it.
    ///
    /// # Errors
    /// Those of the encoder.
    pub(crate) async fn append(mut self, group: RowGroup) -> Result<(Self, Bytes), Error> {
        blocking(move || {
            let RowGroup(chunks) = group;
            let sizes = chunks.iter().map(|chunk| chunk.close().bytes_written);
            let bytes: u64 = sizes.sum();
            // Room at once: a buffer of this size that grows by doubling is copied as often.
            let buffer = self.writer.inner_mut();
            buffer.reserve(usize::try_from(bytes).unwrap_or(0));
            let mut group = self.writer.next_row_group()?;
            for chunk in chunks {
                chunk.append_to_row_group(&mut group)?;
            }
            group.close()?;
            let bytes = self.take_bytes()?;
            Ok((self, bytes))
        })
        .await
    }

    /// Ends the file. Gives its last bytes, and what it says of itself.
    ///
    /// # Errors
    /// Those of the encoder.
    pub(crate) async fn finish(mut self) -> Result<(Bytes, ParquetMetaData), Error> {
        blocking(move || {
            let metadata = self.writer.finish()?;
            Ok((self.take_bytes()?, metadata))
        })
        .await
    }

    /// How many bytes were handed out.
    pub(crate) fn bytes(&self) -> usize {
        self.written
    }

    fn take_bytes(&mut self) -> Result<Bytes, ParquetError> {
        self.writer.flush()?;
        let bytes = std::mem::take(self.writer.inner_mut());
        self.written += bytes.len();
        Ok(bytes.into())
    }
}

/// One column of a row group.
struct Column {
    field: Field,
    values: Vec<ArrayRef>,
    writers: Vec<ArrowColumnWriter>,
}

impl Column {
    fn encode(mut self) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
        for values in self.values {
            let leaves = compute_leaves(&self.field, &values)?;
            for (writer, leaf) in self.writers.iter_mut().zip(&leaves) {
                writer.write(leaf)?;
            }
        }
        let closed = self.writers.into_iter().map(ArrowColumnWriter::close);
        closed.collect()
    }
}

/// Work for the processor, away from the threads that wait for stores.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ParquetError> + Send + 'static,
) -> Result<T, Error> {
    Ok(spawn_blocking(work).await??)
}

/// Whether the values of a column come again so often that a dictionary is worth it, judged by the first ones.
fn repeats(rows: &[RecordBatch], column: usize) -> bool {
    let mut values = Values::default();
    for batch in rows {
        let column = batch.column(column);
        for at in (0..column.len()).step_by(STEP_ROWS) {
            let step = column.slice(at, STEP_ROWS.min(column.len() - at));
            match step.as_list_opt::<i32>() {
                Some(lists) => values.add(&items(lists)),
                None => values.add(&step),
            }
            // With so many different ones, no more values make them repeat.
            if values.count >= SAMPLE_ROWS || values.distinct.len() * REPEATS > SAMPLE_ROWS {
                return values.distinct.len() * REPEATS <= values.count;
            }
        }
    }
    values.distinct.len() * REPEATS <= values.count
}

/// The items of all lists.
fn items(lists: &ListArray) -> ArrayRef {
    let offsets = lists.value_offsets();
    let end = |offset: Option<&i32>| offset.and_then(|at| usize::try_from(*at).ok()).unwrap_or(0);
    let (first, last) = (end(offsets.first()), end(offsets.last()));
    lists.values().slice(first, last - first)
}

/// Whether a column of floats gets smaller by compression, judged by the first ones. Where it does not, to compress and
/// to decompress are for nothing.
fn shrinks(rows: &[RecordBatch], column: usize) -> bool {
    let mut sample = Vec::new();
    for batch in rows {
        let values = batch.column(column);
        let items = values.as_list_opt::<i32>().map(items);
        let values = items.as_ref().unwrap_or(values);
        if let Some(floats) = values.as_primitive_opt::<Float64Type>() {
            sample.extend_from_slice(floats.values().inner());
        } else if let Some(floats) = values.as_primitive_opt::<Float32Type>() {
            sample.extend_from_slice(floats.values().inner());
        }
        if sample.len() >= SAMPLE_BYTES {
            break;
        }
    }
    sample.truncate(SAMPLE_BYTES);
    let compressed = lz4_flex::block::compress(&sample).len();
    compressed * WORTH.1 < sample.len() * WORTH.0
}

/// Values of a column, as bits or as hashes.
#[derive(Default)]
struct Values {
    count: usize,
    distinct: HashSet<u64, RandomState>,
}

impl Values {
    /// Takes in values that are not null. Those of types that take no dictionary count as one.
    fn add(&mut self, values: &ArrayRef) {
        self.count += values.len() - values.null_count();
        let distinct = &mut self.distinct;
        match values.data_type() {
            DataType::Int32 => {
                let values = values.as_primitive::<Int32Type>().iter();
                distinct.extend(values.flatten().map(|v| u64::from(v.cast_unsigned())));
            }
            DataType::Int64 => {
                let values = values.as_primitive::<Int64Type>().iter();
                distinct.extend(values.flatten().map(i64::cast_unsigned));
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let values = values.as_primitive::<TimestampMicrosecondType>().iter();
                distinct.extend(values.flatten().map(i64::cast_unsigned));
            }
            DataType::Float32 => {
                let values = values.as_primitive::<Float32Type>().iter();
                distinct.extend(values.flatten().map(|v| u64::from(v.to_bits())));
            }
            DataType::Float64 => {
                let values = values.as_primitive::<Float64Type>().iter();
                distinct.extend(values.flatten().map(f64::to_bits));
            }
            DataType::Utf8 => {
                let values = values.as_string::<i32>().iter();
                distinct.extend(values.flatten().map(|v| hash(v.as_bytes())));
            }
            DataType::Binary => {
                let values = values.as_binary::<i32>().iter();
                distinct.extend(values.flatten().map(hash));
            }
            _ => {}
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
