//! What the next version of a table does, and how it becomes that version.

use std::collections::HashMap;

use deltalake::{
    DeltaTable,
    checkpoints::create_checkpoint,
    kernel::{
        Action, MetadataExt, Remove, StructType, Transaction, new_metadata,
        transaction::{CommitData, PROTOCOL, TransactionError},
    },
    logstore::CommitOrBytes,
    protocol::{DeltaOperation, SaveMode},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    data_files::{TARGET_BYTES, Written},
    deletions,
    error::{DeltaError, cause},
    file_name::{self, Origin},
    progress,
    table::{Table, TableState, info},
};

/// The key of the id that tells a commit of ours from another one's.
const COMMIT_KEY: &str = "vintner.commit";
/// How many versions of others a change follows before it is planned again. While one rewrites large files, pushes make
/// many.
const VERSIONS_TO_FOLLOW: u64 = 1024;
/// After how many versions the log is summed up in a checkpoint.
const CHECKPOINT_EVERY: u64 = 10;

/// The columns that a version has.
#[derive(Clone, Debug, PartialEq)]
pub enum Columns {
    /// Those of the version before.
    Same,
    /// These.
    New(StructType),
}

/// What the next version of a table does.
#[derive(Debug)]
pub struct Change {
    /// New files.
    pub(crate) written: Written,
    /// Files that are no longer part of the table.
    pub(crate) removes: Vec<Remove>,
    /// The columns.
    pub columns: Columns,
    /// What happens to the rows.
    pub effect: Effect,
    /// How far those have come whose rows these are, by the application id of each. Another change with one of these
    /// ids is a conflict.
    pub(crate) producers: Vec<(String, i64)>,
    /// What goes into the commit's info, by key.
    pub info: Vec<(String, Value)>,
}

/// What a version does to the rows of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They stay, and there are more.
    Appends,
    /// They stay, and there are more, which no source has. Whatever others add meanwhile is no matter.
    Pushes,
    /// Some are replaced: which, in SQL, for people who read the log.
    Replaces(String),
    /// Those of some entities go. Rows that are pushed meanwhile are later ones, and stay.
    Deletes,
    /// They are the same, in other files.
    Rearranges,
}

impl Change {
    /// Writes the version after `base`, or the first one. Either all of it is there afterwards or nothing. When others have
    /// written versions meanwhile that this one can follow, it follows them.
    ///
    /// # Errors
    /// [`DeltaError::Conflict`] when somebody else has written a version that this one cannot follow.
    /// [`DeltaError::Write`] otherwise. In both cases the table is as it was, and the new files are taken away again where
    /// that is safe.
    pub(crate) async fn commit(
        mut self,
        table: &Table,
        base: Option<&TableState>,
    ) -> Result<u64, DeltaError> {
        if self.effect == Effect::Rearranges {
            let removes = self.removes.iter_mut();
            removes.for_each(|remove| remove.data_change = false);
            let adds = self.written.adds.iter_mut();
            adds.for_each(|add| add.data_change = false);
        }
        let first = base.map_or(0, |base| base.version() + 1);
        let version = self.commit_from(table, base, first, &mut |_| {}).await?;
        checkpoint_when_due(table, version).await;
        Ok(version)
    }

    /// Writes the version `first`, or a later one when others have written versions meanwhile that this one can follow;
    /// `followed` is given what they did. All versions between `base` and `first` must have kept its columns. Makes no
    /// checkpoint.
    ///
    /// # Errors
    /// As [`Change::commit`].
    pub(crate) async fn commit_from(
        self,
        table: &Table,
        base: Option<&TableState>,
        first: u64,
        followed: &mut (dyn FnMut(&[Action]) + Send),
    ) -> Result<u64, DeltaError> {
        for version in first..first + VERSIONS_TO_FOLLOW {
            match self.put(table, base, version).await? {
                Put::Done => return Ok(version),
                Put::Taken(other) if base.is_some() && self.can_follow(&other) => {
                    tracing::debug!(%table, version, "another change was first; this one follows it");
                    followed(&other);
                }
                Put::Taken(_) => {
                    self.written.discard(table).await;
                    return Err(DeltaError::Conflict {
                        table: table.to_string(),
                        version,
                    });
                }
            }
        }
        self.written.discard(table).await;
        Err(DeltaError::Conflict {
            table: table.to_string(),
            version: first + VERSIONS_TO_FOLLOW,
        })
    }

