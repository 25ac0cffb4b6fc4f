//! Writes rows into new data files, which nobody sees until a commit adds them.

use std::{num::NonZeroU64, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{cast, max, min},
    datatypes::{SchemaRef, TimestampMicrosecondType},
};
use deltalake::{
    datafile::writer::{DeltaWriter, WriterConfig},
    kernel::{Add, StructType},
    parquet::{
        basic::Compression,
        file::properties::{EnabledStatistics, WriterProperties},
    },
};
use vintner_core::Timestamp;

use super::{
    error::{DeltaError, cause},
    layout::{CREATED_TIMESTAMP, EVENT_TIMESTAMP, file_schema},
    stats,
    table::Table,
};

/// Past this many bytes a data file is closed and the next one begun.
const TARGET_BYTES: NonZeroU64 = NonZeroU64::new(128 << 20).expect("not zero");
/// A row group is what readers skip and what the writer holds in memory.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// How many rows are encoded between two looks at the size of the file.
const SLICE_ROWS: usize = 8 * 1024;

/// New data files of a table. Memory: one row group, encoded, and the parts that are being uploaded.
pub(crate) struct DataFiles {
    table: Table,
    schema: SchemaRef,
    writer: DeltaWriter,
    rows: u64,
    bounded: bool,
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

    /// Both together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.adds.extend(other.adds);
        self.rows += other.rows;
        self
    }
}

impl DataFiles {
    /// New files with the columns of `schema`, with statistics of the columns named.
    pub(crate) fn new(table: &Table, schema: &StructType, statistics: Vec<String>) -> Self {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by(format!("vintner {}", env!("CARGO_PKG_VERSION")))
            .build();
        let schema = file_schema(schema);
        let config = WriterConfig::new(
            schema.clone(),
            Vec::new(),
            Some(properties),
            Some(TARGET_BYTES),
            Some(SLICE_ROWS),
            Default::default(),
            Some(statistics),
        );
        Self {
            table: table.clone(),
            writer: DeltaWriter::new(table.objects(), config),
            schema,
            rows: 0,
            bounded: true,
        }
    }

    /// Appends rows. The columns are found by name; one that the batch does not have becomes null.
    ///
    /// # Errors
    /// [`DeltaError::Write`]; then [`DataFiles::abandon`] is the only thing left to do.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<(), DeltaError> {
        let batch = conform(batch, &self.schema).map_err(|e| self.table.write_error(e))?;
        self.bounded &= [EVENT_TIMESTAMP, CREATED_TIMESTAMP]
            .iter()
            .all(|name| batch.column_by_name(name).is_none_or(has_writable_bounds));
        self.rows += batch.num_rows() as u64;
        let written = self.writer.write(&batch).await;
        written.map_err(|e| self.table.write_error(cause(e)))
    }

    /// Closes the files.
    ///
    /// # Errors
    /// [`DeltaError::Write`]. Files that were finished before stay behind, unseen, for `vacuum`.
    pub(crate) async fn finish(self) -> Result<Written, DeltaError> {
        let closed = self.writer.close().await;
        let mut adds = closed.map_err(|e| self.table.write_error(cause(e)))?;
        if !self.bounded {
            for add in &mut adds {
                add.stats = add.stats.as_deref().and_then(stats::without_bounds);
            }
        }
        Ok(Written {
            adds,
            rows: self.rows,
        })
    }

    /// Stops uploads that are under way. What stays behind is not part of the table.
    pub(crate) async fn abandon(self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(table = %self.table, "could not stop an upload: {error}");
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

/// Whether the log can hold the bounds of a column of instants as text.
fn has_writable_bounds(column: &ArrayRef) -> bool {
    let Some(instants) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
        return true;
    };
    let is_writable = |micros| stats::WRITABLE.contains(&Timestamp::from_micros(micros));
    [min(instants), max(instants)]
        .into_iter()
        .flatten()
        .all(is_writable)
}
