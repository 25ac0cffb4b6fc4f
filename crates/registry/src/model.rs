//! What is applied: a registry version as plain data.
//!
//! A [`Snapshot`] is one whole version of the registry and never changes. Everything in it is resolved: a view's
//! types, join keys, refresh and lineage are facts here, worked out by the planner before `apply`.
//!
//! Not here: how a snapshot is stored ([`crate::store`]) and how the next one comes about ([`crate::plan`]).

use std::{collections::BTreeMap, fmt};

use vintner_core::{
    ByteSize, ColumnName, EntityName, FeatureField, FeatureName, FeatureRef, FeatureType, JoinKey,
    KeySchema, ProjectName, RegistryVersion, ServiceName, SourceName, Timestamp, Ttl, ViewId,
    ViewName, ViewVersion,
};

/// One version of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which one.
    pub version: RegistryVersion,
    /// When it was written.
    pub created_at: Timestamp,
    /// Who wrote it: a user's name, for people.
    pub author: String,
    /// What made it, for people: `apply`, `rollback to 3`.
    pub reason: String,
    /// The projects.
    pub projects: BTreeMap<ProjectName, Project>,
}

/// What one project declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// Entities by name.
    pub entities: BTreeMap<EntityName, Entity>,
    /// Sources by name.
    pub sources: BTreeMap<SourceName, Source>,
    /// Feature views by name.
    pub views: BTreeMap<ViewName, View>,
    /// Feature services by name.
    pub services: BTreeMap<ServiceName, FeatureService>,
    /// The greatest version each view name has ever had, kept when a view is deleted and when the registry is rolled
    /// back: a version that has had data is never used for other data.
    pub versions_used: BTreeMap<ViewName, ViewVersion>,
    /// The layouts of view versions that are no longer there, whose stored rows may still be: when a rollback brings
    /// such a version back, its rows can be read, and its table is known to have those columns.
    pub retired: BTreeMap<ViewId, Vec<Layout>>,
}

/// What every object has for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What it is.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// Anything else.
    pub tags: BTreeMap<String, String>,
}

/// A thing that features describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Its name.
    pub name: EntityName,
    /// Its join keys, in the order of their names.
    pub join_keys: KeySchema,
    /// For people.
    pub about: About,
}

/// The format of a source's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Where features come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, which is its table's name in queries.
    pub name: SourceName,
    /// A file, a folder, a glob or a URL, as the repo writes it; relative to `vintner.yaml`.
    pub path: String,
    /// The format of the files.
    pub format: SourceFormat,
    /// The column that says when a row was true. None only for a static source.
    pub event_timestamp: Option<ColumnName>,
    /// The column that says when a row became known.
    pub created_timestamp: Option<ColumnName>,
    /// Whether the rows have no time: they have always been true, and a view that joins them stays row-local.
    pub is_static: bool,
    /// The columns at the time of `apply`, in the source's order, by their names there and the types they are read
    /// as. Columns of types that no feature can have are left out.
    pub columns: Vec<(String, FeatureType)>,
    /// For people.
    pub about: About,
}

/// A feature view: its versions, of which the greatest is the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: ViewName,
    /// Every version that has not been retired, at least one.
    pub revisions: BTreeMap<ViewVersion, ViewRevision>,
}

impl View {
    /// The version that a reference without one means.
    pub fn current(&self) -> Option<&ViewRevision> {
        self.revisions.values().next_back()
    }
}

/// What a view's rows are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewInput {
    /// All columns of one source.
    Source(SourceName),
    /// A query over sources.
    Query(String),
}

/// What an incremental run of a view reads. Decided by the planner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Every output row comes from one row of `source`, so only what is new in that source is read, and appended.
    RowLocal {
        /// The source whose cursor is followed.
        source: SourceName,
    },
    /// The source has no time: the table is replaced whenever its data has changed.
    Static {
        /// The source.
        source: SourceName,
    },
    /// Rows of the output depend on many rows of the input, so a window of event time is recomputed and replaced.
    Windowed,
}

