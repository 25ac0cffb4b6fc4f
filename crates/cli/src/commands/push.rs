//! `push`

use std::time::Instant;

use vintner_ops::push_file::{FileReport, push_file};

use crate::{
    args::{Format, Global, Push},
    deployment,
    exit::{Exit, Failure},
    json, output,
    progress::PushProgress,
};

pub(crate) async fn push(global: &Global, args: Push) -> Result<Exit, Failure> {
    let started = Instant::now();
    let operations = deployment::open(global).await?;
    let now = deployment::clock(global).now();
    let progress = PushProgress::new();
    let pushed = push_file(
        operations.as_ref(),
        &args.view,
        &args.rows,
        now,
        args.batch_rows.get(),
        &|done, of| progress.rows(done, of),
    )
    .await;
    progress.finish();
    let report = pushed?;
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    match global.format {
        Format::Json => output::json(&json::pushed(&report, micros))?,
        Format::Table => output::text(&told(&report, micros))?,
    }
    Ok(Exit::Done)
}

/// What was pushed, in words.
fn told(report: &FileReport, micros: u64) -> String {
    let written = report.rows - report.already_there;
    let mut text = format!(
        "pushed {} to {} in {}: {} online, {} late, in the table only",
        counted(written),
        report.view,
        output::seconds(micros),
        output::count(report.online),
        output::count(report.late),
    );
    if report.already_there > 0 {
        text += &format!(
            "\n  {} had been pushed before, from the same file",
            counted(report.already_there)
        );
    }
    if let Some(token) = &report.token {
        text += &format!("\n  token: {token}");
    }
    text
}

fn counted(rows: u64) -> String {
    match rows {
        1 => "1 row".to_owned(),
        _ => format!("{} rows", output::count(rows)),
    }
}
