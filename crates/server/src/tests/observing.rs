//! What a service tells of itself: pages over plain HTTP, health, metrics, request ids, the log, spans.

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracing_subscriber::{Layer, layer::SubscriberExt as _, registry::LookupSpan};
use vintner_ops::{Fault, Operations, Readiness};
use vintner_proto::v1::{self, registry_service_client::RegistryServiceClient};

use super::{
    Service,
    fake::{Fake, Gate, Mood},
    on_any_port, service, soon,
};
use crate::{Sampler, Server, ServerConfig};

const HISTORY: &str = "vintner.v1.RegistryService/History";

/// The answer to a request of plain HTTP/1.1: its head and its body.
async fn http(service: &Service, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let whole = format!("{request}\r\nhost: here\r\nconnection: close\r\n\r\n");
    stream.write_all(whole.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn get(service: &Service, path: &str) -> (String, String) {
    http(service, &format!("GET {path} HTTP/1.1")).await
}

/// The value of one series.
async fn metric(service: &Service, series: &str) -> Option<f64> {
    let (_, metrics) = get(service, "/metrics").await;
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn pages_are_answered_next_to_grpc() {
    let (service, client) = service(&Fake::new()).await;
    client.history(1).await.unwrap();
    for (request, status, says) in [
        ("GET /healthz HTTP/1.1", "200 OK", "alive\n"),
        ("GET /readyz HTTP/1.1", "200 OK", "ready\n"),
        ("GET /healthz?verbose HTTP/1.1", "200 OK", "alive\n"),
        ("HEAD /readyz HTTP/1.1", "200 OK", ""),
        (
            "POST /metrics HTTP/1.1",
            "405 Method Not Allowed",
            "only GET and HEAD\n",
        ),
        (
            "GET / HTTP/1.1",
            "404 Not Found",
            "here are /metrics, /healthz and /readyz; all else is gRPC\n",
        ),
    ] {
        let (head, body) = http(&service, request).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {head}"
        );
        assert_eq!(body, says, "{request}");
    }
    let (head, body) = get(&service, "/metrics").await;
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        body.contains("# TYPE vintner_overload_refusals_total counter"),
        "{body}"
    );
    let accept = "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let (head, body) = http(&service, accept).await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"), "{body}");
    client.history(1).await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn calls_are_told_by_method_and_code() {
    let gate = Gate::new();
    let fake = Fake::new();
    let config = ServerConfig {
        max_concurrent: 1,
        ..on_any_port()
    };
    let service = Service::start(Arc::clone(&fake) as Arc<dyn Operations>, config).await;
    let client = service.client().await;
    client.history(1).await.unwrap();
    client.history(1).await.unwrap();
    fake.set(Mood::Fail(Fault::NotFound, "there is none", None));
    client.history(1).await.unwrap_err();
    fake.set(Mood::Panic);
    client.history(1).await.unwrap_err();
    fake.set(Mood::Wait(Arc::clone(&gate)));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.history(1).await }
    });
    soon(gate.entered.acquire()).await.unwrap().forget();
    // On a connection of its own, since one connection has a single call of so few.
    soon(service.client().await.history(1)).await.unwrap_err();

    let (_, metrics) = get(&service, "/metrics").await;
    let calls: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("vintner_grpc_request_duration_seconds_count"))
        .collect();
    let count = |code: &str, count: u32| {
        format!(
            "vintner_grpc_request_duration_seconds_count{{method=\"{HISTORY}\",code=\"{code}\"}} {count}"
        )
    };
    assert_eq!(
        calls,
        [
            count("OK", 2),
            count("NOT_FOUND", 1),
            count("RESOURCE_EXHAUSTED", 1),
            count("INTERNAL", 1)
        ]
    );
    for (series, value) in [
        ("vintner_grpc_requests_in_flight", 1.0),
        ("vintner_grpc_requests_limit", 1.0),
        ("vintner_overload_refusals_total{limit=\"calls\"}", 1.0),
        ("vintner_ready", 1.0),
    ] {
        assert_eq!(metric(&service, series).await, Some(value), "{series}");
    }
    waiting.abort();
    let _ = waiting.await;
    soon(gate.left.cancelled()).await;
    // A caller who has left: the call has ended for the service too, a moment later.
    let cancelled = format!(
        "vintner_grpc_request_duration_seconds_count{{method=\"{HISTORY}\",code=\"CANCELLED\"}}"
    );
    soon(async {
        while metric(&service, &cancelled).await != Some(1.0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(
        metric(&service, "vintner_grpc_requests_in_flight").await,
        Some(0.0)
    );
    service.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_makes_no_names() {
    let (service, _) = service(&Fake::new()).await;
    let mut grpc = tonic::client::Grpc::new(service.channel().await);
    for path in ["/vintner.v1.OnlineService/Steal", "/evil{}\"/x", "/a/b"] {
        let Ok(path) = path.parse() else { continue };
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<v1::HistoryRequest, v1::HistoryResponse>::default();
        let asked = Request::new(v1::HistoryRequest::default());
        let status = grpc.unary(asked, path, codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    }
    let (_, metrics) = get(&service, "/metrics").await;
    assert!(
        !metrics.contains("Steal") && !metrics.contains("evil"),
        "{metrics}"
    );
    assert!(
        metrics.contains("{method=\"other\",code=\"UNIMPLEMENTED\"}"),
        "{metrics}"
    );
    service.stop().await;
}

#[tokio::test]
async fn readiness_is_told_everywhere_and_other_services_go_on() {
    let (tell, readiness) = watch::channel(Readiness::NotReady("it is down".to_owned()));
    let server = Server::bind(on_any_port()).await.unwrap();
    let service = Service::of(server.with_readiness(readiness), Fake::new());
    let mut health = HealthClient::new(service.channel().await);
    let mut watch = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut next = async || soon(watch.message()).await.unwrap().unwrap().status();
    for (ready, status) in [
        (false, ServingStatus::NotServing),
        (true, ServingStatus::Serving),
        (false, ServingStatus::NotServing),
    ] {
        tell.send_if_modified(|said| {
            let now = match ready {
                true => Readiness::Ready,
                false => Readiness::NotReady("it is down".to_owned()),
            };
            let changed = *said != now;
            *said = now;
            changed
        });
        assert_eq!(next().await, status);
        for (name, status) in [
            ("vintner.v1.OnlineService", status),
            ("vintner.v1.RegistryService", ServingStatus::Serving),
            (
                "arrow.flight.protocol.FlightService",
                ServingStatus::Serving,
            ),
        ] {
            let service = name.to_owned();
            // The services are told of one after the other.
            soon(async {
                loop {
                    let asked = HealthCheckRequest {
                        service: service.clone(),
                    };
                    let answer = health.check(asked).await.unwrap().into_inner();
                    if answer.status() == status {
                        break;
                    }
                }
            })
            .await;
        }
        let (head, body) = get(&service, "/readyz").await;
        let want = match ready {
            true => ("200", "ready\n"),
            false => ("503", "not ready: it is down\n"),
        };
        assert_eq!((&head["HTTP/1.1 ".len()..][..3], body.as_str()), want);
        let told = metric(&service, "vintner_ready").await;
        assert_eq!(told, Some(f64::from(u8::from(ready))));
        assert!(
            get(&service, "/healthz")
                .await
                .0
                .starts_with("HTTP/1.1 200")
        );
    }
    service.stop().await;
}

/// What is written to a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn entries(&self) -> Vec<serde_json::Value> {
        let written = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = written.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Asks for the history under an id, and gives the id and the code of the answer.
async fn ask(service: &Service, id: Option<&str>) -> (String, Code) {
    let mut raw = RegistryServiceClient::new(service.channel().await);
    let mut request = Request::new(v1::HistoryRequest::default());
    if let Some(id) = id {
        request
            .metadata_mut()
            .insert("x-request-id", id.parse().unwrap());
    }
    let (metadata, code) = match raw.history(request).await {
        Ok(answer) => (answer.metadata().clone(), Code::Ok),
        Err(status) => (status.metadata().clone(), status.code()),
    };
    let id = metadata
        .get("x-request-id")
        .expect("every answer has an id");
    (id.to_str().unwrap().to_owned(), code)
}

#[tokio::test]
async fn a_request_id_comes_back_and_is_made_where_none_was_given() {
    let fake = Fake::new();
    let (service, _) = service(&fake).await;
    assert_eq!(
        ask(&service, Some("order-7.a")).await,
        ("order-7.a".to_owned(), Code::Ok)
    );
    let (made, _) = ask(&service, None).await;
    let (other, _) = ask(&service, Some("not sane: {}")).await;
    assert_eq!((made.len(), other.len()), (16, 16));
    assert_ne!(made, other);
    fake.set(Mood::Fail(Fault::Store, "it is down", None));
    assert_eq!(
        ask(&service, Some("b")).await,
        ("b".to_owned(), Code::Unavailable)
    );
    fake.set(Mood::Panic);
    assert_eq!(
        ask(&service, Some("c")).await,
        ("c".to_owned(), Code::Internal)
    );
    service.stop().await;
}

#[tokio::test]
async fn the_log_has_the_ids_of_calls_that_failed_or_were_slow_and_of_no_others() {
    let log = Log::default();
    let writer = log.clone();
    let _subscribed = tracing::subscriber::set_default(
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish(),
    );
    let fake = Fake::new();
    let config = ServerConfig {
        slow_call: Duration::from_secs(3600),
        ..on_any_port()
    };
    let service = Service::start(Arc::clone(&fake) as Arc<dyn Operations>, config).await;
    ask(&service, Some("good")).await;
    fake.set(Mood::Fail(
        Fault::Store,
        "the store is down",
        Some("refused"),
    ));
    ask(&service, Some("failed")).await;
    fake.set(Mood::Fail(Fault::NotFound, "no such thing", None));
    ask(&service, Some("theirs")).await;
    fake.set(Mood::Panic);
    ask(&service, Some("panicked")).await;
    service.stop().await;

    let config = ServerConfig {
        slow_call: Duration::ZERO,
        ..on_any_port()
    };
    let service = Service::start(Fake::new(), config).await;
    ask(&service, Some("slow")).await;
    service.stop().await;

    let told: Vec<_> = log
        .entries()
        .into_iter()
        .filter(|entry| entry["request_id"].is_string())
        .map(|entry| {
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {} {}",
                part("level"),
                part("request_id"),
                part("message"),
                part("code")
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    ERROR failed a call failed 
    ERROR panicked a handler panicked 
    WARN slow a call was slow OK
    ");
}

/// Counts the spans of traces.
#[derive(Clone, Default)]
struct Spans(Arc<AtomicUsize>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        if attributes.metadata().target() == vintner_online::trace::TARGET {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn a_call_that_is_not_sampled_makes_no_span() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let _subscribed = tracing::subscriber::set_default(subscriber);
    let sampler = |name: &str| Sampler::new(Some(name), None).unwrap();
    for (sampler, flags, want) in [
        (None, "01", 0),
        (Some(sampler("parentbased_always_on")), "00", 0),
        (Some(sampler("parentbased_always_on")), "01", 1),
        (Some(sampler("always_off")), "01", 0),
    ] {
        let mut server = Server::bind(on_any_port()).await.unwrap();
        if let Some(sampler) = sampler {
            server = server.with_traces(sampler);
        }
        let service = Service::of(server, Fake::new());
        let mut raw = RegistryServiceClient::new(service.channel().await);
        let mut request = Request::new(v1::HistoryRequest::default());
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        request
            .metadata_mut()
            .insert("traceparent", parent.parse().unwrap());
        raw.history(request).await.unwrap();
        assert_eq!(spans.0.swap(0, Ordering::Relaxed), want, "{flags}");
        service.stop().await;
    }
}
