//! Which parts of a table's files can have rows that count.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType},
};
use datafusion::error::{DataFusionError, Result};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use parquet::{
    arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, RowSelection, statistics::StatisticsConverter,
    },
    errors::ParquetError,
    file::metadata::{PageIndexPolicy, ParquetMetaData},
};
use vintner_core::Timestamp;
use vintner_join::KeyValues;

use super::{FeatureFile, FeatureTable, file_reader::FileReader};

/// How many files are opened at a time: enough to hide the latency of an object store.
const OPENED_AT_ONCE: usize = 16;

/// What entity rows need of a table.
#[derive(Clone, Debug)]
pub(crate) struct Needed {
    /// The first and the last event time of rows that can count.
    pub(crate) events: (Timestamp, Timestamp),
    /// The column of the event time.
    pub(crate) event_column: &'static str,
    /// The join keys' columns, with the values that are asked about.
    pub(crate) keys: Vec<(String, KeyValues)>,
}

/// An open file.
#[derive(Clone)]
pub(crate) struct OpenFile {
    pub(crate) path: Path,
    pub(crate) bytes: u64,
    pub(crate) metadata: ArrowReaderMetadata,
}

/// A part of a table that is read at once: a row group, or some of its pages.
#[derive(Clone)]
pub(crate) struct Unit {
    pub(crate) file: Arc<OpenFile>,
    pub(crate) row_group: usize,
    /// How many rows the row group has.
    pub(crate) rows: usize,
    /// Which of them can count; all, where there is none.
    pub(crate) selection: Option<RowSelection>,
}

/// What is read of a table, and what is not.
#[derive(Default)]
pub(crate) struct Units {
    pub(crate) units: Vec<Unit>,
    pub(crate) pruned: Pruned,
}

/// How much of a table is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files of the table.
    pub files: usize,
    /// Files that were opened.
    pub files_opened: usize,
    /// Row groups of the files that were opened.
    pub row_groups: usize,
    /// Row groups that were read, whole or in part.
    pub row_groups_read: usize,
    /// Rows of the files, as far as the log says.
    pub rows: u64,
    /// Rows whose keys and times were read.
    pub rows_read: u64,
}

impl Pruned {
    /// Adds what another reading of the table has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.files = other.files;
        self.rows = other.rows;
        self.files_opened += other.files_opened;
        self.row_groups += other.row_groups;
        self.row_groups_read += other.row_groups_read;
        self.rows_read += other.rows_read;
    }
}

impl FeatureTable {
    /// Opens the files that can have needed rows, and finds the parts of them that can.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) async fn units(&self, needed: &Needed) -> Result<Units> {
        let mut pruned = Pruned {
            files: self.files.len(),
            rows: self.files.iter().filter_map(|file| file.rows).sum(),
            ..Pruned::default()
        };
        let wanted = self.files.iter().filter(|file| can_count(file, needed));
        let files: Vec<OpenFile> = futures::stream::iter(wanted.cloned().collect::<Vec<_>>())
            .map(|file| self.open(file))
            .buffered(OPENED_AT_ONCE)
            .try_collect()
            .await?;
        let mut units = Vec::new();
        for file in files {
            pruned.files_opened += 1;
            let file = Arc::new(file);
            let groups = file.metadata.metadata().num_row_groups();
            pruned.row_groups += groups;
            let found = row_groups(&file, needed).map_err(|e| self.read_error(&file.path, e))?;
            units.extend(found);
        }
        pruned.row_groups_read = units.len();
        pruned.rows_read = units.iter().map(|unit| unit.selected() as u64).sum();
        Ok(Units { units, pruned })
    }

    pub(super) async fn open(&self, file: FeatureFile) -> Result<OpenFile> {
        let path = Path::parse(&file.path).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let mut reader = FileReader::new(&self.objects, &path, file.bytes, &self.bytes_read);
        let options = ArrowReaderOptions::new()
            // The types are the table's; what a writer wrote about its own is not needed.
            .with_skip_arrow_metadata(true)
            .with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load_async(&mut reader, options).await;
        Ok(OpenFile {
            metadata: metadata.map_err(|e| self.read_error(&path, e))?,
            path,
            bytes: file.bytes,
        })
    }

    pub(super) fn read_error(&self, path: &Path, source: ParquetError) -> DataFusionError {
        let context = format!("could not read the data file {}{path}", self.location);
        DataFusionError::ParquetError(Box::new(source)).context(context)
    }
}

impl Unit {
    /// How many rows are read.
    pub(crate) fn selected(&self) -> usize {
        self.selection
            .as_ref()
            .map_or(self.rows, RowSelection::row_count)
    }
}

/// Whether a file can have needed rows, by what the log says.
fn can_count(file: &FeatureFile, needed: &Needed) -> bool {
    file.events
        .is_none_or(|(first, last)| first <= needed.events.1 && needed.events.0 <= last)
}

