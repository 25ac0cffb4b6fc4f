//! `teardown`

use vintner_ops::api::{TeardownRequest, TeardownScope, ViewTeardown};

use super::changes::agree;
use crate::{
    args::{Format, Global, Teardown},
    deployment,
    exit::{Exit, Failure},
    json, output,
    progress::KeyBars,
};

pub(crate) async fn teardown(global: &Global, args: Teardown) -> Result<Exit, Failure> {
    let operations = deployment::open(global).await?;
    let mut request = TeardownRequest {
        target: args.target,
        scope: match args.online {
            true => TeardownScope::Online,
            false => TeardownScope::Everything,
        },
        rate: args.rate,
        dry_run: true,
    };
    if !args.yes {
        let found = operations.teardown(&request, &|_| {}).await?;
        let what: Vec<_> = found.iter().filter(|view| !view.is_nothing()).collect();
        if !what.is_empty() {
            let what: Vec<_> = what.into_iter().map(planned).collect();
            agree(false, &format!("Delete {} for good?", what.join(" and ")))?;
        }
    }
    request.dry_run = false;
    let bars = KeyBars::new("gone");
    let done = operations
        .teardown(&request, &|seen| bars.seen(&seen))
        .await;
    bars.finish();
    let done = done?;
    match global.format {
        Format::Json => output::json(&done.iter().map(json::teardown).collect::<Vec<_>>())?,
        Format::Table => output::rows(
            &["view", "online rows", "files", "size", "what was done"],
            done.iter().map(row).collect(),
        )?,
    }
    Ok(Exit::Done)
}

fn planned(view: &ViewTeardown) -> String {
    match view {
        ViewTeardown { files: 0, .. } => format!("the online rows of {}", view.view),
        ViewTeardown { online: false, .. } => format!("the table of {}", view.view),
        _ => format!("the online rows and the table of {}", view.view),
    }
}

fn row(view: &ViewTeardown) -> Vec<String> {
    let done = match view.is_nothing() {
        true => "nothing: nothing is left of it".to_owned(),
        false => format!(
            "deleted {}",
            planned(view).replace(&format!(" of {}", view.view), "")
        ),
    };
    vec![
        view.view.to_string(),
        output::count(view.online_rows),
        output::count(view.files),
        output::bytes(view.bytes),
        done,
    ]
}
