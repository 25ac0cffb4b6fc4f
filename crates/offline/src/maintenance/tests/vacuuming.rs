use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutPayload, memory::InMemory, path::Path};
use vintner_core::{Timestamp, Ttl};

use super::*;
use crate::{
    delta::faulty::FaultyStore,
    maintenance::{KeptFile, Pin, Vacuum, VacuumRequest, vacuum_view},
};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// A table whose version 0 has one file, version 1 two, and version 2 the two put together; and a file that belongs to no
/// version.
struct Vacuumed {
    world: World,
    objects: Arc<InMemory>,
    view: ViewRevision,
    /// When the newest object was written.
    written: Timestamp,
}

impl Vacuumed {
    async fn new() -> Self {
        let objects = Arc::new(InMemory::new());
        let world = World::over(objects.clone());
        let view = row_local();
        for (name, at) in [("a", 10), ("b", 20)] {
            world.write(name, &[row(1, at, 1)]);
            world.run(&view, 100).await;
        }
        compact(&world, &view).await;
        let orphan = Path::from("offline/p/plain/v1/part-0.parquet");
        objects
            .put(&orphan, PutPayload::from_static(b"orphan"))
            .await
            .unwrap();
        let listed: Vec<_> = objects.list(None).try_collect().await.unwrap();
        let newest = listed
            .iter()
            .map(|o: &object_store::ObjectMeta| o.last_modified)
            .max()
            .unwrap();
        Self {
            written: Timestamp::from_micros(newest.timestamp_micros()),
            world,
            objects,
            view,
        }
    }

    /// So long after everything was written.
    async fn vacuum(&self, after: i64, retention: &str, pins: &[Pin], dry_run: bool) -> Vacuum {
        let retention: Ttl = retention.parse().unwrap();
        let request = VacuumRequest {
            retention,
            pins,
            dry_run,
        };
        let now = Timestamp::from_micros(self.written.micros() + after);
        let World { store, project, .. } = &self.world;
        vacuum_view(store, project, &self.view.id, &request, now)
            .await
            .unwrap()
    }

    async fn data_files(&self) -> usize {
        let listed: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        let paths = listed
            .iter()
            .map(|o: &object_store::ObjectMeta| o.location.to_string());
        paths
            .filter(|path| path.ends_with(".parquet") && !path.contains("_delta_log"))
            .count()
    }

    async fn pin(&self, version: u64) -> Pin {
        (self.view.id.clone(), version)
    }

    async fn count(&self, version: u64) -> Option<usize> {
        let table = self
            .world
            .store
            .open_at(&self.world.project, &self.view, Some(version))
            .await;
        let rows = table.unwrap().rows().await.unwrap();
        let frame = self.world.session.read_table(rows).unwrap();
        frame
            .collect()
            .await
            .ok()
            .map(|batches| batches.iter().map(|b| b.num_rows()).sum())
    }
}

#[tokio::test]
async fn files_are_kept_as_long_as_a_version_within_the_retention_has_them() {
    let table = Vacuumed::new().await;
    let early = table.vacuum(6 * DAY, "7d", &[], false).await;
    assert_eq!((early.deleted.len(), early.retained), (0, 3));
    assert_eq!(table.count(1).await, Some(2));
    let late = table.vacuum(7 * DAY + HOUR, "7d", &[], false).await;
    assert_eq!((late.deleted.len(), late.retained), (3, 0));
    assert_eq!(table.data_files().await, 1);
    assert_eq!(table.count(2).await, Some(2));
    assert_eq!(table.count(1).await, None);
    let again = table.vacuum(7 * DAY + HOUR, "7d", &[], false).await;
    assert_eq!(again, Vacuum::default());
}

#[tokio::test]
async fn a_file_of_no_version_is_kept_for_a_day_at_least() {
    let table = Vacuumed::new().await;
    let soon = table.vacuum(HOUR, "1s", &[], false).await;
    assert_eq!(
        (soon.deleted.len(), soon.retained),
        (2, 1),
        "a run may be about to commit it"
    );
    let later = table.vacuum(DAY + HOUR, "1s", &[], false).await;
    let paths: Vec<_> = later
        .deleted
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(paths, ["part-0.parquet"]);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_deleted() {
    let table = Vacuumed::new().await;
    let said = table.vacuum(8 * DAY, "7d", &[], true).await;
    assert_eq!(table.data_files().await, 4);
    let done = table.vacuum(8 * DAY, "7d", &[], false).await;
    assert_eq!(said, done);
    assert_eq!(done.deleted.len(), 3);
    assert!(done.deleted.iter().all(|file| file.bytes > 0));
}

#[tokio::test]
async fn a_pinned_version_stays_readable() {
    let table = Vacuumed::new().await;
    let other_view = ("other@1".parse().unwrap(), 1);
    let pins = [table.pin(0).await, other_view];
    let done = table.vacuum(8 * DAY, "7d", &pins, false).await;
    assert_eq!(done.deleted.len(), 2);
    let [KeptFile { versions, .. }] = done.pinned.as_slice() else {
        panic!("{done:?}");
    };
    assert_eq!(versions, &[0]);
    assert_eq!(table.count(0).await, Some(1));
    assert_eq!(table.count(1).await, None);
    let both = [
        table.pin(0).await,
        table.pin(1).await,
        table.pin(2).await,
        table.pin(9).await,
    ];
    let again = table.vacuum(8 * DAY, "7d", &both, false).await;
    assert_eq!(
        again.lost_pins,
        [1, 9],
        "of version 1 a file is gone; there is no version 9"
    );
    assert_eq!(again.pinned.len(), 1);
    assert_eq!(again.deleted, []);
}

#[tokio::test]
async fn only_data_files_are_deleted() {
    let table = Vacuumed::new().await;
    for path in ["notes.txt", "_delta_log/mine.parquet", "sub/other.parquet"] {
        let path = Path::from(format!("offline/p/plain/v1/{path}"));
        table
            .objects
            .put(&path, PutPayload::from_static(b"x"))
            .await
            .unwrap();
    }
    let done = table.vacuum(80 * DAY, "7d", &[], false).await;
    assert_eq!(done.deleted.len(), 3);
}

#[tokio::test]
async fn a_vacuum_that_fails_leaves_a_readable_table_and_can_be_run_again() {
    let table = Vacuumed::new().await;
    let faulty = Arc::new(FaultyStore::after(0, table.objects.clone()));
    let store = OfflineStore::over(faulty, "memory:///offline".parse().unwrap());
    let request = VacuumRequest {
        retention: "7d".parse().unwrap(),
        pins: &[],
        dry_run: false,
    };
    let now = Timestamp::from_micros(table.written.micros() + 8 * DAY);
    let failed = vacuum_view(&store, &table.world.project, &table.view.id, &request, now).await;
    insta::assert_snapshot!(failed.unwrap_err(), @"could not delete the files of plain@1 at memory:///offline/p/plain/v1/");
    assert_eq!(table.count(2).await, Some(2));
    assert_eq!(
        table.vacuum(8 * DAY, "7d", &[], false).await.deleted.len(),
        3
    );
    let nothing = vacuum_view(
        &store,
        &table.world.project,
        &"none@1".parse().unwrap(),
        &request,
        now,
    )
    .await;
    assert_eq!(nothing.unwrap(), Vacuum::default());
}
