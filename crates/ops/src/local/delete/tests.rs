//! What a deletion tells and refuses, and deletions in the midst of what others write. Any order of them with runs, pushes
//! and kills is in the histories of deployments.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use crate::{
    Fault, Local, Operations,
    api::{
        After, DeleteRequest, Deleted, EntityColumn, Repair, Sample, Scope, VerifyRequest,
        ViewDeletion,
    },
    local::world::{self, Row, SOMEBODY, START, World, after, deletion, entities, push},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use vintner_core::{
    Column, EntityKey, FeatureType, KeyValue, ProjectName, ScalarType, Value, ViewId,
};
use vintner_online::{
    Expiry, KeyCursor, KeyPage, Load, Lookup, OnlineError, OnlineRow, OnlineStore, Probe,
    Replacement, Status, StoreInfo, WriteReport,
};

/// The same deployment, as another process has it.
fn another(world: &World) -> Local {
    world::open(world.folder.path(), &world.clock)
}

/// What is online of a key.
async fn online(local: &Local, k: i64) -> (Status, Option<i64>) {
    let response = world::online(local, &[k], After::default()).await.unwrap();
    let column = &response.features[0];
    let value = match column.values.get(0) {
        Some(Value::Int64(v)) => Some(v),
        _ => None,
    };
    (column.statuses[0], value)
}

async fn delete(local: &Local, keys: &[i64]) -> ViewDeletion {
    let Deleted { mut views, retired } = local.delete(&deletion(keys)).await.unwrap();
    assert_eq!((views.len(), retired), (1, vec![]));
    views.remove(0)
}

/// How many entities differ online from the table.
async fn differing(local: &Local, repair: Repair) -> u64 {
    let request = VerifyRequest {
        views: vec![],
        sample: Sample::ALL,
        repair,
    };
    let found = local.verify(&request, &|_| {}).await.unwrap();
    found
        .iter()
        .map(|view| view.differing() + view.recent)
        .sum()
}

const GONE: (Status, Option<i64>) = (Status::NotFound, None);

#[tokio::test]
async fn deleted_rows_are_on_no_path_and_stay_away() {
    let world = World::new().await;
    world.source(
        "b",
        &[
            (1, START - 5, START - 5, Some(1)),
            (2, START - 5, START - 5, Some(2)),
        ],
    );
    world.materialize(Scope::Incremental).await;
    push(
        &world.local,
        &[(1, START - 1, START, Some(3)), (3, START, START, Some(4))],
    )
    .await;
    let asked = [(1, START), (1, START - 5), (2, START), (3, START)];
    let told = DeleteRequest {
        dry_run: true,
        ..deletion(&[1, 3, 7, 1])
    };
    let told = world.local.delete(&told).await.unwrap().views.remove(0);
    assert_eq!((told.entities, told.found, told.rows), (3, 2, 3));
    assert_eq!((told.online_rows, told.table_version), (2, None));
    let found = world.historical(&asked, vec![]).await.unwrap();
    assert_eq!(found, [Some(3), Some(1), Some(2), Some(4)]);
    let done = delete(&world.local, &[1, 3, 7, 1]).await;
    assert_eq!((done.entities, done.found, done.rows), (3, 2, 3));
    assert_eq!(
        (done.online_rows, done.files_removed, done.files_added),
        (2, 2, 1)
    );
    world.clock.set(world.now() + 1);
    for scope in [
        Scope::Incremental,
        Scope::OnlineOnly,
        Scope::FullRefresh,
        Scope::OnlineOnly,
    ] {
        let found = world.historical(&asked, vec![]).await.unwrap();
        assert_eq!(found, [None, None, Some(2), None], "{scope:?}");
        for (k, want) in [(1, GONE), (2, (Status::Present, Some(2))), (3, GONE)] {
            assert_eq!(
                world.online(k, After::default()).await.unwrap(),
                want,
                "{k} {scope:?}"
            );
        }
        assert_eq!(differing(&world.local, Repair::No).await, 0, "{scope:?}");
        world.materialize(scope).await;
    }
    // What comes afterwards is there.
    let token = push(&world.local, &[(1, START + 1, START + 1, Some(9))])
        .await
        .token;
    assert_eq!(
        world.online(1, after(&token)).await.unwrap(),
        (Status::Present, Some(9))
    );
    assert_eq!(differing(&world.local, Repair::No).await, 0);
}

