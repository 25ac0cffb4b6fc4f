//! An answer as the bytes of a `vintner.v1.GetOnlineFeaturesResponse`, straight from packed rows: what a service sends,
//! without a message or a column in between.
//!
//! Source of the encoding: <https://protobuf.dev/programming-guides/encoding/>. The fields are those of
//! `proto/vintner/v1/online.proto` and `columns.proto`; tests hold the bytes against what prost reads from them.

use vintner_core::{
    Column, ColumnError, ColumnValues, FeatureType, RegistryVersion, ScalarRef, ScalarType,
    Timestamp, Value, ViewId,
};

use super::Status;
use crate::row::{CellSink, Corrupt, ListRef};

/// The longest that a number's encoding is.
const LONGEST_NUMBER: usize = 10;
/// Field numbers of `Values`.
const ELEMENTS: u8 = 2;
const NULLS: u8 = 15;

/// An answer, as far as it has been written.
#[derive(Debug)]
pub struct EncodedAnswer(Vec<u8>);

/// One column, in the making: `Values` without its length.
#[derive(Debug)]
pub(super) struct WireColumn {
    feature_type: FeatureType,
    rows: u32,
    /// Numbers and texts; of lists their lengths.
    payload: Vec<u8>,
    /// The rows that are null.
    nulls: Vec<u8>,
    /// Of lists.
    elements: Option<Box<WireColumn>>,
}

impl EncodedAnswer {
    /// An answer with nothing in it, and room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds an entity column: `entities`.
    ///
    /// # Errors
    /// None for a column whose lists are of scalars.
    pub fn entities(&mut self, name: &str, column: &Column) -> Result<(), ColumnError> {
        let values = WireColumn::of(column)?;
        let content = values.length();
        head(
            &mut self.0,
            1,
            field_length(name.len()) + field_length(content),
        );
        delimited(&mut self.0, 1, name.as_bytes());
        head(&mut self.0, 2, content);
        values.write(&mut self.0);
        Ok(())
    }

    /// Adds a feature column: `features`. Of the statuses there is one byte each.
    pub(super) fn feature(
        &mut self,
        name: &str,
        values: &WireColumn,
        statuses: &[u8],
        view: usize,
    ) {
        let content = values.length();
        let view = view as u64;
        let view_length = if view == 0 {
            0
        } else {
            1 + varint_length(view)
        };
        let length = field_length(name.len())
            + field_length(content)
            + packed_length(statuses)
            + view_length;
        head(&mut self.0, 2, length);
        delimited(&mut self.0, 1, name.as_bytes());
        head(&mut self.0, 2, content);
        values.write(&mut self.0);
        packed(&mut self.0, 3, statuses);
        number(&mut self.0, 4, view);
    }

    /// Adds a view's event timestamps: `event_timestamps`.
    pub(super) fn event_timestamps(
        &mut self,
        view: &ViewId,
        times: impl ExactSizeIterator<Item = Option<Timestamp>>,
    ) {
        let mut micros = Vec::with_capacity(times.len() * 8);
        let mut none = Vec::new();
        for (row, time) in (0_u32..).zip(times) {
            if time.is_none() {
                varint(&mut none, row.into());
            }
            let time = time.map_or(0, Timestamp::micros);
            micros.extend_from_slice(&time.to_le_bytes());
        }
        let view = view.to_string();
        let length = packed_length(&micros) + packed_length(&none) + field_length(view.len());
        head(&mut self.0, 3, length);
        packed(&mut self.0, 1, &micros);
        packed(&mut self.0, 2, &none);
        delimited(&mut self.0, 3, view.as_bytes());
    }

    /// Ends it: `registry_version`.
    pub fn finish(mut self, version: RegistryVersion) -> Vec<u8> {
        number(&mut self.0, 4, version.0);
        self.0
    }
}

/// The number that a status travels as.
pub(super) fn status_byte(status: Status) -> u8 {
    match status {
        Status::Present => 1,
        Status::NullValue => 2,
        Status::NotFound => 3,
        Status::OutsideMaxAge => 4,
    }
}

impl WireColumn {
    /// A column without rows, with room for some bytes.
    pub(super) fn with_capacity(feature_type: FeatureType, bytes: usize) -> Self {
        let elements = match feature_type {
            FeatureType::Scalar(_) => None,
            FeatureType::List(element) => Some(Box::new(Self::with_capacity(
                FeatureType::Scalar(element),
                bytes,
            ))),
        };
        Self {
            feature_type,
            rows: 0,
            payload: Vec::with_capacity(bytes),
            nulls: Vec::new(),
            elements,
        }
    }

