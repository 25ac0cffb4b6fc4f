//! Which entities' rows were deleted from a table, and when: kept in the commits that deleted them.
//!
//! A run leaves out what these say, so that a table stays what its sources, its pushes and its deletions make of it, in
//! whatever order runs come. A load takes the rows out of an online store that still has them.
//!
//! The log keeps no key, but a digest of each, and each entity once. The newest such commit has the newest of them and names
//! another one that has all others, so that two commits are read, and none is large but now and then.

use std::collections::{HashMap, HashSet};

use deltalake::kernel::Action;
use serde_json::{Value, json};
use vintner_core::{EntityKey, ProjectName, Timestamp, ViewId};

use super::{
    error::DeltaError,
    store::OfflineStore,
    table::{Table, TableState, info},
};

/// How many entities a commit has, beside those that it names another one for.
const MOST_BESIDE: usize = 256;

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
pub struct Deletions {
    all: HashMap<KeyDigest, Deleted>,
    /// The version whose commit has all that were deleted up to it.
    whole: Option<u64>,
}

/// What one commit says of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    entities: HashMap<KeyDigest, Deleted>,
    /// The version of the commit that has all others, if there are others.
    others: Option<u64>,
}

impl Deletions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a run leaves out a row with this encoded key and event time.
    pub(crate) fn leave_out(&self, key: &[u8], event: Timestamp) -> bool {
        let deleted = self.all.get(&KeyDigest::of(key));
        deleted.is_some_and(|deleted| event <= deleted.at)
    }

    /// Whether the rows of an entity of up to a moment are among them.
    pub(crate) fn cover(&self, key: &EntityKey, at: Timestamp) -> bool {
        self.leave_out(key.as_bytes(), at)
    }

    /// The entities whose rows were deleted after a version of the table; all without one.
    pub fn after(&self, version: Option<u64>) -> HashSet<KeyDigest> {
        let after = self.all.iter();
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
        let old = self.all.iter().filter(|(digest, _)| !new.contains(digest));
        let is_beside = |deleted: &Deleted| Some(deleted.version) > self.whole;
        let beside = old
            .clone()
            .filter(|(_, deleted)| is_beside(deleted))
            .count();
        let others = self.whole.filter(|_| beside + new.len() <= MOST_BESIDE);
        // One that is deleted again stays deleted up to the later moment.
        let mut groups: HashMap<(Option<u64>, Timestamp), Vec<KeyDigest>> = HashMap::new();
        for digest in &new {
            let before = self.all.get(digest).map(|deleted| deleted.at);
            let at = before.map_or(at, |before| before.max(at));
            groups.entry((None, at)).or_default().push(*digest);
        }
        for (digest, deleted) in old.filter(|(_, old)| others.is_none() || is_beside(old)) {
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
        let groups: Vec<_> = groups.collect();
        (KEY.to_owned(), json!({"deleted": groups, "others": others}))
    }
}

impl Record {
    /// What the commit of a version records; none when that is not understood.
    fn read(record: &Value, version: u64) -> Option<Self> {
        let mut entities = HashMap::new();
        for group in record.get("deleted")?.as_array()? {
            let deleted = Deleted {
                version: match group.get("version")? {
                    Value::Null => version,
                    earlier => earlier.as_u64()?,
                },
                at: Timestamp::from_micros(group.get("at")?.as_i64()?),
            };
            for digest in group.get("entities")?.as_array()? {
                let digest = u128::from_str_radix(digest.as_str()?, 16).ok()?;
                entities.insert(KeyDigest(digest), deleted);
            }
        }
        let others = match record.get("others")? {
            Value::Null => None,
            version => Some(version.as_u64()?),
        };
        Some(Self { entities, others })
    }

    /// All deletions, of which the commit of `version` records these, and that of `others` has the rest.
    fn with(self, version: u64, others: Option<Self>) -> Deletions {
        let whole = self.others.unwrap_or(version);
        let mut all = others.map(|others| others.entities).unwrap_or_default();
        all.extend(self.entities);
        Deletions {
            all,
            whole: Some(whole),
        }
    }
}

/// Whether a commit deletes the rows of entities, and does nothing else.
pub(crate) fn is_deletion(actions: &[Action]) -> bool {
    info(actions, KEY).is_some()
}

