//! What a Flight client says in words: the command that opens a `DoExchange`, the ticket of a `DoGet`, and the app
//! metadata of their answers.
//!
//! They are JSON and not protobuf, because a Flight client has Arrow but no generated code of ours: in Python a command
//! is `json.dumps({"get_historical": {"service": "delay_model"}})`. A field that is not known is refused, so that a
//! misspelt option is not taken for its default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vintner_core::{Boundary, DatasetName, Knowledge, RegistryVersion};
use vintner_ops::{
    Fault, OpsError,
    api::{HistoricalReport, HistoricalRequest, JoinWork, SaveAs},
};
use vintner_proto::convert::ConvertError;
use vintner_registry::selection::{FeatureRequest, NameStyle};

use crate::convert::{parse, parse_each, texts, wrong};

/// The command of a `DoExchange`: the bytes of a Flight descriptor of type `CMD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Entity rows in, training rows out.
    GetHistorical(GetHistorical),
}

/// The point-in-time join of the entity rows that follow with features.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GetHistorical {
    /// The name of a feature service. Either this or `features`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The features: `view:feature`, or `view` for all of a view. Either this or `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// Whether all feature columns are named `view__feature`. Default: only those whose name another view gives too.
    pub full_names: bool,
    /// Whether feature rows must have been known at the entity row's time.
    pub knowledge: KnowledgeWord,
    /// Whether feature rows at exactly the entity row's time count.
    pub boundary: BoundaryWord,
    /// The entity rows' time column. Default: `event_timestamp`, else the only timestamp column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_column: Option<String>,
    /// Keeps what is needed to make the same rows again. Default: nothing is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save: Option<Save>,
}

/// Under which name a dataset is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Save {
    /// The name, which must be free.
    pub name: String,
    /// Who saves it: a user's name, for people. Default: `unknown`.
    #[serde(default = "unknown")]
    pub author: String,
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The ticket of a `DoGet`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ticket {
    /// The rows of a saved dataset, made again.
    Reproduce(Reproduce),
}

/// Which dataset to make again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reproduce {
    /// Its name.
    pub dataset: String,
}

/// Whether feature rows must have been known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnowledgeWord {
    /// What was true at the time, as known today.
    #[default]
    Event,
    /// What was true at the time and had arrived by it.
    Available,
}

/// Whether feature rows at exactly the entity row's time count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoundaryWord {
    /// They do.
    #[default]
    At,
    /// They do not.
    Before,
}

/// The app metadata of the first message of an answer, which has its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The version of the registry that the training rows are made with.
    pub registry_version: u64,
}

/// The app metadata of the last message of an answer, which is a record batch without rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// As in [`Opening`], which some Flight clients do not show: they take the schema out of its message.
    pub registry_version: u64,
    /// What the join has found.
    pub report: Report,
}

/// What a join has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Entity rows.
    pub rows: u64,
    /// Entity rows whose time, or a join key of some view, is null: they have nulls or defaults.
    pub rows_without_key: u64,
    /// Entity rows that met a visible feature row, per view version, written `view@2`.
    pub rows_matched: BTreeMap<String, u64>,
    /// What was read for it, and how long it took.
    #[serde(default)]
    pub work: JoinWork,
}

impl Command {
    /// Reads the bytes of a descriptor.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, OpsError> {
        serde_json::from_slice(bytes).map_err(|error| {
            OpsError::new(
                Fault::Request,
                format!(
                    "the descriptor's command is not what DoExchange takes, which is JSON like \
                     {{\"get_historical\": {{\"service\": \"delay_model\"}}}}: {error}"
                ),
            )
        })
    }
}

impl Ticket {
    /// Reads the bytes of a ticket: the dataset to make again.
    pub(crate) fn read(bytes: &[u8]) -> Result<DatasetName, OpsError> {
        let refused = |error: &dyn std::fmt::Display| {
            OpsError::new(
                Fault::Request,
                format!(
                    "the ticket is not what DoGet takes, which is JSON like \
                     {{\"reproduce\": {{\"dataset\": \"delays_2013\"}}}}: {error}"
                ),
            )
        };
        let Self::Reproduce(Reproduce { dataset }) =
            serde_json::from_slice::<Self>(bytes).map_err(|error| refused(&error))?;
        dataset
            .parse::<DatasetName>()
            .map_err(|error| refused(&error))
    }
}

impl From<&HistoricalRequest> for GetHistorical {
    fn from(request: &HistoricalRequest) -> Self {
        let (service, features) = match &request.features {
            FeatureRequest::Service(service) => (Some(service.to_string()), None),
            FeatureRequest::Features(features) => (None, Some(texts(features))),
        };
        Self {
            service,
            features,
            full_names: request.names == NameStyle::Full,
            knowledge: match request.knowledge {
                Knowledge::Event => KnowledgeWord::Event,
                Knowledge::Available => KnowledgeWord::Available,
            },
            boundary: match request.boundary {
                Boundary::At => BoundaryWord::At,
                Boundary::Before => BoundaryWord::Before,
            },
            timestamp_column: request.timestamp_column.clone(),
            save: request.save.as_ref().map(|save| Save {
                name: save.name.to_string(),
                author: save.author.clone(),
            }),
        }
    }
}

impl TryFrom<GetHistorical> for HistoricalRequest {
    type Error = ConvertError;

