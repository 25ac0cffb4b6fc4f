//! What would make a query give another answer the next time it is run over the same data.
//!
//! A dataset that nobody can make again is worse than none, and a run that is repeated after a crash must write what
//! the first one would have.

use std::ops::ControlFlow;

use datafusion::{
    logical_expr::Volatility,
    sql::sqlparser::ast::{
        Distinct, Expr, Function, FunctionArgumentClause, FunctionArguments, LimitClause,
        ObjectNamePart, Query, Select, Spanned, Visit, Visitor, WindowType,
    },
    sql::sqlparser::tokenizer::Span,
};

use super::{
    parse::place,
    problem::{Finding, ProblemPlace, QueryFor},
    session::planning,
};

/// Functions whose answer depends on the order of the rows they are given.
const ORDERED: [&str; 6] = [
    "array_agg",
    "first_value",
    "last_value",
    "nth_value",
    "string_agg",
    "any_value",
];
/// Window functions that are nothing without an order.
const RANKED: [&str; 11] = [
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];

/// Everything in the query that is not repeatable.
pub(super) fn check(query: &Query, what: QueryFor) -> Vec<Finding> {
    let mut checker = Checker {
        what,
        findings: Vec::new(),
    };
    let _ = query.visit(&mut checker);
    checker.findings
}

struct Checker {
    what: QueryFor,
    findings: Vec<Finding>,
}

impl Visitor for Checker {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let limited = query.limit_clause.is_some() || query.fetch.is_some();
        if limited && query.order_by.is_none() {
            let at = query
                .limit_clause
                .as_ref()
                .map_or(Span::empty(), limit_span);
            self.unordered(at, "LIMIT without ORDER BY keeps other rows each time");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if let Some(Distinct::On(columns)) = &select.distinct {
            let at = columns.first().map_or(Span::empty(), Spanned::span);
            self.findings.push(
                Finding::new(
                    place(at),
                    "plan::unordered",
                    "DISTINCT ON keeps other rows each time",
                )
                .help("group by those columns and aggregate the others"),
            );
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let Some((name, span)) = name_of(function)
        {
            self.function(function, &name, span);
        }
        ControlFlow::Continue(())
    }
}

impl Checker {
    fn unordered(&mut self, at: Span, message: &str) {
        let finding = Finding::new(place(at), "plan::unordered", message);
        self.findings
            .push(finding.help("add an ORDER BY that leaves no ties"));
    }

    fn function(&mut self, function: &Function, name: &str, span: Span) {
        if is_volatile(name) {
            let so = match self.what {
                QueryFor::View => "so no run could be repeated",
                QueryFor::EntityRows => "so the same rows could not be made again",
            };
            let message = format!("`{name}()` gives another answer each time, {so}");
            let finding = Finding::new(place(span), "plan::not_repeatable", message);
            self.findings.push(match (name, self.what) {
                ("now" | "current_timestamp" | "current_date" | "current_time" | "today", QueryFor::View) => finding.help(
                    "leave the present out: a feature's age is what its event timestamp and ttl are for",
                ),
                ("now" | "current_timestamp" | "current_date" | "current_time" | "today", QueryFor::EntityRows) => finding.help(
                    "write the moment itself, like `TIMESTAMP '2013-01-01T00:00:00Z'`",
                ),
                _ => finding.help("make a value from the columns, such as `md5(key)`"),
            });
        }
        match &function.over {
            None if ORDERED.contains(&name) && !is_ordered(function) => {
                self.unordered(
                    span,
                    &format!("`{name}()` depends on the order of the rows, which is not given"),
                );
            }
            Some(WindowType::WindowSpec(window))
                if RANKED.contains(&name)
                    && window.order_by.is_empty()
                    && window.window_name.is_none() =>
            {
                self.unordered(
                    span,
                    &format!("`{name}()` depends on the order of the rows, which is not given"),
                );
            }
            _ => {}
        }
    }
}

fn name_of(function: &Function) -> Option<(String, Span)> {
    match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some((ident.value.to_lowercase(), ident.span)),
        _ => None,
    }
}

fn is_volatile(name: &str) -> bool {
    planning()
        .scalar_functions()
        .get(name)
        .is_some_and(|function| function.signature().volatility != Volatility::Immutable)
}

fn is_ordered(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else {
        return false;
    };
    !function.within_group.is_empty()
        || list
            .clauses
            .iter()
            .any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)))
}

fn limit_span(clause: &LimitClause) -> Span {
    match clause {
        LimitClause::LimitOffset { limit, offset, .. } => match (limit, offset) {
            (Some(limit), _) => limit.span(),
            (None, Some(offset)) => offset.value.span(),
            (None, None) => Span::empty(),
        },
        LimitClause::OffsetCommaLimit { limit, .. } => limit.span(),
    }
}

/// The place of the first call of a function, for errors of the engine that name it only.
pub(super) fn place_of_function(query: &Query, name: &str) -> ProblemPlace {
    struct Finder<'a>(&'a str);
    impl Visitor for Finder<'_> {
        type Break = Span;

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Span> {
            match expr {
                Expr::Function(function) => match name_of(function) {
                    Some((name, span)) if name == self.0 => ControlFlow::Break(span),
                    _ => ControlFlow::Continue(()),
                },
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match query.visit(&mut Finder(&name.to_lowercase())) {
        ControlFlow::Break(span) => place(span),
        ControlFlow::Continue(()) => ProblemPlace::QueryWhole,
    }
}
