//! Between the types of `vintner-core` and messages.
//!
//! A core type becomes a message by `From`, which cannot fail. A message becomes a core type by `TryFrom`, which
//! checks everything. An error names the field by its path in the message that was converted, as in
//! `views[2].features[0].default: …`.

use std::fmt;

use vintner_core::{
    Boundary, FeatureRef, FeatureSelector, FeatureType, JoinKey, KeySchema, KeySchemaError,
    KeyType, KeyValue, Knowledge, NameError, ScalarType, Timestamp, Ttl, Value, ViewId,
    ViewVersion,
    name::{Kind, Name},
};

use crate::v1;

/// Why a message is not what it should be, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertError {
    /// The path of the field; empty when the message as a whole is wrong.
    pub path: String,
    /// What is wrong there.
    pub problem: ConvertProblem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertProblem {
    /// A field that must be there is not.
    #[error("must be set")]
    Missing,
    /// The number of an enum's value that is none, or is from a newer version.
    #[error("the number {number} is no {what} that this version knows")]
    Enum {
        /// What the enum is.
        what: &'static str,
        /// The number.
        number: i32,
    },
    /// A text that is not a name.
    #[error("{0}")]
    Name(NameError),
    /// A view version that is 0.
    #[error("a view version is a number from 1, not 0")]
    Version,
    /// A duration of 0 or of more than can be held.
    #[error("{0} microseconds is no duration; it must be at least 1 and at most {max}", max = Ttl::LONGEST_MICROS)]
    Duration(u64),
    /// Join keys that make no key schema.
    #[error("{0}")]
    KeySchema(KeySchemaError),
    /// A value of another type than it must have.
    #[error("a value of type {found} where {wanted} is wanted")]
    ValueType {
        /// The type that it must have.
        wanted: FeatureType,
        /// The type that it has.
        found: FeatureType,
    },
    /// A list in a list.
    #[error("a list cannot hold a list")]
    NestedList,
    /// Something that only the caller's own messages can have wrong.
    #[error("{0}")]
    Other(String),
}

impl ConvertError {
    /// An error about the message as a whole.
    pub fn new(problem: ConvertProblem) -> Self {
        Self {
            path: String::new(),
            problem,
        }
    }

    /// An error about one field.
    pub fn at(field: impl fmt::Display, problem: ConvertProblem) -> Self {
        Self::new(problem).within(field)
    }

