//! Sizes in bytes, as people write them.

use std::{fmt, num::NonZeroU64, str::FromStr};

/// A number of bytes, at least one. Written `64MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(NonZeroU64);

/// Why a text is not a [`ByteSize`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a size; write a number of bytes from 1, or a number and a unit as in `64MiB`"
)]
pub struct ByteSizeError(String);

/// The units that a size is shown in.
const UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

impl ByteSize {
    /// A size of so many bytes; none for 0.
    pub const fn new(bytes: u64) -> Option<Self> {
        match NonZeroU64::new(bytes) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// How many bytes.
    pub const fn bytes(self) -> u64 {
        self.0.get()
    }
}

/// In the greatest unit that takes it without a rest: `64MiB`, `1536KiB`, `1000B`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        match UNITS.iter().find(|(_, size)| bytes.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", bytes / size),
            None => write!(f, "{bytes}B"),
        }
    }
}

/// A number of bytes, or a number and a unit: `64MiB`, `1.5 GiB`, `10MB` (a million bytes each), `4096`.
impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let size = text.trim().parse::<bytesize::ByteSize>().ok();
        size.and_then(|size| Self::new(size.as_u64()))
            .ok_or_else(|| ByteSizeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_with_its_unit_and_shown_without_loss() {
        for (text, bytes, shown) in [
            ("1", 1, "1B"),
            ("1000", 1000, "1000B"),
            ("10MB", 10_000_000, "10000000B"),
            ("64MiB", 64 << 20, "64MiB"),
            (" 64 mib ", 64 << 20, "64MiB"),
            ("1.5GiB", 3 << 29, "1536MiB"),
            ("2048GiB", 2 << 40, "2TiB"),
            ("1025KiB", 1025 << 10, "1025KiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown));
            assert_eq!(shown.parse(), Ok(size));
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "0",
            "0.1B",
            "-1",
            "64 MiBs",
            "MiB",
            "many",
            "1 MiB 1 KiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        let error = "-1".parse::<ByteSize>().unwrap_err();
        insta::assert_snapshot!(error, @"`-1` is not a size; write a number of bytes from 1, or a number and a unit as in `64MiB`");
    }
}
