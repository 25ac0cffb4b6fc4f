//! Online features.

use vintner_core::{FeatureType, KeySchema, RegistryVersion, ScalarType, Timestamp, Value};
use vintner_online::Status;
use vintner_ops::api::{EntityColumn, OnlineColumn, OnlineRequest, OnlineResponse};
use vintner_proto::{
    convert::{ConvertError, ConvertProblem, each, key_schema},
    v1,
};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use super::{
    Travels, chosen, from_each, missing, parse, parse_each, required, texts, to_each,
    values::{self, null_mask, null_rows},
    wrong,
};

impl Travels for FeatureRequest {
    type Message = v1::FeatureSelection;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        use v1::feature_selection::Selection;
        let selection = match self {
            Self::Service(service) => Selection::Service(service.to_string()),
            Self::Features(features) => Selection::References(v1::FeatureReferences {
                references: texts(&features),
            }),
        };
        Ok(v1::FeatureSelection {
            selection: Some(selection),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        use v1::feature_selection::Selection;
        match message.selection {
            Some(Selection::Service(service)) => Ok(Self::Service(parse("service", &service)?)),
            Some(Selection::References(list)) => {
                Ok(Self::Features(parse_each("references", &list.references)?))
            }
            None => Err(wrong(
                "neither `service` nor `references` is set; say which features are asked for",
            )),
        }
    }
}

impl Travels for KeySchema {
    type Message = v1::JoinKeysResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::JoinKeysResponse {
            join_keys: self.join_keys().iter().map(v1::JoinKey::from).collect(),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        key_schema(message.join_keys)
    }
}

impl Travels for NameStyle {
    type Message = i32;

    fn into_message(self) -> Result<i32, ConvertError> {
        Ok(match self {
            Self::Short => v1::ColumnNames::Short,
            Self::Full => v1::ColumnNames::Full,
        }
        .into())
    }

    fn from_message(number: i32) -> Result<Self, ConvertError> {
        Ok(match chosen("column_names", number)? {
            None | Some(v1::ColumnNames::Unspecified | v1::ColumnNames::Short) => Self::Short,
            Some(v1::ColumnNames::Full) => Self::Full,
        })
    }
}

impl Travels for OnlineRequest {
    type Message = v1::GetOnlineFeaturesRequest;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::GetOnlineFeaturesRequest {
            features: Some(self.features.into_message()?),
            column_names: self.names.into_message()?,
            entities: to_each(self.entities)?,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            features: required("features", message.features)?,
            names: NameStyle::from_message(message.column_names)?,
            entities: from_each("entities", message.entities)?,
        })
    }
}

