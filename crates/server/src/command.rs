//! What a Flight client says in words: the command that opens a `DoExchange`, the ticket of a `DoGet`, and the app
//! metadata of their answers. The same command says which features are joined, whether entity rows follow it or are made
//! by the service.
//!
//! They are JSON and not protobuf, because a Flight client has Arrow but no generated code of ours: in Python a command
//! is `json.dumps({"get_historical": {"service": "delay_model"}})`. A field that is not known is refused, so that a
//! misspelt option is not taken for its default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vintner_core::{Boundary, DatasetName, Knowledge, RegistryVersion};
use vintner_ops::{
    Fault, OpsError,
    api::{HistoricalReport, HistoricalRequest, JoinWork, Lint, SaveAs, Snapshots, Spine, Split},
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
    /// In a ticket: the entity rows are every key that is known at this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// In a ticket: the entity rows are every key that is known at each of these moments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<Between>,
    /// In a ticket: the entity rows are those of this SELECT over the project's feature views and sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spine: Option<String>,
    /// Into which parts the rows are split: `train=0.8,test=0.2`, or `train=2013-09-01,test`. Default: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The columns whose values decide a split by fractions. Default: the join keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_by: Option<Vec<String>>,
    /// Keeps what is needed to make the same rows again. Default: nothing is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save: Option<Save>,
    /// Whether what tells of leaks and gaps is counted and reported. Default: it is not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lint: bool,
    /// Tokens that pushes have answered with: the training rows are made with their rows, or there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// Moments at equal distances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// The first moment.
    pub from: String,
    /// What no moment is after; it is one, if it falls on the grid.
    pub to: String,
    /// The distance, like `1d`.
    pub every: String,
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
    /// The point-in-time join of entity rows that the service makes with features.
    GetHistorical(Box<GetHistorical>),
}

/// What a ticket asks for.
pub(crate) enum Asked {
    /// The rows of a saved dataset, made again.
    Reproduce(DatasetName),
    /// Training rows of entity rows that are made.
    GetHistorical(HistoricalRequest, Spine),
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
    /// What tells of leaks and gaps, when that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint: Option<Lint>,
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
    /// Reads the bytes of a ticket.
    pub(crate) fn read(bytes: &[u8]) -> Result<Asked, OpsError> {
        let refused = |error: &dyn std::fmt::Display| {
            OpsError::new(
                Fault::Request,
                format!(
                    "the ticket is not what DoGet takes, which is JSON like \
                     {{\"reproduce\": {{\"dataset\": \"delays_2013\"}}}} or {{\"get_historical\": \
                     {{\"service\": \"delay_model\", \"at\": \"2013-01-01T00:00:00Z\"}}}}: {error}"
                ),
            )
        };
        match serde_json::from_slice::<Self>(bytes).map_err(|error| refused(&error))? {
            Self::Reproduce(Reproduce { dataset }) => dataset
                .parse()
                .map(Asked::Reproduce)
                .map_err(|error| refused(&error)),
            Self::GetHistorical(command) => {
                let spine = command.spine().map_err(|error| refused(&error))?;
                let spine = spine.ok_or_else(|| {
                    refused(
                        &"give `at`, `between` or `spine`, or send entity rows with a DoExchange",
                    )
                })?;
                let request =
                    HistoricalRequest::try_from(*command).map_err(|error| refused(&error))?;
                Ok(Asked::GetHistorical(request, spine))
            }
        }
    }
}

impl GetHistorical {
    /// The entity rows that the service makes, if it does.
    ///
    /// # Errors
    /// [`ConvertError`] when there are several, or one that means nothing.
    pub(crate) fn spine(&self) -> Result<Option<Spine>, ConvertError> {
        match (&self.at, &self.between, &self.spine) {
            (None, None, None) => Ok(None),
            (Some(at), None, None) => Ok(Some(Spine::At(parse("at", at)?))),
            (None, Some(between), None) => {
                let snapshots = Snapshots::new(
                    parse("between.from", &between.from)?,
                    parse("between.to", &between.to)?,
                    parse("between.every", &between.every)?,
                );
                Ok(Some(Spine::Snapshots(snapshots.map_err(wrong)?)))
            }
            (None, None, Some(sql)) => Ok(Some(Spine::Query(sql.clone()))),
            _ => Err(wrong("give one of `at`, `between` and `spine`")),
        }
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
            at: None,
            between: None,
            spine: None,
            split: request.split.as_ref().map(Split::parts),
            split_by: request.split.as_ref().and_then(Split::by).map(texts),
            save: request.save.as_ref().map(|save| Save {
                name: save.name.to_string(),
                author: save.author.clone(),
            }),
            lint: request.lint,
            after: texts(&request.after),
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
            split: split(command.split, command.split_by)?,
            save: match command.save {
                None => None,
                Some(save) => Some(SaveAs {
                    name: parse("save.name", &save.name)?,
                    author: save.author,
                }),
            },
            lint: command.lint,
            after: parse_each("after", &command.after)?,
        })
    }
}

