//! The default of a feature: a value of the feature's type.

use vintner_core::{FeatureType, ScalarType, Value};

use crate::{
    code,
    decode::{Given, Reader},
    diagnostic::Diagnostic,
    node::{Data, Meaning, Node, Scalar},
};

/// Reads a default. Reports what is not of the type.
pub(super) fn read(
    reader: &mut Reader<'_>,
    given: Given<'_>,
    feature_type: FeatureType,
) -> Option<Value> {
    match (feature_type, &given.node.data) {
        (FeatureType::Scalar(wanted), Data::Scalar(scalar)) => {
            let value = value(scalar, wanted);
            value.or_else(|| wrong(reader, given.node, feature_type))
        }
        (FeatureType::List(element), Data::List(items)) => {
            let values: Vec<Option<Option<Value>>> = items
                .iter()
                .map(|item| match item.scalar() {
                    Some(scalar) if scalar.meaning() == Meaning::Null => Some(None),
                    scalar => scalar
                        .and_then(|scalar| value(scalar, element))
                        .or_else(|| wrong(reader, item, FeatureType::Scalar(element)))
                        .map(Some),
                })
                .collect();
            let values: Option<Vec<Option<Value>>> = values.into_iter().collect();
            Some(Value::List(element, values?))
        }
        (FeatureType::Scalar(_), Data::List(_) | Data::Mapping(_))
        | (FeatureType::List(_), Data::Scalar(_) | Data::Mapping(_)) => {
            wrong(reader, given.node, feature_type)
        }
    }
}

/// The scalar as a value of the type. Numbers are read as YAML writes them, and must fit.
fn value(scalar: &Scalar, wanted: ScalarType) -> Option<Value> {
    match (wanted, scalar.meaning()) {
        (ScalarType::Bool, Meaning::Bool(value)) => Some(Value::Bool(value)),
        (ScalarType::Int32, Meaning::Integer(text)) => {
            i32::try_from(integer(text)?).ok().map(Value::Int32)
        }
        (ScalarType::Int64, Meaning::Integer(text)) => integer(text).map(Value::Int64),
        (ScalarType::Float32, Meaning::Integer(text) | Meaning::Float(text)) => {
            let value: f32 = float_text(text)?.parse().ok()?;
            fits(value.is_infinite(), text).then_some(Value::Float32(value))
        }
        (ScalarType::Float64, Meaning::Integer(text) | Meaning::Float(text)) => {
            let value: f64 = float_text(text)?.parse().ok()?;
            fits(value.is_infinite(), text).then_some(Value::Float64(value))
        }
        (ScalarType::String | ScalarType::Bytes | ScalarType::Timestamp, Meaning::Text(text)) => {
            Value::parse(text, wanted).ok()
        }
        _ => None,
    }
}

fn integer(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i64::from_str_radix(digits, 8).ok();
    }
    text.parse().ok()
}

/// A number of YAML in the form that Rust reads.
fn float_text(text: &str) -> Option<String> {
    if text.starts_with("0x") || text.starts_with("0o") {
        return integer(text).map(|value| value.to_string());
    }
    // `.inf` and `.nan` in their three cases; `.5` stays.
    let lower = text.to_ascii_lowercase();
    Some(lower.replace(".inf", "inf").replace(".nan", "nan"))
}

/// Whether a number was infinite before it was read, if it is so now.
fn fits(is_infinite: bool, text: &str) -> bool {
    !is_infinite || text.to_ascii_lowercase().ends_with("inf")
}

fn wrong<T>(reader: &mut Reader<'_>, node: &Node, wanted: FeatureType) -> Option<T> {
    let looks = match (wanted, node.scalar().map(Scalar::meaning)) {
        (FeatureType::Scalar(ScalarType::String | ScalarType::Bytes), Some(Meaning::Null)) => None,
        (FeatureType::Scalar(ScalarType::String | ScalarType::Bytes), Some(_)) => {
            node.text().map(|text| format!("quote it: \"{text}\""))
        }
        _ => None,
    };
    let help = looks.unwrap_or_else(|| match wanted {
        FeatureType::Scalar(scalar) => format!("write something like {}", example(scalar)),
        FeatureType::List(scalar) => format!("write a list like [{}]", example(scalar)),
    });
    let place = reader.place(reader.headline(node.span));
    let found = match node.scalar().map(Scalar::meaning) {
        Some(Meaning::Text(text)) => format!("the text `{text}`"),
        _ => node.described(),
    };
    reader.report(
        Diagnostic::error(
            code::BAD_DEFAULT,
            place,
            format!("the default of a feature of type {wanted} cannot be {found}"),
        )
        .label(format!("not of type {wanted}"))
        .help(help),
    );
    None
}

const fn example(scalar: ScalarType) -> &'static str {
    match scalar {
        ScalarType::Bool => "false",
        ScalarType::Int32 => "0 (at most 2147483647)",
        ScalarType::Int64 => "0 (at most 9223372036854775807)",
        ScalarType::Float32 | ScalarType::Float64 => "0.0",
        ScalarType::String | ScalarType::Bytes => "unknown",
        ScalarType::Timestamp => "2013-01-01T00:00:00Z",
    }
}

#[cfg(test)]
mod tests {
    use vintner_core::Timestamp;

    use super::*;
    use crate::node::Style;

    fn plain(text: &str) -> Scalar {
        Scalar {
            text: text.to_owned(),
            style: Style::Plain,
            is_text: false,
        }
    }

    #[test]
    fn a_default_is_read_by_its_type_and_must_fit() {
        use ScalarType::*;
        for (text, wanted, want) in [
            ("true", Bool, Some(Value::Bool(true))),
            ("1", Bool, None),
            ("2147483647", Int32, Some(Value::Int32(i32::MAX))),
            ("2147483648", Int32, None),
            ("0x10", Int64, Some(Value::Int64(16))),
            ("+7", Int64, Some(Value::Int64(7))),
            ("1.5", Int64, None),
            ("9223372036854775808", Int64, None),
            ("1", Float64, Some(Value::Float64(1.0))),
            ("-.INF", Float64, Some(Value::Float64(f64::NEG_INFINITY))),
            (".nan", Float32, Some(Value::Float32(f32::NAN))),
            ("1e39", Float32, None),
            ("1e39", Float64, Some(Value::Float64(1e39))),
            ("0o17", Float64, Some(Value::Float64(15.0))),
            ("abc", String, Some(Value::String("abc".into()))),
            ("1", String, None),
            ("abc", Bytes, Some(Value::Bytes(b"abc".to_vec()))),
            (
                "1970-01-01",
                Timestamp,
                Some(Value::Timestamp(self::Timestamp::from_micros(0))),
            ),
            ("soon", Timestamp, None),
            ("~", Float64, None),
        ] {
            assert_eq!(value(&plain(text), wanted), want, "{text} as {wanted}");
        }
    }
}
