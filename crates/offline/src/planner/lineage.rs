//! Which source columns a feature's value comes from.
//!
//! Only values count: filters, join conditions, grouping keys and the partitions and orders of windows decide which
//! rows there are, and are left aside. The condition of a CASE does decide the value.

use std::collections::BTreeSet;

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::{
        Expr, LogicalPlan,
        expr::{Exists, InSubquery, SetComparison},
    },
};
use vintner_registry::model::SourceColumn;

use super::origin::{Node, Origin};

/// The source columns of the column with this index.
pub(super) fn of_column(plan: &LogicalPlan, index: usize) -> Vec<SourceColumn> {
    let mut walk = Walk {
        found: BTreeSet::new(),
        outer: Vec::new(),
    };
    walk.column(Node::root(plan), index);
    walk.found.into_iter().collect()
}

struct Walk<'a> {
    found: BTreeSet<SourceColumn>,
    /// What the subqueries that are being walked stand in, the innermost last.
    outer: Vec<Node<'a>>,
}

impl<'a> Walk<'a> {
    fn column(&mut self, node: Node<'a>, index: usize) {
        match node.origin(index) {
            Origin::Scanned { table, name, .. } => {
                if let Ok(source) = table.table_name.table().parse() {
                    self.found.insert(SourceColumn {
                        source,
                        column: name.to_owned(),
                    });
                }
            }
            Origin::Computed { expr, input } => self.value(expr, input),
            Origin::Same { input, index } | Origin::Unnested { input, index } => {
                self.column(input, index)
            }
            Origin::OneOf(columns) => {
                for (input, index) in columns {
                    self.column(input, index);
                }
            }
            Origin::Constant(_) => {}
        }
    }

    /// The columns that the value of an expression over `input` comes from.
    fn value(&mut self, expr: &'a Expr, input: Node<'a>) {
        let _ = expr.apply(|expr| {
            Ok(match expr {
                Expr::Column(column) => {
                    if let Some(index) = input.index_of(column) {
                        self.column(input, index);
                    }
                    TreeNodeRecursion::Continue
                }
                Expr::OuterReferenceColumn(_, column) => {
                    self.outer_column(column);
                    TreeNodeRecursion::Continue
                }
                Expr::AggregateFunction(function) => {
                    self.values(&function.params.args, input);
                    TreeNodeRecursion::Jump
                }
                Expr::WindowFunction(function) => {
                    self.values(&function.params.args, input);
                    // A rank has no argument: its value is the order itself.
                    if function.params.args.is_empty() {
                        for sort in &function.params.order_by {
                            self.value(&sort.expr, input);
                        }
                    }
                    TreeNodeRecursion::Jump
                }
                Expr::ScalarSubquery(subquery)
                | Expr::InSubquery(InSubquery { subquery, .. })
                | Expr::SetComparison(SetComparison { subquery, .. })
                | Expr::Exists(Exists { subquery, .. }) => {
                    if !matches!(expr, Expr::Exists(_)) {
                        self.outer.push(input);
                        self.column(Node::root(&subquery.subquery), 0);
                        self.outer.pop();
                    }
                    TreeNodeRecursion::Continue
                }
                _ => TreeNodeRecursion::Continue,
            })
        });
    }

    fn values(&mut self, exprs: &'a [Expr], input: Node<'a>) {
        for expr in exprs {
            self.value(expr, input);
        }
    }

    fn outer_column(&mut self, column: &datafusion::common::Column) {
        let found = (0..self.outer.len()).rev().find_map(|depth| {
            let node = self.outer.get(depth).copied()?;
            Some((depth, node, node.index_of(column)?))
        });
        if let Some((depth, node, index)) = found {
            let inner = self.outer.split_off(depth);
            self.column(node, index);
            self.outer.extend(inner);
        }
    }
}