    async fn put(
        &self,
        table: &Table,
        base: Option<&TableState>,
        version: u64,
    ) -> Result<Put, DeltaError> {
        let id = Uuid::new_v4().to_string();
        let commit = self.as_commit(table, base, version, &id)?;
        let bytes = commit.get_bytes().map_err(|e| table.write_error(e))?;
        let bytes = CommitOrBytes::LogBytes(bytes);
        let put = table
            .log()
            .write_commit_entry(version, bytes, Uuid::new_v4());
        let Err(error) = put.await else {
            return Ok(Put::Done);
        };
        // An object store may have written what it says it has not: the answer was lost, and its own second try
        // found the first one's object.
        match table.actions(version).await {
            Ok(Some(actions)) if is_ours(&actions, &id) => Ok(Put::Done),
            Ok(Some(actions)) => Ok(Put::Taken(actions)),
            // What is unknown may still arrive, so its files stay.
            Ok(None) | Err(_) => Err(match error {
                TransactionError::ObjectStore { source } => table.write_error(source),
                other => table.write_error(other),
            }),
        }
    }

    /// Whether this change is right also after another one. What computes rows from sources was planned from what the
    /// table's rows were made of, so only what does not touch that may come before it: a move of rows, and rows that were
    /// pushed. So it is with what deletes rows, which must know all that runs have written and others have deleted. What moves rows itself, and what was pushed, can follow everything but what takes away the same files,
    /// changes the columns, or is of the same producers.
    fn can_follow(&self, other: &[Action]) -> bool {
        let is_compatible = other.iter().all(|action| match action {
            Action::Remove(remove) => !self.removes.iter().any(|ours| ours.path == remove.path),
            Action::Metadata(_) | Action::Protocol(_) => false,
            Action::Txn(theirs) => !self
                .producers
                .iter()
                .any(|(ours, _)| *ours == theirs.app_id),
            _ => true,
        });
        let follows_all = matches!(self.effect, Effect::Rearranges | Effect::Pushes);
        is_compatible && (follows_all || is_rearrangement(other) || is_push(other))
    }

    fn as_commit(
        &self,
        table: &Table,
        base: Option<&TableState>,
        version: u64,
        id: &str,
    ) -> Result<CommitData, DeltaError> {
        let fail = |e: Box<dyn std::error::Error + Send + Sync>| table.write_error(e);
        let mut actions = Vec::new();
        match (base, &self.columns) {
            (None, Columns::Same) => return Err(fail("a new table needs columns".into())),
            (None, Columns::New(columns)) => {
                let protocol = json!({"minReaderVersion": 1, "minWriterVersion": 2});
                let protocol = serde_json::from_value(protocol).map_err(|e| fail(e.into()))?;
                let partitions: [&str; 0] = [];
                let properties: [(&str, &str); 0] = [];
                let metadata = new_metadata(columns, partitions, properties);
                actions.push(Action::Protocol(protocol));
                actions.push(Action::Metadata(metadata.map_err(|e| fail(e.into()))?));
            }
            (Some(_), Columns::Same) => {}
            (Some(base), Columns::New(columns)) => {
                let metadata = base.snapshot().metadata().clone().with_schema(columns);
                actions.push(Action::Metadata(metadata.map_err(|e| fail(e.into()))?));
            }
        }
        actions.extend(self.removes.iter().cloned().map(Action::Remove));
        actions.extend(self.written.adds.iter().cloned().map(Action::Add));
        let operation = self.operation(base.is_none());
        if let Some(base) = base {
            let allowed = PROTOCOL.can_commit(base.snapshot().as_ref(), &actions, &operation);
            allowed.map_err(|e| fail(e.into()))?;
        }
        let mut info: HashMap<_, _> = self.info.iter().cloned().collect();
        info.insert(COMMIT_KEY.to_owned(), json!(id));
        let mut transactions = vec![Transaction::new(table.application(), number(version))];
        // Whoever looks for what was read need not go through all commits since.
        if info.contains_key(progress::KEY) {
            let marker = progress::marker(table);
            transactions.push(Transaction::new(marker, number(version)));
        }
        if info.contains_key(deletions::KEY) {
            let marker = deletions::marker(table);
            transactions.push(Transaction::new(marker, number(version)));
        }
        for (producer, sequence) in &self.producers {
            transactions.push(Transaction::new(producer, *sequence));
        }
        Ok(CommitData::new(actions, operation, info, transactions))
    }

