//! Between a [`Snapshot`] and the bytes of its stored object, which are a `vintner.v1.Snapshot` message.
//!
//! Encoding cannot fail and gives the same bytes for the same snapshot. Decoding checks everything that the rest of
//! the registry relies on, so damage is found where it is read and not where it hurts. Objects of every format that
//! was ever written can be read.
//!
//! The parts convert on their own, by `From` and `TryFrom`, for a service that gives them out.

use std::{collections::BTreeMap, fmt};

use prost::Message;
use vintner_core::{
    ByteSize, FeatureField, FeatureName, FeatureRef, FeatureType, ProjectName, RegistryVersion,
    Timestamp, Ttl, ViewId, ViewName,
    name::{Kind, Name},
};
use vintner_proto::{
    convert::{
        ConvertError, ConvertProblem, each, key_schema, name, required, ttl, value_of_type,
        view_version,
    },
    v1,
};

use crate::model::{
    About, Entity, FeatureService, Layout, Project, Refresh, Snapshot, Source, SourceColumn,
    SourceFormat, View, ViewInput, ViewRevision,
};

/// The format that is written now. A change that an older reader would misread takes the next number.
pub const FORMAT: u32 = 1;

/// The greatest registry version there can be: any that a signed number can count to, so that adding one never fails.
pub const GREATEST_VERSION: u64 = i64::MAX.unsigned_abs();

/// Why bytes are not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They are no message of this kind: cut off, overwritten, or of something else.
    #[error("the bytes are not a registry snapshot: {0}")]
    Bytes(prost::DecodeError),
    /// They are of a format that is not known yet.
    #[error(
        "the snapshot has format {found} and this version of Vintner reads up to format {FORMAT}; \
         use the version that wrote it, or a newer one"
    )]
    Format {
        /// The format.
        found: u32,
    },
    /// Something in them is not valid.
    #[error("the snapshot is not valid: {0}")]
    Content(ConvertError),
}

/// The bytes of a snapshot. The same snapshot always gives the same bytes.
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    v1::Snapshot::from(snapshot).encode_to_vec()
}

/// Reads the bytes of a snapshot.
///
/// # Errors
/// [`DecodeError`] says what is wrong and where.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, DecodeError> {
    let message = v1::Snapshot::decode(bytes).map_err(DecodeError::Bytes)?;
    if message.format > FORMAT {
        return Err(DecodeError::Format {
            found: message.format,
        });
    }
    Snapshot::try_from(message).map_err(DecodeError::Content)
}

impl From<&Snapshot> for v1::Snapshot {
    fn from(snapshot: &Snapshot) -> Self {
        let Snapshot {
            version,
            created_at,
            author,
            reason,
            projects,
        } = snapshot;
        Self {
            format: FORMAT,
            version: version.0,
            created_at: created_at.micros(),
            author: author.clone(),
            reason: reason.clone(),
            write_id: String::new(),
            projects: projects
                .iter()
                .map(|(name, project)| project_message(name, project))
                .collect(),
        }
    }
}

impl TryFrom<v1::Snapshot> for Snapshot {
    type Error = ConvertError;

    fn try_from(message: v1::Snapshot) -> Result<Self, ConvertError> {
        if message.format == 0 {
            return Err(ConvertError::at("format", ConvertProblem::Missing));
        }
        if message.version == 0 {
            return Err(ConvertError::at("version", ConvertProblem::Missing));
        }
        if message.version > GREATEST_VERSION {
            let problem = invalid(format!("{} is too great", message.version));
            return Err(ConvertError::at("version", problem));
        }
        Ok(Self {
            version: RegistryVersion(message.version),
            created_at: Timestamp::from_micros(message.created_at),
            author: message.author,
            reason: message.reason,
            projects: named(message.projects, "projects", |m| &m.name, project)?,
        })
    }
}

