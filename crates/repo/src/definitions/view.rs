//! Feature views.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use vintner_core::{
    ByteSize, ColumnName, EntityName, FeatureField, FeatureType, ScalarType, SourceName, Ttl,
    ViewName,
};

use super::{About, DESCRIPTION, KIND, OWNER, TAGS, about, default};
use crate::{
    code,
    decode::{Field, Given, Object, Reader, optional, required},
    diagnostic::Diagnostic,
    place::Span,
    schema,
};

/// Features of one or more entities, and how they are made from sources.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "feature_view", deny_unknown_fields)]
pub struct FeatureViewDef {
    /// Its name.
    #[schemars(with = "schema::ObjectName")]
    pub name: ViewName,
    /// The entities that its features describe. Their join keys are columns of the query.
    #[schemars(with = "Vec<schema::ObjectName>", length(min = 1))]
    pub entities: Vec<EntityName>,
    /// How long a value counts after its event time. Without it, for ever.
    #[schemars(default, with = "schema::Duration")]
    pub ttl: Option<Ttl>,
    /// What its rows are made from.
    #[schemars(flatten, with = "schema::ViewInput")]
    pub input: ViewInput,
    /// The output column that says when a row was true. Without it, `event_timestamp`, or the source's column.
    #[schemars(default, with = "schema::ColumnName")]
    pub event_timestamp: Option<ColumnName>,
    /// The output column that says when a row became known. Without it, `created_timestamp`, or the source's column.
    #[schemars(default, with = "schema::ColumnName")]
    pub created_timestamp: Option<ColumnName>,
    /// A contract: these features must come out of the query with these types. Others may come out too.
    #[schemars(default, with = "BTreeMap<schema::ColumnName, schema::Feature>")]
    pub features: Vec<FeatureField>,
    /// How far before the end of the last run an incremental run of an aggregating query begins.
    #[schemars(default, with = "schema::Duration")]
    pub lookback: Option<Ttl>,
    /// Whether the offline store holds it.
    #[schemars(default = "yes")]
    pub offline: bool,
    /// Whether the online store holds it.
    #[schemars(default = "yes")]
    pub online: bool,
    /// How many bytes of its online rows a service keeps in memory, in front of Redis. Without it, none.
    #[schemars(default, with = "schema::Size")]
    pub near_cache: Option<ByteSize>,
    /// For people.
    #[schemars(flatten)]
    pub about: About,
}

/// What a view's rows are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewInput {
    /// All columns of one source.
    Source(SourceName),
    /// A query over sources, as written.
    Query(String),
}

impl FeatureViewDef {
    /// The source that the view is made from, when it has no query.
    pub fn source(&self) -> Option<&SourceName> {
        match &self.input {
            ViewInput::Source(source) => Some(source),
            ViewInput::Query(_) => None,
        }
    }

    /// The view's query, when it has one.
    pub fn query(&self) -> Option<&str> {
        match &self.input {
            ViewInput::Source(_) => None,
            ViewInput::Query(query) => Some(query),
        }
    }

    /// The contract for a feature, when there is one.
    pub fn feature(&self, name: &str) -> Option<&FeatureField> {
        self.features
            .iter()
            .find(|feature| feature.name.as_str() == name)
    }
}

const fn yes() -> bool {
    true
}

pub(super) const FIELDS: &[Field] = &[
    KIND,
    required("name", "airport_weather"),
    required("entities", "[airport]"),
    optional("ttl", "6h"),
    optional("source", "weather"),
    optional("query", "SELECT origin, observed_at, temp FROM weather"),
    optional("event_timestamp", "observed_at"),
    optional("created_timestamp", "loaded_at"),
    optional("features", "{temp: {type: float64}}"),
    optional("lookback", "7d"),
    optional("offline", "true"),
    optional("online", "true"),
    optional("near_cache", "64MiB"),
    DESCRIPTION,
    OWNER,
    TAGS,
];

