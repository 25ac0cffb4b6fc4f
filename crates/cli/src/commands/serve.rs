//! `serve`

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use vintner_ops::{Local, error::chain};
use vintner_server::{ServeError, ServerConfig};

use crate::{
    args::{Global, Serve},
    deployment,
    exit::{Exit, Failure},
    output, telemetry,
};

pub(crate) async fn serve(global: &Global, args: &Serve) -> Result<Exit, Failure> {
    if global.server.is_some() {
        return Err(Failure::input(
            "`serve` opens the stores itself; leave out --server",
        ));
    }
    // What of the traces is not sent yet is sent when everything else has ended.
    let (_traces, sampler) = telemetry::begin(args.log_format)?.unzip();

    let config = ServerConfig {
        listen: args.listen,
        slow_call: Duration::from_micros(args.slow_call.micros()),
        ..ServerConfig::default()
    };
    let operations = Arc::new(deployment::open_local(global)?);
    let (tell, readiness) = watch::channel(Local::not_asked_yet());
    let mut server = vintner_server::Server::bind(config)
        .await
        .map_err(serve_error)?
        .with_meters(operations.meters())
        .with_readiness(readiness);
    if let Some(sampler) = sampler {
        server = server.with_traces(sampler);
    }
    output::text(&format!(
        "serving gRPC and Arrow Flight on http://{}",
        server.address()
    ))?;
    let local = Arc::clone(&operations);
    let background = tokio::spawn(async move {
        tokio::join!(
            local.keep_serving_current(),
            local.keep_readiness_current(&tell),
            local.keep_freshness_current(),
        )
    });
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
