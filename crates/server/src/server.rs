//! Binding a port, serving on it, and stopping.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::StreamExt as _;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tonic::{
    server::NamedService,
    service::Routes,
    transport::{self, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use vintner_core::meter::Count;
use vintner_ops::{Meters, Operations, Readiness};
use vintner_proto::v1::{
    dataset_service_server::DatasetServiceServer,
    maintenance_service_server::MaintenanceServiceServer,
    materialization_service_server::MaterializationServiceServer,
    push_service_server::PushServiceServer, registry_service_server::RegistryServiceServer,
};

use crate::{
    admission::Admission,
    calls::{Calls, Sampler},
    config::ServerConfig,
    dataset_service::DatasetHandlers,
    dispatch::Dispatch,
    flight_service::FlightHandlers,
    gathered::Gathered,
    guard::{Guard, Rules},
    http::{Front, Pages},
    maintenance_service::MaintenanceHandlers,
    materialization_service::MaterializationHandlers,
    metrics::{Metrics, Sources},
    online_service::{OnlineHandlers, OnlineServer},
    push_service::PushHandlers,
    registry_service::RegistryHandlers,
};

/// How much a peer may send of one stream, and of all streams of one connection, before it is read. Well above the
/// protocol's 64 KiB, which would stall streams of record batches.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// See [`STREAM_WINDOW_BYTES`].
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 * STREAM_WINDOW_BYTES;
/// A peer that does not answer a ping for this long, after as long without a word, is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long clients have to receive that their calls were cut off.
const FAREWELL: Duration = Duration::from_secs(1);

/// The names of the services that have a health status of their own.
const SERVICES: [&str; 8] = [
    WHOLE,
    <RegistryServiceServer<RegistryHandlers> as NamedService>::NAME,
    OnlineServer::NAME,
    <PushServiceServer<PushHandlers> as NamedService>::NAME,
    <MaterializationServiceServer<MaterializationHandlers> as NamedService>::NAME,
    <DatasetServiceServer<DatasetHandlers> as NamedService>::NAME,
    <MaintenanceServiceServer<MaintenanceHandlers> as NamedService>::NAME,
    <FlightServiceServer<FlightHandlers> as NamedService>::NAME,
];

/// The name of the server as a whole.
const WHOLE: &str = "";
/// What is not healthy while the online store does not answer.
const NEED_THE_ONLINE_STORE: [&str; 2] = [WHOLE, OnlineServer::NAME];

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can be reached from elsewhere.
    #[error(
        "refusing to listen on {0}: whoever reaches it could read and change everything, since there is no \
         authentication yet; listen on a loopback address, such as 127.0.0.1:7600, and use a tunnel from elsewhere"
    )]
    NotLoopback(SocketAddr),
    /// The address is taken, or not ours.
    #[error("could not listen on {address}; is another service there already?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The descriptions of the services are broken.
    #[error("could not describe the services for gRPC reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the service on {address} failed")]
    Transport {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: transport::Error,
    },
}

/// How a server has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every call that it had taken was finished.
    Clean,
    /// The grace was not enough: this many calls were cut off, and told so.
    CutOff(usize),
}

/// A server that has its port and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: ServerConfig,
    meters: Option<Arc<Meters>>,
    readiness: watch::Receiver<Readiness>,
    sampler: Option<Sampler>,
    log_lines_dropped: Option<Arc<Count>>,
}

