//! The rows of a file that is pushed, batch by batch, the same batches whenever it is read.
//!
//! What a file says of its types counts. CSV says nothing, and JSON little: their values are read as the view's types.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    csv,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc, json,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vintner_core::Timestamp;
use vintner_registry::model::ViewRevision;

use super::{
    row_error::RowError,
    rows::{checked_rows, wanted_columns},
};

/// A file of rows for a view.
#[derive(Clone, Debug)]
pub struct PushFile {
    path: PathBuf,
    format: Format,
    batch_rows: usize,
}

/// Why a file cannot be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushFileError {
    /// Its extension names no format.
    #[error(
        "{0} has no extension that names a format of rows: .parquet, .csv, .json, .jsonl, .ndjson, .arrow, .feather or .ipc"
    )]
    Format(PathBuf),
    /// It is missing or broken.
    #[error("could not read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A line of it is no row.
    #[error("row {row} of {path} cannot be read")]
    Line {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: u64,
        /// The cause.
        source: ArrowError,
    },
    /// Its rows are refused.
    #[error("{path}: {source}")]
    Rows {
        /// The file.
        path: PathBuf,
        /// Why; part of the message.
        source: RowError,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv,
    Json,
    Arrow,
}

/// Batches, one after the other.
pub type FileBatches = Box<dyn Iterator<Item = Result<RecordBatch, PushFileError>> + Send>;

impl PushFile {
    /// A file whose format is that of its extension, in batches of at most so many rows.
    ///
    /// # Errors
    /// [`PushFileError::Format`].
    pub fn new(path: &Path, batch_rows: usize) -> Result<Self, PushFileError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let format = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("parquet") => Format::Parquet,
            Some("csv") => Format::Csv,
            Some("json" | "jsonl" | "ndjson") => Format::Json,
            Some("arrow" | "feather" | "ipc") => Format::Arrow,
            _ => return Err(PushFileError::Format(path.to_owned())),
        };
        Ok(Self {
            path: path.to_owned(),
            format,
            batch_rows: batch_rows.max(1),
        })
    }

    /// What stands for all bytes of the file, and for its batches. Blocks.
    ///
    /// # Errors
    /// [`PushFileError::Read`].
    pub fn fingerprint(&self) -> Result<String, PushFileError> {
        let mut hasher = blake3::Hasher::new();
        let mut file = File::open(&self.path).map_err(|e| self.unreadable(e))?;
        io::copy(&mut file, &mut hasher).map_err(|e| self.unreadable(e))?;
        hasher.update(&(self.batch_rows as u64).to_le_bytes());
        Ok(hasher.finalize().to_hex()[..16].to_owned())
    }

    /// How many rows there are, all of which a push to the view would take. Blocks.
    ///
    /// # Errors
    /// [`PushFileError`].
    pub fn check(&self, view: &ViewRevision, now: Timestamp) -> Result<u64, PushFileError> {
        let mut rows = 0;
        for batch in self.batches(view)? {
            let batch = batch?;
            let checked = checked_rows(view, &batch, now, rows);
            checked.map_err(|source| PushFileError::Rows {
                path: self.path.clone(),
                source,
            })?;
            rows += batch.num_rows() as u64;
        }
        Ok(rows)
    }

    /// The batches, none of them empty. Blocks while it reads.
    ///
    /// # Errors
    /// [`PushFileError`]; so do the batches.
    pub fn batches(&self, view: &ViewRevision) -> Result<FileBatches, PushFileError> {
        let file = File::open(&self.path).map_err(|e| self.unreadable(e))?;
        let this = self.clone();
        let read = move |batch: Result<RecordBatch, ArrowError>| {
            batch.map_err(|error| this.unreadable(error))
        };
        let batches: FileBatches = match self.format {
            Format::Parquet => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(file);
                let builder = builder.map_err(|e| self.unreadable(e))?;
                let reader = builder.with_batch_size(self.batch_rows).build();
                Box::new(reader.map_err(|e| self.unreadable(e))?.map(read))
            }
            Format::Arrow => {
                let reader = ipc::reader::FileReader::try_new_buffered(file, None);
                Box::new(reader.map_err(|e| self.unreadable(e))?.map(read))
            }
            Format::Csv => {
                let schema = self.csv_columns()?;
                let reader = csv::ReaderBuilder::new(schema)
                    .with_header(true)
                    .with_batch_size(self.batch_rows)
                    .build_buffered(BufReader::new(file));
                Box::new(reader.map_err(|e| self.unreadable(e))?.map(read))
            }
            Format::Json => {
                let columns = self.json_columns(view)?;
                Box::new(JsonBatches {
                    file: self.clone(),
                    lines: BufReader::new(file),
                    columns,
                    rows: 0,
                })
            }
        };
        let most = self.batch_rows;
        Ok(Box::new(batches.flat_map(move |batch| pieces(batch, most))))
    }

    /// All columns as text: a value that is wrong is then told with its row.
    fn csv_columns(&self) -> Result<SchemaRef, PushFileError> {
        let file = File::open(&self.path).map_err(|e| self.unreadable(e))?;
        let header = csv::reader::Format::default().with_header(true);
        let header = header.infer_schema(BufReader::new(file), Some(0));
        let (names, _) = header.map_err(|e| self.unreadable(e))?;
        let text = names.fields().iter();
        let text = text.map(|field| Field::new(field.name(), DataType::Utf8, true));
        Ok(Arc::new(Schema::new(text.collect::<Vec<_>>())))
    }

    /// The columns that some row has, in the view's types.
    fn json_columns(&self, view: &ViewRevision) -> Result<SchemaRef, PushFileError> {
        let file = File::open(&self.path).map_err(|e| self.unreadable(e))?;
        let found = json::reader::infer_json_schema(BufReader::new(file), None);
        let (found, _) = found.map_err(|e| self.unreadable(e))?;
        let wanted = wanted_columns(view);
        let columns =
            found
                .fields()
                .iter()
                .map(|field| match wanted.field_with_name(field.name()) {
                    Ok(wanted) => Arc::new(wanted.clone()),
                    Err(_) => Arc::clone(field),
                });
        Ok(Arc::new(Schema::new(columns.collect::<Vec<_>>())))
    }

    fn unreadable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> PushFileError {
        PushFileError::Read {
            path: self.path.clone(),
            source: source.into(),
        }
    }
}

