//! What a running service tells of itself: whether it is ready while Redis comes and goes, every metric that alerts and
//! the dashboard speak of, traces from the caller to the store, and the log.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};
use vintner_core::{Column, FeatureType, ScalarType, Value};
use vintner_ops::{
    Operations as _,
    api::{EntityColumn, OnlineRequest},
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_server::Client;
use vintner_testkit::redis::RedisServer;

use crate::harness::{Repo, Service, here, until};

/// A repo whose online store is this Redis, applied.
fn repo_on(redis: &RedisServer) -> Repo {
    let repo = Repo::new();
    let embedded = "online_store: {type: embedded, path: .vintner/online}";
    let redis = format!("online_store: {{type: redis, url: \"{}\"}}", redis.url());
    repo.replace("vintner.yaml", embedded, &redis);
    let view = "name: customer_profile\n";
    repo.replace("features.yaml", view, &format!("{view}near_cache: 1MiB\n"));
    repo.done(&["apply", "--yes"]);
    repo
}

fn get_online(repo: &Repo, service: &Service) -> Option<i32> {
    let args = [
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
    ];
    repo.run(&[&args[..], &["--server", service.url.as_str()]].concat())
        .code
}

#[test]
fn a_service_starts_without_redis_and_is_ready_while_redis_answers() {
    let mut redis = RedisServer::start();
    let repo = repo_on(&redis);
    repo.done(&["materialize"]);
    redis.kill();
    let service = repo.serve();
    let ready = || service.page("/readyz").0 == 200;
    assert_eq!(service.page("/healthz"), (200, "alive\n".to_owned()));
    until("that Redis is missed", || {
        service
            .page("/readyz")
            .1
            .contains("the online store redis://")
    });
    assert!(!ready());
    // Other services go on.
    repo.done(&["list", "feature_service", "--server", &service.url]);
    assert_eq!(get_online(&repo, &service), Some(1));

    for _ in 0..2 {
        redis.restart();
        let took = until("readiness", ready);
        // A second is what is promised; the rest is for a machine that is busy.
        assert!(took < Duration::from_secs(3), "ready after {took:?}");
        assert_eq!(get_online(&repo, &service), Some(0));
        assert!(service.page("/metrics").1.contains("\nvintner_ready 1.0\n"));
        redis.kill();
        until("that Redis is missed", || !ready());
        assert!(service.page("/metrics").1.contains("\nvintner_ready 0.0\n"));
    }
    assert_eq!(service.stop(), Some(0));
}

/// The names of our metrics in a text, as queries have them.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let words = text.split(word);
    let ours = words.filter(|word| word.starts_with("vintner_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn alerts_and_the_dashboard_speak_of_metrics_that_there_are() {
    let redis = RedisServer::start();
    let repo = repo_on(&redis);
    let service = repo.serve();
    repo.done(&["materialize", "--server", &service.url]);
    until("an answer", || get_online(&repo, &service) == Some(0));
    // Freshness is found out in the background, now and then; a service that starts does so at once.
    assert_eq!(service.stop(), Some(0));
    let service = repo.serve();
    repo.done(&["materialize", "--server", &service.url]);
    until("an answer", || get_online(&repo, &service) == Some(0));
    until("freshness", || {
        let metrics = service.page("/metrics").1;
        [
            "vintner_view_newest_event_age_seconds{",
            "vintner_view_last_success_age_seconds{",
        ]
        .iter()
        .all(|name| metrics.contains(name))
    });
    until("a hit of the near cache", || {
        let hits = "vintner_near_cache_lookups_total{view=\"customer_profile@1\",result=\"hit\"} ";
        get_online(&repo, &service);
        let metrics = service.page("/metrics").1;
        let hits = metrics.lines().find_map(|line| line.strip_prefix(hits));
        hits.is_some_and(|hits| hits != "0")
    });
    let (status, metrics) = service.page("/metrics");
    assert_eq!(status, 200);
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let there: BTreeSet<String> = samples
        .filter_map(|line| line.split(['{', ' ']).next())
        // A text may name a histogram as a whole.
        .flat_map(|name| [name, name.strip_suffix("_bucket").unwrap_or(name)])
        .map(str::to_owned)
        .collect();

    let deploy = here("../../deploy");
    for file in ["prometheus/alerts.yml", "grafana/vintner.json"] {
        let text = fs::read_to_string(deploy.join(file)).unwrap();
        let spoken = names(&text);
        assert!(spoken.len() > 5, "{file}: {spoken:?}");
        let missing: Vec<_> = spoken.difference(&there).collect();
        assert!(
            missing.is_empty(),
            "{file} speaks of {missing:?}, which are not among {there:?}"
        );
    }
    // And the page for people has them all, by the names of their families.
    let page = fs::read_to_string(here("../../docs/observability.md")).unwrap();
    for line in metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
    {
        let name = line.split(' ').next().unwrap();
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/observability.md has no {name}"
        );
    }
    for series in [
        "vintner_online_features_total{view=\"customer_profile@1\",status=\"PRESENT\"} ",
        "vintner_online_view_requests_total{view=\"customer_orders@1\",outcome=\"answered\"} ",
        "vintner_online_request_duration_seconds_count{outcome=\"answered\"} ",
        "vintner_online_request_entities_bucket{le=\"1\"} ",
        "vintner_online_store_request_duration_seconds_count{operation=\"read\"} ",
        "vintner_materialization_run_duration_seconds_count{view=\"customer_profile@1\",outcome=\"succeeded\"} 1",
        "vintner_registry_version 1.0",
        "vintner_near_cache_lookups_total{view=\"customer_profile@1\",result=\"hit\"} ",
        "vintner_grpc_request_duration_seconds_count{method=\"vintner.v1.OnlineService/GetOnlineFeatures\",code=\"OK\"} ",
    ] {
        let found = metrics.lines().find(|line| line.starts_with(series));
        let value = found
            .and_then(|line| line.rsplit(' ').next())
            .unwrap_or_else(|| panic!("no {series} in {metrics}"));
        assert_ne!(value, "0", "{series}");
    }
    // An entity is never told of, and neither is the project's secret place.
    assert!(!metrics.contains("customer_id"), "{metrics}");
    promtool(&["check", "metrics"], &metrics);
}

/// Prometheus' own checks.
fn promtool(args: &[&str], input: &str) {
    let started = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut checking) = started else {
        #[expect(clippy::print_stderr, reason = "what is skipped is said")]
        {
            eprintln!(
                "SKIPPED: promtool is not installed, so there is no {args:?} (Debian: prometheus)"
            );
        }
        return;
    };
    checking
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let checked = checking.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(
        checked.status.success() && said.is_empty(),
        "promtool: {said}"
    );
}

