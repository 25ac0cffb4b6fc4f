//! From a syntax tree to a logical plan, without I/O: the sources' schemas are all the engine is given.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    common::{Column, SchemaError, TableReference, config::ConfigOptions},
    error::DataFusionError,
    execution::SessionState,
    logical_expr::{
        AggregateUDF, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource,
        WindowUDF,
        logical_plan::builder::LogicalTableSource,
        planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner},
    },
    sql::{
        planner::{ParserOptions, SqlToRel},
        sqlparser::ast::{Expr, Query, Statement, Visit, Visitor},
        sqlparser::tokenizer::Span,
    },
};
use vintner_core::SourceName;

use super::{
    parse::place,
    problem::{Finding, ProblemPlace},
    repeatable::place_of_function,
    session::planning,
};

/// The schemas of sources, by the names that queries use.
pub(super) type Schemas = BTreeMap<SourceName, SchemaRef>;

/// The plan of a query over empty tables of these schemas, as written: types are not coerced yet.
pub(super) fn query_plan(query: &Query, schemas: &Schemas) -> Result<LogicalPlan, DataFusionError> {
    let context = Context {
        schemas,
        state: planning(),
    };
    let options = ParserOptions::from(&context.options().sql_parser);
    let statement = Statement::Query(Box::new(query.clone()));
    SqlToRel::new_with_options(&context, options).sql_statement_to_plan(statement)
}

/// The plan that reads all columns of one source.
pub(super) fn source_plan(
    source: &SourceName,
    schemas: &Schemas,
) -> Result<LogicalPlan, DataFusionError> {
    let context = Context {
        schemas,
        state: planning(),
    };
    let table = context.get_table_source(TableReference::bare(source.as_str()))?;
    LogicalPlanBuilder::scan(source.as_str(), table, None)?.build()
}

/// The plan with the types that running it gives.
pub(super) fn typed(plan: &LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let state = planning();
    state
        .analyzer()
        .execute_and_check(plan.clone(), state.config_options(), |_, _| {})
}

struct Context<'a> {
    schemas: &'a Schemas,
    state: &'a SessionState,
}

impl ContextProvider for Context<'_> {
    fn get_table_source(
        &self,
        name: TableReference,
    ) -> Result<Arc<dyn TableSource>, DataFusionError> {
        let TableReference::Bare { table } = &name else {
            return Err(DataFusionError::Plan(format!(
                "`{name}` is not a declared source"
            )));
        };
        match self.schemas.get(table.as_ref()) {
            Some(schema) => Ok(Arc::new(LogicalTableSource::new(Arc::clone(schema)))),
            None => Err(DataFusionError::Plan(format!(
                "`{name}` is not a declared source"
            ))),
        }
    }

    fn get_table_function_source(
        &self,
        name: &str,
        _: Vec<datafusion::logical_expr::Expr>,
    ) -> Result<Arc<dyn TableSource>, DataFusionError> {
        Err(DataFusionError::Plan(format!(
            "`{name}(…)` in FROM is not a declared source"
        )))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        None
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state
            .higher_order_functions()
            .keys()
            .cloned()
            .collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// What the engine says is wrong with a query, with the place if it can be found.
pub(super) fn finding(error: &DataFusionError, query: Option<&Query>) -> Finding {
    match error {
        DataFusionError::Diagnostic(_, error) | DataFusionError::Context(_, error) => {
            return finding(error, query);
        }
        DataFusionError::Shared(error) => return finding(error, query),
        DataFusionError::Collection(errors) => {
            if let Some(error) = errors.first() {
                return finding(error, query);
            }
        }
        DataFusionError::SchemaError(error, _) => {
            if let Some(finding) = schema_finding(error, query) {
                return finding;
            }
        }
        _ => {}
    }
    let text = message(error);
    if let Some(name) = unknown_function(&text) {
        let at = query.map_or(ProblemPlace::QueryWhole, |query| {
            place_of_function(query, name)
        });
        let state = planning();
        let names: Vec<&String> = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys())
            .chain(state.window_functions().keys())
            .collect();
        let message = format!("there is no function `{name}`");
        let known = vintner_core::nearest::nearest(name, names.iter().map(|name| name.as_str()));
        let finding = Finding::new(at, "plan::unknown_function", message);
        return match known {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => finding,
        };
    }
    Finding::new(
        ProblemPlace::QueryWhole,
        "plan::query",
        format!("the query cannot be planned: {text}"),
    )
}

fn unknown_function(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("Invalid function '")?;
    rest.split('\'').next()
}

/// The message without the engine's own prefixes, hints and traces.
fn message(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => text.clone(),
        other => other.strip_backtrace(),
    };
    let text = text.split("\n\nbacktrace: ").next().unwrap_or_default();
    let text = text.strip_prefix("Error during planning: ").unwrap_or(text);
    text.trim_end_matches('.').to_owned()
}

fn schema_finding(error: &SchemaError, query: Option<&Query>) -> Option<Finding> {
    let at =
        |column: &Column| query.map_or(ProblemPlace::QueryWhole, |q| place_of_column(q, column));
    Some(match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let message = match &field.relation {
                Some(table) => format!("`{table}` has no column `{}`", field.name),
                None => format!("the column `{}` is not known here", field.name),
            };
            let names = valid_fields.iter().map(|field| field.name.clone());
            Finding::new(at(field), "plan::unknown_column", message).nearest(&field.name, names)
        }
        SchemaError::AmbiguousReference { field } => Finding::new(
            at(field),
            "plan::ambiguous_column",
            format!("more than one table has the column `{}`", field.name),
        )
        .help(format!("write the table before it: `table.{}`", field.name)),
        SchemaError::DuplicateQualifiedField { qualifier, name } => Finding::new(
            ProblemPlace::QueryWhole,
            "plan::duplicate_column",
            format!("two columns are both `{qualifier}.{name}`"),
        )
        .help("give each table an alias of its own"),
        SchemaError::DuplicateUnqualifiedField { name } => Finding::new(
            ProblemPlace::QueryWhole,
            "plan::duplicate_column",
            format!("two columns are both `{name}`"),
        )
        .help("give one of them another name with AS"),
    })
}

/// The place where a column is first named.
fn place_of_column(query: &Query, column: &Column) -> ProblemPlace {
    struct Finder<'a>(&'a Column);
    impl Visitor for Finder<'_> {
        type Break = Span;

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Span> {
            let found = match expr {
                Expr::Identifier(ident)
                    if self.0.relation.is_none() && ident.value == self.0.name =>
                {
                    Some(ident.span)
                }
                Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                    [.., table, ident]
                        if ident.value == self.0.name
                            && self
                                .0
                                .relation
                                .as_ref()
                                .is_none_or(|r| r.table() == table.value) =>
                    {
                        Some(ident.span)
                    }
                    _ => None,
                },
                _ => None,
            };
            found.map_or(ControlFlow::Continue(()), ControlFlow::Break)
        }
    }
    match query.visit(&mut Finder(column)) {
        ControlFlow::Break(span) => place(span),
        ControlFlow::Continue(()) => ProblemPlace::QueryWhole,
    }
}
