//! What holds for every online store. Each check has a project of its own, so all of them can use one store.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use vintner_core::{EntityKey, ProjectName, RowTime, Value, ViewId};

use super::{CACHE, feature, key, revision, row, time};
use crate::{
    Lookup, OnlineError, OnlineRow, OnlineStore, PacedDeletion, Replacement, WriteReport,
    row::RowHeader,
};

/// Runs every check on a store. All of them run, and the ones that fail are named.
pub(crate) async fn run(store: Arc<dyn OnlineStore>) {
    let mut failed = Vec::new();
    for (index, (name, check)) in CHECKS.iter().enumerate() {
        let project = format!("suite{index}").parse().unwrap();
        let checked = check(Arc::clone(&store), project);
        if AssertUnwindSafe(checked).catch_unwind().await.is_err() {
            failed.push(*name);
        }
    }
    assert!(
        failed.is_empty(),
        "{store:?} does not keep these rules: {failed:#?}"
    );
}

type Check = fn(Arc<dyn OnlineStore>, ProjectName) -> BoxFuture<'static, ()>;

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), |store, project| $name(store, project).boxed())),*]
    };
}

const CHECKS: &[(&str, Check)] = checks![
    what_was_never_written_is_not_there,
    a_row_replaces_what_is_not_newer,
    the_greatest_of_one_call_stays_whatever_the_order,
    of_equal_rows_the_last_stays,
    a_write_is_read_whatever_was_read_before,
    projects_views_versions_and_keys_do_not_mix,
    answers_have_the_order_of_the_question,
    many_rows_are_written_in_one_call,
    many_rows_follow_the_rule_one_by_one,
    loads_of_the_same_entities_at_one_time_end_with_the_greatest,
    long_keys_and_large_rows_come_back,
    writers_at_the_same_time_end_with_the_greatest,
    progress_is_kept_per_view,
    a_load_that_is_not_ended_leaves_the_progress_as_it_was,
    loads_at_the_same_time_all_end,
    a_load_whose_rows_were_deleted_is_not_noted,
    deleting_a_view_leaves_the_others,
    many_rows_are_deleted_in_one_call,
    every_entity_that_has_a_row_is_listed,
    only_what_was_seen_is_replaced,
    rows_are_deleted_at_the_rate_that_was_asked_for,
    a_store_that_is_there_says_what_it_is,
];

fn view(id: &str) -> ViewId {
    id.parse().unwrap()
}

/// A row that says when it was written and `tag`.
fn tagged(id: &str, time: RowTime, tag: &str) -> OnlineRow {
    let revision = revision("view@1", &[feature("tag", "string")], None);
    row(&revision, id, time, &[Some(Value::String(tag.into()))])
}

/// What is read, twice, as a store may answer from memory the second time.
async fn read_one(
    store: &dyn OnlineStore,
    project: &ProjectName,
    view: &ViewId,
    key: &EntityKey,
) -> Option<Bytes> {
    let keys = [key.clone()];
    let lookup = Lookup {
        view,
        keys: &keys,
        cache: CACHE,
    };
    let mut read = Vec::new();
    for _ in 0..2 {
        let rows = store.read(project, &[lookup]).await.unwrap();
        read.extend(rows.into_iter().flatten());
    }
    assert_eq!(read[0], read[1], "{key:?} of {view}");
    read.pop().unwrap()
}

async fn what_was_never_written_is_not_there(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("nothing@1");
    assert_eq!(read_one(&*store, &project, &view, &key("x")).await, None);
    assert_eq!(progress(&*store, &project, &view).await, None);
    assert_eq!(empty(&*store, &project, &view).await, 0);
    let report = store.write(&project, &view, None, &[]).await.unwrap();
    assert_eq!(report, WriteReport::default());
    assert!(store.read(&project, &[]).await.unwrap().is_empty());
    let nobody = store
        .read(
            &project,
            &[Lookup {
                view: &view,
                keys: &[],
                cache: CACHE,
            }],
        )
        .await
        .unwrap();
    assert_eq!(nobody, [vec![]]);
}