/// The message of a project.
pub fn project_message(name: &ProjectName, project: &Project) -> v1::Project {
    let Project {
        entities,
        sources,
        views,
        services,
        versions_used,
        retired,
    } = project;
    v1::Project {
        name: name.to_string(),
        entities: entities.values().map(Into::into).collect(),
        sources: sources.values().map(Into::into).collect(),
        views: views.values().map(Into::into).collect(),
        services: services.values().map(Into::into).collect(),
        versions_used: versions_used
            .iter()
            .map(|(view, version)| (view.to_string(), version.0))
            .collect(),
        retired: retired
            .iter()
            .map(|(id, layouts)| v1::RetiredVersion {
                id: Some(id.into()),
                layouts: layouts.iter().map(Into::into).collect(),
            })
            .collect(),
    }
}

/// Reads a project and its name.
///
/// # Errors
/// [`ConvertError`] says what is wrong and where.
pub fn project(message: v1::Project) -> Result<(ProjectName, Project), ConvertError> {
    let read_name = name(&message.name).map_err(|error| error.within("name"))?;
    let project = Project {
        entities: named(
            message.entities,
            "entities",
            |m| &m.name,
            |m| Entity::try_from(m).map(|entity| (entity.name.clone(), entity)),
        )?,
        sources: named(
            message.sources,
            "sources",
            |m| &m.name,
            |m| Source::try_from(m).map(|source| (source.name.clone(), source)),
        )?,
        views: named(
            message.views,
            "views",
            |m| &m.name,
            |m| View::try_from(m).map(|view| (view.name.clone(), view)),
        )?,
        services: named(
            message.services,
            "services",
            |m| &m.name,
            |m| FeatureService::try_from(m).map(|service| (service.name.clone(), service)),
        )?,
        versions_used: by_name(message.versions_used, "versions_used", view_version)?,
        retired: each(message.retired, "retired", |message| {
            let id: ViewId = required(message.id, "id")?;
            let layouts: Vec<_> = each(message.layouts, "layouts", Layout::try_from)?;
            Ok((id, layouts))
        })?,
    };
    for view in project.views.values() {
        let greatest = view.current().map(|revision| revision.id.version);
        if project.versions_used.get(&view.name).copied() < greatest {
            let place = format!("versions_used[{}]", view.name);
            return Err(ConvertError::at(
                place,
                invalid("is less than a version that the view has"),
            ));
        }
    }
    Ok((read_name, project))
}

impl From<&About> for v1::About {
    fn from(about: &About) -> Self {
        let About {
            description,
            owner,
            tags,
        } = about.clone();
        Self {
            description,
            owner,
            tags,
        }
    }
}

/// What is not said is empty.
fn about(message: Option<v1::About>) -> About {
    let v1::About {
        description,
        owner,
        tags,
    } = message.unwrap_or_default();
    About {
        description,
        owner,
        tags,
    }
}

impl From<&Entity> for v1::Entity {
    fn from(entity: &Entity) -> Self {
        let Entity {
            name,
            join_keys,
            about,
        } = entity;
        Self {
            name: name.to_string(),
            join_keys: join_keys.join_keys().iter().map(Into::into).collect(),
            about: Some(about.into()),
        }
    }
}

impl TryFrom<v1::Entity> for Entity {
    type Error = ConvertError;

    fn try_from(message: v1::Entity) -> Result<Self, ConvertError> {
        Ok(Self {
            name: name(&message.name).map_err(|error| error.within("name"))?,
            join_keys: key_schema(message.join_keys)?,
            about: about(message.about),
        })
    }
}

impl From<SourceFormat> for v1::SourceFormat {
    fn from(format: SourceFormat) -> Self {
        match format {
            SourceFormat::Parquet => Self::Parquet,
            SourceFormat::Csv => Self::Csv,
            SourceFormat::Json => Self::Json,
            SourceFormat::Delta => Self::Delta,
        }
    }
}

fn source_format(number: i32) -> Result<SourceFormat, ConvertError> {
    Ok(match v1::SourceFormat::try_from(number) {
        Ok(v1::SourceFormat::Parquet) => SourceFormat::Parquet,
        Ok(v1::SourceFormat::Csv) => SourceFormat::Csv,
        Ok(v1::SourceFormat::Json) => SourceFormat::Json,
        Ok(v1::SourceFormat::Delta) => SourceFormat::Delta,
        Ok(v1::SourceFormat::Unspecified) => return Err(ConvertProblem::Missing.into()),
        Err(_) => {
            let what = "source format";
            return Err(ConvertProblem::Enum { what, number }.into());
        }
    })
}

