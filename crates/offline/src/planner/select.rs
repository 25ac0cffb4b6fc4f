//! The columns that a query selects, as they are written: for places and texts in messages.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SelectItem, SetExpr, Spanned};

use super::{
    parse::place,
    problem::{Finding, ProblemPlace},
};

/// What a view is made from, as written: a query, or none for all columns of a source.
#[derive(Clone, Copy)]
pub(super) struct Written<'a>(pub(super) Option<&'a Query>);

impl<'a> Written<'a> {
    /// The place of the whole.
    pub(super) fn whole(self) -> ProblemPlace {
        match self.0 {
            Some(_) => ProblemPlace::QueryWhole,
            None => ProblemPlace::Field("source"),
        }
    }

    /// The place where an output column is selected; the whole where that is not known.
    pub(super) fn place(self, index: usize) -> ProblemPlace {
        self.item(index)
            .map_or_else(|| self.whole(), |item| place(item.span()))
    }

    /// The expression of an output column, its name where that is not known.
    pub(super) fn expression(self, index: usize, name: &str) -> String {
        match self.item(index) {
            Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => {
                one_line(&expr.to_string())
            }
            _ => name.to_owned(),
        }
    }

    /// An output column as it is written, its name where that is not known.
    pub(super) fn column(self, index: usize, name: &str) -> String {
        self.item(index)
            .map_or_else(|| one_line(name), |item| one_line(&item.to_string()))
    }

    /// Columns that are selected under one name. The engine refuses some of them with fewer words.
    pub(super) fn duplicates(self) -> Vec<Finding> {
        let mut seen = BTreeSet::new();
        let items = self.select().map(|select| select.projection.iter());
        items
            .into_iter()
            .flatten()
            .filter_map(|item| Some((item, name(item)?)))
            .filter(|(_, name)| !seen.insert(name.clone()))
            .map(|(item, name)| duplicate(place(item.span()), &name))
            .collect()
    }

    fn select(self) -> Option<&'a Select> {
        match self.0?.body.as_ref() {
            SetExpr::Select(select) => Some(select),
            _ => None,
        }
    }

    /// The item of an output column. A `*` before it makes that unknown.
    fn item(self, index: usize) -> Option<&'a SelectItem> {
        let items = &self.select()?.projection;
        let plain = |item: &SelectItem| {
            matches!(
                item,
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
            )
        };
        items
            .get(index)
            .filter(|_| items.iter().take(index + 1).all(plain))
    }
}

/// Two columns of one name.
pub(super) fn duplicate(at: ProblemPlace, name: &str) -> Finding {
    let message = format!("the query gives two columns `{name}`");
    Finding::new(at, "plan::duplicate_column", message)
        .help("leave one of them out, or give it another name with AS")
}

/// The name that an item gives its column, where it says so.
fn name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
            parts.last().map(|ident| ident.value.clone())
        }
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
