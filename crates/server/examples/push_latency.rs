//! How long `Push` takes, and then a push of `PushStream`, asked by some clients over one connection of a service that is
//! running.
//!
//! ```text
//! push_latency [--pushes 1000] [--concurrency 1] [--rows 1] [--keys 10000] URL VIEW
//! push_latency --concurrency 32 http://127.0.0.1:7600 customer_profile
//! ```
//!
//! The rows are made up: entities of which there are `--keys`, at the present moment, with numbers where the view has
//! numbers and nulls elsewhere. They stay in the view's table. A tenth as many pushes are made before, and not counted.
//! Times are what the caller waits, until the rows are durably in the table and in the online store of that service,
//! whichever that is. Over a stream, of which each client has one, it waits for an answer before it pushes again. A
//! build without `--release` measures something else; docs/benchmarks/README.md says how to measure.

use std::{
    error::Error,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::{
    array::{ArrayRef, RecordBatch, TimestampMicrosecondArray},
    datatypes::{Field, Schema},
};
use futures::{StreamExt as _, channel::mpsc, future::try_join_all, stream::BoxStream};
use hdrhistogram::Histogram;
use vintner_core::{Clock, FeatureType, ScalarType, SystemClock, Value, arrow_values};
use vintner_ops::{
    Fault, Operations, OpsError,
    api::{Detail, ObjectKind, PushReport, PushRequest, ViewDetail},
};
use vintner_server::Client;

struct Options {
    pushes: usize,
    concurrency: usize,
    rows: usize,
    keys: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options {
        pushes: 1_000,
        concurrency: 1,
        rows: 1,
        keys: 10_000,
    };
    let mut plain = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = match argument.as_str() {
            "--pushes" => &mut options.pushes,
            "--concurrency" => &mut options.concurrency,
            "--rows" => &mut options.rows,
            "--keys" => &mut options.keys,
            _ => {
                plain.push(argument);
                continue;
            }
        };
        let given = arguments.next().ok_or("a number is missing")?;
        *number = given.parse::<usize>()?.max(1);
    }
    let [url, view] = plain.as_slice() else {
        return Err("give URL VIEW".into());
    };
    let client = Client::connect(url).await?;
    let Detail::FeatureView(detail) = client.show(ObjectKind::FeatureView, view).await? else {
        return Err("that is no feature view".into());
    };
    for way in [Way::Unary, Way::Stream] {
        run(&client, way, &detail, &options, options.pushes / 10).await?;
        let begun = Instant::now();
        let times = run(&client, way, &detail, &options, options.pushes).await?;
        let took = begun.elapsed();
        report(&mut std::io::stdout().lock(), way, &options, &times, took)?;
    }
    Ok(())
}

/// How a client pushes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Each push is a call.
    Unary,
    /// All pushes of a client go over one stream.
    Stream,
}

/// What a client pushes with.
enum Pusher<'a> {
    Unary(&'a Client),
    Stream {
        requests: mpsc::UnboundedSender<PushRequest>,
        answers: BoxStream<'static, Result<PushReport, OpsError>>,
    },
}

impl<'a> Pusher<'a> {
    async fn new(client: &'a Client, way: Way) -> Result<Self, OpsError> {
        Ok(match way {
            Way::Unary => Self::Unary(client),
            Way::Stream => {
                let (requests, sent) = mpsc::unbounded();
                let answers = client.push_stream(sent).await?;
                Self::Stream { requests, answers }
            }
        })
    }

    async fn push(&mut self, request: PushRequest) -> Result<(), OpsError> {
        match self {
            Self::Unary(client) => client.push(&request).await.map(drop),
            Self::Stream { requests, answers } => {
                // A stream that has ended says why instead of an answer.
                let _ = requests.unbounded_send(request);
                let ended = || Err(OpsError::new(Fault::Store, "the stream has ended"));
                answers.next().await.unwrap_or_else(ended).map(drop)
            }
        }
    }
}

