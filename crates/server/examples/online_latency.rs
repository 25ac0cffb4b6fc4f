//! How long `GetOnlineFeatures` takes, asked by one client over one connection of a service that is running.
//!
//! ```text
//! online_latency [--requests 10000] [--concurrency 1] [--batch 1] URL SERVICE ENTITY...
//! online_latency http://127.0.0.1:7600 delay_model origin=JFK,carrier=UA origin=LGA,carrier=DL
//! ```
//!
//! Each ENTITY has all join keys of the feature service. Requests take them in turn, `--batch` of them each. A tenth as
//! many requests are made before, and not counted. Times are what the caller waits: sending, the service, the store,
//! receiving, and unpacking the answer. A build without `--release` measures something else.

use std::{
    error::Error,
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use hdrhistogram::Histogram;
use vintner_core::{Column, ColumnValues};
use vintner_ops::{
    Operations, OpsError,
    api::{After, EntityColumn, OnlineRequest},
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_server::Client;

/// What to measure.
struct Options {
    url: String,
    features: FeatureRequest,
    /// Each a list of join keys and their values.
    entities: Vec<Vec<(String, String)>>,
    requests: usize,
    concurrency: usize,
    batch: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read(std::env::args().skip(1))?;
    let client = Client::connect(&options.url).await?;
    let requests: Vec<_> = (0..options.entities.len())
        .map(|first| options.request(first))
        .collect();

    let warm_up = options.requests / 10;
    run(&client, &requests, warm_up, options.concurrency).await?;
    let begun = Instant::now();
    let times = run(&client, &requests, options.requests, options.concurrency).await?;
    let took = begun.elapsed();
    report(&mut std::io::stdout().lock(), &options, &times, took)?;
    Ok(())
}

/// Makes requests, a number of them at a time, and gives how long each took, in nanoseconds.
async fn run(
    client: &Client,
    requests: &[OnlineRequest],
    count: usize,
    concurrency: usize,
) -> Result<Histogram<u64>, OpsError> {
    let next = AtomicUsize::new(0);
    let callers = (0..concurrency).map(|_| async {
        let mut times = empty();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok::<_, OpsError>(times);
            }
            let begun = Instant::now();
            client
                .get_online(requests[at % requests.len()].clone())
                .await?;
            let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            times.saturating_record(nanos);
        }
    });
    let mut all = empty();
    for times in try_join_all(callers).await? {
        all.add(times).expect("all have the same bounds");
    }
    Ok(all)
}

/// From a microsecond to a minute, with three digits.
fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

fn report(
    out: &mut impl Write,
    options: &Options,
    times: &Histogram<u64>,
    took: Duration,
) -> std::io::Result<()> {
    let rate = times.len() as f64 / took.as_secs_f64();
    writeln!(out, "requests      {:>10}", times.len())?;
    writeln!(out, "concurrency   {:>10}", options.concurrency)?;
    writeln!(out, "entities each {:>10}", options.batch)?;
    writeln!(out, "requests/s    {rate:>10.0}")?;
    writeln!(out, "entities/s    {:>10.0}", rate * options.batch as f64)?;
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
        let micros = times.value_at_quantile(quantile) as f64 / 1000.0;
        writeln!(out, "{name:<13} {micros:>10.0} us")?;
    }
    writeln!(
        out,
        "max           {:>10.0} us",
        times.max() as f64 / 1000.0
    )
}

impl Options {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut requests, mut concurrency, mut batch) = (10_000, 1, 1);
        let mut plain = Vec::new();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let number = match argument.as_str() {
                "--requests" => &mut requests,
                "--concurrency" => &mut concurrency,
                "--batch" => &mut batch,
                _ => {
                    plain.push(argument);
                    continue;
                }
            };
            let given = arguments
                .next()
                .ok_or_else(|| format!("{argument} needs a number"))?;
            *number = given.parse::<usize>()?.max(1);
        }
        let mut plain = plain.into_iter();
        let (Some(url), Some(service)) = (plain.next(), plain.next()) else {
            return Err("give URL SERVICE ENTITY...".into());
        };
        let entities: Vec<Vec<(String, String)>> =
            plain.map(|text| entity(&text)).collect::<Result<_, _>>()?;
        if entities.is_empty() {
            return Err("give at least one ENTITY, like origin=JFK,carrier=UA".into());
        }
        Ok(Self {
            url,
            features: FeatureRequest::Service(service.parse()?),
            entities,
            requests,
            concurrency,
            batch,
        })
    }

    /// The request whose first entity is the one at `first`; the others follow in turn.
    fn request(&self, first: usize) -> OnlineRequest {
        let entities = || self.entities.iter().cycle().skip(first).take(self.batch);
        let names = self.entities[first].iter().map(|(name, _)| name);
        let value = |entity: &Vec<(String, String)>, name: &str| {
            let found = entity.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        OnlineRequest {
            features: self.features.clone(),
            names: NameStyle::Short,
            entities: names
                .map(|name| EntityColumn {
                    name: name.clone(),
                    values: Column::new(
                        ColumnValues::String(
                            entities().map(|entity| value(entity, name)).collect(),
                        ),
                        Vec::new(),
                    )
                    .expect("fewer entities than a column can have"),
                })
                .collect(),
            after: After::default(),
        }
    }
}

fn entity(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(',')
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is not like origin=JFK"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}
