//! Every method, asked directly and through the service: the same arguments arrive, the same answer comes back.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, new_null_array},
    compute::concat_batches,
};
use futures::TryStreamExt;
use vintner_core::{
    Column, DatasetName, FeatureType, RegistryVersion, ScalarType, Timestamp, Ttl, Value, ViewName,
    ViewVersion,
};
use vintner_ops::{
    Operations, OpsError,
    api::{
        After, DeleteRequest, EntityColumn, MaterializeEvent, MaterializeRequest, ObjectKind,
        OnlineRequest, Producer, PushRequest, Repair, Sample, Scope, TeardownRequest,
        TeardownScope, VacuumRequest, VerifyRequest,
    },
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_repo::RepoFile;

use super::{fake::Fake, service};

/// Asks the fake and the client the same, and compares arguments and answers.
async fn check<T, Ask>(ask: Ask)
where
    T: PartialEq + Debug,
    Ask: AsyncFn(&dyn Operations) -> Result<T, OpsError>,
{
    let fake = Fake::new();
    let (service, client) = service(&fake).await;
    let direct = ask(fake.as_ref()).await.unwrap();
    let asked = fake.calls();
    let remote = ask(&client).await.unwrap();
    assert_eq!(remote, direct);
    assert_eq!(fake.calls(), asked);
    service.stop().await;
}

fn files() -> Vec<RepoFile> {
    let file = |path: &str, text: &str| RepoFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    vec![
        file("vintner.yaml", "project: flights\n"),
        file("views/weather.yaml", "name: é\u{0}"),
    ]
}

fn online(entities: Vec<EntityColumn>) -> OnlineRequest {
    OnlineRequest {
        features: FeatureRequest::Features(vec![
            "weather".parse().unwrap(),
            "delays@2:mean".parse().unwrap(),
        ]),
        names: NameStyle::Full,
        entities,
        after: After::default(),
    }
}

fn column(name: &str, values: impl IntoIterator<Item = Option<Value>>) -> EntityColumn {
    let values: Vec<_> = values.into_iter().collect();
    let feature_type = values
        .iter()
        .flatten()
        .next()
        .map_or(FeatureType::Scalar(ScalarType::String), Value::feature_type);
    EntityColumn {
        name: name.to_owned(),
        values: Column::of(feature_type, values).unwrap(),
    }
}

#[tokio::test]
async fn check_plan_and_apply() {
    for files in [files(), vec![]] {
        check(async |ops| ops.check(&files).await).await;
        check(async |ops| ops.plan(&files).await).await;
        check(async |ops| ops.apply(&files, RegistryVersion(3), "ann é").await).await;
    }
}

#[tokio::test]
async fn materialize_with_every_step() {
    let views = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let window = (Timestamp::from_micros(-1), Timestamp::MAX);
    for (views, window, scope) in [
        (views(&["weather", "delays"]), None, Scope::Incremental),
        (views(&["weather"]), Some(window), Scope::FullRefresh),
        (views(&[]), None, Scope::Incremental),
    ] {
        let request = MaterializeRequest {
            views,
            window,
            scope,
        };
        check(async |ops| {
            let events: Mutex<Vec<MaterializeEvent>> = Mutex::default();
            let runs = ops
                .materialize(&request, &|event| events.lock().unwrap().push(event))
                .await?;
            Ok((runs, events.into_inner().unwrap()))
        })
        .await;
    }
}

#[tokio::test]
async fn get_online_with_every_type() {
    for rows in [0, 1, 2, 7, 100] {
        let request = online(vec![
            column(
                "origin",
                (0..rows).map(|i| (i != 1).then(|| Value::String(i.to_string()))),
            ),
            column("flight", (0..rows).map(|i| Some(Value::Int32(i)))),
            column("plane", (0..rows).map(|i| Some(Value::Int64(i.into())))),
            column(
                "mark",
                (0..rows).map(|i| Some(Value::Bytes(vec![0; i as usize]))),
            ),
            column("late", (0..rows).map(|i| Some(Value::Bool(i % 2 == 0)))),
            column("unknown", (0..rows).map(|_| None)),
        ]);
        check(async |ops| ops.get_online(request.clone()).await).await;
    }
    let service = OnlineRequest {
        features: FeatureRequest::Service("delay_model".parse().unwrap()),
        names: NameStyle::Short,
        entities: vec![],
        after: After::default(),
    };
    check(async |ops| ops.get_online(service.clone()).await).await;
}

#[tokio::test]
async fn push_with_every_type() {
    let types = ScalarType::ALL.into_iter();
    let types = types.flat_map(|scalar| [FeatureType::Scalar(scalar), FeatureType::List(scalar)]);
    let columns = types.map(|feature_type| {
        let column = new_null_array(&feature_type.arrow(), 3);
        (feature_type.to_string(), column, true)
    });
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("é"), None, Some("")]));
    let rows =
        RecordBatch::try_from_iter_with_nullable(columns.chain([("name".to_owned(), names, true)]));
    let rows = rows.unwrap();
    for (version, producer) in [
        (None, None),
        (
            Some(ViewVersion(2)),
            Some(Producer {
                name: "é".to_owned(),
                sequence: u64::MAX,
            }),
        ),
    ] {
        let request = PushRequest {
            view: "weather".parse().unwrap(),
            version,
            rows: rows.clone(),
            producer,
        };
        check(async |ops| ops.push(&request).await).await;
    }
}

