//! How the newest record of what was read is found among many commits that have none.

use serde_json::Value;

use super::{
    error::{DeltaError, cause},
    table::{Table, TableState},
};

/// Where the record is in a commit's info.
pub(crate) const KEY: &str = "vintner.progress";

/// The application id whose version is that of the newest commit with a record.
pub(super) fn marker(table: &Table) -> String {
    format!("{}/progress", table.application())
}

impl TableState {
    /// The record of the newest commit at or before this version that has one; none when there is none, or its commit is
    /// no longer in the log.
    ///
    /// # Errors
    /// [`DeltaError::Read`].
    pub(crate) async fn newest_progress(&self) -> Result<Option<Value>, DeltaError> {
        let table = self.table();
        match self.application_version(&marker(table)).await? {
            Some(version) => {
                let version = u64::try_from(version).unwrap_or(0);
                table.newest_info(version, KEY).await
            }
            // A table that was last written before there were such marks.
            None => table.newest_info(self.version(), KEY).await,
        }
    }

    /// The greatest version that commits have given an application id.
    ///
    /// # Errors
    /// [`DeltaError::Read`].
    pub(crate) async fn application_version(&self, id: &str) -> Result<Option<i64>, DeltaError> {
        let table = self.table();
        let found = self.snapshot().transaction_version(table.log(), id).await;
        found.map_err(|e| table.read_error(cause(e)))
    }
}
