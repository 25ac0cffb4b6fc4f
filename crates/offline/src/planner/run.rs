//! From a planned view and its sources' tables to the plan that a run executes.

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    common::{
        Column, ScalarValue,
        tree_node::{Transformed, TransformedResult},
    },
    datasource::provider_as_source,
    error::DataFusionError,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit},
};
use vintner_core::{ColumnName, FeatureType, ScalarType, SourceName, Timestamp, ViewId};
use vintner_registry::model::{Refresh, ViewInput, ViewRevision};

use super::{
    context::{self, Schemas},
    created::carry,
    names::{self, Table, TableKind},
    parse,
    problem::QueryFor,
};
use crate::{
    delta::layout::{CREATED_TIMESTAMP, EVENT_TIMESTAMP},
    sources::normalised,
};

const TIMESTAMP: FeatureType = FeatureType::Scalar(ScalarType::Timestamp);

/// The tables that a view is made from, by their sources' names.
type Providers = BTreeMap<SourceName, Arc<dyn TableProvider>>;

/// Why a view that was planned once has no plan over these tables.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The query does not fit the tables: they do not have the columns that the view was planned with.
    #[error(
        "the query of `{view}` no longer fits its sources ({reason}); run `plan` and `apply` again"
    )]
    Query {
        /// The view.
        view: ViewId,
        /// What does not fit.
        reason: String,
    },
    /// The engine refuses the plan.
    #[error("the plan of `{view}` could not be made")]
    Engine {
        /// The view.
        view: ViewId,
        /// What the engine says.
        #[source]
        cause: Box<DataFusionError>,
    },
}

/// The plan of a view's rows.
///
/// In: a table for each of the view's sources, with the columns that the source had when the view was planned.
/// Out: the join keys in the order of their names; `event_timestamp`; `created_timestamp`, null in every row of a view
/// that has none, for the run to fill in; then the features in the view's order; each of exactly the Arrow type of its
/// key or feature type. Both times of a static view are [`Timestamp::BEGINNING`]. Rows come in no order, and those
/// with a null key or time are among them.
///
/// # Errors
/// [`PlanError`] when the tables do not fit the view.
pub fn view_plan(view: &ViewRevision, tables: &Providers) -> Result<LogicalPlan, PlanError> {
    let wrong = |reason: String| PlanError::Query {
        view: view.id.clone(),
        reason,
    };
    let failed = |cause: DataFusionError| PlanError::Engine {
        view: view.id.clone(),
        cause: Box::new(cause),
    };
    let written = written(&view.input, tables).map_err(wrong)?;
    let written = without_order(written).map_err(failed)?;
    let is_feature = |name: &ColumnName| {
        view.features
            .iter()
            .any(|f| f.name.as_str() == name.as_str())
    };
    let (plan, created) = match (&view.created_timestamp, &view.refresh) {
        (None, _) | (_, Refresh::Static { .. }) => (written, None),
        (Some(name), _) if has_column(&written, name) && !is_feature(name) => {
            let column = column(&written, name.as_str());
            (written, column)
        }
        (Some(name), Refresh::RowLocal { source }) => carry(&written, source, name.as_str())
            .map_err(failed)?
            .map(|(plan, column)| (plan, Some(column)))
            .ok_or_else(|| {
                wrong(format!(
                    "`{name}` of `{source}` cannot be followed through it"
                ))
            })?,
        (Some(name), Refresh::Windowed) => {
            return Err(wrong(format!("it gives no column `{name}`")));
        }
    };
    let typed = context::typed(&plan).map_err(failed)?;
    let shape = Shape {
        view,
        plan: &plan,
        types: &typed,
    };
    let exprs = shape.columns(created).map_err(wrong)?;
    let projected = LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(failed)?;
    over_tables(projected, tables).map_err(failed)
}