/// Before which call of a store something happens, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Write,
    Replace,
}

type Happens = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// A store in whose midst something happens.
struct Interrupted {
    inner: Arc<dyn OnlineStore>,
    happens: Mutex<Option<(Before, Happens)>>,
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Interrupted {
    async fn meanwhile(&self, call: Before) {
        let happens = {
            let mut happens = self.happens.lock().unwrap();
            match &*happens {
                Some((before, _)) if *before == call => happens.take(),
                _ => None,
            }
        };
        if let Some((_, happens)) = happens {
            happens().await;
        }
    }
}

#[async_trait]
impl OnlineStore for Interrupted {
    async fn write(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        rows: &[OnlineRow],
    ) -> Result<WriteReport, OnlineError> {
        if !rows.is_empty() {
            self.meanwhile(Before::Write).await;
        }
        self.inner.write(project, view, expiry, rows).await
    }

    async fn read(
        &self,
        project: &ProjectName,
        lookups: &[Lookup<'_>],
    ) -> Result<Vec<Vec<Option<Bytes>>>, OnlineError> {
        self.inner.read(project, lookups).await
    }

    async fn load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        self.inner.load(project, view).await
    }

    async fn begin_load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        self.inner.begin_load(project, view).await
    }

    async fn end_load(
        &self,
        project: &ProjectName,
        view: &ViewId,
        load: &Load,
        progress: &[u8],
    ) -> Result<(), OnlineError> {
        self.inner.end_load(project, view, load, progress).await
    }

    async fn keys(
        &self,
        project: &ProjectName,
        view: &ViewId,
        from: Option<&KeyCursor>,
    ) -> Result<KeyPage, OnlineError> {
        self.inner.keys(project, view, from).await
    }

    async fn delete_rows(
        &self,
        project: &ProjectName,
        view: &ViewId,
        keys: &[EntityKey],
    ) -> Result<u64, OnlineError> {
        self.inner.delete_rows(project, view, keys).await
    }

    async fn replace(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        replacements: &[Replacement],
    ) -> Result<u64, OnlineError> {
        if !replacements.is_empty() {
            self.meanwhile(Before::Replace).await;
        }
        self.inner
            .replace(project, view, expiry, replacements)
            .await
    }

    async fn forget(&self, project: &ProjectName, view: &ViewId) -> Result<(), OnlineError> {
        self.inner.forget(project, view).await
    }

    async fn probe(&self) -> Result<Probe, OnlineError> {
        self.inner.probe().await
    }

    async fn check(&self) -> Result<StoreInfo, OnlineError> {
        self.inner.check().await
    }
}

/// The row that key 1 has when the test begins.
const OLD: Row = (1, START - 5, START - 5, Some(1));
/// The row that is pushed.
const NEW: Row = (1, START - 1, START, Some(2));

/// A world whose own process finds its online store interrupted by `happens`, in which another process acts.
async fn interrupted(
    before: Before,
    happens: fn(Arc<Local>) -> BoxFuture<'static, ()>,
) -> (World, Arc<Local>) {
    let world = World::new().await;
    world.source("b", &[OLD, (2, START - 5, START - 5, Some(7))]);
    let other = Arc::new(another(&world));
    let acting = Arc::clone(&other);
    let store = Interrupted {
        inner: Arc::clone(other.online().await.unwrap()),
        happens: Mutex::new(Some((before, Box::new(move || happens(acting))))),
    };
    world.local.online.set(Arc::new(store)).unwrap();
    (world, other)
}

