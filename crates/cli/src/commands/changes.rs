//! `check`, `plan`, `apply`, `history`, `diff` and `rollback`: the registry and how it changes.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde_json::json;
use vintner_core::RegistryVersion;
use vintner_ops::api::{Changes, Problem, Severity};

use crate::{
    args::{Format, Global},
    deployment,
    exit::{Exit, Failure},
    json, output,
};

pub(crate) async fn check(global: &Global) -> Result<Exit, Failure> {
    let files = deployment::repo_files(global)?;
    let report = match &global.server {
        Some(_) => deployment::open(global).await?.check(&files).await?,
        None => vintner_ops::check(&deployment::repo_root(global)?, &files).await?,
    };
    if global.format == Format::Json {
        let objects: serde_json::Map<_, _> = report
            .objects
            .iter()
            .map(|(kind, count)| (kind.word().to_owned(), json!(count)))
            .collect();
        output::json(&json!({
            "problems": report.problems.iter().map(json::problem).collect::<Vec<_>>(),
            "objects": objects,
        }))?;
    } else {
        tell(&report.problems);
        if !has_errors(&report.problems) {
            let objects: Vec<String> = report
                .objects
                .iter()
                .map(|(kind, n)| counted(*n, kind.word()))
                .collect();
            output::text(&format!("ok: {}", objects.join(", ")))?;
        }
    }
    Ok(if has_errors(&report.problems) {
        Exit::Input
    } else {
        Exit::Done
    })
}

pub(crate) async fn plan(global: &Global, exit_code: bool) -> Result<Exit, Failure> {
    let files = deployment::repo_files(global)?;
    let report = deployment::open(global).await?.plan(&files).await?;
    let changes = planned(global, &report.problems, report.changes)?;
    show(global, &changes)?;
    Ok(if exit_code && !changes.changes.is_empty() {
        Exit::Changes
    } else {
        Exit::Done
    })
}

pub(crate) async fn apply(global: &Global, yes: bool) -> Result<Exit, Failure> {
    let files = deployment::repo_files(global)?;
    let operations = deployment::open(global).await?;
    let report = operations.plan(&files).await?;
    let changes = planned(global, &report.problems, report.changes)?;
    if changes.changes.is_empty() {
        show(global, &changes)?;
        return Ok(Exit::Done);
    }
    if global.format == Format::Table {
        show(global, &changes)?;
    }
    agree(yes, "Apply these changes?")?;
    let report = operations
        .apply(&files, changes.base, &deployment::author())
        .await?;
    let changes = planned(global, &report.problems, report.changes)?;
    done(global, &changes, report.version)
}

pub(crate) async fn history(global: &Global, limit: usize) -> Result<Exit, Failure> {
    let versions = deployment::open(global).await?.history(limit).await?;
    match global.format {
        Format::Json => output::json(&versions.iter().map(json::version).collect::<Vec<_>>())?,
        Format::Table => output::rows(
            &["version", "written", "by", "what", "holds"],
            versions
                .into_iter()
                .map(|v| {
                    vec![
                        v.version.to_string(),
                        v.created_at.to_string(),
                        v.author,
                        v.reason,
                        v.summary,
                    ]
                })
                .collect(),
        )?,
    }
    Ok(Exit::Done)
}

pub(crate) async fn diff(
    global: &Global,
    from: RegistryVersion,
    to: RegistryVersion,
) -> Result<Exit, Failure> {
    show(
        global,
        &deployment::open(global).await?.diff(from, to).await?,
    )?;
    Ok(Exit::Done)
}

pub(crate) async fn rollback(
    global: &Global,
    to: RegistryVersion,
    yes: bool,
) -> Result<Exit, Failure> {
    let operations = deployment::open(global).await?;
    let changes = operations.plan_rollback(to).await?;
    if changes.changes.is_empty() {
        show(global, &changes)?;
        return Ok(Exit::Done);
    }
    if global.format == Format::Table {
        show(global, &changes)?;
    }
    agree(yes, &format!("Go back to version {to}?"))?;
    let version = operations
        .rollback(to, changes.base, &deployment::author())
        .await?;
    done(global, &changes, Some(version))
}

fn planned(
    global: &Global,
    problems: &[Problem],
    changes: Option<Changes>,
) -> Result<Changes, Failure> {
    if global.format == Format::Json && has_errors(problems) {
        output::json(
            &json!({ "problems": problems.iter().map(json::problem).collect::<Vec<_>>() }),
        )?;
    } else {
        tell(problems);
    }
    changes.ok_or_else(|| Failure::told(Exit::Input))
}

fn tell(problems: &[Problem]) {
    for problem in problems {
        output::say(problem.rendered.trim_end());
        output::say("");
    }
    let errors = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    if errors > 0 {
        output::say(format!("error: {} in the repo", counted(errors, "mistake")));
    }
}

fn has_errors(problems: &[Problem]) -> bool {
    problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
}

fn show(global: &Global, changes: &Changes) -> io::Result<()> {
    match global.format {
        Format::Json => output::json(&json::changes(changes)),
        Format::Table => output::text(&changes.text),
    }
}

fn done(
    global: &Global,
    changes: &Changes,
    version: Option<RegistryVersion>,
) -> Result<Exit, Failure> {
    match global.format {
        Format::Json => {
            let mut answer = json::changes(changes);
            if let Some(fields) = answer.as_object_mut() {
                fields.insert("version".to_owned(), json!(version.map(|v| v.0)));
            }
            output::json(&answer)?;
        }
        Format::Table => {
            if let Some(version) = version {
                output::text(&format!(
                    "applied: the registry is now at version {version}"
                ))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Asks on a terminal; elsewhere `--yes` must be given.
/// Asks, unless that was done already.
pub(super) fn agree(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::input(
            "nobody can be asked here; look at the plan, then pass --yes",
        ));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Failure::store(format!("could not read the answer: {e}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::input("nothing was changed")),
    }
}

fn counted(count: usize, noun: &str) -> String {
    let noun = noun.replace('_', " ");
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}
