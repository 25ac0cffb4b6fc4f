//! What the stores of a deployment hold, read around Vintner: the registry's files, every row of every Delta table, and
//! every entry of the online store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
};

use heed::{CommitOrAbort, Database, types::Bytes};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::harness::{Repo, here};

/// Every entry of an online store: the key, and the value. A key of the embedded store has its database before it.
pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A deployment whose stores are to be compared. Its online store has been read already.
pub(crate) struct Deployment {
    /// What happened to it.
    pub(crate) story: String,
    pub(crate) repo: Repo,
    pub(crate) online: Entries,
}

/// A deployment with the embedded online store.
pub(crate) fn deployment(story: &str, repo: Repo) -> Deployment {
    Deployment {
        story: story.to_owned(),
        online: embedded_entries(&repo.path(".vintner/online")),
        repo,
    }
}

/// A Delta table, as `tests/python/dump_tables.py` tells of it.
#[derive(Debug, Deserialize)]
struct Table {
    id: String,
    version: u64,
    columns: Json,
    rows: Vec<String>,
    files: Vec<(String, usize)>,
}

/// Compares the stores of each deployment with those of the first one.
///
/// What differs between any two deployments is left out: the ids of tables, and how many commits it took to fill them.
/// That the online store is loaded up to the newest commit of the table is compared.
pub(crate) fn assert_alike(deployments: &[Deployment]) {
    let stores = deployments.iter().zip(tables(deployments));
    let mut stores = stores.map(|(deployment, tables)| (deployment, lines(deployment, &tables)));
    let (_, want) = stores.next().unwrap();
    for kind in ["registry", "table", "row", "online", "progress"] {
        assert!(
            want.iter().any(|line| line.starts_with(kind)),
            "the clean run left no {kind}"
        );
    }
    for (deployment, got) in stores {
        let (more, less) = (without(&got, &want), without(&want, &got));
        assert!(
            got == want,
            "{}: of {} lines there are {} that a clean run does not leave: {:#?}\nand {} are missing: {:#?}",
            deployment.story,
            got.len(),
            more.len(),
            &more[..more.len().min(10)],
            less.len(),
            &less[..less.len().min(10)],
        );
    }
}

/// The entries of the embedded online store in a folder, which no process has open.
#[expect(
    unsafe_code,
    reason = "LMDB maps a file; nobody changes it while it is read here"
)]
pub(crate) fn embedded_entries(folder: &Path) -> Entries {
    let mut options = heed::EnvOpenOptions::new();
    options.max_dbs(3).map_size(1 << 30);
    let environment = unsafe { options.open(folder) }.unwrap();
    let transaction = environment.read_txn().unwrap();
    let read = environment.open_databases_and_commit(transaction, |opener, transaction| {
        let mut entries = Entries::new();
        for name in ["meta", "rows", "progress"] {
            let database = opener.open_database::<Bytes, Bytes>(transaction, Some(name))?;
            for entry in database.unwrap().iter(transaction)? {
                let (key, value) = entry?;
                // What tells one environment from another.
                if (name, key) == ("meta", b"life") {
                    continue;
                }
                entries.insert([name.as_bytes(), b" ", key].concat(), value.to_vec());
            }
        }
        heed::Result::Ok(CommitOrAbort::<Database<'_, Bytes, Bytes>, _>::Abort(
            entries,
        ))
    });
    match read.unwrap() {
        CommitOrAbort::Abort(entries) => entries,
        CommitOrAbort::Commit(_) => unreachable!("nothing is committed"),
    }
}

/// The tables of each deployment, by their paths.
fn tables(deployments: &[Deployment]) -> Vec<BTreeMap<String, Table>> {
    let python = std::env::var("VINTNER_TEST_PYTHON").expect(
        "VINTNER_TEST_PYTHON must name a Python with the deltalake package; `make test` sets it",
    );
    let output = Command::new(python)
        .arg("-B")
        .arg(here("tests/python/dump_tables.py"))
        .args(
            deployments
                .iter()
                .map(|deployment| deployment.repo.path(".vintner/offline")),
        )
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stores: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(stores.len(), deployments.len());
    stores
}

/// Everything that is the same in deployments that hold the same, a line for each thing.
fn lines(deployment: &Deployment, tables: &BTreeMap<String, Table>) -> Vec<String> {
    let mut lines = registry(&deployment.repo);
    for (path, table) in tables {
        let files: BTreeSet<_> = table.files.iter().map(|(file, _)| file).collect();
        assert_eq!(
            files.len(),
            table.files.len(),
            "{}: {path} counts a file twice: {:?}",
            deployment.story,
            table.files
        );
        assert_eq!(
            table.files.iter().map(|(_, rows)| rows).sum::<usize>(),
            table.rows.len(),
            "{}: the files of {path} do not have the rows that the log tells",
            deployment.story
        );
        lines.push(format!("table {path} {}", table.columns));
        lines.extend(table.rows.iter().map(|row| format!("row {path} {row}")));
    }
    for (key, value) in &deployment.online {
        // The mark of a server's life is another in each server.
        if key.starts_with(b"vn:life") {
            continue;
        }
        let key = hex(key);
        lines.push(match serde_json::from_slice(value) {
            Ok(Json::Object(progress)) => {
                format!("progress {key} {}", portable(progress, tables))
            }
            _ => format!("online {key} {}", hex(value)),
        });
    }
    lines.sort();
    lines
}

/// The versions of the registry, without the ids of their writes. The pointer to the newest one may lag.
fn registry(repo: &Repo) -> Vec<String> {
    let files = fs::read_dir(repo.path(".vintner/registry/registry")).unwrap();
    let versions = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pb"));
    versions
        .map(|path| {
            let bytes = without_write_id(fs::read(&path).unwrap());
            let name = path.file_name().unwrap().display().to_string();
            format!("registry {name} {}", hex(&bytes))
        })
        .collect()
}

/// A version of the registry without its `write_id`, a UUID that a writer makes up: field 6 of the message, of 36 bytes.
fn without_write_id(mut version: Vec<u8>) -> Vec<u8> {
    let at = version
        .windows(38)
        .position(|field| {
            field.starts_with(&[6 << 3 | 2, 36])
                && [8, 13, 18, 23].iter().all(|dash| field[2 + dash] == b'-')
        })
        .expect("a version has a write id");
    version.drain(at..at + 38);
    version
}

/// A progress, in which a table is called by its path and its newest version so.
fn portable(mut progress: serde_json::Map<String, Json>, tables: &BTreeMap<String, Table>) -> Json {
    let id = progress["table"].as_str().unwrap_or_default();
    if let Some((path, table)) = tables.iter().find(|(_, table)| table.id == id) {
        progress["table"] = path.as_str().into();
        if progress["version"] == table.version {
            progress["version"] = "newest".into();
        }
    }
    Json::Object(progress)
}

/// The lines of `all` that are not among `others`, each as often as there are too many of it. Both are sorted.
fn without<'a>(all: &'a [String], others: &[String]) -> Vec<&'a String> {
    let mut left: BTreeMap<&String, usize> = BTreeMap::new();
    for line in others {
        *left.entry(line).or_default() += 1;
    }
    let mut more = Vec::new();
    for line in all {
        match left.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => more.push(line),
        }
    }
    more
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
