use std::{
    collections::BTreeSet,
    future::Future,
    io::{BufRead, BufReader, Write as _},
    pin::Pin,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, memory::InMemory,
};

use super::{folder::Folder, *};
use crate::fixture::{project_of, revision};

mod folder;
mod s3;

/// A version with something in it, told apart by its author.
fn snapshot(version: u64, author: &str) -> Snapshot {
    let project = project_of([revision("weather", "origin: string", "temp: float64")], []);
    Snapshot {
        version: RegistryVersion(version),
        created_at: Timestamp::from_micros(0),
        author: author.into(),
        reason: "apply".into(),
        projects: [("flights".parse().unwrap(), project)].into(),
    }
}

fn registry(store: Arc<dyn ObjectStore>) -> RegistryStore {
    RegistryStore::new(store, &ObjectPath::from("base"), "here")
}

/// A store of each kind, with what keeps it alive.
fn stores() -> Vec<(
    &'static str,
    Arc<dyn ObjectStore>,
    Option<tempfile::TempDir>,
)> {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("not there yet");
    vec![
        ("memory", Arc::new(InMemory::new()), None),
        ("folder", Arc::new(Folder::new(inside)), Some(folder)),
    ]
}

/// An error with all that led to it, as it is shown.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}\n  {cause}");
        source = cause.source();
    }
    text
}

async fn put(store: &Arc<dyn ObjectStore>, name: &str, bytes: impl Into<PutPayload>) {
    let path = ObjectPath::from(format!("base/registry/{name}"));
    store.put(&path, bytes.into()).await.unwrap();
}

