//! Plans a query for entity rows: a SELECT over a project's feature views and sources, as it is applied.
//!
//! A table is named as its feature view or source is. A name that both have must say which is meant, `view.weather` or
//! `source.weather`; these forms may be used for every table. A view is its newest version, with the columns of its table.

use std::{collections::BTreeMap, fmt, ops::ControlFlow, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::TableProvider,
    common::Column,
    error::DataFusionError,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
    sql::sqlparser::ast::{
        Ident, ObjectName, ObjectNamePart, Query, TableAlias, TableFactor, VisitMut, VisitorMut,
    },
};
use vintner_registry::model::{Project, Source, ViewRevision};

use super::{
    context::{self, Schemas},
    names::{self, Table, TableKind},
    parse,
    problem::{Finding, ProblemPlace, QueryFor},
    repeatable,
    run::over_tables,
    select::Written,
};
use crate::{delta::ViewLayout, sources::table_schema};

/// A planned query for entity rows.
#[derive(Clone, Debug)]
pub struct EntityQuery {
    plan: LogicalPlan,
    schema: SchemaRef,
    tables: BTreeMap<String, QueryTable>,
    is_ordered: bool,
}

/// A table that such a query can read.
#[derive(Clone, Debug)]
pub enum QueryTable {
    /// The table of a feature view.
    View(Arc<ViewRevision>),
    /// A source.
    Source(Box<Source>),
}

/// Everything that is wrong with a query for entity rows, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query for entity rows cannot be planned{}", lines(.0))]
pub struct EntityQueryError(Vec<QueryProblem>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct QueryProblem(Finding);

/// Plans a query over the views and sources of a project. No data is read.
///
/// # Errors
/// [`EntityQueryError`] with every mistake that can be found.
pub fn plan_entity_query(sql: &str, project: &Project) -> Result<EntityQuery, EntityQueryError> {
    plan(sql, project).map_err(|mut findings| {
        findings.sort_by(|a, b| a.at.cmp(&b.at));
        EntityQueryError(findings.into_iter().map(QueryProblem).collect())
    })
}

fn plan(sql: &str, project: &Project) -> Result<EntityQuery, Vec<Finding>> {
    let what = QueryFor::EntityRows;
    let mut query = parse::parse(sql, what).map_err(|finding| vec![finding])?;
    let mut tables = tables(project);
    let named = tables
        .iter()
        .map(|(name, table)| (name.clone(), table.named()))
        .collect();
    let _ = VisitMut::visit(query.as_mut(), &mut Qualified { tables: &named });
    let mut findings = repeatable::check(&query, what);
    let (used, unknown) = names::resolve(&mut query, &named, what);
    findings.extend(unknown);
    findings.extend(Written(Some(&query)).duplicates());
    tables.retain(|name, _| used.contains(name));
    findings.extend(tables.values().filter_map(QueryTable::unreadable));
    if !findings.is_empty() {
        return Err(findings);
    }
    if used.is_empty() {
        let message = "the query reads no feature view and no source";
        let finding = Finding::new(ProblemPlace::QueryWhole, "plan::no_source", message);
        return Err(vec![finding.nearest("", named.keys())]);
    }
    let schemas: Schemas = tables
        .iter()
        .map(|(name, table)| (name.clone(), table.schema()))
        .collect();
    let failed = |query: &Query, error| vec![context::finding(&error, Some(query))];
    let plan = context::query_plan(&query, &schemas).map_err(|error| failed(&query, error))?;
    let typed = context::typed(&plan).map_err(|error| failed(&query, error))?;
    Ok(EntityQuery {
        plan,
        schema: row_schema(typed.schema().as_arrow()),
        tables,
        is_ordered: query.order_by.is_some(),
    })
}

/// The tables that a query can name, by what it calls them.
fn tables(project: &Project) -> BTreeMap<String, QueryTable> {
    let called = |name: &str, kind: TableKind, is_ambiguous: bool| match is_ambiguous {
        true => format!("{}.{name}", kind.word()),
        false => name.to_owned(),
    };
    let views = project.views.values().filter_map(|view| {
        let name = view.name.as_str();
        let name = called(name, TableKind::View, project.sources.contains_key(name));
        Some((name, QueryTable::View(Arc::new(view.current()?.clone()))))
    });
    let sources = project.sources.values().map(|source| {
        let name = source.name.as_str();
        let name = called(name, TableKind::Source, project.views.contains_key(name));
        (name, QueryTable::Source(Box::new(source.clone())))
    });
    views.chain(sources).collect()
}

impl QueryTable {
    /// The columns that it has for queries.
    fn schema(&self) -> SchemaRef {
        match self {
            Self::View(view) => Arc::clone(ViewLayout::of(view).arrow()),
            Self::Source(source) => table_schema(&source.columns),
        }
    }

    fn named(&self) -> Table {
        let schema = self.schema();
        let columns = schema.fields().iter().map(|field| field.name().clone());
        Table {
            kind: match self {
                Self::View(_) => TableKind::View,
                Self::Source(_) => TableKind::Source,
            },
            columns: columns.collect(),
            left_out: Vec::new(),
        }
    }

    fn unreadable(&self) -> Option<Finding> {
        match self {
            Self::View(view) if !view.offline => {
                let message = format!(
                    "the feature view `{}` is not in the offline store: it says `offline: false`",
                    view.id
                );
                let at = ProblemPlace::QueryWhole;
                Some(Finding::new(at, "plan::not_offline", message))
            }
            Self::View(_) | Self::Source(_) => None,
        }
    }
}

/// Gives tables that are named with their kind the one name that they are known by, and their own as an alias.
struct Qualified<'a> {
    tables: &'a names::Tables,
}