impl From<&Source> for v1::Source {
    fn from(source: &Source) -> Self {
        let Source {
            name,
            path,
            format,
            event_timestamp,
            created_timestamp,
            is_static,
            columns,
            about,
        } = source;
        let column = |(name, feature_type): &(String, FeatureType)| v1::SourceField {
            name: name.clone(),
            r#type: Some((*feature_type).into()),
        };
        Self {
            name: name.to_string(),
            path: path.clone(),
            format: v1::SourceFormat::from(*format).into(),
            event_timestamp: text(event_timestamp),
            created_timestamp: text(created_timestamp),
            is_static: *is_static,
            columns: columns.iter().map(column).collect(),
            about: Some(about.into()),
        }
    }
}

impl TryFrom<v1::Source> for Source {
    type Error = ConvertError;

    fn try_from(message: v1::Source) -> Result<Self, ConvertError> {
        Ok(Self {
            name: name(&message.name).map_err(|error| error.within("name"))?,
            path: message.path,
            format: source_format(message.format).map_err(|error| error.within("format"))?,
            event_timestamp: optional_name(message.event_timestamp, "event_timestamp")?,
            created_timestamp: optional_name(message.created_timestamp, "created_timestamp")?,
            is_static: message.is_static,
            columns: each(message.columns, "columns", |column| {
                Ok((column.name, required(column.r#type, "type")?))
            })?,
            about: about(message.about),
        })
    }
}

impl From<&View> for v1::View {
    fn from(view: &View) -> Self {
        let View { name, revisions } = view;
        Self {
            name: name.to_string(),
            revisions: revisions.values().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::View> for View {
    type Error = ConvertError;

    fn try_from(message: v1::View) -> Result<Self, ConvertError> {
        let view: ViewName = name(&message.name).map_err(|error| error.within("name"))?;
        let mut revisions = BTreeMap::new();
        for message in message.revisions {
            let place = format!("revisions[{}]", message.version);
            let revision = revision(&view, message).map_err(|error| error.within(&place))?;
            if let Some(twice) = revisions.insert(revision.id.version, revision) {
                let problem = invalid(format!("`{}` is there twice", twice.id));
                return Err(ConvertError::at(place, problem));
            }
        }
        if revisions.is_empty() {
            return Err(ConvertError::at("revisions", ConvertProblem::Missing));
        }
        Ok(Self {
            name: view,
            revisions,
        })
    }
}

/// The message of one version of a view. The view's name is not in it.
impl From<&ViewRevision> for v1::ViewRevision {
    fn from(revision: &ViewRevision) -> Self {
        use v1::view_revision as oneof;
        let ViewRevision {
            id,
            entities,
            join_keys,
            ttl,
            input,
            sources,
            event_timestamp,
            created_timestamp,
            features,
            definitions,
            relation,
            refresh,
            refresh_reason,
            lookback,
            lineage,
            layouts,
            offline,
            online,
            near_cache,
            about,
        } = revision;
        Self {
            version: id.version.0,
            entities: entities.iter().map(ToString::to_string).collect(),
            join_keys: join_keys.join_keys().iter().map(Into::into).collect(),
            ttl: ttl.map(Ttl::micros),
            input: Some(match input {
                ViewInput::Source(source) => oneof::Input::Source(source.to_string()),
                ViewInput::Query(query) => oneof::Input::Query(query.clone()),
            }),
            sources: sources.iter().map(ToString::to_string).collect(),
            event_timestamp: text(event_timestamp),
            created_timestamp: text(created_timestamp),
            features: features.iter().map(field_message).collect(),
            definitions: definitions
                .iter()
                .map(|(feature, definition)| (feature.to_string(), definition.clone()))
                .collect(),
            relation: relation.clone(),
            refresh: Some(match refresh {
                Refresh::RowLocal { source } => oneof::Refresh::RowLocal(source.to_string()),
                Refresh::Static { source } => oneof::Refresh::Static(source.to_string()),
                Refresh::Windowed => oneof::Refresh::Windowed(v1::Windowed {}),
            }),
            refresh_reason: refresh_reason.clone(),
            lookback: lookback.map(Ttl::micros),
            lineage: lineage
                .iter()
                .map(|(feature, columns)| v1::FeatureLineage {
                    feature: feature.to_string(),
                    columns: columns.iter().map(Into::into).collect(),
                })
                .collect(),
            layouts: layouts.iter().map(Into::into).collect(),
            offline: *offline,
            online: *online,
            near_cache: near_cache.map(ByteSize::bytes),
            about: Some(about.into()),
        }
    }
}

/// Reads one version of a view.
///
/// # Errors
/// [`ConvertError`] says what is wrong and where.
pub fn revision(view: &ViewName, message: v1::ViewRevision) -> Result<ViewRevision, ConvertError> {
    use v1::view_revision as oneof;
    let missing = |field| ConvertError::at(field, ConvertProblem::Missing);
    let duration = |micros: Option<u64>, field| {
        let duration = micros.map(ttl).transpose();
        duration.map_err(|error: ConvertError| error.within(field))
    };
    let source = |text: &str, field| name(text).map_err(|error| error.within(field));
    let revision = ViewRevision {
        id: ViewId {
            name: view.clone(),
            version: view_version(message.version).map_err(|error| error.within("version"))?,
        },
        entities: each(&message.entities, "entities", |text| name(text))?,
        join_keys: key_schema(message.join_keys)?,
        ttl: duration(message.ttl, "ttl")?,
        input: match message.input.ok_or_else(|| missing("input"))? {
            oneof::Input::Source(text) => ViewInput::Source(source(&text, "source")?),
            oneof::Input::Query(query) => ViewInput::Query(query),
        },
        sources: each(&message.sources, "sources", |text| name(text))?,
        event_timestamp: optional_name(message.event_timestamp, "event_timestamp")?,
        created_timestamp: optional_name(message.created_timestamp, "created_timestamp")?,
        features: each(message.features, "features", field)?,
        definitions: by_name(message.definitions, "definitions", Ok)?,
        relation: message.relation,
        refresh: match message.refresh.ok_or_else(|| missing("refresh"))? {
            oneof::Refresh::RowLocal(text) => Refresh::RowLocal {
                source: source(&text, "row_local")?,
            },
            oneof::Refresh::Static(text) => Refresh::Static {
                source: source(&text, "static")?,
            },
            oneof::Refresh::Windowed(v1::Windowed {}) => Refresh::Windowed,
        },
        refresh_reason: message.refresh_reason,
        lookback: duration(message.lookback, "lookback")?,
        lineage: named(
            message.lineage,
            "lineage",
            |m| &m.feature,
            |message| {
                let feature: FeatureName =
                    name(&message.feature).map_err(|error| error.within("feature"))?;
                let columns = each(message.columns, "columns", SourceColumn::try_from)?;
                Ok((feature, columns))
            },
        )?,
        layouts: each(message.layouts, "layouts", Layout::try_from)?,
        offline: message.offline,
        online: message.online,
        near_cache: message.near_cache.map(byte_size).transpose()?,
        about: about(message.about),
    };
    let mut names: Vec<_> = revision.features.iter().map(|f| &f.name).collect();
    names.sort();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let problem = invalid(format!("`{}` is there twice", twice[0]));
        return Err(ConvertError::at("features", problem));
    }
    if revision.layouts.last() != Some(&revision.layout()) {
        let problem = invalid("the last is not the layout of the features");
        return Err(ConvertError::at("layouts", problem));
    }
    Ok(revision)
}

fn byte_size(bytes: u64) -> Result<ByteSize, ConvertError> {
    let none = || ConvertError::at("near_cache", invalid("0 bytes are no size"));
    ByteSize::new(bytes).ok_or_else(none)
}

fn field_message(field: &FeatureField) -> v1::FeatureField {
    let FeatureField {
        name,
        feature_type,
        default,
        description,
    } = field;
    v1::FeatureField {
        name: name.to_string(),
        r#type: Some((*feature_type).into()),
        default: default.as_ref().map(Into::into),
        description: description.clone(),
    }
}

fn field(message: v1::FeatureField) -> Result<FeatureField, ConvertError> {
    let feature_type = required(message.r#type, "type")?;
    let default = message
        .default
        .map(|value| value_of_type(value, feature_type))
        .transpose()
        .map_err(|error| error.within("default"))?;
    Ok(FeatureField {
        name: name(&message.name).map_err(|error| error.within("name"))?,
        feature_type,
        default: default.flatten(),
        description: message.description,
    })
}

impl From<&SourceColumn> for v1::SourceColumn {
    fn from(column: &SourceColumn) -> Self {
        Self {
            source: column.source.to_string(),
            column: column.column.clone(),
        }
    }
}

impl TryFrom<v1::SourceColumn> for SourceColumn {
    type Error = ConvertError;

    fn try_from(message: v1::SourceColumn) -> Result<Self, ConvertError> {
        Ok(Self {
            source: name(&message.source).map_err(|error| error.within("source"))?,
            column: message.column,
        })
    }
}

impl From<&Layout> for v1::Layout {
    fn from(layout: &Layout) -> Self {
        let fields = layout.fields.iter();
        Self {
            fields: fields
                .map(|(name, feature_type)| v1::LayoutField {
                    name: name.to_string(),
                    r#type: Some((*feature_type).into()),
                })
                .collect(),
        }
    }
}

impl TryFrom<v1::Layout> for Layout {
    type Error = ConvertError;

    fn try_from(message: v1::Layout) -> Result<Self, ConvertError> {
        let fields = each(message.fields, "fields", |field| {
            let name = name(&field.name).map_err(|error| error.within("name"))?;
            Ok((name, required(field.r#type, "type")?))
        });
        Ok(Self { fields: fields? })
    }
}

impl From<&FeatureService> for v1::FeatureService {
    fn from(service: &FeatureService) -> Self {
        let FeatureService {
            name,
            features,
            about,
        } = service;
        Self {
            name: name.to_string(),
            features: features.iter().map(Into::into).collect(),
            about: Some(about.into()),
        }
    }
}

impl TryFrom<v1::FeatureService> for FeatureService {
    type Error = ConvertError;

    fn try_from(message: v1::FeatureService) -> Result<Self, ConvertError> {
        Ok(Self {
            name: name(&message.name).map_err(|error| error.within("name"))?,
            features: each(message.features, "features", FeatureRef::try_from)?,
            about: about(message.about),
        })
    }
}

fn invalid(problem: impl fmt::Display) -> ConvertProblem {
    ConvertProblem::Other(problem.to_string())
}

fn text<K: Kind>(name: &Option<Name<K>>) -> Option<String> {
    name.as_ref().map(ToString::to_string)
}

fn optional_name<K: Kind>(
    text: Option<String>,
    field: &str,
) -> Result<Option<Name<K>>, ConvertError> {
    let read = text.as_deref().map(name).transpose();
    read.map_err(|error| error.within(field))
}

/// Reads a list whose items have a name, which each has once. An error names the item and not its index.
fn named<M, K: Ord, T>(
    messages: Vec<M>,
    field: &str,
    name_of: impl Fn(&M) -> &String,
    convert: impl Fn(M) -> Result<(K, T), ConvertError>,
) -> Result<BTreeMap<K, T>, ConvertError> {
    let mut read = BTreeMap::new();
    for message in messages {
        let place = format!("{field}[{}]", name_of(&message));
        let (key, value) = convert(message).map_err(|error| error.within(&place))?;
        if read.insert(key, value).is_some() {
            return Err(ConvertError::at(place, invalid("is there twice")));
        }
    }
    Ok(read)
}

/// Reads a map from names.
fn by_name<K: Kind, M, T>(
    messages: BTreeMap<String, M>,
    field: &str,
    convert: impl Fn(M) -> Result<T, ConvertError>,
) -> Result<BTreeMap<Name<K>, T>, ConvertError> {
    let entries = messages.into_iter().map(|(text, message)| {
        let entry = name(&text).and_then(|name| Ok((name, convert(message)?)));
        entry.map_err(|error| error.within(format_args!("{field}[{text}]")))
    });
    entries.collect()
}

#[cfg(test)]
mod tests;
