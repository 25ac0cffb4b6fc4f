//! `OnlineService`: feature vectors by entity key, one request a call or many over a stream, within a limit on entities.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use vintner_ops::{Operations, api::OnlineRequest};
use vintner_proto::v1::{
    self, online_service_server::OnlineService, stream_online_features_response::Answer,
};

use crate::{
    admission::Admission,
    answer::{read, write},
    convert::{Travels, row_count},
    guard, status,
};

/// How many requests of a stream are worked on at one time.
const AHEAD: usize = 16;

/// Online features as gRPC gives them.
#[derive(Clone)]
pub(crate) struct OnlineHandlers {
    pub(crate) ops: Arc<dyn Operations>,
    pub(crate) max_batch: usize,
    pub(crate) admission: Arc<Admission>,
    /// The service stops: streams take no new requests, and end when they have answered those that they took.
    pub(crate) draining: CancellationToken,
}

impl OnlineHandlers {
    async fn features(
        &self,
        request: v1::GetOnlineFeaturesRequest,
        patience: Duration,
    ) -> Result<v1::GetOnlineFeaturesResponse, Status> {
        let columns = request.entities.iter();
        let entities = columns
            .filter_map(|column| column.values.as_ref().map(row_count))
            .max()
            .unwrap_or(0);
        if entities > self.max_batch {
            return Err(status::too_many_entities(entities, self.max_batch));
        }
        let nothing = v1::FeatureSelection::default();
        let selection = request.features.as_ref().unwrap_or(&nothing);
        let _admitted = self.admission.enter(selection, entities)?;
        let mut request = read(OnlineRequest::from_message(request))?;
        if !request.after.tokens.is_empty() {
            request.after.patience = patience;
        }
        write(self.ops.get_online(request).await)
    }

    /// The answer to one request of a stream.
    async fn answer(&self, asked: v1::StreamOnlineFeaturesRequest) -> Answer {
        let deadline = match asked.timeout_millis {
            0 => None,
            millis => Some(Duration::from_millis(millis.into())),
        };
        let work = self.features(asked.request.unwrap_or_default(), patience(deadline));
        let done = match deadline {
            None => work.await,
            Some(allowed) => timeout(allowed, work)
                .await
                .unwrap_or_else(|_| Err(status::too_late(allowed))),
        };
        match done {
            Ok(features) => Answer::Features(features),
            Err(status) => Answer::Error(v1::RequestError {
                code: status.code().into(),
                message: status.message().to_owned(),
            }),
        }
    }
}

#[tonic::async_trait]
impl OnlineService for OnlineHandlers {
    type StreamOnlineFeaturesStream =
        BoxStream<'static, Result<v1::StreamOnlineFeaturesResponse, Status>>;

    async fn get_online_features(
        &self,
        request: Request<v1::GetOnlineFeaturesRequest>,
    ) -> Result<Response<v1::GetOnlineFeaturesResponse>, Status> {
        let patience = patience(deadline(request.metadata()));
        let features = self.features(request.into_inner(), patience).await;
        features.map(Response::new)
    }

    async fn stream_online_features(
        &self,
        request: Request<Streaming<v1::StreamOnlineFeaturesRequest>>,
    ) -> Result<Response<Self::StreamOnlineFeaturesStream>, Status> {
        let handlers = self.clone();
        let draining = self.draining.clone();
        let asked = request
            .into_inner()
            .take_until(draining.clone().cancelled_owned());
        // The caller is told that the stream did not end of itself.
        let end = stream::once(async move { draining.is_cancelled() })
            .filter_map(|stops| async move { stops.then(|| Err(status::stopping())) });
        let answers = asked.chain(end).map(move |asked| {
            let handlers = handlers.clone();
            async move {
                Ok(v1::StreamOnlineFeaturesResponse {
                    answer: Some(handlers.answer(asked?).await),
                })
            }
        });
        Ok(Response::new(answers.buffered(AHEAD).boxed()))
    }
}

/// How long to wait for rows that must be seen, when the call has no deadline.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest that is waited, whatever the deadline.
const MOST_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for rows that must be seen: until the deadline, less what it takes to say that they are not there.
fn patience(deadline: Option<Duration>) -> Duration {
    deadline.map_or(PATIENCE, |deadline| MOST_PATIENCE.min(deadline * 3 / 4))
}

/// The time that the caller gives a call.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    guard::timeout(metadata.get("grpc-timeout")?.as_bytes())
}
