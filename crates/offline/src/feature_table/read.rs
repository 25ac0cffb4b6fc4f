//! Reads columns of a unit: all rows that can count, or those at given addresses.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array},
    compute::{cast, concat, take},
    datatypes::DataType,
};
use datafusion::error::{DataFusionError, Result};
use futures::TryStreamExt;
use parquet::arrow::{
    ParquetRecordBatchStreamBuilder, ProjectionMask, arrow_reader::RowSelection,
    async_reader::ParquetRecordBatchStream,
};

use super::{FeatureTable, file_reader::FileReader, units::Unit};

/// Rows that are decoded at a time: few enough for a core's cache, many enough to forget the calls.
const BATCH_ROWS: usize = 16 * 1024;
/// Where fewer rows than one in so many are wanted, others are skipped in the file and not after decoding.
const SPARSE: usize = 16;

/// A column that is wanted: its name, and the type that it is wanted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedColumn {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
}

/// Batches of a unit's rows, each with the number of its rows in the unit.
pub(crate) struct UnitRows {
    stream: ParquetRecordBatchStream<FileReader>,
    table: FeatureTable,
    unit: Unit,
    columns: Arc<[WantedColumn]>,
    /// The rows that are still to come.
    coming: std::vec::IntoIter<Range<usize>>,
    rest: Range<usize>,
}

impl UnitRows {
    /// The rows of a unit that can count.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn open(
        table: &FeatureTable,
        unit: &Unit,
        columns: &Arc<[WantedColumn]>,
    ) -> Result<Self> {
        Self::with_selection(table, unit, columns, unit.selection.clone())
    }

    fn with_selection(
        table: &FeatureTable,
        unit: &Unit,
        columns: &Arc<[WantedColumn]>,
        selection: Option<RowSelection>,
    ) -> Result<Self> {
        let file = &unit.file;
        let reader = FileReader::new(&table.objects, &file.path, file.bytes, &table.bytes_read);
        let schema = file.metadata.parquet_schema();
        let roots = schema.root_schema().get_fields().iter().enumerate();
        let roots = roots
            .filter(|(_, field)| columns.iter().any(|column| column.name == field.name()))
            .map(|(place, _)| place);
        let mask = ProjectionMask::roots(schema, roots);
        let mut builder =
            ParquetRecordBatchStreamBuilder::new_with_metadata(reader, file.metadata.clone())
                .with_row_groups(vec![unit.row_group])
                .with_projection(mask)
                .with_batch_size(BATCH_ROWS);
        let ranges = match &selection {
            Some(selection) => ranges(selection),
            None => std::iter::once(0..unit.rows).collect(),
        };
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let stream = builder.build();
        Ok(Self {
            stream: stream.map_err(|e| table.read_error(&file.path, e))?,
            table: table.clone(),
            unit: unit.clone(),
            columns: Arc::clone(columns),
            coming: ranges.into_iter(),
            rest: 0..0,
        })
    }

    /// The next rows: the wanted columns in their order, and the ranges of rows of the unit that these are.
    ///
    /// # Errors
    /// When the file cannot be read, or a column has another type than is wanted.
    pub(crate) async fn next(&mut self) -> Result<Option<(Vec<ArrayRef>, Vec<Range<usize>>)>> {
        let batch = self.stream.try_next().await;
        let batch = batch.map_err(|e| self.table.read_error(&self.unit.file.path, e))?;
        let Some(batch) = batch else { return Ok(None) };
        let mut rows = Vec::new();
        let mut missing = batch.num_rows();
        while missing > 0 {
            if self.rest.is_empty() {
                match self.coming.next() {
                    Some(range) => self.rest = range,
                    None => {
                        return Err(DataFusionError::Internal(
                            "a data file gave more rows than were asked for".to_owned(),
                        ));
                    }
                }
            }
            let taken = missing.min(self.rest.len());
            rows.push(self.rest.start..self.rest.start + taken);
            self.rest.start += taken;
            missing -= taken;
        }
        let columns = self.columns.iter().map(|wanted| column(&batch, wanted));
        Ok(Some((columns.collect::<Result<_>>()?, rows)))
    }
}

/// The values of given rows of a unit: the wanted columns, each of exactly these rows. `rows` are ascending.
///
/// # Errors
/// When the file cannot be read, or a column has another type than is wanted.
pub(crate) async fn values(
    table: &FeatureTable,
    unit: &Unit,
    columns: &Arc<[WantedColumn]>,
    rows: &[u32],
) -> Result<Vec<ArrayRef>> {
    if rows.len().saturating_mul(SPARSE) < unit.rows {
        let ranges = rows.iter().map(|&row| row as usize..row as usize + 1);
        let selection = RowSelection::from_consecutive_ranges(ranges, unit.rows);
        let mut read = UnitRows::with_selection(table, unit, columns, Some(selection))?;
        let mut parts = Vec::new();
        while let Some((columns, _)) = read.next().await? {
            parts.push(columns);
            tokio::task::consume_budget().await;
        }
        return joined(columns, parts);
    }
    let mut read = UnitRows::with_selection(table, unit, columns, None)?;
    let (mut parts, mut wanted, mut first) = (Vec::new(), rows, 0);
    while let Some((batch, ranges)) = read.next().await? {
        let end = ranges.last().map_or(first, |range| range.end);
        let here = wanted.partition_point(|&row| (row as usize) < end);
        let (now, later) = wanted.split_at(here);
        wanted = later;
        if !now.is_empty() {
            let offset = u32::try_from(first).unwrap_or(u32::MAX);
            let places: UInt32Array = now.iter().map(|row| row - offset).collect();
            let taken = batch.iter().map(|column| take(column, &places, None));
            parts.push(taken.collect::<Result<Vec<_>, _>>()?);
        }
        first = end;
        tokio::task::consume_budget().await;
    }
    joined(columns, parts)
}

/// The columns of all parts, one after the other.
fn joined(columns: &[WantedColumn], parts: Vec<Vec<ArrayRef>>) -> Result<Vec<ArrayRef>> {
    if parts.len() == 1 {
        // What is decoded has room for a whole batch, however few rows were wanted.
        let mut only = parts.into_iter().flatten().collect::<Vec<_>>();
        only.iter_mut().for_each(|column| column.shrink_to_fit());
        return Ok(only);
    }
    let join = |(place, wanted): (usize, &WantedColumn)| {
        let parts: Vec<_> = parts.iter().map(|part| part[place].as_ref()).collect();
        match parts.as_slice() {
            [] => Ok(new_null_array(&wanted.data_type, 0)),
            parts => Ok(concat(parts)?),
        }
    };
    columns.iter().enumerate().map(join).collect()
}

/// A column of a batch, as it is wanted. A file that was written before the column was added has nulls there.
fn column(batch: &RecordBatch, wanted: &WantedColumn) -> Result<ArrayRef> {
    match batch.column_by_name(&wanted.name) {
        None => Ok(new_null_array(&wanted.data_type, batch.num_rows())),
        Some(column) if *column.data_type() == wanted.data_type => Ok(Arc::clone(column)),
        // The items of lists have another name in files, and the zone of a time is written in another way.
        Some(column) => Ok(cast(column, &wanted.data_type)?),
    }
}

/// The ranges of rows that are selected.
fn ranges(selection: &RowSelection) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut ranges = Vec::new();
    for selector in selection.iter() {
        let end = at + selector.row_count;
        if !selector.skip {
            ranges.push(at..end);
        }
        at = end;
    }
    ranges
}
