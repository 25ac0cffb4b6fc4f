//! What the names in a query mean: tables, columns, and what the query itself names.
//!
//! A quoted name means exactly what it says. An unquoted one means the same whatever its case, when only one thing has
//! it, and keeps the spelling of that thing: `SELECT Temp` is the feature `temp` of the column `temp`. What a query
//! names anew (`AS MeanDelay`) keeps the query's spelling.
//!
//! Every unknown name is found here, all at once; which of several tables a known name belongs to, the engine decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart,
    Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor,
    Visit, VisitMut, Visitor, VisitorMut, WildcardAdditionalOptions,
};
use vintner_core::nearest::nearest;

use super::{
    parse::place,
    problem::{Finding, ProblemPlace, QueryFor},
};
use crate::sources::LeftOut;

/// What a query can name: tables, by the names that queries use, and their columns.
pub(super) type Tables = BTreeMap<String, Table>;

/// The columns of one table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) kind: TableKind,
    pub(super) columns: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
}

/// What a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableKind {
    Source,
    View,
}

impl TableKind {
    /// What a query can write before a table's name.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::View => "view",
        }
    }

    /// The noun used in messages.
    const fn noun(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::View => "feature view",
        }
    }
}

/// Gives every name its spelling. Out: the tables that the query reads, in the order of their names, and what is
/// wrong.
pub(super) fn resolve(
    query: &mut Query,
    tables: &Tables,
    what: QueryFor,
) -> (BTreeSet<String>, Vec<Finding>) {
    let mut declared = Declared::default();
    let _ = Visit::visit(&*query, &mut declared);
    let mut relations = Relations {
        what,
        tables,
        ctes: &declared.ctes,
        used: BTreeSet::new(),
        findings: Vec::new(),
    };
    let _ = Visit::visit(&*query, &mut relations);
    let Relations {
        used, mut findings, ..
    } = relations;
    if !findings.is_empty() {
        return (used, findings);
    }
    let read: Vec<(&String, &Table)> = used
        .iter()
        .filter_map(|name| tables.get_key_value(name))
        .collect();
    let mut pool = declared.names;
    pool.extend(used.iter().cloned());
    for (_, table) in &read {
        pool.extend(table.columns.iter().cloned());
    }
    let mut spelling = Spelling {
        pool: Pool(&pool),
        read: &read,
        findings: BTreeMap::new(),
    };
    let _ = VisitMut::visit(query, &mut spelling);
    findings.extend(spelling.findings.into_values());
    (used, findings)
}

/// What the query itself names.
#[derive(Default)]
struct Declared {
    names: BTreeSet<String>,
    ctes: BTreeSet<String>,
}

impl Declared {
    fn table(&mut self, alias: &TableAlias) {
        self.names.insert(alias.name.value.clone());
        self.names
            .extend(alias.columns.iter().map(|column| column.name.value.clone()));
    }
}

impl Visitor for Declared {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let SetExpr::Values(values) = query.body.as_ref() {
            // The engine's own names for the columns.
            let width = values
                .rows
                .iter()
                .map(|row| row.len())
                .max()
                .unwrap_or_default();
            self.names
                .extend((1..=width).map(|column| format!("column{column}")));
        }
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes.insert(cte.alias.name.value.clone());
            self.table(&cte.alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.names.insert(alias.value.clone());
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                alias: Some(alias), ..
            }
            | TableFactor::Derived {
                alias: Some(alias), ..
            }
            | TableFactor::NestedJoin {
                alias: Some(alias), ..
            } => self.table(alias),
            TableFactor::UNNEST {
                alias,
                with_offset_alias,
                ..
            } => {
                alias.iter().for_each(|alias| self.table(alias));
                self.names
                    .extend(with_offset_alias.iter().map(|alias| alias.value.clone()));
                // The engine's own name for the column.
                self.names.insert("UNNEST".to_owned());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Lambda(lambda) = expr {
            self.names
                .extend(lambda.params.iter().map(|param| param.name.value.clone()));
        }
        ControlFlow::Continue(())
    }
}

/// Finds the tables that the query reads.
struct Relations<'a> {
    what: QueryFor,
    tables: &'a Tables,
    ctes: &'a BTreeSet<String>,
    used: BTreeSet<String>,
    findings: Vec<Finding>,
}

