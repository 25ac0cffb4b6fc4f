//! Values borrowed from where they are, an Arrow column or a packed row, so that no cell is allocated on the way.

use vintner_core::{ScalarRef, ScalarType, Timestamp, Value};

use super::{
    decode::{Corrupt, bit, read_end},
    layout::{END_BYTES, scalar_width},
};

/// A value that is not null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// One value.
    Scalar(ScalarRef<'a>),
    /// Any number of values.
    List(ListRef<'a>),
}

/// A list inside a packed row. Its lengths are checked; its elements are checked as they are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ListRef<'a> {
    element: ScalarType,
    count: usize,
    present: &'a [u8],
    slots: &'a [u8],
    variable: &'a [u8],
}

impl ValueRef<'_> {
    /// The value itself.
    ///
    /// # Errors
    /// What is wrong with an element of a list.
    pub fn to_value(&self) -> Result<Value, Corrupt> {
        Ok(match self {
            Self::Scalar(scalar) => scalar.to_value(),
            Self::List(list) => Value::List(
                list.element,
                list.iter()
                    .map(|item| Ok(item?.map(|scalar| scalar.to_value())))
                    .collect::<Result<_, Corrupt>>()?,
            ),
        })
    }
}

/// Reads a scalar from exactly its own bytes.
#[inline]
pub(super) fn decode_scalar(scalar: ScalarType, bytes: &[u8]) -> Result<ScalarRef<'_>, Corrupt> {
    fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Corrupt> {
        bytes
            .try_into()
            .map_err(|_| Corrupt("a value has another length than its type"))
    }
    Ok(match scalar {
        ScalarType::Bool => match exactly(bytes)? {
            [0] => ScalarRef::Bool(false),
            [1] => ScalarRef::Bool(true),
            _ => return Err(Corrupt("a bool is neither 0 nor 1")),
        },
        ScalarType::Int32 => ScalarRef::Int32(i32::from_le_bytes(exactly(bytes)?)),
        ScalarType::Int64 => ScalarRef::Int64(i64::from_le_bytes(exactly(bytes)?)),
        ScalarType::Float32 => ScalarRef::Float32(f32::from_le_bytes(exactly(bytes)?)),
        ScalarType::Float64 => ScalarRef::Float64(f64::from_le_bytes(exactly(bytes)?)),
        ScalarType::Timestamp => {
            ScalarRef::Timestamp(Timestamp::from_micros(i64::from_le_bytes(exactly(bytes)?)))
        }
        ScalarType::String => ScalarRef::String(
            std::str::from_utf8(bytes).map_err(|_| Corrupt("a text is not UTF-8"))?,
        ),
        ScalarType::Bytes => ScalarRef::Bytes(bytes),
    })
}

impl<'a> ListRef<'a> {
    /// Finds the parts of a list in exactly its own bytes.
    pub(super) fn decode(element: ScalarType, bytes: &'a [u8]) -> Result<Self, Corrupt> {
        const SHORT: Corrupt = Corrupt("a list is shorter than its count says");
        let (count, rest) = bytes.split_first_chunk::<END_BYTES>().ok_or(SHORT)?;
        let count = u32::from_le_bytes(*count) as usize;
        let width = scalar_width(element);
        let (present, rest) = rest.split_at_checked(count.div_ceil(8)).ok_or(SHORT)?;
        let (slots, variable) = count
            .checked_mul(width.unwrap_or(END_BYTES))
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(SHORT)?;
        if !count.is_multiple_of(8) && present.last().is_some_and(|last| last >> (count % 8) != 0) {
            return Err(Corrupt("a list has bits beyond its last element"));
        }
        let end = match (width, count) {
            (None, 1..) => read_end(slots, (count - 1) * END_BYTES).ok_or(SHORT)?,
            _ => 0,
        };
        if end != variable.len() {
            return Err(Corrupt("a list has another length than its offsets say"));
        }
        Ok(Self {
            element,
            count,
            present,
            slots,
            variable,
        })
    }

    /// The type of the elements.
    pub fn element(&self) -> ScalarType {
        self.element
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements in order; none where one is null.
    pub fn iter(&self) -> impl Iterator<Item = Result<Option<ScalarRef<'a>>, Corrupt>> + use<'a> {
        let list = *self;
        (0..list.count).map(move |index| list.get(index))
    }

    fn get(&self, index: usize) -> Result<Option<ScalarRef<'a>>, Corrupt> {
        const OUTSIDE: Corrupt = Corrupt("an offset in a list points outside it");
        let bytes = match scalar_width(self.element) {
            Some(width) => self.slots.get(index * width..(index + 1) * width),
            None => {
                let start = match index {
                    0 => Some(0),
                    _ => read_end(self.slots, (index - 1) * END_BYTES),
                };
                let end = read_end(self.slots, index * END_BYTES);
                start
                    .zip(end)
                    .and_then(|(start, end)| self.variable.get(start..end))
            }
        };
        let bytes = bytes.ok_or(OUTSIDE)?;
        if bit(self.present, index) {
            decode_scalar(self.element, bytes).map(Some)
        } else if bytes.iter().all(|byte| *byte == 0)
            && (scalar_width(self.element).is_some() || bytes.is_empty())
        {
            Ok(None)
        } else {
            Err(Corrupt("a null in a list has a value"))
        }
    }
}
