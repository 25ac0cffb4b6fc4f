//! Where a column of a plan comes from, one step at a time: what lineage and canonical forms are walked with.

use datafusion::logical_expr::{
    Distinct, Expr, JoinType, LogicalPlan, TableScan, utils::grouping_set_to_exprlist,
};

/// A node of a plan. Two scans of one table are different things, so a node knows how many scans stand before it.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) plan: &'a LogicalPlan,
    /// How many scans there are to the left of this node's first one.
    pub(super) before: usize,
}

/// Where a column comes from.
pub(super) enum Origin<'a> {
    /// It is a column of a table: of the scan with this number.
    Scanned {
        table: &'a TableScan,
        scan: usize,
        name: &'a str,
    },
    /// It is computed from columns of another node.
    Computed { expr: &'a Expr, input: Node<'a> },
    /// It is a column of another node, as it is.
    Same { input: Node<'a>, index: usize },
    /// It is one of these columns, for each row another.
    OneOf(Vec<(Node<'a>, usize)>),
    /// It is the elements of a list.
    Unnested { input: Node<'a>, index: usize },
    /// It comes from no table.
    Constant(String),
}

impl<'a> Node<'a> {
    pub(super) fn root(plan: &'a LogicalPlan) -> Self {
        Self { plan, before: 0 }
    }

    /// The node's inputs, each with its number of scans before.
    pub(super) fn inputs(self) -> Vec<Node<'a>> {
        let mut before = self.before;
        self.plan
            .inputs()
            .into_iter()
            .map(|plan| {
                let node = Node { plan, before };
                before += scans(plan).len();
                node
            })
            .collect()
    }

    fn input(self, at: usize) -> Option<Node<'a>> {
        self.inputs().into_iter().nth(at)
    }

    fn width(self) -> usize {
        self.plan.schema().fields().len()
    }

    /// Where the column with this index comes from.
    pub(super) fn origin(self, index: usize) -> Origin<'a> {
        self.known_origin(index)
            .unwrap_or_else(|| Origin::Constant(format!("{} column {index}", self.plan.display())))
    }

    fn known_origin(self, index: usize) -> Option<Origin<'a>> {
        let same = |input, index| Some(Origin::Same { input, index });
        let computed = |expr, input| Some(Origin::Computed { expr, input });
        match self.plan {
            LogicalPlan::TableScan(table) => Some(Origin::Scanned {
                table,
                scan: self.before,
                name: table.projected_schema.fields().get(index)?.name(),
            }),
            LogicalPlan::Projection(projection) => {
                computed(projection.expr.get(index)?, self.input(0)?)
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                computed(on.select_expr.get(index)?, self.input(0)?)
            }
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Distinct(Distinct::All(_))
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_) => same(self.input(0)?, index),
            LogicalPlan::Window(window) => {
                let input = self.input(0)?;
                match index.checked_sub(input.width()) {
                    None => same(input, index),
                    Some(at) => computed(window.window_expr.get(at)?, input),
                }
            }
            LogicalPlan::Aggregate(aggregate) => {
                let input = self.input(0)?;
                let keys = grouping_set_to_exprlist(&aggregate.group_expr).ok()?;
                // After the keys of a grouping set comes the engine's own number of the set.
                let grouping = usize::from(matches!(
                    aggregate.group_expr.first(),
                    Some(Expr::GroupingSet(_))
                ));
                match index.checked_sub(keys.len() + grouping) {
                    Some(at) => computed(aggregate.aggr_expr.get(at)?, input),
                    None => computed(keys.get(index)?, input),
                }
            }
            LogicalPlan::Join(join) => {
                let (left, right) = (self.input(0)?, self.input(1)?);
                match (join.join_type, index.checked_sub(left.width())) {
                    (JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark, _)
                        if index < right.width() =>
                    {
                        same(right, index)
                    }
                    (_, None) => same(left, index),
                    (_, Some(at)) if at < right.width() => same(right, at),
                    _ => None,
                }
            }
            LogicalPlan::Union(_) => Some(Origin::OneOf(
                self.inputs()
                    .into_iter()
                    .map(|input| (input, index))
                    .collect(),
            )),
            LogicalPlan::Unnest(unnest) => {
                let input = self.input(0)?;
                let at = *unnest.dependency_indices.get(index)?;
                let list = unnest
                    .list_type_columns
                    .iter()
                    .any(|(column, _)| *column == at);
                let structure = unnest.struct_type_columns.contains(&at);
                if list || structure {
                    Some(Origin::Unnested { input, index: at })
                } else {
                    same(input, at)
                }
            }
            _ => None,
        }
    }

    /// The index of a column that an expression over this node names.
    pub(super) fn index_of(self, column: &datafusion::common::Column) -> Option<usize> {
        self.plan.schema().maybe_index_of_column(column)
    }
}

/// The scans of a plan from left to right, those inside expressions left aside.
pub(super) fn scans(plan: &LogicalPlan) -> Vec<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => vec![scan],
        other => other.inputs().into_iter().flat_map(scans).collect(),
    }
}

/// The column of a table that this column is, if nothing is done to it on the way.
pub(super) fn passed_through(node: Node<'_>, index: usize) -> Option<(&TableScan, &str)> {
    match node.origin(index) {
        Origin::Scanned { table, name, .. } => Some((table, name)),
        Origin::Same { input, index } => passed_through(input, index),
        Origin::Computed { expr, input } => match expr {
            Expr::Column(column) => passed_through(input, input.index_of(column)?),
            Expr::Alias(alias) => match alias.expr.as_ref() {
                Expr::Column(column) => passed_through(input, input.index_of(column)?),
                _ => None,
            },
            _ => None,
        },
        // The same column in every branch of a union is that column.
        Origin::OneOf(columns) => {
            let mut found = columns
                .into_iter()
                .map(|(input, index)| passed_through(input, index));
            let first = found.next()??;
            let same = |other: Option<(&TableScan, &str)>| {
                other.is_some_and(|(table, name)| {
                    table.table_name == first.0.table_name && name == first.1
                })
            };
            found.all(same).then_some(first)
        }
        Origin::Unnested { .. } | Origin::Constant(_) => None,
    }
}