/// Key 1 is found as wanted by both processes, and everything else is as the table says.
async fn ends_with(world: &World, other: &Local, want: (Status, Option<i64>), story: &str) {
    for local in [&world.local, other] {
        let found = online(local, 1).await;
        assert_eq!(found, want, "{story}");
    }
    let historical = world.historical(&[(1, START)], vec![]).await.unwrap();
    assert_eq!(historical, [want.1], "{story}");
    let request = VerifyRequest {
        views: vec![],
        sample: Sample::ALL,
        repair: Repair::No,
    };
    let found = other.verify(&request, &|_| {}).await.unwrap();
    // A push's rows may be in the table and not loaded by a run.
    assert_eq!(
        found[0].differing() + found[0].recent,
        0,
        "{story}: {found:?}"
    );
}

#[tokio::test]
async fn a_load_does_not_bring_back_what_is_deleted_while_it_writes() {
    let delete_1: fn(Arc<Local>) -> BoxFuture<'static, ()> = |other| {
        Box::pin(async move {
            delete(&other, &[1]).await;
        })
    };
    let delete_and_push: fn(Arc<Local>) -> BoxFuture<'static, ()> = |other| {
        Box::pin(async move {
            delete(&other, &[1]).await;
            push(&other, &[NEW]).await;
        })
    };
    for scope in [Scope::Incremental, Scope::FullRefresh] {
        let (world, other) = interrupted(Before::Write, delete_1).await;
        world.materialize(scope).await;
        ends_with(&world, &other, GONE, &format!("{scope:?}")).await;
        let (world, other) = interrupted(Before::Write, delete_and_push).await;
        world.materialize(scope).await;
        let want = (Status::Present, Some(2));
        ends_with(&world, &other, want, &format!("{scope:?}, then a push")).await;
    }
}

#[tokio::test]
async fn a_push_does_not_bring_back_what_is_deleted_before_it_is_online() {
    let (world, other) = interrupted(Before::Write, |other| {
        Box::pin(async move {
            let done = delete(&other, &[1]).await;
            assert_eq!((done.rows, done.online_rows), (1, 0));
        })
    })
    .await;
    let token = push(&world.local, &[NEW]).await.token;
    let read = world.online(1, after(&token)).await.unwrap();
    assert_eq!(read, GONE, "the push was first, and then the deletion");
    world.materialize(Scope::Incremental).await;
    // Only what the source has of other keys came.
    ends_with(&world, &other, GONE, "pushed").await;

    let (world, other) = interrupted(Before::Write, |other| {
        Box::pin(async move {
            delete(&other, &[1]).await;
            push(&other, &[(1, START - 2, START - 2, Some(3))]).await;
        })
    })
    .await;
    push(&world.local, &[NEW]).await;
    world.materialize(Scope::Incremental).await;
    let want = (Status::Present, Some(3));
    ends_with(
        &world,
        &other,
        want,
        "an older row was pushed after the deletion",
    )
    .await;
}

#[tokio::test]
async fn a_deletion_leaves_what_is_pushed_while_it_looks() {
    let (world, other) = interrupted(Before::Replace, |other| {
        Box::pin(async move {
            push(&other, &[NEW]).await;
        })
    })
    .await;
    other.materialize(&everything(), &|_| {}).await.unwrap();
    let done = delete(&world.local, &[1]).await;
    assert_eq!((done.rows, done.online_rows), (1, 0));
    ends_with(
        &world,
        &other,
        (Status::Present, Some(2)),
        "pushed meanwhile",
    )
    .await;
}

#[tokio::test]
async fn a_repair_does_not_bring_back_what_is_deleted_meanwhile() {
    let (world, other) = interrupted(Before::Write, |other| {
        Box::pin(async move {
            delete(&other, &[1]).await;
        })
    })
    .await;
    other.materialize(&everything(), &|_| {}).await.unwrap();
    let key = EntityKey::encode(
        &vintner_core::KeySchema::new(vec![vintner_core::JoinKey {
            name: "k".parse().unwrap(),
            key_type: vintner_core::KeyType::Int64,
        }])
        .unwrap(),
        &[KeyValue::Int64(1)],
    );
    let (project, view) = ("p".parse().unwrap(), "readings@1".parse().unwrap());
    let store = other.online().await.unwrap();
    store
        .delete_rows(&project, &view, &[key.unwrap()])
        .await
        .unwrap();
    assert_eq!(differing(&world.local, Repair::Safe).await, 1);
    ends_with(&world, &other, GONE, "repaired").await;
}