async fn names(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let mut names: Vec<_> = store
        .list(None)
        .map_ok(|object| object.location.to_string())
        .try_collect()
        .await
        .unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn every_version_stays_readable() {
    for (kind, store, _folder) in stores() {
        let writer = registry(Arc::clone(&store));
        assert_eq!(*writer.latest().await.unwrap(), Snapshot::empty(), "{kind}");
        assert_eq!(
            *writer.at(RegistryVersion(0)).await.unwrap(),
            Snapshot::empty(),
            "{kind}"
        );
        assert_eq!(writer.history(9).await.unwrap(), [], "{kind}");
        for version in 1..=3 {
            writer.write(&snapshot(version, "ann")).await.unwrap();
            assert_eq!(
                *writer.latest().await.unwrap(),
                snapshot(version, "ann"),
                "{kind}"
            );
        }
        for registry in [&writer, &registry(Arc::clone(&store))] {
            for version in 1..=3 {
                let read = registry.at(RegistryVersion(version)).await.unwrap();
                assert_eq!(*read, snapshot(version, "ann"), "{kind}");
            }
            let history = registry.history(2).await.unwrap();
            let versions: Vec<_> = history.iter().map(|info| info.version.0).collect();
            assert_eq!(versions, [3, 2], "{kind}");
            let counts = history[0].counts;
            assert_eq!((counts.projects, counts.views, counts.services), (1, 1, 0));
            assert_eq!(registry.history(9).await.unwrap().len(), 3, "{kind}");
        }
        let names = names(&store).await;
        assert_eq!(
            names,
            [
                "base/registry/00000000000000000001.pb",
                "base/registry/00000000000000000002.pb",
                "base/registry/00000000000000000003.pb",
                "base/registry/LATEST",
            ],
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_reader_sees_what_another_writes() {
    for (kind, store, _folder) in stores() {
        let (reader, writer) = (registry(Arc::clone(&store)), registry(store));
        for version in 1..=4 {
            writer.write(&snapshot(version, "ann")).await.unwrap();
            if version % 2 == 0 {
                assert_eq!(reader.latest().await.unwrap().version.0, version, "{kind}");
            }
        }
    }
}

#[tokio::test]
async fn the_pointer_may_say_anything() {
    for (kind, store, _folder) in stores() {
        let writer = registry(Arc::clone(&store));
        for version in 1..=3 {
            writer.write(&snapshot(version, "ann")).await.unwrap();
        }
        for text in [
            "1",
            "3\n",
            "9",
            "0",
            "",
            "three",
            "-1",
            "99999999999999999999",
            "\u{0}",
        ] {
            put(&store, "LATEST", text.to_owned()).await;
            let latest = registry(Arc::clone(&store)).latest().await.unwrap();
            assert_eq!(latest.version.0, 3, "{kind}: {text:?}");
        }
        put(&store, "LATEST", vec![0xff]).await;
        assert_eq!(
            registry(Arc::clone(&store))
                .latest()
                .await
                .unwrap()
                .version
                .0,
            3
        );
        store
            .delete(&ObjectPath::from("base/registry/LATEST"))
            .await
            .unwrap();
        // Objects that are no versions do not count.
        for name in [
            "7.pb",
            "00000000000000000009.pb.bak",
            "99999999999999999999.pb",
            "notes",
        ] {
            put(&store, name, "?").await;
        }
        assert_eq!(
            registry(Arc::clone(&store))
                .latest()
                .await
                .unwrap()
                .version
                .0,
            3
        );
    }
}

#[tokio::test]
async fn a_version_that_cannot_be_read_is_an_error_and_never_an_older_one() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let writer = registry(Arc::clone(&store));
    writer.write(&snapshot(1, "ann")).await.unwrap();
    insta::assert_snapshot!(chain(&writer.at(RegistryVersion(7)).await.unwrap_err()), @"there is no registry version 7; the latest at here is 1");

    let bytes = codec::encode(&snapshot(1, "ann"));
    for (object, told) in [
        (bytes.clone(), "misplaced"),
        (bytes[..40].to_vec(), "cut off"),
        (vec![], "empty"),
    ] {
        put(&store, &object_name(RegistryVersion(2)), object).await;
        let error = registry(Arc::clone(&store)).latest().await.unwrap_err();
        match told {
            "misplaced" => {
                insta::assert_snapshot!(chain(&error), @"the object of registry version 2 at here holds version 1; it was copied or renamed, restore the right one")
            }
            "cut off" => insta::assert_snapshot!(chain(&error), @r"
            could not read registry version 2 at here
              the bytes are not a registry snapshot: failed to decode Protobuf message: Snapshot.projects: buffer underflow
            "),
            _ => insta::assert_snapshot!(chain(&error), @r"
            could not read registry version 2 at here
              the snapshot is not valid: format: must be set
            "),
        }
    }
    let next = writer.write(&snapshot(2, "bob")).await.unwrap_err();
    assert!(matches!(next, WriteError::Stale(_)), "{next}");
}

#[tokio::test]
async fn versions_have_no_gaps() {
    for (kind, store, _folder) in stores() {
        let writer = registry(store);
        writer.write(&snapshot(1, "ann")).await.unwrap();
        let gap = writer.write(&snapshot(3, "ann")).await.unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(chain(&gap), @"registry version 2 is not at here, so 3 cannot follow it; the registry was moved or emptied since it was read: plan again");
        }
        let empty = writer.write(&Snapshot::empty()).await.unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(chain(&empty), @"registry version 0 is the empty registry and cannot be written");
        }
        assert_eq!(writer.latest().await.unwrap().version.0, 1, "{kind}");
    }
}

#[tokio::test]
async fn the_second_of_two_writers_is_told_to_plan_again() {
    for (kind, store, _folder) in stores() {
        let (ann, bob) = (registry(Arc::clone(&store)), registry(store));
        ann.write(&snapshot(1, "ann")).await.unwrap();
        let stale = bob.write(&snapshot(1, "bob")).await.unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(chain(&stale), @"planned against registry version 0, which is now 1; plan again");
        }
        ann.write(&snapshot(2, "ann")).await.unwrap();
        match bob.write(&snapshot(1, "bob")).await {
            Err(WriteError::Stale(Stale { planned, current })) => {
                assert_eq!((planned.0, current.0), (0, 2), "{kind}");
            }
            other => panic!("{kind}: {other:?}"),
        }
        // The same content by another writer is another write.
        let again = ann.write(&snapshot(2, "ann")).await.unwrap_err();
        assert!(matches!(again, WriteError::Stale(_)), "{kind}: {again}");
    }
}

/// A store each of whose operations waits once before it begins, so that whoever polls decides the order; and which
/// can fail.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn ObjectStore>,
    operations: AtomicUsize,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The operation of that number and all that follow are not done.
    Before(usize),
    /// The operation of that number is done, but the answer is lost, as are all that follow.
    After(usize),
    /// Only the answer of that operation is lost.
    Answer(usize),
}

impl Watched {
    fn over(inner: &Arc<dyn ObjectStore>, fault: Fault) -> Arc<dyn ObjectStore> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            operations: AtomicUsize::new(0),
            fault,
        })
    }

    async fn during<T>(
        &self,
        operation: impl Future<Output = object_store::Result<T>> + Send,
    ) -> object_store::Result<T> {
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let down = || {
            Err(object_store::Error::Generic {
                store: "Watched",
                source: "the store is down".into(),
            })
        };
        match self.fault {
            Fault::Before(first) if number >= first => down(),
            Fault::After(first) if number > first => down(),
            Fault::After(first) if number == first => operation.await.and_then(|_| down()),
            Fault::Answer(only) if number == only => operation.await.and_then(|_| down()),
            _ => operation.await,
        }
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.during(self.inner.put_opts(location, payload, opts))
            .await
    }

    async fn get_opts(
        &self,
        location: &ObjectPath,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.during(self.inner.get_opts(location, options)).await
    }

    fn list(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(locations)
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Runs two futures, one step at a time, in the order that the bits of `schedule` say; then each to its end.
fn interleave<A, B>(
    schedule: u32,
    a: impl Future<Output = A>,
    b: impl Future<Output = B>,
) -> (A, B) {
    fn step<T>(future: Pin<&mut impl Future<Output = T>>, done: &mut Option<T>) {
        if done.is_none()
            && let Poll::Ready(value) = future.poll(&mut Context::from_waker(Waker::noop()))
        {
            *done = Some(value);
        }
    }
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut first, mut second) = (None, None);
    for bit in 0..u32::BITS {
        if schedule >> bit & 1 == 0 {
            step(a.as_mut(), &mut first);
        } else {
            step(b.as_mut(), &mut second);
        }
    }
    while first.is_none() || second.is_none() {
        step(a.as_mut(), &mut first);
        step(b.as_mut(), &mut second);
    }
    (first.unwrap(), second.unwrap())
}

