//! Reads a version of a table with the columns of a view.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::{
    catalog::{TableProvider, view::ViewTable},
    common::ScalarValue,
    datasource::{empty::EmptyTable, provider_as_source},
    error::DataFusionError,
    execution::{SessionState, SessionStateBuilder},
    logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, ident, lit},
    prelude::SessionConfig,
};
use deltalake::{DeltaTable, delta_datafusion::FileSelection};
use vintner_core::{KeySchema, KeyValue, ProjectName, ViewId};
use vintner_registry::model::ViewRevision;

use super::{
    error::DeltaError,
    layout::ViewLayout,
    store::OfflineStore,
    table::{DataFile, Table, TableState},
};
use crate::feature_table::{FeatureFile, FeatureTable};

/// Up to so many entities, a scan is asked for just these.
const ENTITIES_ASKED_FOR: usize = 64;

/// A view's table at one version of it, or before its first write, when it has no rows.
#[derive(Clone, Debug)]
pub struct OpenTable {
    view: ViewId,
    layout: ViewLayout,
    table: Table,
    state: Option<TableState>,
}

impl OfflineStore {
    /// A view's table as of now.
    ///
    /// # Errors
    /// [`DeltaError`] when its log cannot be read.
    pub async fn open_newest(
        &self,
        project: &ProjectName,
        view: &ViewRevision,
    ) -> Result<OpenTable, DeltaError> {
        let table = self.table(project, &view.id)?;
        let state = table.newest().await?;
        Ok(OpenTable::of(view, table, state))
    }

    /// A view's table as of a version of it; none is before the first write.
    ///
    /// # Errors
    /// [`DeltaError`] when there is no such version, or the log cannot be read.
    pub async fn open_at(
        &self,
        project: &ProjectName,
        view: &ViewRevision,
        version: Option<u64>,
    ) -> Result<OpenTable, DeltaError> {
        let table = self.table(project, &view.id)?;
        let state = match version {
            Some(version) => Some(table.at(version).await?),
            None => None,
        };
        Ok(OpenTable::of(view, table, state))
    }
}

impl OpenTable {
    fn of(view: &ViewRevision, table: Table, state: Option<TableState>) -> Self {
        Self {
            view: view.id.clone(),
            layout: ViewLayout::of(view),
            table,
            state,
        }
    }

    /// The view version whose table it is.
    pub fn view(&self) -> &ViewId {
        &self.view
    }

    /// The version; none before the first write.
    pub fn version(&self) -> Option<u64> {
        self.state.as_ref().map(TableState::version)
    }

    /// What tells the table from one that was at the same place before.
    pub fn id(&self) -> Option<&str> {
        self.state.as_ref().map(TableState::id)
    }

    /// The files, as the join reads them.
    ///
    /// # Errors
    /// [`DeltaError::Type`] when a column has another type than the view says; [`DeltaError::Read`] when another
    /// writer has given the table features that change what its files mean.
    pub fn feature_table(&self) -> Result<FeatureTable, DeltaError> {
        match &self.state {
            Some(state) => state.feature_table(&self.layout),
            None => Ok(FeatureTable::empty(self.table.location())),
        }
    }

    /// The rows, as queries read them. Out: exactly the columns of [`ViewLayout`]. A feature that the table does not
    /// have yet reads as null; a column that the view no longer has is left out.
    ///
    /// # Errors
    /// [`DeltaError`], also when a column of the table has another type than the view says.
    pub async fn rows(&self) -> Result<Arc<dyn TableProvider>, DeltaError> {
        match &self.state {
            Some(state) => state.provider(&self.layout, None).await,
            None => Ok(Arc::new(EmptyTable::new(self.layout.arrow().clone()))),
        }
    }
}

impl TableState {
    /// The data files of this version.
    ///
    /// # Errors
    /// [`DeltaError::Type`] when a column has another type than `layout` says; [`DeltaError::Read`] when another
    /// writer has given the table features that change what its files mean.
    pub(crate) fn feature_table(&self, layout: &ViewLayout) -> Result<FeatureTable, DeltaError> {
        self.check_types(layout)?;
        let files = self.files();
        if self.reader_version() > 1 || files.iter().any(DataFile::has_deleted_rows) {
            return Err(self.table().read_error(
                "another writer has given the table Delta features that Vintner does not write, such as deletion \
                 vectors; materialize the view with --full-refresh",
            ));
        }
        let file = |file: DataFile| FeatureFile {
            path: file.path(),
            bytes: file.bytes(),
            rows: file.rows(),
            events: file.events().map(|events| (events.first, events.last)),
        };
        let files = files.into_iter().map(file).collect();
        let (location, objects) = (self.table().location(), self.table().objects());
        Ok(FeatureTable::new(location, objects, files))
    }