    /// Begins another column in the place of this one.
    pub(super) fn begin(&mut self, feature_type: FeatureType) {
        match feature_type {
            FeatureType::Scalar(_) => {
                self.feature_type = feature_type;
                self.rows = 0;
                self.payload.clear();
                self.nulls.clear();
                self.elements = None;
            }
            FeatureType::List(_) => *self = Self::with_capacity(feature_type, 0),
        }
    }

    fn of(column: &Column) -> Result<Self, ColumnError> {
        let mut wire = Self::with_capacity(column.feature_type(), column.len() * 8);
        let mut nulls = column.nulls().iter().peekable();
        let mut add = |row: usize, value: ScalarRef<'_>| {
            if nulls.next_if(|null| **null as usize == row).is_some() {
                wire.push_null();
                return Ok(());
            }
            wire.scalar(value)
        };
        match column.values() {
            ColumnValues::Bool(v) => each(v, |row, v| add(row, ScalarRef::Bool(*v)))?,
            ColumnValues::Int32(v) => each(v, |row, v| add(row, ScalarRef::Int32(*v)))?,
            ColumnValues::Int64(v) => each(v, |row, v| add(row, ScalarRef::Int64(*v)))?,
            ColumnValues::Float32(v) => each(v, |row, v| add(row, ScalarRef::Float32(*v)))?,
            ColumnValues::Float64(v) => each(v, |row, v| add(row, ScalarRef::Float64(*v)))?,
            ColumnValues::String(v) => each(v, |row, v| add(row, ScalarRef::String(v)))?,
            ColumnValues::Bytes(v) => each(v, |row, v| add(row, ScalarRef::Bytes(v)))?,
            ColumnValues::Timestamp(v) => each(v, |row, v| add(row, ScalarRef::Timestamp(*v)))?,
            ColumnValues::List { .. } => {
                for value in column.iter() {
                    wire.other(value.as_ref())?;
                }
            }
        }
        Ok(wire)
    }

    /// Of `Values`, which of its arrays this is.
    fn field(&self) -> u8 {
        match self.feature_type {
            FeatureType::Scalar(ScalarType::Bool) => 1,
            FeatureType::Scalar(ScalarType::Int32) => 2,
            FeatureType::Scalar(ScalarType::Int64) => 3,
            FeatureType::Scalar(ScalarType::Float32) => 4,
            FeatureType::Scalar(ScalarType::Float64) => 5,
            FeatureType::Scalar(ScalarType::String) => 6,
            FeatureType::Scalar(ScalarType::Bytes) => 7,
            FeatureType::Scalar(ScalarType::Timestamp) => 8,
            FeatureType::List(_) => 9,
        }
    }

    /// Whether the payload is one packed field; texts are a field each.
    fn is_packed(&self) -> bool {
        !matches!(
            self.feature_type,
            FeatureType::Scalar(ScalarType::String | ScalarType::Bytes)
        )
    }

    /// How long the array's message is.
    fn array_length(&self) -> usize {
        let payload = match self.is_packed() {
            true => packed_length(&self.payload),
            false => self.payload.len(),
        };
        let elements = self.elements.as_ref();
        payload + elements.map_or(0, |elements| field_length(elements.length()))
    }

    /// How long `Values` is.
    fn length(&self) -> usize {
        field_length(self.array_length()) + packed_length(&self.nulls)
    }

    fn write(&self, out: &mut Vec<u8>) {
        head(out, self.field(), self.array_length());
        match self.is_packed() {
            true => packed(out, 1, &self.payload),
            false => out.extend_from_slice(&self.payload),
        }
        if let Some(elements) = &self.elements {
            head(out, ELEMENTS, elements.length());
            elements.write(out);
        }
        packed(out, NULLS, &self.nulls);
    }

    /// Adds a null: its place holds the zero of the type.
    fn push_null(&mut self) {
        varint(&mut self.nulls, self.rows.into());
        self.rows += 1;
        let zeros = match self.feature_type {
            FeatureType::Scalar(ScalarType::Float32) => 4,
            FeatureType::Scalar(ScalarType::Float64 | ScalarType::Timestamp) => 8,
            // The head and the length of an empty text.
            FeatureType::Scalar(ScalarType::String | ScalarType::Bytes) => {
                return head(&mut self.payload, 1, 0);
            }
            FeatureType::Scalar(ScalarType::Bool | ScalarType::Int32 | ScalarType::Int64)
            | FeatureType::List(_) => 1,
        };
        self.payload.resize(self.payload.len() + zeros, 0);
    }

    fn items<'a, E: From<ColumnError>>(
        &mut self,
        items: impl Iterator<Item = Result<Option<ScalarRef<'a>>, E>>,
    ) -> Result<(), E> {
        let Some(elements) = &mut self.elements else {
            return Err(ColumnError::NotLists(self.feature_type).into());
        };
        let before = elements.rows;
        for item in items {
            match item? {
                Some(scalar) => elements.scalar(scalar)?,
                None => elements.push_null(),
            }
        }
        varint(&mut self.payload, (elements.rows - before).into());
        self.rows += 1;
        Ok(())
    }

    fn wrong(&self, found: FeatureType) -> ColumnError {
        ColumnError::Type {
            wanted: self.feature_type,
            found,
        }
    }
}