async fn a_row_replaces_what_is_not_newer(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("order@1");
    // Bytes above 0x7f and on every place of the time, or a comparison as text or as floats would pass.
    let grid = [
        i64::MIN,
        -256,
        -1,
        0,
        1,
        127,
        128,
        255,
        256,
        (1 << 53) + 1,
        (1 << 53) + 2,
        i64::MAX,
    ];
    let mut rows = Vec::new();
    for (i, &stored) in grid.iter().enumerate() {
        for (j, &new) in grid.iter().enumerate() {
            for (kind, stored, new) in [
                ("event", time(stored, 5), time(new, 5)),
                ("created", time(5, stored), time(5, new)),
                ("both", time(stored, new), time(new, stored)),
            ] {
                rows.push((format!("{kind} {i} {j}"), stored, new));
            }
        }
    }
    let first: Vec<_> = rows
        .iter()
        .map(|(id, stored, _)| tagged(id, *stored, "stored"))
        .collect();
    let report = store.write(&project, &view, None, &first).await.unwrap();
    assert_eq!(
        report,
        WriteReport {
            written: rows.len() as u64,
            kept: 0
        }
    );
    let second: Vec<_> = rows
        .iter()
        .map(|(id, _, new)| tagged(id, *new, "new"))
        .collect();
    let report = store.write(&project, &view, None, &second).await.unwrap();
    let kept = rows.iter().filter(|(_, stored, new)| stored > new).count() as u64;
    assert_eq!(
        report,
        WriteReport {
            written: rows.len() as u64 - kept,
            kept
        }
    );
    for (((id, stored, new), first), second) in rows.iter().zip(&first).zip(&second) {
        let want = if new >= stored { second } else { first };
        let got = read_one(&*store, &project, &view, &want.key).await.unwrap();
        assert_eq!(got, want.row.as_bytes(), "{id}: {stored:?} then {new:?}");
    }
}

async fn the_greatest_of_one_call_stays_whatever_the_order(
    store: Arc<dyn OnlineStore>,
    project: ProjectName,
) {
    let view = view("batch@1");
    for (id, order) in [
        ("a", [1, 2, 3]),
        ("b", [3, 2, 1]),
        ("c", [2, 3, 1]),
        ("d", [2, 1, 3]),
    ] {
        let rows = order.map(|event| tagged(id, time(event, 0), ""));
        store.write(&project, &view, None, &rows).await.unwrap();
        let got = read_one(&*store, &project, &view, &key(id)).await.unwrap();
        assert_eq!(
            RowHeader::parse(&got).unwrap().time,
            time(3, 0),
            "{order:?}"
        );
    }
}

async fn of_equal_rows_the_last_stays(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("equal@1");
    let rows = ["first", "second"].map(|tag| tagged("x", time(1, 1), tag));
    let report = store.write(&project, &view, None, &rows).await.unwrap();
    assert_eq!(
        report,
        WriteReport {
            written: 2,
            kept: 0
        }
    );
    assert_eq!(
        read_one(&*store, &project, &view, &rows[0].key)
            .await
            .unwrap(),
        rows[1].row.as_bytes()
    );
    store
        .write(&project, &view, None, &rows[..1])
        .await
        .unwrap();
    assert_eq!(
        read_one(&*store, &project, &view, &rows[0].key)
            .await
            .unwrap(),
        rows[0].row.as_bytes()
    );
}

async fn a_write_is_read_whatever_was_read_before(
    store: Arc<dyn OnlineStore>,
    project: ProjectName,
) {
    let view = view("again@1");
    for event in 0..50 {
        let row = tagged("x", time(event, 0), &event.to_string());
        let rows = [row.clone()];
        store.write(&project, &view, None, &rows).await.unwrap();
        let read = read_one(&*store, &project, &view, &key("x")).await;
        assert_eq!(read.as_deref(), Some(row.row.as_bytes()), "{event}");
        if event % 10 == 9 {
            let keys = [key("x")];
            store.delete_rows(&project, &view, &keys).await.unwrap();
            assert_eq!(read_one(&*store, &project, &view, &key("x")).await, None);
        }
    }
}

