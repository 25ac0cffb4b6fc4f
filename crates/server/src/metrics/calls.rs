//! Metrics of calls: latencies by method and code, what is in flight, what was refused.

use std::fmt;

use crate::{admission::Admission, guard::Rules};

use super::sheet::{Sheet, Values};

pub(super) fn write(sheet: &mut Sheet<'_>, rules: &Rules, admission: &Admission) -> fmt::Result {
    let methods = rules.calls.methods.called();
    let latencies = methods.iter().flat_map(|method| {
        method.by_code().map(|(code, times)| {
            let labels = vec![
                ("method", method.name().to_owned()),
                ("code", code.to_owned()),
            ];
            (labels, times)
        })
    });
    sheet.histogram(
        "vintner_grpc_request_duration_seconds",
        "How long calls took until their answer had gone out, by method and gRPC code",
        Values::Times,
        latencies,
    )?;
    let one = |value: usize| [(vec![], value as f64)];
    sheet.gauge(
        "vintner_grpc_requests_in_flight",
        "Calls that have not ended, health checks and reflection left aside",
        one(rules.in_flight()),
    )?;
    sheet.gauge(
        "vintner_grpc_requests_limit",
        "The most calls that are answered at once",
        one(rules.limit()),
    )?;
    let online = admission.in_flight();
    sheet.gauge(
        "vintner_online_requests_in_flight",
        "Online requests that are worked on, those of streams among them",
        one(online.requests),
    )?;
    sheet.gauge(
        "vintner_online_entities_in_flight",
        "Entities that those requests look up",
        one(online.entities),
    )?;
    sheet.gauge(
        "vintner_online_entities_limit",
        "The most entities that all online requests together may look up at once",
        one(online.most_entities),
    )?;
    let refused = [("calls", rules.calls.refused.get())].into_iter();
    let refused = refused.chain(admission.refused());
    sheet.counter(
        "vintner_overload_refusals",
        "Calls and requests that were refused since there was too much to do, by the limit that was met",
        refused.map(|(limit, count)| (vec![("limit", limit.to_owned())], count)),
    )
}
