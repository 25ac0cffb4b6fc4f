//! The client: [`Operations`] on a service that runs elsewhere.
//!
//! * Holds always: an answer is what the service's own operations gave, and so is an error: its fault and message, as
//!   far as a message is short enough to travel.
//! * Not here: retries. A call that a store's fault has ended can be made again by whoever made it.

mod historical;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use prost::Message as _;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};
use vintner_core::{DatasetName, KeySchema, RegistryVersion, ViewName};
use vintner_ops::{
    Fault, Operations, OpsError,
    api::{
        ApplyReport, Changes, CheckReport, Checkup, Dataset, DeleteRequest, Deleted, Detail,
        HistoricalRequest, KeysSeen, MaterializeEvent, MaterializeRequest, ObjectKind,
        OnlineRequest, OnlineResponse, PlanReport, PushReport, PushRequest, Run, Spine, Summary,
        TeardownRequest, TrainingRows, VacuumRequest, Vacuumed, VerifyRequest, Version,
        ViewCompaction, ViewRun, ViewTeardown, ViewVerification,
    },
};
use vintner_proto::{
    convert::ConvertError,
    v1::{
        self, dataset_service_client::DatasetServiceClient,
        maintenance_service_client::MaintenanceServiceClient,
        materialization_service_client::MaterializationServiceClient,
        online_service_client::OnlineServiceClient, push_service_client::PushServiceClient,
        registry_service_client::RegistryServiceClient,
    },
};
use vintner_registry::selection::FeatureRequest;
use vintner_repo::RepoFile;

use crate::{
    calls,
    convert::{Step, TeardownStep, Travels, VerifyStep, from_each, required, texts, to_each},
    server::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES},
    status,
};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A service that does not answer a ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// The largest message that is taken from the service. Far above what one sends; it only keeps a wrong peer from
/// filling the memory.
const MAX_ANSWER_BYTES: usize = 1024 * 1024 * 1024;

/// A connection to a service. Cheap to clone: clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    url: Arc<str>,
    deadline: Option<Duration>,
}