/// The plan of what the view is made from, over empty tables.
fn written(input: &ViewInput, tables: &Providers) -> Result<LogicalPlan, String> {
    let schemas: Schemas = tables
        .iter()
        .map(|(name, table)| (name.to_string(), table.schema()))
        .collect();
    match input {
        ViewInput::Source(source) => context::source_plan(source, &schemas)
            .map_err(|error| context::finding(&error, None).message),
        ViewInput::Query(sql) => {
            let mut query = parse::parse(sql, QueryFor::View).map_err(|finding| finding.message)?;
            let tables = schemas
                .iter()
                .map(|(name, schema)| {
                    let columns = schema.fields().iter().map(|field| field.name().clone());
                    (
                        name.clone(),
                        Table {
                            kind: TableKind::Source,
                            columns: columns.collect(),
                            left_out: Vec::new(),
                        },
                    )
                })
                .collect();
            let (_, findings) = names::resolve(&mut query, &tables, QueryFor::View);
            if let Some(finding) = findings.into_iter().next() {
                return Err(finding.message);
            }
            context::query_plan(&query, &schemas)
                .map_err(|error| context::finding(&error, Some(&query)).message)
        }
    }
}

/// Takes away an ORDER BY that orders the output alone: rows have no order in a table.
fn without_order(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
            without_order(Arc::unwrap_or_clone(sort.input))
        }
        LogicalPlan::Projection(ref projection) => {
            let input = without_order(projection.input.as_ref().clone())?;
            plan.with_new_exprs(projection.expr.clone(), vec![input])
        }
        other => Ok(other),
    }
}

fn has_column(plan: &LogicalPlan, name: &ColumnName) -> bool {
    column(plan, name.as_str()).is_some()
}

/// The output column of that name, with its qualifier.
fn column(plan: &LogicalPlan, name: &str) -> Option<Column> {
    plan.schema()
        .iter()
        .find(|(_, field)| field.name() == name)
        .map(|(table, field)| Column::new(table.cloned(), field.name()))
}

/// The columns of a view's table, over the plan of its query.
struct Shape<'a> {
    view: &'a ViewRevision,
    plan: &'a LogicalPlan,
    /// The same plan with the types that running it gives.
    types: &'a LogicalPlan,
}

impl Shape<'_> {
    fn columns(&self, created: Option<Column>) -> Result<Vec<Expr>, String> {
        let mut exprs = Vec::new();
        for key in self.view.keys() {
            let wanted = FeatureType::Scalar(key.key_type.scalar());
            exprs.push(
                self.column(key.name.as_str(), wanted)?
                    .alias(key.name.as_str()),
            );
        }
        let beginning = || lit(instant(Some(Timestamp::BEGINNING)));
        let (event, created) = match (&self.view.event_timestamp, created) {
            _ if matches!(self.view.refresh, Refresh::Static { .. }) => (beginning(), beginning()),
            (Some(name), created) => {
                let created = match created {
                    Some(column) => self.normalised(column, TIMESTAMP)?,
                    None => lit(instant(None)),
                };
                (self.column(name.as_str(), TIMESTAMP)?, created)
            }
            (None, _) => return Err("it has no event timestamp".to_owned()),
        };
        exprs.push(event.alias(EVENT_TIMESTAMP));
        exprs.push(created.alias(CREATED_TIMESTAMP));
        for feature in &self.view.features {
            let name = feature.name.as_str();
            exprs.push(self.column(name, feature.feature_type)?.alias(name));
        }
        Ok(exprs)
    }

    fn column(&self, name: &str, wanted: FeatureType) -> Result<Expr, String> {
        let column =
            column(self.plan, name).ok_or_else(|| format!("it gives no column `{name}`"))?;
        self.normalised(column, wanted)
    }

    fn normalised(&self, column: Column, wanted: FeatureType) -> Result<Expr, String> {
        let field = self
            .types
            .schema()
            .field_with_unqualified_name(&column.name)
            .map_err(|_| format!("it gives no single column `{}`", column.name))?;
        let found = field.data_type().clone();
        let label = column.name.clone();
        Ok(normalised(Expr::Column(column), &found, wanted, &label))
    }
}

fn instant(at: Option<Timestamp>) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(at.map(Timestamp::micros), Some("UTC".into()))
}

/// The plan with the real tables in place of the empty ones, in subqueries too.
pub(super) fn over_tables<Name: Borrow<str> + Ord>(
    plan: LogicalPlan,
    tables: &BTreeMap<Name, Arc<dyn TableProvider>>,
) -> Result<LogicalPlan, DataFusionError> {
    plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::TableScan(scan) => match tables.get(scan.table_name.table()) {
            Some(table) => {
                let source = provider_as_source(Arc::clone(table));
                let scan = LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?;
                Ok(Transformed::yes(scan.build()?))
            }
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })
    .data()?
    .recompute_schema()
}
