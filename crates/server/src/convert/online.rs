//! Online features.

use std::time::Duration;

use vintner_core::{FeatureType, KeySchema, RegistryVersion, Timestamp};
use vintner_ops::api::{
    After, EntityColumn, OnlineColumn, OnlineRequest, OnlineResponse, OnlineView, Status,
};
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
            after: texts(&self.after.tokens),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            features: required("features", message.features)?,
            names: NameStyle::from_message(message.column_names)?,
            entities: from_each("entities", message.entities)?,
            // How long there is to wait is not in the message: the call's deadline says.
            after: After {
                tokens: parse_each("after", &message.after)?,
                patience: Duration::ZERO,
            },
        })
    }
}

impl Travels for EntityColumn {
    type Message = v1::EntityColumn;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        if let FeatureType::List(_) = self.values.feature_type() {
            return Err(wrong(list_key(&self.name)));
        }
        Ok(v1::EntityColumn {
            name: self.name,
            values: Some(values::encode(self.values)),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let values = message.values.ok_or_else(|| missing("values"))?;
        let values = values::decode(values).map_err(|error| error.within("values"))?;
        if let FeatureType::List(_) = values.feature_type() {
            return Err(wrong(list_key(&message.name)).within("values"));
        }
        Ok(Self {
            name: message.name,
            values,
        })
    }
}

fn list_key(name: &str) -> String {
    format!("the join key `{name}` has lists as values, which no join key can have")
}

impl Travels for OnlineResponse {
    type Message = v1::GetOnlineFeaturesResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        let features = self.features.into_iter().map(|column| {
            Ok(v1::FeatureColumn {
                name: column.name,
                values: Some(values::encode(column.values)),
                statuses: column
                    .statuses
                    .into_iter()
                    .map(|s| to_status(s).into())
                    .collect(),
                event_timestamps: u32::try_from(column.view)
                    .map_err(|_| wrong("too many feature views"))?,
            })
        });
        Ok(v1::GetOnlineFeaturesResponse {
            entities: to_each(self.entities)?,
            features: features.collect::<Result<_, ConvertError>>()?,
            event_timestamps: to_each(self.views)?,
            registry_version: self.registry_version.0,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let views: Vec<OnlineView> = from_each("event_timestamps", message.event_timestamps)?;
        let features = each(message.features, "features", |column| {
            feature_column(column, &views)
        })?;
        Ok(Self {
            entities: from_each("entities", message.entities)?,
            features,
            views,
            registry_version: RegistryVersion(message.registry_version),
        })
    }
}

fn feature_column(
    column: v1::FeatureColumn,
    views: &[OnlineView],
) -> Result<OnlineColumn, ConvertError> {
    let values = column.values.ok_or_else(|| missing("values"))?;
    let values = values::decode(values).map_err(|error| error.within("values"))?;
    let statuses: Vec<Status> = each(column.statuses, "statuses", from_status)?;
    let view = column.event_timestamps as usize;
    let times = views
        .get(view)
        .ok_or_else(|| wrong("there are no such event timestamps").within("event_timestamps"))?;
    let (rows, times) = (values.len(), times.event_timestamps.len());
    if statuses.len() != rows || times != rows {
        return Err(wrong(format!(
            "there are {rows} values, {} statuses and {times} event timestamps",
            statuses.len(),
        )));
    }
    Ok(OnlineColumn {
        name: column.name,
        values,
        statuses,
        view,
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

impl Travels for OnlineView {
    type Message = v1::EventTimestamps;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::EventTimestamps {
            none: null_rows(&self.event_timestamps)?,
            micros: self
                .event_timestamps
                .into_iter()
                .map(|time| time.map_or(0, Timestamp::micros))
                .collect(),
            view: self.view.to_string(),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let mask = null_mask("none", message.micros.len(), &message.none)?;
        let rows = message.micros.into_iter().zip(mask);
        Ok(Self {
            view: parse("view", &message.view)?,
            event_timestamps: rows
                .map(|(micros, none)| (!none).then(|| Timestamp::from_micros(micros)))
                .collect(),
        })
    }
}
