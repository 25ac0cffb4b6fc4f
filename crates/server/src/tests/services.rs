//! Health and reflection: what tools ask a service before they know anything of it.

use std::collections::BTreeSet;

use futures::stream;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::{fake::Fake, service};

#[tokio::test]
async fn health_is_told_for_the_whole_and_for_each_service() {
    let (service, _) = service(&Fake::new()).await;
    let mut health = HealthClient::new(service.channel().await);
    for name in [
        "",
        "vintner.v1.RegistryService",
        "vintner.v1.OnlineService",
        "vintner.v1.PushService",
        "vintner.v1.MaterializationService",
        "vintner.v1.DatasetService",
        "arrow.flight.protocol.FlightService",
    ] {
        let service = name.to_owned();
        let answer = health.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(
            answer.into_inner().status(),
            ServingStatus::Serving,
            "{name}"
        );
    }
    let service_name = "vintner.v1.Nothing".to_owned();
    let unknown = health
        .check(HealthCheckRequest {
            service: service_name,
        })
        .await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    service.stop().await;
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_their_messages() {
    let (service, _) = service(&Fake::new()).await;
    let mut reflection = ServerReflectionClient::new(service.channel().await);
    let mut ask = async |message_request| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        let answers = reflection
            .server_reflection_info(stream::iter([request]))
            .await;
        let answer = answers.unwrap().into_inner().message().await.unwrap();
        answer.unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list");
    };
    let names: BTreeSet<_> = list.service.into_iter().map(|s| s.name).collect();
    for name in [
        "vintner.v1.RegistryService",
        "vintner.v1.OnlineService",
        "vintner.v1.PushService",
        "vintner.v1.MaterializationService",
        "vintner.v1.DatasetService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    let symbol = "vintner.v1.GetOnlineFeaturesResponse".to_owned();
    let described = ask(MessageRequest::FileContainingSymbol(symbol)).await;
    assert!(matches!(
        described,
        MessageResponse::FileDescriptorResponse(_)
    ));
    service.stop().await;
}
