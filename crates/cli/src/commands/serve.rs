//! `serve`

use std::{net::SocketAddr, sync::Arc};

use tracing_subscriber::EnvFilter;
use vintner_ops::error::chain;
use vintner_server::{ServeError, ServerConfig};

use crate::{
    args::Global,
    deployment,
    exit::{Exit, Failure},
    output,
};

pub(crate) async fn serve(global: &Global, listen: SocketAddr) -> Result<Exit, Failure> {
    if global.server.is_some() {
        return Err(Failure::input(
            "`serve` opens the stores itself; leave out --server",
        ));
    }
    let filter = EnvFilter::try_from_env("VINTNER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();

    let config = ServerConfig {
        listen,
        ..ServerConfig::default()
    };
    let operations = Arc::new(deployment::open_local(global)?);
    let server = vintner_server::Server::bind(config)
        .await
        .map_err(serve_error)?;
    output::text(&format!(
        "serving gRPC and Arrow Flight on http://{}",
        server.address()
    ))?;
    let local = Arc::clone(&operations);
    let background = tokio::spawn(async move { local.keep_serving_current().await });
    let served = server.serve(operations, stopped()).await;
    background.abort();
    served.map_err(serve_error)?;
    output::say("stopped");
    Ok(Exit::Done)
}

fn serve_error(error: ServeError) -> Failure {
    match error {
        ServeError::NotLoopback(_) => Failure::input(error),
        ServeError::Bind { .. } | ServeError::Reflection(_) | ServeError::Transport { .. } => {
            Failure::store(chain(&error))
        }
    }
}

/// Ends when the process is asked to: SIGTERM or Ctrl-C.
async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        if let Ok(mut terminate) =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