    fn operation(&self, is_first: bool) -> DeltaOperation {
        let (mode, predicate) = match &self.effect {
            _ if is_first => (SaveMode::ErrorIfExists, None),
            Effect::Appends | Effect::Pushes => (SaveMode::Append, None),
            Effect::Replaces(what) => (SaveMode::Overwrite, Some(what.clone())),
            // Which, the log is not to say in clear.
            Effect::Deletes => return DeltaOperation::Delete { predicate: None },
            Effect::Rearranges => {
                return DeltaOperation::Optimize {
                    predicate: None,
                    target_size: i64::try_from(TARGET_BYTES).unwrap_or(i64::MAX),
                };
            }
        };
        DeltaOperation::Write {
            mode,
            partition_by: None,
            predicate,
        }
    }
}

/// Whether a commit puts rows into other files and does nothing else. One that adds and removes nothing may still say what
/// was read.
fn is_rearrangement(actions: &[Action]) -> bool {
    let mut removes = false;
    let only_moves = actions.iter().all(|action| match action {
        Action::Add(add) => !add.data_change,
        Action::Remove(remove) => {
            removes = true;
            !remove.data_change
        }
        _ => true,
    });
    only_moves && removes
}

/// Whether a commit adds rows that were pushed and does nothing else.
fn is_push(actions: &[Action]) -> bool {
    let mut adds = false;
    let only_pushes = actions.iter().all(|action| match action {
        Action::Add(add) => {
            adds = true;
            add.data_change && file_name::origin(&add.path) == Origin::Push
        }
        Action::Remove(_) | Action::Metadata(_) => false,
        _ => true,
    });
    only_pushes && adds
}

/// A version or a sequence as Delta has it.
fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// What became of a version that was to be written.
enum Put {
    /// It is there.
    Done,
    /// Somebody else's is, and does this.
    Taken(Vec<Action>),
}

fn is_ours(actions: &[Action], id: &str) -> bool {
    info(actions, COMMIT_KEY).and_then(Value::as_str) == Some(id)
}

/// Sums up the log now and then, so that it is read fast.
pub(crate) async fn checkpoint_when_due(table: &Table, version: u64) {
    if (version + 1).is_multiple_of(CHECKPOINT_EVERY) {
        checkpoint(table, version).await;
    }
}

/// Sums up the log. The version stands whether or not that works.
pub(crate) async fn checkpoint(table: &Table, version: u64) {
    let written = async {
        let mut at = DeltaTable::new(table.log().clone());
        at.load_version(version).await?;
        create_checkpoint(&at, None).await
    };
    if let Err(error) = written.await {
        tracing::warn!(%table, version, "could not write a checkpoint: {}", cause(error));
    }
}

/// What commits have done to the rows, one after the other.
#[derive(Debug, Default)]
pub(crate) struct AddedFiles {
    files: Vec<AddedFile>,
    /// Added files whose rows compaction has put into others.
    moved: Vec<Moved>,
    is_unclear: bool,
}

/// A file of added rows, and the newest version that has it when that is not the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddedFile {
    pub(crate) path: String,
    pub(crate) version: Option<u64>,
}

#[derive(Debug)]
struct Moved {
    files: Vec<AddedFile>,
    /// The files that their rows are in now, among others.
    into: Vec<String>,
}

impl AddedFiles {
    /// Takes in the next commit, which wrote `version`.
    pub(crate) fn then(&mut self, version: u64, actions: &[Action]) {
        if deletions::is_deletion(actions) {
            return self.then_deleted(actions);
        }
        let mut moved = Moved {
            files: Vec::new(),
            into: Vec::new(),
        };
        for action in actions {
            match action {
                Action::Remove(remove) if remove.data_change => {
                    // The rows of a file that was replaced are in the files that replace it, or gone.
                    self.files.retain(|file| file.path != remove.path);
                    // Some of the added rows may be gone with it, but not which.
                    self.is_unclear |= self.moved.iter().any(|m| m.into.contains(&remove.path));
                }
                Action::Remove(remove) => moved.take(&remove.path, version, self),
                _ => {}
            }
        }
        for action in actions {
            match action {
                Action::Add(add) if add.data_change => self.files.push(AddedFile {
                    path: add.path.clone(),
                    version: None,
                }),
                Action::Add(add) => moved.into.push(add.path.clone()),
                _ => {}
            }
        }
        if !moved.files.is_empty() {
            self.moved.push(moved);
        }
    }