/// One column of one source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceColumn {
    /// The source.
    pub source: SourceName,
    /// The column, by its name in the source.
    pub column: String,
}

/// `source.column`.
impl fmt::Display for SourceColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.source, self.column)
    }
}

/// One version of a feature view, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewRevision {
    /// The view and its version.
    pub id: ViewId,
    /// Its entities, as declared.
    pub entities: Vec<EntityName>,
    /// The join keys of all its entities.
    pub join_keys: KeySchema,
    /// How long a value counts.
    pub ttl: Option<Ttl>,
    /// What its rows are made from.
    pub input: ViewInput,
    /// The sources that the input reads.
    pub sources: Vec<SourceName>,
    /// The output column that says when a row was true. None only when `refresh` is static.
    pub event_timestamp: Option<ColumnName>,
    /// The output column that says when a row became known; without it, the run's own time is recorded.
    pub created_timestamp: Option<ColumnName>,
    /// Its features in the order of the query.
    pub features: Vec<FeatureField>,
    /// How each feature is computed, in one canonical form: what decides whether its meaning has changed.
    pub definitions: BTreeMap<FeatureName, String>,
    /// How the rows are made (filters, joins, grouping), in one canonical form.
    pub relation: String,
    /// What an incremental run reads.
    pub refresh: Refresh,
    /// Why, for people.
    pub refresh_reason: String,
    /// How far before its last end a windowed run begins.
    pub lookback: Option<Ttl>,
    /// Which source columns each feature comes from, its filters and keys left aside.
    pub lineage: BTreeMap<FeatureName, Vec<SourceColumn>>,
    /// Every layout that online rows of this version may have been written with; the last is the present one.
    pub layouts: Vec<Layout>,
    /// Whether the offline store holds it.
    pub offline: bool,
    /// Whether the online store holds it.
    pub online: bool,
    /// How many bytes of its online rows a service keeps in memory; none: it keeps none.
    pub near_cache: Option<ByteSize>,
    /// For people.
    pub about: About,
}

impl ViewRevision {
    /// The join key columns in encoding order, then nothing else.
    pub fn keys(&self) -> &[JoinKey] {
        self.join_keys.join_keys()
    }

    /// The feature of that name.
    pub fn feature(&self, name: &FeatureName) -> Option<&FeatureField> {
        self.features.iter().find(|feature| feature.name == *name)
    }

    /// The layout that online rows are written with now.
    pub fn layout(&self) -> Layout {
        Layout::of(&self.features)
    }
}

/// The columns of an online row: what a schema fingerprint stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The features in the order of the row.
    pub fields: Vec<(FeatureName, FeatureType)>,
}

impl Layout {
    /// The layout of these features.
    pub fn of(features: &[FeatureField]) -> Self {
        Self {
            fields: features
                .iter()
                .map(|f| (f.name.clone(), f.feature_type))
                .collect(),
        }
    }

    /// The first four bytes, read as little-endian, of the BLAKE3 hash of `name:type\n` for each field in order.
    pub fn fingerprint(&self) -> u32 {
        let mut hasher = blake3::Hasher::new();
        for (name, feature_type) in &self.fields {
            hasher.update(format!("{name}:{feature_type}\n").as_bytes());
        }
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

/// A named, ordered list of features: what a model is trained on and served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureService {
    /// Its name.
    pub name: ServiceName,
    /// Its features, in the order they are given on both paths.
    pub features: Vec<FeatureRef>,
    /// For people.
    pub about: About,
}

impl Snapshot {
    /// The registry before the first `apply`.
    pub fn empty() -> Self {
        Self {
            version: RegistryVersion::EMPTY,
            created_at: Timestamp::from_micros(0),
            author: String::new(),
            reason: String::new(),
            projects: BTreeMap::new(),
        }
    }
}
