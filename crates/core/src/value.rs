//! One feature value outside Arrow: what an online read gives and a default declares.

use std::{fmt, str::FromStr};

use crate::{
    feature_type::{FeatureType, ScalarType},
    time::Timestamp,
};

/// A value that is not null. Floats are equal when their bits are, so NaN equals itself and -0.0 is not 0.0.
#[derive(Clone, Debug)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// Signed, 32 bits.
    Int32(i32),
    /// Signed, 64 bits.
    Int64(i64),
    /// IEEE 754, 32 bits.
    Float32(f32),
    /// IEEE 754, 64 bits.
    Float64(f64),
    /// UTF-8.
    String(String),
    /// Any bytes.
    Bytes(Vec<u8>),
    /// An instant.
    Timestamp(Timestamp),
    /// A list; every element that is not null is a scalar of the given type.
    List(ScalarType, Vec<Option<Value>>),
}

/// A scalar that is not null, borrowed from where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScalarRef<'a> {
    /// True or false.
    Bool(bool),
    /// Signed, 32 bits.
    Int32(i32),
    /// Signed, 64 bits.
    Int64(i64),
    /// IEEE 754, 32 bits.
    Float32(f32),
    /// IEEE 754, 64 bits.
    Float64(f64),
    /// UTF-8.
    String(&'a str),
    /// Any bytes.
    Bytes(&'a [u8]),
    /// An instant.
    Timestamp(Timestamp),
}

/// Why a text is not a value of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a value of type {wanted}")]
pub struct ValueError {
    /// The text.
    pub text: String,
    /// The type that was asked for.
    pub wanted: FeatureType,
}

impl Value {
    /// The value's type.
    pub fn feature_type(&self) -> FeatureType {
        FeatureType::Scalar(match self {
            Self::Bool(_) => ScalarType::Bool,
            Self::Int32(_) => ScalarType::Int32,
            Self::Int64(_) => ScalarType::Int64,
            Self::Float32(_) => ScalarType::Float32,
            Self::Float64(_) => ScalarType::Float64,
            Self::String(_) => ScalarType::String,
            Self::Bytes(_) => ScalarType::Bytes,
            Self::Timestamp(_) => ScalarType::Timestamp,
            Self::List(element, _) => return FeatureType::List(*element),
        })
    }

    /// Reads a scalar from text, as YAML and the command line give it. Bytes are the text's own bytes.
    ///
    /// # Errors
    /// [`ValueError`] when the text is no such scalar.
    pub fn parse(text: &str, scalar: ScalarType) -> Result<Self, ValueError> {
        fn read<T: FromStr>(text: &str, make: impl Fn(T) -> Value) -> Option<Value> {
            text.parse().ok().map(make)
        }
        let value = match scalar {
            ScalarType::Bool => read(text, Value::Bool),
            ScalarType::Int32 => read(text, Value::Int32),
            ScalarType::Int64 => read(text, Value::Int64),
            ScalarType::Float32 => read(text, Value::Float32),
            ScalarType::Float64 => read(text, Value::Float64),
            ScalarType::String => Some(Value::String(text.to_owned())),
            ScalarType::Bytes => Some(Value::Bytes(text.as_bytes().to_vec())),
            ScalarType::Timestamp => read(text, Value::Timestamp),
        };
        value.ok_or_else(|| ValueError {
            text: text.to_owned(),
            wanted: FeatureType::Scalar(scalar),
        })
    }
}

impl<'a> ScalarRef<'a> {
    /// The scalar's type.
    pub const fn scalar_type(&self) -> ScalarType {
        match self {
            Self::Bool(_) => ScalarType::Bool,
            Self::Int32(_) => ScalarType::Int32,
            Self::Int64(_) => ScalarType::Int64,
            Self::Float32(_) => ScalarType::Float32,
            Self::Float64(_) => ScalarType::Float64,
            Self::String(_) => ScalarType::String,
            Self::Bytes(_) => ScalarType::Bytes,
            Self::Timestamp(_) => ScalarType::Timestamp,
        }
    }

    /// The value itself.
    pub fn to_value(&self) -> Value {
        match *self {
            Self::Bool(v) => Value::Bool(v),
            Self::Int32(v) => Value::Int32(v),
            Self::Int64(v) => Value::Int64(v),
            Self::Float32(v) => Value::Float32(v),
            Self::Float64(v) => Value::Float64(v),
            Self::String(v) => Value::String(v.to_owned()),
            Self::Bytes(v) => Value::Bytes(v.to_vec()),
            Self::Timestamp(v) => Value::Timestamp(v),
        }
    }

    /// The scalar that a value is; none for a list.
    pub fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Bool(v) => Self::Bool(*v),
            Value::Int32(v) => Self::Int32(*v),
            Value::Int64(v) => Self::Int64(*v),
            Value::Float32(v) => Self::Float32(*v),
            Value::Float64(v) => Self::Float64(*v),
            Value::String(v) => Self::String(v),
            Value::Bytes(v) => Self::Bytes(v),
            Value::Timestamp(v) => Self::Timestamp(*v),
            Value::List(..) => return None,
        })
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int32(a), Self::Int32(b)) => a == b,
            (Self::Int64(a), Self::Int64(b)) => a == b,
            (Self::Float32(a), Self::Float32(b)) => a.to_bits() == b.to_bits(),
            (Self::Float64(a), Self::Float64(b)) => a.to_bits() == b.to_bits(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::List(t, a), Self::List(u, b)) => t == u && a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// For people: text as it is, bytes in hexadecimal after `0x`, lists in brackets.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::Int32(v) => v.fmt(f),
            Self::Int64(v) => v.fmt(f),
            Self::Float32(v) => v.fmt(f),
            Self::Float64(v) => v.fmt(f),
            Self::String(v) => f.pad(v),
            Self::Timestamp(v) => v.fmt(f),
            Self::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::List(_, items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    match item {
                        Some(value) => value.fmt(f)?,
                        None => f.write_str("null")?,
                    }
                }
                f.write_str("]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_equal_bit_by_bit() {
        assert_eq!(Value::Float64(f64::NAN), Value::Float64(f64::NAN));
        assert_ne!(Value::Float64(0.0), Value::Float64(-0.0));
        assert_ne!(Value::Int32(1), Value::Int64(1));
    }

    #[test]
    fn text_is_read_by_type() {
        assert_eq!(Value::parse("1", ScalarType::Int32), Ok(Value::Int32(1)));
        assert_eq!(
            Value::parse("1", ScalarType::String),
            Ok(Value::String("1".into()))
        );
        for (text, scalar) in [
            ("x", ScalarType::Int64),
            ("2147483648", ScalarType::Int32),
            ("yes", ScalarType::Bool),
            ("", ScalarType::Float64),
        ] {
            assert!(Value::parse(text, scalar).is_err(), "{text} as {scalar}");
        }
    }
}
