//! `verify`

use vintner_ops::api::{self, VerifyRequest, ViewVerification};

use crate::{
    args::{Format, Global, Repair, Verify},
    deployment,
    exit::{Exit, Failure},
    json, output,
    progress::KeyBars,
};

pub(crate) async fn verify(global: &Global, args: Verify) -> Result<Exit, Failure> {
    let request = VerifyRequest {
        views: args.views,
        sample: args.sample,
        repair: match args.repair {
            None => api::Repair::No,
            Some(Repair::Safe) => api::Repair::Safe,
            Some(Repair::Force) => api::Repair::Force,
        },
    };
    let operations = deployment::open(global).await?;
    let bars = KeyBars::new("compared");
    let found = operations.verify(&request, &|seen| bars.seen(&seen)).await;
    bars.finish();
    let found = found?;
    match global.format {
        Format::Json => output::json(&found.iter().map(json::verification).collect::<Vec<_>>())?,
        Format::Table => {
            output::rows(
                &[
                    "view",
                    "entities",
                    "same",
                    "expired",
                    "differ",
                    "mended",
                    "time",
                    "what was found",
                ],
                found.iter().map(row).collect(),
            )?;
            for view in &found {
                for example in &view.examples {
                    output::say(format_args!(
                        "{}: {}: {}: {}",
                        view.view,
                        example.difference.word(),
                        example.entity,
                        example.explanation
                    ));
                }
            }
        }
    }
    Ok(match found.iter().all(ViewVerification::is_true) {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

fn row(found: &ViewVerification) -> Vec<String> {
    vec![
        found.view.to_string(),
        output::count(found.keys),
        output::count(found.same),
        output::count(found.expired),
        output::count(found.differing()),
        output::count(found.repaired),
        output::seconds(found.micros),
        told(found),
    ]
}

/// What was found, in words.
fn told(found: &ViewVerification) -> String {
    let counted =
        |count: u64, what: &str| (count > 0).then(|| format!("{} {what}", output::count(count)));
    let differences = found.differences.iter();
    let differences = differences.map(|(kind, count)| counted(*count, kind.word()));
    let explained = [
        counted(
            found.not_loaded,
            "of them not loaded yet, `materialize` does",
        ),
        counted(found.settled, "written meanwhile"),
        counted(found.recent, "perhaps on their way to the table"),
        counted(found.held_back, "rows held back"),
    ];
    let told: Vec<_> = differences.chain(explained).flatten().collect();
    match (found.table_version, told.is_empty()) {
        (None, true) => "nothing: there are no rows yet".to_owned(),
        (_, true) => "all the same".to_owned(),
        (_, false) => told.join(", "),
    }
}
