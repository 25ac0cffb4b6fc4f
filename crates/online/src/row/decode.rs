//! Reading one packed row of a known layout.

use vintner_core::{
    Column, ColumnError, FeatureName, FeatureType, RowTime, ScalarRef, Timestamp, Value,
};

use super::{
    FORMAT_VERSION, HEADER_BYTES,
    layout::{END_BYTES, RowLayout, Slot, Width},
    value_ref::{ListRef, ValueRef, decode_scalar},
};

/// Why bytes are not a packed row, or not one that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowDecodeError {
    /// Not even a header.
    #[error("it has {length} bytes, fewer than the {HEADER_BYTES} of a row's header")]
    Short {
        /// How many bytes there are.
        length: usize,
    },
    /// A format that this program does not know.
    #[error(
        "it is written in format version {0}; this program reads version {FORMAT_VERSION}, so it is older than the one that wrote the row"
    )]
    Version(u8),
    /// A layout that the view is not known to have had.
    #[error(
        "it is written in layout {0:08x}, which this version of the registry does not have; load the newest registry and read again"
    )]
    UnknownLayout(u32),
    /// Two layouts of the view have one fingerprint.
    #[error("its layout {0:08x} stands for two different lists of features of this view")]
    AmbiguousLayout(u32),
    /// The row as a whole is damaged.
    #[error("it is damaged: {reason}")]
    Corrupt {
        /// What is wrong.
        reason: Corrupt,
    },
    /// One feature is damaged.
    #[error("its feature `{feature}` of type {feature_type} is damaged: {reason}")]
    CorruptFeature {
        /// The feature.
        feature: FeatureName,
        /// Its type.
        feature_type: FeatureType,
        /// What is wrong.
        reason: Corrupt,
    },
    /// A position beyond the last feature of the layout.
    #[error("it has no feature at position {0}")]
    Position(usize),
}

/// What is wrong with some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(pub(super) &'static str);

/// A column is made with its feature's type, so no value is of another.
impl From<ColumnError> for Corrupt {
    fn from(_: ColumnError) -> Self {
        Self("its type is not its column's")
    }
}

/// What takes the values of one feature, row after row.
pub trait CellSink {
    /// Takes a scalar.
    ///
    /// # Errors
    /// [`ColumnError::Type`] when the feature is of another type.
    fn scalar(&mut self, value: ScalarRef<'_>) -> Result<(), ColumnError>;

    /// Whether values of fixed width stand here as they stand in rows, so that [`Self::stored`] takes them.
    fn is_as_stored(&self) -> bool {
        false
    }

    /// Takes a value as it stands in a row.
    fn stored(&mut self, _value: &[u8]) {}

    /// Takes a list.
    ///
    /// # Errors
    /// What is wrong with its elements, or that the feature is of another type.
    fn list(&mut self, list: ListRef<'_>) -> Result<(), Corrupt>;

    /// Takes what stands where no row has a value: a default, or null.
    ///
    /// # Errors
    /// [`ColumnError::Type`] for a default of another type.
    fn other(&mut self, value: Option<&Value>) -> Result<(), ColumnError>;
}

impl CellSink for Column {
    #[inline]
    fn scalar(&mut self, value: ScalarRef<'_>) -> Result<(), ColumnError> {
        self.push_scalar(value)
    }

    fn list(&mut self, list: ListRef<'_>) -> Result<(), Corrupt> {
        self.push_list(list.iter())
    }

    fn other(&mut self, value: Option<&Value>) -> Result<(), ColumnError> {
        self.push(value)
    }
}

/// What every packed row begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowHeader {
    /// When the row was true and when it became known.
    pub time: RowTime,
    /// The layout it is written in.
    pub fingerprint: u32,
}

/// One packed row of a known layout. Its length is checked; its features are checked as they are read.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    header: RowHeader,
    layout: &'a RowLayout,
    bytes: &'a [u8],
}

/// Where rows of a layout have a value of fixed width.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    layout: &'a RowLayout,
    /// From and to.
    bytes: (usize, usize),
    position: usize,
}