impl Relations<'_> {
    fn table(&self, ident: &Ident) -> Option<&String> {
        let exact = self.tables.keys().find(|name| **name == ident.value);
        let mut alike = self.tables.keys().filter(|name| alike(ident, name));
        exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
    }
}

impl Visitor for Relations<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let [ObjectNamePart::Identifier(ident)] = relation.0.as_slice() else {
            self.unknown(relation);
            return ControlFlow::Continue(());
        };
        if self
            .ctes
            .iter()
            .any(|cte| *cte == ident.value || alike(ident, cte))
        {
            return ControlFlow::Continue(());
        }
        match self.table(ident).cloned() {
            Some(name) => {
                self.used.insert(name);
            }
            None => self.unknown(relation),
        }
        ControlFlow::Continue(())
    }
}

impl Relations<'_> {
    fn unknown(&mut self, relation: &ObjectName) {
        let text = relation.to_string();
        let at = relation.0.iter().find_map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(place(ident.span)),
            ObjectNamePart::Function(_) => None,
        });
        let at = at.unwrap_or(ProblemPlace::QueryWhole);
        let qualified = self.tables.keys().filter(|table| {
            let name = table.split_once('.').map(|(_, name)| name);
            name.is_some_and(|name| name.eq_ignore_ascii_case(&text))
        });
        let qualified: Vec<String> = qualified.map(|table| format!("`{table}`")).collect();
        self.findings.push(match qualified.is_empty() {
            true => {
                let not_a_table = self.what.not_a_table();
                let message = format!("the query reads `{text}`, which {not_a_table}");
                Finding::new(at, "plan::unknown_source", message).nearest(&text, self.tables.keys())
            }
            false => {
                let message = format!("`{text}` is the name of a feature view and of a source");
                Finding::new(at, "plan::ambiguous_table", message)
                    .help(format!("write {}", qualified.join(" or ")))
            }
        });
    }
}

/// Whether an unquoted name equals another but for case.
pub(super) fn alike(ident: &Ident, name: &str) -> bool {
    ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case(name)
}

/// Every name that a query can use.
struct Pool<'a>(&'a BTreeSet<String>);

/// What a name is.
enum Meaning {
    Known,
    Respelled(String),
    /// Several things equal it but for case.
    Several(Vec<String>),
    Unknown,
}

impl Pool<'_> {
    fn meaning(&self, ident: &Ident) -> Meaning {
        if self.0.contains(&ident.value) {
            return Meaning::Known;
        }
        let alike: Vec<String> = self
            .0
            .iter()
            .filter(|name| alike(ident, name))
            .cloned()
            .collect();
        match alike.as_slice() {
            [] => Meaning::Unknown,
            [one] => Meaning::Respelled(one.clone()),
            _ => Meaning::Several(alike),
        }
    }
}

/// Gives names their spelling and finds the unknown ones. Findings are kept by place, since a name may be visited twice.
struct Spelling<'a> {
    pool: Pool<'a>,
    read: &'a [(&'a String, &'a Table)],
    findings: BTreeMap<ProblemPlace, Finding>,
}

