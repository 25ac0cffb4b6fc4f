//! The scan of files of text: CSV and newline-delimited JSON, straight into the normalised types, with the line of
//! every mistake.
//!
//! A file is read from its beginning by one reader: only so is a line break inside quotes told from the end of a row.

use std::sync::Arc;

use arrow::{datatypes::SchemaRef, error::ArrowError};
use bytes::Bytes;
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource},
        projection::{ProjectionOpener, SplitProjection},
        table_schema::TableSchema,
    },
    error::DataFusionError,
    physical_expr::{PhysicalExpr, projection::ProjectionExprs},
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use vintner_registry::model::SourceFormat;

use super::{
    csv::CsvRows, error::SourceError, json::JsonRows, listing::store_error_of, located::Origin,
};

/// The scan of files of text.
#[derive(Clone)]
pub(super) struct TextSource {
    origin: Arc<Origin>,
    schema: TableSchema,
    projection: SplitProjection,
    batch_size: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl TextSource {
    pub(super) fn new(schema: TableSchema, origin: Arc<Origin>) -> Self {
        Self {
            origin,
            projection: SplitProjection::unprojected(&schema),
            schema,
            batch_size: 8192,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl FileSource for TextSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        _: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>, DataFusionError> {
        let wanted = self
            .schema
            .file_schema()
            .project(&self.projection.file_indices)?;
        let opener = TextOpener {
            store,
            origin: Arc::clone(&self.origin),
            wanted: Arc::new(wanted),
            batch_size: self.batch_size,
        };
        ProjectionOpener::try_new(
            self.projection.clone(),
            Arc::new(opener),
            self.schema.file_schema(),
        )
    }

    fn table_schema(&self) -> &TableSchema {
        &self.schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self {
            batch_size,
            ..self.clone()
        })
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>, DataFusionError> {
        let merged = self.projection.source.try_merge(projection)?;
        Ok(Some(Arc::new(Self {
            projection: SplitProjection::new(self.schema.file_schema(), &merged),
            ..self.clone()
        })))
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        match self.origin.format {
            SourceFormat::Csv => "csv",
            _ => "json",
        }
    }

    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        for projected in self.projection.source.iter() {
            if visit(&projected.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

struct TextOpener {
    store: Arc<dyn ObjectStore>,
    origin: Arc<Origin>,
    wanted: SchemaRef,
    batch_size: usize,
}

impl FileOpener for TextOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture, DataFusionError> {
        let (store, origin) = (Arc::clone(&self.store), Arc::clone(&self.origin));
        let (wanted, batch_size) = (Arc::clone(&self.wanted), self.batch_size);
        Ok(Box::pin(async move {
            let place = Place {
                file: origin.shown(file.path()),
                origin,
            };
            let chunks = chunks(store.as_ref(), file.path(), &place).await?;
            let batches = match place.origin.format {
                SourceFormat::Csv => {
                    let rows = CsvRows::open(chunks, wanted, batch_size, place).await?;
                    stream::try_unfold(rows, CsvRows::next).boxed()
                }
                _ => stream::try_unfold(JsonRows::open(chunks, wanted, place), JsonRows::next)
                    .boxed(),
            };
            Ok(batches.map_err(DataFusionError::from).boxed())
        }))
    }
}

/// Which file is read.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) origin: Arc<Origin>,
    pub(super) file: String,
}

impl Place {
    pub(super) fn line(&self, line: usize, reason: impl Into<String>) -> SourceError {
        SourceError::Line {
            name: self.origin.name.clone(),
            file: self.file.clone(),
            line,
            reason: reason.into(),
        }
    }

    pub(super) fn corrupt(&self, cause: ArrowError) -> SourceError {
        SourceError::Corrupt {
            name: self.origin.name.clone(),
            file: self.file.clone(),
            format: self.origin.format,
            cause: Box::new(cause),
        }
    }
}

/// The bytes of a file as they come.
pub(super) type Chunks = BoxStream<'static, Result<Bytes, SourceError>>;

async fn chunks(
    store: &dyn ObjectStore,
    path: &Path,
    place: &Place,
) -> Result<Chunks, SourceError> {
    let place = place.clone();
    let failed = move |error| store_error_of(&place.origin.name, &place.file, error);
    let found = store.get(path).await.map_err(&failed)?;
    Ok(found.into_stream().map_err(failed).boxed())
}
