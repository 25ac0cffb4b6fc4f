//! What goes into planning a view, and what comes out.

use std::collections::BTreeMap;

use vintner_core::{
    ByteSize, ColumnName, EntityName, FeatureField, FeatureName, KeySchema, SourceName, Ttl,
    ViewId, ViewName,
};
use vintner_registry::model::{
    About, Layout, Refresh, Source, SourceColumn, ViewInput, ViewRevision,
};

use crate::sources::{LeftOut, SourceSchema};

/// A feature view as its repo declares it, names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewDefinition {
    /// Its name.
    pub name: ViewName,
    /// Its entities.
    pub entities: Vec<EntityName>,
    /// The join keys of all its entities.
    pub join_keys: KeySchema,
    /// What its rows are made from.
    pub input: ViewInput,
    /// The output column that says when a row was true, where the view names it.
    pub event_timestamp: Option<ColumnName>,
    /// The output column that says when a row became known, where the view names it.
    pub created_timestamp: Option<ColumnName>,
    /// How long a value counts.
    pub ttl: Option<Ttl>,
    /// How far before its last end a windowed run begins.
    pub lookback: Option<Ttl>,
    /// The features that must come out of the query, with these types. Others may come out too.
    pub contract: Vec<FeatureField>,
    /// Whether the offline store holds it.
    pub offline: bool,
    /// Whether the online store holds it.
    pub online: bool,
    /// How many bytes of its online rows a service keeps in memory.
    pub near_cache: Option<ByteSize>,
    /// For people.
    pub about: About,
}

/// A declared source and what is known of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSource {
    /// The source, with its columns.
    pub source: Source,
    /// The columns that queries cannot use.
    pub left_out: Vec<LeftOut>,
    /// Whether the columns are known. A view over a source that could not be read is not planned.
    pub is_read: bool,
}

/// The declared sources by name.
pub type Catalog = BTreeMap<SourceName, KnownSource>;

impl KnownSource {
    /// A source whose columns were read.
    pub fn read(source: Source, schema: SourceSchema) -> Self {
        Self {
            source: Source {
                columns: schema.columns,
                ..source
            },
            left_out: schema.left_out,
            is_read: true,
        }
    }

    /// A source that could not be read.
    pub fn unread(source: Source) -> Self {
        Self {
            source,
            left_out: Vec::new(),
            is_read: false,
        }
    }
}

/// A planned view: all of [`ViewRevision`] but its version and the layouts of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedView {
    pub(super) definition: ViewDefinition,
    pub(super) sources: Vec<SourceName>,
    pub(super) event_timestamp: Option<ColumnName>,
    pub(super) created_timestamp: Option<ColumnName>,
    /// Its features in the order of the query.
    pub features: Vec<FeatureField>,
    pub(super) definitions: BTreeMap<FeatureName, String>,
    pub(super) relation: String,
    /// What an incremental run reads.
    pub refresh: Refresh,
    /// Why, for people.
    pub refresh_reason: String,
    pub(super) lineage: BTreeMap<FeatureName, Vec<SourceColumn>>,
}

impl PlannedView {
    /// The view as a version of it, with the layouts that its online rows may have, the present one last.
    pub fn revision(self, id: ViewId, layouts: Vec<Layout>) -> ViewRevision {
        let definition = self.definition;
        ViewRevision {
            id,
            entities: definition.entities,
            join_keys: definition.join_keys,
            ttl: definition.ttl,
            input: definition.input,
            sources: self.sources,
            event_timestamp: self.event_timestamp,
            created_timestamp: self.created_timestamp,
            features: self.features,
            definitions: self.definitions,
            relation: self.relation,
            refresh: self.refresh,
            refresh_reason: self.refresh_reason,
            lookback: definition.lookback,
            lineage: self.lineage,
            layouts,
            offline: definition.offline,
            online: definition.online,
            near_cache: definition.near_cache,
            about: definition.about,
        }
    }
}
