//! The client's side of a `DoExchange` and a `DoGet`. The steps are listed in [`crate::flight_service`].

use arrow::array::RecordBatch;
use arrow_flight::{
    FlightData, FlightDescriptor, decode::FlightDataDecoder, error::FlightError,
    flight_service_client::FlightServiceClient,
};
use bytes::Bytes;
use futures::{
    Stream, StreamExt, TryStreamExt,
    future::{BoxFuture, FutureExt},
    stream,
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tonic::Streaming;
use vintner_core::{DatasetName, RegistryVersion};
use vintner_ops::{
    Fault, OpsError,
    api::{BatchStream, EntityRows, HistoricalReport, HistoricalRequest, Spine, TrainingRows},
};

use super::{Client, MAX_ANSWER_BYTES};
use crate::{
    command::{Between, Closing, Command, GetHistorical, Opening, Reproduce, Ticket},
    flight_data::{self, Encoder},
    status,
};

pub(super) async fn get(
    client: &Client,
    request: &HistoricalRequest,
    spine: Spine,
) -> Result<TrainingRows, OpsError> {
    let mut command = GetHistorical::from(request);
    match spine {
        Spine::Rows(rows) => return exchange(client, command, rows).await,
        Spine::At(at) => command.at = Some(at.to_string()),
        Spine::Snapshots(snapshots) => {
            command.between = Some(Between {
                from: snapshots.from().to_string(),
                to: snapshots.to().to_string(),
                every: snapshots.every().to_string(),
            });
        }
        Spine::Query(sql) => command.spine = Some(sql),
    }
    ask(client, &Ticket::GetHistorical(Box::new(command))).await
}

/// Sends entity rows, and takes training rows.
async fn exchange(
    client: &Client,
    command: GetHistorical,
    entity_rows: EntityRows,
) -> Result<TrainingRows, OpsError> {
    let command = serde_json::to_vec(&Command::GetHistorical(command)).map_err(|error| {
        OpsError::new(
            Fault::Internal,
            format!("the command cannot be sent: {error}"),
        )
    })?;
    let (messages, mut failure) = upload(command, entity_rows);
    let mut flight = FlightServiceClient::new(client.channel.clone())
        .max_decoding_message_size(MAX_ANSWER_BYTES);
    let call = client.request(messages);
    let answer = tokio::select! {
        error = &mut failure => return Err(error),
        answer = flight.do_exchange(call) => client.answer(answer)?,
    };
    training_rows(client, answer, failure).await
}

/// The rows of a saved dataset, made again.
pub(super) async fn reproduce(
    client: &Client,
    dataset: &DatasetName,
) -> Result<TrainingRows, OpsError> {
    let ticket = Ticket::Reproduce(Reproduce {
        dataset: dataset.to_string(),
    });
    ask(client, &ticket).await
}

/// Takes the training rows that a ticket asks for.
async fn ask(client: &Client, ticket: &Ticket) -> Result<TrainingRows, OpsError> {
    let ticket = serde_json::to_vec(ticket).map_err(|error| {
        OpsError::new(
            Fault::Internal,
            format!("the ticket cannot be sent: {error}"),
        )
    })?;
    let mut flight = FlightServiceClient::new(client.channel.clone())
        .max_decoding_message_size(MAX_ANSWER_BYTES);
    let call = client.request(arrow_flight::Ticket::new(ticket));
    let answer = client.answer(flight.do_get(call).await)?;
    // Nothing is sent that could fail on this side.
    training_rows(client, answer, std::future::pending().boxed()).await
}

/// The answer, from its opening on.
async fn training_rows(
    client: &Client,
    answer: Streaming<FlightData>,
    mut failure: Failure,
) -> Result<TrainingRows, OpsError> {
    let mut decoder = flight_data::decode(answer);
    let opening = tokio::select! {
        error = &mut failure => return Err(error),
        schema = flight_data::schema(&mut decoder) => schema,
    };
    let opening = opening.map_err(|error| failed(client, error))?;
    let (schema, metadata) = opening.ok_or_else(|| client.unreadable(&"it is empty"))?;
    let Opening { registry_version } = json(client, &metadata)?;
    let (sender, report) = oneshot::channel();
    let download = Download {
        client: client.clone(),
        decoder,
        failure,
        report: Some(sender),
    };
    Ok(TrainingRows {
        schema,
        batches: download.batches(),
        registry_version: RegistryVersion(registry_version),
        report,
    })
}

/// Comes true when the entity rows fail on this side, and never otherwise.
type Failure = BoxFuture<'static, OpsError>;

/// The messages of a command and its entity rows. A request's stream cannot fail, and must not end before the rows do:
/// the service would join what it has got. So when the rows fail, the stream stands still, and whoever waits for the
/// answer learns of the failure and drops the call.
fn upload(
    command: Vec<u8>,
    rows: EntityRows,
) -> (impl Stream<Item = FlightData> + Send + 'static, Failure) {
    let (mut encoder, mut first) = Encoder::new(rows.schema);
    first.flight_descriptor = Some(FlightDescriptor::new_cmd(command));
    let (sender, failure) = oneshot::channel();
    let encoded = rows.batches.map(move |batch| {
        encoder.encode(&batch?).map_err(|error| {
            OpsError::new(
                Fault::Request,
                format!("the entity rows cannot be sent: {error}"),
            )
        })
    });
    let rest = stream::unfold(
        (encoded, Some(sender)),
        |(mut encoded, mut sender)| async move {
            match encoded.next().await? {
                Ok(messages) => Some((stream::iter(messages), (encoded, sender))),
                Err(error) => {
                    if let Some(sender) = sender.take() {
                        // Nobody listens any more only when the call is dropped, and this stream with it.
                        let _ = sender.send(error);
                    }
                    std::future::pending().await
                }
            }
        },
    );
    let failure = async {
        match failure.await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    };
    let messages = stream::once(async { first }).chain(rest.flatten());
    (messages, failure.boxed())
}

/// An answer that is being read.
struct Download {
    client: Client,
    decoder: FlightDataDecoder,
    failure: Failure,
    report: Option<oneshot::Sender<HistoricalReport>>,
}

impl Download {
    fn batches(self) -> BatchStream {
        stream::try_unfold(self, |mut download| async move {
            let next = download.next().await?;
            Ok(next.map(|batch| (batch, download)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, OpsError> {
        let next = tokio::select! {
            error = &mut self.failure => return Err(error),
            next = flight_data::batch(&mut self.decoder) => next,
        };
        match next.map_err(|error| failed(&self.client, error))? {
            Some((batch, metadata)) if metadata.is_empty() => Ok(Some(batch)),
            Some((_, metadata)) => {
                let Closing { report, .. } = json(&self.client, &metadata)?;
                let report = self.client.read(HistoricalReport::try_from(report))?;
                self.close().await?;
                if let Some(sender) = self.report.take() {
                    // Whoever reads the rows need not want the report.
                    let _ = sender.send(report);
                }
                Ok(None)
            }
            None => Err(self.client.unreadable(&"it ends before its report")),
        }
    }

    /// The report is the last message, and the call must end well after it.
    async fn close(&mut self) -> Result<(), OpsError> {
        match self.decoder.try_next().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(self.client.unreadable(&"it goes on after its report")),
            Err(error) => Err(failed(&self.client, error)),
        }
    }
}

fn json<T: DeserializeOwned>(client: &Client, metadata: &Bytes) -> Result<T, OpsError> {
    serde_json::from_slice(metadata).map_err(|error| client.unreadable(&error))
}

fn failed(client: &Client, error: FlightError) -> OpsError {
    match error {
        FlightError::Tonic(status) => status::to_error(&status, &client.url),
        other => client.unreadable(&other),
    }
}
