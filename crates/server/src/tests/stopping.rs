//! A service that stops finishes what it has taken, tells its watchers first, and cuts off what takes too long.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use vintner_ops::{
    Fault, Operations,
    api::{MaterializeRequest, Scope},
};

use super::{
    Service,
    fake::{Fake, Gate, Mood},
    on_any_port, service, soon,
};
use crate::{Client, ServerConfig, Stopped};

fn request() -> MaterializeRequest {
    MaterializeRequest {
        views: vec!["weather".parse().unwrap()],
        window: None,
        scope: Scope::Incremental,
    }
}

/// Starts a materialization that waits at the gate, in the midst of its stream.
async fn begin(
    client: &Client,
    gate: &Gate,
) -> tokio::task::JoinHandle<Result<usize, vintner_ops::OpsError>> {
    let client = client.clone();
    let run = tokio::spawn(async move {
        let runs = client.materialize(&request(), &|_| {}).await;
        runs.map(|runs| runs.len())
    });
    soon(gate.entered.acquire()).await.unwrap().forget();
    run
}

#[tokio::test]
async fn a_stream_in_flight_is_finished_and_nothing_new_is_taken() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, client) = service(&fake).await;
    let url = service.url();
    let mut health = HealthClient::new(service.channel().await);
    let mut watch = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    let serving = |message: Option<tonic_health::pb::HealthCheckResponse>| {
        message.map(|m| m.status() == ServingStatus::Serving)
    };
    assert_eq!(serving(soon(watch.message()).await.unwrap()), Some(true));
    let run = begin(&client, &gate).await;

    service.stop.send(()).unwrap();
    assert_eq!(serving(soon(watch.message()).await.unwrap()), Some(false));
    // The watch itself ends, so that it does not hold the service up.
    assert!(soon(watch.message()).await.is_err());
    assert!(Client::connect(&url).await.is_err());
    assert!(!service.served.is_finished());

    gate.open.add_permits(1);
    assert_eq!(soon(run).await.unwrap().unwrap(), 1);
    let stopped = soon(service.served).await.unwrap().unwrap();
    assert_eq!(stopped, Stopped::Clean);
}

#[tokio::test]
async fn a_stream_of_pushes_answers_the_one_it_has_taken_and_ends() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, client) = service(&fake).await;
    // The second one never comes, and the caller does not end the stream.
    let pushes = stream::iter([super::push(1)]).chain(stream::pending());
    let mut answers = client.push_stream(pushes).await.unwrap();
    let first = tokio::spawn(async move { (answers.next().await, answers) });
    soon(gate.entered.acquire()).await.unwrap().forget();
    let stopped = tokio::spawn(service.stop());
    gate.open.add_permits(1);
    let (first, mut answers) = soon(first).await.unwrap();
    assert_eq!(first.unwrap().unwrap().rows, 1);
    let end = soon(answers.next()).await.unwrap().unwrap_err();
    assert_eq!(end.fault, Fault::Store, "{end}");
    assert_eq!(soon(stopped).await.unwrap(), Stopped::Clean);
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_cut_off_and_told() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let config = ServerConfig {
        shutdown_grace: Duration::from_millis(50),
        ..on_any_port()
    };
    let service = Service::start(fake as Arc<dyn Operations>, config).await;
    let client = service.client().await;
    let stream = begin(&client, &gate).await;
    let call = tokio::spawn(async move { client.history(1).await });
    soon(gate.entered.acquire()).await.unwrap().forget();

    assert_eq!(service.stop().await, Stopped::CutOff(2));
    soon(gate.left.cancelled()).await;
    let error = soon(stream).await.unwrap().unwrap_err();
    assert_eq!(error.fault, Fault::Store);
    insta::assert_snapshot!(error.message, @"the service has stopped before it could finish this call; try again when it is back");
    assert_eq!(
        soon(call).await.unwrap().unwrap_err().message,
        error.message
    );
}

#[tokio::test]
async fn a_service_with_nothing_to_do_stops_at_once() {
    let (service, client) = service(&Fake::new()).await;
    client.history(1).await.unwrap();
    assert_eq!(service.stop().await, Stopped::Clean);
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_midst_ends_the_work_and_not_the_service() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, client) = service(&fake).await;
    let run = begin(&client, &gate).await;
    run.abort();
    soon(gate.left.cancelled()).await;
    fake.set(Mood::Answer);
    assert_eq!(client.history(1).await.unwrap().len(), 1);
    assert_eq!(service.stop().await, Stopped::Clean);
}
