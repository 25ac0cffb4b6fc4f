//! The types a feature can have, and how Arrow types become them.
//!
//! Not here: values ([`crate::value`]) and the conversion of columns ([`crate::arrow_values`]).

use std::{fmt, str::FromStr, sync::Arc};

use arrow_schema::{DataType, Field, TimeUnit};

/// A type that is not a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScalarType {
    /// True or false.
    Bool,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754, 32 bits.
    Float32,
    /// IEEE 754, 64 bits.
    Float64,
    /// UTF-8.
    String,
    /// Any bytes.
    Bytes,
    /// An instant, microseconds UTC.
    Timestamp,
}

/// The type of a feature: a scalar, or a list of scalars whose elements may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FeatureType {
    /// One value.
    Scalar(ScalarType),
    /// Any number of values.
    List(ScalarType),
}

/// A text or an Arrow type that is no feature type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a feature type; the types are bool, int32, int64, float32, float64, string, bytes, timestamp, and list<…> of these"
)]
pub struct UnknownType(pub String);

impl ScalarType {
    /// Every scalar type, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Bool,
        Self::Int32,
        Self::Int64,
        Self::Float32,
        Self::Float64,
        Self::String,
        Self::Bytes,
        Self::Timestamp,
    ];

    /// The name in YAML and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
        }
    }

    /// The Arrow type that columns of this type have everywhere in Vintner.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::String => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The type that holds every value of an Arrow type, if there is one. Integers that fit in 32 bits become
    /// `int32`, other integers `int64`, decimals `float64`, dates the instant at which they begin in UTC.
    fn holding(arrow: &DataType) -> Option<Self> {
        Some(match arrow {
            DataType::Boolean => Self::Bool,
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16 => Self::Int32,
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Self::Int64,
            DataType::Float16 | DataType::Float32 => Self::Float32,
            DataType::Float64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Self::Float64,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytes,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Self::Timestamp,
            DataType::Dictionary(_, values) => return Self::holding(values),
            _ => return None,
        })
    }
}

impl FeatureType {
    /// The Arrow type that columns of this type have everywhere in Vintner.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Scalar(scalar) => scalar.arrow(),
            Self::List(element) => {
                DataType::List(Arc::new(Field::new("item", element.arrow(), true)))
            }
        }
    }

    /// The feature type that holds every value of an Arrow type.
    ///
    /// # Errors
    /// [`UnknownType`] for types that no feature has: structs, maps, intervals, lists of lists.
    pub fn holding(arrow: &DataType) -> Result<Self, UnknownType> {
        let found = match arrow {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                ScalarType::holding(item.data_type()).map(Self::List)
            }
            other => ScalarType::holding(other).map(Self::Scalar),
        };
        found.ok_or_else(|| UnknownType(arrow.to_string()))
    }
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for FeatureType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::List(element) => f.pad(&format!("list<{element}>")),
        }
    }
}

impl FromStr for ScalarType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        Self::ALL
            .into_iter()
            .find(|scalar| scalar.name() == text)
            .ok_or_else(|| UnknownType(text.to_owned()))
    }
}

impl FromStr for FeatureType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let unknown = || UnknownType(text.to_owned());
        match text.strip_prefix("list<") {
            Some(rest) => {
                let element = rest.strip_suffix('>').ok_or_else(unknown)?;
                element
                    .trim()
                    .parse()
                    .map(Self::List)
                    .map_err(|_| unknown())
            }
            None => text.parse().map(Self::Scalar),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for scalar in ScalarType::ALL {
            for feature_type in [FeatureType::Scalar(scalar), FeatureType::List(scalar)] {
                assert_eq!(feature_type.to_string().parse(), Ok(feature_type));
                assert_eq!(
                    FeatureType::holding(&feature_type.arrow()),
                    Ok(feature_type)
                );
            }
        }
        for text in [
            "",
            "float",
            "list<>",
            "list<list<int32>>",
            "list<int32",
            "Int32",
        ] {
            assert!(text.parse::<FeatureType>().is_err(), "{text:?}");
        }
    }
}
