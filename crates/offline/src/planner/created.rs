//! Carries a source's created time through a plan whose query does not select it.
//!
//! A row-local query makes each row from one row of its source, so that row's created time is also its own. Without it
//! the row would seem to have become known only when a run read it.

use std::sync::Arc;

use datafusion::{
    common::{Column, TableReference},
    error::DataFusionError,
    logical_expr::{Expr, Filter, Join, LogicalPlan, Projection, Sort, SubqueryAlias, Unnest},
};
use vintner_core::SourceName;

/// The column's name on its way. No column of a query has it, since names of columns have no line break.
const CARRIED: &str = "created\n";

/// A plan and the column of it that holds the created time.
type Carried = (LogicalPlan, Column);

/// The plan with one more column, last in projections: `column` of the one scan of `source`. None when something on
/// the way makes rows from more than one row.
pub(super) fn carry(
    plan: &LogicalPlan,
    source: &SourceName,
    column: &str,
) -> Result<Option<Carried>, DataFusionError> {
    let below = |input: &LogicalPlan| carry(input, source, column);
    Ok(match plan {
        LogicalPlan::TableScan(scan) if scan.table_name.table() == source.as_str() => {
            let found = Column::new(Some(scan.table_name.clone()), column);
            scan.projected_schema
                .maybe_index_of_column(&found)
                .map(|_| (plan.clone(), found))
        }
        LogicalPlan::Projection(projection) => match below(&projection.input)? {
            Some((input, found)) => {
                let mut exprs = projection.expr.clone();
                exprs.push(Expr::Column(found).alias(CARRIED));
                let carried = Projection::try_new(exprs, Arc::new(input))?;
                Some((
                    LogicalPlan::Projection(carried),
                    Column::new_unqualified(CARRIED),
                ))
            }
            None => None,
        },
        LogicalPlan::Filter(filter) => match below(&filter.input)? {
            Some((input, found)) => {
                let carried = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
                Some((LogicalPlan::Filter(carried), found))
            }
            None => None,
        },
        LogicalPlan::Sort(sort) => match below(&sort.input)? {
            Some((input, found)) => {
                let carried = Sort {
                    expr: sort.expr.clone(),
                    input: Arc::new(input),
                    fetch: sort.fetch,
                };
                Some((LogicalPlan::Sort(carried), found))
            }
            None => None,
        },
        LogicalPlan::SubqueryAlias(alias) => match below(&alias.input)? {
            Some((input, found)) => {
                let carried = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
                let table: TableReference = alias.alias.clone();
                Some((
                    LogicalPlan::SubqueryAlias(carried),
                    Column::new(Some(table), found.name),
                ))
            }
            None => None,
        },
        LogicalPlan::Unnest(unnest) => match below(&unnest.input)? {
            Some((input, found)) => {
                let columns = unnest.exec_columns.clone();
                let carried = Unnest::try_new(Arc::new(input), columns, unnest.options.clone())?;
                Some((LogicalPlan::Unnest(carried), found))
            }
            None => None,
        },
        LogicalPlan::Join(join) => match (below(&join.left)?, below(&join.right)?) {
            (Some((left, found)), None) => Some((rejoined(join, Some(left), None)?, found)),
            (None, Some((right, found))) => Some((rejoined(join, None, Some(right))?, found)),
            _ => None,
        },
        _ => None,
    })
}

fn rejoined(
    join: &Join,
    left: Option<LogicalPlan>,
    right: Option<LogicalPlan>,
) -> Result<LogicalPlan, DataFusionError> {
    let or = |new: Option<LogicalPlan>, old: &Arc<LogicalPlan>| {
        new.map_or_else(|| Arc::clone(old), Arc::new)
    };
    Ok(LogicalPlan::Join(Join::try_new(
        or(left, &join.left),
        or(right, &join.right),
        join.on.clone(),
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?))
}
