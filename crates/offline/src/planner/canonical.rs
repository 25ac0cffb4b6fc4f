//! One canonical form of what a view computes, to tell a change of meaning from a change of writing.
//!
//! A feature's *definition* is its expression over source columns, with every step in between written out. The
//! *relation* is the rest: which rows there are, with their keys and times. Adding a feature, also one more aggregate
//! beside others, changes neither the other definitions nor the relation. Aliases of tables, white space, comments, the
//! case of keywords and the order of conditions joined by AND do not matter.
//!
//! The text is compared with text of earlier versions of the registry, so its form must not change without need: a
//! changed form would make new versions of views that mean the same.

use datafusion::{
    common::{
        Column,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        Distinct, Expr, FetchType, LogicalPlan, SkipType, SortExpr, Subquery,
        expr::{Exists, InSubquery, SetComparison},
        utils::split_conjunction,
    },
    sql::unparser::{Unparser, dialect::Dialect},
};

use super::origin::{Node, Origin, scans};

/// The canonical forms of one plan.
pub(super) struct Canonical<'a> {
    root: Node<'a>,
    /// The plan and the subqueries that are being written, the innermost last.
    frames: Vec<Frame<'a>>,
    /// Texts that stand for parts of an expression that have no expression of their own.
    parts: Vec<String>,
}

/// One query: the names of its scans, and what its outer columns belong to.
struct Frame<'a> {
    scans: Vec<String>,
    outer: Option<Node<'a>>,
}

impl<'a> Canonical<'a> {
    pub(super) fn new(plan: &'a LogicalPlan) -> Self {
        Self {
            root: Node::root(plan),
            frames: vec![Frame {
                scans: scan_names(plan, 0),
                outer: None,
            }],
            parts: Vec::new(),
        }
    }

    /// The definition of the column with this index.
    pub(super) fn definition(&mut self, index: usize) -> String {
        let expr = self.column(self.root, index);
        self.text(&expr)
    }

    /// How the plan's rows come about.
    pub(super) fn rows(&mut self) -> String {
        self.relation(self.root, Order::Ignored)
    }

    fn column(&mut self, node: Node<'a>, index: usize) -> Expr {
        match node.origin(index) {
            Origin::Scanned { scan, name, .. } => {
                let names = self.frames.last().map(|frame| &frame.scans);
                let table = names
                    .and_then(|names| names.get(scan))
                    .cloned()
                    .unwrap_or_default();
                Expr::Column(Column::new(Some(table), name))
            }
            Origin::Computed { expr, input } => self.expand(expr, input),
            Origin::Same { input, index } => self.column(input, index),
            Origin::OneOf(columns) => {
                let texts: Vec<String> = columns
                    .into_iter()
                    .map(|(input, index)| {
                        let expr = self.column(input, index);
                        self.text(&expr)
                    })
                    .collect();
                self.part(format!("one of ({})", texts.join(", ")))
            }
            Origin::Unnested { input, index } => {
                let expr = self.column(input, index);
                let text = self.text(&expr);
                self.part(format!("unnest({text})"))
            }
            Origin::Constant(text) => self.part(text),
        }
    }

