//! `StreamOnlineFeatures`: many requests over one stream.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use vintner_core::{Column, FeatureType, ScalarType, Value};
use vintner_ops::api::{EntityColumn, OnlineRequest};
use vintner_proto::v1::{
    self, online_service_client::OnlineServiceClient, stream_online_features_response::Answer,
};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use super::{
    Service,
    fake::{Fake, Gate, Mood},
    service, soon,
};
use crate::{Stopped, convert::Travels};

type Sender = mpsc::Sender<v1::StreamOnlineFeaturesRequest>;

fn asked(entities: usize, timeout_millis: u32) -> v1::StreamOnlineFeaturesRequest {
    let request = OnlineRequest {
        features: FeatureRequest::Service("delay_model".parse().unwrap()),
        names: NameStyle::Short,
        after: Default::default(),
        entities: vec![EntityColumn {
            name: "flight".to_owned(),
            values: Column::of(
                FeatureType::Scalar(ScalarType::Int64),
                vec![Some(Value::Int64(1)); entities],
            )
            .unwrap(),
        }],
    };
    v1::StreamOnlineFeaturesRequest {
        request: Some(request.into_message().unwrap()),
        timeout_millis,
    }
}

async fn stream(service: &Service) -> (Sender, Streaming<v1::StreamOnlineFeaturesResponse>) {
    let (sender, requests) = mpsc::channel(100);
    let mut client = OnlineServiceClient::new(service.channel().await);
    let answers = client.stream_online_features(ReceiverStream::new(requests));
    (sender, soon(answers).await.unwrap().into_inner())
}

async fn next(answers: &mut Streaming<v1::StreamOnlineFeaturesResponse>) -> Answer {
    let message = soon(answers.message()).await.unwrap();
    message.expect("an answer").answer.expect("it says which")
}

fn rows(answer: &Answer) -> Result<usize, (Code, &str)> {
    match answer {
        Answer::Features(features) => Ok(features.features[0].statuses.len()),
        Answer::Error(error) => Err((Code::from(error.code), &error.message)),
    }
}

#[tokio::test]
async fn every_request_has_its_answer_in_order_and_a_mistake_is_one_requests_own() {
    let (service, _) = service(&Fake::new()).await;
    let (sender, mut answers) = stream(&service).await;
    let mut many = asked(3, 0);
    many.request = None;
    for request in [asked(1, 0), asked(10_001, 0), many, asked(2, 60_000)] {
        sender.send(request).await.unwrap();
    }
    assert_eq!(rows(&next(&mut answers).await), Ok(1));
    insta::assert_debug_snapshot!(rows(&next(&mut answers).await), @r#"
    Err(
        (
            InvalidArgument,
            "the request asks for 10001 entities, and the service's limit is 10000; split it into several requests, or raise the limit (`serve --max-entities`)",
        ),
    )
    "#);
    let nothing = next(&mut answers).await;
    assert_eq!(rows(&nothing).unwrap_err().0, Code::InvalidArgument);
    assert_eq!(rows(&next(&mut answers).await), Ok(2));
    // Answers come while the stream is open, and it ends when the caller has nothing more to ask.
    drop(sender);
    assert!(soon(answers.message()).await.unwrap().is_none());
    service.stop().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_ends_alone() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, _) = service(&fake).await;
    let (sender, mut answers) = stream(&service).await;
    sender.send(asked(1, 10)).await.unwrap();
    assert_eq!(
        rows(&next(&mut answers).await).unwrap_err().0,
        Code::DeadlineExceeded
    );
    fake.set(Mood::Answer);
    sender.send(asked(1, 60_000)).await.unwrap();
    assert_eq!(rows(&next(&mut answers).await), Ok(1));
    service.stop().await;
}

#[tokio::test]
async fn a_stream_reads_only_so_far_ahead() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, _) = service(&fake).await;
    let (sender, mut answers) = stream(&service).await;
    for _ in 0..100 {
        sender.send(asked(1, 0)).await.unwrap();
    }
    soon(gate.entered.acquire_many(16)).await.unwrap().forget();
    // What is asked later begins, so whatever else was to begin has.
    let (late, mut late_answers) = stream(&service).await;
    late.send(asked(1, 50)).await.unwrap();
    assert!(rows(&next(&mut late_answers).await).is_err());
    assert_eq!(fake.calls().len(), 16 + 1);
    gate.open.add_permits(100);
    for _ in 0..100 {
        assert_eq!(rows(&next(&mut answers).await), Ok(1));
    }
    service.stop().await;
}

#[tokio::test]
async fn a_service_that_stops_answers_what_it_has_taken_and_ends_the_stream() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, _) = service(&fake).await;
    let (sender, mut answers) = stream(&service).await;
    sender.send(asked(1, 0)).await.unwrap();
    soon(gate.entered.acquire()).await.unwrap().forget();
    let stopped = tokio::spawn(service.stop());
    gate.open.add_permits(1);
    assert_eq!(rows(&next(&mut answers).await), Ok(1));
    let end = soon(answers.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert_eq!(soon(stopped).await.unwrap(), Stopped::Clean);
}
