//! What it costs to watch one online request, in nanoseconds: `cargo run --release -p vintner-server --example
//! observing_cost`. Each part is done a million times on one thread; the best of five rounds is told.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement for people"
)]

#[path = "../src/calls/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the whole module is here, to measure a part of it"
)]
mod calls;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use calls::{Calls, Sampler};
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::body::Body;
use vintner_core::{FixedClock, Timestamp, ViewId};
use vintner_online::{EmbeddedStore, Lookup, Metered, OnlineStore, Status, StatusCounts, step};
use vintner_ops::{Meters, meter::PlanMeters};

const TIMES: u32 = 1_000_000;

fn measure(what: &str, mut work: impl FnMut()) {
    let round = || {
        let began = Instant::now();
        (0..TIMES).for_each(|_| work());
        began.elapsed()
    };
    let best = std::iter::repeat_with(round).take(5).min().unwrap();
    println!(
        "{what:60} {:6.0} ns",
        best.as_nanos() as f64 / f64::from(TIMES)
    );
}

fn call(sampler: Option<Sampler>, headers: &[(&'static str, &'static str)]) -> impl FnMut() {
    let calls = Arc::new(Calls::new(Duration::from_secs(1), sampler));
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = "/vintner.v1.OnlineService/GetOnlineFeatures"
        .parse()
        .unwrap();
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, HeaderValue::from_static(value));
    }
    let trailers =
        HeaderMap::from_iter([(tonic::Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
    move || {
        let mut call = calls.begin(&request);
        call.during(|| black_box(()));
        black_box(call.head(Response::new(())));
        call.during(|| black_box(()));
        call.during(|| black_box(()));
        call.ended(&trailers);
    }
}

/// One entity, two views of five features.
fn read() -> impl FnMut() {
    let meters = Meters::new(Arc::new(FixedClock(Timestamp::from_micros(0))));
    let views: [ViewId; 2] = ["one@1".parse().unwrap(), "two@1".parse().unwrap()];
    let plan = PlanMeters::new(&meters, views.iter());
    let mut five = StatusCounts::default();
    (0..5).for_each(|_| five.add(Status::Present));
    let counts = [five, five];
    move || {
        let began = Instant::now();
        meters.entities.observe(1);
        plan.answered(black_box(&counts));
        meters.online_request(began, &Ok(()));
    }
}

/// The steps of a request that is not traced.
fn steps() {
    for span in [
        step!("plan"),
        step!("entity keys"),
        step!("store read"),
        step!("assemble"),
    ] {
        drop(black_box(span.entered()));
    }
}

async fn store_read(store: &dyn OnlineStore) -> Duration {
    let (project, view) = ("p".parse().unwrap(), "v@1".parse().unwrap());
    let keys = [vintner_core::EntityKey::from_bytes(*b"k")];
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..TIMES / 10 {
            let lookup = Lookup {
                view: &view,
                keys: &keys,
                cache: None,
            };
            black_box(store.read(&project, &[lookup]).await.unwrap());
        }
        best = best.min(began.elapsed());
    }
    best / (TIMES / 10)
}

fn main() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let parent_based = || Some(Sampler::new(None, None).unwrap());
    measure("a call: its id is made, no collector", call(None, &[]));
    measure(
        "a call: its id is given, no collector",
        call(None, &[("x-request-id", "0123456789abcdef")]),
    );
    measure(
        "a call: not sampled by its caller",
        call(parent_based(), &[("traceparent", PARENT)]),
    );
    measure("a read: one entity, ten features of two views", read());
    measure("the steps of a call that is not traced", steps);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder =
            std::env::temp_dir().join(format!("vintner-observing-cost-{}", std::process::id()));
        let inner = EmbeddedStore::open(&folder).await.unwrap();
        fn counted<S>(inner: S) -> Metered<S> {
            Metered::new(inner, "", Arc::default())
        }
        let once = counted(inner);
        let one = store_read(&once).await;
        let nine = counted(counted(counted(counted(once))));
        let nine = counted(counted(counted(counted(nine))));
        let nine = store_read(&nine).await;
        let each = nine.saturating_sub(one) / 8;
        println!(
            "{:60} {:6} ns",
            "a round trip that is counted, besides itself",
            each.as_nanos()
        );
        let _ = std::fs::remove_dir_all(&folder);
    });
}
