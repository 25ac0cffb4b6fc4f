//! The manifest of a saved dataset: JSON, documented in `docs/cli.md`. Fields are added, never renamed or removed.

use serde::{Deserialize, Serialize};
use vintner_core::{
    Boundary, DatasetName, FeatureRef, Knowledge, RegistryVersion, ServiceName, Timestamp, ViewId,
};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use super::ContentHash;
use crate::historical::Split;

/// How a training dataset was made, by whom and when: all that is needed to make it again, and to see that it is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name.
    #[serde(with = "text")]
    pub name: DatasetName,
    /// When it was saved.
    #[serde(with = "text")]
    pub created_at: Timestamp,
    /// Who saved it.
    pub author: String,
    /// The registry version that it was made with.
    #[serde(with = "number")]
    pub registry_version: RegistryVersion,
    /// Which features were asked for.
    #[serde(with = "Selection")]
    pub selection: FeatureRequest,
    /// How columns were named.
    #[serde(with = "Names")]
    pub names: NameStyle,
    /// Whether feature rows had to be known.
    #[serde(with = "KnowledgeWord")]
    pub knowledge: Knowledge,
    /// Whether feature rows at exactly the entity row's time counted.
    #[serde(with = "BoundaryWord")]
    pub boundary: Boundary,
    /// The entity rows' time column, if it was named.
    pub timestamp_column: Option<String>,
    /// Into which parts the rows were split. Manifests of before there were splits do not say.
    #[serde(default)]
    pub split: Option<Split>,
    /// The tables that were read, one per view version.
    pub tables: Vec<TableRead>,
    /// The entity rows.
    pub entity_rows: KeptRows,
    /// The result.
    pub result: ResultRows,
}

/// One table as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRead {
    /// The view version.
    #[serde(with = "text")]
    pub view: ViewId,
    /// The version of its Delta table; none when there was no table yet.
    pub delta_version: Option<u64>,
    /// What tells the Delta table from another one at the same place.
    pub delta_id: Option<String>,
}

/// Entity rows that are kept beside the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRows {
    /// The file, in the dataset's folder: an Arrow IPC stream.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// How many rows there are.
    pub rows: u64,
    /// Their hash.
    #[serde(with = "text")]
    pub hash: ContentHash,
}

/// The rows of the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRows {
    /// How many there are.
    pub rows: u64,
    /// Their hash.
    #[serde(with = "text")]
    pub hash: ContentHash,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FeatureRequest", rename_all = "snake_case")]
enum Selection {
    Service(#[serde(with = "text")] ServiceName),
    Features(#[serde(with = "texts")] Vec<FeatureRef>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NameStyle", rename_all = "snake_case")]
enum Names {
    Short,
    Full,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Knowledge", rename_all = "snake_case")]
enum KnowledgeWord {
    Event,
    Available,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Boundary", rename_all = "snake_case")]
enum BoundaryWord {
    At,
    Before,
}

/// A value as its text.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Values as their texts.
mod texts {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        values: &[impl Display],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let values = texts
            .iter()
            .map(|text| text.parse().map_err(D::Error::custom));
        values.collect()
    }
}

mod number {
    use serde::{Deserialize, Deserializer, Serializer};
    use vintner_core::RegistryVersion;

    pub(super) fn serialize<S: Serializer>(
        version: &RegistryVersion,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(version.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<RegistryVersion, D::Error> {
        u64::deserialize(deserializer).map(RegistryVersion)
    }
}
