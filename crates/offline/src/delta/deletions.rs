//! Which entities' rows were deleted from a table, and when: kept in the commits that deleted them.
//!
//! A run leaves out what these say, so that a table stays what its sources, its pushes and its deletions make of it, in
//! whatever order runs come. A load takes the rows out of an online store that still has them.
//!
//! The newest such commit has all of them, each entity once, by a digest of its key: the log keeps no key.

use std::collections::{HashMap, HashSet};

use deltalake::kernel::Action;
use serde_json::{Value, json};
use vintner_core::{EntityKey, ProjectName, Timestamp, ViewId};

use super::{
    error::DeltaError,
    store::OfflineStore,
    table::{Table, TableState, info},
};

/// Where the record is in a commit's info.
pub(super) const KEY: &str = "vintner.deleted";

/// The application id whose version is that of the newest commit with a record.
pub(super) fn marker(table: &Table) -> String {
    format!("{}/deleted", table.application())
}

/// Stands for an entity: the first 16 bytes of the BLAKE3 hash of its encoded key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(u128);

impl KeyDigest {
    /// The digest of an encoded key.
    pub fn of(key: &[u8]) -> Self {
        let mut first = [0; 16];
        first.copy_from_slice(&blake3::hash(key).as_bytes()[..16]);
        Self(u128::from_be_bytes(first))
    }
}

/// The newest deletion of an entity's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deleted {
    /// The version of the table that first was without them.
    version: u64,
    /// When: rows of up to this event time are left out by runs.
    at: Timestamp,
}

/// All entities whose rows were deleted from a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletions(HashMap<KeyDigest, Deleted>);

impl Deletions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a run leaves out a row with this encoded key and event time.
    pub(crate) fn leave_out(&self, key: &[u8], event: Timestamp) -> bool {
        let deleted = self.0.get(&KeyDigest::of(key));
        deleted.is_some_and(|deleted| event <= deleted.at)
    }

    /// Whether the rows of an entity of up to a moment are among them.
    pub(crate) fn cover(&self, key: &EntityKey, at: Timestamp) -> bool {
        self.leave_out(key.as_bytes(), at)
    }

    /// The entities whose rows were deleted after a version of the table; all without one.
    pub fn after(&self, version: Option<u64>) -> HashSet<KeyDigest> {
        let after = self.0.iter();
        let after = after.filter(|(_, deleted)| version.is_none_or(|v| v < deleted.version));
        after.map(|(digest, _)| *digest).collect()
    }

    /// What a commit records that deletes the rows of these entities besides.
    pub(crate) fn record<'a>(
        &self,
        keys: impl Iterator<Item = &'a EntityKey>,
        at: Timestamp,
    ) -> (String, Value) {
        let new: HashSet<_> = keys.map(|key| KeyDigest::of(key.as_bytes())).collect();
        // One that is deleted again stays deleted up to the later moment.
        let mut groups: HashMap<(Option<u64>, Timestamp), Vec<KeyDigest>> = HashMap::new();
        for digest in &new {
            let before = self.0.get(digest).map(|deleted| deleted.at);
            let at = before.map_or(at, |before| before.max(at));
            groups.entry((None, at)).or_default().push(*digest);
        }
        for (digest, deleted) in self.0.iter().filter(|(digest, _)| !new.contains(digest)) {
            let group = groups.entry((Some(deleted.version), deleted.at));
            group.or_default().push(*digest);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable_by_key(|((version, at), _)| (version.unwrap_or(u64::MAX), *at));
        let groups = groups.into_iter().map(|((version, at), mut digests)| {
            digests.sort_unstable();
            let digests = digests.iter().map(|digest| format!("{:032x}", digest.0));
            json!({"version": version, "at": at.micros(), "entities": digests.collect::<Vec<_>>()})
        });
        (KEY.to_owned(), groups.collect())
    }

    /// What the commit of a version records; none when that is not understood.
    fn read(record: &Value, version: u64) -> Option<Self> {
        let mut all = HashMap::new();
        for group in record.as_array()? {
            let deleted = Deleted {
                version: match group.get("version")? {
                    Value::Null => version,
                    earlier => earlier.as_u64()?,
                },
                at: Timestamp::from_micros(group.get("at")?.as_i64()?),
            };
            for digest in group.get("entities")?.as_array()? {
                let digest = u128::from_str_radix(digest.as_str()?, 16).ok()?;
                all.insert(KeyDigest(digest), deleted);
            }
        }
        Some(Self(all))
    }
}

/// Whether a commit deletes the rows of entities, and does nothing else.
pub(super) fn is_deletion(actions: &[Action]) -> bool {
    info(actions, KEY).is_some()
}

