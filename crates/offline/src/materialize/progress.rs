//! What a table's rows were made from: recorded in the commit that writes them, read by the next run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vintner_core::{SourceName, Timestamp};
use vintner_registry::model::ViewRevision;

use super::request::EventWindow;
use crate::sources::{DeltaFile, SourceFile, SourceState};

/// The form of [`Progress`]. A record of a later form is not understood, and everything is recomputed.
const FORMAT: u32 = 1;

/// What has been read for a view's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    format: u32,
    /// The columns that the times were taken from.
    times: [Option<String>; 2],
    /// The features that all rows were computed with. The table may have more columns: those of rows that were pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features: Option<Vec<String>>,
    /// What has been read of the followed source: all rows of it are in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<SourceState>,
    /// What the other sources held when all of the table was last up to date with them, as hashes.
    #[serde(default)]
    pub(super) others: BTreeMap<String, String>,
    /// Windows that were written from files that are not in the cursor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) windows: Vec<WindowRead>,
    /// The greatest event time ever written.
    #[serde(
        with = "optional_micros",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) last_event: Option<Timestamp>,
    /// The event time that a view with windows was computed up to.
    #[serde(
        with = "optional_micros",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) end: Option<Timestamp>,
    /// Whether there were rows at or after `end`.
    #[serde(default)]
    pub(super) held_back: bool,
}

/// A window of event time that was written from parts that the cursor does not have: a run that reads those parts
/// leaves that window's rows out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WindowRead {
    #[serde(flatten)]
    pub(super) window: EventWindow,
    pub(super) parts: Vec<SourcePart>,
}

/// One file of the followed source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SourcePart {
    /// A file of a folder.
    File(SourceFile),
    /// A file that was added to a Delta table.
    Delta {
        /// Its path below the table's folder.
        path: String,
        /// A version of the table that has it.
        version: u64,
    },
}

impl SourcePart {
    /// Whether both are the same rows. A file of a Delta table is never written again.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Delta { path: a, .. }, Self::Delta { path: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl From<SourceFile> for SourcePart {
    fn from(file: SourceFile) -> Self {
        Self::File(file)
    }
}

impl From<DeltaFile> for SourcePart {
    fn from(DeltaFile { path, version }: DeltaFile) -> Self {
        Self::Delta { path, version }
    }
}

impl Progress {
    /// Nothing read yet.
    pub(super) fn none(view: &ViewRevision) -> Self {
        Self {
            format: FORMAT,
            times: times(view),
            features: Some(view.features.iter().map(|f| f.name.to_string()).collect()),
            cursor: None,
            others: BTreeMap::new(),
            windows: Vec::new(),
            last_event: None,
            end: None,
            held_back: false,
        }
    }

    /// The record in a commit; none when it is not one that this version understands.
    pub(super) fn read(record: serde_json::Value) -> Option<Self> {
        let progress: Self = serde_json::from_value(record).ok()?;
        (progress.format == FORMAT).then_some(progress)
    }

    /// Whether the times were taken from the columns that the view takes them from now.
    pub(super) fn has_times_of(&self, view: &ViewRevision) -> bool {
        self.times == times(view)
    }

    /// Which features of the view the rows were computed without, in words; none when there are none.
    pub(super) fn missing_features(&self, view: &ViewRevision) -> Option<String> {
        let computed = self.features.as_ref()?;
        let names = view.features.iter().map(|f| f.name.as_str());
        let missing: Vec<_> = names
            .filter(|name| !computed.iter().any(|known| known == name))
            .collect();
        match missing.as_slice() {
            [] => None,
            [one] => Some(format!("the feature `{one}` was added")),
            many => Some(format!("the features `{}` were added", many.join("`, `"))),
        }
    }

    /// Whether a source holds what it held then.
    pub(super) fn is_current(&self, source: &SourceName, state: &SourceState) -> bool {
        self.others.get(source.as_str()) == Some(&fingerprint(state))
    }
}

fn times(view: &ViewRevision) -> [Option<String>; 2] {
    [&view.event_timestamp, &view.created_timestamp].map(|c| c.as_ref().map(ToString::to_string))
}

/// What stands for everything that a source holds.
pub(super) fn fingerprint(state: &SourceState) -> String {
    let mut hasher = blake3::Hasher::new();
    match state {
        SourceState::Delta { version } => {
            hasher.update(format!("delta {version}").as_bytes());
        }
        SourceState::Files(files) => {
            for file in files {
                let etag = file.etag.as_deref().unwrap_or_default();
                let SourceFile {
                    path,
                    size,
                    modified_micros,
                    ..
                } = file;
                hasher.update(format!("{path}\0{size}\0{modified_micros}\0{etag}\0").as_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// Instants as microseconds.
pub(super) mod micros {
    use serde::{Deserialize, Deserializer, Serializer};
    use vintner_core::Timestamp;

    pub(in crate::materialize) fn serialize<S: Serializer>(
        at: &Timestamp,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_i64(at.micros())
    }

    pub(in crate::materialize) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_micros)
    }
}

/// Instants, or none, as microseconds.
pub(super) mod optional_micros {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use vintner_core::Timestamp;

    pub(in crate::materialize) fn serialize<S: Serializer>(
        at: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(Timestamp::micros).serialize(to)
    }

    pub(in crate::materialize) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let micros = Option::<i64>::deserialize(from)?;
        Ok(micros.map(Timestamp::from_micros))
    }
}
