use std::{num::NonZeroUsize, sync::Mutex};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use async_trait::async_trait;
use futures::{TryStreamExt, future::BoxFuture, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::{
    delta::faulty::FaultyStore,
    materialize::MaterializeRequest,
    planner::session::{EngineConfig, session},
};

/// Rows of some keys at some times, in no order.
pub(super) fn scattered(count: i64) -> Vec<Row> {
    (0..count)
        .map(|i| (i * 7919) % count)
        .map(|i| row(i % 13, i * 1000, i))
        .collect()
}

async fn world_with(view: &ViewRevision, files: &[(&str, Vec<Row>)]) -> World {
    let world = World::new();
    for (name, rows) in files {
        world.write(name, rows);
        world.run(view, 1_000_000_000).await;
    }
    world
}

/// The key and the time of each row of each file, files in the order of their first times.
pub(super) async fn files(world: &World, view: &ViewRevision) -> Vec<Vec<(i64, i64)>> {
    let table = world.delta(view).newest().await.unwrap().unwrap();
    let mut files = Vec::new();
    for file in table.files() {
        let path = Path::from(file.path());
        let object = table.table().objects().get(&path).await.unwrap();
        let bytes = object.bytes().await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        let batches: Vec<RecordBatch> = reader.build().unwrap().map(|b| b.unwrap()).collect();
        let rows: Vec<_> = batches
            .iter()
            .flat_map(|batch| {
                let keys = batch.column(0).as_primitive::<Int64Type>().values();
                let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
                keys.iter()
                    .copied()
                    .zip(times.values().iter().copied())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(file.rows(), Some(rows.len() as u64));
        files.push(rows);
    }
    files.sort_by_key(|rows| rows.iter().map(|row| row.1).min());
    files
}

#[tokio::test]
async fn many_files_become_one_that_is_sorted_and_then_nothing_is_left_to_do() {
    let view = row_local();
    let world = world_with(
        &view,
        &[
            ("a", scattered(100)),
            ("b", vec![row(1, 5, 0)]),
            ("c", vec![row(1, 5, 0)]),
        ],
    )
    .await;
    let before = world.table(&view).await;
    let done = compact(&world, &view).await;
    assert_eq!(
        (done.files_before, done.files_removed, done.files_added),
        (3, 3, 1)
    );
    assert_eq!((done.rows, done.table_version), (102, Some(3)));
    assert_eq!(world.table(&view).await, before);
    let found = files(&world, &view).await;
    assert!(found[0].is_sorted(), "{found:?}");
    let again = compact(&world, &view).await;
    assert_eq!(
        (again.files_removed, again.files_added, again.table_version),
        (0, 0, Some(3))
    );
    // Nor has a run anything to do: what was read is still known.
    let run = world.run(&view, 1_000_000_000).await;
    assert_eq!(run.plan.action.name(), "nothing_new");
}

#[tokio::test]
async fn a_large_table_becomes_files_of_one_range_of_time_each() {
    let view = row_local();
    let world = world_with(&view, &[("a", scattered(4000)), ("b", scattered(3000))]).await;
    let before = world.table(&view).await;
    let bytes: u64 = world
        .delta(&view)
        .newest()
        .await
        .unwrap()
        .unwrap()
        .files()
        .iter()
        .map(|f| f.bytes())
        .sum();
    let target = bytes / 4;
    let context = context(&world, &world.store);
    let done = compact_to(&context, &view, target).await.unwrap();
    assert!((4..=5).contains(&done.files_added), "{done:?}");
    assert_eq!(world.table(&view).await, before);
    let found = files(&world, &view).await;
    assert!(
        found.iter().all(|rows| rows.is_sorted()),
        "sorted by key and time"
    );
    let range = |rows: &[(i64, i64)]| {
        let times = || rows.iter().map(|row| row.1);
        (times().min().unwrap(), times().max().unwrap())
    };
    let ranges: Vec<_> = found.iter().map(|rows| range(rows)).collect();
    assert!(
        ranges.windows(2).all(|pair| pair[0].1 < pair[1].0),
        "{ranges:?}"
    );
    let sizes: Vec<_> = found.iter().map(Vec::len).collect();
    assert!(
        sizes.iter().all(|size| (1000..=2500).contains(size)),
        "{sizes:?}"
    );
    let again = compact_to(&context, &view, target).await.unwrap();
    assert_eq!(again.files_removed, 0);
    // New rows touch only the files of their time.
    world.write("c", &[row(99, 1_000, 0)]);
    world.run(&view, 1_000_000_000).await;
    let before = world.table(&view).await;
    let late = compact_to(&context, &view, target).await.unwrap();
    assert_eq!(late.files_removed, 2, "{late:?}");
    assert_eq!(world.table(&view).await, before);
}

#[tokio::test]
async fn a_table_without_rows_or_without_a_table_is_left_alone() {
    let world = World::new();
    let done = compact(&world, &row_local()).await;
    assert_eq!((done.table_version, done.files_before), (None, 0));
    world.write("a", &[]);
    world.run(&row_local(), 100).await;
    let done = compact(&world, &row_local()).await;
    assert_eq!((done.table_version, done.files_removed), (Some(0), 0));
}

#[tokio::test]
async fn a_compaction_that_dies_at_any_write_can_be_run_again() {
    let view = row_local();
    for lies in [false, true] {
        for writes in 0.. {
            let objects = Arc::new(InMemory::new());
            let world = World::over(objects.clone());
            for name in ["a", "b", "c"] {
                world.write(name, &scattered(50));
                world.run(&view, 1_000_000_000).await;
            }
            let before = world.table(&view).await;
            let faulty = Arc::new(match lies {
                true => FaultyStore::lying_after(writes, objects.clone()),
                false => FaultyStore::after(writes, objects.clone()),
            });
            let done = compact_through(&world, &view, faulty.clone()).await;
            assert_eq!(
                world.table(&view).await,
                before,
                "dead after {writes} writes"
            );
            let count = files(&world, &view).await.len();
            assert_eq!(
                count,
                if done.is_ok() { 1 } else { 3 },
                "dead after {writes} writes"
            );
            assert!(done.is_ok() || faulty.died());
            compact(&world, &view).await;
            assert_eq!(world.table(&view).await, before);
            assert_eq!(files(&world, &view).await.len(), 1);
            if !faulty.died() {
                break;
            }
        }
    }
}

/// Something that happens once, just before the first commit.
pub(super) type Happens<'a> = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + 'a>;

/// A store in which something happens just before the first commit is written.
pub(super) struct Interrupted {
    pub(super) inner: Arc<InMemory>,
    pub(super) happens: Mutex<Option<Happens<'static>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

#[async_trait]
impl ObjectStore for Interrupted {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode == PutMode::Create {
            let happens = self.happens.lock().unwrap().take();
            if let Some(happens) = happens {
                happens().await;
            }
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A table of two files that is compacted while a run of the same view commits in between. The rows afterwards, how many
/// files hold them, and what a run finds to do.
async fn compacted_while(
    view: &ViewRevision,
    request: MaterializeRequest,
) -> (Vec<TableRow>, usize, &'static str) {
    let objects = Arc::new(InMemory::new());
    let world = Arc::new(World::over(objects.clone()));
    for name in ["a", "b"] {
        world.write(name, &[10, 20, 30].map(|at| row(1, at, 1)));
        world.run(view, 100).await;
    }
    let (meanwhile, other) = (world.clone(), view.clone());
    let happens = move || -> BoxFuture<'static, ()> {
        Box::pin(async move {
            meanwhile.write("c", &[15, 25].map(|at| row(2, at, 2)));
            meanwhile.try_run(&other, &request, 100).await.unwrap();
        })
    };
    let store = Interrupted {
        inner: objects,
        happens: Mutex::new(Some(Box::new(happens))),
    };
    compact_through(&world, view, Arc::new(store))
        .await
        .unwrap();
    let rows = world.table(view).await;
    let files = files(&world, view).await.len();
    let run = world.run(view, 100).await;
    (rows, files, run.plan.action.name())
}

#[tokio::test]
async fn rows_that_come_while_a_table_is_compacted_stay() {
    let view = row_local();
    let (rows, files, next) = compacted_while(&view, MaterializeRequest::default()).await;
    let all = [10, 20, 30, 10, 20, 30].map(|at| row(1, at, 1));
    let late = [15, 25].map(|at| row(2, at, 2));
    let mut want: Vec<TableRow> = all
        .iter()
        .chain(&late)
        .map(|r| (r.k.unwrap(), r.at.unwrap(), r.made.unwrap(), vec![r.v]))
        .collect();
    want.sort();
    assert_eq!(rows, want);
    assert_eq!(
        (files, next),
        (2, "nothing_new"),
        "the new file is beside the compact one"
    );
}

#[tokio::test]
async fn a_table_that_is_rewritten_while_it_is_compacted_is_compacted_again() {
    let view = row_local();
    let (rows, files, next) = compacted_while(&view, full_refresh()).await;
    assert_eq!((rows.len(), files, next), (8, 1, "nothing_new"));
}

/// A run that appends follows a compaction that came in between, without reading again.
#[tokio::test]
async fn a_run_follows_a_compaction_that_comes_in_between() {
    let view = row_local();
    let objects = Arc::new(InMemory::new());
    let world = Arc::new(World::over(objects.clone()));
    for name in ["a", "b"] {
        world.write(name, &[10, 20, 30].map(|at| row(1, at, 1)));
        world.run(&view, 100).await;
    }
    world.write("c", &[row(2, 15, 2)]);
    let (meanwhile, other) = (world.clone(), view.clone());
    let happens = move || -> BoxFuture<'static, ()> {
        Box::pin(async move {
            compact(&meanwhile, &other).await;
        })
    };
    let store = Arc::new(Interrupted {
        inner: objects,
        happens: Mutex::new(Some(Box::new(happens))),
    });
    let run = world
        .through(store)
        .try_run(&view, &MaterializeRequest::default(), 100)
        .await;
    let run = run.unwrap();
    assert_eq!((run.attempts, run.table_version), (1, Some(3)));
    assert_eq!(world.table(&view).await.len(), 7);
    assert_eq!(files(&world, &view).await.len(), 2);
}

#[tokio::test]
async fn an_online_load_after_compaction_reads_what_is_new() {
    let view = row_local();
    let world = World::new();
    world.write("a", &[row(1, 10, 1), row(2, 10, 1)]);
    world.run(&view, 100).await;
    let (_, _, cursor) = world.online(&view, None, 100).await;
    world.write("b", &[row(2, 20, 2), row(3, 20, 2)]);
    world.run(&view, 100).await;
    compact(&world, &view).await;
    let (rows, held_back, cursor) = world.online(&view, cursor.as_ref(), 100).await;
    let keys: Vec<_> = rows.iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(
        keys,
        [(2, 20), (3, 20)],
        "the rows of key 1 were loaded before"
    );
    assert_eq!(held_back, 0);
    compact(&world, &view).await;
    let (rows, _, _) = world.online(&view, cursor.as_ref(), 100).await;
    assert_eq!(rows, []);
}

#[tokio::test]
async fn what_a_compaction_has_put_together_can_be_read_in_the_version_before() {
    let view = row_local();
    let world = world_with(
        &view,
        &[("a", vec![row(1, 10, 1)]), ("b", vec![row(2, 20, 2)])],
    )
    .await;
    let before = world
        .delta(&view)
        .newest()
        .await
        .unwrap()
        .unwrap()
        .version();
    compact(&world, &view).await;
    let table = world
        .store
        .open_at(&world.project, &view, Some(before))
        .await
        .unwrap();
    let rows = table.rows().await.unwrap();
    let frame = world.session.read_table(rows).unwrap();
    let rows: Vec<RecordBatch> = frame
        .execute_stream()
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_table_larger_than_the_memory_for_sorting_is_compacted() {
    let view = row_local();
    let config = EngineConfig {
        memory_limit: NonZeroUsize::new(3 << 20),
        ..EngineConfig::default()
    };
    for pieces in [3, 1] {
        let session = session(&config).unwrap();
        let world = world_with(&view, &[("a", scattered(150_000))]).await;
        let context = MaintenanceContext {
            session: &session,
            ..context(&world, &world.store)
        };
        let table = world.delta(&view).newest().await.unwrap().unwrap();
        let target = table.files()[0].bytes().div_ceil(pieces);
        let before = world.table(&view).await;
        let done = compact_to(&context, &view, target).await.unwrap();
        assert_eq!((done.rows, done.files_added as u64), (150_000, pieces));
        let files = files(&world, &view).await;
        assert!(files.iter().all(|rows| rows.is_sorted()));
        assert!(world.table(&view).await == before, "the rows are the same");
    }
}
