//! What keeps the stores true and clean: `verify`, `teardown`, `delete`, `doctor`.

use std::{fmt, num::NonZeroU32, str::FromStr};

use vintner_core::{DatasetName, Timestamp, ViewId, ViewName, ViewVersion};

use super::EntityColumn;

/// How far an operation has come that goes through the entities of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysSeen {
    /// The view version.
    pub view: ViewId,
    /// How many entities.
    pub keys: u64,
}

/// Which views to compare with their tables, and what to do about differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyRequest {
    /// The views; all that are online when empty.
    pub views: Vec<ViewName>,
    /// How many of the entities are looked at.
    pub sample: Sample,
    /// What is mended.
    pub repair: Repair,
}

/// Part of the entities, the same ones each time: those whose key's hash is in the first part of all hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How many of a million, from 1.
    pub of_a_million: u32,
}

impl Sample {
    /// All entities.
    pub const ALL: Self = Self {
        of_a_million: 1_000_000,
    };
}

/// Why a text is no [`Sample`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sample; write a share of the entities from 0.0001% to 100%, like 1%")]
pub struct SampleError(String);

impl FromStr for Sample {
    type Err = SampleError;

    fn from_str(text: &str) -> Result<Self, SampleError> {
        let wrong = || SampleError(text.to_owned());
        let percent = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if part.is_empty() || part.len() > 4 || !digits(part) || !digits(whole) {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let part: u32 = format!("{part:0<4}").parse().map_err(|_| wrong())?;
        let of_a_million = whole.checked_mul(10_000).and_then(|n| n.checked_add(part));
        match of_a_million {
            Some(of_a_million @ 1..=1_000_000) => Ok(Self { of_a_million }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = format!("{:04}", self.of_a_million % 10_000);
        let part = part.trim_end_matches('0');
        let point = if part.is_empty() { "" } else { "." };
        write!(f, "{}{point}{part}%", self.of_a_million / 10_000)
    }
}

/// Which differences are mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// None.
    No,
    /// All but rows that are newer than the table's.
    Safe,
    /// All: the table's row takes the place of a newer one.
    Force,
}

/// How the online store differs from the table in one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The table has a row, the store none.
    Missing,
    /// The store has a row, the table none.
    Extra,
    /// The store's row is older.
    Older,
    /// The store's row is newer.
    Newer,
    /// The rows have the same time and other values.
    Different,
    /// The store's row cannot be read.
    Corrupt,
}

impl Difference {
    /// All of them, in the order they are told.
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::Extra,
        Self::Older,
        Self::Newer,
        Self::Different,
        Self::Corrupt,
    ];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Older => "older",
            Self::Newer => "newer",
            Self::Different => "different",
            Self::Corrupt => "corrupt",
        }
    }
}

impl FromStr for Difference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == text);
        found.ok_or_else(|| format!("`{text}` is no kind of difference"))
    }
}

/// What was found of one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewVerification {
    /// The view version.
    pub view: ViewId,
    /// The version of the table that the store was compared with; none when there is no table.
    pub table_version: Option<u64>,
    /// The version of the table that the store is loaded up to; none when it is not loaded.
    pub loaded_version: Option<u64>,
    /// Entities that were looked at.
    pub keys: u64,
    /// Entities whose rows are the same.
    pub same: u64,
    /// Entities that are rightly absent: ttl and grace have run out.
    pub expired: u64,
    /// Entities that differed at first and no longer did, since they were written meanwhile.
    pub settled: u64,
    /// Entities whose row was written minutes ago and is not in the table: it may be on its way there.
    pub recent: u64,
    /// Entities that differ, by how: in the order of [`Difference::ALL`], each that there is.
    pub differences: Vec<(Difference, u64)>,
    /// Of those, how many are explained by rows that the next `materialize` loads.
    pub not_loaded: u64,
    /// Of those, how many were mended.
    pub repaired: u64,
    /// Rows of the whole table that are held back, since their event time has not come.
    pub held_back: u64,
    /// Some of the differences.
    pub examples: Vec<Example>,
    /// How long it took, microseconds.
    pub micros: u64,
}

impl ViewVerification {
    /// How many entities differ.
    pub fn differing(&self) -> u64 {
        self.differences.iter().map(|(_, count)| count).sum()
    }

    /// Whether the store is now what the table says.
    pub fn is_true(&self) -> bool {
        self.differing() == self.repaired
    }
}

/// One entity that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// How.
    pub difference: Difference,
    /// The entity, for people: `origin=JFK`.
    pub entity: String,
    /// What is there, what should be, and why, in words.
    pub explanation: String,
}

/// How many entities' rows a teardown deletes in a second when nothing else is asked for.
pub const DEFAULT_RATE: u32 = 20_000;

