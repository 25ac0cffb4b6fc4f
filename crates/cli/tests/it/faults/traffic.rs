//! Callers of a service, who note what they see.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use tokio::task::JoinSet;
use vintner_core::{Column, FeatureType, ScalarType, Timestamp, Value};
use vintner_ops::{
    Fault, Operations as _, OpsError,
    api::{
        After, EntityColumn, OnlineRequest, Producer, PushReport, PushRequest, Status, WriteToken,
    },
};
use vintner_registry::selection::{FeatureRequest, NameStyle};
use vintner_server::Client;

/// How much later than its deadline a request may be answered, on a machine that is busy.
const SLACK: Duration = Duration::from_millis(700);

/// How many callers ask at one time.
const CALLERS: usize = 3;

/// When the first pushed row is true; each is a microsecond after the one before.
const FIRST_PUSH: &str = "2026-04-01T00:00:00Z";

/// The customer whose credit limit is pushed, and one that has no row.
const PUSHED: i64 = 1;
const NOBODY: i64 = 1_000_000;

/// What is known of the values that may be answered: they ascend.
#[derive(Clone)]
pub(super) struct Truth {
    /// How errors name the store.
    store: Arc<str>,
    /// The newest value that was sent.
    sent: Arc<AtomicU32>,
    /// The newest value that was acknowledged.
    acknowledged: Arc<AtomicU32>,
}

/// What one request was answered.
pub(super) enum Answer {
    /// A value that may be.
    Data,
    /// An error that may be.
    Error(OpsError),
    /// What must not be.
    Wrong(String),
}

impl Answer {
    pub(super) fn is_data(&self) -> bool {
        match self {
            Self::Data => true,
            Self::Error(_) => false,
            Self::Wrong(what) => panic!("{what}"),
        }
    }

    pub(super) fn error(self) -> OpsError {
        match self {
            Self::Error(error) => error,
            Self::Data => panic!("it is answered"),
            Self::Wrong(what) => panic!("{what}"),
        }
    }
}

impl Truth {
    pub(super) fn new(store: &str) -> Self {
        Self {
            store: store.into(),
            sent: Arc::default(),
            acknowledged: Arc::default(),
        }
    }

    /// A value to push that no answer has had.
    pub(super) fn next(&self) -> u32 {
        self.sent.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// From now on no older value is right.
    pub(super) fn acknowledged(&self, value: u32) {
        self.acknowledged.fetch_max(value, Ordering::SeqCst);
    }

    /// Asks for the pushed customer, for one that never changes and for one that has no row.
    pub(super) async fn ask(&self, client: &Client, deadline: Duration) -> Answer {
        let least = self.acknowledged.load(Ordering::SeqCst);
        let client = client.clone().with_deadline(deadline);
        let began = Instant::now();
        let answer = limits(&client, &[PUSHED, 3, NOBODY]).await;
        let took = began.elapsed();
        let most = self.sent.load(Ordering::SeqCst);
        if took > deadline + SLACK {
            return Answer::Wrong(format!("{answer:?} after {took:?} of {deadline:?}"));
        }
        match answer {
            // Before the first push there is what the run has loaded.
            Ok(found)
                if found[1..] == [Some(1000.0), None]
                    && found[0].is_some_and(|value| {
                        (least == 0 && value == 500.0)
                            || (f64::from(least).max(1.0)..=f64::from(most)).contains(&value)
                    }) =>
            {
                Answer::Data
            }
            Ok(found) => Answer::Wrong(format!("{found:?} when {least} to {most} is right")),
            Err(error) => {
                // A client whose deadline is over need not hear of it from the service, which tells of it shortly before.
                let is_late = took >= deadline && error.message.contains("before the deadline");
                match error.fault == Fault::Store
                    && (error.message.contains(&*self.store) || is_late)
                {
                    true => Answer::Error(error),
                    false => Answer::Wrong(format!("{:?}: {}", error.fault, error.chain())),
                }
            }
        }
    }
}

/// The credit limits of customers; none of those that have no row.
pub(super) async fn limits(
    client: &Client,
    customers: &[i64],
) -> Result<Vec<Option<f64>>, OpsError> {
    ask(client, customers, Vec::new()).await
}

/// The credit limit of the customer, no older than what was pushed when the token was given.
pub(super) async fn limits_after(
    client: &Client,
    token: &WriteToken,
) -> Result<Vec<Option<f64>>, OpsError> {
    ask(client, &[PUSHED], vec![token.clone()]).await
}

async fn ask(
    client: &Client,
    customers: &[i64],
    tokens: Vec<WriteToken>,
) -> Result<Vec<Option<f64>>, OpsError> {
    let integer = FeatureType::Scalar(ScalarType::Int64);
    let values = customers.iter().map(|id| Some(Value::Int64(*id)));
    let request = OnlineRequest {
        features: FeatureRequest::Features(vec!["customer_profile:credit_limit".parse().unwrap()]),
        names: NameStyle::Short,
        after: After {
            tokens,
            ..After::default()
        },
        entities: vec![EntityColumn {
            name: "customer_id".to_owned(),
            values: Column::of(integer, values).unwrap(),
        }],
    };
    let column = client.get_online(request).await?.features.remove(0);
    let rows = column.values.iter().zip(&column.statuses);
    let rows = rows.map(|(value, status)| match (value, status) {
        (Some(Value::Float64(value)), Status::Present) => Some(value),
        (None, Status::NotFound | Status::NullValue) => None,
        other => panic!("{other:?}"),
    });
    Ok(rows.collect())
}

/// Pushes a credit limit of the customer. Pushed again, the same one is the same push.
pub(super) async fn push(
    client: &Client,
    customer: i64,
    limit: u32,
) -> Result<PushReport, OpsError> {
    let first: Timestamp = FIRST_PUSH.parse().unwrap();
    let at = TimestampMicrosecondArray::from(vec![first.micros() + i64::from(limit)]);
    let columns: [(&str, ArrayRef); 5] = [
        ("customer_id", Arc::new(Int64Array::from(vec![customer]))),
        ("event_timestamp", Arc::new(at.with_timezone("UTC"))),
        ("plan", Arc::new(StringArray::from(vec!["pro"]))),
        (
            "credit_limit",
            Arc::new(Float64Array::from(vec![f64::from(limit)])),
        ),
        ("is_pro", Arc::new(BooleanArray::from(vec![true]))),
    ];
    let request = PushRequest {
        view: "customer_profile".parse().unwrap(),
        version: None,
        rows: RecordBatch::try_from_iter(columns).unwrap(),
        producer: Some(Producer {
            name: format!("tests of {customer}"),
            sequence: limit.into(),
        }),
    };
    client.push(&request).await
}

/// Callers who ask without a pause, and one who pushes, until they are told to end.
pub(super) struct Traffic {
    tasks: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    errors: Arc<AtomicUsize>,
}

/// What callers have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Requests that were answered with data.
    answers: usize,
    /// Errors, by what they say.
    errors: BTreeMap<String, usize>,
    /// What must not be.
    wrong: Vec<String>,
    /// The longest that any request took.
    pub(super) longest: Duration,
}

