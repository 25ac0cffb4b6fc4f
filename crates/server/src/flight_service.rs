//! Arrow Flight: `DoExchange` joins entity rows with features; `DoGet` joins features with entity rows that the service
//! makes, or makes the rows of a saved dataset again.
//!
//! 1. The caller's first message has a descriptor of type `CMD`, whose bytes are a [`Command`] in JSON.
//! 2. The caller sends the entity rows as any Flight stream: the schema (it may be in the first message), then record
//!    batches, and ends its side.
//! 3. The answer's first message has the schema of the training rows, with an [`Opening`] as app metadata.
//! 4. Record batches follow: exactly the entity rows, in their order, with the features.
//! 5. The last message is a record batch without rows, with a [`Closing`] as app metadata. An answer that ends without
//!    it is not whole.
//!
//! A `DoGet` has a [`command::Ticket`](crate::command::Ticket) in JSON, and the same answer.
//!
//! The other calls of Flight are not there: they answer UNIMPLEMENTED.

use std::sync::Arc;

use arrow::{array::RecordBatch, error::ArrowError};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
    decode::FlightDataDecoder, error::FlightError, flight_descriptor::DescriptorType,
    flight_service_server::FlightService,
};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use serde::Serialize;
use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status, Streaming};
use vintner_core::RegistryVersion;
use vintner_ops::{
    Fault, Operations, OpsError,
    api::{BatchStream, EntityRows, HistoricalReport, HistoricalRequest, Spine, TrainingRows},
};

use crate::{
    command::{self, Asked, Closing, Command, Opening, Report},
    flight_data::{self, Encoder},
    status,
};

/// Historical features as Flight gives them.
pub(crate) struct FlightHandlers {
    pub(crate) ops: Arc<dyn Operations>,
    pub(crate) max_message_bytes: usize,
}

type Messages<T> = BoxStream<'static, Result<T, Status>>;

impl FlightHandlers {
    async fn exchange(
        &self,
        mut messages: Streaming<FlightData>,
    ) -> Result<Messages<FlightData>, Status> {
        let first = messages.message().await?.unwrap_or_default();
        let Command::GetHistorical(command) = command_in(first.flight_descriptor.as_ref())
            .map_err(|error| status::from_error(&error))?;
        let spine = command.spine();
        if spine.map_err(|error| status::unreadable(&error))?.is_some() {
            return Err(status::from_error(&OpsError::new(
                Fault::Request,
                "a DoExchange sends its entity rows; ask for `at`, `between` or `spine` with a DoGet",
            )));
        }
        let request =
            HistoricalRequest::try_from(command).map_err(|error| status::unreadable(&error))?;
        let max_message_bytes = self.max_message_bytes;
        let messages = stream::once(async { Ok(first) })
            .chain(messages)
            .map_err(move |status| match status.code() {
                Code::OutOfRange => status::too_large(max_message_bytes),
                _ => status,
            });
        let mut decoder = flight_data::decode(messages);
        let (schema, _) = flight_data::schema(&mut decoder)
            .await
            .and_then(|schema| schema.ok_or_else(|| FlightError::protocol("there are none")))
            .map_err(unreadable_rows)
            .map_err(|error| status::from_error(&error))?;
        let batches = entity_batches(decoder);
        let rows = Spine::Rows(EntityRows { schema, batches });
        let answer = self.ops.get_historical(&request, rows).await;
        Ok(training_messages(
            answer.map_err(|error| status::from_error(&error))?,
        ))
    }
}

fn command_in(descriptor: Option<&FlightDescriptor>) -> Result<Command, OpsError> {
    match descriptor {
        Some(descriptor) if descriptor.r#type() == DescriptorType::Cmd => {
            Command::read(&descriptor.cmd)
        }
        _ => Err(OpsError::new(
            Fault::Request,
            "the first message of a DoExchange must have a descriptor of type CMD with a command in it",
        )),
    }
}