/// What a caller does who wants to write: reads, and writes the version after what was read.
async fn read_and_write(
    registry: &RegistryStore,
    author: &str,
) -> Result<RegistryVersion, WriteError> {
    let current = registry.latest().await.unwrap();
    let next = snapshot(current.version.next().0, author);
    registry.write(&next).await.map(|()| next.version)
}

#[test]
fn of_two_racing_writers_one_wins_whatever_the_order_of_their_steps() {
    // Every order of the first steps of both, which is as far as it takes until both are decided.
    for (kind, steps) in [("memory", 9), ("folder", 7)] {
        let mut orders = BTreeSet::new();
        for schedule in 0..1u32 << steps {
            let (_, store, _folder) = stores().into_iter().find(|(k, ..)| *k == kind).unwrap();
            let base = registry(Arc::clone(&store));
            futures::executor::block_on(base.write(&snapshot(1, "base"))).unwrap();
            let ann = registry(Watched::over(&store, Fault::None));
            let bob = registry(Watched::over(&store, Fault::None));
            for registry in [&ann, &bob] {
                futures::executor::block_on(registry.latest()).unwrap();
            }
            let (a, b) = interleave(
                schedule,
                read_and_write(&ann, "ann"),
                read_and_write(&bob, "bob"),
            );
            let latest = futures::executor::block_on(base.latest()).unwrap();
            let written = match (&a, &b) {
                (Ok(a), Ok(b)) => {
                    // One was done before the other began to read.
                    assert_eq!(
                        BTreeSet::from([a.0, b.0]),
                        BTreeSet::from([2, 3]),
                        "{schedule:b}"
                    );
                    3
                }
                (Ok(version), Err(WriteError::Stale(stale)))
                | (Err(WriteError::Stale(stale)), Ok(version)) => {
                    assert_eq!(
                        (version.0, stale.planned.0, stale.current.0),
                        (2, 1, 2),
                        "{schedule:b}"
                    );
                    2
                }
                other => panic!("{kind} {schedule:b}: {other:?}"),
            };
            assert_eq!(latest.version.0, written, "{kind} {schedule:b}");
            let winner = match &a {
                Ok(version) if version.0 == written => "ann",
                _ => "bob",
            };
            assert_eq!(*latest, snapshot(written, winner), "{kind} {schedule:b}");
            orders.insert((winner, written));
        }
        let all = [("ann", 2), ("ann", 3), ("bob", 2), ("bob", 3)];
        assert_eq!(
            orders,
            BTreeSet::from(all),
            "{kind}: every outcome is there"
        );
    }
}

