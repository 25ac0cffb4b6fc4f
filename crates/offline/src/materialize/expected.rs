//! What the online store should hold at one version of a view's table, so many keys at a time.

use std::collections::HashSet;

use datafusion::{
    error::DataFusionError,
    execution::SendableRecordBatchStream,
    logical_expr::{LogicalPlanBuilder, ident},
};
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use vintner_core::{
    EntityKey, JoinKey, KeyColumns, KeySchema, KeyType, ProjectName, Timestamp, ViewId,
};
use vintner_registry::model::ViewRevision;

use super::{
    error::MaterializeError,
    key_range::KeyRange,
    latest::{LatestRows, Unseen},
    online::{Held, Loading, OnlineCursor, stream},
    run::MaterializeContext,
};
use crate::{
    delta::{
        DeltaError, OfflineStore, TableState, ViewLayout, at_least_of, layout::EVENT_TIMESTAMP,
    },
    stream::SessionContext,
};

/// One version of a view's table, from which the rows are read that should be online.
pub struct ExpectedRows<'a> {
    context: &'a MaterializeContext<'a>,
    view: &'a ViewRevision,
    state: Option<TableState>,
}

/// The rows of some keys.
pub struct ExpectedPart {
    /// At most one row per key, with the columns of [`ViewLayout`], in no particular order.
    pub batches: SendableRecordBatchStream,
    /// How many rows that is.
    pub rows: u64,
    /// How many rows of the whole table are held back, since their event time has not come.
    pub held_back: u64,
    /// Which keys these are: the first of those that were asked for.
    pub range: KeyRange,
    /// What came to the table since this version, and became due, is what comes after this cursor.
    pub cursor: Option<OnlineCursor>,
}

impl<'a> ExpectedRows<'a> {
    /// The newest version of a view's table.
    ///
    /// # Errors
    /// [`MaterializeError`] when its log cannot be read.
    pub async fn newest(
        context: &'a MaterializeContext<'a>,
        view: &'a ViewRevision,
    ) -> Result<Self, MaterializeError> {
        let state = async {
            context
                .store
                .table(context.project, &view.id)?
                .newest()
                .await
        };
        let state = state.await.map_err(|source| MaterializeError::Delta {
            view: view.id.clone(),
            source,
        })?;
        Ok(Self {
            context,
            view,
            state,
        })
    }

    /// The version; none when there is no table.
    pub fn version(&self) -> Option<u64> {
        self.state.as_ref().map(TableState::version)
    }

