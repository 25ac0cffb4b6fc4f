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
    names::is_text,
    parse::place,
    problem::{Finding, ProblemPlace},
    repeatable::place_of_function,
    session::planning,
};

/// The schemas of tables, by the names that queries use.
pub(super) type Schemas = BTreeMap<String, SchemaRef>;

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
    let full = error.strip_backtrace();
    if let Some(column) = between(&full, "column \"", "\" must appear in the GROUP BY clause") {
        let column = Column::from_qualified_name(column);
        let at = query.map_or(ProblemPlace::QueryWhole, |query| {
            place_of_column(query, &column)
        });
        let message = format!("`{}` is neither grouped by nor aggregated", column.name);
        return Finding::new(at, "plan::not_grouped", message).help(format!(
            "add it to GROUP BY, or aggregate it: `max({0}) AS {0}`",
            column.name
        ));
    }
    if let Some(call) = between(&full, "argument types '", "'") {
        let name = call.split('(').next().unwrap_or_default();
        let at = query.map_or(ProblemPlace::QueryWhole, |query| {
            place_of_function(query, name)
        });
        let message = format!("`{name}()` does not take these types: `{call}`");
        return Finding::new(at, "plan::argument_types", message)
            .help("cast the arguments to types that it takes");
    }
    if let Some(name) = between(&full, "Invalid function '", "'") {
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
        format!("the query cannot be planned: {}", message(&full)),
    )
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    let (found, _) = rest.split_once(after)?;
    Some(found)
}

/// The message without the engine's own prefixes, hints and traces.
fn message(text: &str) -> String {
    let text = text
        .split("\nThis issue was likely caused by")
        .next()
        .unwrap_or_default();
    let prefixes = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Internal error: ",
        "Schema error: ",
        "Arrow error: ",
    ];
    let text = prefixes.iter().fold(text, |text, prefix| {
        text.strip_prefix(prefix).unwrap_or(text)
    });
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
            let finding = Finding::new(at(field), "plan::unknown_column", message);
            if is_text(&field.name) {
                return Some(
                    finding.help("double quotes are for names; text is written in single quotes"),
                );
            }
            let other = valid_fields.iter().find(|valid| valid.name == field.name);
            match other.and_then(|other| other.relation.as_ref()) {
                Some(table) => {
                    finding.help(format!("`{table}` has it: write `{table}.{}`", field.name))
                }
                None => finding.nearest(&field.name, valid_fields.iter().map(|valid| &valid.name)),
            }
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

/// The place where a column is first named: with its table, if that is known and written, else alone.
fn place_of_column(query: &Query, column: &Column) -> ProblemPlace {
    let named = |expr: &Expr| match (expr, &column.relation) {
        (Expr::Identifier(ident), None) if ident.value == column.name => Some(ident.span),
        (Expr::CompoundIdentifier(parts), relation) => match parts.as_slice() {
            [.., table, ident]
                if ident.value == column.name
                    && relation.as_ref().is_none_or(|r| r.table() == table.value) =>
            {
                Some(ident.span)
            }
            _ => None,
        },
        _ => None,
    };
    let alone = |expr: &Expr| match expr {
        Expr::Identifier(ident) if ident.value == column.name => Some(ident.span),
        _ => None,
    };
    let found = first(query, &named).or_else(|| first(query, &alone));
    found.map_or(ProblemPlace::QueryWhole, place)
}

/// What `of` finds in the first expression in which it finds anything.
fn first(query: &Query, of: &dyn Fn(&Expr) -> Option<Span>) -> Option<Span> {
    struct Finder<'a>(&'a dyn Fn(&Expr) -> Option<Span>);
    impl Visitor for Finder<'_> {
        type Break = Span;

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Span> {
            (self.0)(expr).map_or(ControlFlow::Continue(()), ControlFlow::Break)
        }
    }
    match query.visit(&mut Finder(of)) {
        ControlFlow::Break(span) => Some(span),
        ControlFlow::Continue(()) => None,
    }
}