impl CellSink for WireColumn {
    #[inline]
    fn scalar(&mut self, value: ScalarRef<'_>) -> Result<(), ColumnError> {
        let found = FeatureType::Scalar(value.scalar_type());
        if self.feature_type != found {
            return Err(self.wrong(found));
        }
        let out = &mut self.payload;
        match value {
            ScalarRef::Bool(value) => out.push(value.into()),
            ScalarRef::Int32(value) => varint(out, zigzag(value.into())),
            ScalarRef::Int64(value) => varint(out, zigzag(value)),
            ScalarRef::Float32(value) => out.extend_from_slice(&value.to_le_bytes()),
            ScalarRef::Float64(value) => out.extend_from_slice(&value.to_le_bytes()),
            ScalarRef::String(value) => delimited(out, 1, value.as_bytes()),
            ScalarRef::Bytes(value) => delimited(out, 1, value),
            ScalarRef::Timestamp(value) => out.extend_from_slice(&value.micros().to_le_bytes()),
        }
        self.rows += 1;
        Ok(())
    }

    /// Both are little-endian.
    fn is_as_stored(&self) -> bool {
        matches!(
            self.feature_type,
            FeatureType::Scalar(ScalarType::Float32 | ScalarType::Float64 | ScalarType::Timestamp)
        )
    }

    #[inline]
    fn stored(&mut self, value: &[u8]) {
        self.payload.extend_from_slice(value);
        self.rows += 1;
    }

    fn list(&mut self, list: ListRef<'_>) -> Result<(), Corrupt> {
        self.items(list.iter())
    }

    fn other(&mut self, value: Option<&Value>) -> Result<(), ColumnError> {
        match (value, value.and_then(ScalarRef::of)) {
            (None, _) => {
                self.push_null();
                Ok(())
            }
            (_, Some(scalar)) => self.scalar(scalar),
            (Some(Value::List(element, items)), _)
                if self.feature_type == FeatureType::List(*element) =>
            {
                self.items(items.iter().map(|item| match item {
                    None => Ok(None),
                    Some(value) => match ScalarRef::of(value) {
                        Some(scalar) => Ok(Some(scalar)),
                        None => Err(ColumnError::NestedList),
                    },
                }))
            }
            (Some(value), _) => Err(self.wrong(value.feature_type())),
        }
    }
}

/// Every value of a column, with its row.
fn each<T>(
    values: &[T],
    mut add: impl FnMut(usize, &T) -> Result<(), ColumnError>,
) -> Result<(), ColumnError> {
    let mut rows = values.iter().enumerate();
    rows.try_for_each(|(row, value)| add(row, value))
}

/// Small numbers stay short, whatever their sign.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn varint(out: &mut Vec<u8>, mut value: u64) {
    let mut bytes = [0; LONGEST_NUMBER];
    let mut length = 0;
    for byte in &mut bytes {
        length += 1;
        // The low seven bits alone.
        *byte = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    out.extend_from_slice(bytes.get(..length).unwrap_or_default());
}

fn varint_length(value: u64) -> usize {
    // Seven bits a byte; zero takes one.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The head of a field with a length: all field numbers here fit into one byte with their wire type.
fn head(out: &mut Vec<u8>, field: u8, length: usize) {
    out.push(field << 3 | 2);
    varint(out, length as u64);
}

fn delimited(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// How long a field is whose content has a length.
fn field_length(content: usize) -> usize {
    1 + varint_length(content as u64) + content
}

/// Numbers, packed; nothing when there are none.
fn packed(out: &mut Vec<u8>, field: u8, numbers: &[u8]) {
    if !numbers.is_empty() {
        delimited(out, field, numbers);
    }
}

fn packed_length(numbers: &[u8]) -> usize {
    match numbers.len() {
        0 => 0,
        length => field_length(length),
    }
}

/// A number, unless it is zero, which is not written.
fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        varint(out, value);
    }
}

#[cfg(test)]
mod tests;
