//! Plans views: what a definition means, and what is wrong with it, before any data is read.
//!
//! Start at [`plan_view`], which turns a definition into facts for the registry, and [`view_plan`], which turns those
//! facts into a plan to run. Both know sources by their columns only: no I/O, no clock, nothing `async`. Neither has
//! [`plan_entity_query`], which plans what a training job asks for its entity rows with.
//!
//! * Holds always: the same definition over the same columns gives the same facts, whatever the machine.
//! * Mistakes are data: all of them at once, each with its place ([`PlanProblem`]).
//! * Not here: reading sources ([`crate::sources`]) and running plans.

mod canonical;
mod context;
mod contract;
mod created;
mod definition;
mod entity_query;
mod input;
mod lineage;
mod names;
mod origin;
mod output;
mod parse;
mod problem;
mod refresh;
mod repeatable;
mod run;
mod select;
pub mod session;
mod source;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use vintner_core::ColumnName;
use vintner_registry::model::Refresh;

use self::{
    canonical::Canonical,
    input::Input,
    output::{Created, Output, Planned},
    problem::Finding,
    select::Written,
};
pub use self::{
    definition::{Catalog, KnownSource, PlannedView, ViewDefinition},
    entity_query::{EntityQuery, EntityQueryError, QueryTable, plan_entity_query},
    problem::{PlanProblem, ProblemPlace},
    run::{PlanError, view_plan},
    source::{SourceProblem, check_source},
};
use crate::delta::layout::{CREATED_TIMESTAMP, EVENT_TIMESTAMP};

/// Plans a view over the declared sources.
///
/// # Errors
/// Every mistake that can be found, in the order of their places. Mistakes of syntax and unknown names hide the ones
/// that only a plan shows.
pub fn plan_view(
    view: &ViewDefinition,
    catalog: &Catalog,
) -> Result<PlannedView, Vec<PlanProblem>> {
    let of_view = |mut findings: Vec<Finding>| -> Vec<PlanProblem> {
        findings.sort_by(|a, b| a.at.cmp(&b.at));
        findings
            .into_iter()
            .map(|finding| finding.of(&view.name))
            .collect()
    };
    let input = Input::read(&view.input, catalog).map_err(of_view)?;
    let (refresh, refresh_reason) = refresh::decide(&input.plan, catalog);
    let planned = Planned {
        view,
        catalog,
        plan: &input.plan,
        types: input.types.as_ref(),
        refresh: &refresh,
        written: Written(input.query.as_deref()),
    };
    let (output, mut findings) = planned.output();
    if view.lookback.is_some() && refresh != Refresh::Windowed {
        let message = format!("`lookback` has no meaning here, since {refresh_reason}");
        let at = ProblemPlace::Field("lookback");
        findings.push(Finding::new(at, "plan::lookback", message).help("leave it out"));
    }
    if !findings.is_empty() {
        return Err(of_view(findings));
    }
    Ok(facts(view, &input, output, refresh, refresh_reason))
}

fn facts(
    view: &ViewDefinition,
    input: &Input,
    output: Output,
    refresh: Refresh,
    refresh_reason: String,
) -> PlannedView {
    let name_of = |index: usize| -> Option<ColumnName> {
        input.types.fields().get(index)?.name().parse().ok()
    };
    let mut canonical = Canonical::new(&input.plan);
    let (mut definitions, mut lineage) = (BTreeMap::new(), BTreeMap::new());
    for (index, feature) in &output.features {
        definitions.insert(feature.name.clone(), canonical.definition(*index));
        lineage.insert(
            feature.name.clone(),
            lineage::of_column(&input.plan, *index),
        );
    }
    let relation = relation(view, &mut canonical, &output, &refresh);
    PlannedView {
        definition: view.clone(),
        sources: refresh::sources(&input.plan),
        event_timestamp: output.event.and_then(name_of),
        created_timestamp: match output.created {
            Created::Column(index) => name_of(index),
            Created::Carried(column) => Some(column),
            Created::Run => None,
        },
        features: output
            .features
            .into_iter()
            .map(|(_, feature)| feature)
            .collect(),
        definitions,
        relation,
        refresh,
        refresh_reason,
        lineage,
    }
}

/// Which rows there are, and what their keys and times are.
fn relation(
    view: &ViewDefinition,
    canonical: &mut Canonical<'_>,
    output: &Output,
    refresh: &Refresh,
) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (key, index) in view.join_keys.join_keys().iter().zip(&output.keys) {
        parts.push(format!("{} = {}", key.name, canonical.definition(*index)));
    }
    if let Some(index) = output.event {
        parts.push(format!(
            "{EVENT_TIMESTAMP} = {}",
            canonical.definition(index)
        ));
    }
    match (&output.created, refresh) {
        (Created::Column(index), _) => {
            parts.push(format!(
                "{CREATED_TIMESTAMP} = {}",
                canonical.definition(*index)
            ));
        }
        (Created::Carried(column), Refresh::RowLocal { source }) => {
            parts.push(format!("{CREATED_TIMESTAMP} = {source}.{column}"));
        }
        _ => {}
    }
    format!("{} of {}", parts.join(", "), canonical.rows())
}