impl Travels for EntityColumn {
    type Message = v1::EntityColumn;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        let scalar = key_type(&self.name, &self.values)?;
        let values = match scalar {
            ScalarType::Int64 => self.values.into_iter().map(widen).collect(),
            _ => self.values,
        };
        Ok(v1::EntityColumn {
            name: self.name,
            values: Some(values::encode(FeatureType::Scalar(scalar), values)?),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let values = message.values.ok_or_else(|| missing("values"))?;
        let (feature_type, values) =
            values::decode(values).map_err(|error| error.within("values"))?;
        if let FeatureType::List(_) = feature_type {
            return Err(wrong(list_key(&message.name)).within("values"));
        }
        Ok(Self {
            name: message.name,
            values,
        })
    }
}

/// The one type of a join key's values. Integers of both widths make an int64; only nulls make a string.
fn key_type(name: &str, values: &[Option<Value>]) -> Result<ScalarType, ConvertError> {
    let mut found = None;
    for value in values.iter().flatten() {
        let FeatureType::Scalar(scalar) = value.feature_type() else {
            return Err(wrong(list_key(name)));
        };
        found = Some(match (found, scalar) {
            (None, scalar) => scalar,
            (Some(before), scalar) if before == scalar => scalar,
            (
                Some(ScalarType::Int32 | ScalarType::Int64),
                ScalarType::Int32 | ScalarType::Int64,
            ) => ScalarType::Int64,
            (Some(before), scalar) => {
                return Err(wrong(format!(
                    "the join key `{name}` has values of type {before} and of type {scalar}; \
                     give it values of one type"
                )));
            }
        });
    }
    Ok(found.unwrap_or(ScalarType::String))
}

fn list_key(name: &str) -> String {
    format!("the join key `{name}` has lists as values, which no join key can have")
}

fn widen(value: Option<Value>) -> Option<Value> {
    match value {
        Some(Value::Int32(number)) => Some(Value::Int64(number.into())),
        other => other,
    }
}

impl Travels for OnlineResponse {
    type Message = v1::GetOnlineFeaturesResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        // The features of one view have the same event timestamps, which need to travel only once.
        let mut shared: Vec<Vec<Option<Timestamp>>> = Vec::new();
        let mut features = Vec::with_capacity(self.features.len());
        for column in self.features {
            let times = match shared.iter().rposition(|t| *t == column.event_timestamps) {
                Some(at) => at,
                None => {
                    shared.push(column.event_timestamps);
                    shared.len() - 1
                }
            };
            features.push(v1::FeatureColumn {
                name: column.name,
                values: Some(values::encode(column.feature_type, column.values)?),
                statuses: column
                    .statuses
                    .into_iter()
                    .map(|s| to_status(s).into())
                    .collect(),
                event_timestamps: u32::try_from(times)
                    .map_err(|_| wrong("too many feature columns"))?,
            });
        }
        Ok(v1::GetOnlineFeaturesResponse {
            entities: to_each(self.entities)?,
            features,
            event_timestamps: shared
                .into_iter()
                .map(times_message)
                .collect::<Result<_, _>>()?,
            registry_version: self.registry_version.0,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let shared: Vec<_> = each(message.event_timestamps, "event_timestamps", times_of)?;
        let features = each(message.features, "features", |column| {
            feature_column(column, &shared)
        })?;
        Ok(Self {
            entities: from_each("entities", message.entities)?,
            features,
            registry_version: RegistryVersion(message.registry_version),
        })
    }
}

fn feature_column(
    column: v1::FeatureColumn,
    shared: &[Vec<Option<Timestamp>>],
) -> Result<OnlineColumn, ConvertError> {
    let values = column.values.ok_or_else(|| missing("values"))?;
    let (feature_type, values) = values::decode(values).map_err(|error| error.within("values"))?;
    let statuses: Vec<Status> = each(column.statuses, "statuses", from_status)?;
    let event_timestamps = shared
        .get(column.event_timestamps as usize)
        .ok_or_else(|| wrong("there are no such event timestamps").within("event_timestamps"))?
        .clone();
    let rows = values.len();
    if statuses.len() != rows || event_timestamps.len() != rows {
        return Err(wrong(format!(
            "there are {rows} values, {} statuses and {} event timestamps",
            statuses.len(),
            event_timestamps.len()
        )));
    }
    Ok(OnlineColumn {
        name: column.name,
        feature_type,
        values,
        statuses,
        event_timestamps,
    })
}

fn to_status(status: Status) -> v1::FeatureStatus {
    match status {
        Status::Present => v1::FeatureStatus::Present,
        Status::NullValue => v1::FeatureStatus::NullValue,
        Status::NotFound => v1::FeatureStatus::NotFound,
        Status::OutsideMaxAge => v1::FeatureStatus::OutsideMaxAge,
    }
}

fn from_status(number: i32) -> Result<Status, ConvertError> {
    Ok(match v1::FeatureStatus::try_from(number) {
        Ok(v1::FeatureStatus::Present) => Status::Present,
        Ok(v1::FeatureStatus::NullValue) => Status::NullValue,
        Ok(v1::FeatureStatus::NotFound) => Status::NotFound,
        Ok(v1::FeatureStatus::OutsideMaxAge) => Status::OutsideMaxAge,
        Ok(v1::FeatureStatus::Unspecified) => return Err(ConvertProblem::Missing.into()),
        Err(_) => {
            let what = "feature status";
            return Err(ConvertProblem::Enum { what, number }.into());
        }
    })
}

fn times_message(times: Vec<Option<Timestamp>>) -> Result<v1::EventTimestamps, ConvertError> {
    Ok(v1::EventTimestamps {
        none: null_rows(&times)?,
        micros: times
            .into_iter()
            .map(|time| time.map_or(0, Timestamp::micros))
            .collect(),
    })
}

fn times_of(message: v1::EventTimestamps) -> Result<Vec<Option<Timestamp>>, ConvertError> {
    let mask = null_mask("none", message.micros.len(), &message.none)?;
    let rows = message.micros.into_iter().zip(mask);
    Ok(rows
        .map(|(micros, none)| (!none).then(|| Timestamp::from_micros(micros)))
        .collect())
}
