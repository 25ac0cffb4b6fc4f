//! What each word does.

pub(crate) mod catalog;
mod changes;
mod datasets;
mod delete;
mod doctor;
mod historical;
mod init;
mod maintenance;
mod materialize;
mod online;
mod push;
mod serve;
mod teardown;
mod verify;

use clap::CommandFactory as _;

use crate::{
    args::{self, Cli, Command},
    exit::{Exit, Failure},
};

/// Does the command.
pub(crate) async fn run(cli: Cli) -> Result<Exit, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Init { dir } => init::init(&dir),
        Command::Check => changes::check(global).await,
        Command::Plan { exit_code } => changes::plan(global, exit_code).await,
        Command::Apply { yes } => changes::apply(global, yes).await,
        Command::Materialize(args) => materialize::materialize(global, args).await,
        Command::GetHistorical(args) => Box::pin(historical::get_historical(global, args)).await,
        Command::Datasets => datasets::list(global).await,
        Command::Dataset(args::Dataset::Show { name }) => datasets::show(global, &name).await,
        Command::Dataset(args::Dataset::Reproduce { name, out }) => {
            Box::pin(datasets::reproduce(global, &name, &out)).await
        }
        Command::Push(args) => Box::pin(push::push(global, args)).await,
        Command::GetOnline(args) => online::get_online(global, args).await,
        Command::List { kind } => catalog::list(global, kind).await,
        Command::Show { kind, name } => catalog::show(global, kind, &name).await,
        Command::History { limit } => changes::history(global, limit).await,
        Command::Diff { from, to } => changes::diff(global, from, to).await,
        Command::Rollback { to, yes } => changes::rollback(global, to, yes).await,
        Command::Runs { view, limit } => materialize::runs(global, view.as_ref(), limit).await,
        Command::Compact { views } => maintenance::compact(global, views).await,
        Command::Vacuum(args) => maintenance::vacuum(global, args).await,
        Command::Verify(args) => verify::verify(global, args).await,
        Command::Teardown(args) => teardown::teardown(global, args).await,
        Command::Delete(args) => Box::pin(delete::delete(global, args)).await,
        Command::Doctor => doctor::doctor(global).await,
        Command::Serve(args) => serve::serve(global, &args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vintner", &mut script);
            crate::output::text(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
    }
}
