//! Reads CSV and newline-delimited JSON, straight into the normalised types, with the line of every mistake.
//!
//! A file is read from its beginning by one reader: only so is a line break inside quotes told from the end of a row.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    csv::reader::{Decoder as CsvDecoder, Format},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    json::ReaderBuilder as JsonReaderBuilder,
};
use bytes::{Buf, Bytes, BytesMut};
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource},
        projection::{ProjectionOpener, SplitProjection},
        table_schema::TableSchema,
    },
    error::DataFusionError,
    physical_expr::{PhysicalExpr, projection::ProjectionExprs},
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use vintner_core::{FeatureType, nearest::nearest};
use vintner_registry::model::SourceFormat;

use super::{
    error::SourceError,
    listing::store_error_of,
    located::Origin,
    normalise::{LossyValue, normalise},
};

/// How many bytes of JSON become one batch, at least one line.
const JSON_CHUNK: usize = 1 << 20;

/// The scan of files of text.
#[derive(Clone)]
pub(super) struct TextSource {
    origin: Arc<Origin>,
    schema: TableSchema,
    projection: SplitProjection,
    batch_size: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl TextSource {
    pub(super) fn new(schema: TableSchema, origin: Arc<Origin>) -> Self {
        Self {
            origin,
            projection: SplitProjection::unprojected(&schema),
            schema,
            batch_size: 8192,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl FileSource for TextSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        _: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>, DataFusionError> {
        let wanted = self
            .schema
            .file_schema()
            .project(&self.projection.file_indices)?;
        let opener = TextOpener {
            store,
            origin: Arc::clone(&self.origin),
            wanted: Arc::new(wanted),
            batch_size: self.batch_size,
        };
        ProjectionOpener::try_new(
            self.projection.clone(),
            Arc::new(opener),
            self.schema.file_schema(),
        )
    }

    fn table_schema(&self) -> &TableSchema {
        &self.schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self {
            batch_size,
            ..self.clone()
        })
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>, DataFusionError> {
        let merged = self.projection.source.try_merge(projection)?;
        Ok(Some(Arc::new(Self {
            projection: SplitProjection::new(self.schema.file_schema(), &merged),
            ..self.clone()
        })))
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        match self.origin.format {
            SourceFormat::Csv => "csv",
            _ => "json",
        }
    }

    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        for projected in self.projection.source.iter() {
            if visit(&projected.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

struct TextOpener {
    store: Arc<dyn ObjectStore>,
    origin: Arc<Origin>,
    wanted: SchemaRef,
    batch_size: usize,
}

impl FileOpener for TextOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture, DataFusionError> {
        let (store, origin) = (Arc::clone(&self.store), Arc::clone(&self.origin));
        let (wanted, batch_size) = (Arc::clone(&self.wanted), self.batch_size);
        Ok(Box::pin(async move {
            let place = Place {
                file: origin.shown(file.path()),
                origin,
            };
            let chunks = chunks(store.as_ref(), file.path(), &place).await?;
            let batches = match place.origin.format {
                SourceFormat::Csv => {
                    let rows = CsvRows::open(chunks, wanted, batch_size, place).await?;
                    stream::try_unfold(rows, CsvRows::next).boxed()
                }
                _ => stream::try_unfold(JsonRows::open(chunks, wanted, place), JsonRows::next)
                    .boxed(),
            };
            Ok(batches.map_err(DataFusionError::from).boxed())
        }))
    }
}

/// Which file is read.
#[derive(Clone)]
struct Place {
    origin: Arc<Origin>,
    file: String,
}

impl Place {
    fn line(&self, line: usize, reason: impl Into<String>) -> SourceError {
        SourceError::Line {
            name: self.origin.name.clone(),
            file: self.file.clone(),
            line,
            reason: reason.into(),
        }
    }

    fn corrupt(&self, cause: ArrowError) -> SourceError {
        SourceError::Corrupt {
            name: self.origin.name.clone(),
            file: self.file.clone(),
            format: self.origin.format,
            cause: Box::new(cause),
        }
    }
}

type Chunks = BoxStream<'static, Result<Bytes, SourceError>>;

async fn chunks(
    store: &dyn ObjectStore,
    path: &Path,
    place: &Place,
) -> Result<Chunks, SourceError> {
    let place = place.clone();
    let failed = move |error| store_error_of(&place.origin.name, &place.file, error);
    let found = store.get(path).await.map_err(&failed)?;
    Ok(found.into_stream().map_err(failed).boxed())
}

/// The names in the first line of a CSV file; none for an empty file.
pub(super) fn header(beginning: &[u8]) -> Result<Vec<String>, ArrowError> {
    let (schema, _) = Format::default()
        .with_header(true)
        .infer_schema(beginning, Some(0))?;
    Ok(schema.fields().iter().map(|f| f.name().clone()).collect())
}

/// The rows of one CSV file. The file's columns are read as text and normalised afterwards, so that a value that does
/// not fit is named with its line and column.
struct CsvRows {
    chunks: Chunks,
    pending: Bytes,
    decoder: CsvDecoder,
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
    async fn open(
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
            types.push(feature_type(field)?);
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
        let decoder = arrow::csv::ReaderBuilder::new(Arc::new(Schema::new(fields)))
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

    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>, SourceError> {
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
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(text.num_rows()));
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

fn feature_type(field: &Field) -> Result<FeatureType, SourceError> {
    // The schema of a source's table is made of feature types only.
    Ok(FeatureType::holding(field.data_type())
        .unwrap_or(FeatureType::Scalar(vintner_core::ScalarType::String)))
}

/// The rows of one file of JSON objects, one on each line.
struct JsonRows {
    chunks: Chunks,
    pending: BytesMut,
    ended: bool,
    /// The line of the next row.
    line: usize,
    wanted: SchemaRef,
    place: Place,
}

impl JsonRows {
    fn open(chunks: Chunks, wanted: SchemaRef, place: Place) -> Self {
        Self {
            chunks,
            pending: BytesMut::new(),
            ended: false,
            line: 1,
            wanted,
            place,
        }
    }

    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>, SourceError> {
        loop {
            let Some(lines) = self.lines().await? else {
                return Ok(None);
            };
            let count = lines.iter().filter(|byte| **byte == b'\n').count();
            let batch = decode_json(&lines, &self.wanted)
                .map_err(|error| self.first_wrong(&lines, error))?;
            self.line += count;
            if let Some(batch) = batch {
                return Ok(Some((batch, self)));
            }
        }
    }

    /// The next whole lines, or all that is left.
    async fn lines(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            if self.ended {
                let rest = self.pending.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            if self.pending.len() >= JSON_CHUNK
                && let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n')
            {
                return Ok(Some(self.pending.split_to(end + 1).freeze()));
            }
            match self.chunks.next().await {
                Some(chunk) => self.pending.extend_from_slice(&chunk?),
                None => self.ended = true,
            }
        }
    }

    /// The decoder does not say which line is wrong, so each is tried alone.
    fn first_wrong(&self, lines: &[u8], error: ArrowError) -> SourceError {
        let wrong = lines
            .split(|byte| *byte == b'\n')
            .enumerate()
            .find_map(|(at, line)| Some((at, decode_json(line, &self.wanted).err()?)));
        let (at, error) = wrong.unwrap_or((0, error));
        self.place
            .line(self.line + at, json_reason(&error.to_string()))
    }
}

/// What an error of the JSON reader says of the one line that it was given.
pub(super) fn json_reason(text: &str) -> String {
    let text = text.strip_prefix("Json error: ").unwrap_or(text);
    text.replace(" at line 1 column ", " at column ")
}

/// The rows of whole lines; none when all of them are blank.
fn decode_json(lines: &[u8], wanted: &SchemaRef) -> Result<Option<RecordBatch>, ArrowError> {
    // The decoder sets memory aside for as many rows as it is told to expect.
    let most = lines.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut decoder = JsonReaderBuilder::new(Arc::clone(wanted))
        .with_batch_size(most)
        .build_decoder()?;
    if decoder.decode(lines)? < lines.len() {
        return Err(ArrowError::JsonError(
            "there is more than one object on the line".to_owned(),
        ));
    }
    decoder.flush()
}