impl RowHeader {
    /// Reads the header alone.
    ///
    /// # Errors
    /// [`RowDecodeError::Short`] and [`RowDecodeError::Version`].
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, RowDecodeError> {
        let length = bytes.len();
        let header = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(RowDecodeError::Short { length })?;
        let (version, rest) = header
            .split_first()
            .ok_or(RowDecodeError::Short { length })?;
        if *version != FORMAT_VERSION {
            return Err(RowDecodeError::Version(*version));
        }
        let (event, rest) = instant(rest).ok_or(RowDecodeError::Short { length })?;
        let (created, rest) = instant(rest).ok_or(RowDecodeError::Short { length })?;
        let fingerprint = rest.first_chunk().ok_or(RowDecodeError::Short { length })?;
        Ok(Self {
            time: RowTime { event, created },
            fingerprint: u32::from_le_bytes(*fingerprint),
        })
    }
}

impl<'a> Row<'a> {
    /// The row in these bytes. Cost: does not grow with the number of features.
    ///
    /// # Errors
    /// [`RowDecodeError`]; [`RowDecodeError::UnknownLayout`] when the row is written in another layout.
    pub fn parse(layout: &'a RowLayout, bytes: &'a [u8]) -> Result<Self, RowDecodeError> {
        let header = RowHeader::parse(bytes)?;
        if header.fingerprint != layout.fingerprint {
            return Err(RowDecodeError::UnknownLayout(header.fingerprint));
        }
        Self::with_header(header, layout, bytes)
    }

    #[inline]
    pub(super) fn with_header(
        header: RowHeader,
        layout: &'a RowLayout,
        bytes: &'a [u8],
    ) -> Result<Self, RowDecodeError> {
        let corrupt = |reason| RowDecodeError::Corrupt {
            reason: Corrupt(reason),
        };
        let end = match layout.last_end_at {
            Some(at) => read_end(bytes, at),
            None => Some(0),
        };
        let length = end.and_then(|end| end.checked_add(layout.variable_at));
        if length.is_none_or(|length| bytes.len() < length) {
            return Err(corrupt("it is shorter than its layout and offsets say"));
        }
        if length.is_some_and(|length| bytes.len() > length) {
            return Err(corrupt("it is longer than its layout and offsets say"));
        }
        let beyond = layout.len() % 8;
        let last = bytes.get(HEADER_BYTES + layout.len() / 8);
        if beyond != 0 && last.is_some_and(|byte| byte >> beyond != 0) {
            return Err(corrupt("it has bits beyond its last feature"));
        }
        Ok(Self {
            header,
            layout,
            bytes,
        })
    }

    /// When the row was true and when it became known.
    pub fn time(&self) -> RowTime {
        self.header.time
    }

