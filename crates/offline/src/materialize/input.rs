//! The rows of a view's query over parts of its sources.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    common::ScalarValue,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit},
};
use vintner_core::{SourceName, Timestamp};
use vintner_registry::model::{Source, ViewRevision};

use super::{
    error::MaterializeError, plan::PartBatch, progress::SourcePart, request::EventWindow,
    run::MaterializeContext,
};
use crate::{
    delta::layout::EVENT_TIMESTAMP,
    planner::view_plan,
    sources::{DeltaFile, SourceState, Subset},
};

/// A view's sources as they were found at the beginning of the run: what is read is exactly what is recorded.
pub(super) struct Input<'a> {
    pub(super) context: &'a MaterializeContext<'a>,
    pub(super) view: &'a ViewRevision,
    pub(super) sources: &'a BTreeMap<SourceName, Source>,
    pub(super) states: &'a BTreeMap<SourceName, SourceState>,
}

impl Input<'_> {
    /// All rows.
    pub(super) async fn all(&self) -> Result<LogicalPlan, MaterializeError> {
        self.rows(None).await
    }

    /// The rows of some files of the followed source.
    pub(super) async fn parts(
        &self,
        source: &SourceName,
        batch: &PartBatch,
    ) -> Result<LogicalPlan, MaterializeError> {
        let mut files = Vec::new();
        let mut delta_files = Vec::new();
        for part in batch.parts.iter().cloned() {
            match part {
                SourcePart::File(file) => files.push(file),
                SourcePart::Delta { path, version } => {
                    delta_files.push(DeltaFile { path, version })
                }
            }
        }
        let subset = match delta_files.is_empty() {
            true => Subset::Files(files),
            false => Subset::DeltaFiles(delta_files),
        };
        self.rows(Some((source, subset))).await
    }

    async fn rows(
        &self,
        part: Option<(&SourceName, Subset)>,
    ) -> Result<LogicalPlan, MaterializeError> {
        let mut tables: BTreeMap<SourceName, Arc<dyn TableProvider>> = BTreeMap::new();
        for (name, state) in self.states {
            let Some(source) = self.sources.get(name) else {
                continue;
            };
            let subset = match &part {
                Some((followed, subset)) if *followed == name => subset.clone(),
                _ => Subset::State(state.clone()),
            };
            let table = self.context.sources.table(source, &source.columns, subset);
            let table = table.await.map_err(|e| self.source_error(e))?;
            tables.insert(name.clone(), table);
        }
        let plan = view_plan(self.view, &tables);
        plan.map_err(|e| MaterializeError::Query {
            view: self.view.id.clone(),
            source: Box::new(e),
        })
    }

    pub(super) fn source_error(&self, source: crate::sources::SourceError) -> MaterializeError {
        MaterializeError::Source {
            view: self.view.id.clone(),
            source: Box::new(source),
        }
    }
}

/// The rows of a plan that are not before a window, and not after it when `both` sides are asked for. Files and row
/// groups without such rows are not read.
pub(super) fn within(
    plan: LogicalPlan,
    window: EventWindow,
    sides: Sides,
) -> datafusion::error::Result<LogicalPlan> {
    let event = || ident(EVENT_TIMESTAMP);
    let after = (window.start > Timestamp::MIN).then(|| event().gt_eq(instant(window.start)));
    let before = window.end.filter(|_| sides == Sides::Both);
    let before = before.map(|end| event().lt(instant(end)));
    let filter = after.into_iter().chain(before).reduce(Expr::and);
    match filter {
        Some(filter) => LogicalPlanBuilder::from(plan).filter(filter)?.build(),
        None => Ok(plan),
    }
}

/// Which ends of a window bound what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sides {
    /// Both.
    Both,
    /// The start alone: rows after the end are counted.
    Start,
}

/// An instant as a literal.
pub(super) fn instant(at: Timestamp) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(
        Some(at.micros()),
        Some("UTC".into()),
    ))
}
