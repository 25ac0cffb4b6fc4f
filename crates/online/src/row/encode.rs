//! Packing rows, from the columns of a record batch or from values.

use arrow_array::{
    Array, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, TimestampMicrosecondArray, cast::AsArray,
};
use vintner_core::{FeatureName, FeatureType, RowTime, ScalarRef, ScalarType, Timestamp, Value};

use super::{
    FORMAT_VERSION, HEADER_BYTES, RowDecodeError, RowHeader,
    layout::{END_BYTES, RowLayout, Slot, Width, scalar_width},
    time_bytes,
};

/// The longest packed row, in bytes. A row that is longer could not be served: answers are limited too.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// One packed row. Holds always: it begins with a header that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedRow {
    time: RowTime,
    bytes: Vec<u8>,
}

/// Why a row cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowEncodeError {
    /// A feature without a column.
    #[error("the rows have no column `{0}`, which is a feature of the view")]
    Missing(FeatureName),
    /// A column or a value of another type than its feature.
    #[error("the column of the {wanted} feature `{feature}` has the type {found}")]
    Type {
        /// The feature.
        feature: FeatureName,
        /// Its type.
        wanted: FeatureType,
        /// The type that came.
        found: String,
    },
    /// Another number of values than features.
    #[error("{found} values for {wanted} features")]
    Count {
        /// How many features there are.
        wanted: usize,
        /// How many values came.
        found: usize,
    },
    /// A row beyond the last one of the batch.
    #[error("the batch has no row {0}")]
    Row(usize),
    /// A row that would be too long.
    #[error(
        "the row is longer than {MAX_ROW_BYTES} bytes, the most the online store takes; it grew too long at the feature `{feature}`"
    )]
    TooLong {
        /// The feature at which it became too long.
        feature: FeatureName,
    },
}

impl PackedRow {
    /// The row in these bytes, of which only the header is checked.
    ///
    /// # Errors
    /// [`RowDecodeError`] when there is no header that can be read.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, RowDecodeError> {
        let time = RowHeader::parse(&bytes)?.time;
        Ok(Self { time, bytes })
    }

    /// When the row was true and when it became known.
    pub fn time(&self) -> RowTime {
        self.time
    }

    /// The bytes that a store keeps.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl RowLayout {
    /// Packs values, one per feature in the order of the layout.
    ///
    /// # Errors
    /// [`RowEncodeError`] when their number or types are not the layout's, or the row is too long.
    pub fn pack(
        &self,
        time: RowTime,
        values: &[Option<Value>],
    ) -> Result<PackedRow, RowEncodeError> {
        if values.len() != self.len() {
            return Err(RowEncodeError::Count {
                wanted: self.len(),
                found: values.len(),
            });
        }
        let mut bytes = Vec::with_capacity(self.variable_at);
        let mut writer = RowWriter::begin(self, time, &mut bytes);
        for (position, (slot, value)) in self.slots.iter().zip(values).enumerate() {
            let Some(value) = value else {
                writer.put_null(slot);
                continue;
            };
            if value.feature_type() != slot.feature_type {
                return Err(slot.wrong_type(&value.feature_type()));
            }
            match value {
                Value::List(element, items) => {
                    for item in items.iter().flatten() {
                        let found = item.feature_type();
                        if found != FeatureType::Scalar(*element) {
                            return Err(slot.wrong_type(&format!("list with a {found} in it")));
                        }
                    }
                    let items = items
                        .iter()
                        .map(|item| item.as_ref().and_then(ScalarRef::of));
                    writer.put_list(position, slot, *element, items)?;
                }
                scalar => match ScalarRef::of(scalar) {
                    Some(scalar) => writer.put_scalar(position, slot, scalar)?,
                    None => writer.put_null(slot),
                },
            }
        }
        Ok(PackedRow { time, bytes })
    }
}

/// The feature columns of one record batch, checked once, to pack any of its rows without an allocation per cell.
#[derive(Debug)]
pub struct RowEncoder<'a> {
    layout: &'a RowLayout,
    columns: Vec<Column<'a>>,
    rows: usize,
}

#[derive(Debug)]
enum Column<'a> {
    Scalar(ScalarColumn<'a>),
    List(&'a ListArray, ScalarColumn<'a>),
}