/// A load that wrote from an old version of the table and died: the next one makes it good.
#[tokio::test]
async fn the_next_load_makes_good_what_one_that_died_has_brought_back() {
    let world = World::new().await;
    world.source("b", &[OLD]);
    world.materialize(Scope::Incremental).await;
    let (project, view): (ProjectName, ViewId) =
        ("p".parse().unwrap(), "readings@1".parse().unwrap());
    let store = Arc::clone(world.local.online().await.unwrap());
    let keys = store.keys(&project, &view, None).await.unwrap().keys;
    let lookup = Lookup {
        view: &view,
        keys: &keys,
        cache: None,
    };
    let stored = store.read(&project, &[lookup]).await.unwrap().remove(0);
    delete(&world.local, &[SOMEBODY, 1]).await;
    let seen = keys.into_iter().zip(stored);
    let row = |(key, bytes): (EntityKey, Option<Bytes>)| OnlineRow {
        key,
        row: vintner_online::PackedRow::from_bytes(bytes.unwrap().to_vec()).unwrap(),
    };
    let rows: Vec<_> = seen.map(row).collect();
    store.write(&project, &view, None, &rows).await.unwrap();
    assert_eq!(
        world.online(1, After::default()).await.unwrap(),
        (Status::Present, Some(1))
    );
    world.materialize(Scope::Incremental).await;
    for k in [SOMEBODY, 1] {
        assert_eq!(world.online(k, After::default()).await.unwrap(), GONE);
    }
}

fn everything() -> crate::api::MaterializeRequest {
    crate::api::MaterializeRequest {
        views: vec![],
        window: None,
        scope: Scope::Incremental,
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_deletes_nothing() {
    let world = World::new().await;
    world.materialize(Scope::Incremental).await;
    let text = |name: &str, values: &[Option<&str>]| {
        let values = values
            .iter()
            .map(|v| v.map(|v| Value::String(v.to_owned())));
        EntityColumn {
            name: name.to_owned(),
            values: Column::of(FeatureType::Scalar(ScalarType::String), values).unwrap(),
        }
    };
    let mut told = String::new();
    for (target, entities) in [
        ("reading", entities(&[0])),
        ("readings@2", entities(&[0])),
        ("readings", entities(&[])),
        ("readings", vec![]),
        ("readings", vec![text("key", &[Some("0")])]),
        (
            "readings",
            vec![text("k", &[Some("0")]), text("k", &[Some("0")])],
        ),
        (
            "readings",
            vec![text("k", &[Some("0")]), text("j", &[Some("0")])],
        ),
        ("readings", vec![text("k", &[Some("zero")])]),
        ("readings", vec![text("k", &[Some("0"), None])]),
        ("readings", self::entities(&vec![0; 100_001])),
    ] {
        let request = DeleteRequest {
            target: target.parse().unwrap(),
            entities,
            dry_run: false,
            author: String::new(),
        };
        let error = world.local.delete(&request).await.unwrap_err();
        assert!(
            matches!(error.fault, Fault::Request | Fault::NotFound),
            "{error:?}"
        );
        told += &format!("{error}\n");
    }
    insta::assert_snapshot!(told, @r"
    there is no feature view `reading`; did you mean `readings`?
    there is no version readings@2; there is readings@1
    there are no entities to delete; give at least one
    the join key `k` (int64) is missing; the join keys of the feature view `readings` are k
    `key` is no join key of the feature view `readings`; the join keys are k
    the join key `k` is given twice
    `j` is no join key of the feature view `readings`; did you mean `k`?
    `zero` is not a value of the int64 join key `k`
    entity 2 has no value of a join key; give all of them, or leave the entity out
    there are 100001 entities, and 100000 are deleted at a time; give fewer, one part after the other
    ");
    let found = world.online(SOMEBODY, After::default()).await.unwrap();
    assert_eq!(found, (Status::Present, Some(0)));
}
