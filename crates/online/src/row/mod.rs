//! The packed row: how one row of one view version is kept online, byte for byte.
//!
//! The format is `docs/formats/online-row.md`. A [`RowLayout`] is a registry layout with its places worked out; an
//! [`RowEncoder`] packs rows of a record batch, [`RowLayout::pack`] packs values, and [`Row`] reads one feature of a
//! packed row without touching the others. A [`RowReader`] reads rows of every layout that a view has had.
//!
//! Holds always: bytes that are read without an error are the only encoding of what was read. So whatever is damaged
//! in lengths, offsets, text, padding or nulls is an error and never another value, and no bytes make reading panic.
//!
//! Not here: which row wins and which rows count; that is the store and [`crate::read`].

mod decode;
mod encode;
mod layout;
mod reader;
mod value_ref;

#[cfg(test)]
pub(crate) mod tests;

pub use decode::{CellSink, Corrupt, Row, RowDecodeError, RowHeader};
pub use encode::{MAX_ROW_BYTES, PackedRow, RowEncodeError, RowEncoder};
pub use layout::RowLayout;
pub use reader::{Field, ReadRow, RowReader};
pub use value_ref::{ListRef, ValueRef};

use vintner_core::{RowTime, Timestamp};

/// The format version that is written, and the only one that is read.
pub const FORMAT_VERSION: u8 = 1;

/// Where the row time is, in every version of the format: stores compare these bytes and nothing else.
pub const TIME_BYTES: std::ops::Range<usize> = 1..17;

/// Version, row time and fingerprint.
const HEADER_BYTES: usize = 21;

/// A row time as bytes whose order is the order of row times.
pub(crate) fn time_bytes(time: RowTime) -> [u8; 16] {
    let ordered = |instant: Timestamp| (instant.micros() ^ i64::MIN).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&ordered(time.event));
    bytes[8..].copy_from_slice(&ordered(time.created));
    bytes
}
