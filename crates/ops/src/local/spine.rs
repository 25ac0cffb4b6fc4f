//! The entity rows of a training dataset, where they are not sent: known keys, or a query.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use futures::{StreamExt as _, TryStreamExt as _};
use vintner_core::{ProjectName, Timestamp};
use vintner_offline::{
    delta::{DeltaError, OfflineStore, OpenTable},
    planner::{EntityQuery, QueryTable, plan_entity_query},
    sources::{SourceError, Sources, Subset},
    spine::{KnownKeys, query_rows},
    stream::{DataFusionError, SendableRecordBatchStream, SessionContext},
};
use vintner_registry::{model::Project, selection::Selection};

use crate::{
    api::{EntityRows, HistoricalRequest, Spine},
    error::{Fault, OpsError},
};

/// Where the entity rows come from, planned: what their columns are is known, and no data has been read.
pub(super) enum PlannedSpine {
    Rows(EntityRows),
    Keys(KnownKeys),
    Query(EntityQuery),
}

/// Where tables and sources are.
#[derive(Clone, Copy)]
pub(super) struct Stores<'a> {
    pub(super) offline: &'a OfflineStore,
    pub(super) sources: &'a Sources,
    pub(super) project: &'a ProjectName,
}

impl PlannedSpine {
    /// Plans the rows for features of a project.
    pub(super) fn new(
        spine: Spine,
        project: &Project,
        selection: &Selection,
        request: &HistoricalRequest,
    ) -> Result<Self, OpsError> {
        let keys = |moments: Vec<Timestamp>| {
            KnownKeys::new(
                &selection.views,
                request.knowledge,
                request.boundary,
                moments,
            )
            .map(Self::Keys)
            .map_err(|error| OpsError::from_error(Fault::Request, error))
        };
        match spine {
            Spine::Rows(rows) => Ok(Self::Rows(rows)),
            Spine::At(moment) => keys(vec![moment]),
            Spine::Snapshots(snapshots) => keys(snapshots.moments()),
            Spine::Query(sql) => plan_entity_query(&sql, project)
                .map(Self::Query)
                .map_err(|error| OpsError::from_error(Fault::Request, error)),
        }
    }

    /// The columns of the rows.
    pub(super) fn schema(&self) -> &SchemaRef {
        match self {
            Self::Rows(rows) => &rows.schema,
            Self::Keys(keys) => keys.schema(),
            Self::Query(query) => query.schema(),
        }
    }

    /// The rows. What is read of the views whose features are asked for is read of these tables.
    pub(super) async fn entity_rows(
        self,
        session: &SessionContext,
        stores: Stores<'_>,
        tables: &[OpenTable],
    ) -> Result<EntityRows, OpsError> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Keys(keys) => {
                let mut providers = Vec::with_capacity(tables.len());
                for table in tables {
                    providers.push(table.rows().await.map_err(delta_error)?);
                }
                Ok(taken(keys.rows(session.clone(), providers)))
            }
            Self::Query(query) => {
                let mut providers = BTreeMap::new();
                for (name, table) in query.tables() {
                    let provider = match table {
                        QueryTable::View(view) => {
                            let same = tables.iter().find(|table| *table.view() == view.id);
                            let rows = match same {
                                Some(table) => table.rows().await,
                                None => {
                                    let newest = stores.offline.open_newest(stores.project, view);
                                    newest.await.map_err(delta_error)?.rows().await
                                }
                            };
                            rows.map_err(delta_error)?
                        }
                        QueryTable::Source(source) => {
                            let all = stores.sources.table(source, &source.columns, Subset::All);
                            all.await
                                .map_err(|error| OpsError::from_error(Fault::Data, error))?
                        }
                    };
                    providers.insert(name.clone(), provider);
                }
                Ok(taken(query_rows(query, session.clone(), providers)))
            }
        }
    }
}

fn taken(rows: SendableRecordBatchStream) -> EntityRows {
    EntityRows {
        schema: rows.schema(),
        batches: rows.map_err(rows_error).boxed(),
    }
}

fn delta_error(error: DeltaError) -> OpsError {
    OpsError::from_error(Fault::Store, error)
}

/// What failed while the rows were made: a source's data, what the query computes of it, or a store.
fn rows_error(error: DataFusionError) -> OpsError {
    let fault = match (SourceError::within(&error), error.find_root()) {
        (Some(_), _) => Fault::Data,
        (None, DataFusionError::ArrowError(..) | DataFusionError::Execution(_)) => Fault::Request,
        (None, _) => Fault::Store,
    };
    OpsError {
        fault,
        message: "the entity rows could not be made".to_owned(),
        source: Some(Box::new(error)),
    }
}
