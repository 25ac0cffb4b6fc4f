//! Plans views: what a definition means, and what is wrong with it, before any data is read.
//!
//! Start at [`plan_view`], which turns a definition into facts for the registry, and [`view_plan`], which turns those
//! facts into a plan to run. Both know sources by their columns only: no I/O, no clock, nothing `async`.
//!
//! * Holds always: the same definition over the same columns gives the same facts, whatever the machine.
//! * Mistakes are data: all of them at once, each with its place ([`PlanProblem`]).
//! * Not here: reading sources ([`crate::sources`]) and running plans.

mod canonical;
mod context;
mod created;
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

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{logical_expr::LogicalPlan, sql::sqlparser::ast::Query};
use vintner_core::{
    ColumnName, EntityName, FeatureField, FeatureName, KeySchema, SourceName, Ttl, ViewId, ViewName,
};
use vintner_registry::model::{
    About, Layout, Refresh, Source, SourceColumn, ViewInput, ViewRevision,
};

use self::{
    canonical::Canonical,
    context::Schemas,
    names::Table,
    output::{Created, Output, Planned},
    problem::Finding,
    select::Written,
};
pub use self::{
    output::{CREATED_TIMESTAMP, EVENT_TIMESTAMP},
    problem::{PlanProblem, ProblemPlace},
    run::{PlanError, view_plan},
    source::{SourceProblem, check_source},
};
use crate::sources::{LeftOut, SourceSchema, table_schema};

/// A feature view as its repo declares it, names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewDefinition {
    /// Its name.
    pub name: ViewName,
    /// Its entities.
    pub entities: Vec<EntityName>,
    /// The join keys of all its entities.
    pub join_keys: KeySchema,
    /// What its rows are made from.
    pub input: ViewInput,
    /// The output column that says when a row was true, where the view names it.
    pub event_timestamp: Option<ColumnName>,
    /// The output column that says when a row became known, where the view names it.
    pub created_timestamp: Option<ColumnName>,
    /// How long a value counts.
    pub ttl: Option<Ttl>,
    /// How far before its last end a windowed run begins.
    pub lookback: Option<Ttl>,
    /// The features that must come out of the query, with these types. Others may come out too.
    pub contract: Vec<FeatureField>,
    /// Whether the offline store holds it.
    pub offline: bool,
    /// Whether the online store holds it.
    pub online: bool,
    /// For people.
    pub about: About,
}

/// A declared source and what is known of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSource {
    /// The source, with its columns.
    pub source: Source,
    /// The columns that queries cannot use.
    pub left_out: Vec<LeftOut>,
    /// Whether the columns are known. A view over a source that could not be read is not planned.
    pub is_read: bool,
}

/// The declared sources by name.
pub type Catalog = BTreeMap<SourceName, KnownSource>;

impl KnownSource {
    /// A source whose columns were read.
    pub fn read(source: Source, schema: SourceSchema) -> Self {
        Self {
            source: Source {
                columns: schema.columns,
                ..source
            },
            left_out: schema.left_out,
            is_read: true,
        }
    }

    /// A source that could not be read.
    pub fn unread(source: Source) -> Self {
        Self {
            source,
            left_out: Vec::new(),
            is_read: false,
        }
    }
}

/// A planned view: all of [`ViewRevision`] but its version and the layouts of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedView {
    /// What was planned.
    pub definition: ViewDefinition,
    /// The sources that its input reads.
    pub sources: Vec<SourceName>,
    /// The output column that says when a row was true. None only when `refresh` is static.
    pub event_timestamp: Option<ColumnName>,
    /// The output column that says when a row became known.
    pub created_timestamp: Option<ColumnName>,
    /// Its features in the order of the query.
    pub features: Vec<FeatureField>,
    /// How each feature is computed, in one canonical form.
    pub definitions: BTreeMap<FeatureName, String>,
    /// How the rows are made, in one canonical form.
    pub relation: String,
    /// What an incremental run reads.
    pub refresh: Refresh,
    /// Why, for people.
    pub refresh_reason: String,
    /// Which source columns each feature comes from.
    pub lineage: BTreeMap<FeatureName, Vec<SourceColumn>>,
}