    /// The expression with every column written out.
    fn expand(&mut self, expr: &'a Expr, input: Node<'a>) -> Expr {
        // Subqueries are written from the original, which lives as long as the plan.
        let mut subqueries = subqueries(expr).into_iter();
        let expanded = expr.clone().unalias_nested().data.transform_up(|expr| {
            Ok(match expr {
                Expr::Column(column) => Transformed::yes(match input.index_of(&column) {
                    Some(index) => self.column(input, index),
                    None => Expr::Column(column),
                }),
                Expr::OuterReferenceColumn(_, column) => {
                    Transformed::yes(self.outer_column(column))
                }
                Expr::ScalarSubquery(_) => {
                    let text = self.subquery(subqueries.next(), input);
                    Transformed::yes(self.part(format!("({text})")))
                }
                Expr::Exists(Exists { negated, .. }) => {
                    let text = self.subquery(subqueries.next(), input);
                    let not = if negated { "NOT " } else { "" };
                    Transformed::yes(self.part(format!("{not}EXISTS ({text})")))
                }
                Expr::InSubquery(InSubquery { expr, negated, .. }) => {
                    let text = self.subquery(subqueries.next(), input);
                    let value = self.text(&expr);
                    let not = if negated { "NOT " } else { "" };
                    Transformed::yes(self.part(format!("{value} {not}IN ({text})")))
                }
                Expr::SetComparison(SetComparison {
                    expr,
                    op,
                    quantifier,
                    ..
                }) => {
                    let text = self.subquery(subqueries.next(), input);
                    let value = self.text(&expr);
                    Transformed::yes(self.part(format!("{value} {op} {quantifier} ({text})")))
                }
                other => Transformed::no(other),
            })
        });
        expanded.map_or_else(|_| expr.clone(), |expanded| expanded.data)
    }

    fn outer_column(&mut self, column: Column) -> Expr {
        let found = (0..self.frames.len()).rev().find_map(|depth| {
            let node = self.frames.get(depth)?.outer?;
            Some((depth, node, node.index_of(&column)?))
        });
        match found {
            Some((depth, node, index)) => {
                let inner = self.frames.split_off(depth);
                let expr = self.column(node, index);
                self.frames.extend(inner);
                expr
            }
            None => Expr::Column(column),
        }
    }

    fn subquery(&mut self, subquery: Option<&'a Subquery>, outer: Node<'a>) -> String {
        let Some(subquery) = subquery else {
            return String::new();
        };
        let plan: &'a LogicalPlan = &subquery.subquery;
        self.frames.push(Frame {
            scans: scan_names(plan, self.frames.len()),
            outer: Some(outer),
        });
        let node = Node::root(plan);
        let columns = self.columns(node);
        let rows = self.relation(node, Order::Ignored);
        self.frames.pop();
        format!("{columns} of {rows}")
    }

    /// All columns of a node, for relations whose rows depend on them.
    fn columns(&mut self, node: Node<'a>) -> String {
        let texts: Vec<String> = (0..node.plan.schema().fields().len())
            .map(|index| {
                let expr = self.column(node, index);
                self.text(&expr)
            })
            .collect();
        texts.join(", ")
    }

