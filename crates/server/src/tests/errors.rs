//! Errors arrive as they were made: fault, message, and the cause of what the caller can mend.

use tonic::{Code, Request, Status};
use vintner_core::RegistryVersion;
use vintner_ops::{Fault, Operations, OpsError};
use vintner_proto::v1::{
    self, online_service_client::OnlineServiceClient,
    registry_service_client::RegistryServiceClient,
};

use super::{
    fake::{Fake, Mood},
    service,
};
use crate::{Client, FAULT_KEY, status::to_error};

const MESSAGE: &str = "the view `é` does not exist\n  did you mean `e`? 100%";

async fn failure(client: &Client) -> OpsError {
    client.history(1).await.unwrap_err()
}

#[tokio::test]
async fn every_fault_has_its_code_and_comes_back_with_its_message() {
    let fake = Fake::new();
    let (service, client) = service(&fake).await;
    let mut raw = RegistryServiceClient::new(service.channel().await);
    for (fault, code, word, cause_travels) in [
        (Fault::Request, Code::InvalidArgument, "request", true),
        (Fault::NotFound, Code::NotFound, "not_found", true),
        (Fault::Stale, Code::Aborted, "stale", true),
        (Fault::Data, Code::InvalidArgument, "data", true),
        (Fault::Behind, Code::FailedPrecondition, "behind", true),
        (Fault::Busy, Code::ResourceExhausted, "busy", true),
        (Fault::Full, Code::ResourceExhausted, "full", false),
        (Fault::Store, Code::Unavailable, "store", false),
        (Fault::Internal, Code::Internal, "internal", false),
    ] {
        for cause in [None, Some("column `é` is missing")] {
            fake.set(Mood::Fail(fault, MESSAGE, cause));
            let status = raw
                .history(v1::HistoryRequest::default())
                .await
                .unwrap_err();
            assert_eq!((status.code(), status.message()), (code, MESSAGE));
            assert_eq!(status.metadata().get(FAULT_KEY).unwrap(), word);

            let error = failure(&client).await;
            assert_eq!((error.fault, error.message.as_str()), (fault, MESSAGE));
            let chain = match cause {
                Some(cause) if cause_travels => format!("{MESSAGE}: {cause}"),
                _ => MESSAGE.to_owned(),
            };
            assert_eq!(error.chain(), chain);
        }
    }
    service.stop().await;
}

#[tokio::test]
async fn a_message_too_long_for_the_trailers_is_cut() {
    let fake = Fake::new();
    let (service, client) = service(&fake).await;
    for (long, kept) in [
        ("a".repeat(4096), 4096),
        ("a".repeat(4097), 4086),
        ("é".repeat(5000), 681),
    ] {
        fake.set(Mood::Fail(
            Fault::Data,
            String::leak(long.clone()),
            Some(String::leak(long.clone())),
        ));
        let message = failure(&client).await.message;
        let whole = message.strip_suffix(" ... (cut)").unwrap_or(&message);
        assert!(long.starts_with(whole));
        assert_eq!(whole.chars().count(), kept);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_service_goes_on() {
    let fake = Fake::in_mood(Mood::Panic);
    let (service, client) = service(&fake).await;
    let error = failure(&client).await;
    assert_eq!(error.fault, Fault::Internal);
    insta::assert_snapshot!(error.message, @"the service failed while it answered; this is a mistake in Vintner, and the service's log says more");
    let request = vintner_ops::api::MaterializeRequest {
        views: vec!["weather".parse().unwrap()],
        window: None,
        scope: vintner_ops::api::Scope::Incremental,
    };
    let error = client.materialize(&request, &|_| {}).await.unwrap_err();
    assert_eq!(error.fault, Fault::Internal);
    fake.set(Mood::Answer);
    assert_eq!(client.history(2).await.unwrap().len(), 2);
    service.stop().await;
}

#[tokio::test]
async fn a_request_that_means_nothing_is_told_which_field() {
    let fake = Fake::new();
    let (service, _) = service(&fake).await;
    let mut registry = RegistryServiceClient::new(service.channel().await);
    let mut online = OnlineServiceClient::new(service.channel().await);
    let refused = |status: tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument);
        status.message().to_owned()
    };

    let unset = registry.list(v1::ListRequest { kind: 0 }).await;
    insta::assert_snapshot!(refused(unset.unwrap_err()), @"the request cannot be read: kind: must be set");
    let unknown = registry.list(v1::ListRequest { kind: 99 }).await;
    insta::assert_snapshot!(refused(unknown.unwrap_err()), @"the request cannot be read: kind: the number 99 is no kind that this version knows");
    let nothing = v1::GetOnlineFeaturesRequest::default();
    let nothing = online.get_online_features(nothing).await;
    insta::assert_snapshot!(refused(nothing.unwrap_err()), @"the request cannot be read: features: must be set");
    let untyped = v1::GetOnlineFeaturesRequest {
        features: Some(v1::FeatureSelection {
            selection: Some(v1::feature_selection::Selection::Service("s".to_owned())),
        }),
        entities: vec![v1::EntityColumn {
            name: "origin".to_owned(),
            values: Some(v1::Values::default()),
        }],
        ..Default::default()
    };
    let untyped = online.get_online_features(untyped).await;
    insta::assert_snapshot!(refused(untyped.unwrap_err()), @"the request cannot be read: entities[0].values: a column has none of its arrays set, so it has no type");
    assert_eq!(fake.calls(), Vec::<String>::new());
    service.stop().await;
}