/// Which view's data to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeardownRequest {
    /// The view or view version.
    pub target: TeardownTarget,
    /// Whether its table is deleted too.
    pub scope: TeardownScope,
    /// How many entities' rows are deleted in a second at most.
    pub rate: NonZeroU32,
    /// Whether it is only said what would be deleted.
    pub dry_run: bool,
}

/// What a teardown deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeardownScope {
    /// The online rows and the table.
    Everything,
    /// The online rows.
    Online,
}

/// A view, of which all unused versions are meant, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeardownTarget {
    /// The view.
    pub name: ViewName,
    /// The version.
    pub version: Option<ViewVersion>,
}

impl FromStr for TeardownTarget {
    type Err = vintner_core::ids::ViewIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.contains('@') {
            false => Self {
                name: text.parse()?,
                version: None,
            },
            true => {
                let ViewId { name, version } = text.parse()?;
                Self {
                    name,
                    version: Some(version),
                }
            }
        })
    }
}

impl fmt::Display for TeardownTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// What was deleted of one view version, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewTeardown {
    /// The view version.
    pub view: ViewId,
    /// Whether the online store may have rows of it.
    pub online: bool,
    /// How many rows were deleted online; 0 when it is only said what would be.
    pub online_rows: u64,
    /// How many files its table has, or had.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

impl ViewTeardown {
    /// Whether there is anything to delete.
    pub fn is_nothing(&self) -> bool {
        !self.online && self.files == 0
    }
}

/// How many entities one request can delete the rows of.
pub const MOST_DELETED_ENTITIES: usize = 100_000;

/// Whose rows to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    /// The view, of which all versions are meant that are not retired, or one version.
    pub target: TeardownTarget,
    /// The join keys, each with one value per entity; all of one length.
    pub entities: Vec<EntityColumn>,
    /// Whether it is only said what would be deleted.
    pub dry_run: bool,
    /// Who asks for it, for the records.
    pub author: String,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// One per view version.
    pub views: Vec<ViewDeletion>,
    /// Retired versions of the view that are still stored, and may have rows of the entities.
    pub retired: Vec<ViewId>,
}

/// What was deleted from one view version, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewDeletion {
    /// The view version.
    pub view: ViewId,
    /// How many entities were asked for, each once.
    pub entities: u64,
    /// How many of them had a row, in the table or online.
    pub found: u64,
    /// How many rows were deleted from the table.
    pub rows: u64,
    /// How many were deleted online.
    pub online_rows: u64,
    /// The first version of the table that is without them: older ones are readable until `vacuum`. None when there is no
    /// table, or it is only said what would be deleted.
    pub table_version: Option<u64>,
    /// How many files of the table had such rows.
    pub files_removed: u64,
    /// How many files have the other rows of those now.
    pub files_added: u64,
    /// The size of those files.
    pub bytes_added: u64,
    /// Saved datasets that were made from older versions of the table, which `vacuum` keeps for them.
    pub datasets: Vec<DatasetName>,
    /// How long it took, microseconds.
    pub micros: u64,
}

/// What was found of one part of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// The part: `repo`, `registry`, `offline store`, `online store`, `clock`, `service`.
    pub part: String,
    /// Where it is, without secrets.
    pub place: String,
    /// Whether it works.
    pub health: Health,
    /// The median time of a small write, read or answer, microseconds, each by its name.
    pub latencies: Vec<(String, u64)>,
    /// What else is known of it, by name.
    pub facts: Vec<(String, String)>,
    /// What is wrong or doubtful, and what to do.
    pub advice: Vec<String>,
}

/// Whether a part works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It does.
    Good,
    /// It does, and something should be changed.
    Warning,
    /// It does not.
    Broken,
}

/// By how much two clocks may differ before it is worth a word, microseconds.
pub const CLOCK_TOLERANCE_MICROS: u64 = 1_000_000;

/// How long the clocks of two places are apart, for people who look at instants.
pub fn apart(one: Timestamp, other: Timestamp) -> u64 {
    one.micros().abs_diff(other.micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_share_in_percent() {
        for (text, want) in [
            ("1%", Some(10_000)),
            ("100%", Some(1_000_000)),
            ("0.5%", Some(5_000)),
            ("0.0001%", Some(1)),
            ("12.25%", Some(122_500)),
            ("0%", None),
            ("100.1%", None),
            ("101%", None),
            ("0.00001%", None),
            ("1", None),
            ("%", None),
            ("1.%", None),
            ("-1%", None),
            ("+1%", None),
        ] {
            let got: Option<Sample> = text.parse().ok();
            assert_eq!(got.map(|sample| sample.of_a_million), want, "{text}");
            if let Some(sample) = got {
                assert_eq!(sample.to_string(), text);
            }
        }
    }
}
