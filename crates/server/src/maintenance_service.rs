//! `MaintenanceService`: the care for the stores.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, stream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};
use vintner_core::waiting::Task;
use vintner_ops::{
    Operations, OpsError,
    api::{DeleteRequest, KeysSeen, TeardownRequest, VacuumRequest, VerifyRequest},
};
use vintner_proto::v1::{self, maintenance_service_server::MaintenanceService};

use crate::{
    answer::{read, respond, write, write_each},
    convert::{TeardownStep, Travels, VerifyStep, parse_each},
    status,
    steps::{Steps, of_task, queue},
};

/// Maintenance as gRPC gives it.
pub(crate) struct MaintenanceHandlers {
    pub(crate) ops: Arc<dyn Operations>,
}

type MessageStream<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// The steps of work that goes on in a task of its own and ends with the stream, which the caller drops; then its end.
fn streamed<T, S>(
    seen: Steps<KeysSeen>,
    work: impl Future<Output = Result<T, OpsError>> + Send + 'static,
    step: fn(KeysSeen) -> S,
    end: fn(T) -> S,
) -> Response<MessageStream<S::Message>>
where
    T: Send + 'static,
    S: Travels + 'static,
    S::Message: Send,
{
    let task = Arc::new(Task::default());
    let own = Arc::clone(&task);
    let work = AbortOnDropHandle::new(tokio::spawn(async move { own.work(work).await }));
    let done = stream::once(async move {
        match work.await {
            Ok(done) => write(done.map(end)),
            Err(failed) => {
                tracing::error!(%failed, "the care for a store panicked");
                Err(status::panicked())
            }
        }
    });
    let steps = seen.map(move |seen| write(Ok(step(seen))));
    Response::new(Box::pin(of_task(task, Box::pin(steps.chain(done)))))
}

#[tonic::async_trait]
impl MaintenanceService for MaintenanceHandlers {
    async fn compact(
        &self,
        request: Request<v1::CompactRequest>,
    ) -> Result<Response<v1::CompactResponse>, Status> {
        let views = read(parse_each("views", &request.into_inner().views))?;
        let views = write_each(self.ops.compact(&views).await)?;
        Ok(Response::new(v1::CompactResponse { views }))
    }

    async fn vacuum(
        &self,
        request: Request<v1::VacuumRequest>,
    ) -> Result<Response<v1::VacuumResponse>, Status> {
        let request = read(VacuumRequest::from_message(request.into_inner()))?;
        respond(self.ops.vacuum(&request).await)
    }

    type VerifyStream = MessageStream<v1::VerifyResponse>;

    async fn verify(
        &self,
        request: Request<v1::VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let request = read(VerifyRequest::from_message(request.into_inner()))?;
        let ops = Arc::clone(&self.ops);
        let (sender, seen) = queue::<KeysSeen>();
        let work = async move { ops.verify(&request, &|seen| sender.send(seen)).await };
        Ok(streamed(seen, work, VerifyStep::Seen, VerifyStep::Done))
    }

    type TeardownStream = MessageStream<v1::TeardownResponse>;

    async fn teardown(
        &self,
        request: Request<v1::TeardownRequest>,
    ) -> Result<Response<Self::TeardownStream>, Status> {
        let request = read(TeardownRequest::from_message(request.into_inner()))?;
        let ops = Arc::clone(&self.ops);
        let (sender, seen) = queue::<KeysSeen>();
        let work = async move { ops.teardown(&request, &|seen| sender.send(seen)).await };
        Ok(streamed(seen, work, TeardownStep::Seen, TeardownStep::Done))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let request = read(DeleteRequest::from_message(request.into_inner()))?;
        respond(self.ops.delete(&request).await)
    }

    async fn doctor(
        &self,
        _: Request<v1::DoctorRequest>,
    ) -> Result<Response<v1::DoctorResponse>, Status> {
        let parts = write_each(self.ops.doctor().await)?;
        Ok(Response::new(v1::DoctorResponse { parts }))
    }
}