    fn relation(&mut self, node: Node<'a>, order: Order) -> String {
        let inputs = node.inputs();
        let first = inputs.first().copied();
        match (node.plan, first) {
            (LogicalPlan::TableScan(_), _) => self
                .frames
                .last()
                .and_then(|frame| frame.scans.get(node.before))
                .cloned()
                .unwrap_or_default(),
            (LogicalPlan::Filter(_), Some(_)) => {
                let (conditions, input) = self.conditions(node);
                format!(
                    "filter({}, {})",
                    self.relation(input, order),
                    conditions.join(" AND ")
                )
            }
            (LogicalPlan::Join(join), Some(left)) => {
                let mut conditions: Vec<String> = Vec::new();
                let right = inputs.get(1).copied().unwrap_or(left);
                for (a, b) in &join.on {
                    let (a, b) = (self.expanded_text(a, left), self.expanded_text(b, right));
                    conditions.push(format!("{a} = {b}"));
                }
                if let Some(filter) = &join.filter {
                    // Its columns are those of both sides, which only the join's own node has.
                    for condition in split_conjunction(filter) {
                        conditions.push(self.join_condition(condition, left, right));
                    }
                }
                conditions.sort();
                let on = if conditions.is_empty() {
                    String::new()
                } else {
                    format!(", {}", conditions.join(" AND "))
                };
                let kind = join.join_type.to_string().to_lowercase();
                let left = self.relation(left, Order::Ignored);
                let right = self.relation(right, Order::Ignored);
                format!("{kind} join({left}, {right}{on})")
            }
            (LogicalPlan::Aggregate(aggregate), Some(input)) => {
                let keys: Vec<String> = aggregate
                    .group_expr
                    .iter()
                    .map(|key| self.expanded_text(key, input))
                    .collect();
                let rows = self.relation(input, Order::Ignored);
                if keys.is_empty() {
                    format!("group({rows})")
                } else {
                    format!("group({rows}, by {})", keys.join(", "))
                }
            }
            (LogicalPlan::Distinct(Distinct::All(_)), Some(input)) => {
                let columns = self.columns(input);
                format!(
                    "distinct({}, {columns})",
                    self.relation(input, Order::Ignored)
                )
            }
            (LogicalPlan::Distinct(Distinct::On(on)), Some(input)) => {
                let keys: Vec<String> = on
                    .on_expr
                    .iter()
                    .map(|e| self.expanded_text(e, input))
                    .collect();
                let sorts = self.sorts(on.sort_expr.as_deref().unwrap_or_default(), input);
                let rows = self.relation(input, Order::Ignored);
                format!("distinct({rows}, on {}, by {sorts})", keys.join(", "))
            }
            (LogicalPlan::Limit(limit), Some(input)) => {
                let skip = match limit.get_skip_type() {
                    Ok(SkipType::Literal(skip)) => skip.to_string(),
                    _ => "computed".to_owned(),
                };
                let fetch = match limit.get_fetch_type() {
                    Ok(FetchType::Literal(Some(fetch))) => fetch.to_string(),
                    Ok(FetchType::Literal(None)) => "all".to_owned(),
                    _ => "computed".to_owned(),
                };
                format!(
                    "limit({}, {fetch} after {skip})",
                    self.relation(input, Order::Kept)
                )
            }
            (LogicalPlan::Sort(sort), Some(input)) if order == Order::Kept => {
                let sorts = self.sorts(&sort.expr, input);
                format!("sort({}, by {sorts})", self.relation(input, Order::Ignored))
            }
            (LogicalPlan::Union(_), _) => {
                let texts: Vec<String> = inputs
                    .into_iter()
                    .map(|input| self.relation(input, Order::Ignored))
                    .collect();
                format!("union({})", texts.join(", "))
            }
            (LogicalPlan::Unnest(unnest), Some(input)) => {
                let columns: Vec<String> = unnest
                    .exec_columns
                    .iter()
                    .filter_map(|column| input.index_of(column))
                    .map(|index| {
                        let expr = self.column(input, index);
                        self.text(&expr)
                    })
                    .collect();
                let rows = self.relation(input, Order::Ignored);
                format!("unnest({rows}, {})", columns.join(", "))
            }
            (LogicalPlan::EmptyRelation(_), _) => "one row".to_owned(),
            (LogicalPlan::Values(values), _) => {
                let rows: Vec<String> = values
                    .values
                    .iter()
                    .map(|row| {
                        let cells: Vec<String> = row.iter().map(|cell| self.text(cell)).collect();
                        format!("({})", cells.join(", "))
                    })
                    .collect();
                format!("values({})", rows.join(", "))
            }
            // Projections, aliases and windows neither add rows nor take any away.
            (_, Some(input)) => self.relation(input, order),
            (other, None) => other.display().to_string(),
        }
    }

    /// The conditions of filters with nothing between them that makes or drops rows, in the order of their texts, and
    /// what they filter.
    fn conditions(&mut self, mut node: Node<'a>) -> (Vec<String>, Node<'a>) {
        let mut conditions = Vec::new();
        while let Some(input) = node.inputs().into_iter().next() {
            match node.plan {
                LogicalPlan::Filter(filter) => {
                    for condition in split_conjunction(&filter.predicate) {
                        conditions.push(self.expanded_text(condition, input));
                    }
                }
                LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {}
                // A window sees the rows before the filters above it, and not those that filters below it drop.
                _ => break,
            }
            node = input;
        }
        conditions.sort();
        (conditions, node)
    }

