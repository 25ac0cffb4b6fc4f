//! interim
use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    common::ScalarValue,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit},
    prelude::SessionContext,
};
use vintner_core::{ScalarType, SourceName, Timestamp};
use vintner_registry::model::{Refresh, ViewInput, ViewRevision};

pub(super) async fn view_plan(
    view: &ViewRevision,
    tables: &BTreeMap<SourceName, Arc<dyn TableProvider>>,
) -> datafusion::error::Result<LogicalPlan> {
    let ctx = SessionContext::new();
    for (name, table) in tables {
        ctx.register_table(name.as_str(), table.clone())?;
    }
    let sql = match &view.input {
        ViewInput::Source(name) => format!("SELECT * FROM {name}"),
        ViewInput::Query(sql) => sql.clone(),
    };
    let plan = ctx.state().create_logical_plan(&sql).await?;
    let ts = || ScalarType::Timestamp.arrow();
    let time = |column: &Option<vintner_core::ColumnName>, name: &str| -> Expr {
        match (column, &view.refresh) {
            (Some(c), _) => cast(ident(c.as_str()), ts()).alias(name),
            (None, Refresh::Static { .. }) => lit(ScalarValue::TimestampMicrosecond(
                Some(Timestamp::BEGINNING.micros()),
                Some("UTC".into()),
            ))
            .alias(name),
            (None, _) => lit(ScalarValue::try_from(&ts()).unwrap()).alias(name),
        }
    };
    let keys = view
        .keys()
        .iter()
        .map(|k| cast(ident(k.name.as_str()), k.key_type.arrow()).alias(k.name.as_str()));
    let times = [
        time(&view.event_timestamp, "event_timestamp"),
        time(&view.created_timestamp, "created_timestamp"),
    ];
    let features = view
        .features
        .iter()
        .map(|f| cast(ident(f.name.as_str()), f.feature_type.arrow()).alias(f.name.as_str()));
    let exprs: Vec<Expr> = keys.chain(times).chain(features).collect();
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}