#[tokio::test]
async fn where_nothing_answers_the_error_says_what_to_start() {
    // A port that was free a moment ago, and is closed again.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::connect(&address.to_string()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Store);
    let message = error.message.replace(&address.to_string(), "ADDRESS");
    insta::assert_snapshot!(message, @"no Vintner service answers at http://ADDRESS; start one with `vintner serve`");
    assert!(error.chain().contains("refused"), "{}", error.chain());
}

#[tokio::test]
async fn a_client_whose_service_has_gone_says_so() {
    let (service, client) = service(&Fake::new()).await;
    let url = service.url();
    service.stop().await;
    let error = failure(&client).await;
    assert_eq!(error.fault, Fault::Store);
    assert!(error.message.contains(&url), "{}", error.message);
}

#[tokio::test]
async fn what_is_no_url_is_refused() {
    let mut refusals = String::new();
    for url in [
        "",
        "http://",
        "https://127.0.0.1:7600",
        "redis://127.0.0.1",
        "a b",
    ] {
        let error = Client::connect(url).await.unwrap_err();
        assert_eq!(error.fault, Fault::Request, "{url}");
        refusals.push_str(&format!("{}\n", error.message));
    }
    insta::assert_snapshot!(refusals, @r"
    `` is not the address of a service; write it like http://127.0.0.1:7600 (invalid URI)
    `http://` is not the address of a service; write it like http://127.0.0.1:7600 (invalid URI)
    `https://127.0.0.1:7600` is not the address of a service; write it like http://127.0.0.1:7600 (it starts with `https`, not `http`)
    `redis://127.0.0.1` is not the address of a service; write it like http://127.0.0.1:7600 (it starts with `redis`, not `http`)
    `a b` is not the address of a service; write it like http://127.0.0.1:7600 (invalid URI)
    ");
}

#[tokio::test]
async fn what_is_no_vintner_service_is_told_apart() {
    let address = {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(health)
                .serve_with_incoming(tonic::transport::server::TcpIncoming::from(server)),
        );
        address
    };
    let client = Client::connect(&address.to_string()).await.unwrap();
    let error = client
        .rollback(RegistryVersion(1), RegistryVersion(2), "ann")
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.fault, Fault::Request);
    let message = error.message.replace(&address.to_string(), "ADDRESS");
    insta::assert_snapshot!(message, @"what answers at http://ADDRESS is no Vintner service, or one of another version");
}

#[tokio::test]
async fn a_client_of_another_version_may_call_what_is_not_there() {
    let (service, _) = service(&Fake::new()).await;
    let mut grpc = tonic::client::Grpc::new(service.channel().await);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/vintner.v1.RegistryService/Forget");
    let codec = tonic_prost::ProstCodec::<v1::ListRequest, v1::ListResponse>::default();
    let status = grpc
        .unary(Request::new(v1::ListRequest::default()), path, codec)
        .await;
    assert_eq!(status.unwrap_err().code(), Code::Unimplemented);
    service.stop().await;
}

#[test]
fn a_connection_that_is_lost_in_the_midst_of_an_answer_is_a_store_that_failed() {
    let lost = std::io::Error::other("reading a body");
    let error = to_error(&Status::from_error(Box::new(lost)), "http://here");
    assert_eq!(error.fault, Fault::Store);
    insta::assert_snapshot!(error, @"the connection to the service at http://here was lost before the whole answer had come (reading a body); try again when the service is back");
    // What the service itself says has no source.
    let error = to_error(&Status::internal("it fails"), "http://here");
    assert_eq!(error.fault, Fault::Internal);
}