#[tokio::test]
async fn get_online_after_a_push() {
    let mut request = online(vec![column("origin", [None])]);
    request.after = After {
        tokens: vec![super::token()],
        // What a service waits for a call without a deadline.
        patience: std::time::Duration::from_secs(2),
    };
    check(async |ops| ops.get_online(request.clone()).await).await;
}

#[tokio::test]
async fn datasets() {
    check(async |ops| ops.datasets().await).await;
    for name in ["delays", "delays_2013"] {
        let name: DatasetName = name.parse().unwrap();
        check(async |ops| ops.dataset(&name).await).await;
        check(async |ops| {
            let rows = ops.reproduce(&name).await?;
            let batches: Vec<RecordBatch> = rows.batches.try_collect().await?;
            let batch = concat_batches(&rows.schema, &batches).unwrap();
            Ok((batch, rows.registry_version, rows.report.await.unwrap()))
        })
        .await;
    }
}

#[tokio::test]
async fn list_and_show() {
    for kind in ObjectKind::ALL {
        check(async |ops| ops.list(kind).await).await;
        for name in ["weather", "new"] {
            check(async |ops| ops.show(kind, name).await).await;
        }
    }
}

#[tokio::test]
async fn join_keys() {
    for features in [
        FeatureRequest::Service("delay_model".parse().unwrap()),
        online(vec![]).features,
    ] {
        check(async |ops| ops.join_keys(&features).await).await;
    }
}

#[tokio::test]
async fn history_diff_and_rollback() {
    for limit in [0, 1, usize::MAX] {
        check(async |ops| ops.history(limit).await).await;
    }
    let (one, two) = (RegistryVersion(1), RegistryVersion(u64::MAX - 1));
    check(async |ops| ops.diff(one, two).await).await;
    check(async |ops| ops.plan_rollback(two).await).await;
    check(async |ops| ops.rollback(one, two, "ann").await).await;
}

#[tokio::test]
async fn runs() {
    let view: ViewName = "weather".parse().unwrap();
    for (view, limit) in [(None, 0), (Some(&view), 2)] {
        check(async |ops| ops.runs(view, limit).await).await;
    }
}

#[tokio::test]
async fn compact_and_vacuum() {
    let views: Vec<ViewName> = ["weather", "new"]
        .map(|name| name.parse().unwrap())
        .to_vec();
    for views in [&[][..], &views] {
        check(async |ops| ops.compact(views).await).await;
        for (micros, dry_run) in [(1, true), (i64::MAX.unsigned_abs(), false)] {
            let request = VacuumRequest {
                views: views.to_vec(),
                retention: Ttl::from_micros(micros).unwrap(),
                dry_run,
            };
            check(async |ops| ops.vacuum(&request).await).await;
        }
    }
}

#[tokio::test]
async fn verify_teardown_and_doctor() {
    let views: Vec<ViewName> = vec!["weather".parse().unwrap()];
    for repair in [Repair::No, Repair::Safe, Repair::Force] {
        for of_a_million in [1, 1_000_000] {
            let request = VerifyRequest {
                views: views.clone(),
                sample: Sample { of_a_million },
                repair,
            };
            let seen = Mutex::new(Vec::new());
            check(async |ops| {
                ops.verify(&request, &|keys| seen.lock().unwrap().push(keys))
                    .await
            })
            .await;
            assert!(!seen.lock().unwrap().is_empty());
        }
    }
    for (target, scope, rate, dry_run) in [
        ("weather", TeardownScope::Everything, 1, false),
        ("weather@3", TeardownScope::Online, u32::MAX, true),
    ] {
        let request = TeardownRequest {
            target: target.parse().unwrap(),
            scope,
            rate: rate.try_into().unwrap(),
            dry_run,
        };
        check(async |ops| ops.teardown(&request, &|_| {}).await).await;
    }
    check(async |ops| ops.doctor().await).await;
}

#[tokio::test]
async fn delete() {
    let one = |value| vec![column("origin", [Some(Value::String(value))])];
    for (target, entities, dry_run) in [
        ("weather", vec![], true),
        ("weather@2", one("JFK".to_owned()), false),
        ("weather", one(String::new()), false),
    ] {
        let request = DeleteRequest {
            target: target.parse().unwrap(),
            entities,
            dry_run,
            author: "ann".to_owned(),
        };
        check(async |ops| ops.delete(&request).await).await;
    }
}