    /// The same error, seen from the message that has the field.
    #[must_use]
    pub fn within(self, field: impl fmt::Display) -> Self {
        let path = if self.path.is_empty() {
            field.to_string()
        } else {
            format!("{field}.{}", self.path)
        };
        Self { path, ..self }
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ConvertError {}

impl From<ConvertProblem> for ConvertError {
    fn from(problem: ConvertProblem) -> Self {
        Self::new(problem)
    }
}

/// Reads a name.
///
/// # Errors
/// [`ConvertError`] when the text is not a name of the kind.
pub fn name<K: Kind>(text: &str) -> Result<Name<K>, ConvertError> {
    text.parse()
        .map_err(|error| ConvertProblem::Name(error).into())
}

/// Converts a message that must be there.
///
/// # Errors
/// [`ConvertProblem::Missing`] when it is not there, and whatever its conversion gives.
pub fn required<M, T: TryFrom<M, Error = ConvertError>>(
    message: Option<M>,
    field: &str,
) -> Result<T, ConvertError> {
    message
        .ok_or_else(|| ConvertProblem::Missing.into())
        .and_then(T::try_from)
        .map_err(|error| error.within(field))
}

/// Converts each of a list.
///
/// # Errors
/// The first that fails, with its index.
pub fn each<M, T, C: FromIterator<T>>(
    messages: impl IntoIterator<Item = M>,
    field: &str,
    convert: impl Fn(M) -> Result<T, ConvertError>,
) -> Result<C, ConvertError> {
    messages
        .into_iter()
        .enumerate()
        .map(|(i, message)| {
            convert(message).map_err(|error| error.within(format_args!("{field}[{i}]")))
        })
        .collect()
}

/// Reads a view version.
///
/// # Errors
/// [`ConvertProblem::Version`] for 0.
pub fn view_version(version: u32) -> Result<ViewVersion, ConvertError> {
    match version {
        0 => Err(ConvertProblem::Version.into()),
        version => Ok(ViewVersion(version)),
    }
}

/// Reads a duration in microseconds.
///
/// # Errors
/// [`ConvertProblem::Duration`] when it is 0 or too long.
pub fn ttl(micros: u64) -> Result<Ttl, ConvertError> {
    Ttl::from_micros(micros).ok_or_else(|| ConvertProblem::Duration(micros).into())
}

/// Reads join keys, in whatever order they come.
///
/// # Errors
/// [`ConvertError`] when one is wrong, when there is none, and when one name is there twice.
pub fn key_schema(messages: Vec<v1::JoinKey>) -> Result<KeySchema, ConvertError> {
    let keys = each(messages, "join_keys", JoinKey::try_from)?;
    KeySchema::new(keys)
        .map_err(|error| ConvertError::at("join_keys", ConvertProblem::KeySchema(error)))
}

/// Reads a value that must have a type. None for null.
///
/// # Errors
/// [`ConvertError`] when it is no value, or one of another type.
pub fn value_of_type(
    message: v1::Value,
    wanted: FeatureType,
) -> Result<Option<Value>, ConvertError> {
    let value = value_or_null(message)?;
    match value.as_ref().map(Value::feature_type) {
        Some(found) if found != wanted => Err(ConvertProblem::ValueType { wanted, found }.into()),
        _ => Ok(value),
    }
}

/// Reads a value. None for null.
///
/// # Errors
/// [`ConvertError`] for a list whose elements are not of the type that it says.
pub fn value_or_null(message: v1::Value) -> Result<Option<Value>, ConvertError> {
    message.kind.map(Value::try_from).transpose()
}

/// The message of a value, or of null.
pub fn nullable(value: Option<&Value>) -> v1::Value {
    value.map_or_else(v1::Value::default, Into::into)
}

/// Microseconds since 1970-01-01T00:00:00Z, as messages carry instants.
pub fn micros(instant: Timestamp) -> i64 {
    instant.micros()
}

impl From<ScalarType> for v1::ScalarType {
    fn from(scalar: ScalarType) -> Self {
        match scalar {
            ScalarType::Bool => Self::Bool,
            ScalarType::Int32 => Self::Int32,
            ScalarType::Int64 => Self::Int64,
            ScalarType::Float32 => Self::Float32,
            ScalarType::Float64 => Self::Float64,
            ScalarType::String => Self::String,
            ScalarType::Bytes => Self::Bytes,
            ScalarType::Timestamp => Self::Timestamp,
        }
    }
}

/// Reads the number of a scalar type, as messages hold it.
///
/// # Errors
/// [`ConvertProblem::Missing`] when it is not set, [`ConvertProblem::Enum`] when it is unknown.
pub fn scalar_type(number: i32) -> Result<ScalarType, ConvertError> {
    Ok(match v1::ScalarType::try_from(number) {
        Ok(v1::ScalarType::Bool) => ScalarType::Bool,
        Ok(v1::ScalarType::Int32) => ScalarType::Int32,
        Ok(v1::ScalarType::Int64) => ScalarType::Int64,
        Ok(v1::ScalarType::Float32) => ScalarType::Float32,
        Ok(v1::ScalarType::Float64) => ScalarType::Float64,
        Ok(v1::ScalarType::String) => ScalarType::String,
        Ok(v1::ScalarType::Bytes) => ScalarType::Bytes,
        Ok(v1::ScalarType::Timestamp) => ScalarType::Timestamp,
        Ok(v1::ScalarType::Unspecified) => return Err(ConvertProblem::Missing.into()),
        Err(_) => {
            let what = "feature type";
            return Err(ConvertProblem::Enum { what, number }.into());
        }
    })
}

impl From<FeatureType> for v1::FeatureType {
    fn from(feature_type: FeatureType) -> Self {
        let (scalar, list) = match feature_type {
            FeatureType::Scalar(scalar) => (scalar, false),
            FeatureType::List(element) => (element, true),
        };
        Self {
            scalar: v1::ScalarType::from(scalar).into(),
            list,
        }
    }
}

impl TryFrom<v1::FeatureType> for FeatureType {
    type Error = ConvertError;

    fn try_from(message: v1::FeatureType) -> Result<Self, ConvertError> {
        let scalar = scalar_type(message.scalar).map_err(|error| error.within("scalar"))?;
        Ok(if message.list {
            Self::List(scalar)
        } else {
            Self::Scalar(scalar)
        })
    }
}

impl From<Knowledge> for v1::KnowledgeMode {
    fn from(knowledge: Knowledge) -> Self {
        match knowledge {
            Knowledge::Event => Self::Event,
            Knowledge::Available => Self::Available,
        }
    }
}

/// Reads the number of a knowledge mode, as messages hold it.
///
/// # Errors
/// [`ConvertProblem::Missing`] when it is not set, [`ConvertProblem::Enum`] when it is unknown.
pub fn knowledge(number: i32) -> Result<Knowledge, ConvertError> {
    match v1::KnowledgeMode::try_from(number) {
        Ok(v1::KnowledgeMode::Event) => Ok(Knowledge::Event),
        Ok(v1::KnowledgeMode::Available) => Ok(Knowledge::Available),
        Ok(v1::KnowledgeMode::Unspecified) => Err(ConvertProblem::Missing.into()),
        Err(_) => {
            let what = "knowledge mode";
            Err(ConvertProblem::Enum { what, number }.into())
        }
    }
}

impl From<Boundary> for v1::BoundaryMode {
    fn from(boundary: Boundary) -> Self {
        match boundary {
            Boundary::At => Self::At,
            Boundary::Before => Self::Before,
        }
    }
}

/// Reads the number of a boundary mode, as messages hold it.
///
/// # Errors
/// [`ConvertProblem::Missing`] when it is not set, [`ConvertProblem::Enum`] when it is unknown.
pub fn boundary(number: i32) -> Result<Boundary, ConvertError> {
    match v1::BoundaryMode::try_from(number) {
        Ok(v1::BoundaryMode::At) => Ok(Boundary::At),
        Ok(v1::BoundaryMode::Before) => Ok(Boundary::Before),
        Ok(v1::BoundaryMode::Unspecified) => Err(ConvertProblem::Missing.into()),
        Err(_) => {
            let what = "boundary mode";
            Err(ConvertProblem::Enum { what, number }.into())
        }
    }
}

impl From<KeyType> for v1::KeyType {
    fn from(key_type: KeyType) -> Self {
        match key_type {
            KeyType::Bool => Self::Bool,
            KeyType::Int32 => Self::Int32,
            KeyType::Int64 => Self::Int64,
            KeyType::String => Self::String,
            KeyType::Bytes => Self::Bytes,
        }
    }
}

/// Reads the number of a join key type, as messages hold it.
///
/// # Errors
/// [`ConvertProblem::Missing`] when it is not set, [`ConvertProblem::Enum`] when it is unknown.
pub fn key_type(number: i32) -> Result<KeyType, ConvertError> {
    Ok(match v1::KeyType::try_from(number) {
        Ok(v1::KeyType::Bool) => KeyType::Bool,
        Ok(v1::KeyType::Int32) => KeyType::Int32,
        Ok(v1::KeyType::Int64) => KeyType::Int64,
        Ok(v1::KeyType::String) => KeyType::String,
        Ok(v1::KeyType::Bytes) => KeyType::Bytes,
        Ok(v1::KeyType::Unspecified) => return Err(ConvertProblem::Missing.into()),
        Err(_) => {
            let what = "join key type";
            return Err(ConvertProblem::Enum { what, number }.into());
        }
    })
}

impl From<&JoinKey> for v1::JoinKey {
    fn from(key: &JoinKey) -> Self {
        Self {
            name: key.name.to_string(),
            r#type: v1::KeyType::from(key.key_type).into(),
        }
    }
}

impl TryFrom<v1::JoinKey> for JoinKey {
    type Error = ConvertError;

    fn try_from(message: v1::JoinKey) -> Result<Self, ConvertError> {
        Ok(Self {
            name: name(&message.name).map_err(|error| error.within("name"))?,
            key_type: key_type(message.r#type).map_err(|error| error.within("type"))?,
        })
    }
}

impl From<&Value> for v1::Value {
    fn from(value: &Value) -> Self {
        use v1::value::Kind as K;
        let kind = match value {
            Value::Bool(v) => K::Bool(*v),
            Value::Int32(v) => K::Int32(*v),
            Value::Int64(v) => K::Int64(*v),
            Value::Float32(v) => K::Float32(*v),
            Value::Float64(v) => K::Float64(*v),
            Value::String(v) => K::String(v.clone()),
            Value::Bytes(v) => K::Bytes(v.clone()),
            Value::Timestamp(v) => K::Timestamp(micros(*v)),
            Value::List(element, items) => K::List(v1::ListValue {
                element: v1::ScalarType::from(*element).into(),
                items: items.iter().map(|item| nullable(item.as_ref())).collect(),
            }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::value::Kind> for Value {
    type Error = ConvertError;

    fn try_from(kind: v1::value::Kind) -> Result<Self, ConvertError> {
        use v1::value::Kind as K;
        Ok(match kind {
            K::Bool(v) => Self::Bool(v),
            K::Int32(v) => Self::Int32(v),
            K::Int64(v) => Self::Int64(v),
            K::Float32(v) => Self::Float32(v),
            K::Float64(v) => Self::Float64(v),
            K::String(v) => Self::String(v),
            K::Bytes(v) => Self::Bytes(v),
            K::Timestamp(v) => Self::Timestamp(Timestamp::from_micros(v)),
            K::List(list) => {
                let element = scalar_type(list.element)
                    .map_err(|error| error.within("element").within("list"))?;
                let items = each(list.items, "items", |item| match item.kind {
                    // Refused before it is read, so that a message cannot make reading it go as deep as it likes.
                    Some(K::List(_)) => Err(ConvertProblem::NestedList.into()),
                    _ => value_of_type(item, FeatureType::Scalar(element)),
                });
                Self::List(element, items.map_err(|error| error.within("list"))?)
            }
        })
    }
}

/// A value that is not null.
impl TryFrom<v1::Value> for Value {
    type Error = ConvertError;

    fn try_from(message: v1::Value) -> Result<Self, ConvertError> {
        value_or_null(message)?.ok_or_else(|| ConvertProblem::Missing.into())
    }
}

impl From<&KeyValue> for v1::KeyValue {
    fn from(value: &KeyValue) -> Self {
        use v1::key_value::Kind as K;
        let kind = match value {
            KeyValue::Bool(v) => K::Bool(*v),
            KeyValue::Int32(v) => K::Int32(*v),
            KeyValue::Int64(v) => K::Int64(*v),
            KeyValue::String(v) => K::String(v.clone()),
            KeyValue::Bytes(v) => K::Bytes(v.clone()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::KeyValue> for KeyValue {
    type Error = ConvertError;

    fn try_from(message: v1::KeyValue) -> Result<Self, ConvertError> {
        use v1::key_value::Kind as K;
        Ok(match message.kind.ok_or(ConvertProblem::Missing)? {
            K::Bool(v) => Self::Bool(v),
            K::Int32(v) => Self::Int32(v),
            K::Int64(v) => Self::Int64(v),
            K::String(v) => Self::String(v),
            K::Bytes(v) => Self::Bytes(v),
        })
    }
}

impl From<&FeatureRef> for v1::FeatureRef {
    fn from(reference: &FeatureRef) -> Self {
        Self {
            view: reference.view.to_string(),
            version: reference.version.map(|version| version.0),
            feature: match &reference.feature {
                FeatureSelector::All => None,
                FeatureSelector::One(feature) => Some(feature.to_string()),
            },
        }
    }
}

impl TryFrom<v1::FeatureRef> for FeatureRef {
    type Error = ConvertError;

    fn try_from(message: v1::FeatureRef) -> Result<Self, ConvertError> {
        let version = message.version.map(view_version).transpose();
        let feature = message.feature.as_deref().map(name).transpose();
        Ok(Self {
            view: name(&message.view).map_err(|error| error.within("view"))?,
            version: version.map_err(|error| error.within("version"))?,
            feature: feature
                .map_err(|error| error.within("feature"))?
                .map_or(FeatureSelector::All, FeatureSelector::One),
        })
    }
}

impl From<&ViewId> for v1::ViewId {
    fn from(id: &ViewId) -> Self {
        Self {
            view: id.name.to_string(),
            version: id.version.0,
        }
    }
}

impl TryFrom<v1::ViewId> for ViewId {
    type Error = ConvertError;

    fn try_from(message: v1::ViewId) -> Result<Self, ConvertError> {
        Ok(Self {
            name: name(&message.view).map_err(|error| error.within("view"))?,
            version: view_version(message.version).map_err(|error| error.within("version"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: Vec<v1::Value>) -> v1::Value {
        v1::Value {
            kind: Some(v1::value::Kind::List(v1::ListValue {
                element: v1::ScalarType::Int32.into(),
                items,
            })),
        }
    }

    #[test]
    fn every_value_comes_back_as_it_went() {
        use ScalarType as S;
        for value in [
            Value::Bool(false),
            Value::Int32(i32::MIN),
            Value::Int64(i64::MAX),
            Value::Float32(-0.0),
            Value::Float64(f64::NAN),
            Value::String(String::new()),
            Value::Bytes(vec![0, 255]),
            Value::Timestamp(Timestamp::MIN),
            Value::List(S::Bool, vec![]),
            Value::List(S::String, vec![Some(Value::String("é".into())), None]),
        ] {
            let message = v1::Value::from(&value);
            assert_eq!(Value::try_from(message), Ok(value));
        }
        assert_eq!(value_or_null(nullable(None)), Ok(None));
    }

    #[test]
    fn every_type_key_and_reference_comes_back_as_it_went() {
        for scalar in ScalarType::ALL {
            for feature_type in [FeatureType::Scalar(scalar), FeatureType::List(scalar)] {
                let message = v1::FeatureType::from(feature_type);
                assert_eq!(FeatureType::try_from(message), Ok(feature_type));
            }
        }
        for key_type in KeyType::ALL {
            let key = JoinKey {
                name: "k".parse().unwrap(),
                key_type,
            };
            assert_eq!(JoinKey::try_from(v1::JoinKey::from(&key)), Ok(key));
        }
        for value in [
            KeyValue::Bool(true),
            KeyValue::Int32(-1),
            KeyValue::Int64(i64::MIN),
            KeyValue::String("JFK".into()),
            KeyValue::Bytes(vec![0]),
        ] {
            assert_eq!(KeyValue::try_from(v1::KeyValue::from(&value)), Ok(value));
        }
        for text in ["weather", "weather@2", "weather:temp", "weather@2:temp"] {
            let reference: FeatureRef = text.parse().unwrap();
            let message = v1::FeatureRef::from(&reference);
            assert_eq!(FeatureRef::try_from(message), Ok(reference));
        }
        let id: ViewId = "weather@7".parse().unwrap();
        assert_eq!(ViewId::try_from(v1::ViewId::from(&id)), Ok(id));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let wrong = |result: Result<(), ConvertError>| result.unwrap_err().to_string();
        let value = |message| wrong(Value::try_from(message).map(drop));
        let int64 = v1::Value::from(&Value::Int64(1));
        let reference = |message| wrong(FeatureRef::try_from(message).map(drop));
        let key = |kind: i32| v1::JoinKey {
            name: "k".into(),
            r#type: kind,
        };

        insta::assert_snapshot!(value(v1::Value::default()), @"must be set");
        insta::assert_snapshot!(value(list(vec![nullable(None), int64])), @"list.items[1]: a value of type int64 where int32 is wanted");
        insta::assert_snapshot!(value(list(vec![list(vec![])])), @"list.items[0]: a list cannot hold a list");
        insta::assert_snapshot!(wrong(scalar_type(99).map(drop)), @"the number 99 is no feature type that this version knows");
        insta::assert_snapshot!(wrong(FeatureType::try_from(v1::FeatureType::default()).map(drop)), @"scalar: must be set");
        insta::assert_snapshot!(wrong(key_schema(vec![key(1), key(9)]).map(drop)), @"join_keys[1].type: the number 9 is no join key type that this version knows");
        insta::assert_snapshot!(wrong(key_schema(vec![key(1), key(2)]).map(drop)), @"join_keys: the join key `k` is there twice");
        insta::assert_snapshot!(wrong(key_schema(vec![]).map(drop)), @"join_keys: there is no join key; declare at least one");
        insta::assert_snapshot!(wrong(KeyValue::try_from(v1::KeyValue::default()).map(drop)), @"must be set");
        insta::assert_snapshot!(wrong(ttl(0).map(drop)), @"0 microseconds is no duration; it must be at least 1 and at most 9223372036854775807");
        insta::assert_snapshot!(reference(v1::FeatureRef { view: "a__b".into(), ..Default::default() }), @"view: the feature view name `a__b` must not contain `__` nor begin or end with `_`, so that `view__feature` splits in one way only");
        insta::assert_snapshot!(reference(v1::FeatureRef { view: "a".into(), version: Some(0), feature: None }), @"version: a view version is a number from 1, not 0");
        insta::assert_snapshot!(reference(v1::FeatureRef { view: "a".into(), version: None, feature: Some("1".into()) }), @"feature: the feature name `1` may only have letters, digits and `_`, and must not start with a digit");
    }
}
