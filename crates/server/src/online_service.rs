//! `OnlineService`: feature vectors by entity key, one request a call or many over a stream, within a limit on entities.
//!
//! Answers are bytes from where the rows are read ([`Operations::get_online_encoded`]), so the service is put together
//! here, and not by tonic's generator, which would want messages.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use tokio::{task::yield_now, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
    metadata::MetadataMap,
    server::{Grpc, NamedService, StreamingService},
};
use tonic_prost::ProstDecoder;
use tower_service::Service;
use vintner_core::waiting::{On, Task, waiting};
use vintner_ops::{Operations, api::OnlineRequest};
use vintner_proto::v1::{
    self, online_service_server::SERVICE_NAME, stream_online_features_response::Answer,
};

use crate::{
    admission::Admission,
    answer::read,
    convert::{Travels, row_count},
    guard, status, unary,
};

/// A request for so many entities lets those that came meanwhile be counted before it is worked on. A store that answers at
/// once leaves no other moment for that: on a processor that is full, what is too much would wait unseen where it was
/// sent from, until its time is over.
const LARGE: usize = 500;
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
    ) -> Result<Bytes, Status> {
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
        if entities >= LARGE {
            yield_now().await;
        }
        let mut request = read(OnlineRequest::from_message(request))?;
        if !request.after.tokens.is_empty() {
            request.after.patience = patience;
        }
        let answer = self.ops.get_online_encoded(request).await;
        answer.map_err(|error| status::from_error(&error))
    }

    /// The answer to one request of a stream: a `StreamOnlineFeaturesResponse`.
    async fn answer(&self, asked: v1::StreamOnlineFeaturesRequest) -> Bytes {
        let deadline = match asked.timeout_millis {
            0 => None,
            millis => Some(Duration::from_millis(millis.into())),
        };
        let work = self.features(asked.request.unwrap_or_default(), patience(deadline));
        let done = match deadline {
            None => work.await,
            Some(allowed) => {
                let task = Arc::new(Task::default());
                let work = timeout(allowed, task.work(work));
                waiting(&On::Task(Arc::clone(&task)), work)
                    .await
                    .unwrap_or_else(|_| Err(status::too_late(allowed, task.on())))
            }
        };
        match done {
            Ok(features) => {
                let mut answer = Vec::with_capacity(features.len() + 8);
                // The field `features`.
                encode_key(1, WireType::LengthDelimited, &mut answer);
                encode_varint(features.len() as u64, &mut answer);
                answer.extend_from_slice(&features);
                answer.into()
            }
            Err(status) => {
                let error = v1::RequestError {
                    code: status.code().into(),
                    message: status.message().to_owned(),
                };
                let answer = v1::StreamOnlineFeaturesResponse {
                    answer: Some(Answer::Error(error)),
                };
                answer.encode_to_vec().into()
            }
        }
    }

    /// `GetOnlineFeatures`.
    pub(crate) async fn get(
        &self,
        request: Request<v1::GetOnlineFeaturesRequest>,
    ) -> Result<Bytes, Status> {
        let patience = patience(deadline(request.metadata()));
        self.features(request.into_inner(), patience).await
    }

    /// `StreamOnlineFeatures`.
    fn stream(&self, asked: Streaming<v1::StreamOnlineFeaturesRequest>) -> Answers {
        let handlers = self.clone();
        let draining = self.draining.clone();
        let asked = asked.take_until(draining.clone().cancelled_owned());
        // The caller is told that the stream did not end of itself.
        let end = stream::once(async move { draining.is_cancelled() })
            .filter_map(|stops| async move { stops.then(|| Err(status::stopping())) });
        let answers = asked.chain(end).map(move |asked| {
            let handlers = handlers.clone();
            async move { Ok(handlers.answer(asked?).await) }
        });
        answers.buffered(AHEAD).boxed()
    }
}

/// The answers of a stream.
type Answers = BoxStream<'static, Result<Bytes, Status>>;

/// The service as tonic calls it.
#[derive(Clone)]
pub(crate) struct OnlineServer {
    pub(crate) handlers: Arc<OnlineHandlers>,
    pub(crate) max_message_bytes: usize,
}

impl NamedService for OnlineServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for OnlineServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handlers = Arc::clone(&self.handlers);
        let method = request.uri().path().rsplit('/').next();
        match method {
            Some("GetOnlineFeatures") => {
                let most_bytes = self.max_message_bytes;
                Box::pin(async move {
                    let features = match unary::receive(request, most_bytes).await {
                        Ok(request) => handlers.get(request).await,
                        Err(status) => Err(status),
                    };
                    Ok(unary::answer(features))
                })
            }
            Some("StreamOnlineFeatures") => {
                let grpc = Grpc::new(EncodedAnswers);
                let mut grpc = grpc.max_decoding_message_size(self.max_message_bytes);
                Box::pin(async move { Ok(grpc.streaming(Stream(handlers), request).await) })
            }
            _ => {
                let unknown = Status::unimplemented("the service has no such method");
                Box::pin(ready(Ok(unknown.into_http())))
            }
        }
    }
}

struct Stream(Arc<OnlineHandlers>);

impl StreamingService<v1::StreamOnlineFeaturesRequest> for Stream {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Ready<Result<Response<Answers>, Status>>;

    fn call(
        &mut self,
        request: Request<Streaming<v1::StreamOnlineFeaturesRequest>>,
    ) -> Self::Future {
        ready(Ok(Response::new(self.0.stream(request.into_inner()))))
    }
}

/// Of a stream the answers are the bytes of messages.
struct EncodedAnswers;

impl Codec for EncodedAnswers {
    type Encode = Bytes;
    type Decode = v1::StreamOnlineFeaturesRequest;
    type Encoder = AsTheyAre;
    type Decoder = ProstDecoder<Self::Decode>;

    fn encoder(&mut self) -> AsTheyAre {
        AsTheyAre
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::default())
    }
}

struct AsTheyAre;

impl Encoder for AsTheyAre {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(message.len());
        out.put(message);
        Ok(())
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
