//! The rows of a query, as entity rows.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::{
    catalog::TableProvider, error::Result, execution::SendableRecordBatchStream,
    physical_plan::stream::RecordBatchStreamAdapter, prelude::SessionContext,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::planner::EntityQuery;

/// The rows of a query, from a table for each that it reads. They are read when the first row is asked for; dropping the
/// stream stops that.
pub fn query_rows(
    query: EntityQuery,
    session: SessionContext,
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
) -> SendableRecordBatchStream {
    let schema = Arc::clone(query.schema());
    let rows = stream::once(begin(query, session, tables)).try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

async fn begin(
    query: EntityQuery,
    session: SessionContext,
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
) -> Result<impl Stream<Item = Result<RecordBatch>> + Send> {
    let schema = Arc::clone(query.schema());
    let plan = query.over(&tables)?;
    let frame = session.execute_logical_plan(plan).await?;
    let rows = frame.execute_stream().await?;
    Ok(rows.map(move |batch| {
        let columns = batch?.columns().to_vec();
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    }))
}
