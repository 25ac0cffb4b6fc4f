//! Deadlines, sizes, counts, and who may listen where.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tonic::{Code, Request};
use vintner_core::{Column, FeatureType, ScalarType, Value, waiting::On};
use vintner_ops::{
    Fault, Operations,
    api::{After, EntityColumn, MaterializeRequest, OnlineRequest, Scope},
};
use vintner_proto::v1::{
    self, materialization_service_client::MaterializationServiceClient,
    online_service_client::OnlineServiceClient, push_service_client::PushServiceClient,
    registry_service_client::RegistryServiceClient, stream_online_features_response::Answer,
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_repo::RepoFile;

use super::{
    Service,
    fake::{Fake, Gate, Mood},
    on_any_port, service, soon,
};
use crate::{
    ServeError, Server, ServerConfig,
    admission::Admission,
    calls::Calls,
    convert::Travels as _,
    dispatch::Dispatch,
    guard::{Guard, Rules},
    online_service::OnlineServer,
    server::services,
};

const SHORT: Duration = Duration::from_millis(50);

fn online(entities: usize) -> OnlineRequest {
    OnlineRequest {
        features: FeatureRequest::Service("delay_model".parse().unwrap()),
        names: NameStyle::Short,
        entities: vec![EntityColumn {
            name: "flight".to_owned(),
            values: Column::of(
                FeatureType::Scalar(ScalarType::Int64),
                vec![Some(Value::Int64(1)); entities],
            )
            .unwrap(),
        }],
        after: After::default(),
    }
}

fn materialize() -> MaterializeRequest {
    MaterializeRequest {
        views: vec!["weather".parse().unwrap()],
        window: None,
        scope: Scope::Incremental,
    }
}

fn with_timeout<M>(message: M, timeout: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// The services, without a connection to them: tonic's client has a clock of its own, and this leaves only the service's.
fn guarded(ops: Arc<dyn Operations>) -> (Guard<Dispatch<OnlineServer>>, Arc<Rules>) {
    let config = ServerConfig::default();
    let calls = Calls::new(config.slow_call, None);
    let rules = Arc::new(Rules::new(8, config.max_message_bytes, calls));
    let admission = Arc::new(Admission::new(8, config.selection_share, 8));
    let services = services(&ops, &config, &rules, admission);
    (Guard::new(services, Arc::clone(&rules)), rules)
}

#[tokio::test]
async fn a_deadline_stops_the_work() {
    let gate = Gate::new();
    let (services, rules) = guarded(Fake::in_mood(Mood::Wait(Arc::clone(&gate))));
    let mut client = RegistryServiceClient::new(services);

    let late = client.history(with_timeout(v1::HistoryRequest::default(), SHORT));
    let status = soon(late).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    insta::assert_snapshot!(status.message(), @"the deadline of 50ms that the call came with has passed while the service worked on it, which was stopped; allow more time, or ask for less at once");
    soon(gate.left.cancelled()).await;
    assert_eq!(rules.in_flight(), 0);
}

/// A read, a request of a stream, a push, and a run, which is a task of its own.
#[tokio::test]
async fn a_deadline_that_passes_names_what_the_call_waited_for() {
    let store = On::OnlineStore("redis://here:6379/0".into());
    let table = On::Table("weather@2".parse().unwrap());
    let mut said = Vec::new();
    for on in [store, table] {
        let fake = Fake::in_mood(Mood::WaitFor(Gate::new(), on));
        let (services, _) = guarded(fake);
        let mut reading = OnlineServiceClient::new(services.clone());
        let request = || online(1).into_message().unwrap();
        let status = reading.get_online_features(with_timeout(request(), SHORT));
        let status = soon(status).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let message = status.message().to_owned();

        let asked = v1::StreamOnlineFeaturesRequest {
            request: Some(request()),
            timeout_millis: 50,
        };
        let answers = reading.stream_online_features(stream::iter([asked]));
        let mut answers = soon(answers).await.unwrap().into_inner();
        let answer = soon(answers.message()).await.unwrap().unwrap().answer;
        assert!(
            matches!(&answer, Some(Answer::Error(error)) if error.message == message),
            "{answer:?}"
        );

        // The stream's own deadline passes, and its request has none, or one that is later.
        for timeout_millis in [0, 60_000] {
            let asked = v1::StreamOnlineFeaturesRequest {
                request: Some(request()),
                timeout_millis,
            };
            let asked = with_timeout(stream::iter([asked]), SHORT);
            let answers = soon(reading.stream_online_features(asked)).await;
            let mut answers = answers.unwrap().into_inner();
            let status = soon(answers.message()).await.unwrap_err();
            assert_eq!(status.message(), message);
        }

        let push = super::push(1).into_message().unwrap();
        let mut pushing = PushServiceClient::new(services.clone());
        let status = soon(pushing.push(with_timeout(push, SHORT))).await;
        assert_eq!(status.unwrap_err().message(), message);

        let run = v1::MaterializeRequest::default();
        let mut running = MaterializationServiceClient::new(services);
        let steps = soon(running.materialize(with_timeout(run, SHORT))).await;
        let mut steps = steps.unwrap().into_inner();
        let status = loop {
            if let Err(status) = soon(steps.message()).await {
                break status;
            }
        };
        assert_eq!(status.message(), message);
        said.push(message);
    }
    insta::assert_snapshot!(said[0], @"the online store redis://here:6379/0 did not answer within the deadline of 50ms; check that it runs and can be reached, then try again, or allow more time");
    insta::assert_snapshot!(said[1], @"the table of weather@2 was not written within the deadline of 50ms, by this push or by those before it; push the rows again with the same producer and sequence, or allow more time");
}

#[tokio::test]
async fn a_deadline_stops_a_stream_that_has_begun() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, client) = service(&fake).await;
    let mut raw = MaterializationServiceClient::new(service.channel().await);
    let message = v1::MaterializeRequest {
        views: vec!["weather".to_owned()],
        ..Default::default()
    };
    let mut steps = raw
        .materialize(with_timeout(message, SHORT))
        .await
        .unwrap()
        .into_inner();
    let mut seen = 0;
    let status = loop {
        match soon(steps.message()).await {
            Ok(step) => seen += usize::from(step.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!((seen, status.code()), (5, Code::DeadlineExceeded));
    soon(gate.left.cancelled()).await;

    let client = client.with_deadline(SHORT);
    let error = soon(client.materialize(&materialize(), &|_| {}))
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::Store);
    service.stop().await;
}

#[tokio::test]
async fn a_client_with_a_deadline_gives_up_in_time() {
    let fake = Fake::in_mood(Mood::Wait(Gate::new()));
    let (service, client) = service(&fake).await;
    let error = soon(client.with_deadline(SHORT).history(1))
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::Store);
    assert!(error.message.contains("deadline"), "{}", error.message);
    service.stop().await;
}

#[tokio::test]
async fn a_deadline_that_cannot_be_read_is_refused() {
    let (service, _) = service(&Fake::new()).await;
    let mut raw = RegistryServiceClient::new(service.channel().await);
    let mut request = Request::new(v1::HistoryRequest::default());
    request
        .metadata_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    let status = raw.history(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    insta::assert_snapshot!(status.message(), @"the header grpc-timeout is `soon`; it must be one to eight digits and one of H, M, S, m, u, n");
    service.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told_the_limit() {
    let config = ServerConfig {
        max_message_bytes: 1000,
        ..on_any_port()
    };
    let service = Service::start(Fake::new(), config).await;
    let client = service.client().await;
    let files = |bytes| {
        vec![RepoFile {
            path: "a.yaml".to_owned(),
            text: "x".repeat(bytes),
        }]
    };
    assert!(client.check(&files(900)).await.is_ok());
    let error = client.check(&files(1000)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Request);
    insta::assert_snapshot!(error.message, @"a message of the request is larger than 1000 bytes, which is the service's limit; send less at once (fewer entities, smaller record batches), or raise the limit (`serve --max-message`)");

    let mut raw = OnlineServiceClient::new(service.channel().await);
    let message = v1::GetOnlineFeaturesRequest {
        features: Some(v1::FeatureSelection {
            selection: Some(v1::feature_selection::Selection::Service("s".repeat(1000))),
        }),
        ..Default::default()
    };
    let status = raw.get_online_features(message).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    service.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_told_the_limit() {
    let config = ServerConfig {
        max_batch: 3,
        ..on_any_port()
    };
    let fake = Fake::new();
    let service = Service::start(Arc::clone(&fake) as Arc<dyn Operations>, config).await;
    let client = service.client().await;
    assert!(client.get_online(online(3)).await.is_ok());
    fake.calls();
    let error = client.get_online(online(4)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Request);
    insta::assert_snapshot!(error.message, @"the request asks for 4 entities, and the service's limit is 3; split it into several requests, or raise the limit (`serve --max-entities`)");
    assert_eq!(fake.calls(), Vec::<String>::new());

    let pushes = [3, 3, 4, 3].map(super::push);
    assert!(client.push(&pushes[0]).await.is_ok());
    let error = client.push(&pushes[2]).await.unwrap_err();
    assert_eq!(error.fault, Fault::Request);
    insta::assert_snapshot!(error.message, @"the push has 4 rows, and the service's limit is 3; split it into several pushes, or raise the limit (`serve --max-entities`)");
    // Over a stream, what comes after it is not written.
    fake.calls();
    let answers = client.push_stream(futures::stream::iter(pushes)).await;
    let answers: Vec<_> = answers.unwrap().collect().await;
    let rows: Vec<_> = answers
        .iter()
        .map(|a| a.as_ref().ok().map(|r| r.rows))
        .collect();
    assert_eq!(rows, [Some(3), Some(3), None]);
    assert_eq!(fake.calls().len(), 2);
    service.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_and_health_is_not() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let config = ServerConfig {
        max_concurrent: 1,
        ..on_any_port()
    };
    let service = Service::start(Arc::clone(&fake) as Arc<dyn Operations>, config).await;
    let client = service.client().await;
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.history(1).await }
    });
    soon(gate.entered.acquire()).await.unwrap().forget();

    // On a connection of its own: one connection may have a single call of so few, and its next one waits.
    let other = service.client().await;
    let error = soon(other.history(1)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Store);
    insta::assert_snapshot!(error.message, @"the service is busy with 1 calls, which is as many as it takes at once; try again later, or raise its limit (`serve --max-calls`)");
    let mut health = tonic_health::pb::health_client::HealthClient::new(service.channel().await);
    let check = tonic_health::pb::HealthCheckRequest::default();
    assert!(health.check(check).await.is_ok());

    gate.open.add_permits(2);
    assert!(soon(first).await.unwrap().is_ok());
    assert!(client.history(1).await.is_ok());
    service.stop().await;
}

#[tokio::test]
async fn only_loopback_is_served() {
    for listen in [
        "0.0.0.0:0",
        "[::]:0",
        "192.0.2.1:7600",
        "[::ffff:192.0.2.1]:7600",
    ] {
        let listen = listen.parse().unwrap();
        let refused = Server::bind(ServerConfig {
            listen,
            ..ServerConfig::default()
        });
        match refused.await {
            Err(ServeError::NotLoopback(address)) => assert_eq!(address, listen),
            other => panic!("{listen}: {other:?}"),
        }
    }
    let refusal = ServeError::NotLoopback("0.0.0.0:7600".parse().unwrap());
    insta::assert_snapshot!(refusal, @"refusing to listen on 0.0.0.0:7600: whoever reaches it could read and change everything, since there is no authentication yet; listen on a loopback address, such as 127.0.0.1:7600, and use a tunnel from elsewhere");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error() {
    let first = Server::bind(on_any_port()).await.unwrap();
    let taken = ServerConfig {
        listen: first.address(),
        ..ServerConfig::default()
    };
    let error = Server::bind(taken).await.unwrap_err();
    assert!(matches!(error, ServeError::Bind { address, .. } if address == first.address()));
}
