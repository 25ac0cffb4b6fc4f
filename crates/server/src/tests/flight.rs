//! Entity rows in, training rows out, over Arrow Flight.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, DictionaryArray, Int64Array, LargeListArray, RecordBatch, StringArray,
        StringViewArray, TimestampMicrosecondArray,
    },
    compute::concat_batches,
    datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef},
};
use arrow_flight::{
    FlightClient, FlightData, FlightDescriptor, decode::FlightRecordBatchStream,
    encode::FlightDataEncoderBuilder, flight_service_client::FlightServiceClient,
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;
use tonic::Code;
use vintner_core::{Boundary, Knowledge, RegistryVersion, Timestamp};
use vintner_ops::{
    Fault, Operations, OpsError,
    api::{EntityRows, HistoricalReport, HistoricalRequest, SaveAs, Snapshots, Spine, Split},
};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use super::{
    fake::{Fake, Gate, Mood},
    on_any_port, service, soon,
};
use crate::{Client, ServerConfig};

fn request() -> HistoricalRequest {
    HistoricalRequest {
        features: FeatureRequest::Features(vec!["weather:temp".parse().unwrap()]),
        names: NameStyle::Full,
        knowledge: Knowledge::Available,
        boundary: Boundary::Before,
        timestamp_column: Some("at".to_owned()),
        split: Some(Split::new("train=2013-09-01,test", None).unwrap()),
        save: Some(SaveAs {
            name: "delays_2013".parse().unwrap(),
            author: "ann é".to_owned(),
        }),
        lint: true,
        after: Vec::new(),
    }
}

/// Entity rows with a null here and there, and with types that need care on the way.
fn entity_batch(from: i64, rows: i64) -> RecordBatch {
    let numbers = from..from + rows;
    let names = StringArray::from(vec![format!("JFK{from}"), "LGA".to_owned()]);
    let keys = numbers
        .clone()
        .map(|i| (i % 7 != 0).then_some((i % 2) as i32))
        .collect();
    let at: TimestampMicrosecondArray = numbers
        .clone()
        .map(|i| (i % 5 != 0).then_some(-i))
        .collect();
    let view: StringViewArray = numbers
        .clone()
        .map(|i| Some(format!("a text of more than twelve bytes {i}")))
        .collect();
    let lists = numbers
        .clone()
        .map(|i| (i % 3 != 0).then(|| vec![Some(i), None]));
    let columns: [(&str, ArrayRef); 5] = [
        ("flight", Arc::new(numbers.collect::<Int64Array>())),
        (
            "origin",
            Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(names))),
        ),
        ("at", Arc::new(at.with_timezone("UTC"))),
        ("note", Arc::new(view)),
        (
            "large",
            Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(
                lists,
            )),
        ),
    ];
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let metadata = [("made by".to_owned(), "a test".to_owned())].into();
    let schema = Schema::new_with_metadata(fields, metadata);
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn rows(batches: Vec<RecordBatch>) -> EntityRows {
    EntityRows {
        schema: entity_batch(0, 0).schema(),
        batches: stream::iter(batches).map(Ok).boxed(),
    }
}

type Joined = (SchemaRef, RecordBatch, RegistryVersion, HistoricalReport);

async fn join(ops: &dyn Operations, entity_rows: EntityRows) -> Result<Joined, OpsError> {
    made(ops, Spine::Rows(entity_rows)).await
}

async fn made(ops: &dyn Operations, spine: Spine) -> Result<Joined, OpsError> {
    let training = ops.get_historical(&request(), spine).await?;
    let batches: Vec<_> = training.batches.try_collect().await?;
    let all = concat_batches(&training.schema, &batches).unwrap();
    let report = training.report.await.unwrap();
    Ok((training.schema, all, training.registry_version, report))
}