    fn join_condition(&mut self, condition: &'a Expr, left: Node<'a>, right: Node<'a>) -> String {
        let expanded = condition.clone().transform_up(|expr| {
            Ok(match expr {
                Expr::Column(column) => {
                    Transformed::yes(match (left.index_of(&column), right.index_of(&column)) {
                        (Some(index), _) => self.column(left, index),
                        (None, Some(index)) => self.column(right, index),
                        (None, None) => Expr::Column(column),
                    })
                }
                other => Transformed::no(other),
            })
        });
        let expanded = expanded.map_or_else(|_| condition.clone(), |expanded| expanded.data);
        self.text(&expanded)
    }

    fn sorts(&mut self, sorts: &'a [SortExpr], input: Node<'a>) -> String {
        let texts: Vec<String> = sorts
            .iter()
            .map(|sort| {
                let direction = if sort.asc { "asc" } else { "desc" };
                let nulls = if sort.nulls_first { "first" } else { "last" };
                format!(
                    "{} {direction} nulls {nulls}",
                    self.expanded_text(&sort.expr, input)
                )
            })
            .collect();
        texts.join(", ")
    }

    fn expanded_text(&mut self, expr: &'a Expr, input: Node<'a>) -> String {
        let expr = self.expand(expr, input);
        self.text(&expr)
    }

    /// An expression that stands for a text.
    fn part(&mut self, text: String) -> Expr {
        self.parts.push(text);
        Expr::Column(Column::new_unqualified(part_name(self.parts.len() - 1)))
    }

    fn text(&self, expr: &Expr) -> String {
        let unparser = Unparser::new(&CanonicalDialect).with_pretty(true);
        let mut text = unparser
            .expr_to_sql(expr)
            .map_or_else(|_| expr.to_string(), |sql| sql.to_string());
        for (at, part) in self.parts.iter().enumerate().rev() {
            let name = part_name(at);
            if text.contains(&name) {
                text = text
                    .replace(&format!("\"{name}\""), part)
                    .replace(&name, part);
            }
        }
        text
    }
}

/// Whether the order of a relation's rows matters to what stands above it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Kept,
    Ignored,
}

/// A name that no column has: names of columns have no line breaks.
fn part_name(at: usize) -> String {
    format!("\u{1}{at}\u{1}")
}

/// The names of a plan's scans: the table's, and for the second scan of a table `weather#2`. Those of subqueries begin
/// with a `^` for each query they stand in.
fn scan_names(plan: &LogicalPlan, depth: usize) -> Vec<String> {
    let scans = scans(plan);
    let name = |at: usize| {
        scans
            .get(at)
            .map(|scan| scan.table_name.table())
            .unwrap_or_default()
    };
    (0..scans.len())
        .map(|at| {
            let earlier = (0..at).filter(|before| name(*before) == name(at)).count();
            let depth = "^".repeat(depth);
            match earlier {
                0 => format!("{depth}{}", name(at)),
                more => format!("{depth}{}#{}", name(at), more + 1),
            }
        })
        .collect()
}

/// The subqueries of an expression, in the order in which [`TreeNode::transform_up`] comes to them.
fn subqueries(expr: &Expr) -> Vec<&Subquery> {
    let mut found = Vec::new();
    collect_subqueries(expr, &mut found);
    found
}

fn collect_subqueries<'a>(expr: &'a Expr, found: &mut Vec<&'a Subquery>) {
    let _ = expr.apply_children(|child| {
        collect_subqueries(child, found);
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    match expr {
        Expr::ScalarSubquery(subquery)
        | Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. }) => found.push(subquery),
        _ => {}
    }
}

/// SQL whose quoting depends on the name alone, not on which words some release of the parser keeps for itself.
struct CanonicalDialect;

impl Dialect for CanonicalDialect {
    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '#' | '^');
        let digit = identifier.starts_with(|c: char| c.is_ascii_digit());
        (digit || identifier.is_empty() || !identifier.chars().all(plain)).then_some('"')
    }
}
