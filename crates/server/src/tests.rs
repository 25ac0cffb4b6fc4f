//! The service and its client together, on a real port, around operations that only pretend.

mod allocations;
mod errors;
mod fake;
mod flight;
mod limits;
mod observing;
mod online_stream;
mod round_trip;
mod services;
mod stopping;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};
use vintner_ops::{
    Operations,
    api::{PushRequest, WriteToken},
};

use crate::{Client, ServeError, Server, ServerConfig, Stopped};
use fake::Fake;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What must come, or the test fails.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it must come")
}

fn on_any_port() -> ServerConfig {
    ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..ServerConfig::default()
    }
}

/// A running service.
struct Service {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<Stopped, ServeError>>,
}

impl Service {
    async fn start(ops: Arc<dyn Operations>, config: ServerConfig) -> Self {
        Self::of(Server::bind(config).await.unwrap(), ops)
    }

    fn of(server: Server, ops: Arc<dyn Operations>) -> Self {
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(ops, async {
            // A test that ends without stopping its service drops the sender, which stops it too.
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            served,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn client(&self) -> Client {
        Client::connect(&self.url()).await.unwrap()
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.url()).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn stop(self) -> Stopped {
        self.stop.send(()).unwrap();
        soon(self.served).await.unwrap().unwrap()
    }
}

/// A service around a fake, and a client of it.
async fn service(fake: &Arc<Fake>) -> (Service, Client) {
    let service = Service::start(Arc::clone(fake) as Arc<dyn Operations>, on_any_port()).await;
    let client = service.client().await;
    (service, client)
}

/// What a push answers with.
pub(crate) fn token() -> WriteToken {
    let (project, view) = ("flights".parse().unwrap(), "weather@2".parse().unwrap());
    WriteToken::new(project, view, u64::MAX, Some("a life"))
}

/// A push of so many rows.
fn push(rows: usize) -> PushRequest {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1; rows]));
    PushRequest {
        view: "weather".parse().unwrap(),
        version: None,
        rows: RecordBatch::try_from_iter([("k", column)]).unwrap(),
        producer: None,
    }
}
