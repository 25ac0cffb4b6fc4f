//! Writing rows and deleting them, in bounded batches.
//!
//! Where nothing stands yet, as in a first load, a plain `SET` with `NX` does, at less than half of what the script costs
//! the server; whatever it finds taken goes by the script that compares row times, and so does everything once most is
//! taken. Both decide in the server, in one step, so it is no matter who else writes or deletes meanwhile.
//!
//! Batches that are on their way together have no entity in common, so that their order, and that of what is sent
//! again, is no matter either.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use foldhash::fast::RandomState;
use futures::{TryStreamExt, stream::FuturesUnordered};
use redis::{Cmd, Value};
use vintner_core::{EntityKey, ProjectName, ViewId};

use super::{
    BATCHES_AT_ONCE, READ_KEYS, WRITE_BYTES, WRITE_ROWS,
    errors::{Failure, Fault, code, integer, sound},
    keys::row_key,
    script::WRITE,
    servers::{Keyed, Servers, within},
};
use crate::{
    row::PackedRow,
    store::{Expiry, OnlineRow, Remaining, WriteReport},
};

/// With fewer rows, it is not tried whether nothing stands yet: they are most likely updates.
const MANY_ROWS: usize = 2 * WRITE_ROWS;

/// Writes rows, several batches at one time. `hash` is that of the script.
pub(super) async fn write(
    servers: &Servers,
    hash: &str,
    project: &ProjectName,
    view: &ViewId,
    expiry: Option<Expiry>,
    rows: &[OnlineRow],
) -> Result<WriteReport, Failure> {
    let writing = Writing {
        servers,
        hash,
        project,
        view,
        expiry,
        is_vacant: AtomicBool::new(rows.len() >= MANY_ROWS),
    };
    let mut report = WriteReport::default();
    let mut rest = rows;
    while !rest.is_empty() {
        let (distinct, after) = rest.split_at(distinct(rest));
        rest = after;
        let mut batches = batches(distinct);
        let mut on_way = FuturesUnordered::new();
        loop {
            while on_way.len() < BATCHES_AT_ONCE
                && let Some(batch) = batches.next()
            {
                on_way.push(within(writing.batch(batch)));
            }
            match on_way.try_next().await? {
                Some(part) => report += part,
                None => break,
            }
        }
    }
    Ok(report)
}

/// One call's rows on their way.
struct Writing<'a> {
    servers: &'a Servers,
    hash: &'a str,
    project: &'a ProjectName,
    view: &'a ViewId,
    expiry: Option<Expiry>,
    /// Whether most of the last batch's entities had no row.
    is_vacant: AtomicBool,
}

