//! `serve`

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::sync::watch;
use vintner_ops::{Local, api::DEFAULT_RATE, error::chain};
use vintner_server::{ServeError, ServerConfig};

use crate::{
    allocator,
    args::{Global, Serve},
    deployment,
    exit::{Exit, Failure},
    output, telemetry,
};

/// How long after one look for retired versions the next one begins.
const LOOK_FOR_RETIRED: Duration = Duration::from_secs(60);

pub(crate) async fn serve(global: &Global, args: &Serve) -> Result<Exit, Failure> {
    if global.server.is_some() {
        return Err(Failure::input(
            "`serve` opens the stores itself; leave out --server",
        ));
    }
    let config = config(args)?;
    allocator::give_back_late();
    // What of the traces is not sent yet is sent when everything else has ended, and then the log's last lines are written.
    let (log, traces) = telemetry::begin(args.log_format)?;
    let (_traces, sampler) = traces.unzip();

    let operations = Arc::new(deployment::open_local(global)?);
    let (tell, readiness) = watch::channel(Local::not_asked_yet());
    let mut server = vintner_server::Server::bind(config)
        .await
        .map_err(serve_error)?
        .with_meters(operations.meters())
        .with_readiness(readiness)
        .with_log(log.lines_dropped());
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
    let deletion = tokio::spawn(delete_retired(Arc::clone(&operations)));
    let served = server.serve(operations, stopped()).await;
    background.abort();
    deletion.abort();
    served.map_err(serve_error)?;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// The settings of the server.
fn config(args: &Serve) -> Result<ServerConfig, Failure> {
    let limits = &args.limits;
    let (of_one, of_all) = (limits.max_entities.get(), limits.max_entities_at_once.get());
    if of_one > of_all {
        return Err(Failure::input(format!(
            "--max-entities {of_one} is more than --max-entities-at-once {of_all}: a request of so many entities would be \
             answered only while there is no other; lower the first or raise the second"
        )));
    }
    Ok(ServerConfig {
        listen: args.listen,
        slow_call: Duration::from_micros(args.slow_call.micros()),
        max_concurrent: limits.max_calls.get(),
        selection_share: limits.selection_share,
        connection_share: limits.connection_share,
        max_batch: of_one,
        max_concurrent_entities: of_all,
        max_message_bytes: limits.max_message,
        ..ServerConfig::default()
    })
}

/// Deletes the online rows of view versions that are retired, from time to time, slowly.
async fn delete_retired(operations: Arc<Local>) {
    let rate = NonZeroU32::new(DEFAULT_RATE).unwrap_or(NonZeroU32::MIN);
    let mut every = tokio::time::interval(LOOK_FOR_RETIRED);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match operations.delete_retired(rate).await {
            Ok(done) => {
                for deleted in done {
                    tracing::info!(
                        view = %deleted.view,
                        rows = deleted.online_rows,
                        "deleted the online rows of a retired version"
                    );
                }
            }
            Err(error) => tracing::warn!(
                error = error.chain(),
                "could not delete the online rows of retired versions; will try again"
            ),
        }
    }
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
