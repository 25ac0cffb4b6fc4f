//! Rows in the place of exactly what was seen.

use vintner_core::{ProjectName, ViewId};

use super::{
    WRITE_BYTES, WRITE_ROWS,
    errors::{Failure, integer},
    keys::row_key,
    script::REPLACE_ROW,
    servers::{Servers, within},
    write::lifetime,
};
use crate::store::{Expiry, Replacement};

/// Replaces or deletes, batch by batch, and says how many rows changed.
pub(super) async fn replace(
    servers: &Servers,
    project: &ProjectName,
    view: &ViewId,
    expiry: Option<Expiry>,
    replacements: &[Replacement],
) -> Result<u64, Failure> {
    let mut changed = 0;
    let mut rest = replacements.iter().peekable();
    while rest.peek().is_some() {
        let mut commands = Vec::new();
        let mut bytes = 0;
        while let Some(one) = rest.next_if(|_| commands.len() < WRITE_ROWS && bytes < WRITE_BYTES) {
            let row = one.row.as_ref();
            let packed = row.map(|row| row.as_bytes()).unwrap_or_default();
            bytes += one.seen.len() + packed.len();
            let key = row_key(project, view, &one.key);
            // The script goes along each time: what is replaced is rare.
            let mut command = redis::cmd("EVAL");
            command
                .arg(REPLACE_ROW)
                .arg(1)
                .arg(&key)
                .arg(&one.seen[..])
                .arg(row.map_or_else(|| "gone".to_owned(), |row| lifetime(expiry, row)))
                .arg(packed);
            commands.push(servers.keyed(&key, command));
        }
        for answer in within(servers.send(commands)).await? {
            changed += u64::try_from(integer(answer)?).unwrap_or_default();
        }
    }
    Ok(changed)
}
