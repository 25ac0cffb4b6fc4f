//! The table over files that were listed before: it reads exactly those, so that what a run records is what it read.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{Statistics, config::TableParquetOptions, project_schema, stats::Precision},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, FileSource, ParquetSource,
            parquet::CachedParquetFileReaderFactory,
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::DataFusionError,
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::{ExecutionPlan, empty::EmptyExec},
};
use object_store::{ObjectMeta, ObjectStore};
use vintner_registry::model::SourceFormat;

use super::{
    adapter::NormalisingAdapter,
    located::{LocatedSource, Origin},
    text::TextSource,
};

/// Files of one source, read as its normalised schema.
#[derive(Debug)]
pub(super) struct FilesTable {
    pub(super) origin: Arc<Origin>,
    /// The columns asked for, as [`vintner_core::FeatureType::arrow`].
    pub(super) schema: SchemaRef,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) store_url: ObjectStoreUrl,
    pub(super) files: Vec<ObjectMeta>,
}

impl FilesTable {
    fn file_source(&self, session: &dyn Session) -> Arc<dyn FileSource> {
        let schema = TableSchema::from(Arc::clone(&self.schema));
        match self.origin.format {
            SourceFormat::Parquet | SourceFormat::Delta => {
                let footers = session
                    .runtime_env()
                    .cache_manager
                    .get_file_metadata_cache();
                let readers = CachedParquetFileReaderFactory::new(Arc::clone(&self.store), footers);
                let options = TableParquetOptions {
                    global: session.config_options().execution.parquet.clone(),
                    ..TableParquetOptions::default()
                };
                Arc::new(
                    ParquetSource::new(schema)
                        .with_table_parquet_options(options)
                        .with_parquet_file_reader_factory(Arc::new(readers)),
                )
            }
            SourceFormat::Csv | SourceFormat::Json => {
                Arc::new(TextSource::new(schema, Arc::clone(&self.origin)))
            }
        }
    }

    /// Estimates for the optimizer, never exact: a file may be written again before it is read.
    fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let bytes: u64 = self.files.iter().map(|file| file.size).sum();
        statistics.total_byte_size =
            Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX));
        statistics
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        // Parquet prunes row groups and pages by the filter, and the engine filters the rows that are left.
        let pushdown = match self.origin.format {
            SourceFormat::Parquet | SourceFormat::Delta => TableProviderFilterPushDown::Inexact,
            SourceFormat::Csv | SourceFormat::Json => TableProviderFilterPushDown::Unsupported,
        };
        Ok(vec![pushdown; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(
                &self.schema,
                projection,
            )?)));
        }
        session
            .runtime_env()
            .register_object_store(self.store_url.as_ref(), Arc::clone(&self.store));
        let files = self
            .files
            .iter()
            .cloned()
            .map(PartitionedFile::new_from_meta);
        let groups =
            FileGroup::new(files.collect()).split_files(session.config().target_partitions());
        let source = LocatedSource::wrap(self.file_source(session), Arc::clone(&self.origin));
        let scan = FileScanConfigBuilder::new(self.store_url.clone(), source)
            .with_file_groups(groups)
            .with_statistics(self.statistics())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(NormalisingAdapter)))
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}