/// Prometheus takes the configuration that docker-compose.yml gives it, it scrapes the address that the service there
/// listens on, and everything that is mounted is there.
#[test]
fn the_monitoring_of_docker_compose_fits_the_service() {
    let root = here("../..");
    let compose = fs::read_to_string(root.join("docker-compose.yml")).unwrap();
    let mounted = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ./"));
    let mounted: Vec<_> = mounted.filter_map(|line| line.split(':').next()).collect();
    assert!(mounted.len() >= 5, "{mounted:?}");
    for path in mounted {
        assert!(root.join(path).exists(), "docker-compose.yml mounts {path}");
    }
    let listen = compose
        .lines()
        .find_map(|line| line.trim().strip_prefix("command: [serve, --listen, "));
    let listen = listen.unwrap().trim_end_matches(']');
    let file = root.join("deploy/prometheus/prometheus.yml");
    let scrapes = fs::read_to_string(&file).unwrap();
    assert!(scrapes.contains("job_name: vintner\n"), "{scrapes}");
    assert!(
        scrapes.contains(&format!("targets: [{listen}]")),
        "{scrapes}"
    );
    promtool(&["check", "config", file.to_str().unwrap()], "");
}

#[test]
fn a_view_that_is_deleted_is_told_of_no_more() {
    let redis = RedisServer::start();
    let repo = repo_on(&redis);
    let service = repo.serve();
    repo.done(&["materialize", "--server", &service.url]);
    until("an answer", || get_online(&repo, &service) == Some(0));
    assert!(service.page("/metrics").1.contains("customer_orders@1"));
    let definitions = fs::read_to_string(repo.path("features.yaml")).unwrap();
    let without: Vec<_> = definitions
        .split("---\n")
        .filter(|object| !object.contains("name: customer_orders"))
        .collect();
    let without = without
        .join("---\n")
        .replace(", \"customer_orders:amount_of_the_day\"", "");
    repo.write("features.yaml", &without);
    repo.done(&["apply", "--yes"]);
    until("the new version", || {
        service
            .page("/metrics")
            .1
            .contains("\nvintner_registry_version 2.0\n")
    });
    until("that it is gone", || {
        !service.page("/metrics").1.contains("customer_orders@1")
    });
    assert_eq!(get_online(&repo, &service), Some(0));
}

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Collects on a port of its own until the test ends.
    async fn start(&self) -> String {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let service = TraceServiceServer::new(self.clone());
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(incoming));
        url
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }
}

