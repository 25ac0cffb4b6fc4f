//! The objects that a repo declares, as written: one type and one reading function for each kind.
//!
//! The types describe themselves to [`crate::schema`]; a test holds their fields and the reading functions together.
//!
//! Not here: whether what an object names exists ([`crate::checks`]).

mod about;
mod default;
mod entity;
mod service;
mod source;
mod view;

use std::fmt;

pub use about::About;
pub use entity::EntityDef;
pub use service::FeatureServiceDef;
pub use source::{SourceDef, SourceFormat, UnknownFormat};
pub use view::{FeatureViewDef, ViewInput};

use crate::decode::{Field, optional};

/// What kinds of objects there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An entity.
    Entity,
    /// A data source.
    Source,
    /// A feature view.
    FeatureView,
    /// A feature service.
    FeatureService,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::Entity,
        Self::Source,
        Self::FeatureView,
        Self::FeatureService,
    ];

    /// As `kind` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Source => "source",
            Self::FeatureView => "feature_view",
            Self::FeatureService => "feature_service",
        }
    }

    /// As messages say it.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Source => "source",
            Self::FeatureView => "feature view",
            Self::FeatureService => "feature service",
        }
    }

    /// As messages say it of any one.
    pub(crate) const fn any(self) -> &'static str {
        match self {
            Self::Entity => "an entity",
            Self::Source => "a source",
            Self::FeatureView => "a feature view",
            Self::FeatureService => "a feature service",
        }
    }

    /// The fields that an object of this kind may have.
    pub(crate) const fn fields(self) -> &'static [Field] {
        match self {
            Self::Entity => entity::FIELDS,
            Self::Source => source::FIELDS,
            Self::FeatureView => view::FIELDS,
            Self::FeatureService => service::FIELDS,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.noun())
    }
}

const KIND: Field = optional("kind", "entity");
const DESCRIPTION: Field = optional("description", "what it is");
const OWNER: Field = optional("owner", "data-platform");
const TAGS: Field = optional("tags", "{tier: gold}");

pub(crate) use entity::read as read_entity;
pub(crate) use service::read as read_service;
pub(crate) use source::read as read_source;
pub(crate) use view::read as read_view;
