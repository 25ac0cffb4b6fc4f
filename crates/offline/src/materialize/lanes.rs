//! The rows of a plan, all partitions read at the same time.

use arrow::array::RecordBatch;
use datafusion::{error::DataFusionError, logical_expr::LogicalPlan, prelude::SessionContext};
use futures::StreamExt;
use tokio::{sync::mpsc, task::JoinSet};

/// How many batches of each partition wait to be taken.
const WAITING: usize = 2;

/// What the partitions of a plan give, in the order in which it comes. The partitions are the lanes, numbered from 0; what
/// a lane gives stays in its order. Each is read by a task of its own, which ends when this is dropped.
pub(super) struct Lanes<T> {
    incoming: mpsc::Receiver<Result<(usize, T), DataFusionError>>,
    tasks: JoinSet<()>,
}

impl<T: Send + 'static> Lanes<T> {
    /// Begins to read. `prepare` makes of each batch what is given, in the lane's own task.
    ///
    /// # Errors
    /// When the plan cannot be executed.
    pub(super) async fn open(
        session: &SessionContext,
        plan: LogicalPlan,
        prepare: impl Fn(RecordBatch) -> Result<T, DataFusionError> + Clone + Send + Sync + 'static,
    ) -> Result<Self, DataFusionError> {
        let frame = session.execute_logical_plan(plan).await?;
        let partitions = frame.execute_stream_partitioned().await?;
        let (outgoing, incoming) = mpsc::channel(WAITING * partitions.len().max(1));
        let mut tasks = JoinSet::new();
        for (lane, mut batches) in partitions.into_iter().enumerate() {
            let (outgoing, prepare) = (outgoing.clone(), prepare.clone());
            tasks.spawn(async move {
                while let Some(batch) = batches.next().await {
                    let given = batch.and_then(&prepare).map(|given| (lane, given));
                    let failed = given.is_err();
                    // Nobody takes it any more, or nothing follows.
                    if outgoing.send(given).await.is_err() || failed {
                        return;
                    }
                }
            });
        }
        Ok(Self { incoming, tasks })
    }

    /// What some lane gives next; none when all have ended.
    ///
    /// # Errors
    /// Those of the plan and of `prepare`; then the rows are not all there.
    pub(super) async fn next(&mut self) -> Result<Option<(usize, T)>, DataFusionError> {
        if let Some(given) = self.incoming.recv().await {
            return given.map(Some);
        }
        // A lane that ended for another reason than its end must not look like one that ended.
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|e| DataFusionError::External(Box::new(e)))?;
        }
        Ok(None)
    }
}
