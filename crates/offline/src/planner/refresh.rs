//! What an incremental run of a query has to read, and why.

use std::collections::BTreeSet;

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::{
        Distinct, Expr, JoinType, LogicalPlan,
        expr::{Exists, InSubquery, SetComparison},
    },
};
use vintner_core::SourceName;
use vintner_registry::model::Refresh;

use super::Catalog;

/// What a plan's rows depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rows {
    /// On sources without time only.
    Static,
    /// Each on one row of this source, and on sources without time.
    Local(SourceName),
    /// On many rows; why, in words that follow `the query`.
    Many(String),
}

/// The decision and its reason, for people.
pub(super) fn decide(plan: &LogicalPlan, catalog: &Catalog) -> (Refresh, String) {
    match rows(plan, catalog) {
        Rows::Static => match first_source(plan) {
            Some(source) => {
                let reason = "it reads only static sources, whose rows have no time".to_owned();
                (Refresh::Static { source }, reason)
            }
            None => (Refresh::Windowed, "the query reads no source".to_owned()),
        },
        Rows::Local(source) => {
            let reason = format!("every row comes from one row of `{source}`");
            (Refresh::RowLocal { source }, reason)
        }
        Rows::Many(reason) => (Refresh::Windowed, format!("the query {reason}")),
    }
}

fn first_source(plan: &LogicalPlan) -> Option<SourceName> {
    sources(plan).into_iter().next()
}

/// The sources that a plan reads, in subqueries too, from left to right.
pub(super) fn sources(plan: &LogicalPlan) -> Vec<SourceName> {
    let mut found = Vec::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(name) = scan.table_name.table().parse::<SourceName>()
            && !found.contains(&name)
        {
            found.push(name);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

fn rows(plan: &LogicalPlan, catalog: &Catalog) -> Rows {
    let below: Vec<Rows> = plan
        .inputs()
        .into_iter()
        .map(|input| rows(input, catalog))
        .collect();
    let combined = combine(plan, &below, catalog);
    match (&combined, subquery_reason(plan, catalog)) {
        (Rows::Many(_), _) | (_, None) => combined,
        (_, Some(reason)) => Rows::Many(reason),
    }
}

fn combine(plan: &LogicalPlan, below: &[Rows], catalog: &Catalog) -> Rows {
    let all_static = below.iter().all(|rows| *rows == Rows::Static);
    // What already depends on many rows does so for the first reason, which is the innermost.
    if let Some(many) = below.iter().find(|rows| matches!(rows, Rows::Many(_))) {
        return many.clone();
    }
    let many = |reason: &str| {
        if all_static {
            Rows::Static
        } else {
            Rows::Many(reason.to_owned())
        }
    };
    match plan {
        LogicalPlan::TableScan(scan) => match catalog.get(scan.table_name.table()) {
            Some(source) if source.source.is_static => Rows::Static,
            Some(source) => Rows::Local(source.source.name.clone()),
            None => Rows::Many(format!("reads `{}`", scan.table_name)),
        },
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Unnest(_) => below.first().cloned().unwrap_or(Rows::Static),
        LogicalPlan::Join(join) => match below {
            [left, right] => joined(join.join_type, left, right),
            _ => many("joins"),
        },
        LogicalPlan::Aggregate(aggregate) => {
            let functions = functions(&aggregate.aggr_expr);
            many(&if functions.is_empty() {
                "groups rows".to_owned()
            } else {
                format!("aggregates with {}", functions.join(", "))
            })
        }
        LogicalPlan::Window(window) => {
            let functions = functions(&window.window_expr);
            many(&format!(
                "uses {} over a window of rows",
                functions.join(", ")
            ))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => many(match input.as_ref() {
            LogicalPlan::Join(join) if join.join_type == JoinType::LeftSemi => "uses INTERSECT",
            LogicalPlan::Join(join) if join.join_type == JoinType::LeftAnti => "uses EXCEPT",
            _ => "uses DISTINCT",
        }),
        LogicalPlan::Distinct(Distinct::On(_)) => many("uses DISTINCT ON"),
        LogicalPlan::Limit(_) => many("uses LIMIT"),
        LogicalPlan::Union(_) => many("uses UNION"),
        LogicalPlan::RecursiveQuery(_) => many("is recursive"),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Rows::Static,
        _ => many("does what cannot be followed row by row"),
    }
}

/// Both sides are static or local.
fn joined(join_type: JoinType, left: &Rows, right: &Rows) -> Rows {
    use JoinType::{
        Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi,
    };
    match (left, right) {
        (Rows::Static, Rows::Static) => Rows::Static,
        (Rows::Local(source), Rows::Static) => match join_type {
            Inner | Left | LeftSemi | LeftAnti | LeftMark => Rows::Local(source.clone()),
            _ => Rows::Many(kept(source)),
        },
        (Rows::Static, Rows::Local(source)) => match join_type {
            Inner | Right | RightSemi | RightAnti | RightMark => Rows::Local(source.clone()),
            _ => Rows::Many(kept(source)),
        },
        (Rows::Local(a), Rows::Local(b)) if a == b => {
            Rows::Many(format!("joins `{a}` with itself"))
        }
        (Rows::Local(a), Rows::Local(b)) => {
            Rows::Many(format!("joins `{a}` and `{b}`, which both have time"))
        }
        (Rows::Many(_), _) => left.clone(),
        (_, Rows::Many(_)) => right.clone(),
    }
}

fn kept(source: &SourceName) -> String {
    format!("keeps rows of a static source for which `{source}` has none")
}

/// The functions of aggregates or windows, as `avg()`, each once.
fn functions(exprs: &[Expr]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for expr in exprs {
        let _ = expr.apply(|expr| {
            match expr {
                Expr::AggregateFunction(function) => {
                    names.insert(format!("{}()", function.func.name()))
                }
                Expr::WindowFunction(function) => {
                    names.insert(format!("{}()", function.fun.name()))
                }
                _ => false,
            };
            Ok(TreeNodeRecursion::Continue)
        });
    }
    names.into_iter().collect()
}

/// Why a subquery in the node's expressions makes its rows depend on many others. One over static sources does not.
fn subquery_reason(plan: &LogicalPlan, catalog: &Catalog) -> Option<String> {
    let mut reason = None;
    for expr in plan.expressions() {
        let _ = expr.apply(|expr| {
            if let Expr::ScalarSubquery(subquery)
            | Expr::Exists(Exists { subquery, .. })
            | Expr::InSubquery(InSubquery { subquery, .. })
            | Expr::SetComparison(SetComparison { subquery, .. }) = expr
            {
                let timed = sources(&subquery.subquery).into_iter().find(|name| {
                    catalog
                        .get(name)
                        .is_none_or(|source| !source.source.is_static)
                });
                if let Some(source) = timed {
                    reason = Some(format!("reads `{source}` in a subquery"));
                    return Ok(TreeNodeRecursion::Stop);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
    }
    reason
}