#[derive(Debug)]
enum ScalarColumn<'a> {
    Bool(&'a BooleanArray),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    String(&'a StringArray),
    Bytes(&'a BinaryArray),
    Timestamp(&'a TimestampMicrosecondArray),
}

impl<'a> RowEncoder<'a> {
    /// Finds the layout's features among a batch's columns, by name, each of exactly [`FeatureType::arrow`]. Other
    /// columns are left alone.
    ///
    /// # Errors
    /// [`RowEncodeError`] when a column is missing or has another type.
    pub fn new(layout: &'a RowLayout, batch: &'a RecordBatch) -> Result<Self, RowEncodeError> {
        let columns = layout.slots.iter().map(|slot| {
            let column = batch
                .column_by_name(slot.name.as_str())
                .ok_or_else(|| RowEncodeError::Missing(slot.name.clone()))?;
            let wrong = || slot.wrong_type(column.data_type());
            match slot.feature_type {
                FeatureType::Scalar(scalar) => ScalarColumn::new(column, scalar)
                    .map(Column::Scalar)
                    .ok_or_else(wrong),
                FeatureType::List(element) => {
                    let lists = column.as_list_opt::<i32>().ok_or_else(wrong)?;
                    let items = ScalarColumn::new(lists.values(), element).ok_or_else(wrong)?;
                    Ok(Column::List(lists, items))
                }
            }
        });
        Ok(Self {
            layout,
            columns: columns.collect::<Result<_, _>>()?,
            rows: batch.num_rows(),
        })
    }

    /// Packs one row. Cost: one allocation.
    ///
    /// # Errors
    /// [`RowEncodeError::TooLong`], and [`RowEncodeError::Row`] beyond the last row.
    pub fn pack(&self, row: usize, time: RowTime) -> Result<PackedRow, RowEncodeError> {
        let mut bytes = Vec::with_capacity(self.layout.variable_at);
        self.pack_into(row, time, &mut bytes)?;
        Ok(PackedRow { time, bytes })
    }

    /// Replaces `bytes` with one packed row.
    ///
    /// # Errors
    /// As [`Self::pack`]; `bytes` is then of no use.
    pub fn pack_into(
        &self,
        row: usize,
        time: RowTime,
        bytes: &mut Vec<u8>,
    ) -> Result<(), RowEncodeError> {
        if row >= self.rows {
            return Err(RowEncodeError::Row(row));
        }
        let mut writer = RowWriter::begin(self.layout, time, bytes);
        for (position, (slot, column)) in self.layout.slots.iter().zip(&self.columns).enumerate() {
            match column {
                Column::Scalar(scalars) => match scalars.get(row) {
                    Some(scalar) => writer.put_scalar(position, slot, scalar)?,
                    None => writer.put_null(slot),
                },
                Column::List(lists, _) if lists.is_null(row) => writer.put_null(slot),
                Column::List(lists, items) => {
                    // Offsets of an Arrow array are checked when it is made: ascending and within its values.
                    let offsets = lists.offsets();
                    let (start, end) =
                        (offsets[row].unsigned_abs(), offsets[row + 1].unsigned_abs());
                    let items = (start as usize..end as usize).map(|index| items.get(index));
                    writer.put_list(position, slot, slot.element(), items)?;
                }
            }
        }
        Ok(())
    }
}

impl<'a> ScalarColumn<'a> {
    fn new(column: &'a dyn Array, scalar: ScalarType) -> Option<Self> {
        if *column.data_type() != scalar.arrow() {
            return None;
        }
        Some(match scalar {
            ScalarType::Bool => Self::Bool(column.as_boolean_opt()?),
            ScalarType::Int32 => Self::Int32(column.as_primitive_opt()?),
            ScalarType::Int64 => Self::Int64(column.as_primitive_opt()?),
            ScalarType::Float32 => Self::Float32(column.as_primitive_opt()?),
            ScalarType::Float64 => Self::Float64(column.as_primitive_opt()?),
            ScalarType::String => Self::String(column.as_string_opt()?),
            ScalarType::Bytes => Self::Bytes(column.as_binary_opt()?),
            ScalarType::Timestamp => Self::Timestamp(column.as_primitive_opt()?),
        })
    }

    fn get(&self, row: usize) -> Option<ScalarRef<'a>> {
        macro_rules! read {
            ($column:expr, $read:expr) => {
                $column.is_valid(row).then(|| $read($column.value(row)))
            };
        }
        match *self {
            Self::Bool(column) => read!(column, ScalarRef::Bool),
            Self::Int32(column) => read!(column, ScalarRef::Int32),
            Self::Int64(column) => read!(column, ScalarRef::Int64),
            Self::Float32(column) => read!(column, ScalarRef::Float32),
            Self::Float64(column) => read!(column, ScalarRef::Float64),
            Self::String(column) => read!(column, ScalarRef::String),
            Self::Bytes(column) => read!(column, ScalarRef::Bytes),
            Self::Timestamp(column) => {
                read!(column, |v| ScalarRef::Timestamp(Timestamp::from_micros(v)))
            }
        }
    }
}

impl Slot {
    fn wrong_type(&self, found: &impl std::fmt::Display) -> RowEncodeError {
        RowEncodeError::Type {
            feature: self.name.clone(),
            wanted: self.feature_type,
            found: found.to_string(),
        }
    }

