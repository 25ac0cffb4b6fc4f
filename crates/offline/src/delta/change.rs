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
    data_files::Written,
    error::{DeltaError, cause},
    table::{Table, TableState, info},
};

/// The key of the id that tells a commit of ours from another one's.
const COMMIT_KEY: &str = "vintner.commit";
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
    /// What is replaced, for people who read the log; none when nothing is.
    pub replaces: Option<String>,
    /// What goes into the commit's info, by key.
    pub info: Vec<(String, Value)>,
}

impl Change {
    /// Writes the version after `base`, or the first one. Either all of it is there afterwards or nothing.
    ///
    /// # Errors
    /// [`DeltaError::Conflict`] when that version is there already, and is another's. [`DeltaError::Write`] otherwise.
    /// In both cases the table is as it was, and the new files are taken away again where that is safe.
    pub(crate) async fn commit(
        self,
        table: &Table,
        base: Option<&TableState>,
    ) -> Result<u64, DeltaError> {
        let version = base.map_or(0, |base| base.version() + 1);
        let new_files = Written {
            adds: self.written.adds.clone(),
            rows: 0,
        };
        let id = Uuid::new_v4().to_string();
        let commit = self.into_commit(table, base, version, &id)?;
        let bytes = commit.get_bytes().map_err(|e| table.write_error(e))?;
        let bytes = CommitOrBytes::LogBytes(bytes);
        let put = table
            .log()
            .write_commit_entry(version, bytes, Uuid::new_v4());
        let Err(error) = put.await else {
            checkpoint(table, version).await;
            return Ok(version);
        };
        // An object store may have written what it says it has not: the answer was lost, and its own second try
        // found the first one's object.
        match table.actions(version).await {
            Ok(Some(actions)) if is_ours(&actions, &id) => {
                checkpoint(table, version).await;
                Ok(version)
            }
            Ok(Some(_)) => {
                new_files.discard(table).await;
                Err(DeltaError::Conflict {
                    table: table.to_string(),
                    version,
                })
            }
            // What is unknown may still arrive, so its files stay.
            Ok(None) | Err(_) => Err(match error {
                TransactionError::ObjectStore { source } => table.write_error(source),
                other => table.write_error(other),
            }),
        }
    }

    fn into_commit(
        self,
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
        actions.extend(self.removes.into_iter().map(Action::Remove));
        actions.extend(self.written.adds.into_iter().map(Action::Add));
        let operation = DeltaOperation::Write {
            mode: match (base, &self.replaces) {
                (Some(_), None) => SaveMode::Append,
                (None, _) => SaveMode::ErrorIfExists,
                (Some(_), Some(_)) => SaveMode::Overwrite,
            },
            partition_by: None,
            predicate: self.replaces,
        };
        if let Some(base) = base {
            let allowed = PROTOCOL.can_commit(base.snapshot().as_ref(), &actions, &operation);
            allowed.map_err(|e| fail(e.into()))?;
        }
        let mut info: HashMap<_, _> = self.info.into_iter().collect();
        info.insert(COMMIT_KEY.to_owned(), json!(id));
        let transaction = i64::try_from(version).unwrap_or(i64::MAX);
        let transaction = Transaction::new(table.application(), transaction);
        Ok(CommitData::new(actions, operation, info, vec![transaction]))
    }
}

fn is_ours(actions: &[Action], id: &str) -> bool {
    info(actions, COMMIT_KEY).and_then(Value::as_str) == Some(id)
}

/// Sums up the log now and then, so that it is read fast. The version stands whether or not that works.
async fn checkpoint(table: &Table, version: u64) {
    if !(version + 1).is_multiple_of(CHECKPOINT_EVERY) {
        return;
    }
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
    paths: Vec<String>,
    /// Whether compaction has put added rows together with others.
    mixed: bool,
}

impl AddedFiles {
    /// Takes in the next commit.
    pub(crate) fn then(&mut self, actions: Vec<Action>) {
        for action in &actions {
            if let Action::Remove(remove) = action {
                let before = self.paths.len();
                self.paths.retain(|path| *path != remove.path);
                // The rows of a file that was replaced are in the files that replace it, and those are added. But
                // compaction adds no rows, so its files do not say which of their rows are new.
                self.mixed |= !remove.data_change && self.paths.len() < before;
            }
        }
        for action in actions {
            match action {
                Action::Add(add) if add.data_change => self.paths.push(add.path),
                _ => {}
            }
        }
    }

    /// The files that hold all rows that were added, and maybe rows that moved; none when nothing less than all
    /// files does.
    pub(crate) fn paths(self) -> Option<Vec<String>> {
        (!self.mixed).then_some(self.paths)
    }
}