impl PlannedView {
    /// The view as a version of it, with the layouts that its online rows may have, the present one last.
    pub fn revision(self, id: ViewId, layouts: Vec<Layout>) -> ViewRevision {
        let definition = self.definition;
        ViewRevision {
            id,
            entities: definition.entities,
            join_keys: definition.join_keys,
            ttl: definition.ttl,
            input: definition.input,
            sources: self.sources,
            event_timestamp: self.event_timestamp,
            created_timestamp: self.created_timestamp,
            features: self.features,
            definitions: self.definitions,
            relation: self.relation,
            refresh: self.refresh,
            refresh_reason: self.refresh_reason,
            lookback: definition.lookback,
            lineage: self.lineage,
            layouts,
            offline: definition.offline,
            online: definition.online,
            about: definition.about,
        }
    }
}

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

/// What a view is made from, planned.
struct Input {
    /// None for a view of all columns of a source.
    query: Option<Box<Query>>,
    plan: LogicalPlan,
    /// The output's columns with the types that running the plan gives.
    types: SchemaRef,
}

impl Input {
    fn read(input: &ViewInput, catalog: &Catalog) -> Result<Self, Vec<Finding>> {
        match input {
            ViewInput::Source(source) => Self::of_source(source, catalog),
            ViewInput::Query(sql) => Self::of_query(sql, catalog),
        }
    }

    fn of_source(source: &SourceName, catalog: &Catalog) -> Result<Self, Vec<Finding>> {
        let at = ProblemPlace::Field("source");
        if !catalog.contains_key(source) {
            let message = format!("the view reads `{source}`, which is not a declared source");
            let finding = Finding::new(at, "plan::unknown_source", message);
            return Err(vec![finding.nearest(source.as_str(), catalog.keys())]);
        }
        unread([source], catalog, &at)?;
        let plan = context::source_plan(source, &schemas(catalog))
            .map_err(|e| vec![context::finding(&e, None)])?;
        Self::typed(None, plan)
    }

    fn of_query(sql: &str, catalog: &Catalog) -> Result<Self, Vec<Finding>> {
        let mut query = parse::parse(sql).map_err(|finding| vec![finding])?;
        let tables = catalog
            .iter()
            .map(|(name, source)| {
                let columns = source
                    .source
                    .columns
                    .iter()
                    .map(|(column, _)| column.clone());
                let left_out = source.left_out.clone();
                (
                    name.clone(),
                    Table {
                        columns: columns.collect(),
                        left_out,
                    },
                )
            })
            .collect();
        let mut findings = repeatable::check(&query);
        let (used, unknown) = names::resolve(&mut query, &tables);
        unread(&used, catalog, &ProblemPlace::QueryWhole)?;
        findings.extend(unknown);
        findings.extend(Written(Some(&query)).duplicates());
        if !findings.is_empty() {
            return Err(findings);
        }
        if used.is_empty() {
            let message = "the query reads no source";
            let finding = Finding::new(ProblemPlace::QueryWhole, "plan::no_source", message);
            return Err(vec![finding.nearest("", catalog.keys())]);
        }
        let plan = context::query_plan(&query, &schemas(catalog))
            .map_err(|error| vec![context::finding(&error, Some(&query))])?;
        Self::typed(Some(query), plan)
    }

    fn typed(query: Option<Box<Query>>, plan: LogicalPlan) -> Result<Self, Vec<Finding>> {
        let typed = context::typed(&plan)
            .map_err(|error| vec![context::finding(&error, query.as_deref())])?;
        Ok(Self {
            types: Arc::new(typed.schema().as_arrow().clone()),
            query,
            plan,
        })
    }
}

fn schemas(catalog: &Catalog) -> Schemas {
    catalog
        .iter()
        .map(|(name, source)| (name.clone(), table_schema(&source.source.columns)))
        .collect()
}

/// Nothing is said about the columns of a source that could not be read.
fn unread<Name: Borrow<SourceName>>(
    used: impl IntoIterator<Item = Name>,
    catalog: &Catalog,
    at: &ProblemPlace,
) -> Result<(), Vec<Finding>> {
    let findings: Vec<Finding> = used
        .into_iter()
        .filter(|name| {
            catalog
                .get(name.borrow())
                .is_some_and(|source| !source.is_read)
        })
        .map(|name| {
            let message = format!(
                "the view is not checked, since its source `{}` could not be read",
                name.borrow()
            );
            Finding::new(at.clone(), "plan::source_not_read", message)
        })
        .collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}
