//! `doctor`: each store tried out, whether or not the others work.

use std::{path::Path, process::Stdio, sync::Arc, time::Instant};

use url::Url;
use vintner_core::Clock;
use vintner_offline::delta::OfflineStore;
use vintner_online::{OnlineStore, OnlineStoreConfig};
use vintner_registry::store::{RegistryStore, probe::ObjectProbe};

use super::materialize::micros;
use crate::{
    api::{CLOCK_TOLERANCE_MICROS, Checkup, Health, apart},
    error::{OpsError, chain},
};

/// Free space below which a local folder is worth a word.
const LITTLE_SPACE: u64 = 1 << 30;

/// What is found of the registry.
pub(super) async fn registry(store: &RegistryStore) -> Checkup {
    let place = store.location().to_string();
    let mut found = objects("registry", place.clone(), store.probe().await).await;
    let started = Instant::now();
    match store.latest().await {
        Ok(snapshot) => {
            found
                .latencies
                .push(("latest".to_owned(), micros(started.elapsed())));
            found
                .facts
                .push(("version".to_owned(), snapshot.version.to_string()));
        }
        Err(error) => broken(&mut found, chain(&error)),
    }
    found
}

/// What is found of the offline store.
pub(super) async fn offline(store: &OfflineStore) -> Checkup {
    objects(
        "offline store",
        store.location().to_string(),
        store.probe().await,
    )
    .await
}

/// What is found of the online store.
pub(super) async fn online(
    opened: Result<&Arc<dyn OnlineStore>, OpsError>,
    (config, root): (&OnlineStoreConfig, &Path),
    clock: &dyn Clock,
) -> Checkup {
    let place = match config {
        OnlineStoreConfig::Embedded { path } => root.join(path).display().to_string(),
        OnlineStoreConfig::Redis(config) => config.to_string(),
    };
    let mut found = good("online store", place);
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            broken(&mut found, error.chain());
            return found;
        }
    };
    match store.check().await {
        Ok(info) => {
            found.facts.push(("version".to_owned(), info.version));
            for warning in info.warnings {
                warn(&mut found, warning);
            }
        }
        Err(error) => {
            broken(&mut found, chain(&error));
            return found;
        }
    }
    match store.probe().await {
        Ok(probe) => {
            let names = ["write", "read", "delete"];
            let times = names.into_iter().zip(probe.latencies);
            found
                .latencies
                .extend(times.map(|(name, time)| (name.to_owned(), micros(time))));
            found.facts.extend(probe.facts);
            let now = clock.now();
            for (of, theirs) in probe.clocks {
                let difference = apart(theirs, now);
                found.facts.push((
                    format!("clock difference{of}"),
                    format!("{} ms", difference / 1000),
                ));
                if difference > CLOCK_TOLERANCE_MICROS {
                    warn(
                        &mut found,
                        format!(
                            "the clock{of} and this machine's are {} ms apart, so that rows expire at other times than \
                             they should; set both by NTP",
                            difference / 1000
                        ),
                    );
                }
            }
            let is_replica = found
                .facts
                .iter()
                .any(|(name, value)| name == "role" && value == "slave");
            if is_replica {
                broken(
                    &mut found,
                    "it is a replica, which takes no writes; name the primary in vintner.yaml"
                        .to_owned(),
                );
            }
        }
        Err(error) => broken(&mut found, chain(&error)),
    }
    if let OnlineStoreConfig::Embedded { path } = config {
        space(&mut found, &root.join(path)).await;
    }
    found
}

/// What is found of an object store or a folder.
async fn objects(
    part: &str,
    place: String,
    probe: Result<ObjectProbe, impl std::error::Error>,
) -> Checkup {
    let mut found = good(part, place.clone());
    match probe {
        Ok(probe) => {
            let times = [
                ("write", probe.write),
                ("read", probe.read),
                ("delete", probe.delete),
            ];
            let times = times.map(|(name, time)| (name.to_owned(), micros(time)));
            found.latencies.extend(times);
            let atomic = match probe.puts_if_absent {
                true => "yes",
                false => "no",
            };
            found
                .facts
                .push(("put-if-absent".to_owned(), atomic.to_owned()));
            if !probe.puts_if_absent {
                broken(
                    &mut found,
                    "it overwrites an object where it was told to put a new one, so that two writers could both win; \
                     use a store that honours `If-None-Match: *`"
                        .to_owned(),
                );
            }
        }
        Err(error) => broken(&mut found, chain(&error)),
    }
    let folder = match Url::parse(&place) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
        Ok(_) => None,
        Err(_) => Some(place.into()),
    };
    if let Some(folder) = folder {
        space(&mut found, &folder).await;
    }
    found
}

/// The free space below a folder, as the system's `df` tells it; nothing where there is none.
async fn space(found: &mut Checkup, folder: &Path) {
    let there = folder.ancestors().find(|folder| folder.exists());
    let Some(there) = there else { return };
    let told = tokio::process::Command::new("df")
        .arg("-Pk")
        .arg(there)
        .stdin(Stdio::null())
        .output()
        .await;
    let Ok(told) = told else { return };
    let told = String::from_utf8_lossy(&told.stdout);
    let free = told
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(3));
    let Some(free) = free.and_then(|free| free.parse::<u64>().ok()) else {
        return;
    };
    let bytes = free.saturating_mul(1024);
    let mib = bytes >> 20;
    found
        .facts
        .push(("free space".to_owned(), format!("{mib} MiB")));
    if bytes < LITTLE_SPACE {
        warn(
            found,
            format!(
                "{} has {mib} MiB left; free some space or move it",
                there.display()
            ),
        );
    }
}

fn good(part: &str, place: String) -> Checkup {
    Checkup {
        part: part.to_owned(),
        place,
        health: Health::Good,
        latencies: Vec::new(),
        facts: Vec::new(),
        advice: Vec::new(),
    }
}

fn warn(found: &mut Checkup, advice: String) {
    found.health = found.health.max(Health::Warning);
    found.advice.push(advice);
}

fn broken(found: &mut Checkup, advice: String) {
    found.health = Health::Broken;
    found.advice.push(advice);
}