impl Seen {
    /// Data and errors were seen, and nothing that must not be.
    pub(super) fn check(&self) {
        assert!(self.answers > 0 && !self.errors.is_empty(), "{self:#?}");
        assert_eq!(self.wrong, Vec::<String>::new(), "{self:#?}");
    }
}

impl Traffic {
    /// Starts when data has been seen.
    pub(super) async fn start(client: &Client, truth: &Truth, deadline: Duration) -> Self {
        let mut traffic = Self {
            tasks: JoinSet::new(),
            is_over: Arc::default(),
            seen: Arc::default(),
            errors: Arc::default(),
        };
        while !truth.ask(client, deadline).await.is_data() {}
        for _ in 0..CALLERS {
            let (client, truth) = (client.clone(), truth.clone());
            let (is_over, seen) = (Arc::clone(&traffic.is_over), Arc::clone(&traffic.seen));
            let errors = Arc::clone(&traffic.errors);
            traffic.tasks.spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    let answer = truth.ask(&client, deadline).await;
                    let mut seen = seen.lock().unwrap();
                    seen.longest = seen.longest.max(began.elapsed());
                    match answer {
                        Answer::Data => seen.answers += 1,
                        Answer::Error(error) => {
                            *seen.errors.entry(error.message).or_default() += 1;
                            errors.fetch_add(1, Ordering::SeqCst);
                        }
                        Answer::Wrong(what) => seen.wrong.push(what),
                    }
                }
            });
        }
        let (client, truth) = (client.clone(), truth.clone());
        let is_over = Arc::clone(&traffic.is_over);
        traffic.tasks.spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let value = truth.next();
                // One that fails is made again, until it is acknowledged.
                loop {
                    match push(&client, PUSHED, value).await {
                        Ok(_) => break truth.acknowledged(value),
                        Err(_) if is_over.load(Ordering::SeqCst) => return,
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            }
        });
        while traffic.seen.lock().unwrap().answers < CALLERS {
            tokio::task::yield_now().await;
        }
        traffic
    }

    /// Waits until errors have been seen.
    pub(super) async fn fails(&self) {
        let begin = self.errors.load(Ordering::SeqCst);
        while self.errors.load(Ordering::SeqCst) < begin + CALLERS {
            tokio::task::yield_now().await;
        }
    }

    /// Ends the callers, and gives what they have seen.
    pub(super) async fn end(mut self) -> Seen {
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}