impl VisitorMut for Qualified<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, .. } = factor
            && let [
                ObjectNamePart::Identifier(kind),
                ObjectNamePart::Identifier(table),
            ] = name.0.as_slice()
            && let Some((known, own)) = self.known(kind, table)
        {
            let exactly = |value: String| Ident {
                value,
                quote_style: Some('"'),
                span: table.span,
            };
            alias.get_or_insert_with(|| TableAlias {
                explicit: true,
                name: exactly(own),
                columns: Vec::new(),
                at: None,
            });
            *name = ObjectName(vec![ObjectNamePart::Identifier(exactly(known))]);
        }
        ControlFlow::Continue(())
    }
}

impl Qualified<'_> {
    /// What a table of some kind is known by, and its own name.
    fn known(&self, kind: &Ident, table: &Ident) -> Option<(String, String)> {
        let kind = [TableKind::View, TableKind::Source]
            .into_iter()
            .find(|known| kind.value.eq_ignore_ascii_case(known.word()))?;
        let own = |known: &String| match known.split_once('.') {
            Some((_, own)) => own.to_owned(),
            None => known.clone(),
        };
        let of_kind = || {
            let tables = self.tables.iter().filter(|(_, table)| table.kind == kind);
            tables.map(|(known, _)| (known.clone(), own(known)))
        };
        let exact = of_kind().find(|(_, own)| *own == table.value);
        let mut alike = of_kind().filter(|(_, own)| names::alike(table, own));
        exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
    }
}

impl EntityQuery {
    /// The columns of the rows, all of which may be null.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The tables that are read, by what the query calls them.
    pub fn tables(&self) -> &BTreeMap<String, QueryTable> {
        &self.tables
    }

    /// The plan of the rows over these tables, one for each of [`EntityQuery::tables`]. They come in the query's order;
    /// without one, sorted by their columns, lists and such aside, so that the same tables give the same rows.
    ///
    /// # Errors
    /// When the tables do not have the columns that the query was planned with.
    pub fn over(
        &self,
        tables: &BTreeMap<String, Arc<dyn TableProvider>>,
    ) -> Result<LogicalPlan, DataFusionError> {
        let plan = over_tables(self.plan.clone(), tables)?;
        if self.is_ordered {
            return Ok(plan);
        }
        let columns = plan
            .schema()
            .iter()
            .filter(|(_, field)| has_order(field.data_type()))
            .map(|(table, field)| Column::new(table.cloned(), field.name()));
        let order: Vec<_> = columns
            .map(|column| Expr::Column(column).sort(true, false))
            .collect();
        match order.is_empty() {
            true => Ok(plan),
            false => LogicalPlanBuilder::from(plan).sort(order)?.build(),
        }
    }
}

/// Whether rows are sorted by a column of the type.
fn has_order(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => has_order(values),
        DataType::Boolean
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => true,
        other => other.is_primitive(),
    }
}

/// What the engine gives, without what it knows of nulls and keeps for itself.
fn row_schema(schema: &Schema) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), field.data_type().clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn lines(problems: &[QueryProblem]) -> String {
    problems.iter().map(|p| format!("\n{p}")).collect()
}

/// `line 1, column 8: message; help`.
impl fmt::Display for QueryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(finding) = self;
        if let ProblemPlace::Query { line, column, .. } = finding.at {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&finding.message)?;
        match &finding.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}
