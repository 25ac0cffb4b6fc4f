//! The rows of files of JSON objects, one on each line.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError, json::ReaderBuilder};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::{
    error::SourceError,
    text::{Chunks, Place},
};

/// How many bytes become one batch, at least one line.
const CHUNK: usize = 1 << 20;

/// The rows of one file of JSON objects, one on each line.
pub(super) struct JsonRows {
    chunks: Chunks,
    pending: BytesMut,
    ended: bool,
    /// The line of the next row.
    line: usize,
    wanted: SchemaRef,
    place: Place,
}

impl JsonRows {
    pub(super) fn open(chunks: Chunks, wanted: SchemaRef, place: Place) -> Self {
        Self {
            chunks,
            pending: BytesMut::new(),
            ended: false,
            line: 1,
            wanted,
            place,
        }
    }

    /// The next batch, and the rows after it.
    pub(super) async fn next(mut self) -> Result<Option<(RecordBatch, Self)>, SourceError> {
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
            if self.pending.len() >= CHUNK
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
    let mut decoder = ReaderBuilder::new(Arc::clone(wanted))
        .with_batch_size(most)
        .build_decoder()?;
    if decoder.decode(lines)? < lines.len() {
        return Err(ArrowError::JsonError(
            "there is more than one object on the line".to_owned(),
        ));
    }
    decoder.flush()
}
