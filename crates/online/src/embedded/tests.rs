use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use proptest::prelude::*;
use vintner_core::Value;

use super::*;
use crate::tests::{chain, feature, key, revision, row, suite, time};

/// A map that a few rows fill.
const SMALL_MAP: usize = 64 << 10;

fn project() -> ProjectName {
    "project".parse().unwrap()
}

fn view() -> ViewId {
    "view@1".parse().unwrap()
}

/// Rows of about a kilobyte.
fn rows(ids: std::ops::Range<i64>) -> Vec<OnlineRow> {
    let revision = revision("view@1", &[feature("text", "string")], None);
    let value = Some(Value::String("x".repeat(1000)));
    ids.map(|id| {
        row(
            &revision,
            &id.to_string(),
            time(id, 0),
            std::slice::from_ref(&value),
        )
    })
    .collect()
}

async fn write(store: &EmbeddedStore, rows: &[OnlineRow]) -> Result<WriteReport, OnlineError> {
    store.write(&project(), &view(), None, rows).await
}

async fn read(
    store: &EmbeddedStore,
    rows: &[OnlineRow],
) -> Result<Vec<Option<Bytes>>, OnlineError> {
    let (view, keys) = (
        view(),
        rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(),
    );
    let mut read = store
        .read(
            &project(),
            &[Lookup {
                view: &view,
                keys: &keys,
                cache: None,
            }],
        )
        .await?;
    Ok(read.remove(0))
}