/// Binds and serves in one step.
///
/// # Errors
/// As [`Server::bind`] and [`Server::serve`].
pub async fn serve(
    ops: Arc<dyn Operations>,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Stopped, ServeError> {
    Server::bind(config).await?.serve(ops, shutdown).await
}

impl Server {
    /// Takes the port. From here on connections wait; they are answered once it serves.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`] for an address that others could reach, [`ServeError::Bind`] when it is taken.
    pub async fn bind(config: ServerConfig) -> Result<Self, ServeError> {
        let address = config.listen;
        if !address.ip().to_canonical().is_loopback() {
            return Err(ServeError::NotLoopback(address));
        }
        let failed = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            config,
            meters: None,
            // Nobody will say otherwise.
            readiness: watch::channel(Readiness::Ready).1,
            sampler: None,
            log_lines_dropped: None,
        })
    }

    /// Tells what is counted of a deployment among its metrics.
    #[must_use]
    pub fn with_meters(self, meters: Arc<Meters>) -> Self {
        Self {
            meters: Some(meters),
            ..self
        }
    }

    /// Says that it is not ready while this says so: on `/readyz`, and to health checks of the whole and of the
    /// services that need the online store. Without it the service is ready as long as it serves.
    #[must_use]
    pub fn with_readiness(self, readiness: watch::Receiver<Readiness>) -> Self {
        Self { readiness, ..self }
    }

    /// Makes spans of the calls that the sampler chooses.
    #[must_use]
    pub fn with_traces(self, sampler: Sampler) -> Self {
        Self {
            sampler: Some(sampler),
            ..self
        }
    }

    /// Tells among its metrics how many lines of the log were dropped.
    #[must_use]
    pub fn with_log(self, lines_dropped: Arc<Count>) -> Self {
        Self {
            log_lines_dropped: Some(lines_dropped),
            ..self
        }
    }

    /// The address that it has, with the port that was free when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done. Then health says so, no new calls are taken, those that were taken are finished
    /// within the grace, and what is left is cut off.
    ///
    /// # Errors
    /// [`ServeError::Transport`] when the port fails.
    pub async fn serve(
        self,
        ops: Arc<dyn Operations>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Stopped, ServeError> {
        let Self {
            listener,
            address,
            config,
            meters,
            readiness,
            sampler,
            log_lines_dropped,
        } = self;
        let (health, health_server) = tonic_health::server::health_reporter();
        set_health(&health, &SERVICES, ServingStatus::Serving).await;
        keep_health(&health, &readiness).await;
        let healthy = watch_health(&health, readiness.clone());
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(vintner_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let calls = Calls::new(config.slow_call, sampler);
        let rules = Rules::new(config.max_concurrent, config.max_message_bytes, calls);
        let rules = Arc::new(rules);
        let admission = Admission::new(
            config.max_concurrent,
            config.selection_share,
            config.max_concurrent_entities,
        );
        let admission = Arc::new(admission);
        let metrics = Metrics::new(Sources {
            rules: Arc::clone(&rules),
            admission: Arc::clone(&admission),
            meters,
            readiness: readiness.clone(),
            log_lines_dropped,
        });
        let pages = Arc::new(Pages {
            metrics,
            readiness,
            draining: rules.draining.clone(),
        });
        let Dispatch { first, others } = services(&ops, &config, &rules, admission);
        let others = others
            .add_service(health_server)
            .add_service(reflection().build_v1().map_err(ServeError::Reflection)?)
            .add_service(
                reflection()
                    .build_v1alpha()
                    .map_err(ServeError::Reflection)?,
            );
        let others = others.prepare();
        let guard = Guard::new(Dispatch { first, others }, Arc::clone(&rules));
        let front = Front::new(guard, pages);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let incoming = incoming.map(|accepted| accepted.map(Gathered::new));

        let draining = rules.draining.clone();
        let serving = transport::Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(streams_of_one_connection(&config))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .serve_with_incoming_shutdown(front, incoming, draining.clone().cancelled_owned());
        let stopping = async {
            tokio::select! {
                () = shutdown => {}
                () = healthy => {}
            }
            tracing::info!(%address, "stopping");
            set_health(&health, &SERVICES, ServingStatus::NotServing).await;
            draining.cancel();
            tokio::time::sleep_until(tokio::time::Instant::now() + config.shutdown_grace).await;
        };
        tracing::info!(%address, "serving");
        let failed = |source| ServeError::Transport { address, source };
        tokio::pin!(serving);
        tokio::select! {
            served = &mut serving => return served.map(|()| Stopped::Clean).map_err(failed),
            () = stopping => {}
        }
        let cut_off = rules.in_flight();
        tracing::warn!(%address, calls = cut_off, "the grace is over; calls are cut off");
        rules.over.cancel();
        match timeout(FAREWELL, serving).await {
            Ok(served) => served.map_err(failed)?,
            Err(_) => tracing::warn!(%address, "clients did not take their leave"),
        }
        Ok(match cut_off {
            0 => Stopped::Clean,
            calls => Stopped::CutOff(calls),
        })
    }
}

/// How many calls of one connection are let through at one time. Its further calls wait at the client's side.
fn streams_of_one_connection(config: &ServerConfig) -> Option<u32> {
    u32::try_from(config.connection_share.of(config.max_concurrent)).ok()
}

/// All services, without health and reflection.
pub(crate) fn services(
    ops: &Arc<dyn Operations>,
    config: &ServerConfig,
    rules: &Rules,
    admission: Arc<Admission>,
) -> Dispatch<OnlineServer> {
    let limit = config.max_message_bytes;
    let ops = || Arc::clone(ops);
    let online = OnlineHandlers {
        ops: ops(),
        max_batch: config.max_batch,
        admission,
        draining: rules.draining.clone(),
    };
    let push = PushHandlers {
        ops: ops(),
        max_batch: config.max_batch,
        draining: rules.draining.clone(),
    };
    let flight = FlightHandlers {
        ops: ops(),
        max_message_bytes: limit,
    };
    let others = Routes::default()
        .add_service(
            RegistryServiceServer::new(RegistryHandlers { ops: ops() })
                .max_decoding_message_size(limit),
        )
        .add_service(PushServiceServer::new(push).max_decoding_message_size(limit))
        .add_service(
            MaterializationServiceServer::new(MaterializationHandlers { ops: ops() })
                .max_decoding_message_size(limit),
        )
        .add_service(
            DatasetServiceServer::new(DatasetHandlers { ops: ops() })
                .max_decoding_message_size(limit),
        )
        .add_service(
            MaintenanceServiceServer::new(MaintenanceHandlers { ops: ops() })
                .max_decoding_message_size(limit),
        )
        .add_service(FlightServiceServer::new(flight).max_decoding_message_size(limit));
    Dispatch {
        first: OnlineServer {
            handlers: Arc::new(online),
            max_message_bytes: limit,
        },
        others,
    }
}

async fn set_health(health: &HealthReporter, services: &[&str], status: ServingStatus) {
    for service in services {
        health.set_service_status(*service, status).await;
    }
}

/// Gives what needs the online store the health that it has now.
async fn keep_health(health: &HealthReporter, readiness: &watch::Receiver<Readiness>) {
    let status = match *readiness.borrow() {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::NotReady(_) => ServingStatus::NotServing,
    };
    set_health(health, &NEED_THE_ONLINE_STORE, status).await;
}

/// Keeps that health current. Never ends.
async fn watch_health(health: &HealthReporter, mut readiness: watch::Receiver<Readiness>) {
    while readiness.changed().await.is_ok() {
        keep_health(health, &readiness).await;
    }
    // Nobody will say otherwise any more.
    std::future::pending().await
}
