//! What a view is made from, read and planned.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::{logical_expr::LogicalPlan, sql::sqlparser::ast::Query};
use vintner_core::SourceName;
use vintner_registry::model::ViewInput;

use super::{
    Catalog,
    context::{self, Schemas},
    names::{self, Table, TableKind},
    parse,
    problem::{Finding, ProblemPlace, QueryFor},
    repeatable,
    select::Written,
};
use crate::sources::table_schema;

/// What a view is made from, planned.
pub(super) struct Input {
    /// None for a view of all columns of a source.
    pub(super) query: Option<Box<Query>>,
    pub(super) plan: LogicalPlan,
    /// The output's columns with the types that running the plan gives.
    pub(super) types: SchemaRef,
}

impl Input {
    pub(super) fn read(input: &ViewInput, catalog: &Catalog) -> Result<Self, Vec<Finding>> {
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
        unread([source.as_str()], catalog, &at)?;
        let plan = context::source_plan(source, &schemas(catalog))
            .map_err(|e| vec![context::finding(&e, None)])?;
        Self::typed(None, plan)
    }

    fn of_query(sql: &str, catalog: &Catalog) -> Result<Self, Vec<Finding>> {
        let mut query = parse::parse(sql, QueryFor::View).map_err(|finding| vec![finding])?;
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
                    name.to_string(),
                    Table {
                        kind: TableKind::Source,
                        columns: columns.collect(),
                        left_out,
                    },
                )
            })
            .collect();
        let mut findings = repeatable::check(&query, QueryFor::View);
        let (used, unknown) = names::resolve(&mut query, &tables, QueryFor::View);
        unread(
            used.iter().map(String::as_str),
            catalog,
            &ProblemPlace::QueryWhole,
        )?;
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
        .map(|(name, source)| (name.to_string(), table_schema(&source.source.columns)))
        .collect()
}

/// Nothing is said about the columns of a source that could not be read.
fn unread<'a>(
    used: impl IntoIterator<Item = &'a str>,
    catalog: &Catalog,
    at: &ProblemPlace,
) -> Result<(), Vec<Finding>> {
    let findings: Vec<Finding> = used
        .into_iter()
        .filter(|name| catalog.get(*name).is_some_and(|source| !source.is_read))
        .map(|name| {
            let message =
                format!("the view is not checked, since its source `{name}` could not be read");
            Finding::new(at.clone(), "plan::source_not_read", message)
        })
        .collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}
