//! `MaterializationService`: runs as streams of steps.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, stream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};
use vintner_core::{ViewName, waiting::Task};
use vintner_ops::{Operations, api::MaterializeRequest};
use vintner_proto::v1::{self, materialization_service_server::MaterializationService};

use crate::{
    answer::{limit, read, write, write_each},
    convert::{Step, Travels, parse},
    status,
    steps::{of_task, queue},
};

/// Materialization as gRPC gives it.
pub(crate) struct MaterializationHandlers {
    pub(crate) ops: Arc<dyn Operations>,
}

type StepStream = Pin<Box<dyn Stream<Item = Result<v1::MaterializeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl MaterializationService for MaterializationHandlers {
    type MaterializeStream = StepStream;

    async fn materialize(
        &self,
        request: Request<v1::MaterializeRequest>,
    ) -> Result<Response<StepStream>, Status> {
        let request = read(MaterializeRequest::from_message(request.into_inner()))?;
        let ops = Arc::clone(&self.ops);
        let (sender, steps) = queue();
        // A task of its own, so that a caller who reads slowly does not hold the run back. It ends with the stream,
        // which the caller drops.
        let task = Arc::new(Task::default());
        let own = Arc::clone(&task);
        let run = AbortOnDropHandle::new(tokio::spawn(async move {
            own.work(ops.materialize(&request, &|event| sender.send(event)))
                .await
        }));
        let done = stream::once(async move {
            match run.await {
                Ok(runs) => write(runs.map(Step::Done)),
                Err(failed) => {
                    tracing::error!(%failed, "a materialization panicked");
                    Err(status::panicked())
                }
            }
        });
        let steps = steps.map(|event| write(Ok(Step::Event(event))));
        let steps = of_task(task, Box::pin(steps.chain(done)));
        Ok(Response::new(Box::pin(steps)))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let request = request.into_inner();
        let view = request.view.as_deref().map(|view| parse("view", view));
        let view: Option<ViewName> = read(view.transpose())?;
        let limit = limit(request.limit);
        let runs = write_each(self.ops.runs(view.as_ref(), limit).await)?;
        Ok(Response::new(v1::ListRunsResponse { runs }))
    }
}