async fn projects_views_versions_and_keys_do_not_mix(
    store: Arc<dyn OnlineStore>,
    project: ProjectName,
) {
    let projects = [project.clone(), format!("{project}_b").parse().unwrap()];
    let views = ["v@1", "v@2", "v@12", "v_w@1", "vw@1", "w@1"].map(view);
    let keys = [
        b"".as_slice(),
        b"\0",
        b"\0\0",
        b"a",
        b"a\0",
        b"A",
        b"ab",
        b"}",
        b"}:v@1",
        b"a}:w@1",
        b"|",
        b"*",
        b"?",
        b"[a]",
        b"\\",
        b"\r\n",
        b"\xff",
        b"\xff\xff",
    ]
    .map(EntityKey::from_bytes);
    let mut places = Vec::new();
    for project in &projects {
        for view in &views {
            for key in &keys {
                places.push((project, view, key));
            }
        }
    }
    for (number, (project, view, key)) in places.iter().enumerate() {
        let row = OnlineRow {
            key: (*key).clone(),
            ..tagged("", time(0, 0), &number.to_string())
        };
        store.write(project, view, None, &[row]).await.unwrap();
    }
    for (number, (project, view, key)) in places.iter().enumerate() {
        let want = tagged("", time(0, 0), &number.to_string());
        let got = read_one(&*store, project, view, key).await.unwrap();
        assert_eq!(got, want.row.as_bytes(), "{project} {view} {key:?}");
    }
}

async fn answers_have_the_order_of_the_question(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let views = ["one@1", "two@1"].map(view);
    let rows = ["a", "b", "c"].map(|id| tagged(id, time(0, 0), id));
    store.write(&project, &views[0], None, &rows).await.unwrap();
    store
        .write(&project, &views[1], None, &rows[1..2])
        .await
        .unwrap();
    let keys = ["c", "x", "a", "c", "b"].map(key);
    let some = |row: &OnlineRow| Some(Bytes::copy_from_slice(row.row.as_bytes()));
    let [a, b, c] = rows.each_ref().map(some);
    let lookups = [
        Lookup {
            view: &views[1],
            keys: &keys,
            cache: CACHE,
        },
        Lookup {
            view: &views[0],
            keys: &keys[..2],
            cache: CACHE,
        },
        Lookup {
            view: &views[0],
            keys: &[],
            cache: CACHE,
        },
        Lookup {
            view: &views[0],
            keys: &keys,
            cache: CACHE,
        },
    ];
    let got = store.read(&project, &lookups).await.unwrap();
    let want = [
        vec![None, None, None, None, b.clone()],
        vec![c.clone(), None],
        vec![],
        vec![c.clone(), None, a, c, b],
    ];
    assert_eq!(got, want);
}

async fn many_rows_are_written_in_one_call(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("many@1");
    let rows: Vec<_> = (0..20_000)
        .map(|i| tagged(&format!("entity {i}"), time(i, 0), "tag"))
        .collect();
    let report = store.write(&project, &view, None, &rows).await.unwrap();
    assert_eq!(
        report,
        WriteReport {
            written: 20_000,
            kept: 0
        }
    );
    let keys: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
    let got = store
        .read(
            &project,
            &[Lookup {
                view: &view,
                keys: &keys,
                cache: CACHE,
            }],
        )
        .await
        .unwrap()
        .remove(0);
    assert_eq!(got.len(), rows.len());
    assert!(
        got.iter()
            .zip(&rows)
            .all(|(got, row)| got.as_deref() == Some(row.row.as_bytes()))
    );
}

