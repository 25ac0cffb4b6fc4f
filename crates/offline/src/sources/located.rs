//! A scan whose errors name the source and the file.
//!
//! DataFusion's own say only what was wrong with some bytes. This wraps a [`FileSource`] of any format and changes
//! nothing else about it.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, error::ArrowError};
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    config::ConfigOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileOpener, FileScanConfig, FileSource},
        table_schema::TableSchema,
    },
    error::DataFusionError,
    physical_expr::{
        EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, projection::ProjectionExprs,
    },
    physical_plan::{
        DisplayFormatType, SortOrderPushdownResult, filter_pushdown::FilterPushdownPropagation,
        metrics::ExecutionPlanMetricsSet,
    },
};
use datafusion_datasource::morsel::{
    Morsel, MorselPlan, MorselPlanner, Morselizer, PendingMorselPlanner,
};
use futures::{StreamExt, stream::BoxStream};
use object_store::{ObjectStore, path::Path};
use vintner_core::SourceName;
use vintner_registry::model::SourceFormat;

use super::{
    error::SourceError,
    listing::{relative, store_error_of},
    normalise::LossyValue,
};

/// Whose files they are.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) name: SourceName,
    pub(super) format: SourceFormat,
    /// What the files' paths are relative to in the store.
    pub(super) base: Path,
    /// The same as the repo writes it.
    pub(super) shown_base: String,
}

impl Origin {
    /// The file's path as the repo would write it, for messages.
    pub(super) fn shown(&self, file: &Path) -> String {
        let below = relative(file, &self.base);
        match self.shown_base.trim_end_matches('/') {
            "" => below,
            base => format!("{base}/{below}"),
        }
    }

    /// The error of reading `file`, as the source's.
    pub(super) fn locate(&self, file: &str, error: DataFusionError) -> DataFusionError {
        if SourceError::within(&error).is_some() {
            return error;
        }
        let (name, file) = (self.name.clone(), file.to_owned());
        if let Some(lossy) = cause::<LossyValue>(&error) {
            let LossyValue {
                column,
                value,
                wanted,
                ..
            } = lossy.clone();
            return SourceError::Value {
                name,
                file,
                line: None,
                column,
                value,
                wanted,
            }
            .into();
        }
        match error {
            // Running out of memory or disk says nothing about the file.
            error @ (DataFusionError::ResourcesExhausted(_) | DataFusionError::IoError(_)) => error,
            DataFusionError::ObjectStore(error) => store_error_of(&name, &file, *error).into(),
            DataFusionError::ParquetError(cause) => {
                let format = self.format;
                SourceError::Corrupt {
                    name,
                    file,
                    format,
                    cause,
                }
                .into()
            }
            DataFusionError::ArrowError(cause, _)
                if matches!(
                    *cause,
                    ArrowError::ParquetError(_) | ArrowError::IpcError(_)
                ) =>
            {
                let format = self.format;
                SourceError::Corrupt {
                    name,
                    file,
                    format,
                    cause,
                }
                .into()
            }
            other => SourceError::Read {
                name,
                file,
                cause: Box::new(other),
            }
            .into(),
        }
    }
}

/// The first error of that type in the chain.
fn cause<E: std::error::Error + 'static>(error: &DataFusionError) -> Option<&E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            _ => error.source(),
        };
    }
    None
}

/// The wrapped scan.
#[derive(Clone)]
pub(super) struct LocatedSource {
    inner: Arc<dyn FileSource>,
    origin: Arc<Origin>,
}

impl LocatedSource {
    pub(super) fn wrap(inner: Arc<dyn FileSource>, origin: Arc<Origin>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, origin })
    }

    fn again(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Self::wrap(inner, Arc::clone(&self.origin))
    }
}

impl FileSource for LocatedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>, DataFusionError> {
        self.inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>, DataFusionError> {
        Ok(Box::new(LocatedMorselizer {
            inner: self.inner.create_morselizer(store, config, partition)?,
            origin: Arc::clone(&self.origin),
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.again(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(kind, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>, DataFusionError> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node: pushed.updated_node.map(|inner| self.again(inner)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>, DataFusionError> {
        use SortOrderPushdownResult::{Exact, Inexact, Unsupported};
        Ok(match self.inner.try_pushdown_sort(order, properties)? {
            Exact { inner } => Exact {
                inner: self.again(inner),
            },
            Inexact { inner } => Inexact {
                inner: self.again(inner),
            },
            Unsupported => Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>, DataFusionError> {
        let pushed = self.inner.try_pushdown_projection(projection)?;
        Ok(pushed.map(|inner| self.again(inner)))
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        self.inner.apply_expressions(visit)
    }
}

/// Plans the reading of files; each one's errors name it from here on.
#[derive(Debug)]
struct LocatedMorselizer {
    inner: Box<dyn Morselizer>,
    origin: Arc<Origin>,
}

/// Where a part of a scan reads.
#[derive(Clone, Debug)]
struct Place {
    origin: Arc<Origin>,
    file: Arc<str>,
}

impl Place {
    fn locate(&self, error: DataFusionError) -> DataFusionError {
        self.origin.locate(&self.file, error)
    }
}

impl Morselizer for LocatedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>, DataFusionError> {
        let place = Place {
            origin: Arc::clone(&self.origin),
            file: self.origin.shown(file.path()).into(),
        };
        let inner = self
            .inner
            .plan_file(file)
            .map_err(|error| place.locate(error))?;
        Ok(Box::new(LocatedPlanner { inner, place }))
    }
}

#[derive(Debug)]
struct LocatedPlanner {
    inner: Box<dyn MorselPlanner>,
    place: Place,
}

impl MorselPlanner for LocatedPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>, DataFusionError> {
        let Self { inner, place } = *self;
        let Some(mut plan) = inner.plan().map_err(|error| place.locate(error))? else {
            return Ok(None);
        };
        let wrap = |inner, place: &Place| -> Box<dyn MorselPlanner> {
            Box::new(LocatedPlanner {
                inner,
                place: place.clone(),
            })
        };
        let morsels = plan
            .take_morsels()
            .into_iter()
            .map(|inner| -> Box<dyn Morsel> {
                Box::new(LocatedMorsel {
                    inner,
                    place: place.clone(),
                })
            });
        let ready = plan
            .take_ready_planners()
            .into_iter()
            .map(|inner| wrap(inner, &place));
        let mut located = MorselPlan::new()
            .with_morsels(morsels.collect())
            .with_planners(ready.collect());
        if let Some(pending) = plan.take_pending_planner() {
            located.set_pending_planner(pending_at(pending, place));
        }
        Ok(Some(located))
    }
}

async fn pending_at(
    pending: PendingMorselPlanner,
    place: Place,
) -> Result<Box<dyn MorselPlanner>, DataFusionError> {
    let inner = pending.await.map_err(|error| place.locate(error))?;
    Ok(Box::new(LocatedPlanner { inner, place }))
}

#[derive(Debug)]
struct LocatedMorsel {
    inner: Box<dyn Morsel>,
    place: Place,
}

impl Morsel for LocatedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch, DataFusionError>> {
        let Self { inner, place } = *self;
        let batches = inner.into_stream();
        batches
            .map(move |batch| batch.map_err(|error| place.locate(error)))
            .boxed()
    }
}