    /// The value of the feature at a position of the layout; none for null. Cost: that of the one value.
    ///
    /// # Errors
    /// [`RowDecodeError::CorruptFeature`], and [`RowDecodeError::Position`] beyond the last feature.
    #[inline]
    pub fn get(&self, position: usize) -> Result<Option<ValueRef<'a>>, RowDecodeError> {
        let slot = self
            .layout
            .slots
            .get(position)
            .ok_or(RowDecodeError::Position(position))?;
        self.read(position, slot)
            .map_err(|reason| slot.corrupt(reason))
    }

    /// Like [`Self::get`], the value itself.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn value(&self, position: usize) -> Result<Option<Value>, RowDecodeError> {
        let Some(value) = self.get(position)? else {
            return Ok(None);
        };
        value
            .to_value()
            .map(Some)
            .map_err(|reason| self.corrupt(position, reason))
    }

    /// Gives the value of the feature at a position to a sink of its type, and says whether there is one: for null
    /// nothing is given.
    ///
    /// # Errors
    /// As [`Self::get`].
    #[inline]
    pub fn append(
        &self,
        position: usize,
        sink: &mut impl CellSink,
    ) -> Result<bool, RowDecodeError> {
        let appended = match self.get(position)? {
            None => return Ok(false),
            Some(ValueRef::Scalar(scalar)) => sink.scalar(scalar).map_err(Corrupt::from),
            Some(ValueRef::List(list)) => sink.list(list),
        };
        appended
            .map(|()| true)
            .map_err(|reason| self.corrupt(position, reason))
    }

    /// Where rows of this layout have the value of the feature at a position; none when it is of variable width.
    pub(super) fn place(&self, position: usize) -> Option<Place<'a>> {
        let slot = self.layout.slots.get(position)?;
        match slot.width {
            Width::Fixed(width) => Some(Place {
                layout: self.layout,
                bytes: (slot.at, slot.at + width),
                position,
            }),
            Width::Variable { .. } => None,
        }
    }

    /// The value at a place, as it stands in the row; none for null, and when the place is of another layout.
    #[inline]
    pub(super) fn stored(&self, place: &Place<'_>) -> Option<&'a [u8]> {
        let (start, end) = place.bytes;
        let is_there = std::ptr::eq(self.layout, place.layout)
            && bit(self.bytes.get(HEADER_BYTES..)?, place.position);
        is_there.then(|| self.bytes.get(start..end)).flatten()
    }

    fn corrupt(&self, position: usize, reason: Corrupt) -> RowDecodeError {
        match self.layout.slots.get(position) {
            Some(slot) => slot.corrupt(reason),
            None => RowDecodeError::Position(position),
        }
    }

    /// All values in the order of the layout.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn values(&self) -> Result<Vec<Option<Value>>, RowDecodeError> {
        (0..self.layout.len())
            .map(|position| self.value(position))
            .collect()
    }

    #[inline]
    fn read(&self, position: usize, slot: &Slot) -> Result<Option<ValueRef<'a>>, Corrupt> {
        const OUTSIDE: Corrupt = Corrupt("its offsets point outside the row");
        let bytes = match slot.width {
            Width::Fixed(width) => self.bytes.get(slot.at..slot.at + width),
            Width::Variable { previous_end_at } => self.variable(slot.at, previous_end_at),
        };
        let bytes = bytes.ok_or(OUTSIDE)?;
        let bitmap = self.bytes.get(HEADER_BYTES..).unwrap_or_default();
        if !bit(bitmap, position) {
            let empty = match slot.width {
                Width::Fixed(_) => bytes.iter().all(|byte| *byte == 0),
                Width::Variable { .. } => bytes.is_empty(),
            };
            return match empty {
                true => Ok(None),
                false => Err(Corrupt("a null has a value")),
            };
        }
        match slot.feature_type {
            FeatureType::Scalar(scalar) => {
                decode_scalar(scalar, bytes).map(|value| Some(ValueRef::Scalar(value)))
            }
            FeatureType::List(element) => {
                ListRef::decode(element, bytes).map(|value| Some(ValueRef::List(value)))
            }
        }
    }

    /// The bytes of a value of variable width, whose end is written at a place.
    fn variable(&self, end_at: usize, previous_end_at: Option<usize>) -> Option<&'a [u8]> {
        let start = match previous_end_at {
            Some(at) => read_end(self.bytes, at)?,
            None => 0,
        };
        let end = read_end(self.bytes, end_at)?;
        self.bytes.get(self.layout.variable_at..)?.get(start..end)
    }
}

impl Slot {
    fn corrupt(&self, reason: Corrupt) -> RowDecodeError {
        RowDecodeError::CorruptFeature {
            feature: self.name.clone(),
            feature_type: self.feature_type,
            reason,
        }
    }
}

#[inline]
fn instant(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (instant, rest) = bytes.split_first_chunk()?;
    let micros = i64::from_be_bytes(*instant) ^ i64::MIN;
    Some((Timestamp::from_micros(micros), rest))
}

/// The bit of a position, least significant bit first.
#[inline]
pub(super) fn bit(bitmap: &[u8], position: usize) -> bool {
    bitmap
        .get(position / 8)
        .is_some_and(|byte| byte >> (position % 8) & 1 == 1)
}

/// The end offset that is written at a place.
pub(super) fn read_end(bytes: &[u8], at: usize) -> Option<usize> {
    let end = bytes.get(at..)?.first_chunk::<END_BYTES>()?;
    Some(u32::from_le_bytes(*end) as usize)
}
