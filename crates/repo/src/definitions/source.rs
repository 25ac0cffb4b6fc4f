//! Data sources.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use vintner_core::{ColumnName, SourceName};

use super::{About, DESCRIPTION, KIND, OWNER, TAGS, about};
use crate::{
    code,
    decode::{Field, Given, Object, Reader, optional, required},
    diagnostic::Diagnostic,
    place::Span,
    schema,
};

/// Where features come from: files of one format. In queries it is the table of its name.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "source", deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    {"required": ["event_timestamp"]},
    {"required": ["static"], "properties": {"static": {"const": true}}},
]))]
pub struct SourceDef {
    /// Its name, which is its table's name in queries.
    #[schemars(with = "schema::ObjectName")]
    pub name: SourceName,
    /// A file, a folder, a glob or a URL, relative to vintner.yaml. ${VAR} and ${VAR:-default} are expanded.
    #[schemars(length(min = 1))]
    pub path: String,
    /// The format of the files. Without it, the path's extension says it.
    #[schemars(default = "by_extension")]
    pub format: SourceFormat,
    /// The column that says when a row was true. Required unless the source is static.
    #[schemars(default, with = "schema::ColumnName")]
    pub event_timestamp: Option<ColumnName>,
    /// The column that says when a row became known. Without it, the time of the run that reads the row is recorded.
    #[schemars(default, with = "schema::ColumnName")]
    pub created_timestamp: Option<ColumnName>,
    /// Whether the rows have no time: they have always been true.
    #[schemars(default, rename = "static")]
    pub is_static: bool,
    /// For people.
    #[schemars(flatten)]
    pub about: About,
}

/// The format of a source's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(rename = "format", rename_all = "lowercase")]
pub enum SourceFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object per line.
    Json,
    /// A Delta Lake table.
    Delta,
}

/// A text that is no format of sources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a format of sources; the formats are parquet, csv, json and delta")]
pub struct UnknownFormat(pub String);

impl SourceFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Parquet, Self::Csv, Self::Json, Self::Delta];

    /// The name in YAML and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Delta => "delta",
        }
    }

    /// What the extension of a path says: `data/*.csv` and `data/weather.parquet/` say it, `data/weather` does not.
    pub fn of_path(path: &str) -> Option<Self> {
        let last = path.trim_end_matches('/').rsplit(['/', '\\']).next()?;
        let (_, extension) = last.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "json" | "jsonl" | "ndjson" => Some(Self::Json),
            _ => None,
        }
    }
}

impl fmt::Display for SourceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SourceFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// Only makes the field optional in the schema: no one format is the default.
const fn by_extension() -> SourceFormat {
    SourceFormat::Parquet
}

pub(super) const FIELDS: &[Field] = &[
    KIND,
    required("name", "weather"),
    required("path", "data/weather.parquet"),
    optional("format", "parquet"),
    optional("event_timestamp", "observed_at"),
    optional("created_timestamp", "loaded_at"),
    optional("static", "true"),
    DESCRIPTION,
    OWNER,
    TAGS,
];

/// Reads a source; what cannot be read is reported and left out. `at` is where it says its name.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    name: SourceName,
    at: Span,
) -> SourceDef {
    let path = object.get("path").and_then(|given| reader.expanded(given));
    let format = match object.get("format") {
        Some(given) => {
            let names = SourceFormat::ALL.map(SourceFormat::name);
            reader.one_of(given, code::BAD_FORMAT, &names)
        }
        None => object
            .get("path")
            .zip(path.as_deref())
            .and_then(|(given, path)| format_of_path(reader, given, path)),
    };
    let is_static = match object.get("static") {
        None => Some(false),
        Some(given) => reader.boolean(given),
    };
    for field in ["event_timestamp", "created_timestamp"] {
        if let Some(given) = object.get(field).filter(|_| is_static == Some(true)) {
            static_with_time(reader, given);
        }
    }
    // When `static` is not to be read, nobody knows whether the column is needed.
    if object.get("event_timestamp").is_none() && is_static == Some(false) {
        no_event_timestamp(reader, at);
    }
    let event_timestamp = object
        .get("event_timestamp")
        .and_then(|given| reader.name(given));
    let created_timestamp = object
        .get("created_timestamp")
        .and_then(|given| reader.name(given));
    let about = about::read(reader, object);
    SourceDef {
        name,
        path: path.unwrap_or_default(),
        // Without a format there is an error, and so no repo that this one could be seen in.
        format: format.unwrap_or(SourceFormat::Parquet),
        event_timestamp,
        created_timestamp,
        is_static: is_static.unwrap_or(false),
        about,
    }
}

fn format_of_path(reader: &mut Reader<'_>, given: Given<'_>, path: &str) -> Option<SourceFormat> {
    let format = SourceFormat::of_path(path);
    if format.is_none() {
        let place = reader.place(given.node.span);
        reader.report(
            Diagnostic::error(
                code::BAD_FORMAT,
                place,
                "the path does not say which format its files have",
            )
            .label("no known extension")
            .help("add `format: parquet`, `csv`, `json` or `delta`"),
        );
    }
    format
}

fn no_event_timestamp(reader: &mut Reader<'_>, at: Span) {
    let place = reader.place(at);
    reader.report(
        Diagnostic::error(
            code::MISSING_FIELD,
            place,
            "a source has no `event_timestamp`",
        )
        .label("needs `event_timestamp`")
        .help(
            "name the column that says when a row was true; \
             or add `static: true` when the rows have always been true",
        ),
    );
}

fn static_with_time(reader: &mut Reader<'_>, given: Given<'_>) {
    let place = reader.place(given.node.span);
    reader.report(
        Diagnostic::error(
            code::STATIC_WITH_TIME,
            place,
            format!("a static source has the time column {}", given.subject),
        )
        .label("has a time")
        .help(format!(
            "remove {} when the rows have always been true; else remove `static: true`",
            given.subject
        )),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_says_the_format() {
        for (path, want) in [
            ("data/a.parquet", Some(SourceFormat::Parquet)),
            ("data/a.PARQUET/", Some(SourceFormat::Parquet)),
            ("s3://bucket/x/*.csv", Some(SourceFormat::Csv)),
            ("a.ndjson", Some(SourceFormat::Json)),
            ("data/a", None),
            ("data.csv/a", None),
            ("data/*", None),
            ("data/v1.2", None),
            ("", None),
        ] {
            assert_eq!(SourceFormat::of_path(path), want, "{path}");
        }
    }
}
