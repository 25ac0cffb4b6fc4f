//! Loads an online store's service and measures it, and is the yardsticks beside it: an empty gRPC handler, and the
//! plain Redis client.
//!
//! `make bench-online` runs it; `benches/bench_online.py` says in which order. Every run prints one line of JSON:
//! requests and entities per second, and latencies in microseconds from an HDR histogram.
//!
//! * Closed loop: every connection sends its next request when it has its answer. Says how many per second there can be.
//! * Open loop (`--rate`): requests are due at fixed times, whether or not there is an answer, and a latency counts from
//!   when the request was due, so waiting behind a slow one is part of it.
//! * Not here: data, processes and ratios.

mod empty;
mod load;
mod side;

use std::{io::Write as _, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    load::{Load, Outcome},
    side::{Http, Online, OnlineStream, RedisGet, Work},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever goes wrong in a benchmark ends it.
type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Measures the online path, and the yardsticks beside it")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves `GetOnlineFeatures` from memory: the floor under every gRPC service.
    Empty {
        /// Where to listen; the port that was taken is printed.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
        /// How many float64 features an answer has.
        #[arg(long, default_value_t = 10)]
        features: usize,
        /// Reads every entity's row from this Redis before it answers, and does not look into it.
        #[arg(long)]
        redis: Option<String>,
    },
    /// Asks a service for feature vectors.
    Grpc {
        /// The service.
        #[arg(long)]
        url: String,
        /// The feature service to ask for.
        #[arg(long, default_value = "all")]
        service: String,
        /// One call for all requests of a connection, not a call for each.
        #[arg(long)]
        stream: bool,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Reads the same rows with the redis crate: GET for one entity, MGET for more.
    Redis {
        /// The server.
        #[arg(long)]
        url: String,
        /// The project of the keys.
        #[arg(long, default_value = "bench")]
        project: String,
        /// The view version of the keys.
        #[arg(long, default_value = "wide@1")]
        view: String,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Asks Feast's HTTP server.
    Feast {
        /// `127.0.0.1:6566`.
        #[arg(long)]
        address: String,
        /// The feature service to ask for.
        #[arg(long, default_value = "all")]
        service: String,
        #[command(flatten)]
        load: LoadArgs,
    },
}

#[derive(Args, Clone)]
struct LoadArgs {
    /// Entities are numbered from 0.
    #[arg(long, default_value_t = 1_000_000)]
    entities: u64,
    /// Entities of each request.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests per second of all connections; as many as there can be when left out.
    #[arg(long)]
    rate: Option<f64>,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long before that to run without counting.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
}

impl LoadArgs {
    fn load(&self) -> Load {
        Load {
            connections: self.connections,
            rate: self.rate,
            measure: Duration::from_secs_f64(self.seconds),
            warm_up: Duration::from_secs_f64(self.warm_up),
        }
    }

    fn work(&self) -> Work {
        Work {
            entities: self.entities,
            batch: self.batch,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    match Cli::parse().command {
        Command::Empty {
            listen,
            features,
            redis,
        } => empty::serve(listen, features, redis).await,
        Command::Grpc {
            url,
            service,
            stream: false,
            load,
        } => {
            let connect = async || Online::connect(&url, &service, load.work()).await;
            report(&load, load::run(&load.load(), connect).await?)
        }
        Command::Grpc {
            url,
            service,
            stream: true,
            load,
        } => {
            let connect = async || OnlineStream::connect(&url, &service, load.work()).await;
            report(&load, load::run(&load.load(), connect).await?)
        }
        Command::Redis {
            url,
            project,
            view,
            load,
        } => {
            let connect = async || RedisGet::connect(&url, &project, &view, load.work()).await;
            report(&load, load::run(&load.load(), connect).await?)
        }
        Command::Feast {
            address,
            service,
            load,
        } => {
            let connect = async || Http::connect(&address, &service, load.work()).await;
            report(&load, load::run(&load.load(), connect).await?)
        }
    }
}

fn report(args: &LoadArgs, outcome: Outcome) -> Result<(), Error> {
    let micros = |quantile| outcome.times.value_at_quantile(quantile) as f64 / 1000.0;
    let line = serde_json::json!({
        "requests_per_s": outcome.rate(),
        "entities_per_s": outcome.rate() * args.batch as f64,
        "p50_us": micros(0.5),
        "p90_us": micros(0.9),
        "p99_us": micros(0.99),
        "p999_us": micros(0.999),
        "max_us": outcome.times.max() as f64 / 1000.0,
        "requests": outcome.times.len(),
    });
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(())
}