    /// Takes in a commit that wrote files anew without the rows of some entities. When added rows were in one of them,
    /// those that stayed are in the new ones.
    fn then_deleted(&mut self, actions: &[Action]) {
        let is_removed = |path: &str| {
            let mut removed = actions.iter();
            removed.any(|action| matches!(action, Action::Remove(r) if r.path == path))
        };
        let before = self.files.len() + self.moved.len();
        self.files.retain(|file| !is_removed(&file.path));
        // The file that they came in still has the rows that are deleted.
        let moved = &mut self.moved;
        let mut others = Vec::new();
        for moved in moved.extract_if(.., |moved| moved.into.iter().any(|path| is_removed(path))) {
            let stays = moved.into.into_iter().filter(|path| !is_removed(path));
            others.extend(stays.map(|path| AddedFile {
                path,
                version: None,
            }));
        }
        if self.files.len() + self.moved.len() < before {
            let added = actions.iter().filter_map(|action| match action {
                Action::Add(add) => Some(add.path.clone()),
                _ => None,
            });
            let added = added.map(|path| AddedFile {
                path,
                version: None,
            });
            self.files.extend(added.chain(others));
        }
    }

    /// The files that hold all rows that were added, and maybe rows that moved; none when nothing less than all
    /// files does.
    pub(crate) fn files(self) -> Option<Vec<AddedFile>> {
        let moved = self.moved.into_iter().flat_map(|moved| moved.files);
        (!self.is_unclear).then(|| self.files.into_iter().chain(moved).collect())
    }
}

impl Moved {
    /// Compaction has put a file's rows into others, in `version`.
    fn take(&mut self, path: &str, version: u64, added: &mut AddedFiles) {
        let before = added.files.len();
        added.files.retain(|file| file.path != path);
        if added.files.len() < before {
            self.files.push(AddedFile {
                path: path.to_owned(),
                version: Some(version - 1),
            });
        }
        // Rows that had moved before move on, or stay in the other files of that move.
        let (moving, staying) = std::mem::take(&mut added.moved)
            .into_iter()
            .partition(|moved: &Self| moved.into.iter().any(|file| file == path));
        added.moved = staying;
        for mut moved in Vec::into_iter(moving) {
            moved.into.retain(|file| file != path);
            self.files.append(&mut moved.files);
            self.into.append(&mut moved.into);
        }
    }
}

#[cfg(test)]
mod tests {
    use deltalake::kernel::{Add, CommitInfo};

    use super::*;

    fn add(path: &str, data_change: bool) -> Action {
        Action::Add(Add {
            path: path.to_owned(),
            data_change,
            ..Add::default()
        })
    }

    fn remove(path: &str, data_change: bool) -> Action {
        Action::Remove(Remove {
            path: path.to_owned(),
            data_change,
            ..Remove::default()
        })
    }

    fn added(commits: &[&[Action]]) -> Option<Vec<String>> {
        let mut added = AddedFiles::default();
        for (version, actions) in (10..).zip(commits) {
            added.then(version, actions);
        }
        let files = added.files()?.into_iter();
        Some(
            files
                .map(|file| match file.version {
                    None => file.path,
                    Some(version) => format!("{}@{version}", file.path),
                })
                .collect(),
        )
    }

    #[test]
    fn added_rows_are_found_also_when_they_have_moved() {
        let append: &[Action] = &[add("a", true)];
        let moves: &[Action] = &[remove("a", false), remove("old", false), add("c", false)];
        let moves_on: &[Action] = &[remove("c", false), add("d", false)];
        let replaces: &[Action] = &[remove("a", true), add("b", true)];
        for (commits, want) in [
            (vec![append], Some(vec!["a"])),
            (vec![append, replaces], Some(vec!["b"])),
            (vec![append, moves], Some(vec!["a@10"])),
            (vec![append, moves, moves_on], Some(vec!["a@10"])),
            (
                vec![append, moves, &[add("e", true)]],
                Some(vec!["e", "a@10"]),
            ),
            // Compaction of other rows is nothing.
            (
                vec![append, &[remove("x", false), add("y", false)]],
                Some(vec!["a"]),
            ),
            // Which of the added rows were replaced after they had moved nobody knows.
            (
                vec![append, moves, &[remove("c", true), add("e", true)]],
                None,
            ),
            (vec![append, moves, moves_on, &[remove("d", true)]], None),
        ] {
            let want = want.map(|paths| paths.into_iter().map(str::to_owned).collect());
            assert_eq!(added(&commits), want, "{commits:?}");
        }
    }