/// Calls of many rows, some of entities that have none, some of entities that come twice in a call, with times that
/// tie: what each call reports and what is stored in the end is what one row after the other gives.
async fn many_rows_follow_the_rule_one_by_one(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("rule@1");
    let mut stored = BTreeMap::new();
    let mut dice = 1_u64;
    let mut roll = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) % below
    };
    for (call, entities) in [(0, 900), (1, 900), (2, 4000), (3, 300), (4, 4000)] {
        let rows: Vec<_> = (0..1500)
            .map(|number| {
                let id = roll(entities).to_string();
                let time = time(roll(3) as i64 - 1, roll(2) as i64);
                (id.clone(), tagged(&id, time, &format!("{call} {number}")))
            })
            .collect();
        let mut want = WriteReport::default();
        for (id, row) in &rows {
            let newer = |stored: &OnlineRow| stored.row.time() > row.row.time();
            if stored.get(id).is_some_and(newer) {
                want.kept += 1;
            } else {
                stored.insert(id.clone(), row.clone());
                want.written += 1;
            }
        }
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        let report = store.write(&project, &view, None, &rows).await.unwrap();
        assert_eq!(report, want, "call {call}");
        let keys: Vec<_> = stored.values().map(|row| row.key.clone()).collect();
        let lookup = Lookup {
            view: &view,
            keys: &keys,
            cache: CACHE,
        };
        let got = store.read(&project, &[lookup]).await.unwrap().remove(0);
        for ((id, want), got) in stored.iter().zip(&got) {
            assert_eq!(
                got.as_deref(),
                Some(want.row.as_bytes()),
                "{id}, call {call}"
            );
        }
        // Some go, so that the next call finds most but not all there.
        let gone: Vec<_> = stored.keys().filter(|_| roll(5) == 0).cloned().collect();
        let gone = gone.iter().filter_map(|id| stored.remove(id));
        let gone: Vec<_> = gone.map(|row| row.key).collect();
        let deleted = store.delete_rows(&project, &view, &gone).await.unwrap();
        assert_eq!(deleted, gone.len() as u64);
    }
}

/// Loads of the same entities at one time, by several writers: of each the greatest is there in the end.
async fn loads_of_the_same_entities_at_one_time_end_with_the_greatest(
    store: Arc<dyn OnlineStore>,
    project: ProjectName,
) {
    const ENTITIES: i64 = 700;
    let view = view("loads@1");
    let event = |writer: i64, step: i64, id: i64| (step * 7 + writer * 13 + id) % 50;
    let writers = (0..3).map(|writer| {
        let (store, project, view) = (Arc::clone(&store), project.clone(), view.clone());
        async move {
            for step in 0..4 {
                let rows = (0..ENTITIES).map(|id| {
                    let time = time(event(writer, step, id), writer);
                    tagged(&id.to_string(), time, &format!("{writer} {step}"))
                });
                let rows: Vec<_> = rows.collect();
                store.write(&project, &view, None, &rows).await.unwrap();
            }
        }
    });
    for done in futures::future::join_all(writers.map(tokio::spawn)).await {
        done.unwrap();
    }
    for id in 0..ENTITIES {
        let all =
            (0..3).flat_map(|writer| (0..4).map(move |step| time(event(writer, step, id), writer)));
        let got = read_one(&*store, &project, &view, &key(&id.to_string()))
            .await
            .unwrap();
        assert_eq!(
            Some(RowHeader::parse(&got).unwrap().time),
            all.max(),
            "{id}"
        );
    }
}

async fn long_keys_and_large_rows_come_back(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("long@1");
    let mut rows: Vec<_> = (380..520)
        .map(|length| tagged(&"k".repeat(length), time(0, 0), ""))
        .collect();
    // Long keys that differ in their last byte only, and one that another begins with.
    rows.extend(
        ["a", "b", "ab"]
            .map(|end| tagged(&format!("{}{end}", "k".repeat(100_000)), time(0, 0), end)),
    );
    rows.push(tagged("large", time(0, 0), &"x".repeat(3 << 20)));
    store.write(&project, &view, None, &rows).await.unwrap();
    for row in &rows {
        let got = read_one(&*store, &project, &view, &row.key).await.unwrap();
        assert!(
            got == row.row.as_bytes(),
            "a key of {} bytes",
            row.key.as_bytes().len()
        );
    }
    let older: Vec<_> = rows
        .iter()
        .map(|row| OnlineRow {
            key: row.key.clone(),
            ..tagged("", time(-1, 0), "")
        })
        .collect();
    let report = store.write(&project, &view, None, &older).await.unwrap();
    assert_eq!(
        report,
        WriteReport {
            written: 0,
            kept: rows.len() as u64
        }
    );
    assert_eq!(empty(&*store, &project, &view).await, rows.len() as u64);
}