impl Spelling<'_> {
    fn respell(&mut self, ident: &mut Ident) {
        match self.pool.meaning(ident) {
            Meaning::Known => {}
            Meaning::Respelled(name) => ident.value = name,
            Meaning::Several(names) => self.add(several(ident, &names)),
            // Columns of steps that were not given a name have the text of their expression: the engine knows them.
            Meaning::Unknown if is_quoted_text(ident) => {}
            Meaning::Unknown => self.add(self.unknown(ident)),
        }
    }

    fn respell_parts(&mut self, name: &mut ObjectName) {
        for part in &mut name.0 {
            if let ObjectNamePart::Identifier(ident) = part {
                self.respell(ident);
            }
        }
    }

    /// The names in `* EXCLUDE (…)`, `* EXCEPT (…)` and `* REPLACE (… AS name)`.
    fn respell_options(&mut self, options: &mut WildcardAdditionalOptions) {
        match &mut options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => self.respell_parts(name),
            Some(ExcludeSelectItem::Multiple(names)) => {
                names.iter_mut().for_each(|name| self.respell_parts(name));
            }
            None => {}
        }
        if let Some(except) = &mut options.opt_except {
            self.respell(&mut except.first_element);
            except
                .additional_elements
                .iter_mut()
                .for_each(|ident| self.respell(ident));
        }
        for replaced in options
            .opt_replace
            .iter_mut()
            .flat_map(|replace| &mut replace.items)
        {
            self.respell(&mut replaced.column_name);
        }
    }

    fn add(&mut self, finding: Finding) {
        self.findings.insert(finding.at.clone(), finding);
    }

    fn unknown(&self, ident: &Ident) -> Finding {
        let name = &ident.value;
        let at = place(ident.span);
        let left_out = self.read.iter().find_map(|(source, table)| {
            let found = table
                .left_out
                .iter()
                .find(|left_out| left_out.column == *name)?;
            Some((table.kind.noun(), source, &found.reason))
        });
        if let Some((noun, source, reason)) = left_out {
            let message = format!("the column `{name}` of the {noun} `{source}` {reason}");
            return Finding::new(at, "plan::unusable_column", message);
        }
        let message = match self.read {
            [] => format!("there is no column `{name}`"),
            [(one, table)] => {
                let noun = table.kind.noun();
                format!("the {noun} `{one}` has no column `{name}`")
            }
            many => {
                let only_sources = many
                    .iter()
                    .all(|(_, table)| table.kind == TableKind::Source);
                let noun = if only_sources { "sources" } else { "tables" };
                let many: Vec<String> = many.iter().map(|(one, _)| format!("`{one}`")).collect();
                format!(
                    "none of the {noun} {} has a column `{name}`",
                    many.join(", ")
                )
            }
        };
        let finding = Finding::new(at, "plan::unknown_column", message);
        match nearest(name, self.pool.0.iter().map(String::as_str)) {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => finding.nearest(name, self.read.iter().flat_map(|(_, table)| &table.columns)),
        }
    }
}

/// Whether a name in double quotes could not be a name without them.
fn is_quoted_text(ident: &Ident) -> bool {
    ident.quote_style == Some('"') && is_text(&ident.value)
}

/// Whether it reads like a text, not like a name.
pub(super) fn is_text(name: &str) -> bool {
    name.contains(|c: char| !c.is_alphanumeric() && c != '_')
}

fn several(ident: &Ident, names: &[String]) -> Finding {
    let all: Vec<String> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
    Finding::new(
        place(ident.span),
        "plan::ambiguous_column",
        format!("`{}` may be {}", ident.value, all.join(" or ")),
    )
    .help("put the name in double quotes, spelled as you mean it")
}

fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    use JoinOperator as Op;
    match operator {
        Op::Join(constraint)
        | Op::Inner(constraint)
        | Op::Left(constraint)
        | Op::LeftOuter(constraint)
        | Op::Right(constraint)
        | Op::RightOuter(constraint)
        | Op::FullOuter(constraint)
        | Op::CrossJoin(constraint)
        | Op::Semi(constraint)
        | Op::LeftSemi(constraint)
        | Op::RightSemi(constraint)
        | Op::Anti(constraint)
        | Op::LeftAnti(constraint)
        | Op::RightAnti(constraint)
        | Op::StraightJoin(constraint)
        | Op::AsOf { constraint, .. } => Some(constraint),
        Op::CrossApply
        | Op::OuterApply
        | Op::ArrayJoin
        | Op::LeftArrayJoin
        | Op::InnerArrayJoin => None,
    }
}

impl VisitorMut for Spelling<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        self.respell_parts(relation);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.respell(ident),
            Expr::CompoundIdentifier(parts) => parts.iter_mut().for_each(|part| self.respell(part)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) => self.respell_options(options),
                SelectItem::QualifiedWildcard(kind, options) => {
                    if let SelectItemQualifiedWildcardKind::ObjectName(name) = kind {
                        self.respell_parts(name);
                    }
                    self.respell_options(options);
                }
                _ => {}
            }
        }
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Some(JoinConstraint::Using(columns)) = constraint_mut(&mut join.join_operator) {
                columns
                    .iter_mut()
                    .for_each(|column| self.respell_parts(column));
            }
        }
        ControlFlow::Continue(())
    }
}