#[test]
fn a_reader_beside_a_writer_sees_the_old_or_the_new_version_whole() {
    let mut seen = BTreeSet::new();
    for schedule in 0..1u32 << 10 {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let base = registry(Arc::clone(&store));
        futures::executor::block_on(base.write(&snapshot(1, "base"))).unwrap();
        let writer = registry(Watched::over(&store, Fault::None));
        let reader = registry(Watched::over(&store, Fault::None));
        let next = snapshot(2, "ann");
        let (written, read) = interleave(schedule, writer.write(&next), reader.latest());
        written.unwrap();
        let read = read.unwrap();
        assert!(
            *read == snapshot(1, "base") || *read == next,
            "{schedule:b}"
        );
        seen.insert(read.version.0);
        let after = futures::executor::block_on(reader.latest()).unwrap();
        assert_eq!(*after, next, "{schedule:b}");
    }
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn threads_that_race_on_one_folder_make_one_history() {
    const WRITERS: usize = 6;
    const VERSIONS: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let wins = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let registry = RegistryStore::open("reg", folder.path()).unwrap();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .build()
                        .unwrap();
                    let author = format!("writer {writer}");
                    let mut wins = Vec::new();
                    loop {
                        match runtime.block_on(read_and_write(&registry, &author)) {
                            Ok(version) if version.0 > VERSIONS => return wins,
                            Ok(version) => wins.push((version.0, author.clone())),
                            Err(WriteError::Stale(_)) => {}
                            Err(error) => panic!("{}", chain(&error)),
                        }
                    }
                })
            })
            .collect();
        let wins = writers.into_iter().map(|writer| writer.join().unwrap());
        wins.flatten().collect::<BTreeSet<_>>()
    });
    let versions: Vec<_> = wins.iter().map(|(version, _)| *version).collect();
    assert_eq!(
        versions,
        (1..=VERSIONS).collect::<Vec<_>>(),
        "each version once"
    );
    let registry = RegistryStore::open("reg", folder.path()).unwrap();
    for (version, author) in wins {
        let read = futures::executor::block_on(registry.at(RegistryVersion(version))).unwrap();
        assert_eq!(*read, snapshot(version, &author));
    }
}