    #[test]
    fn added_rows_are_found_also_when_some_were_deleted() {
        let deletes = |actions: &[Action]| {
            let mut info = CommitInfo::default();
            info.info.insert(deletions::KEY.to_owned(), json!([]));
            let info = std::iter::once(Action::CommitInfo(info));
            info.chain(actions.iter().cloned()).collect::<Vec<_>>()
        };
        let append: &[Action] = &[add("a", true)];
        let moves: &[Action] = &[
            remove("a", false),
            remove("old", false),
            add("c", false),
            add("d", false),
        ];
        let from_a = deletes(&[remove("a", true), add("b", true)]);
        let from_old = deletes(&[remove("old", true), add("b", true)]);
        let from_both = deletes(&[remove("a", true), remove("old", true), add("b", true)]);
        let from_c = deletes(&[remove("c", true), add("e", true)]);
        let nothing = deletes(&[]);
        for (commits, want) in [
            (vec![append, &from_a], &["b"][..]),
            (vec![append, &from_both], &["b"]),
            (vec![append, &nothing], &["a"]),
            // What is left of rows that were there before is nothing new.
            (vec![append, &from_old], &["a"]),
            (vec![&from_old], &[]),
            (vec![append, &deletes(&[remove("a", true)])], &[]),
            // The file from which rows have moved still has those that were deleted.
            (vec![append, moves, &from_c], &["e", "d"]),
            (vec![append, moves, &from_old], &["a@10"]),
            (
                vec![
                    append,
                    moves,
                    &from_c,
                    &[remove("d", false), add("f", false)],
                ],
                &["e", "d@12"],
            ),
        ] {
            let want = want.iter().map(|path| (*path).to_owned()).collect();
            assert_eq!(added(&commits), Some(want), "{commits:?}");
        }
    }

    #[test]
    fn a_change_follows_what_it_was_not_planned_from() {
        let change = |effect: Effect, removes: &[&str]| Change {
            written: Written::default(),
            removes: removes
                .iter()
                .map(|path| Remove {
                    path: (*path).to_owned(),
                    ..Remove::default()
                })
                .collect(),
            columns: Columns::Same,
            producers: match effect {
                Effect::Pushes => vec![("p".to_owned(), 2)],
                _ => Vec::new(),
            },
            effect,
            info: Vec::new(),
        };
        let appends = change(Effect::Appends, &[]);
        let replaces = change(Effect::Replaces("true".to_owned()), &["a"]);
        let moves = change(Effect::Rearranges, &["a"]);
        let pushes = change(Effect::Pushes, &[]);
        let deletes = change(Effect::Deletes, &["a"]);
        let txn = |producer: &str| Action::Txn(Transaction::new(producer, 1));
        let metadata = new_metadata(
            &StructType::try_new([]).unwrap(),
            [] as [&str; 0],
            [] as [(&str, &str); 0],
        );
        for (other, want) in [
            // another append: it has read what this one has
            (vec![add("n", true)], [false, false, true, true, false]),
            // rows that were pushed: no source has them
            (
                vec![add("pushed-n", true), txn("q")],
                [true, true, true, true, true],
            ),
            // of the same producer, or beside others
            (
                vec![add("pushed-n", true), txn("p")],
                [true, true, true, false, true],
            ),
            (
                vec![add("pushed-n", true), add("n", true)],
                [false, false, true, true, false],
            ),
            // a run that found no rows, and says so
            (vec![], [false, false, true, true, false]),
            (
                vec![remove("b", true), add("n", true)],
                [false, false, true, true, false],
            ),
            (
                vec![remove("b", false), add("n", false)],
                [true, true, true, true, true],
            ),
            (
                vec![remove("a", false), add("n", false)],
                [true, false, false, true, false],
            ),
            (vec![remove("a", true)], [false, false, false, true, false]),
            (
                vec![Action::Metadata(metadata.unwrap())],
                [false, false, false, false, false],
            ),
        ] {
            let found = [&appends, &replaces, &moves, &pushes, &deletes]
                .map(|ours| ours.can_follow(&other));
            assert_eq!(found, want, "{other:?}");
        }
    }
}