impl Writing<'_> {
    async fn batch(&self, rows: &[OnlineRow]) -> Result<WriteReport, Failure> {
        if !self.is_vacant.load(Ordering::Relaxed) {
            return self.compare(&rows.iter().collect::<Vec<_>>()).await;
        }
        let taken = self.set_vacant(rows).await?;
        if taken.len() * 2 > rows.len() {
            self.is_vacant.store(false, Ordering::Relaxed);
        }
        let mut report = self.compare(&taken).await?;
        report.written += (rows.len() - taken.len()) as u64;
        Ok(report)
    }

    /// Sets the rows of entities that have none. Out: the other rows, and those that are not to be kept.
    async fn set_vacant<'r>(&self, rows: &'r [OnlineRow]) -> Result<Vec<&'r OnlineRow>, Failure> {
        let mut left = Vec::new();
        let mut set = Vec::with_capacity(rows.len());
        let mut commands = Vec::with_capacity(rows.len());
        for row in rows {
            let mut command = redis::cmd("SET");
            let key = row_key(self.project, self.view, &row.key);
            command.arg(&key).arg(row.row.as_bytes()).arg("NX");
            match remaining(self.expiry, &row.row) {
                Remaining::Gone => {
                    left.push(row);
                    continue;
                }
                Remaining::Forever => {}
                Remaining::For(time) => {
                    command.arg("PX").arg(milliseconds(time));
                }
            }
            commands.push(self.servers.keyed(&key, command));
            set.push(row);
        }
        for (row, answer) in set.into_iter().zip(self.servers.send(commands).await?) {
            match sound(answer)? {
                Value::Okay => {}
                Value::Nil => left.push(row),
                _ => return Err(Fault::Unexpected("the answer is neither OK nor nothing").into()),
            }
        }
        Ok(left)
    }

    /// Writes rows by the script. Where a server does not have it, it is sent along once more, and the server has it
    /// then.
    async fn compare(&self, rows: &[&OnlineRow]) -> Result<WriteReport, Failure> {
        let parts: Vec<_> = rows
            .chunks(self.servers.keys_together(rows.len()))
            .collect();
        let by_hash = parts
            .iter()
            .map(|part| self.call("EVALSHA", self.hash, part));
        let mut answers = self.servers.send(by_hash.collect()).await?;
        let lacks = |answer: &Value| code(answer) == Some("NOSCRIPT");
        let again: Vec<_> = (0..answers.len())
            .filter(|&place| lacks(&answers[place]))
            .collect();
        let whole = again
            .iter()
            .map(|&place| self.call("EVAL", WRITE, parts[place]));
        let mut whole = self.servers.send(whole.collect()).await?.into_iter();
        for place in again {
            answers[place] = whole.next().unwrap_or(Value::Nil);
        }
        let mut report = WriteReport::default();
        for (part, answer) in parts.into_iter().zip(answers) {
            let all = part.len() as u64;
            let written = u64::try_from(integer(answer)?).ok();
            let Some(written) = written.filter(|&written| written <= all) else {
                return Err(Fault::Unexpected("the script gave no number of rows").into());
            };
            report.written += written;
            report.kept += all - written;
        }
        Ok(report)
    }

    /// Calls the script for rows whose keys may stand in one command; there is at least one.
    fn call(&self, name: &str, script: &str, rows: &[&OnlineRow]) -> Keyed {
        let mut command: Cmd = redis::cmd(name);
        command.arg(script).arg(rows.len());
        let mut slot = 0;
        for row in rows {
            let key = row_key(self.project, self.view, &row.key);
            slot = self.servers.slot(&key);
            command.arg(&key);
        }
        for row in rows {
            let lifetime = lifetime(self.expiry, &row.row);
            command.arg(row.row.as_bytes()).arg(lifetime);
        }
        Keyed { slot, command }
    }
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

/// How many rows there are before an entity comes again: at least one.
fn distinct(rows: &[OnlineRow]) -> usize {
    let mut seen = HashSet::with_hasher(RandomState::default());
    rows.iter()
        .take_while(|row| seen.insert(row.key.as_bytes()))
        .count()
}

/// The rows in parts that are sent at once.
fn batches(mut rows: &[OnlineRow]) -> impl Iterator<Item = &[OnlineRow]> {
    std::iter::from_fn(move || {
        let (batch, after) = rows.split_at(batch_length(rows));
        rows = after;
        (!batch.is_empty()).then_some(batch)
    })
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

fn remaining(expiry: Option<Expiry>, row: &PackedRow) -> Remaining {
    expiry.map_or(Remaining::Forever, |expiry| {
        expiry.remaining(row.time().event)
    })
}

fn milliseconds(time: Duration) -> u128 {
    time.as_micros().div_ceil(1000)
}

/// How long a row may stay, as the scripts are told it.
pub(super) fn lifetime(expiry: Option<Expiry>, row: &PackedRow) -> String {
    match remaining(expiry, row) {
        Remaining::Gone => "gone".to_owned(),
        Remaining::Forever => "forever".to_owned(),
        Remaining::For(time) => milliseconds(time).to_string(),
    }
}
