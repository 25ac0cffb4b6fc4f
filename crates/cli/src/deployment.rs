//! Which deployment a command works on: a repo's own stores, or a running service.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc};

use sysinfo::System;
use vintner_core::{Clock, FixedClock, SystemClock};
use vintner_ops::{Local, Operations, error::chain};
use vintner_repo::RepoFile;
use vintner_server::Client;

use crate::{args::Global, exit::Failure};

/// The folder of the repo that the flags name, or the nearest one.
pub(crate) fn repo_root(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(root) = &global.repo {
        return if root.join("vintner.yaml").is_file() {
            Ok(root.clone())
        } else {
            Err(Failure::input(format!(
                "{} has no vintner.yaml; name the repo's folder with --repo, or make one with `vintner init`",
                root.display()
            )))
        };
    }
    let here = std::env::current_dir()
        .map_err(|e| Failure::store(format!("could not find the current folder: {e}")))?;
    vintner_repo::find_repo(&here).ok_or_else(|| {
        Failure::input(
            "there is no vintner.yaml here, in a folder above, or in ./feature_repo; \
             name the repo's folder with --repo, or make one with `vintner init`",
        )
    })
}

/// The files of the repo.
pub(crate) fn repo_files(global: &Global) -> Result<Vec<RepoFile>, Failure> {
    vintner_repo::read_repo(&repo_root(global)?).map_err(|error| Failure::input(chain(&error)))
}

/// The stores of the repo.
pub(crate) fn open_local(global: &Global) -> Result<Local, Failure> {
    let clock = clock(global);
    let root = repo_root(global)?;
    let memory = global.memory.unwrap_or_else(half_of_memory);
    Ok(Local::open(&root, &repo_files(global)?, clock, memory)?)
}

/// The machine's clock, or one that stands still where the flags say.
pub(crate) fn clock(global: &Global) -> Arc<dyn Clock> {
    match global.now {
        Some(now) => Arc::new(FixedClock(now)),
        None => Arc::new(SystemClock),
    }
}

/// Half of the memory that this process can have: the machine's, or its control group's.
fn half_of_memory() -> NonZeroUsize {
    let bytes = System::new().map(|mut system| {
        system.refresh_memory();
        let machine = system.total_memory();
        let group = system.cgroup_limits().map(|limits| limits.total_memory);
        group.map_or(machine, |group| group.min(machine))
    });
    let half = usize::try_from(bytes.unwrap_or(0) / 2).unwrap_or(usize::MAX);
    // What cannot be found out is no limit.
    NonZeroUsize::new(half).unwrap_or(NonZeroUsize::MAX)
}

/// The service that the flags name, or the stores of the repo.
pub(crate) async fn open(global: &Global) -> Result<Box<dyn Operations>, Failure> {
    match &global.server {
        Some(url) => Ok(Box::new(Client::connect(url).await?)),
        None => Ok(Box::new(open_local(global)?)),
    }
}

/// Who applies or deletes, for the history of it: the user's name.
pub(crate) fn author() -> String {
    ["VINTNER_AUTHOR", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "unknown".to_owned())
}