async fn writers_at_the_same_time_end_with_the_greatest(
    store: Arc<dyn OnlineStore>,
    project: ProjectName,
) {
    let view = view("race@1");
    let writers = (0..4).map(|writer| {
        let (store, project, view) = (Arc::clone(&store), project.clone(), view.clone());
        async move {
            for step in 0..25 {
                let rows: Vec<_> = (0..20)
                    .map(|id| {
                        tagged(
                            &id.to_string(),
                            time((step * 7 + writer * 13 + id) % 50, writer),
                            &format!("{writer} {step}"),
                        )
                    })
                    .collect();
                store.write(&project, &view, None, &rows).await.unwrap();
            }
        }
    });
    futures::future::join_all(writers.map(tokio::spawn))
        .await
        .into_iter()
        .for_each(|done| done.unwrap());
    for id in 0..20 {
        let all = (0..4).flat_map(|writer| {
            (0..25).map(move |step| time((step * 7 + writer * 13 + id) % 50, writer))
        });
        let got = read_one(&*store, &project, &view, &key(&id.to_string()))
            .await
            .unwrap();
        assert_eq!(Some(RowHeader::parse(&got).unwrap().time), all.max());
    }
}

async fn progress_is_kept_per_view(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let (one, two) = (view("one@1"), view("one@2"));
    for noted in [b"first".as_slice(), b"second", &[0, 255, 10]] {
        load(&*store, &project, &one, noted).await.unwrap();
        assert_eq!(
            progress(&*store, &project, &one).await.as_deref(),
            Some(noted)
        );
    }
    assert_eq!(progress(&*store, &project, &two).await, None);
    load(&*store, &project, &two, b"two").await.unwrap();
    empty(&*store, &project, &one).await;
    assert_eq!(progress(&*store, &project, &one).await, None);
    assert_eq!(
        progress(&*store, &project, &two).await.as_deref(),
        Some(b"two".as_slice())
    );
}

async fn a_load_that_is_not_ended_leaves_the_progress_as_it_was(
    store: Arc<dyn OnlineStore>,
    project: ProjectName,
) {
    let view = view("view@1");
    store.begin_load(&project, &view).await.unwrap();
    assert_eq!(progress(&*store, &project, &view).await, None);
    load(&*store, &project, &view, b"first").await.unwrap();
    store.begin_load(&project, &view).await.unwrap();
    assert_eq!(
        progress(&*store, &project, &view).await.as_deref(),
        Some(b"first".as_slice())
    );
}

async fn loads_at_the_same_time_all_end(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("view@1");
    let one = store.begin_load(&project, &view).await.unwrap();
    let two = store.begin_load(&project, &view).await.unwrap();
    for (load, noted) in [(&two, b"two".as_slice()), (&one, b"one")] {
        store.end_load(&project, &view, load, noted).await.unwrap();
        assert_eq!(
            progress(&*store, &project, &view).await.as_deref(),
            Some(noted)
        );
    }
}

async fn a_load_whose_rows_were_deleted_is_not_noted(
    store: Arc<dyn OnlineStore>,
    project: ProjectName,
) {
    let view = view("view@1");
    for earlier in [None, Some(b"earlier".as_slice())] {
        if let Some(earlier) = earlier {
            load(&*store, &project, &view, earlier).await.unwrap();
        }
        let begun = store.begin_load(&project, &view).await.unwrap();
        empty(&*store, &project, &view).await;
        let ended = store.end_load(&project, &view, &begun, b"all").await;
        assert!(
            matches!(ended, Err(OnlineError::LostRows { .. })),
            "{ended:?}"
        );
        assert_eq!(progress(&*store, &project, &view).await, None);
    }
}