/// What a commit records of deletions; none when it is not of one.
fn of_commit(
    table: &Table,
    version: u64,
    actions: &[Action],
) -> Result<Option<Record>, DeltaError> {
    let Some(record) = info(actions, KEY) else {
        return Ok(None);
    };
    let unknown = || {
        table.read_error(format!(
            "which entities' rows version {version} deleted is written in a form that this version of Vintner does not \
             know; use a newer one"
        ))
    };
    Record::read(record, version).map(Some).ok_or_else(unknown)
}

/// The deletions up to a version, whose commit is of one.
async fn up_to(table: &Table, version: u64) -> Result<Deletions, DeltaError> {
    let lost = |version: u64| {
        table.read_error(format!(
            "the commit of version {version}, which says which entities' rows were deleted, is no longer in the log; \
             restore _delta_log/{version:020}.json from a backup"
        ))
    };
    let read = async |version: u64| match table.actions(version).await? {
        Some(actions) => of_commit(table, version, &actions)?.ok_or_else(|| lost(version)),
        None => Err(lost(version)),
    };
    let newest = read(version).await?;
    let others = match newest.others {
        Some(others) => Some(read(others).await?),
        None => None,
    };
    Ok(newest.with(version, others))
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
        up_to(table, u64::try_from(version).unwrap_or(0)).await
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
            if is_deletion(&actions) {
                newest = Some(self.version);
            }
        }
        deleted_between(&self.table, from, newest).await
    }
}

/// The entities whose rows were deleted after a version, when the newest deletion is that of another one.
pub(crate) async fn deleted_between(
    table: &Table,
    from: u64,
    newest: Option<u64>,
) -> Result<HashSet<KeyDigest>, DeltaError> {
    match newest {
        Some(newest) => Ok(up_to(table, newest).await?.after(Some(from))),
        None => Ok(HashSet::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> EntityKey {
        EntityKey::from_bytes(n.to_be_bytes())
    }

    fn us(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    /// The deletions after one more, and the record of it by its version.
    fn then(
        deletions: &Deletions,
        records: &mut HashMap<u64, Record>,
        keys: impl IntoIterator<Item = u32>,
        at: i64,
        version: u64,
    ) -> Deletions {
        let keys: Vec<_> = keys.into_iter().map(key).collect();
        let (_, record) = deletions.record(keys.iter(), us(at));
        let record = Record::read(&record, version).unwrap();
        records.insert(version, record.clone());
        let others = record.others.map(|others| records[&others].clone());
        record.with(version, others)
    }

    #[test]
    fn the_newest_record_has_all_of_them() {
        let none = Deletions::default();
        let records = &mut HashMap::new();
        let first = then(&none, records, [1, 2], 100, 3);
        let second = then(&first, records, [2, 3], 200, 7);
        // By a clock that went back.
        let third = then(&second, records, [3], 150, 9);
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
    fn records_stay_small_and_two_of_them_have_all() {
        let (mut deletions, mut all) = (Deletions::default(), HashMap::new());
        let mut records = HashMap::new();
        let mut large = 0;
        for version in 0..600 {
            // Some are deleted again.
            let keys = [version, version / 2 * 3];
            let at = i64::from(version) * 10;
            deletions = then(&deletions, &mut records, keys, at, version.into());
            for n in keys {
                let digest = KeyDigest::of(key(n).as_bytes());
                let deleted = Deleted {
                    version: version.into(),
                    at: us(at),
                };
                all.insert(digest, deleted);
            }
            assert_eq!(deletions.all, all, "version {version}");
            large += u32::from(records[&u64::from(version)].entities.len() > MOST_BESIDE);
        }
        assert!(all.len() > 2 * MOST_BESIDE);
        assert!(large < 10, "{large} commits have more than {MOST_BESIDE}");
        // Many at once.
        let many = then(&deletions, &mut records, 10_000..20_000, 1, 2000);
        assert_eq!(many.all.len(), all.len() + 10_000);
        assert_eq!(records[&2000].others, None);
        let next = then(&many, &mut records, [1], 1, 2001);
        assert_eq!(
            (next.all.len(), records[&2001].entities.len()),
            (many.all.len(), 1)
        );
    }

    #[test]
    fn what_is_not_understood_is_not_passed_over() {
        for record in [
            json!([]),
            json!({"deleted": []}),
            json!({"deleted": [{}], "others": null}),
            json!({"deleted": [{"version": 1, "at": 1, "entities": ["x"]}], "others": null}),
            json!({"deleted": [], "others": "x"}),
        ] {
            assert_eq!(Record::read(&record, 1), None, "{record}");
        }
    }
}
