//! The rows of CSV files.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch, RecordBatchOptions},
    csv::{
        ReaderBuilder,
        reader::{Decoder, Format},
    },
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use vintner_core::{FeatureType, nearest::nearest};

use super::{
    error::SourceError,
    normalise::{LossyValue, normalise},
    text::{Chunks, Place},
};

/// The names in the first line of a CSV file; none for an empty file.
pub(super) fn header(beginning: &[u8]) -> Result<Vec<String>, ArrowError> {
    let (schema, _) = Format::default()
        .with_header(true)
        .infer_schema(beginning, Some(0))?;
    Ok(schema.fields().iter().map(|f| f.name().clone()).collect())
}

/// The columns of a CSV file, with the types that its first rows show. A column with a number that is padded with zeros
/// is text: `007` is a code, and another one than `7`.
pub(super) fn first_types(beginning: &[u8], rows: usize) -> Result<Schema, ArrowError> {
    let format = Format::default()
        .with_header(true)
        .with_truncated_rows(true);
    let (found, rows) = format.infer_schema(beginning, Some(rows))?;
    let names = found.fields().iter().map(|field| field.name());
    let text = names.map(|name| Field::new(name, DataType::Utf8, true));
    let text = Arc::new(Schema::new(text.collect::<Vec<_>>()));
    let mut has_code = vec![false; found.fields().len()];
    let batches = ReaderBuilder::new(text)
        .with_header(true)
        .with_truncated_rows(true)
        .with_bounds(0, rows)
        .build_buffered(beginning)?;
    for batch in batches {
        for (values, has_code) in batch?.columns().iter().zip(&mut has_code) {
            *has_code |= values.as_string::<i32>().iter().flatten().any(is_padded);
        }
    }
    let fields = found.fields().iter().zip(has_code).map(|(field, code)| {
        let is_code = code && field.data_type().is_numeric();
        match is_code {
            true => Field::new(field.name(), DataType::Utf8, true),
            false => field.as_ref().clone(),
        }
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// Whether a number has a zero at the front that it does not need.
pub(crate) fn is_padded(number: &str) -> bool {
    let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
    digits
        .strip_prefix('0')
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('.'))
}

/// The rows of one CSV file. The file's columns are read as text and normalised afterwards, so that a value that does
/// not fit is named with its line and column.
pub(super) struct CsvRows {
    chunks: Chunks,
    pending: Bytes,
    decoder: Decoder,
    ended: bool,
    /// The line of the next row; the header is line 1.
    line: usize,
    wanted: SchemaRef,
    types: Vec<FeatureType>,
    /// For each wanted column, where it is among those that the decoder gives.
    order: Vec<usize>,
    place: Place,
}

impl CsvRows {
    pub(super) async fn open(
        mut chunks: Chunks,
        wanted: SchemaRef,
        batch_size: usize,
        place: Place,
    ) -> Result<Self, SourceError> {
        let beginning = first_line(&mut chunks).await?;
        let names = header(&beginning).map_err(|error| place.corrupt(error))?;
        if names.is_empty() {
            return Err(SourceError::EmptyFile {
                name: place.origin.name.clone(),
                file: place.file,
            });
        }
        let mut columns = Vec::new();
        let mut types = Vec::new();
        for field in wanted.fields() {
            columns.push(position(&names, field.name(), &place)?);
            let wanted = FeatureType::holding(field.data_type());
            types.push(wanted.map_err(|e| place.corrupt(ArrowError::SchemaError(e.to_string())))?);
        }
        let mut read = columns.clone();
        read.sort_unstable();
        let order = columns
            .iter()
            .map(|column| read.binary_search(column).unwrap_or_default())
            .collect();
        let fields: Vec<Field> = names
            .iter()
            .map(|name| Field::new(name, DataType::Utf8, true))
            .collect();
        let decoder = ReaderBuilder::new(Arc::new(Schema::new(fields)))
            .with_header(true)
            .with_batch_size(batch_size)
            .with_projection(read)
            .build_decoder();
        Ok(Self {
            chunks,
            pending: beginning,
            decoder,
            ended: false,
            line: 2,
            wanted,
            types,
            order,
            place,
        })
    }

    /// The next batch, and the rows after it.
    pub(super) async fn next(mut self) -> Result<Option<(RecordBatch, Self)>, SourceError> {
        while !self.ended && self.decoder.capacity() > 0 {
            if self.pending.is_empty() {
                match self.chunks.next().await {
                    Some(chunk) => self.pending = chunk?,
                    None => self.ended = true,
                }
            }
            // Nothing more to decode is how the decoder learns that the last row is whole.
            let taken = self
                .decoder
                .decode(&self.pending)
                .map_err(|e| self.ragged(e))?;
            self.pending.advance(taken);
        }
        let Some(text) = self.decoder.flush().map_err(|e| self.ragged(e))? else {
            return Ok(None);
        };
        let batch = self.normalised(&text)?;
        self.line += text.num_rows();
        Ok(Some((batch, self)))
    }

    fn normalised(&self, text: &RecordBatch) -> Result<RecordBatch, SourceError> {
        let mut columns = Vec::with_capacity(self.types.len());
        for ((field, wanted), at) in self
            .wanted
            .fields()
            .iter()
            .zip(&self.types)
            .zip(&self.order)
        {
            let column = normalise(field.name(), text.column(*at), *wanted);
            columns.push(column.map_err(|error| self.lossy(error))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(text.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.wanted), columns, &options)
            .map_err(|error| self.place.corrupt(error))
    }

    fn lossy(&self, error: LossyValue) -> SourceError {
        SourceError::Value {
            name: self.place.origin.name.clone(),
            file: self.place.file.clone(),
            line: Some(self.line + error.row),
            column: error.column,
            value: error.value,
            wanted: error.wanted,
        }
    }

    fn ragged(&self, error: ArrowError) -> SourceError {
        match csv_line(&error) {
            Some((line, reason)) => self.place.line(line, reason),
            None => self.place.corrupt(error),
        }
    }
}

/// The line that an error of the CSV reader is about, and what is wrong with it. The reader says so in words only.
pub(super) fn csv_line(error: &ArrowError) -> Option<(usize, String)> {
    let text = error.to_string();
    let number_after = |words: &str| -> Option<usize> {
        let (_, rest) = text.split_once(words)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let line = number_after("for line ").or_else(|| number_after("at line "))?;
    if text.contains("UTF-8") {
        return Some((line, "it is not UTF-8".to_owned()));
    }
    let columns = number_after("xpected ")?;
    let reason = match number_after("got ").or_else(|| number_after("found ")) {
        Some(1) => format!("it has 1 value, and the header has {columns} columns"),
        Some(values) => format!("it has {values} values, and the header has {columns} columns"),
        None => format!("it has more values than the header's {columns} columns"),
    };
    Some((line, reason))
}

/// The first chunks, up to the one that ends the first line.
async fn first_line(chunks: &mut Chunks) -> Result<Bytes, SourceError> {
    let mut beginning = BytesMut::new();
    while !beginning.contains(&b'\n') {
        match chunks.next().await {
            Some(chunk) => beginning.extend_from_slice(&chunk?),
            None => break,
        }
    }
    Ok(beginning.freeze())
}

fn position(names: &[String], wanted: &str, place: &Place) -> Result<usize, SourceError> {
    names
        .iter()
        .position(|name| name == wanted)
        .ok_or_else(|| SourceError::Vanished {
            name: place.origin.name.clone(),
            column: wanted.to_owned(),
            file: place.file.clone(),
            nearest: nearest(wanted, names.iter().map(String::as_str)).map(str::to_owned),
        })
}