async fn assert_holds(store: &EmbeddedStore, rows: &[OnlineRow]) {
    let stored = read(store, rows).await.unwrap();
    assert!(
        stored
            .iter()
            .zip(rows)
            .all(|(stored, row)| stored.as_deref() == Some(row.row.as_bytes()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_keeps_the_rules_of_every_store() {
    let folder = tempfile::tempdir().unwrap();
    suite::run(Arc::new(EmbeddedStore::open(folder.path()).await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_has_to_grow_keeps_the_rules_of_every_store() {
    let folder = tempfile::tempdir().unwrap();
    suite::run(Arc::new(
        EmbeddedStore::open_with(folder.path(), SMALL_MAP)
            .await
            .unwrap(),
    ))
    .await;
}

#[tokio::test]
async fn opening_a_folder_twice_gives_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let one = EmbeddedStore::open(folder.path()).await.unwrap();
    let two = EmbeddedStore::open(
        &folder
            .path()
            .join("..")
            .join(folder.path().file_name().unwrap()),
    )
    .await
    .unwrap();
    let rows = rows(0..10);
    write(&one, &rows).await.unwrap();
    assert_holds(&two, &rows).await;
    drop(one);
    assert_holds(&two, &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_can_be_opened_while_its_last_user_drops_it() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(0..10);
    write(&EmbeddedStore::open(folder.path()).await.unwrap(), &rows)
        .await
        .unwrap();
    let users = (0..8).map(|_| {
        let (path, rows) = (folder.path().to_owned(), rows.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                assert_holds(&EmbeddedStore::open(&path).await.unwrap(), &rows).await;
            }
        })
    });
    for user in futures::future::join_all(users).await {
        user.unwrap();
    }
}

#[tokio::test]
async fn a_stored_value_without_a_row_time_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let rows = rows(0..3);
    for (row, length) in rows.iter().zip([0, 1, 16]) {
        put_raw(&store, &row.key, &vec![0xff; length]);
    }
    assert_eq!(
        write(&store, &rows).await.unwrap(),
        WriteReport {
            written: 3,
            kept: 0
        }
    );
    assert_holds(&store, &rows).await;
}

#[tokio::test]
async fn a_long_key_is_never_taken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let long = key(&"k".repeat(1000));
    let rows = [OnlineRow {
        key: long.clone(),
        ..rows(0..1).remove(0)
    }];
    // The place of the key holds something else, as if two keys had one hash.
    for other in [
        vec![],
        vec![0xff; 40],
        [5_u64.to_le_bytes().as_slice(), b"other row"].concat(),
    ] {
        put_raw(&store, &long, &other);
        for err in [
            read(&store, &rows).await.unwrap_err(),
            write(&store, &rows).await.unwrap_err(),
        ] {
            assert!(
                matches!(&err, OnlineError::KeyCollision { key, .. } if *key == long),
                "{err:?}"
            );
        }
    }
}

/// What a store of a few entities is asked to do.
#[derive(Clone, Debug)]
enum Act {
    /// Writes a row of so many bytes for an entity.
    Write(usize, usize),
    Delete(usize),
    Index,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let bytes = prop::sample::select(vec![0, 100, 1000, 4000, 100_000]);
    let act = prop_oneof![
        3 => (0..ENTITIES, bytes).prop_map(|(entity, bytes)| Act::Write(entity, bytes)),
        1 => (0..ENTITIES).prop_map(Act::Delete),
        2 => Just(Act::Index),
    ];
    prop::collection::vec(act, 1..30)
}

/// Half of them have keys that are too long to be stored as they are.
const ENTITIES: usize = 8;

fn entity(number: usize) -> EntityKey {
    key(&"x".repeat(number + 600 * (number % 2)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is written between, in a map that has to grow, and with rows that are too large for an index.
    #[test]
    fn a_store_that_is_indexed_says_what_one_that_is_searched_says(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open_with(folder.path(), SMALL_MAP).await.unwrap();
            let revision = revision("view@1", &[feature("text", "string")], None);
            let mut want = vec![None; ENTITIES];
            for (event, act) in (0..).zip(acts) {
                match act {
                    Act::Write(number, bytes) => {
                        let value = Some(Value::String("y".repeat(bytes)));
                        let mut row = row(&revision, "", time(event, 0), &[value]);
                        row.key = entity(number);
                        write(&store, std::slice::from_ref(&row)).await.unwrap();
                        want[number] = Some(row.row.as_bytes().to_vec());
                    }
                    Act::Delete(number) => {
                        store.delete_rows(&project(), &view(), &[entity(number)]).await.unwrap();
                        want[number] = None;
                    }
                    Act::Index => {
                        store.environment.make_index().unwrap();
                        prop_assert!(store.environment.is_indexed());
                    }
                }
                let (view, keys) = (view(), (0..ENTITIES).map(entity).collect::<Vec<_>>());
                let lookup = Lookup { view: &view, keys: &keys, cache: None };
                let found = store.read(&project(), &[lookup]).await.unwrap().remove(0);
                let found: Vec<_> = found.into_iter().map(|row| row.map(|row| row.to_vec())).collect();
                prop_assert_eq!(&found, &want);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn rows_that_are_read_again_and_again_are_indexed() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let written = rows(0..100);
    for change in [0, 50] {
        write(&store, &written[change..]).await.unwrap();
        assert!(!store.environment.is_indexed());
        let began = std::time::Instant::now();
        while !store.environment.is_indexed() {
            assert!(began.elapsed() < std::time::Duration::from_secs(30));
            assert_holds(&store, &written).await;
        }
        assert_holds(&store, &written).await;
    }
}

fn put_raw(store: &EmbeddedStore, key: &EntityKey, value: &[u8]) {
    let mut stored_key = view_prefix(&project(), &view());
    push_entity(&mut stored_key, key);
    store
        .environment
        .write("test", |txn, databases| {
            databases.rows.put(txn, &stored_key, value)
        })
        .unwrap();
}

#[tokio::test]
async fn a_folder_that_is_not_a_store_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let made = async |name: &str| {
        write(
            &EmbeddedStore::open(&at(name)).await.unwrap(),
            &rows(0..100),
        )
        .await
        .unwrap();
        at(name).join("data.mdb")
    };
    std::fs::write(at("file"), "").unwrap();
    std::fs::create_dir(at("other")).unwrap();
    std::fs::write(at("other").join("data.mdb"), vec![7; 8192]).unwrap();
    let cut = made("cut").await;
    std::fs::File::options()
        .write(true)
        .open(cut)
        .unwrap()
        .set_len(3 * 4096)
        .unwrap();
    made("newer").await;
    set_format(&at("newer"), b"2").await;

    let mut messages = Vec::new();
    for name in ["file", "other", "cut", "newer"] {
        let message = chain(&EmbeddedStore::open(&at(name)).await.unwrap_err());
        let root = folder.path().canonicalize().unwrap();
        messages.push(
            message
                .replace(&root.display().to_string(), "FOLDER")
                .replace(&folder.path().display().to_string(), "FOLDER"),
        );
    }
    insta::assert_snapshot!(messages.join("\n"));
}

async fn set_format(folder: &Path, format: &[u8]) {
    let store = EmbeddedStore::open(folder).await.unwrap();
    store.environment.set_format(format);
}

// Other processes: the test starts its own program again, which then runs `in_another_process` alone.

const FOLDER: &str = "VINTNER_TEST_FOLDER";

/// What the other process does.
const JOB: &str = "VINTNER_TEST_JOB";

fn another_process(folder: &Path, job: &str) -> Child {
    start(
        &mut Command::new(std::env::current_exe().unwrap()),
        folder,
        job,
    )
}

/// Like [`another_process`], and no file may become longer than a few megabytes, as if the disk were full.
fn another_process_on_a_small_disk(folder: &Path, job: &str) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""]);
    start(shell.arg(std::env::current_exe().unwrap()), folder, job)
}

fn start(command: &mut Command, folder: &Path, job: &str) -> Child {
    command
        .args([
            "--exact",
            "embedded::tests::in_another_process",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .env(JOB, job)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lines that the other process says by `say`.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("said: ").map(|(_, what)| what.to_owned()))
}

fn say(what: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nsaid: {what}").unwrap();
    out.flush().unwrap();
}

#[tokio::test]
async fn in_another_process() {
    let (Ok(folder), Ok(job)) = (std::env::var(FOLDER), std::env::var(JOB)) else {
        return;
    };
    let store = EmbeddedStore::open_with(&PathBuf::from(folder), SMALL_MAP)
        .await
        .unwrap();
    match &*job {
        "fill" => {
            write(&store, &rows(0..2000)).await.unwrap();
        }
        "write for ever" => {
            for id in 0.. {
                write(&store, &rows(id..id + 1)).await.unwrap();
                say(id);
            }
        }
        "die in a transaction" => {
            let mut writes = store.environment.write("test", |txn, databases| {
                databases.rows.put(txn, b"half", b"done")?;
                say("writing");
                std::io::stdin().read_line(&mut String::new())?;
                Ok(())
            });
            writes = writes.and(Ok(()));
            panic!("was not killed: {writes:?}");
        }
        "fill the disk" => {
            for id in (0..).step_by(10) {
                if let Err(err) = write(&store, &rows(id..id + 10)).await {
                    let message = chain(&err);
                    assert!(message.contains("full"), "{message}");
                    say(id);
                    return;
                }
            }
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_store_that_another_process_has_grown_is_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open_with(folder.path(), SMALL_MAP)
        .await
        .unwrap();
    assert!(
        another_process(folder.path(), "fill")
            .wait()
            .unwrap()
            .success()
    );
    assert_holds(&store, &rows(0..2000)).await;
    write(&store, &rows(2000..2500)).await.unwrap();
    // What it knows of where rows lie is void when another process writes.
    store.environment.make_index().unwrap();
    assert_holds(&store, &rows(0..2500)).await;
    assert!(
        another_process(folder.path(), "fill")
            .wait()
            .unwrap()
            .success()
    );
    write(&store, &rows(2500..5000)).await.unwrap();
    assert_holds(&store, &rows(0..5000)).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_death_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = another_process(folder.path(), "write for ever");
    let acknowledged = said(&mut child).nth(100).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    assert_holds(&store, &rows(0..acknowledged.parse::<i64>().unwrap() + 1)).await;
    write(&store, &rows(0..2000)).await.unwrap();
}

#[tokio::test]
async fn a_process_that_dies_in_a_transaction_leaves_nothing_and_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    let mut child = another_process(folder.path(), "die in a transaction");
    assert_eq!(said(&mut child).next().as_deref(), Some("writing"));
    child.kill().unwrap();
    child.wait().unwrap();
    write(&store, &rows(0..10)).await.unwrap();
    assert_holds(&store, &rows(0..10)).await;
    let half = store.environment.read("test", |txn, databases| {
        Ok(databases.rows.get(txn, b"half")?.is_some())
    });
    assert!(!half.unwrap());
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_never_half_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = another_process_on_a_small_disk(folder.path(), "fill the disk");
    let failed: i64 = said(&mut child).next().unwrap().parse().unwrap();
    // Its own harness may find that nobody reads on, so its exit code says nothing.
    child.wait().unwrap();
    assert!(failed > 100, "{failed}");
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    assert_holds(&store, &rows(0..failed)).await;
    let stored = read(&store, &rows(failed..failed + 10)).await.unwrap();
    assert!(stored.iter().all(Option::is_none));
    write(&store, &rows(0..failed + 1000)).await.unwrap();
    assert_holds(&store, &rows(0..failed + 1000)).await;
}