/// What a commit says of deletions; none when it is not of one.
pub(crate) fn of_commit(
    table: &Table,
    version: u64,
    actions: &[Action],
) -> Result<Option<Deletions>, DeltaError> {
    let Some(record) = info(actions, KEY) else {
        return Ok(None);
    };
    let unknown = || {
        table.read_error(format!(
            "which entities' rows version {version} deleted is written in a form that this version of Vintner does not \
             know; use a newer one"
        ))
    };
    Deletions::read(record, version)
        .map(Some)
        .ok_or_else(unknown)
}

impl TableState {
    /// The deletions at or before this version.
    ///
    /// # Errors
    /// [`DeltaError::Read`], also when the commit that has them is no longer in the log: what runs must leave out is not
    /// known then.
    pub(crate) async fn deletions(&self) -> Result<Deletions, DeltaError> {
        let table = self.table();
        let Some(version) = self.application_version(&marker(table)).await? else {
            return Ok(Deletions::default());
        };
        let version = u64::try_from(version).unwrap_or(0);
        let found = match table.actions(version).await? {
            Some(actions) => of_commit(table, version, &actions)?,
            None => None,
        };
        found.ok_or_else(|| {
            table.read_error(format!(
                "the commit of version {version}, which says which entities' rows were deleted, is no longer in the log; \
                 restore _delta_log/{version:020}.json from a backup"
            ))
        })
    }
}

/// Looks at the commits of a table one after the other, for those that delete rows.
#[derive(Debug)]
pub struct DeletionWatch {
    table: Table,
    /// Up to which version has been looked.
    version: u64,
}

impl OfflineStore {
    /// The deletions from a view's table as of now.
    ///
    /// # Errors
    /// [`DeltaError::Read`].
    pub async fn deletions(
        &self,
        project: &ProjectName,
        view: &ViewId,
    ) -> Result<Deletions, DeltaError> {
        match self.table(project, view)?.newest().await? {
            Some(newest) => newest.deletions().await,
            None => Ok(Deletions::default()),
        }
    }

    /// Sees the deletions from a view's table that come after a version.
    ///
    /// # Errors
    /// [`DeltaError::Location`].
    pub fn deletions_after(
        &self,
        project: &ProjectName,
        view: &ViewId,
        version: u64,
    ) -> Result<DeletionWatch, DeltaError> {
        Ok(DeletionWatch::after(self.table(project, view)?, version))
    }
}

impl DeletionWatch {
    /// Looks at what comes after a version.
    pub(crate) fn after(table: Table, version: u64) -> Self {
        Self { table, version }
    }

    /// The entities whose rows were deleted since the last look. One look at the log when nothing was written.
    ///
    /// # Errors
    /// [`DeltaError::Read`].
    pub async fn look(&mut self) -> Result<HashSet<KeyDigest>, DeltaError> {
        let from = self.version;
        let mut newest = None;
        while let Some(actions) = self.table.actions(self.version + 1).await? {
            self.version += 1;
            newest = of_commit(&self.table, self.version, &actions)?.or(newest);
        }
        Ok(newest
            .map(|deletions| deletions.after(Some(from)))
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> EntityKey {
        EntityKey::from_bytes([1, n])
    }

    fn us(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn then(deletions: &Deletions, keys: &[u8], at: i64, version: u64) -> Deletions {
        let keys: Vec<_> = keys.iter().map(|n| key(*n)).collect();
        let (_, record) = deletions.record(keys.iter(), us(at));
        Deletions::read(&record, version).unwrap()
    }

    #[test]
    fn the_newest_record_has_all_of_them() {
        let none = Deletions::default();
        let first = then(&none, &[1, 2], 100, 3);
        let second = then(&first, &[2, 3], 200, 7);
        // By a clock that went back.
        let third = then(&second, &[3], 150, 9);
        for (n, at, want) in [
            (1, 100, true), // the moment itself
            (1, 101, false),
            (2, 200, true),
            (2, 201, false),
            (3, -1, true),
            (3, 200, true), // no deletion takes another one back
            (3, 201, false),
            (4, 0, false),
        ] {
            assert_eq!(
                third.leave_out(key(n).as_bytes(), us(at)),
                want,
                "{n} at {at}"
            );
        }
        for (version, want) in [
            (None, &[1, 2, 3][..]),
            (Some(0), &[1, 2, 3]),
            (Some(2), &[1, 2, 3]),
            (Some(3), &[2, 3]),
            (Some(7), &[3]),
            (Some(9), &[]),
        ] {
            let want: HashSet<_> = want
                .iter()
                .map(|n| KeyDigest::of(key(*n).as_bytes()))
                .collect();
            assert_eq!(third.after(version), want, "{version:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_passed_over() {
        for record in [
            json!({}),
            json!([{}]),
            json!([{"version": 1, "at": 1, "entities": ["x"]}]),
        ] {
            assert_eq!(Deletions::read(&record, 1), None, "{record}");
        }
    }
}