/// Deletes all rows of a view version, and that it was loaded; says how many rows there were.
pub(crate) async fn empty(store: &dyn OnlineStore, project: &ProjectName, view: &ViewId) -> u64 {
    store.forget(project, view).await.unwrap();
    let keys: Vec<_> = listed(store, project, view).await.into_iter().collect();
    store.delete_rows(project, view, &keys).await.unwrap()
}

/// The entities that have a row, from all pages.
async fn listed(
    store: &dyn OnlineStore,
    project: &ProjectName,
    view: &ViewId,
) -> BTreeSet<EntityKey> {
    let (mut keys, mut from) = (BTreeSet::new(), None);
    loop {
        let page = store.keys(project, view, from.as_ref()).await.unwrap();
        keys.extend(page.keys);
        match page.next {
            Some(next) => from = Some(next),
            None => return keys,
        }
    }
}

async fn every_entity_that_has_a_row_is_listed(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let (view, other) = (view("v@1"), view("v@11"));
    // As many as a page of the embedded store has, and one more and one less; keys too long for it; keys that look
    // like the end of a Redis key.
    for count in [0, 1, 4095, 4096, 4097] {
        let mut rows: Vec<_> = (0..count)
            .map(|i| tagged(&i.to_string(), time(0, 0), ""))
            .collect();
        if count == 4095 {
            let odd = ["k".repeat(2000), "}:v@1".to_owned(), "}:v@11".to_owned()];
            rows.extend(odd.map(|id| tagged(&id, time(0, 0), "")));
        }
        store.write(&project, &view, None, &rows).await.unwrap();
        let foreign = [tagged("foreign", time(0, 0), "")];
        store.write(&project, &other, None, &foreign).await.unwrap();
        let want: BTreeSet<_> = rows.iter().map(|row| row.key.clone()).collect();
        assert!(listed(&*store, &project, &view).await == want, "{count}");
        assert_eq!(listed(&*store, &project, &other).await.len(), 1);
        assert_eq!(empty(&*store, &project, &view).await, want.len() as u64);
        assert!(listed(&*store, &project, &view).await.is_empty());
    }
}

async fn only_what_was_seen_is_replaced(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("view@1");
    let long = "k".repeat(2000);
    for id in ["x", &long] {
        let (old, new, other) = (
            tagged(id, time(5, 5), "old"),
            tagged(id, time(5, 5), "new"),
            tagged(id, time(4, 9), "older"),
        );
        let seen = |row: &OnlineRow| Bytes::copy_from_slice(row.row.as_bytes());
        let replace = |seen: &OnlineRow, row: Option<&OnlineRow>| {
            let bytes = Bytes::copy_from_slice(seen.row.as_bytes());
            let replacement = Replacement {
                key: seen.key.clone(),
                seen: bytes,
                row: row.map(|row| row.row.clone()),
            };
            let (store, project, view) = (Arc::clone(&store), project.clone(), view.clone());
            async move {
                let done = store.replace(&project, &view, None, &[replacement]).await;
                done.unwrap()
            }
        };
        // Nothing is there, so nothing that was seen is.
        assert_eq!(replace(&old, Some(&new)).await, 0);
        let stored = || read_one(&*store, &project, &view, &old.key);
        assert_eq!(stored().await, None);
        store
            .write(&project, &view, None, std::slice::from_ref(&old))
            .await
            .unwrap();
        // Someone wrote since: a row of the same time, which is another one all the same.
        assert_eq!(replace(&new, None).await, 0);
        assert_eq!(stored().await, Some(seen(&old)));
        // An older row takes its place.
        assert_eq!(replace(&old, Some(&other)).await, 1);
        assert_eq!(stored().await, Some(seen(&other)));
        assert_eq!(replace(&other, None).await, 1);
        assert_eq!(stored().await, None);
    }
}