impl Client {
    /// Connects to the service at a URL such as `http://127.0.0.1:7600`; `http://` may be left out.
    ///
    /// # Errors
    /// [`Fault::Request`] for what is no such URL, [`Fault::Store`] when nothing answers there.
    pub async fn connect(url: &str) -> Result<Self, OpsError> {
        let endpoint = endpoint(url)?;
        let url: Arc<str> = endpoint.uri().to_string().trim_end_matches('/').into();
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|error| status::nobody_there(&url, &error))?;
        Ok(Self {
            channel,
            url,
            deadline: None,
        })
    }

    /// The same connection, whose calls have a deadline: the service stops working on a call that has gone on for as
    /// long as this.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    fn registry(&self) -> RegistryServiceClient<Channel> {
        RegistryServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn online(&self) -> OnlineServiceClient<Channel> {
        OnlineServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn pushing(&self) -> PushServiceClient<Channel> {
        PushServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn materialization(&self) -> MaterializationServiceClient<Channel> {
        MaterializationServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn saved(&self) -> DatasetServiceClient<Channel> {
        DatasetServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn maintenance(&self) -> MaintenanceServiceClient<Channel> {
        MaintenanceServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Pushes one after the other over one stream, which spares the way there and back between them. The answers come in
    /// the order of the pushes; the first error is the last answer, and no push after it is written.
    ///
    /// # Errors
    /// When the stream cannot be opened, or a request cannot be sent.
    pub async fn push_stream(
        &self,
        requests: impl Stream<Item = PushRequest> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<PushReport, OpsError>>, OpsError> {
        // A request that has no message ends the stream; a record batch of the types that features have always has one.
        let (tell, mut told) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        let messages = requests
            .map(move |request| match write(request.into_message()) {
                Ok(message) => Some(message),
                Err(error) => {
                    if let Some(tell) = tell.take() {
                        let _ = tell.send(error);
                    }
                    None
                }
            })
            .take_while(|message| std::future::ready(message.is_some()))
            .filter_map(std::future::ready);
        let answers = self.pushing().push_stream(self.request(messages)).await;
        let answers = self.answer(answers)?;
        let client = self.clone();
        let answers = answers.map(move |answer| {
            let answer = answer.map_err(|status| status::to_error(&status, &client.url))?;
            client.read(PushReport::from_message(answer))
        });
        // Told before the service could see the end of the stream, and so before it ended its own.
        let unsendable = futures::stream::once(async move { told.try_recv().ok().map(Err) });
        let unsendable = unsendable.filter_map(std::future::ready);
        Ok(answers.chain(unsendable).boxed())
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        calls::propagate(request.metadata_mut());
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// The message of an answer.
    fn answer<M>(&self, answer: Result<Response<M>, Status>) -> Result<M, OpsError> {
        answer
            .map(Response::into_inner)
            .map_err(|status| status::to_error(&status, &self.url))
    }

    /// The value of an answer.
    fn read<T>(&self, value: Result<T, ConvertError>) -> Result<T, OpsError> {
        value.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, problem: &dyn std::fmt::Display) -> OpsError {
        OpsError::new(
            Fault::Internal,
            format!(
                "the answer of the service at {} cannot be read, perhaps because it is of another version: {problem}",
                self.url
            ),
        )
    }
}

fn endpoint(url: &str) -> Result<Endpoint, OpsError> {
    let refused = |problem: &dyn std::fmt::Display| {
        OpsError::new(
            Fault::Request,
            format!(
                "`{url}` is not the address of a service; write it like http://127.0.0.1:7600 ({problem})"
            ),
        )
    };
    let whole = match url.contains("://") {
        true => url.to_owned(),
        false => format!("http://{url}"),
    };
    let endpoint = Endpoint::from_shared(whole).map_err(|error| refused(&error))?;
    match endpoint.uri().scheme_str() {
        Some("http") => {}
        Some(other) => {
            return Err(refused(&format_args!(
                "it starts with `{other}`, not `http`"
            )));
        }
        None => return Err(refused(&"it has no host")),
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE))
}

/// The message of what the caller gave.
fn write<T>(value: Result<T, ConvertError>) -> Result<T, OpsError> {
    value.map_err(|error| OpsError::new(Fault::Request, error.to_string()))
}

#[async_trait]
impl Operations for Client {
    async fn check(&self, files: &[RepoFile]) -> Result<CheckReport, OpsError> {
        let files = write(to_each(files.to_vec()))?;
        let request = self.request(v1::CheckRequest { files });
        let answer = self.answer(self.registry().check(request).await)?;
        self.read(CheckReport::from_message(answer))
    }

    async fn plan(&self, files: &[RepoFile]) -> Result<PlanReport, OpsError> {
        let files = write(to_each(files.to_vec()))?;
        let request = self.request(v1::PlanRequest { files });
        let answer = self.answer(self.registry().plan(request).await)?;
        self.read(PlanReport::from_message(answer))
    }

    async fn apply(
        &self,
        files: &[RepoFile],
        base: RegistryVersion,
        author: &str,
    ) -> Result<ApplyReport, OpsError> {
        let request = self.request(v1::ApplyRequest {
            files: write(to_each(files.to_vec()))?,
            base_version: base.0,
            author: author.to_owned(),
        });
        let answer = self.answer(self.registry().apply(request).await)?;
        self.read(ApplyReport::from_message(answer))
    }

    async fn materialize(
        &self,
        request: &MaterializeRequest,
        events: &(dyn Fn(MaterializeEvent) + Send + Sync),
    ) -> Result<Vec<ViewRun>, OpsError> {
        let request = self.request(write(request.clone().into_message())?);
        let mut steps = self.answer(self.materialization().materialize(request).await)?;
        loop {
            let step = steps.message().await;
            let step = step.map_err(|status| status::to_error(&status, &self.url))?;
            let step = step.ok_or_else(|| self.unreadable(&"it has no end"))?;
            match self.read(Step::from_message(step))? {
                Step::Event(event) => events(event),
                Step::Done(runs) => return Ok(runs),
            }
        }
    }

    async fn get_historical(
        &self,
        request: &HistoricalRequest,
        spine: Spine,
    ) -> Result<TrainingRows, OpsError> {
        historical::get(self, request, spine).await
    }

    async fn datasets(&self) -> Result<Vec<Dataset>, OpsError> {
        let request = self.request(v1::ListDatasetsRequest {});
        let answer = self.answer(self.saved().list_datasets(request).await)?;
        self.read(from_each("datasets", answer.datasets))
    }

    async fn dataset(&self, name: &DatasetName) -> Result<Dataset, OpsError> {
        let name = name.to_string();
        let request = self.request(v1::GetDatasetRequest { name });
        let answer = self.answer(self.saved().get_dataset(request).await)?;
        self.read(required("dataset", answer.dataset))
    }

    async fn reproduce(&self, name: &DatasetName) -> Result<TrainingRows, OpsError> {
        historical::reproduce(self, name).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushReport, OpsError> {
        let request = self.request(write(request.clone().into_message())?);
        let answer = self.answer(self.pushing().push(request).await)?;
        self.read(PushReport::from_message(answer))
    }

    async fn get_online(&self, request: OnlineRequest) -> Result<OnlineResponse, OpsError> {
        let request = self.request(write(request.into_message())?);
        let answer = self.answer(self.online().get_online_features(request).await)?;
        self.read(OnlineResponse::from_message(answer))
    }

    async fn get_online_encoded(&self, request: OnlineRequest) -> Result<Bytes, OpsError> {
        let request = self.request(write(request.into_message())?);
        let answer = self.answer(self.online().get_online_features(request).await)?;
        Ok(answer.encode_to_vec().into())
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Summary>, OpsError> {
        let kind = write(kind.into_message())?;
        let request = self.request(v1::ListRequest { kind });
        let answer = self.answer(self.registry().list(request).await)?;
        self.read(from_each("objects", answer.objects))
    }

    async fn show(&self, kind: ObjectKind, name: &str) -> Result<Detail, OpsError> {
        let request = self.request(v1::ShowRequest {
            kind: write(kind.into_message())?,
            name: name.to_owned(),
        });
        let answer = self.answer(self.registry().show(request).await)?;
        self.read(Detail::from_message(answer))
    }

    async fn join_keys(&self, features: &FeatureRequest) -> Result<KeySchema, OpsError> {
        let features = Some(write(features.clone().into_message())?);
        let request = self.request(v1::JoinKeysRequest { features });
        let answer = self.answer(self.registry().join_keys(request).await)?;
        self.read(KeySchema::from_message(answer))
    }

    async fn history(&self, limit: usize) -> Result<Vec<Version>, OpsError> {
        let limit = Some(limit as u64);
        let request = self.request(v1::HistoryRequest { limit });
        let answer = self.answer(self.registry().history(request).await)?;
        self.read(from_each("versions", answer.versions))
    }

    async fn diff(&self, from: RegistryVersion, to: RegistryVersion) -> Result<Changes, OpsError> {
        let request = self.request(v1::DiffRequest {
            from_version: from.0,
            to_version: to.0,
        });
        let answer = self.answer(self.registry().diff(request).await)?;
        self.read(required("changes", answer.changes))
    }

    async fn plan_rollback(&self, to: RegistryVersion) -> Result<Changes, OpsError> {
        let to_version = to.0;
        let request = self.request(v1::PlanRollbackRequest { to_version });
        let answer = self.answer(self.registry().plan_rollback(request).await)?;
        self.read(required("changes", answer.changes))
    }

    async fn rollback(
        &self,
        to: RegistryVersion,
        base: RegistryVersion,
        author: &str,
    ) -> Result<RegistryVersion, OpsError> {
        let request = self.request(v1::RollbackRequest {
            to_version: to.0,
            base_version: base.0,
            author: author.to_owned(),
        });
        let answer = self.answer(self.registry().rollback(request).await)?;
        Ok(RegistryVersion(answer.version))
    }

    async fn runs(&self, view: Option<&ViewName>, limit: usize) -> Result<Vec<Run>, OpsError> {
        let request = self.request(v1::ListRunsRequest {
            view: view.map(ViewName::to_string),
            limit: Some(limit as u64),
        });
        let answer = self.answer(self.materialization().list_runs(request).await)?;
        self.read(from_each("runs", answer.runs))
    }

    async fn compact(&self, views: &[ViewName]) -> Result<Vec<ViewCompaction>, OpsError> {
        let views = texts(views);
        let request = self.request(v1::CompactRequest { views });
        let answer = self.answer(self.maintenance().compact(request).await)?;
        self.read(from_each("views", answer.views))
    }

    async fn vacuum(&self, request: &VacuumRequest) -> Result<Vacuumed, OpsError> {
        let request = self.request(write(request.clone().into_message())?);
        let answer = self.answer(self.maintenance().vacuum(request).await)?;
        self.read(Vacuumed::from_message(answer))
    }

    async fn verify(
        &self,
        request: &VerifyRequest,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<Vec<ViewVerification>, OpsError> {
        let request = self.request(write(request.clone().into_message())?);
        let mut steps = self.answer(self.maintenance().verify(request).await)?;
        loop {
            let step = steps.message().await;
            let step = step.map_err(|status| status::to_error(&status, &self.url))?;
            let step = step.ok_or_else(|| self.unreadable(&"it has no end"))?;
            match self.read(VerifyStep::from_message(step))? {
                VerifyStep::Seen(seen) => events(seen),
                VerifyStep::Done(views) => return Ok(views),
            }
        }
    }

    async fn teardown(
        &self,
        request: &TeardownRequest,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<Vec<ViewTeardown>, OpsError> {
        let request = self.request(write(request.clone().into_message())?);
        let mut steps = self.answer(self.maintenance().teardown(request).await)?;
        loop {
            let step = steps.message().await;
            let step = step.map_err(|status| status::to_error(&status, &self.url))?;
            let step = step.ok_or_else(|| self.unreadable(&"it has no end"))?;
            match self.read(TeardownStep::from_message(step))? {
                TeardownStep::Seen(seen) => events(seen),
                TeardownStep::Done(views) => return Ok(views),
            }
        }
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, OpsError> {
        let request = self.request(write(request.clone().into_message())?);
        let answer = self.answer(self.maintenance().delete(request).await)?;
        self.read(Deleted::from_message(answer))
    }

    async fn doctor(&self) -> Result<Vec<Checkup>, OpsError> {
        let request = self.request(v1::DoctorRequest {});
        let answer = self.answer(self.maintenance().doctor(request).await)?;
        self.read(from_each("parts", answer.parts))
    }
}
