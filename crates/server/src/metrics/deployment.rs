//! Metrics of a deployment's own stores: online reads, the online store and the near cache, freshness, runs, the registry.

use std::{fmt, sync::Arc, time::Duration};

use vintner_core::ViewId;
use vintner_online::{
    Status,
    meter::{FailureKind, Operation},
};
use vintner_ops::{
    Meters,
    meter::{Outcome, RowFate, RunOutcome, ViewMeter},
};

use super::{
    near_cache,
    sheet::{Labels, Sheet, Values},
};

type Views = [(ViewId, Arc<ViewMeter>)];

pub(super) fn write(sheet: &mut Sheet<'_>, meters: &Meters) -> fmt::Result {
    let views = meters.views();
    requests(sheet, meters)?;
    reads(sheet, &views)?;
    store(sheet, meters)?;
    if let Some(stats) = meters.online_store().and_then(|store| store.cache_stats()) {
        let served = |id: &ViewId| views.binary_search_by(|(view, _)| view.cmp(id)).is_ok();
        near_cache::write(sheet, &stats, served)?;
    }
    freshness(sheet, meters, &views)?;
    runs(sheet, &views)?;
    registry(sheet, meters)
}

fn labels(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

fn seconds(time: Option<Duration>) -> Option<(Labels, f64)> {
    time.map(|time| (vec![], time.as_secs_f64()))
}

fn requests(sheet: &mut Sheet<'_>, meters: &Meters) -> fmt::Result {
    sheet.histogram(
        "vintner_online_request_duration_seconds",
        "How long online requests took, each request of a stream for itself, by outcome: answered, refused (the caller's mistake), failed",
        Values::Times,
        Outcome::ALL.map(|outcome| {
            let times = meters.requests(outcome).read();
            (labels("outcome", outcome.word()), times)
        }),
    )?;
    sheet.histogram(
        "vintner_online_request_entities",
        "How many entities online requests asked for",
        Values::Numbers,
        [(vec![], meters.entities.read())],
    )
}

fn reads(sheet: &mut Sheet<'_>, views: &Views) -> fmt::Result {
    let each = views.iter();
    sheet.counter(
        "vintner_online_view_requests",
        "Online requests for features of a view, by outcome",
        each.flat_map(|(id, view)| {
            Outcome::ALL.map(|outcome| {
                let labels = vec![
                    ("view", id.to_string()),
                    ("outcome", outcome.word().to_owned()),
                ];
                (labels, view.requests(outcome).get())
            })
        }),
    )?;
    let each = views.iter();
    sheet.counter(
        "vintner_online_features",
        "Feature values that were answered, by view and status",
        each.flat_map(|(id, view)| {
            Status::ALL.map(|status| {
                let labels = vec![
                    ("view", id.to_string()),
                    ("status", status.name().to_owned()),
                ];
                (labels, view.statuses(status).get())
            })
        }),
    )
}

fn store(sheet: &mut Sheet<'_>, meters: &Meters) -> fmt::Result {
    let store = &meters.store;
    sheet.histogram(
        "vintner_online_store_request_duration_seconds",
        "How long the online store took for what it was asked, failures among it, by operation",
        Values::Times,
        Operation::ALL.map(|operation| {
            let times = store.operation(operation).times.read();
            (labels("operation", operation.word()), times)
        }),
    )?;
    sheet.counter(
        "vintner_online_store_errors",
        "Failures of the online store, by operation and kind",
        Operation::ALL.into_iter().flat_map(|operation| {
            FailureKind::ALL.map(|kind| {
                let labels = vec![
                    ("operation", operation.word().to_owned()),
                    ("kind", kind.word().to_owned()),
                ];
                (labels, store.operation(operation).failures(kind).get())
            })
        }),
    )?;
    sheet.counter(
        "vintner_online_store_rows",
        "Rows that were given to the online store: written, or kept since it had newer ones",
        [("written", &store.rows_written), ("kept", &store.rows_kept)]
            .map(|(fate, count)| (labels("fate", fate), count.get())),
    )
}

fn freshness(sheet: &mut Sheet<'_>, meters: &Meters, views: &Views) -> fmt::Result {
    let ages = |moment: fn(&ViewMeter) -> Option<i64>| {
        views.iter().filter_map(move |(id, view)| {
            let age = meters.age(moment(view)?);
            Some((labels("view", &id.to_string()), age.as_secs_f64()))
        })
    };
    sheet.gauge(
        "vintner_view_newest_event_age_seconds",
        "Now less the newest event time of a view that is in the online store",
        ages(|view| view.newest_event.get()),
    )?;
    sheet.gauge(
        "vintner_view_last_success_age_seconds",
        "Now less the end of the last run over a view that succeeded, whichever process ran it",
        ages(|view| view.last_success.get()),
    )
}

fn runs(sheet: &mut Sheet<'_>, views: &Views) -> fmt::Result {
    let each = views.iter();
    sheet.histogram(
        "vintner_materialization_run_duration_seconds",
        "How long runs over a view took that this process made, by outcome",
        Values::Times,
        each.flat_map(|(id, view)| {
            RunOutcome::ALL.map(|outcome| {
                let labels = vec![
                    ("view", id.to_string()),
                    ("outcome", outcome.word().to_owned()),
                ];
                (labels, view.runs(outcome).read())
            })
        }),
    )?;
    let each = views.iter();
    sheet.counter(
        "vintner_materialization_rows",
        "Rows of runs that this process made, by what became of them",
        each.flat_map(|(id, view)| {
            RowFate::ALL.map(|fate| {
                let labels = vec![("view", id.to_string()), ("fate", fate.word().to_owned())];
                (labels, view.rows(fate).get())
            })
        }),
    )
}

fn registry(sheet: &mut Sheet<'_>, meters: &Meters) -> fmt::Result {
    let version = meters.registry_version();
    sheet.gauge(
        "vintner_registry_version",
        "The version of the registry that is served",
        version.map(|version| (vec![], version.0 as f64)),
    )?;
    sheet.gauge(
        "vintner_registry_check_age_seconds",
        "How long ago the registry last said which version is its newest",
        seconds(meters.registry_check_age()),
    )
}
