//! How often a request asks the allocator, from the message's bytes to the answer's: a figure that is easy to lose.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    num::NonZeroUsize,
    sync::Arc,
};

use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use vintner_core::{RegistryVersion, SystemClock};
use vintner_ops::{
    Local, Operations,
    api::{MaterializeRequest, Scope},
};
use vintner_proto::v1;

use crate::{admission::Admission, online_service::OnlineHandlers};

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one only counts and hands on"
)]
// SAFETY: every call is handed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.with(|asked| asked.set(asked.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.with(|asked| asked.set(asked.get() + 1));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FEATURES: usize = 10;
const ENTITIES: i64 = 100;

/// A deployment with one view of ten features, of which everything is online.
async fn deployment(folder: &std::path::Path) -> Local {
    let columns: Vec<_> = (0..FEATURES).map(|i| format!("f{i}")).collect();
    let mut rows = format!("id,at,{}\n", columns.join(","));
    for id in 0..ENTITIES {
        let values: Vec<_> = (0..FEATURES).map(|i| format!("{id}.{i}")).collect();
        rows += &format!("{id},2026-01-01T00:00:00Z,{}\n", values.join(","));
    }
    std::fs::write(folder.join("rows.csv"), rows).unwrap();
    std::fs::write(
        folder.join("vintner.yaml"),
        "project: count\nregistry: .vintner/registry\noffline_store: .vintner/offline\n\
         online_store: {type: embedded, path: .vintner/online}\n",
    )
    .unwrap();
    std::fs::write(
        folder.join("definitions.yaml"),
        "kind: entity\nname: thing\njoin_keys: {id: int64}\n---\n\
         kind: source\nname: rows\npath: rows.csv\nevent_timestamp: at\n---\n\
         kind: feature_view\nname: wide\nentities: [thing]\nsource: rows\n---\n\
         kind: feature_service\nname: all\nfeatures: [wide]\n",
    )
    .unwrap();
    let files = vintner_repo::read_repo(folder).unwrap();
    let memory = NonZeroUsize::new(1 << 30).unwrap();
    let local = Local::open(folder, &files, Arc::new(SystemClock), memory).unwrap();
    local
        .apply(&files, RegistryVersion::EMPTY, "tester")
        .await
        .unwrap();
    let everything = MaterializeRequest {
        views: vec![],
        window: None,
        scope: Scope::Incremental,
    };
    local.materialize(&everything, &|_| {}).await.unwrap();
    local
}

/// A request as it comes: bytes.
fn request(entities: i64) -> Vec<u8> {
    v1::GetOnlineFeaturesRequest {
        features: Some(v1::FeatureSelection {
            selection: Some(v1::feature_selection::Selection::Service("all".to_owned())),
        }),
        entities: vec![v1::EntityColumn {
            name: "id".to_owned(),
            values: Some(v1::Values {
                column: Some(v1::values::Column::Int64s(v1::Int64s {
                    values: (0..entities).collect(),
                })),
                nulls: vec![],
            }),
        }],
        ..Default::default()
    }
    .encode_to_vec()
}

#[tokio::test]
async fn a_request_asks_the_allocator_a_bounded_number_of_times() {
    let folder = tempfile::tempdir().unwrap();
    let handlers = OnlineHandlers {
        ops: Arc::new(deployment(folder.path()).await),
        max_batch: 1_000,
        admission: Arc::new(Admission::new(8, "50%".parse().unwrap(), 1_000)),
        draining: CancellationToken::new(),
    };
    for (entities, most) in [(1, 36), (ENTITIES, 54)] {
        let bytes = request(entities);
        let mut asked = 0;
        // The first request has things to make that the next ones find.
        for _ in 0..3 {
            let before = ASKED.with(Cell::get);
            let message = v1::GetOnlineFeaturesRequest::decode(bytes.as_slice()).unwrap();
            let answer = handlers.get(Request::new(message)).await;
            let encoded = answer.unwrap();
            asked = ASKED.with(Cell::get) - before;
            assert!(encoded.len() > FEATURES * 8 * usize::try_from(entities).unwrap());
        }
        assert!(
            asked <= most,
            "{entities} entities ask the allocator {asked} times, and {most} were enough before"
        );
    }
}
