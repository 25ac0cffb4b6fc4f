//! From a query's text to its syntax tree: one `SELECT`, and nothing that changes anything.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{Query, SetExpr, Spanned, Statement, Value, ValueWithSpan, Visit, Visitor},
    dialect::GenericDialect,
    parser::{Parser, ParserError},
    tokenizer::Span,
};

use super::problem::{Finding, ProblemPlace, QueryFor};

/// How deeply a query may be nested, so that planning it does not use up the stack.
const DEEPEST: usize = 50;

/// The syntax tree of a query that may be planned.
pub(super) fn parse(sql: &str, what: QueryFor) -> Result<Box<Query>, Finding> {
    let mut statements = Parser::new(&GenericDialect {})
        .with_recursion_limit(DEEPEST)
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| syntax(sql, error))?;
    let statement = match (statements.pop(), statements.len()) {
        (Some(statement), 0) => statement,
        (None, _) => {
            return Err(Finding::new(
                ProblemPlace::QueryWhole,
                "plan::empty_query",
                "the query is empty",
            )
            .help(match what {
                QueryFor::View => {
                    "write a SELECT over the declared sources, or give the view a `source`"
                }
                QueryFor::EntityRows => "write a SELECT over the feature views and sources",
            }));
        }
        (Some(second), _) => {
            return Err(Finding::new(
                place(second.span()),
                "plan::many_statements",
                "the query is more than one statement",
            )
            .help(match what {
                QueryFor::View => {
                    "a view has one SELECT; use `WITH name AS (SELECT …)` for steps in between"
                }
                QueryFor::EntityRows => {
                    "write one SELECT; use `WITH name AS (SELECT …)` for steps in between"
                }
            }));
        }
    };
    match statement {
        Statement::Query(query) => match query.visit(&mut ReadOnly(what)) {
            ControlFlow::Continue(()) if query.with.as_ref().is_some_and(|with| with.recursive) => {
                Err(Finding::new(
                    ProblemPlace::QueryWhole,
                    "plan::recursive",
                    format!("{} cannot be recursive", what.query()),
                )
                .help("leave RECURSIVE out, and make such a table before, as a source"))
            }
            ControlFlow::Continue(()) => Ok(query),
            ControlFlow::Break(finding) => Err(finding),
        },
        other => Err(not_select(&other.to_string(), what)),
    }
}

/// The place of a span; the whole query for none.
pub(super) fn place(span: Span) -> ProblemPlace {
    if span.start.line == 0 {
        return ProblemPlace::QueryWhole;
    }
    let length = if span.start.line == span.end.line {
        span.end.column.saturating_sub(span.start.column).max(1)
    } else {
        1
    };
    ProblemPlace::Query {
        line: span.start.line,
        column: span.start.column,
        length,
    }
}

fn not_select(statement: &str, what: QueryFor) -> Finding {
    let word = statement
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned();
    Finding::new(
        ProblemPlace::QueryWhole,
        "plan::not_a_select",
        format!("{} only reads, and `{word}` does not", what.query()),
    )
    .help(format!("write a SELECT over {}", what.tables()))
}

/// Finds what is not a `SELECT` inside one.
struct ReadOnly(QueryFor);

impl Visitor for ReadOnly {
    type Break = Finding;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Finding> {
        if let Some(statement) = writes(&query.body) {
            return ControlFlow::Break(not_select(&statement, self.0));
        }
        if !query.locks.is_empty() {
            return ControlFlow::Break(not_select("FOR UPDATE", self.0));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Finding> {
        match &value.value {
            Value::Placeholder(name) => ControlFlow::Break(
                Finding::new(
                    place(value.span),
                    "plan::placeholder",
                    format!("nothing gives the parameter `{name}` a value"),
                )
                .help("write the value itself"),
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn writes(body: &SetExpr) -> Option<String> {
    match body {
        SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement) => Some(statement.to_string()),
        SetExpr::Select(select) if select.into.is_some() => Some("SELECT INTO".to_owned()),
        SetExpr::SetOperation { left, right, .. } => writes(left).or_else(|| writes(right)),
        _ => None,
    }
}

/// The parser gives the place in words, at the end of its message.
fn syntax(sql: &str, error: ParserError) -> Finding {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => {
            return Finding::new(
                ProblemPlace::QueryWhole,
                "plan::too_deep",
                format!("the query is nested more than {DEEPEST} deep"),
            )
            .help("take steps out with `WITH name AS (SELECT …)`");
        }
    };
    let (message, at) = match text.rsplit_once(" at Line: ") {
        Some((message, place)) => (message.to_owned(), line_and_column(place)),
        None if text.ends_with("found: EOF") => {
            (text.replace("EOF", "the end"), Some(last_character(sql)))
        }
        None => (text, None),
    };
    let at = match at {
        Some((line, column)) => ProblemPlace::Query {
            line,
            column,
            length: word_length(sql, line, column),
        },
        None => ProblemPlace::QueryWhole,
    };
    Finding::new(
        at,
        "plan::syntax",
        format!("the query is not SQL: {}", lower_first(&message)),
    )
}

fn line_and_column(text: &str) -> Option<(u64, u64)> {
    let (line, column) = text.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, digits.parse().ok()?))
}

fn last_character(sql: &str) -> (u64, u64) {
    let text = sql.trim_end();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).max(1);
    let last = text.lines().last().unwrap_or_default();
    (count(text.lines().count()), count(last.chars().count()))
}

/// How long the word at that place is.
fn word_length(sql: &str, line: u64, column: u64) -> u64 {
    let at = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = sql.lines().nth(at(line)).unwrap_or_default();
    let word = line.chars().skip(at(column));
    let length = word
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .count();
    u64::try_from(length.max(1)).unwrap_or(1)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