    /// The latest row of each key of a range, as of `now`; of fewer keys when there are more than `limit`.
    ///
    /// Reads the whole table. Memory: the rows of `limit` keys, and about as many that have lost against them.
    ///
    /// # Errors
    /// [`MaterializeError`] when the table cannot be read.
    pub fn part(
        &self,
        range: KeyRange,
        limit: usize,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<ExpectedPart, MaterializeError>> {
        Box::pin(async move {
            let layout = ViewLayout::of(self.view);
            let latest = LatestRows::of_range(self.view, range, limit);
            let Some(state) = &self.state else {
                return Ok(ExpectedPart {
                    batches: stream(layout.arrow(), latest),
                    rows: 0,
                    held_back: 0,
                    range,
                    cursor: None,
                });
            };
            let mut loading = Loading {
                context: self.context,
                view: self.view,
                state,
                layout,
                now,
                latest,
                held_back: Held::default(),
            };
            loading.offer(state, None, None, |_| Unseen::Taken).await?;
            let held_back = loading.held_back;
            Ok(ExpectedPart {
                rows: loading.latest.len() as u64,
                held_back: held_back.rows,
                range: loading.latest.range(),
                cursor: Some(OnlineCursor::at(state, self.view, held_back)),
                batches: stream(loading.layout.arrow(), loading.latest),
            })
        })
    }
}

impl ExpectedRows<'_> {
    /// The latest row of each of some keys, as of `now`. Only files that can have such rows are read.
    ///
    /// # Errors
    /// [`MaterializeError`] when the table cannot be read, or a key is none of the view.
    pub fn of_keys(
        &self,
        keys: HashSet<EntityKey>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<SendableRecordBatchStream, MaterializeError>> {
        Box::pin(async move {
            let layout = ViewLayout::of(self.view);
            let schema = &self.view.join_keys;
            let values = keys.iter().map(|key| key.decode(schema));
            let values: Result<Vec<_>, _> = values.collect();
            let mut latest = LatestRows::of_keys(self.view, keys);
            let Some(state) = &self.state else {
                return Ok(stream(layout.arrow(), latest));
            };
            let failed = |source: DeltaError| MaterializeError::Delta {
                view: self.view.id.clone(),
                source,
            };
            let unread = |error: DataFusionError| failed(state.table().read_error(error));
            let values = values.map_err(|error| failed(state.table().read_error(error)))?;
            let files = state.files().into_iter();
            let files = files.filter(|file| file.can_hold(schema, &values));
            let files: Vec<_> = files.map(|file| file.path()).collect();
            if files.is_empty() {
                return Ok(stream(layout.arrow(), latest));
            }
            let rows = state.rows_plan(layout.arrow(), Some(files)).await;
            let rows = rows.and_then(|rows| at_least_of(schema, &values, rows));
            let session = self.context.session;
            let frame = session.execute_logical_plan(rows.map_err(unread)?).await;
            let rows = frame.map_err(unread)?.execute_stream().await;
            let mut rows = rows.map_err(unread)?;
            while let Some(batch) = rows.next().await {
                let offered = latest.offer(&batch.map_err(unread)?, |row| {
                    (row.event <= now).then_some(Unseen::Taken)
                });
                offered.map_err(unread)?;
            }
            Ok(stream(layout.arrow(), latest))
        })
    }
}

/// The keys of a view version's table, each once, in no particular order. The view need not be declared any more: the
/// table itself says which columns its join keys are. None when there is no table.
///
/// Memory: that of the session, beyond which it goes to the disk.
///
/// # Errors
/// [`DeltaError`] when the table cannot be read, or is none of a view; so are the stream's.
pub async fn table_keys(
    store: &OfflineStore,
    project: &ProjectName,
    view: &ViewId,
    session: &SessionContext,
) -> Result<Option<BoxStream<'static, Result<Vec<EntityKey>, DeltaError>>>, DeltaError> {
    let table = store.table(project, view)?;
    let Some(state) = table.newest().await? else {
        return Ok(None);
    };
    let failed = {
        let table = table.clone();
        move |error: DataFusionError| table.read_error(error)
    };
    let plan = state.all_rows_plan().await.map_err(&failed)?;
    let columns: Vec<_> = plan.schema().fields().iter().cloned().collect();
    // Join keys come before the times, in the order of their names, which is that of their encoding.
    let keys = columns
        .iter()
        .take_while(|column| column.name() != EVENT_TIMESTAMP);
    let schema = keys.map(|column| {
        let key_type = KeyType::ALL
            .into_iter()
            .find(|kind| kind.arrow() == *column.data_type());
        Some(JoinKey {
            name: column.name().parse().ok()?,
            key_type: key_type?,
        })
    });
    let schema: Option<Vec<_>> = schema.collect();
    let schema = schema
        .filter(|keys| keys.len() < columns.len())
        .and_then(|keys| KeySchema::new(keys).ok())
        .ok_or_else(|| table.read_error("its columns are not those of a feature view's table"))?;
    let distinct = LogicalPlanBuilder::from(plan)
        .project(
            schema
                .join_keys()
                .iter()
                .map(|key| ident(key.name.as_str())),
        )
        .and_then(|keys| keys.distinct()?.build())
        .map_err(&failed)?;
    let frame = session
        .execute_logical_plan(distinct)
        .await
        .map_err(&failed)?;
    let batches = frame.execute_stream().await.map_err(&failed)?;
    let keys = batches.map(move |batch| {
        let batch = batch.map_err(&failed)?;
        let columns: Vec<_> = batch.columns().iter().collect();
        let keys = KeyColumns::new(&schema, &columns);
        let keys = keys.map_err(|error| table.read_error(error))?;
        Ok((0..batch.num_rows())
            .filter_map(|row| keys.key(row))
            .collect())
    });
    Ok(Some(keys.boxed()))
}