async fn rows_are_deleted_at_the_rate_that_was_asked_for(
    store: Arc<dyn OnlineStore>,
    project: ProjectName,
) {
    let view = view("view@1");
    let rows: Vec<_> = (0..1000)
        .map(|i| tagged(&i.to_string(), time(0, 0), ""))
        .collect();
    store.write(&project, &view, None, &rows).await.unwrap();
    let keys: Vec<_> = rows.into_iter().map(|row| row.key).collect();
    let began = std::time::Instant::now();
    let rate = 2000.try_into().unwrap();
    let mut deletion = PacedDeletion::new(&*store, &project, &view, rate);
    assert_eq!(deletion.delete(&keys[..600]).await.unwrap(), 600);
    assert_eq!(deletion.delete(&keys[600..]).await.unwrap(), 400);
    assert_eq!(deletion.delete(&keys).await.unwrap(), 0);
    // The last batch does not wait for its own time.
    let least = std::time::Duration::from_secs_f64((2000.0 - 512.0) / 2000.0);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
}

/// Loads nothing, and notes that.
async fn load(
    store: &dyn OnlineStore,
    project: &ProjectName,
    view: &ViewId,
    noted: &[u8],
) -> Result<(), OnlineError> {
    let before = store.load(project, view).await?;
    let begun = store.begin_load(project, view).await?;
    assert_eq!(begun, before);
    assert!(store.load(project, view).await?.begun);
    store.end_load(project, view, &begun, noted).await
}

/// How far the last load that ended has come.
async fn progress(
    store: &dyn OnlineStore,
    project: &ProjectName,
    view: &ViewId,
) -> Option<Vec<u8>> {
    store.load(project, view).await.unwrap().progress
}

async fn deleting_a_view_leaves_the_others(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let other: ProjectName = format!("{project}_other").parse().unwrap();
    let views = ["v@1", "v@2", "v@11", "v_v@1", "w@1"].map(view);
    let rows = ["a", "}:v@1", "v@1"].map(|id| tagged(id, time(0, 0), id));
    for project in [&project, &other] {
        for view in &views {
            store.write(project, view, None, &rows).await.unwrap();
        }
    }
    assert_eq!(empty(&*store, &project, &views[0]).await, 3);
    assert_eq!(empty(&*store, &project, &views[0]).await, 0);
    for project in [&project, &other] {
        for view in &views {
            let deleted = *project != other && *view == views[0];
            let got = read_one(&*store, project, view, &rows[1].key).await;
            assert_eq!(got.is_none(), deleted, "{project} {view}");
        }
    }
    // It can be filled again.
    store.write(&project, &views[0], None, &rows).await.unwrap();
    assert!(
        read_one(&*store, &project, &views[0], &rows[0].key)
            .await
            .is_some()
    );
}

async fn many_rows_are_deleted_in_one_call(store: Arc<dyn OnlineStore>, project: ProjectName) {
    let view = view("many@1");
    let rows: Vec<_> = (0..17_000)
        .map(|i| tagged(&i.to_string(), time(0, 0), ""))
        .collect();
    store.write(&project, &view, None, &rows).await.unwrap();
    assert_eq!(empty(&*store, &project, &view).await, 17_000);
    let keys: Vec<_> = rows.into_iter().map(|row| row.key).collect();
    let got = store
        .read(
            &project,
            &[Lookup {
                view: &view,
                keys: &keys,
                cache: CACHE,
            }],
        )
        .await
        .unwrap();
    assert!(got[0].iter().all(Option::is_none));
}

async fn a_store_that_is_there_says_what_it_is(store: Arc<dyn OnlineStore>, _: ProjectName) {
    let info = store.check().await.unwrap();
    assert!(info.version.contains('.'), "{info:?}");
    assert!(info.warnings.is_empty(), "{info:?}");
}