fn online_request() -> OnlineRequest {
    let integer = FeatureType::Scalar(ScalarType::Int64);
    OnlineRequest {
        features: FeatureRequest::Service("churn_model".parse().unwrap()),
        names: NameStyle::Short,
        after: Default::default(),
        entities: vec![EntityColumn {
            name: "customer_id".to_owned(),
            values: Column::of(integer, [Some(Value::Int64(1))]).unwrap(),
        }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_caller_to_the_store() {
    let collector = Collector::default();
    let url = collector.start().await;
    let repo = Repo::new().with_environment(vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), url),
        ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "50".to_owned()),
    ]);
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let service = repo.serve();
    let client = Client::connect(&service.url).await.unwrap();
    let ask = async |trace: u128, flags: TraceFlags| {
        let span = SpanContext::new(
            TraceId::from(trace),
            SpanId::from(7),
            flags,
            false,
            opentelemetry::trace::TraceState::default(),
        );
        let context = Context::new().with_remote_span_context(span);
        // The client takes the context when it is asked, before it first waits.
        let asked = {
            let client = client.clone();
            async move { client.get_online(online_request()).await }
        };
        opentelemetry::context::FutureExt::with_context(asked, context)
            .await
            .unwrap();
    };
    ask(1, TraceFlags::default()).await;
    ask(0x2a, TraceFlags::SAMPLED).await;

    tokio::task::block_in_place(|| {
        until("the call's span", || {
            collector.spans().iter().any(|span| span.kind == 2)
        });
    });
    assert_eq!(service.stop(), Some(0));
    let spans = collector.spans();
    let name = "vintner.v1.OnlineService/GetOnlineFeatures";
    let call = spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!(call.parent_span_id, 7_u64.to_be_bytes());
    let mut told = Vec::new();
    for span in &spans {
        assert_eq!(
            span.trace_id,
            0x2a_u128.to_be_bytes(),
            "what is not sampled is not sent"
        );
        if span.name != name {
            assert_eq!(span.parent_span_id, call.span_id, "{}", span.name);
            let within = call.start_time_unix_nano <= span.start_time_unix_nano
                && span.end_time_unix_nano <= call.end_time_unix_nano;
            assert!(within, "{}", span.name);
        }
        told.push((span.start_time_unix_nano, span.name.as_str()));
    }
    told.sort_unstable();
    let told: Vec<_> = told.into_iter().map(|(_, name)| name).collect();
    assert_eq!(
        told,
        [name, "plan", "entity keys", "store read", "assemble"]
    );
}

#[test]
fn a_json_log_has_an_object_a_line_and_the_id_of_what_failed() {
    let mut redis = RedisServer::start();
    let repo = repo_on(&redis);
    let service = repo.serve_with(&["--log-format", "json"]);
    until("readiness", || service.page("/readyz").0 == 200);
    redis.kill();
    let asked = [
        "get-online",
        "--service",
        "churn_model",
        "--entity",
        "customer_id=1",
    ];
    let answer = repo.run(&[&asked[..], &["--server", service.url.as_str()]].concat());
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let (code, log) = service.stop_with_log();
    assert_eq!(code, Some(0));
    let entries: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let failed = entries
        .iter()
        .find(|entry| entry["message"] == "a call failed");
    let failed = failed.unwrap_or_else(|| panic!("{answer:?}\n{log}"));
    assert_eq!(failed["level"], "ERROR");
    assert_eq!(failed["request_id"].as_str().unwrap().len(), 16, "{failed}");
}