fn entity_batches(decoder: FlightDataDecoder) -> BatchStream {
    stream::try_unfold(decoder, |mut decoder| async move {
        match flight_data::batch(&mut decoder).await {
            Ok(next) => Ok(next.map(|(batch, _)| (batch, decoder))),
            Err(error) => Err(unreadable_rows(error)),
        }
    })
    .boxed()
}

fn unreadable_rows(error: FlightError) -> OpsError {
    let problem = match error {
        FlightError::Tonic(status) => return status::broken_off(&status),
        FlightError::Arrow(error) => error.to_string(),
        FlightError::ProtocolError(problem)
        | FlightError::DecodeError(problem)
        | FlightError::NotYetImplemented(problem) => problem,
        FlightError::ExternalError(error) => error.to_string(),
    };
    OpsError::new(
        Fault::Request,
        format!(
            "the entity rows cannot be read as a Flight stream: {}",
            problem.trim_end()
        ),
    )
}

/// What is left to send of an answer.
struct Answer {
    encoder: Encoder,
    batches: BatchStream,
    registry_version: RegistryVersion,
    report: Option<oneshot::Receiver<HistoricalReport>>,
}

fn training_messages(rows: TrainingRows) -> Messages<FlightData> {
    let (encoder, mut first) = Encoder::new(rows.schema);
    first.app_metadata = json(&Opening::from(rows.registry_version));
    let answer = Answer {
        encoder,
        batches: rows.batches,
        registry_version: rows.registry_version,
        report: Some(rows.report),
    };
    let rest = stream::try_unfold(answer, |mut answer| async move {
        let messages = match answer.batches.next().await {
            Some(batch) => answer.batch(batch),
            None => match answer.report.take() {
                Some(report) => answer.end(report.await.ok()),
                None => return Ok(None),
            },
        };
        match messages {
            Ok(messages) => Ok(Some((stream::iter(messages).map(Ok), answer))),
            Err(error) => Err(status::from_error(&error)),
        }
    });
    stream::once(async { Ok(first) })
        .chain(rest.try_flatten())
        .boxed()
}

impl Answer {
    fn batch(&mut self, batch: Result<RecordBatch, OpsError>) -> Result<Vec<FlightData>, OpsError> {
        self.encoder.encode(&batch?).map_err(unsendable)
    }

    fn end(&mut self, report: Option<HistoricalReport>) -> Result<Vec<FlightData>, OpsError> {
        let report = report
            .ok_or_else(|| OpsError::new(Fault::Internal, "the join ended without its report"))?;
        let closing = Closing {
            registry_version: self.registry_version.0,
            report: Report::from(&report),
        };
        self.encoder.encode_last(json(&closing)).map_err(unsendable)
    }
}

fn unsendable(error: ArrowError) -> OpsError {
    OpsError::new(
        Fault::Internal,
        format!("the training rows cannot be sent: {error}"),
    )
}

/// JSON of a type whose JSON cannot fail: it has only numbers, and maps from text.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// Says what is there instead of the call.
fn only_rows<T>() -> Result<Response<T>, Status> {
    Err(status::unsupported(
        "of Arrow Flight, Vintner answers DoExchange (send entity rows, receive training rows) and DoGet (rows that the service makes, or a saved dataset)",
    ))
}

#[tonic::async_trait]
impl FlightService for FlightHandlers {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = Messages<FlightData>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.exchange(request.into_inner()).await.map(Response::new)
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        only_rows()
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        only_rows()
    }

    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        only_rows()
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        only_rows()
    }

    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        only_rows()
    }

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let asked = command::Ticket::read(&request.into_inner().ticket);
        let rows = match asked.map_err(|error| status::from_error(&error))? {
            Asked::Reproduce(dataset) => self.ops.reproduce(&dataset).await,
            Asked::GetHistorical(request, spine) => self.ops.get_historical(&request, spine).await,
        };
        let rows = rows.map_err(|error| status::from_error(&error))?;
        Ok(Response::new(training_messages(rows)))
    }

    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        only_rows()
    }

    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        only_rows()
    }

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        only_rows()
    }
}