#[tokio::test]
async fn training_rows_come_back_as_they_were_joined() {
    let fake = Fake::new();
    let (service, client) = service(&fake).await;
    for batches in [
        vec![],
        vec![entity_batch(0, 0)],
        vec![entity_batch(0, 1)],
        vec![
            entity_batch(0, 3),
            entity_batch(3, 0),
            entity_batch(3, 1000),
        ],
        // Slices have only a part of their buffers.
        vec![
            entity_batch(0, 100).slice(90, 10),
            entity_batch(100, 100).slice(0, 1),
        ],
    ] {
        let direct = join(fake.as_ref(), rows(batches.clone())).await.unwrap();
        let asked = fake.calls();
        let remote = soon(join(&client, rows(batches))).await.unwrap();
        assert_eq!(remote, direct);
        assert_eq!(fake.calls(), asked);
    }
    service.stop().await;
}

#[tokio::test]
async fn rows_that_the_service_makes_are_asked_for_without_sending_any() {
    let fake = Fake::new();
    let (service, client) = service(&fake).await;
    let spines: [fn() -> Spine; 4] = [
        || Spine::At("2013-01-01T00:00:00.000001Z".parse().unwrap()),
        || Spine::At(Timestamp::MIN),
        || {
            let [from, to] = ["2013-01-01", "2013-02-01"].map(|at| at.parse().unwrap());
            Spine::Snapshots(Snapshots::new(from, to, "1d 30m".parse().unwrap()).unwrap())
        },
        || Spine::Query("SELECT \"é\"\nFROM weather".to_owned()),
    ];
    for spine in spines {
        let direct = made(fake.as_ref(), spine()).await.unwrap();
        let asked = fake.calls();
        assert!(soon(made(&client, spine())).await.unwrap() == direct);
        assert_eq!(fake.calls(), asked);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_batch_larger_than_a_message_is_sent_in_parts() {
    let fake = Fake::new();
    let config = ServerConfig {
        // The parts must fit.
        max_message_bytes: 4 * 1024 * 1024,
        ..on_any_port()
    };
    let service = super::Service::start(Arc::clone(&fake) as Arc<dyn Operations>, config).await;
    let client = service.client().await;
    let batches = vec![entity_batch(0, 200_000)];
    let direct = join(fake.as_ref(), rows(batches.clone())).await.unwrap();
    let remote = soon(join(&client, rows(batches))).await.unwrap();
    assert!(remote == direct);
    service.stop().await;
}

/// What any Flight client does: here the Rust one of Arrow itself.
#[tokio::test]
async fn a_plain_flight_client_gets_the_rows_and_the_report() {
    let fake = Fake::new();
    let (service, _) = service(&fake).await;
    let mut client = FlightClient::new(service.channel().await);
    let command = r#"{"get_historical": {"service": "delay_model"}}"#;
    let batch = entity_batch(0, 10).project(&[0]).unwrap();
    let messages = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command)))
        .build(stream::iter([Ok(batch)]));
    let answer: FlightRecordBatchStream = client.do_exchange(messages).await.unwrap();
    let messages: Vec<_> = answer.into_inner().try_collect().await.unwrap();
    let text = |metadata: &[u8]| String::from_utf8(metadata.to_vec()).unwrap();
    insta::assert_snapshot!(text(&messages.first().unwrap().inner.app_metadata), @r#"{"registry_version":7}"#);
    insta::assert_snapshot!(text(&messages.last().unwrap().inner.app_metadata), @r#"{"registry_version":7,"report":{"rows":10,"rows_without_key":1,"rows_matched":{"weather@2":10},"work":{"plan":"","chunks":0,"planning_micros":0,"entity_rows_micros":0,"output_micros":0,"micros":0,"views":[]}}}"#);
    insta::assert_snapshot!(fake.calls().concat(), @r#"get_historical HistoricalRequest { features: Service("delay_model"), names: Short, knowledge: Event, boundary: At, timestamp_column: None, split: None, save: None, lint: false, after: [] } Schema { fields: [Field { name: "flight", data_type: Int64, nullable: true }], metadata: {"made by": "a test"} }"#);
    service.stop().await;
}

/// Python's client may send its descriptor before it knows the schema.
#[tokio::test]
async fn a_descriptor_may_come_before_the_schema() {
    let (service, _) = service(&Fake::new()).await;
    let mut raw = FlightServiceClient::new(service.channel().await);
    let command = r#"{"get_historical": {"service": "delay_model"}}"#;
    let descriptor = FlightData::new().with_descriptor(FlightDescriptor::new_cmd(command));
    let rows: Vec<FlightData> = FlightDataEncoderBuilder::new()
        .build(stream::iter([Ok(entity_batch(0, 2)
            .project(&[0])
            .unwrap())]))
        .try_collect()
        .await
        .unwrap();
    let messages = [descriptor].into_iter().chain(rows);
    let answer = raw
        .do_exchange(stream::iter(messages))
        .await
        .unwrap()
        .into_inner();
    let answer: Vec<_> = answer.try_collect().await.unwrap();
    assert!(answer.len() >= 3);
    service.stop().await;
}

#[tokio::test]
async fn an_exchange_that_does_not_follow_the_steps_is_told_so() {
    let (service, _) = service(&Fake::new()).await;
    let mut raw = FlightServiceClient::new(service.channel().await);
    let command =
        |json: &str| FlightData::new().with_descriptor(FlightDescriptor::new_cmd(json.to_owned()));
    let good = || command(r#"{"get_historical": {"service": "s"}}"#);
    let path = FlightDescriptor::new_path(vec!["delay_model".to_owned()]);
    let garbage = FlightData::new().with_data_header(vec![1, 2, 3]);
    let batch_only: Vec<FlightData> = FlightDataEncoderBuilder::new()
        .build(stream::iter([Ok(entity_batch(0, 2)
            .project(&[0])
            .unwrap())]))
        .try_collect()
        .await
        .unwrap();
    let mut refusals = String::new();
    for messages in [
        vec![],
        vec![FlightData::new()],
        vec![FlightData::new().with_descriptor(path)],
        vec![command("delay_model")],
        vec![good()],
        vec![command(
            r#"{"get_historical": {"service": "s", "at": "2013-01-01"}}"#,
        )],
        vec![good(), garbage],
        vec![good(), batch_only[1].clone()],
    ] {
        let status = raw.do_exchange(stream::iter(messages)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        refusals.push_str(&format!("{}\n", status.message()));
    }
    insta::assert_snapshot!(refusals, @r#"
    the first message of a DoExchange must have a descriptor of type CMD with a command in it
    the first message of a DoExchange must have a descriptor of type CMD with a command in it
    the first message of a DoExchange must have a descriptor of type CMD with a command in it
    the descriptor's command is not what DoExchange takes, which is JSON like {"get_historical": {"service": "delay_model"}}: expected value at line 1 column 1
    the entity rows cannot be read as a Flight stream: there are none
    a DoExchange sends its entity rows; ask for `at`, `between` or `spine` with a DoGet
    the entity rows cannot be read as a Flight stream: Error decoding root message: Range [0, 4) is out of bounds.
    the entity rows cannot be read as a Flight stream: Received RecordBatch prior to Schema
    "#);
    let ticket = arrow_flight::Ticket::new("x");
    let status = raw.do_get(ticket).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    insta::assert_snapshot!(status.message(), @r#"the ticket is not what DoGet takes, which is JSON like {"reproduce": {"dataset": "delays_2013"}} or {"get_historical": {"service": "delay_model", "at": "2013-01-01T00:00:00Z"}}: expected value at line 1 column 1"#);
    let everything = arrow_flight::Criteria::default();
    let status = raw.list_flights(everything).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    insta::assert_snapshot!(status.message(), @"of Arrow Flight, Vintner answers DoExchange (send entity rows, receive training rows) and DoGet (rows that the service makes, or a saved dataset)");
    service.stop().await;
}

#[tokio::test]
async fn an_error_before_the_rows_keeps_its_fault() {
    let fake = Fake::in_mood(Mood::Fail(Fault::Data, "there is no column `origin`", None));
    let (service, client) = service(&fake).await;
    let error = soon(join(&client, rows(vec![entity_batch(0, 3)])))
        .await
        .unwrap_err();
    assert_eq!(
        (error.fault, error.message.as_str()),
        (Fault::Data, "there is no column `origin`")
    );
    service.stop().await;
}

/// The fake reads its entity rows while it answers, so their failure comes in the midst of the answer too.
#[tokio::test]
async fn rows_that_fail_at_the_caller_are_its_own_error_and_never_a_shorter_answer() {
    let (service, client) = service(&Fake::new()).await;
    let failing = || EntityRows {
        schema: entity_batch(0, 0).schema(),
        batches: stream::iter([
            Ok(entity_batch(0, 3)),
            Err(OpsError::new(Fault::Data, "flights.csv: line 5 is broken")),
        ])
        .boxed(),
    };
    let error = soon(join(&client, failing())).await.unwrap_err();
    assert_eq!(
        (error.fault, error.message.as_str()),
        (Fault::Data, "flights.csv: line 5 is broken")
    );
    service.stop().await;
}

#[tokio::test]
async fn rows_that_do_not_fit_their_schema_are_refused_before_they_are_sent() {
    let (service, client) = service(&Fake::new()).await;
    let entity_rows = EntityRows {
        schema: entity_batch(0, 0).project(&[0]).unwrap().schema(),
        batches: stream::iter([Ok(entity_batch(0, 3).project(&[1]).unwrap())]).boxed(),
    };
    let error = soon(join(&client, entity_rows)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Request);
    service.stop().await;
}

#[tokio::test]
async fn a_record_batch_that_is_too_large_is_told_the_limit() {
    let config = ServerConfig {
        max_message_bytes: 20_000,
        ..on_any_port()
    };
    let service = super::Service::start(Fake::new() as Arc<dyn Operations>, config).await;
    let client = service.client().await;
    let error = soon(join(&client, rows(vec![entity_batch(0, 1000)])))
        .await
        .unwrap_err();
    assert_eq!(error.fault, Fault::Request);
    insta::assert_snapshot!(error.message, @"a message of the request is larger than 20000 bytes, which is the service's limit; send less at once (fewer entities, smaller record batches), or raise the limit (`serve --max-message`)");
    service.stop().await;
}

/// Reads the first batch of an answer whose second waits at the gate.
async fn first_batch(client: &Client) -> vintner_ops::api::BatchStream {
    let batches = vec![entity_batch(0, 3), entity_batch(3, 3)];
    let training = client
        .get_historical(&request(), Spine::Rows(rows(batches)))
        .await
        .unwrap();
    let mut batches = training.batches;
    assert_eq!(batches.next().await.unwrap().unwrap().num_rows(), 3);
    batches
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_midst_ends_the_join() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, client) = service(&fake).await;
    let batches = first_batch(&client).await;
    soon(gate.entered.acquire()).await.unwrap().forget();
    drop(batches);
    soon(gate.left.cancelled()).await;
    assert_eq!(service.stop().await, crate::Stopped::Clean);
}

#[tokio::test]
async fn a_join_in_flight_is_finished_when_the_service_stops() {
    let gate = Gate::new();
    let fake = Fake::in_mood(Mood::Wait(Arc::clone(&gate)));
    let (service, client) = service(&fake).await;
    let mut batches = first_batch(&client).await;
    service.stop.send(()).unwrap();
    gate.open.add_permits(1);
    assert_eq!(soon(batches.next()).await.unwrap().unwrap().num_rows(), 3);
    assert!(soon(batches.next()).await.is_none());
    assert_eq!(
        soon(service.served).await.unwrap().unwrap(),
        crate::Stopped::Clean
    );
}

#[tokio::test]
async fn the_report_is_not_given_when_the_rows_are_not_read() {
    let (service, client) = service(&Fake::new()).await;
    let training = client
        .get_historical(&request(), Spine::Rows(rows(vec![entity_batch(0, 3)])))
        .await;
    let training = training.unwrap();
    drop(training.batches);
    let report: oneshot::Receiver<HistoricalReport> = training.report;
    assert!(soon(report).await.is_err());
    service.stop().await;
}

#[test]
fn types_are_announced_as_they_are() {
    let schema = entity_batch(0, 0).schema();
    assert!(matches!(
        schema.field(1).data_type(),
        DataType::Dictionary(..)
    ));
    assert!(matches!(
        schema.field(4).data_type(),
        DataType::LargeList(_)
    ));
}