    fn element(&self) -> ScalarType {
        match self.feature_type {
            FeatureType::Scalar(element) | FeatureType::List(element) => element,
        }
    }
}

/// Writes the features of one row, in the order of its layout.
struct RowWriter<'a> {
    bytes: &'a mut Vec<u8>,
    variable_at: usize,
}

impl<'a> RowWriter<'a> {
    /// Header, and everything else of the fixed part as zeros, which is what nulls are.
    fn begin(layout: &RowLayout, time: RowTime, bytes: &'a mut Vec<u8>) -> Self {
        bytes.clear();
        bytes.push(FORMAT_VERSION);
        bytes.extend(time_bytes(time));
        bytes.extend(layout.fingerprint.to_le_bytes());
        bytes.resize(layout.variable_at, 0);
        Self {
            bytes,
            variable_at: layout.variable_at,
        }
    }

    fn put_null(&mut self, slot: &Slot) {
        if let Width::Variable { .. } = slot.width {
            // Never beyond the limit: the value before it has been checked.
            let end = u32::try_from(self.bytes.len() - self.variable_at).unwrap_or(u32::MAX);
            self.put(slot.at, &end.to_le_bytes());
        }
    }

    fn put_scalar(
        &mut self,
        position: usize,
        slot: &Slot,
        scalar: ScalarRef<'_>,
    ) -> Result<(), RowEncodeError> {
        self.set_present(position);
        match slot.width {
            Width::Fixed(_) => {
                let at = slot.at;
                with_bytes(scalar, |bytes| self.put(at, bytes));
                Ok(())
            }
            Width::Variable { .. } => {
                with_bytes(scalar, |bytes| self.bytes.extend_from_slice(bytes));
                self.end(slot)
            }
        }
    }

    fn put_list<'v>(
        &mut self,
        position: usize,
        slot: &Slot,
        element: ScalarType,
        items: impl ExactSizeIterator<Item = Option<ScalarRef<'v>>>,
    ) -> Result<(), RowEncodeError> {
        self.set_present(position);
        let too_long = || RowEncodeError::TooLong {
            feature: slot.name.clone(),
        };
        let length = items.len();
        if length > MAX_ROW_BYTES {
            return Err(too_long());
        }
        let count = u32::try_from(length).map_err(|_| too_long())?;
        self.bytes.extend(count.to_le_bytes());
        let present_at = self.bytes.len();
        let slots_at = present_at + length.div_ceil(8);
        let width = scalar_width(element);
        let variable_at = slots_at + length * width.unwrap_or(END_BYTES);
        self.bytes.resize(variable_at, 0);
        for (index, item) in items.enumerate() {
            if item.is_some() {
                self.bytes[present_at + index / 8] |= 1 << (index % 8);
            }
            match (width, item) {
                (Some(width), Some(item)) => {
                    with_bytes(item, |bytes| self.put(slots_at + index * width, bytes));
                }
                (Some(_), None) => {}
                (None, item) => {
                    if let Some(item) = item {
                        with_bytes(item, |bytes| self.bytes.extend_from_slice(bytes));
                    }
                    let end =
                        u32::try_from(self.bytes.len() - variable_at).map_err(|_| too_long())?;
                    self.put(slots_at + index * END_BYTES, &end.to_le_bytes());
                }
            }
        }
        self.end(slot)
    }

    /// Notes where a variable-width value ends.
    fn end(&mut self, slot: &Slot) -> Result<(), RowEncodeError> {
        let end = u32::try_from(self.bytes.len() - self.variable_at).ok();
        match end.filter(|_| self.bytes.len() <= MAX_ROW_BYTES) {
            Some(end) => {
                self.put(slot.at, &end.to_le_bytes());
                Ok(())
            }
            None => Err(RowEncodeError::TooLong {
                feature: slot.name.clone(),
            }),
        }
    }

    fn set_present(&mut self, position: usize) {
        self.bytes[HEADER_BYTES + position / 8] |= 1 << (position % 8);
    }

    /// Overwrites bytes of a place that is there already.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// Gives the bytes of a scalar to `take`.
fn with_bytes(scalar: ScalarRef<'_>, take: impl FnOnce(&[u8])) {
    match scalar {
        ScalarRef::Bool(v) => take(&[u8::from(v)]),
        ScalarRef::Int32(v) => take(&v.to_le_bytes()),
        ScalarRef::Int64(v) => take(&v.to_le_bytes()),
        ScalarRef::Float32(v) => take(&v.to_le_bytes()),
        ScalarRef::Float64(v) => take(&v.to_le_bytes()),
        ScalarRef::Timestamp(v) => take(&v.micros().to_le_bytes()),
        ScalarRef::String(v) => take(v.as_bytes()),
        ScalarRef::Bytes(v) => take(v),
    }
}