/// A batch in pieces of at most so many rows.
fn pieces(
    batch: Result<RecordBatch, PushFileError>,
    most: usize,
) -> Vec<Result<RecordBatch, PushFileError>> {
    match batch {
        Err(error) => vec![Err(error)],
        Ok(batch) => (0..batch.num_rows())
            .step_by(most)
            .map(|from| Ok(batch.slice(from, most.min(batch.num_rows() - from))))
            .collect(),
    }
}

/// The rows of a file of JSON objects, one on each line.
struct JsonBatches {
    file: PushFile,
    lines: BufReader<File>,
    columns: SchemaRef,
    /// How many came so far.
    rows: u64,
}

impl JsonBatches {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, PushFileError> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        while lines.len() < self.file.batch_rows {
            let mut line = Vec::new();
            let read = self.lines.read_until(b'\n', &mut line);
            if read.map_err(|e| self.file.unreadable(e))? == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() {
                lines.push(line);
            }
        }
        if lines.is_empty() {
            return Ok(None);
        }
        let batch = match decode(&lines.concat(), lines.len(), &self.columns) {
            Ok(batch) => batch,
            // The decoder does not say which line is wrong, so each is tried alone.
            Err(error) => {
                let wrong = lines.iter().enumerate();
                let wrong = wrong
                    .filter_map(|(row, line)| Some((row, decode(line, 1, &self.columns).err()?)))
                    .next();
                let (row, source) = wrong.unwrap_or((0, error));
                return Err(PushFileError::Line {
                    path: self.file.path.clone(),
                    row: self.rows + row as u64 + 1,
                    source,
                });
            }
        };
        self.rows += batch.num_rows() as u64;
        Ok(Some(batch))
    }
}

impl Iterator for JsonBatches {
    type Item = Result<RecordBatch, PushFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}

/// So many rows of JSON.
fn decode(lines: &[u8], count: usize, columns: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let mut decoder = json::ReaderBuilder::new(Arc::clone(columns))
        .with_batch_size(count)
        .build_decoder()?;
    let wrong = || ArrowError::JsonError("a line is not one object".to_owned());
    if decoder.decode(lines)? < lines.len() {
        return Err(wrong());
    }
    let batch = decoder.flush()?.ok_or_else(wrong)?;
    match batch.num_rows() == count {
        true => Ok(batch),
        false => Err(wrong()),
    }
}
