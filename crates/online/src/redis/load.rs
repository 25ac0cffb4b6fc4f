//! How far a view has been loaded, and whether what was loaded is still there.
//!
//! A server acknowledges writes that it may lose: when it is killed, or when a replica takes its place that has not had
//! them yet, or when someone empties it. So every load is tied to the life of the servers. Source: "A load that ends" in
//! `docs/formats/online-row.md`.

use futures::future::{try_join, try_join_all};
use redis::Value;
use vintner_core::{ProjectName, ViewId};

use super::{
    errors::{Failure, bytes, integer, text},
    keys::progress_key,
    mark::{MARK, marks},
    script::END_LOAD,
    server::{Server, field},
    servers::{Servers, within},
};
use crate::store::Load;

/// Between the life and the progress in a cluster's note. No life has it.
const SEPARATOR: u8 = b'\n';

/// Where the loading of a view stands.
pub(super) async fn load(
    servers: &Servers,
    project: &ProjectName,
    view: &ViewId,
) -> Result<Load, Failure> {
    within(async {
        let life = life(servers).await?;
        let noted = noted(servers, &progress_key(project, view)).await?;
        Ok(load_of(servers, noted, life))
    })
    .await
}

/// Begins a load: from now on there is a note, which goes when the rows are deleted.
pub(super) async fn begin(
    servers: &Servers,
    project: &ProjectName,
    view: &ViewId,
) -> Result<Load, Failure> {
    within(async {
        let key = progress_key(project, view);
        let life = life(servers).await?;
        let noted = noted(servers, &key).await?;
        if noted.is_none() {
            // Another load may have ended since the reading, hence NX.
            let mut command = redis::cmd("SET");
            command.arg(&key).arg("").arg("NX");
            bytes_or_okay(servers.send_one(key.as_bytes(), command).await?)?;
        }
        Ok(load_of(servers, noted, life))
    })
    .await
}

/// Notes how far a load has come. False: rows of it may be gone, and nothing is noted.
pub(super) async fn end(
    servers: &Servers,
    project: &ProjectName,
    view: &ViewId,
    load: &Load,
    progress: &[u8],
) -> Result<bool, Failure> {
    within(async {
        let key = progress_key(project, view);
        let (checked, note) = match servers {
            // The script looks at the life and sets the note in one step.
            Servers::One(_) => (load.life.as_str(), progress.to_vec()),
            // No step is one on several nodes. So the note says in which life it holds, and whoever reads it compares.
            Servers::Cluster(_) => {
                if life(servers).await? != load.life {
                    return Ok(false);
                }
                let note = [load.life.as_bytes(), &[SEPARATOR], progress].concat();
                ("", note)
            }
        };
        let mut command = redis::cmd("EVAL");
        command.arg(END_LOAD);
        match servers {
            Servers::One(_) => command.arg(2).arg(&key).arg(MARK),
            Servers::Cluster(_) => command.arg(1).arg(&key),
        };
        command.arg(checked).arg(note);
        let noted = integer(servers.send_one(key.as_bytes(), command).await?)?;
        Ok(noted == 1)
    })
    .await
}

/// Forgets that the view was ever loaded.
pub(super) async fn forget(
    servers: &Servers,
    project: &ProjectName,
    view: &ViewId,
) -> Result<(), Failure> {
    let key = progress_key(project, view);
    let mut command = redis::cmd("DEL");
    command.arg(&key);
    integer(within(servers.send_one(key.as_bytes(), command)).await?).map(|_| ())
}

/// What stands for the progress of a view: empty until a first load has ended.
async fn noted(servers: &Servers, key: &str) -> Result<Option<Vec<u8>>, Failure> {
    let mut command = redis::cmd("GET");
    command.arg(key);
    bytes(servers.send_one(key.as_bytes(), command).await?)
}

fn load_of(servers: &Servers, noted: Option<Vec<u8>>, life: String) -> Load {
    let begun = noted.is_some();
    let progress = match servers {
        Servers::One(_) => noted,
        Servers::Cluster(_) => noted.and_then(|note| progress_of(&note, &life)),
    };
    Load {
        begun,
        progress: progress.filter(|progress| !progress.is_empty()),
        life,
    }
}

/// The progress in a cluster's note, when it was noted in this life.
fn progress_of(note: &[u8], life: &str) -> Option<Vec<u8>> {
    let end = note.iter().position(|&byte| byte == SEPARATOR)?;
    let (noted_in, rest) = note.split_at(end);
    (noted_in == life.as_bytes()).then(|| rest.get(1..).unwrap_or_default().to_vec())
}

/// The life of the servers: for each that has slots, which process it is (`run_id`) and which history its data has
/// (`master_replid`); and the marks. A process that was a replica meanwhile has another history, and one that was
/// emptied has lost its marks.
async fn life(servers: &Servers) -> Result<String, Failure> {
    let primaries = servers.primaries().await?;
    let lives = try_join_all(primaries.iter().map(|server| life_of(server)));
    let (mut lives, marks) = try_join(lives, marks(servers)).await?;
    lives.sort_unstable();
    Ok(format!("{}:{marks}", lives.join(",")))
}

async fn life_of(server: &Server) -> Result<String, Failure> {
    let mut question = redis::pipe();
    question.cmd("INFO").arg("server");
    question.cmd("INFO").arg("replication");
    let mut answers = server.ask(&question).await?.into_iter();
    let mut info = || text(answers.next().unwrap_or(Value::Nil));
    let (process, replication) = (info()?, info()?);
    let run = field(&process, "run_id").unwrap_or_default();
    let history = field(&replication, "master_replid").unwrap_or_default();
    Ok(format!("{run}:{history}"))
}

/// An answer to SET with NX, which is OK or nothing.
fn bytes_or_okay(answer: Value) -> Result<(), Failure> {
    match answer {
        Value::Okay => Ok(()),
        other => bytes(other).map(|_| ()),
    }
}
