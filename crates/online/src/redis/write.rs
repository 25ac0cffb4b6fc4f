//! Writing rows, every row by the script that compares row times, and deleting them; in bounded batches.

use std::collections::HashSet;

use redis::{Cmd, Value};
use vintner_core::{EntityKey, ProjectName, ViewId};

use super::{
    READ_KEYS, WRITE_BYTES, WRITE_ROWS,
    errors::{Failure, Fault, code, integer},
    keys::row_key,
    script::WRITE_ROW,
    servers::{Keyed, Servers, within},
};
use crate::{
    row::PackedRow,
    store::{Expiry, OnlineRow, Remaining, WriteReport},
};

/// Writes rows, batch by batch. `hash` is that of the script.
pub(super) async fn write(
    servers: &Servers,
    hash: &str,
    project: &ProjectName,
    view: &ViewId,
    expiry: Option<Expiry>,
    rows: &[OnlineRow],
) -> Result<WriteReport, Failure> {
    let mut report = WriteReport::default();
    let mut rest = rows;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(batch_length(rest));
        rest = after;
        let command = |name: &str, script: &str, row: &OnlineRow| -> Keyed {
            let key = row_key(project, view, &row.key);
            let mut command: Cmd = redis::cmd(name);
            command
                .arg(script)
                .arg(1)
                .arg(&key)
                .arg(row.row.as_bytes())
                .arg(lifetime(expiry, &row.row));
            servers.keyed(&key, command)
        };
        let answers = within(send(
            servers,
            batch
                .iter()
                .map(|row| command("EVALSHA", hash, row))
                .collect(),
            |place| command("EVAL", WRITE_ROW, &batch[place]),
        ))
        .await?;
        for answer in answers {
            match integer(answer)? {
                1 => report.written += 1,
                0 => report.kept += 1,
                _ => return Err(Fault::Unexpected("the script gave neither 0 nor 1").into()),
            }
        }
    }
    Ok(report)
}

/// Sends commands that call the script by its hash. Where a server does not have it, those are sent again that bring
/// the script along, which the server then has; and with them all later ones of the same slot, so that rows of one
/// entity keep their order.
async fn send(
    servers: &Servers,
    by_hash: Vec<Keyed>,
    whole: impl Fn(usize) -> Keyed,
) -> Result<Vec<Value>, Failure> {
    let slots: Vec<u16> = by_hash.iter().map(|command| command.slot).collect();
    let mut answers = servers.send(by_hash).await?;
    let mut without_script = HashSet::new();
    let again: Vec<usize> = (0..slots.len())
        .filter(|&place| {
            if code(&answers[place]) == Some("NOSCRIPT") {
                without_script.insert(slots[place]);
            }
            without_script.contains(&slots[place])
        })
        .collect();
    let commands = again.iter().map(|&place| whole(place)).collect();
    for (place, answer) in again.into_iter().zip(servers.send(commands).await?) {
        answers[place] = answer;
    }
    Ok(answers)
}

/// Deletes the rows of these entities, batch by batch, and says how many there were.
pub(super) async fn delete(
    servers: &Servers,
    project: &ProjectName,
    view: &ViewId,
    keys: &[EntityKey],
) -> Result<u64, Failure> {
    let mut deleted = 0;
    for keys in keys.chunks(READ_KEYS) {
        let commands = keys.iter().map(|key| {
            let key = row_key(project, view, key);
            let mut command = redis::cmd("UNLINK");
            command.arg(&key);
            servers.keyed(&key, command)
        });
        for answer in within(servers.send(commands.collect())).await? {
            deleted += u64::try_from(integer(answer)?).unwrap_or_default();
        }
    }
    Ok(deleted)
}

/// How many of these rows are sent at once: at least one.
fn batch_length(rows: &[OnlineRow]) -> usize {
    let mut bytes = 0;
    rows.iter()
        .take(WRITE_ROWS)
        .take_while(|row| {
            let fits = bytes < WRITE_BYTES;
            bytes += row.key.as_bytes().len() + row.row.as_bytes().len();
            fits
        })
        .count()
}

/// How long a row may stay, as the scripts are told it.
pub(super) fn lifetime(expiry: Option<Expiry>, row: &PackedRow) -> String {
    match expiry.map_or(Remaining::Forever, |expiry| {
        expiry.remaining(row.time().event)
    }) {
        Remaining::Gone => "gone".to_owned(),
        Remaining::Forever => "forever".to_owned(),
        Remaining::For(time) => time.as_micros().div_ceil(1000).to_string(),
    }
}