    /// The rows of this version, or of some of its files, with the columns of `layout`.
    ///
    /// # Errors
    /// [`DeltaError`], also when a column has another type than `layout` says.
    pub(crate) async fn provider(
        &self,
        layout: &ViewLayout,
        files: Option<Vec<String>>,
    ) -> Result<Arc<dyn TableProvider>, DeltaError> {
        self.check_types(layout)?;
        let plan = self.rows_plan(layout.arrow(), files).await;
        let plan = plan.map_err(|e| self.table().read_error(e))?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }

    /// The rows as a plan with the columns of `schema`, by name; what the table does not have is null.
    pub(crate) async fn rows_plan(
        &self,
        schema: &SchemaRef,
        files: Option<Vec<String>>,
    ) -> Result<LogicalPlan, DataFusionError> {
        let mut scan = DeltaTable::new(self.table().log().clone())
            .table_provider()
            .with_eager_snapshot(self.snapshot().clone())
            .with_session(Arc::new(scan_settings()));
        if let Some(files) = files {
            scan = scan.with_file_selection(FileSelection::from_file_paths(files));
        }
        let scan: Arc<dyn TableProvider> = scan.await?;
        let scan = LogicalPlanBuilder::scan("data", provider_as_source(scan), None)?;
        let found = scan.schema().clone();
        let columns = schema
            .fields()
            .iter()
            .map(|field| -> Result<Expr, DataFusionError> {
                let name = field.name();
                let wanted = field.data_type();
                if !found.has_column_with_unqualified_name(name) {
                    return Ok(lit(ScalarValue::try_from(wanted)?).alias(name));
                }
                let column = ident(name);
                Ok(match column.get_type(&found)? == *wanted {
                    true => column,
                    false => cast(column, wanted.clone()).alias(name),
                })
            });
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        scan.project(columns)?.build()
    }

    /// The rows of this version as a plan with the columns of the table.
    pub(crate) async fn all_rows_plan(&self) -> Result<LogicalPlan, DataFusionError> {
        let scan = DeltaTable::new(self.table().log().clone())
            .table_provider()
            .with_eager_snapshot(self.snapshot().clone())
            .with_session(Arc::new(scan_settings()));
        let scan: Arc<dyn TableProvider> = scan.await?;
        LogicalPlanBuilder::scan("data", provider_as_source(scan), None)?.build()
    }

    /// Refuses a table of which a column has another type than `layout` says.
    pub(crate) fn check_types(&self, layout: &ViewLayout) -> Result<(), DeltaError> {
        let wanted = layout.delta()?;
        let found = self.columns();
        for field in wanted.fields() {
            match found.field(field.name()) {
                Some(column) if column.data_type() != field.data_type() => {
                    return Err(DeltaError::Type {
                        table: self.table().to_string(),
                        column: field.name().clone(),
                        found: column.data_type().to_string(),
                        wanted: field.data_type().to_string(),
                    });
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// At least the rows of some entities, each the values of the join keys of a schema: files, row groups and pages that can
/// have none are left out when the entities are few, and else the rows of all come.
pub(crate) fn at_least_of(
    schema: &KeySchema,
    entities: &[Vec<KeyValue>],
    rows: LogicalPlan,
) -> Result<LogicalPlan, DataFusionError> {
    if entities.len() > ENTITIES_ASKED_FOR {
        return Ok(rows);
    }
    let columns = schema.join_keys().iter().enumerate();
    let filters = columns.map(|(place, key)| {
        let values = entities.iter().filter_map(|values| values.get(place));
        let values = values.map(|value| lit(literal(value))).collect();
        ident(key.name.as_str()).in_list(values, false)
    });
    match filters.reduce(Expr::and) {
        Some(filter) => LogicalPlanBuilder::from(rows).filter(filter)?.build(),
        None => Ok(rows),
    }
}

fn literal(value: &KeyValue) -> ScalarValue {
    match value {
        KeyValue::Bool(v) => ScalarValue::from(*v),
        KeyValue::Int32(v) => ScalarValue::from(*v),
        KeyValue::Int64(v) => ScalarValue::from(*v),
        KeyValue::String(v) => ScalarValue::from(v.as_str()),
        KeyValue::Bytes(v) => ScalarValue::Binary(Some(v.clone())),
    }
}

/// What the scan takes from a session: columns come in exactly the types of the table, and filters are applied while
/// Parquet is decoded.
fn scan_settings() -> SessionState {
    let mut config = SessionConfig::new();
    let parquet = &mut config.options_mut().execution.parquet;
    parquet.schema_force_view_types = false;
    parquet.pushdown_filters = true;
    SessionStateBuilder::new().with_config(config).build()
}
