//! `PushService`: rows into both stores, within a limit on rows.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use vintner_ops::{Operations, api::PushRequest};
use vintner_proto::v1::{self, push_service_server::PushService};

use crate::{
    answer::{read, respond, write},
    convert::{Travels, row_count},
    status,
};

/// Push as gRPC gives it.
pub(crate) struct PushHandlers {
    pub(crate) ops: Arc<dyn Operations>,
    pub(crate) max_batch: usize,
    /// The service stops: streams take no new push, and end when they have answered the one that they took.
    pub(crate) draining: CancellationToken,
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::PushResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PushService for PushHandlers {
    type PushStreamStream = Answers;

    async fn push(
        &self,
        request: Request<v1::PushRequest>,
    ) -> Result<Response<v1::PushResponse>, Status> {
        let request = checked(request.into_inner(), self.max_batch)?;
        respond(self.ops.push(&request).await)
    }

    async fn push_stream(
        &self,
        requests: Request<Streaming<v1::PushRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (ops, max_batch) = (Arc::clone(&self.ops), self.max_batch);
        let draining = self.draining.clone();
        // One after the other: a later push must not be written when an earlier one was not.
        let answers = stream::unfold(Some(requests.into_inner()), move |requests| {
            let (ops, draining) = (Arc::clone(&ops), draining.clone());
            async move {
                let mut requests = requests?;
                let pushed = async {
                    let taken = draining.run_until_cancelled(requests.message()).await;
                    let Some(request) = taken.unwrap_or_else(|| Err(status::stopping()))? else {
                        return Ok(None);
                    };
                    let request = checked(request, max_batch)?;
                    write(ops.push(&request).await).map(Some)
                };
                match pushed.await {
                    Ok(None) => None,
                    Ok(Some(answer)) => Some((Ok(answer), Some(requests))),
                    Err(status) => Some((Err(status), None)),
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The request, when it has no more rows than allowed.
fn checked(request: v1::PushRequest, max_batch: usize) -> Result<PushRequest, Status> {
    // Before the values are unpacked.
    let columns = request.columns.iter();
    let rows = columns
        .filter_map(|column| column.values.as_ref().map(row_count))
        .max()
        .unwrap_or(0);
    if rows > max_batch {
        return Err(status::too_many_rows(rows, max_batch));
    }
    read(PushRequest::from_message(request))
}