pub(crate) const FEATURE_FIELDS: &[Field] = &[
    required("type", "float64"),
    DESCRIPTION,
    optional("default", "0"),
];

/// Reads a feature view; what cannot be read is reported and left out. `at` is where it says its name.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    name: ViewName,
    at: Span,
) -> FeatureViewDef {
    let entities = object
        .get("entities")
        .and_then(|given| reader.list(given, "entities", "airport"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|given| reader.name(given))
        .collect();
    let ttl = object.get("ttl").and_then(|given| reader.duration(given));
    let input = input(reader, object, at);
    let event_timestamp = object
        .get("event_timestamp")
        .and_then(|given| reader.name(given));
    let created_timestamp = object
        .get("created_timestamp")
        .and_then(|given| reader.name(given));
    let features = object
        .get("features")
        .and_then(|given| reader.mapping(given, "{type: float64}"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(key, text, value)| {
            let name = reader.name_of(text, key.span);
            let feature = feature(reader, value)?;
            Some(FeatureField {
                name: name?,
                ..feature
            })
        })
        .collect();
    let lookback = object
        .get("lookback")
        .and_then(|given| reader.duration(given));
    let flag = |reader: &mut Reader<'_>, field| {
        let given = object.get(field).and_then(|given| reader.boolean(given));
        given.unwrap_or(true)
    };
    let (offline, online) = (flag(reader, "offline"), flag(reader, "online"));
    let near_cache = object
        .get("near_cache")
        .and_then(|given| reader.byte_size(given));
    let about = about::read(reader, object);
    FeatureViewDef {
        name,
        entities,
        ttl,
        input,
        event_timestamp,
        created_timestamp,
        features,
        lookback,
        offline,
        online,
        near_cache,
        about,
    }
}

fn input(reader: &mut Reader<'_>, object: &Object<'_>, at: Span) -> ViewInput {
    let (source, query) = (object.get("source"), object.get("query"));
    let read_source = source.and_then(|given| reader.name(given));
    let read_query = query.and_then(|given| reader.words(given));
    match (source, query) {
        (Some(source), Some(query)) => {
            let both = Diagnostic::error(
                code::SOURCE_OR_QUERY,
                reader.place(source.node.span),
                "a feature view has both a `source` and a `query`",
            )
            .label("the source")
            .also(reader.place(reader.headline(query.node.span)), "the query")
            .help("remove `source`; the query says itself which sources it reads");
            reader.report(both);
        }
        (None, None) => {
            let neither = Diagnostic::error(
                code::SOURCE_OR_QUERY,
                reader.place(at),
                "a feature view has neither a `source` nor a `query`",
            )
            .label("needs one of them")
            .help("add `source: NAME` to take all columns of a source, or `query: SELECT …`");
            reader.report(neither);
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    match (read_source, read_query) {
        (Some(source), _) => ViewInput::Source(source),
        // Without either there is an error, and so no repo that the empty query could be seen in.
        (None, query) => ViewInput::Query(query.unwrap_or_default().to_owned()),
    }
}

/// One entry of the contract. Its name is a placeholder.
fn feature(reader: &mut Reader<'_>, given: Given<'_>) -> Option<FeatureField> {
    let object = reader.object(given, "a feature", FEATURE_FIELDS)?;
    let names: Vec<String> = ScalarType::ALL
        .into_iter()
        .flat_map(|scalar| {
            [
                FeatureType::Scalar(scalar).to_string(),
                FeatureType::List(scalar).to_string(),
            ]
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let feature_type: Option<FeatureType> = object
        .get("type")
        .and_then(|given| reader.one_of(given, code::BAD_TYPE, &names));
    let description = object
        .get("description")
        .and_then(|given| reader.text(given));
    let feature_type = feature_type?;
    let default = object
        .get("default")
        .and_then(|given| default::read(reader, given, feature_type));
    Some(FeatureField {
        name: "feature".parse().ok()?,
        feature_type,
        default,
        description: description.unwrap_or_default().trim().to_owned(),
    })
}