#[test]
fn a_write_that_dies_at_any_step_can_be_done_again() {
    use futures::executor::block_on;
    for (kind, _, _) in stores() {
        for fault in [Fault::Before as fn(usize) -> Fault, Fault::After] {
            for at in 0.. {
                let (_, store, _folder) = stores().into_iter().find(|(k, ..)| *k == kind).unwrap();
                block_on(registry(Arc::clone(&store)).write(&snapshot(1, "base"))).unwrap();
                let dies = registry(Watched::over(&store, fault(at)));
                let died = block_on(dies.write(&snapshot(2, "ann"))).is_err();

                let healed = registry(Arc::clone(&store));
                let found = block_on(healed.latest()).unwrap();
                let expected = [snapshot(1, "base"), snapshot(2, "ann")];
                assert!(expected.contains(&found), "{kind} {:?}", fault(at));
                assert!(died || found.version.0 == 2, "{kind} {:?}", fault(at));
                match block_on(healed.write(&snapshot(2, "ann"))) {
                    Ok(()) => assert_eq!(found.version.0, 1, "{kind} {:?}", fault(at)),
                    Err(WriteError::Stale(_)) => {
                        assert_eq!(found.version.0, 2, "{kind} {:?}", fault(at))
                    }
                    Err(error) => panic!("{kind} {:?}: {error}", fault(at)),
                }
                assert_eq!(*block_on(healed.latest()).unwrap(), snapshot(2, "ann"));
                if !died && at > 3 {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_known_again() {
    for (kind, store, _folder) in stores() {
        registry(Arc::clone(&store))
            .write(&snapshot(1, "base"))
            .await
            .unwrap();
        // The put is the operation after the look for version 1.
        let writer = registry(Watched::over(&store, Fault::Answer(1)));
        writer.write(&snapshot(2, "ann")).await.unwrap();
        assert_eq!(
            *writer.latest().await.unwrap(),
            snapshot(2, "ann"),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_an_error_that_says_what_was_tried() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let down = registry(Watched::over(&store, Fault::Before(0)));
    insta::assert_snapshot!(chain(&down.latest().await.unwrap_err()), @r"
    could not read the registry's pointer at here
      Generic Watched error: the store is down
      the store is down
    ");
    insta::assert_snapshot!(chain(&down.at(RegistryVersion(3)).await.unwrap_err()), @r"
    could not read registry version 3 at here
      Generic Watched error: the store is down
      the store is down
    ");
    insta::assert_snapshot!(chain(&down.write(&snapshot(1, "ann")).await.unwrap_err()), @r"
    could not write registry version 1 to here
      Generic Watched error: the store is down
      the store is down
    ");
}

#[tokio::test]
async fn opening_touches_nothing_and_writing_makes_the_folders() {
    let root = tempfile::tempdir().unwrap();
    let absolute = root.path().join("b%20 #1/ü");
    let url = url::Url::from_file_path(root.path().join("c")).unwrap();
    for location in [
        "a/../x/reg",
        ".vintner/registry",
        absolute.to_str().unwrap(),
        url.as_str(),
    ] {
        let registry = RegistryStore::open(location, root.path()).unwrap();
        assert_eq!(registry.latest().await.unwrap().version.0, 0, "{location}");
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    std::fs::create_dir(root.path().join("a")).unwrap();
    for location in [
        "a/../x/reg",
        ".vintner/registry",
        absolute.to_str().unwrap(),
        url.as_str(),
    ] {
        let registry = RegistryStore::open(location, root.path()).unwrap();
        registry.write(&snapshot(1, location)).await.unwrap();
        let again = RegistryStore::open(location, root.path()).unwrap();
        assert_eq!(*again.latest().await.unwrap(), snapshot(1, location));
    }
    assert!(
        root.path()
            .join(".vintner/registry/registry/00000000000000000001.pb")
            .exists()
    );
    assert!(root.path().join("x/reg/registry/LATEST").exists());
    assert!(absolute.join("registry/LATEST").exists());
}

#[tokio::test]
async fn a_location_that_cannot_be_a_registry_is_explained() {
    let root = tempfile::tempdir().unwrap();
    let told = |location: &str| chain(&RegistryStore::open(location, root.path()).unwrap_err());
    insta::assert_snapshot!(told("gopher://somewhere/registry"), @"the registry location `gopher://somewhere/registry` is of no known kind; write a path, file:///path, s3://bucket/path or memory:///");
    insta::assert_snapshot!(told("gs://bucket/registry"), @"the registry location `gs://bucket/registry` is of no known kind; write a path, file:///path, s3://bucket/path or memory:///");
    insta::assert_snapshot!(told("s3://"), @"the registry location `s3://` is of no known kind; write a path, file:///path, s3://bucket/path or memory:///");
    insta::assert_snapshot!(told("://"), @"the registry location `://` is not a URL: relative URL without a base; write a path, or a URL like s3://bucket/path");
    insta::assert_snapshot!(told("file://host/path"), @"the registry location `file://host/path` is no absolute path on this machine; write it like file:///path");
    assert!(RegistryStore::open("s3://bucket/some/prefix", root.path()).is_ok());
    assert!(RegistryStore::open("memory:///", root.path()).is_ok());

    std::fs::write(root.path().join("file"), "").unwrap();
    let registry = RegistryStore::open("file", root.path()).unwrap();
    let written = registry.write(&snapshot(1, "ann")).await.unwrap_err();
    let told = chain(&written).replace(root.path().to_str().unwrap(), "ROOT");
    insta::assert_snapshot!(told, @r"
    could not write registry version 1 to ROOT/file
      Generic Folder error: Not a directory (os error 20)
      Not a directory (os error 20)
    ");
}

#[tokio::test]
async fn what_killed_writers_leave_is_not_read_and_goes_away() {
    let root = tempfile::tempdir().unwrap();
    let registry = RegistryStore::open("", root.path()).unwrap();
    registry.write(&snapshot(1, "ann")).await.unwrap();
    let folder = root.path().join("registry");
    let whole = codec::encode(&snapshot(2, "killed"));
    // Killed while it wrote, before it linked, and after.
    std::fs::write(folder.join("00000000000000000002.pb#1"), &whole[..20]).unwrap();
    std::fs::write(folder.join("00000000000000000002.pb#2"), &whole).unwrap();
    std::fs::write(folder.join("00000000000000000001.pb#1"), "").unwrap();
    std::fs::write(folder.join("00000000000000000003.pb#1"), "").unwrap();
    std::fs::remove_file(folder.join("LATEST")).unwrap();

    let registry = RegistryStore::open("", root.path()).unwrap();
    assert_eq!(registry.latest().await.unwrap().version.0, 1);
    registry.write(&snapshot(2, "bob")).await.unwrap();
    assert_eq!(*registry.latest().await.unwrap(), snapshot(2, "bob"));
    let mut left: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "00000000000000000001.pb",
            "00000000000000000002.pb",
            // Its writer may still be at work.
            "00000000000000000003.pb#1",
            "LATEST",
        ]
    );
}

/// Not a test by itself: what [`a_writer_that_is_killed_leaves_whole_versions`] starts and kills.
#[test]
fn writes_until_it_is_killed() {
    let Ok(folder) = std::env::var("VINTNER_TEST_WRITES_TO") else {
        return;
    };
    let registry = RegistryStore::open(&folder, Path::new("/")).unwrap();
    loop {
        let version = futures::executor::block_on(read_and_write(&registry, "killed")).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "wrote {version}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_writer_that_is_killed_leaves_whole_versions() {
    use futures::executor::block_on;
    let root = tempfile::tempdir().unwrap();
    let mut promised = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::writes_until_it_is_killed",
                "--nocapture",
            ])
            .env("VINTNER_TEST_WRITES_TO", root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let written =
            lines.filter_map(|line| line.unwrap().strip_prefix("wrote ")?.parse::<u64>().ok());
        // The child is at a different step of a write each time that it dies.
        for version in written.take(1 + round % 4) {
            promised = version;
        }
        for _ in 0..round * 20_000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let registry = RegistryStore::open("", root.path()).unwrap();
        let latest = block_on(registry.latest()).unwrap().version.0;
        assert!(
            promised <= latest,
            "round {round}: {promised} was written, {latest} is there"
        );
        for version in 1..=latest {
            let read = block_on(registry.at(RegistryVersion(version))).unwrap();
            assert_eq!(read.version.0, version, "round {round}");
        }
        block_on(read_and_write(&registry, "after")).unwrap();
    }
    let left = std::fs::read_dir(root.path().join("registry")).unwrap();
    let staged = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        name.contains(".pb#")
    });
    assert_eq!(staged.count(), 0, "nothing is left of the killed");
}
