//! The `vintner` command: parses arguments, calls one operation, prints its answer.
//!
//! Start at [`args`] for what can be typed and at [`commands`] for what each word does. Data goes to stdout, all
//! else to stderr; exit codes are in [`exit`].
//!
//! Not here: what an operation does; that is `vintner-ops`, for a local deployment and for a service alike.

mod allocator;
mod args;
mod commands;
mod deployment;
mod exit;
mod json;
mod log_lines;
mod output;
mod progress;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

use crate::{args::Cli, exit::Failure};

fn main() -> ExitCode {
    allocator::give_back_soon();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::store(format!("could not start worker threads: {error}")).report();
        }
    };
    let ended = runtime.block_on(Box::pin(commands::run(cli)));
    // What still reads a file in the background is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}
