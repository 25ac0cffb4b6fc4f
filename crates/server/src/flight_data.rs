//! Record batches as Flight messages, and back.
//!
//! Why not arrow-flight's own encoder: it drops batches without rows, of which the last message of an answer is one;
//! it splits a slice by the size of the whole it was cut from; and it declares large lists as lists.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait, RecordBatch,
        RecordBatchOptions,
    },
    datatypes::{DataType, FieldRef, Schema, SchemaRef},
    error::ArrowError,
    ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions},
};
use arrow_flight::{
    FlightData,
    decode::{DecodedPayload, FlightDataDecoder},
    error::FlightError,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, future};
use tonic::Status;

/// About how many bytes of data one message has: half of what gRPC libraries take by default, since the estimate leaves
/// out what is not data.
const TARGET_BYTES: usize = 2 * 1024 * 1024;

/// Makes messages of record batches of one schema. Dictionaries stay dictionaries.
pub(crate) struct Encoder {
    schema: SchemaRef,
    options: IpcWriteOptions,
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl Encoder {
    /// An encoder, and the message that must go first.
    pub(crate) fn new(schema: SchemaRef) -> (Self, FlightData) {
        let options = IpcWriteOptions::default();
        let generator = IpcDataGenerator::default();
        // Later batches may have other dictionaries.
        let mut dictionaries = DictionaryTracker::new(false);
        let first = generator
            .schema_to_bytes_with_dictionary_tracker(&schema, &mut dictionaries, &options)
            .into();
        let encoder = Self {
            schema,
            options,
            generator,
            dictionaries,
            context: IpcWriteContext::default(),
        };
        (encoder, first)
    }

    /// The messages of a batch: its dictionaries where they are new, then its rows in parts that fit a message.
    ///
    /// # Errors
    /// [`ArrowError`] when the batch is not of the schema, or has a type that Arrow IPC does not have.
    pub(crate) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
        check(&self.schema, batch)?;
        let mut messages = Vec::new();
        let rows = batch.num_rows();
        let parts = bytes(batch).div_ceil(TARGET_BYTES).clamp(1, rows.max(1));
        let rows_per_part = rows.div_ceil(parts).max(1);
        for start in (0..rows.max(1)).step_by(rows_per_part) {
            let part = compact(&batch.slice(start, rows_per_part.min(rows - start)))?;
            let (dictionaries, rows) = self.generator.encode(
                &part,
                &mut self.dictionaries,
                &self.options,
                &mut self.context,
            )?;
            messages.extend(dictionaries.into_iter().map(FlightData::from));
            messages.push(rows.into());
        }
        Ok(messages)
    }

    /// The messages of a batch without rows, of which the last carries metadata.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub(crate) fn encode_last(&mut self, metadata: Bytes) -> Result<Vec<FlightData>, ArrowError> {
        let mut messages = self.encode(&RecordBatch::new_empty(SchemaRef::clone(&self.schema)))?;
        if let Some(last) = messages.last_mut() {
            last.app_metadata = metadata;
        }
        Ok(messages)
    }
}

fn check(schema: &Schema, batch: &RecordBatch) -> Result<(), ArrowError> {
    let fields = schema.fields();
    let same = fields.len() == batch.num_columns()
        && fields
            .iter()
            .zip(batch.columns())
            .all(|(field, column)| field.data_type().equals_datatype(column.data_type()));
    match same {
        true => Ok(()),
        false => Err(ArrowError::SchemaError(format!(
            "a record batch has the columns {:?}, but {fields:?} were announced",
            batch.schema_ref().fields()
        ))),
    }
}

/// About how many bytes the batch's own rows take. A dictionary is not counted: it is sent whole, and once.
fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| array_bytes(c)).sum()
}

fn array_bytes(array: &dyn Array) -> usize {
    fn elements<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> usize {
        let offsets = list.value_offsets();
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
            return 0;
        };
        let (first, last) = (first.as_usize(), last.as_usize());
        array_bytes(&list.values().slice(first, last - first)) + size_of_val(offsets)
    }
    match array.data_type() {
        DataType::List(_) => elements(array.as_list::<i32>()),
        DataType::LargeList(_) => elements(array.as_list::<i64>()),
        DataType::Utf8View => 16 * array.len() + array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => 16 * array.len() + array.as_binary_view().total_buffer_bytes_used(),
        DataType::Dictionary(..) => array_bytes(array.as_any_dictionary().keys()),
        _ => {
            let own = array.to_data().get_slice_memory_size();
            own.unwrap_or_else(|_| array.get_array_memory_size())
        }
    }
}

/// The same rows, whose views do not hold on to the buffers of rows that are not there: Arrow IPC sends all of them.
fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let is_view =
        |field: &FieldRef| matches!(field.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !batch.schema_ref().fields().iter().any(is_view) {
        return Ok(batch.clone());
    }
    let columns = batch
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        });
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &rows)
}

/// Decodes messages. Those that have only metadata are left out: some clients send their descriptor so.
pub(crate) fn decode(
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> FlightDataDecoder {
    FlightDataDecoder::new(
        messages
            .try_filter(|message| future::ready(!message.data_header.is_empty()))
            .map_err(FlightError::from),
    )
}

/// The schema, which must come first, and the metadata that it came with. None when nothing comes at all.
///
/// # Errors
/// [`FlightError`] when something else comes first, and when the messages fail.
pub(crate) async fn schema(
    decoder: &mut FlightDataDecoder,
) -> Result<Option<(SchemaRef, Bytes)>, FlightError> {
    match decoder.next().await.transpose()? {
        None => Ok(None),
        Some(message) => match message.payload {
            DecodedPayload::Schema(schema) => Ok(Some((schema, message.inner.app_metadata))),
            DecodedPayload::None | DecodedPayload::RecordBatch(_) => {
                Err(FlightError::protocol("the first message has no schema"))
            }
        },
    }
}

/// The next record batch, and the metadata that it came with. None at the end.
///
/// # Errors
/// [`FlightError`] when the messages fail, and when there is a second schema.
pub(crate) async fn batch(
    decoder: &mut FlightDataDecoder,
) -> Result<Option<(RecordBatch, Bytes)>, FlightError> {
    while let Some(message) = decoder.next().await.transpose()? {
        match message.payload {
            DecodedPayload::RecordBatch(batch) => {
                return Ok(Some((batch, message.inner.app_metadata)));
            }
            DecodedPayload::Schema(_) => {
                return Err(FlightError::protocol("there is a second schema"));
            }
            DecodedPayload::None => {}
        }
    }
    Ok(None)
}
