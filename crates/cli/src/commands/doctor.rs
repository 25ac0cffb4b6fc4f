//! `doctor`: works when nothing else does.

use vintner_core::{Clock as _, SystemClock};
use vintner_ops::api::{Checkup, Health, Severity};

use crate::{
    args::{Format, Global},
    deployment,
    exit::{Exit, Failure},
    json, output,
};

pub(crate) async fn doctor(global: &Global) -> Result<Exit, Failure> {
    let mut found = match &global.server {
        Some(url) => vec![service(global, url).await],
        None => vec![repo(global).await],
    };
    // What is broken before this has been told above.
    if let Ok(operations) = deployment::open(global).await {
        match operations.doctor().await {
            Ok(parts) => found.extend(parts),
            Err(error) => found.push(checkup("service", String::new(), Err(error.chain()))),
        }
    }
    let mut clock = checkup("clock", String::new(), Ok(()));
    clock
        .facts
        .push(("now".to_owned(), SystemClock.now().to_string()));
    found.push(clock);
    match global.format {
        Format::Json => output::json(&found.iter().map(json::checkup).collect::<Vec<_>>())?,
        Format::Table => {
            output::rows(
                &["part", "health", "where", "what is known"],
                found.iter().map(row).collect(),
            )?;
            for part in &found {
                for advice in &part.advice {
                    output::say(format_args!("{}: {advice}", part.part));
                }
            }
        }
    }
    Ok(
        match found.iter().any(|part| part.health == Health::Broken) {
            true => Exit::Failed,
            false => Exit::Done,
        },
    )
}

/// Whether a service answers.
async fn service(global: &Global, url: &str) -> Checkup {
    let opened = deployment::open(global).await;
    let health = opened
        .map(|_| ())
        .map_err(|failure| failure.message().to_owned());
    checkup("service", url.to_owned(), health)
}

/// Whether the repo can be read and planned.
async fn repo(global: &Global) -> Checkup {
    let root = match deployment::repo_root(global) {
        Ok(root) => root,
        Err(failure) => {
            return checkup("repo", String::new(), Err(failure.message().to_owned()));
        }
    };
    let place = root.display().to_string();
    let files = match deployment::repo_files(global) {
        Ok(files) => files,
        Err(failure) => return checkup("repo", place, Err(failure.message().to_owned())),
    };
    let report = match vintner_ops::check(&root, &files).await {
        Ok(report) => report,
        Err(error) => return checkup("repo", place, Err(error.chain())),
    };
    let errors = report.problems.iter();
    let errors = errors
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    let mut found = checkup(
        "repo",
        place,
        match errors {
            0 => Ok(()),
            1 => Err("it has a mistake; `vintner check` shows it".to_owned()),
            errors => Err(format!(
                "it has {errors} mistakes; `vintner check` shows them"
            )),
        },
    );
    found
        .facts
        .push(("files".to_owned(), files.len().to_string()));
    if let Err(failure) = deployment::open_local(global) {
        found.health = Health::Broken;
        found.advice.push(failure.message().to_owned());
    }
    found
}

fn checkup(part: &str, place: String, health: Result<(), String>) -> Checkup {
    Checkup {
        part: part.to_owned(),
        place,
        health: match health {
            Ok(()) => Health::Good,
            Err(_) => Health::Broken,
        },
        latencies: Vec::new(),
        facts: Vec::new(),
        advice: health.err().into_iter().collect(),
    }
}

fn row(part: &Checkup) -> Vec<String> {
    let times = part.latencies.iter();
    let times = times.map(|(name, micros)| format!("{name} {}", output::seconds(*micros)));
    let facts = part
        .facts
        .iter()
        .map(|(name, value)| format!("{name} {value}"));
    let known: Vec<_> = times.chain(facts).collect();
    vec![
        part.part.clone(),
        json::health(part.health).to_owned(),
        part.place.clone(),
        known.join(", "),
    ]
}
