//! How many rows an Arrow IPC file has, by its footer and the heads of its batches; the batches are not read.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use arrow::ipc::{self, reader::read_footer_length};

/// What stands at the end of a file: the footer's length, and a word that says what the file is.
const TRAILER: usize = 10;
/// What a message begins with, before its length; older files have the length alone.
const CONTINUATION: [u8; 4] = [255; 4];

/// The number of rows. None for a file that is not as it should be: whoever reads it says what is wrong.
pub(super) fn arrow_rows(file: &mut File) -> Option<u64> {
    let mut trailer = [0; TRAILER];
    let end = file.seek(SeekFrom::End(-10)).ok()?;
    file.read_exact(&mut trailer).ok()?;
    let length = u64::try_from(read_footer_length(trailer).ok()?).ok()?;
    let footer = read(file, end.checked_sub(length)?, length)?;
    let footer = ipc::root_as_footer(&footer).ok()?;
    let mut rows = 0u64;
    for block in footer.recordBatches()? {
        let (offset, length) = (block.offset(), block.metaDataLength());
        let head = read(file, offset.try_into().ok()?, length.try_into().ok()?)?;
        let message = match head.strip_prefix(&CONTINUATION) {
            Some(message) => message.get(4..)?,
            None => head.get(4..)?,
        };
        let batch = ipc::root_as_message(message)
            .ok()?
            .header_as_record_batch()?;
        rows = rows.checked_add(batch.length().try_into().ok()?)?;
    }
    Some(rows)
}

fn read(file: &mut File, from: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from)).ok()?;
    file.take(length).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == length).then_some(bytes)
}