fn split(parts: Option<String>, by: Option<Vec<String>>) -> Result<Option<Split>, ConvertError> {
    let by = match &by {
        Some(columns) => Some(parse_each("split_by", columns)?),
        None => None,
    };
    match (parts, by) {
        (Some(parts), by) => Split::new(&parts, by)
            .map(Some)
            .map_err(|error| wrong(error).within("split")),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(wrong("`split_by` has no meaning without `split`")),
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
            lint: report.lint.clone(),
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
            lint: report.lint,
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
            split: Some(
                Split::new(
                    "train=0.9,test=0.1",
                    Some(vec!["k".parse().unwrap(), "j".parse().unwrap()]),
                )
                .unwrap(),
            ),
            save: Some(SaveAs {
                name: "delays_2013".parse().unwrap(),
                author: "ann".to_owned(),
            }),
            lint: true,
            after: vec![crate::tests::token()],
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
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"servise": "delay_model"}}"#), @r#"the descriptor's command is not what DoExchange takes, which is JSON like {"get_historical": {"service": "delay_model"}}: unknown field `servise`, expected one of `service`, `features`, `full_names`, `knowledge`, `boundary`, `timestamp_column`, `at`, `between`, `spine`, `split`, `split_by`, `save`, `lint`, `after` at line 1 column 29"#);
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"service": "s", "knowledge": "later"}}"#), @r#"the descriptor's command is not what DoExchange takes, which is JSON like {"get_historical": {"service": "delay_model"}}: unknown variant `later`, expected `event` or `available` at line 1 column 56"#);
        insta::assert_snapshot!(refusal(r#"{"get_historical": {}}"#), @"give `service` or `features`");
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"service": "s", "features": ["v"]}}"#), @"give `service` or `features`, not both");
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"features": ["v", "v:a:b"]}}"#), @"features[1]: `v:a:b` names no feature: the feature name `a:b` may only have letters, digits and `_`, and must not start with a digit");
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"service": "s", "save": {"name": "a-b"}}}"#), @"save.name: the dataset name `a-b` may only have letters, digits and `_`, and must not start with a digit");
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"service": "s", "split": "train=0.8,test=0.1"}}"#), @"split: the fractions of the split add up to 0.9; they must add up to 1");
        insta::assert_snapshot!(refusal(r#"{"get_historical": {"service": "s", "split_by": ["k"]}}"#), @"`split_by` has no meaning without `split`");
        insta::assert_snapshot!(refusal(r#"{"get_offline": {}}"#), @r#"the descriptor's command is not what DoExchange takes, which is JSON like {"get_historical": {"service": "delay_model"}}: unknown variant `get_offline`, expected `get_historical` at line 1 column 14"#);
    }

    #[test]
    fn a_ticket_names_a_dataset() {
        let read = |json: &str| match Ticket::read(json.as_bytes()) {
            Ok(Asked::Reproduce(name)) => Ok(name),
            Ok(Asked::GetHistorical(..)) => Err("something else".to_owned()),
            Err(error) => Err(error.message),
        };
        let ticket = Ticket::Reproduce(Reproduce {
            dataset: "delays_2013".to_owned(),
        });
        let json = serde_json::to_string(&ticket).unwrap();
        assert_eq!(read(&json), Ok("delays_2013".parse().unwrap()), "{json}");
        insta::assert_snapshot!(read("delays_2013").unwrap_err(), @r#"the ticket is not what DoGet takes, which is JSON like {"reproduce": {"dataset": "delays_2013"}} or {"get_historical": {"service": "delay_model", "at": "2013-01-01T00:00:00Z"}}: expected value at line 1 column 1"#);
        insta::assert_snapshot!(read(r#"{"reproduce": {"dataset": "a-b"}}"#).unwrap_err(), @r#"the ticket is not what DoGet takes, which is JSON like {"reproduce": {"dataset": "delays_2013"}} or {"get_historical": {"service": "delay_model", "at": "2013-01-01T00:00:00Z"}}: the dataset name `a-b` may only have letters, digits and `_`, and must not start with a digit"#);
    }

    #[test]
    fn a_ticket_says_which_entity_rows_are_made() {
        let read = |fields: &str| {
            let ticket = format!(r#"{{"get_historical": {{"service": "s"{fields}}}}}"#);
            match Ticket::read(ticket.as_bytes()) {
                Ok(Asked::Reproduce(name)) => name.to_string(),
                Ok(Asked::GetHistorical(_, Spine::Rows(_))) => "rows".to_owned(),
                Ok(Asked::GetHistorical(_, Spine::At(at))) => format!("at {at}"),
                Ok(Asked::GetHistorical(_, Spine::Snapshots(all))) => {
                    format!("{} to {} every {}", all.from(), all.to(), all.every())
                }
                Ok(Asked::GetHistorical(_, Spine::Query(sql))) => sql,
                Err(error) => {
                    let (_, problem) = error.message.split_once("Z\"}}: ").unwrap();
                    problem.to_owned()
                }
            }
        };
        let mut told = String::new();
        for fields in [
            r#", "at": "2013-01-01""#,
            r#", "between": {"from": "2013-01-01", "to": "2013-02-01", "every": "1d"}"#,
            r#", "spine": "SELECT 1""#,
            "",
            r#", "at": "2013-01-01", "spine": "SELECT 1""#,
            r#", "at": "yesterday""#,
            r#", "between": {"from": "2013-02-01", "to": "2013-01-01", "every": "1d"}"#,
            r#", "between": {"from": "2013-02-01", "to": "2013-01-01", "every": "0s"}"#,
            r#", "between": {"from": "2013-02-01", "to": "2013-01-01"}"#,
        ] {
            told.push_str(&read(fields));
            told.push('\n');
        }
        insta::assert_snapshot!(told, @r"
        at 2013-01-01T00:00:00Z
        2013-01-01T00:00:00Z to 2013-02-01T00:00:00Z every 1d
        SELECT 1
        give `at`, `between` or `spine`, or send entity rows with a DoExchange
        give one of `at`, `between` and `spine`
        at: `yesterday` is not a time; write it like 2013-01-01, 2013-01-01T06:00:00 (read as UTC) or 2013-01-01T06:00:00+01:00
        snapshots from 2013-02-01T00:00:00Z to 2013-01-01T00:00:00Z end before they begin; give the earlier moment first
        between.every: the duration `0s` is out of range; it must be at least one microsecond and at most 292,000 years
        missing field `every` at line 1 column 89
        ");
    }
}