fn row_groups(file: &Arc<OpenFile>, needed: &Needed) -> Result<Vec<Unit>, ParquetError> {
    let metadata = file.metadata.metadata();
    let all: Vec<usize> = (0..metadata.num_row_groups()).collect();
    let mut wanted = vec![true; all.len()];
    for column in columns(file, needed)? {
        let groups = || metadata.row_groups().iter();
        let least = column.statistics.row_group_mins(groups())?;
        let greatest = column.statistics.row_group_maxes(groups())?;
        for (group, wanted) in wanted.iter_mut().enumerate() {
            *wanted &= column.wanted.within(&least, &greatest, group);
        }
    }
    let wanted = all.into_iter().filter(|group| wanted[*group]);
    let units = wanted.map(|row_group| {
        let rows = usize::try_from(metadata.row_group(row_group).num_rows()).unwrap_or(0);
        let selection = pages(file, needed, row_group, rows)?;
        Ok(Unit {
            file: Arc::clone(file),
            row_group,
            rows,
            selection,
        })
    });
    let is_wanted = |unit: &Unit| unit.rows > 0 && unit.selected() > 0;
    units
        .filter(|unit| unit.as_ref().map_or(true, is_wanted))
        .collect()
}

/// The rows of a row group whose pages can have needed rows; none when all have to be read.
fn pages(
    file: &OpenFile,
    needed: &Needed,
    row_group: usize,
    rows: usize,
) -> Result<Option<RowSelection>, ParquetError> {
    let metadata: &ParquetMetaData = file.metadata.metadata();
    let (Some(index), Some(offsets)) = (metadata.column_index(), metadata.offset_index()) else {
        return Ok(None);
    };
    let mut selection: Option<RowSelection> = None;
    for column in columns(file, needed)? {
        let Some(leaf) = column.statistics.parquet_column_index() else {
            continue;
        };
        let least = column
            .statistics
            .data_page_mins(index, offsets, [&row_group])?;
        let greatest = column
            .statistics
            .data_page_maxes(index, offsets, [&row_group])?;
        let firsts = offsets[row_group][leaf].page_locations();
        let firsts = firsts
            .iter()
            .map(|page| usize::try_from(page.first_row_index).unwrap_or(0));
        let ends: Vec<usize> = firsts.clone().skip(1).chain([rows]).collect();
        let kept: Vec<Range<usize>> = firsts
            .zip(ends)
            .enumerate()
            .filter(|(page, _)| column.wanted.within(&least, &greatest, *page))
            .map(|(_, (first, end))| first..end)
            .collect();
        let kept = RowSelection::from_consecutive_ranges(kept.into_iter(), rows);
        selection = Some(match selection {
            Some(selection) => selection.intersection(&kept),
            None => kept,
        });
    }
    Ok(selection.filter(|selection| selection.row_count() < rows))
}

/// A column that parts can be left out by.
struct Column<'a> {
    statistics: StatisticsConverter<'a>,
    wanted: Wanted<'a>,
}

enum Wanted<'a> {
    Events(Timestamp, Timestamp),
    Keys(&'a KeyValues),
}

fn columns<'a>(file: &'a OpenFile, needed: &'a Needed) -> Result<Vec<Column<'a>>, ParquetError> {
    let (first, last) = needed.events;
    let keys = needed
        .keys
        .iter()
        .map(|(name, values)| (name.as_str(), Wanted::Keys(values)));
    let event = (needed.event_column, Wanted::Events(first, last));
    let columns = keys.chain([event]).map(|(name, wanted)| {
        let schema = file.metadata.schema();
        let parquet = file.metadata.parquet_schema();
        Ok(Column {
            statistics: StatisticsConverter::try_new(name, schema, parquet)?,
            wanted,
        })
    });
    columns.collect()
}

impl Wanted<'_> {
    /// Whether a value between the bounds in place `i`, both inclusive, is wanted.
    fn within(&self, least: &ArrayRef, greatest: &ArrayRef, i: usize) -> bool {
        match self {
            Self::Events(first, last) => {
                let bound = |bounds: &ArrayRef| {
                    let bounds = bounds.as_primitive_opt::<TimestampMicrosecondType>()?;
                    bounds
                        .is_valid(i)
                        .then(|| Timestamp::from_micros(bounds.value(i)))
                };
                bound(least).is_none_or(|least| least <= *last)
                    && bound(greatest).is_none_or(|greatest| *first <= greatest)
            }
            Self::Keys(values) => match least.data_type() {
                DataType::Int32 | DataType::Int64 => {
                    values.integer_within(integer(least, i), integer(greatest, i))
                }
                DataType::Utf8 | DataType::Binary => {
                    values.bytes_within(text(least, i), text(greatest, i))
                }
                _ => true,
            },
        }
    }
}

fn integer(bounds: &ArrayRef, i: usize) -> Option<i64> {
    if bounds.is_null(i) {
        return None;
    }
    match bounds.as_primitive_opt::<Int64Type>() {
        Some(bounds) => Some(bounds.value(i)),
        None => Some(bounds.as_primitive_opt::<Int32Type>()?.value(i).into()),
    }
}

fn text(bounds: &ArrayRef, i: usize) -> Option<&[u8]> {
    if bounds.is_null(i) {
        return None;
    }
    match bounds.as_string_opt::<i32>() {
        Some(bounds) => Some(bounds.value(i).as_bytes()),
        None => Some(bounds.as_binary_opt::<i32>()?.value(i)),
    }
}