/// Pushes, a number at a time, and gives how long each took, in nanoseconds.
async fn run(
    client: &Client,
    way: Way,
    view: &ViewDetail,
    options: &Options,
    count: usize,
) -> Result<Histogram<u64>, OpsError> {
    let next = AtomicUsize::new(0);
    let callers = (0..options.concurrency).map(|_| async {
        let mut pusher = Pusher::new(client, way).await?;
        let mut times = empty();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok::<_, OpsError>(times);
            }
            let request = request(view, options, at);
            let begun = Instant::now();
            pusher.push(request).await?;
            times.saturating_record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    });
    let mut all = empty();
    for times in try_join_all(callers).await? {
        all.add(times).expect("all have the same bounds");
    }
    Ok(all)
}

fn request(view: &ViewDetail, options: &Options, at: usize) -> PushRequest {
    let revision = &view.revision;
    let rows = || (0..options.rows).map(|row| (at * options.rows + row) * 7919 % options.keys);
    let mut fields = vec![Field::new(
        "event_timestamp",
        FeatureType::Scalar(ScalarType::Timestamp).arrow(),
        true,
    )];
    let now = std::iter::repeat_n(SystemClock.now().micros(), options.rows);
    let now = TimestampMicrosecondArray::from_iter_values(now).with_timezone("UTC");
    let mut columns: Vec<ArrayRef> = vec![Arc::new(now)];
    let keys = revision.keys().iter();
    let keys = keys.map(|key| {
        (
            key.name.to_string(),
            FeatureType::Scalar(key.key_type.scalar()),
        )
    });
    let features = revision.features.iter();
    let features = features.map(|feature| (feature.name.to_string(), feature.feature_type));
    for (name, feature_type) in keys.chain(features) {
        let values: Vec<_> = rows().map(|number| value(feature_type, number)).collect();
        fields.push(Field::new(name, feature_type.arrow(), true));
        columns.push(arrow_values::column(
            feature_type,
            values.iter().map(Option::as_ref),
        ));
    }
    PushRequest {
        view: revision.id.name.clone(),
        version: None,
        rows: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .expect("all columns are of one length"),
        producer: None,
    }
}

fn value(feature_type: FeatureType, number: usize) -> Option<Value> {
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    let FeatureType::Scalar(scalar) = feature_type else {
        return None;
    };
    Some(match scalar {
        ScalarType::Bool => Value::Bool(number % 2 == 0),
        ScalarType::Int32 => Value::Int32(number),
        ScalarType::Int64 => Value::Int64(number.into()),
        ScalarType::Float64 => Value::Float64(number.into()),
        ScalarType::String => Value::String(number.to_string()),
        ScalarType::Bytes => Value::Bytes(number.to_be_bytes().to_vec()),
        ScalarType::Float32 | ScalarType::Timestamp => return None,
    })
}

/// From a microsecond to a minute, with three digits.
fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

fn report(
    out: &mut impl Write,
    way: Way,
    options: &Options,
    times: &Histogram<u64>,
    took: Duration,
) -> std::io::Result<()> {
    let rate = times.len() as f64 / took.as_secs_f64();
    let way = match way {
        Way::Unary => "Push",
        Way::Stream => "PushStream",
    };
    writeln!(out, "{way}")?;
    writeln!(out, "pushes        {:>10}", times.len())?;
    writeln!(out, "concurrency   {:>10}", options.concurrency)?;
    writeln!(out, "rows each     {:>10}", options.rows)?;
    writeln!(out, "pushes/s      {rate:>10.0}")?;
    writeln!(out, "rows/s        {:>10.0}", rate * options.rows as f64)?;
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let micros = times.value_at_quantile(quantile) as f64 / 1000.0;
        writeln!(out, "{name:<13} {micros:>10.0} us")?;
    }
    writeln!(
        out,
        "max           {:>10.0} us",
        times.max() as f64 / 1000.0
    )
}