    fn try_from(command: GetHistorical) -> Result<Self, ConvertError> {
        let features = match (command.service, command.features) {
            (Some(service), None) => FeatureRequest::Service(parse("service", &service)?),
            (None, Some(features)) => FeatureRequest::Features(parse_each("features", &features)?),
            (None, None) => return Err(wrong("give `service` or `features`")),
            (Some(_), Some(_)) => return Err(wrong("give `service` or `features`, not both")),
        };
        Ok(Self {
            features,
            names: match command.full_names {
                true => NameStyle::Full,
                false => NameStyle::Short,
            },
            knowledge: match command.knowledge {
                KnowledgeWord::Event => Knowledge::Event,
                KnowledgeWord::Available => Knowledge::Available,
            },
            boundary: match command.boundary {
                BoundaryWord::At => Boundary::At,
                BoundaryWord::Before => Boundary::Before,
            },
            timestamp_column: command.timestamp_column,
            save: match command.save {
                None => None,
                Some(save) => Some(SaveAs {
                    name: parse("save.name", &save.name)?,
                    author: save.author,
                }),
            },
        })
    }
}

impl From<RegistryVersion> for Opening {
    fn from(version: RegistryVersion) -> Self {
        Self {
            registry_version: version.0,
        }
    }
}

impl From<&HistoricalReport> for Report {
    fn from(report: &HistoricalReport) -> Self {
        let matched = report.rows_matched.iter();
        Self {
            rows: report.rows,
            rows_without_key: report.rows_without_key,
            rows_matched: matched
                .map(|(view, rows)| (view.to_string(), *rows))
                .collect(),
            work: report.work.clone(),
        }
    }
}

impl TryFrom<Report> for HistoricalReport {
    type Error = ConvertError;

    fn try_from(report: Report) -> Result<Self, ConvertError> {
        let matched = report.rows_matched.into_iter();
        Ok(Self {
            rows: report.rows,
            rows_without_key: report.rows_without_key,
            rows_matched: matched
                .map(|(view, rows)| Ok((parse("rows_matched", &view)?, rows)))
                .collect::<Result<_, ConvertError>>()?,
            work: report.work,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<HistoricalRequest, String> {
        let Command::GetHistorical(command) =
            Command::read(json.as_bytes()).map_err(|error| error.message)?;
        HistoricalRequest::try_from(command).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_is_read_as_it_is_written() {
        let full = HistoricalRequest {
            features: FeatureRequest::Features(vec![
                "a".parse().unwrap(),
                "b@2:f".parse().unwrap(),
            ]),
            names: NameStyle::Full,
            knowledge: Knowledge::Available,
            boundary: Boundary::Before,
            timestamp_column: Some("at".to_owned()),
            save: Some(SaveAs {
                name: "delays_2013".parse().unwrap(),
                author: "ann".to_owned(),
            }),
        };
        let plain = request(r#"{"get_historical": {"service": "delay_model"}}"#).unwrap();
        assert_eq!(plain.knowledge, Knowledge::Event);
        for wanted in [full, plain] {
            let command = Command::GetHistorical(GetHistorical::from(&wanted));
            let json = serde_json::to_string(&command).unwrap();
            assert_eq!(request(&json), Ok(wanted), "{json}");
        }
    }

    #[test]
    fn a_wrong_command_is_told_what_is_wrong() {
        let refusal = |json: &str| request(json).unwrap_err();
        insta::assert_snapshot!(refusal("delay_model"), @r#"the descriptor's command is not what DoExchange takes, which is JSON like {"get_historical": {"service": "delay_model"}}: expected value at line 1 column 1"#);
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"servise": "delay_model"}}"#), @r#"the descriptor's command is not what DoExchange takes, which is JSON like {"get_historical": {"service": "delay_model"}}: unknown field `servise`, expected one of `service`, `features`, `full_names`, `knowledge`, `boundary`, `timestamp_column`, `save` at line 1 column 29"#);
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"service": "s", "knowledge": "later"}}"#), @r#"the descriptor's command is not what DoExchange takes, which is JSON like {"get_historical": {"service": "delay_model"}}: unknown variant `later`, expected `event` or `available` at line 1 column 56"#);
        insta::assert_snapshot!(refusal(r#"{"get_historical": {}}"#), @"give `service` or `features`");
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"service": "s", "features": ["v"]}}"#), @"give `service` or `features`, not both");
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"features": ["v", "v:a:b"]}}"#), @"features[1]: `v:a:b` names no feature: the feature name `a:b` may only have letters, digits and `_`, and must not start with a digit");
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"service": "s", "save": {"name": "a-b"}}}"#), @"save.name: the dataset name `a-b` may only have letters, digits and `_`, and must not start with a digit");
        insta::assert_snapshot!(refusal(r#"{"get_offline": {}}"#), @r#"the descriptor's command is not what DoExchange takes, which is JSON like {"get_historical": {"service": "delay_model"}}: unknown variant `get_offline`, expected `get_historical` at line 1 column 14"#);
    }

    #[test]
    fn a_ticket_names_a_dataset() {
        let read = |json: &str| Ticket::read(json.as_bytes()).map_err(|error| error.message);
        let ticket = Ticket::Reproduce(Reproduce {
            dataset: "delays_2013".to_owned(),
        });
        let json = serde_json::to_string(&ticket).unwrap();
        assert_eq!(read(&json), Ok("delays_2013".parse().unwrap()), "{json}");
        insta::assert_snapshot!(read("delays_2013").unwrap_err(), @r#"the ticket is not what DoGet takes, which is JSON like {"reproduce": {"dataset": "delays_2013"}}: expected value at line 1 column 1"#);
        insta::assert_snapshot!(read(r#"{"reproduce": {"dataset": "a-b"}}"#).unwrap_err(), @r#"the ticket is not what DoGet takes, which is JSON like {"reproduce": {"dataset": "delays_2013"}}: the dataset name `a-b` may only have letters, digits and `_`, and must not start with a digit"#);
    }
}
