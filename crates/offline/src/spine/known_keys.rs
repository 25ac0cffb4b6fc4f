//! Every key that is known at some moments, as entity rows.
//!
//! Each table's keys and times are read once. Of each key only the first moment at which any of its rows counts is kept:
//! from then on it is known, since nothing is forgotten here. That the ttl of a view has run out by some moment is the
//! join's to say.

use std::{collections::VecDeque, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, Scalar, TimestampMicrosecondArray},
    compute::{filter_record_batch, kernels::cmp::lt_eq},
    datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType},
};
use datafusion::{
    catalog::TableProvider,
    common::internal_datafusion_err,
    datasource::provider_as_source,
    error::Result,
    execution::{SendableRecordBatchStream, memory_pool::MemoryConsumer},
    functions_aggregate::expr_fn::min,
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Volatility, create_udf,
        ident, lit,
    },
    physical_plan::stream::RecordBatchStreamAdapter,
    prelude::SessionContext,
    scalar::ScalarValue,
};
use futures::{TryStreamExt, stream};
use vintner_core::{
    Boundary, KeySchema, Knowledge, RowTime, ScalarType, Timestamp, ViewId, VisibilityRule,
};
use vintner_registry::model::ViewRevision;

use crate::{
    delta::layout::{CREATED_TIMESTAMP, EVENT_TIMESTAMP},
    historical::even_batches::EvenBatches,
};

/// The column of a key's first moment. No join key has the name, since names have no blanks.
const FIRST: &str = "first moment";

/// The keys of views that are known at moments: one entity row per moment and key.
///
/// * Out: the join keys in the order of their names, then `event_timestamp`; ordered by moment, then by key.
/// * A key is known at a moment when any view has a row of it that counts then, its ttl left aside.
/// * Memory: grows with the distinct keys, and is reserved from the session's pool.
#[derive(Clone, Debug)]
pub struct KnownKeys {
    keys: KeySchema,
    rule: VisibilityRule,
    /// In ascending order.
    moments: Vec<Timestamp>,
    schema: SchemaRef,
}

/// Views whose keys cannot be listed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferentKeys {
    views: Vec<(ViewId, KeySchema)>,
}

impl KnownKeys {
    /// The keys of these views at these moments, which are in ascending order.
    ///
    /// # Errors
    /// [`DifferentKeys`] when the views do not all have the same join keys, or there is none.
    pub fn new(
        views: &[Arc<ViewRevision>],
        knowledge: Knowledge,
        boundary: Boundary,
        moments: Vec<Timestamp>,
    ) -> Result<Self, DifferentKeys> {
        let Some(first) = views
            .first()
            .filter(|first| views.iter().all(|view| view.join_keys == first.join_keys))
        else {
            let views = views.iter();
            return Err(DifferentKeys {
                views: views
                    .map(|view| (view.id.clone(), view.join_keys.clone()))
                    .collect(),
            });
        };
        let keys = first.join_keys.clone();
        let columns = keys
            .join_keys()
            .iter()
            .map(|key| Field::new(key.name.as_str(), key.key_type.arrow(), false));
        let time = Field::new(EVENT_TIMESTAMP, ScalarType::Timestamp.arrow(), false);
        let schema = Schema::new(columns.chain([time]).collect::<Vec<_>>());
        Ok(Self {
            keys,
            rule: VisibilityRule {
                ttl: None,
                knowledge,
                boundary,
            },
            moments,
            schema: Arc::new(schema),
        })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows, from the tables of the views. The tables are read when the first row is asked for; dropping the stream
    /// stops that.
    pub fn rows(
        self,
        session: SessionContext,
        tables: Vec<Arc<dyn TableProvider>>,
    ) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let rows = stream::once(async move { self.begin(&session, tables).await }).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// Reads the tables, and then gives the rows.
    async fn begin(
        self,
        session: &SessionContext,
        tables: Vec<Arc<dyn TableProvider>>,
    ) -> Result<impl futures::Stream<Item = Result<RecordBatch>> + Send + use<>> {
        let plan = self.first_moments(tables)?;
        let frame = session.execute_logical_plan(plan).await?;
        let mut batches = frame.execute_stream().await?;
        let memory = MemoryConsumer::new("known keys").register(&session.runtime_env().memory_pool);
        let mut chunks = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            memory.try_grow(batch.get_array_memory_size())?;
            chunks.push(batch);
        }
        let rows = Rows {
            even: EvenBatches::new(Arc::clone(&self.schema)),
            known: self,
            chunks,
            next: (0, 0),
            ready: VecDeque::new(),
            is_done: false,
        };
        // What is held is given back when the last row has been taken.
        Ok(stream::try_unfold(
            (rows, memory),
            |(mut rows, memory)| async move {
                let next = rows.next().await?;
                Ok(next.map(|batch| (batch, (rows, memory))))
            },
        ))
    }

    /// The plan of the keys, each with the first moment at which one of its rows counts, in the order of the keys. Keys
    /// that are not known at the last moment are left out.
    fn first_moments(&self, tables: Vec<Arc<dyn TableProvider>>) -> Result<LogicalPlan> {
        let last = self.moments.last().copied().unwrap_or(Timestamp::MIN);
        let (_, newest) = self.rule.event_window(last, last);
        let keys = || {
            let keys = self.keys.join_keys().iter();
            keys.map(|key| ident(key.name.as_str()))
                .collect::<Vec<Expr>>()
        };
        let first = first_moment(self.rule);
        let mut all: Option<LogicalPlanBuilder> = None;
        for table in tables {
            let times = vec![ident(EVENT_TIMESTAMP), ident(CREATED_TIMESTAMP)];
            let mut columns = keys();
            columns.push(first.call(times).alias(FIRST));
            let rows = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?
                .filter(ident(EVENT_TIMESTAMP).lt_eq(instant(newest)))?
                .project(columns)?;
            all = Some(match all {
                Some(others) => others.union(rows.build()?)?,
                None => rows,
            });
        }
        all.ok_or_else(|| internal_datafusion_err!("there is no table to take keys from"))?
            .aggregate(keys(), vec![min(ident(FIRST)).alias(FIRST)])?
            .filter(ident(FIRST).lt_eq(instant(last)))?
            .sort(keys().into_iter().map(|key| key.sort(true, false)))?
            .build()
    }
}

fn instant(at: Timestamp) -> Expr {
    let zone = Some("UTC".into());
    lit(ScalarValue::TimestampMicrosecond(Some(at.micros()), zone))
}

/// The first moment at which a row of these times counts; null for one that never does.
fn first_moment(rule: VisibilityRule) -> ScalarUDF {
    let time = ScalarType::Timestamp.arrow();
    let compute = move |arguments: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let times: Option<Vec<&TimestampMicrosecondArray>> = arrays
            .iter()
            .map(|array| array.as_primitive_opt::<TimestampMicrosecondType>())
            .collect();
        let Some([event, created]) = times.as_deref() else {
            return Err(internal_datafusion_err!("a row's times are not timestamps"));
        };
        let firsts: TimestampMicrosecondArray = event
            .iter()
            .zip(created.iter())
            .map(|(event, created)| {
                let row = RowTime {
                    event: Timestamp::from_micros(event?),
                    created: Timestamp::from_micros(created?),
                };
                rule.lifetime(row).map(|(first, _)| first.micros())
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(firsts.with_timezone("UTC"))))
    };
    create_udf(
        "first_moment",
        vec![time.clone(), time.clone()],
        time,
        Volatility::Immutable,
        Arc::new(compute),
    )
}

/// The rows, as far as they have been given.
struct Rows {
    known: KnownKeys,
    /// Keys with their first moments, in the order of the keys.
    chunks: Vec<RecordBatch>,
    /// The moment and the chunk that are to come.
    next: (usize, usize),
    even: EvenBatches,
    ready: VecDeque<RecordBatch>,
    is_done: bool,
}

impl Rows {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.is_done {
                return Ok(None);
            }
            self.step()?;
            tokio::task::consume_budget().await;
        }
    }

    /// Takes the keys of one chunk that are known at one moment.
    fn step(&mut self) -> Result<()> {
        let (moment, chunk) = self.next;
        match (self.known.moments.get(moment), self.chunks.get(chunk)) {
            (Some(&at), Some(keys)) => {
                let rows = rows_at(keys, at, &self.known.schema)?;
                self.ready.extend(self.even.push(rows)?);
                self.next = (moment, chunk + 1);
            }
            (Some(_), None) => self.next = (moment + 1, 0),
            (None, _) => {
                self.ready.extend(self.even.rest()?);
                self.is_done = true;
            }
        }
        Ok(())
    }
}

/// The entity rows of a moment: the keys whose first moment is not after it.
fn rows_at(keys: &RecordBatch, at: Timestamp, schema: &SchemaRef) -> Result<RecordBatch> {
    let (first, keys) = match keys.columns() {
        [keys @ .., first] => (first, keys),
        [] => return Err(internal_datafusion_err!("keys without a column")),
    };
    let moment =
        |rows| TimestampMicrosecondArray::from_value(at.micros(), rows).with_timezone("UTC");
    let known = lt_eq(first, &Scalar::new(moment(1)))?;
    let mut columns: Vec<ArrayRef> = keys.to_vec();
    columns.push(Arc::new(moment(first.len())));
    let rows = RecordBatch::try_new(Arc::clone(schema), columns)?;
    Ok(filter_record_batch(&rows, &known)?)
}

/// Which keys each view has, and what to do.
impl fmt::Display for DifferentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let views = self.views.iter().map(|(view, keys)| {
            let keys = keys.join_keys().iter();
            let keys: Vec<_> = keys
                .map(|key| format!("{}: {}", key.name, key.key_type))
                .collect();
            format!("`{view}` has ({})", keys.join(", "))
        });
        write!(
            f,
            "the feature views have different join keys, so that there is no one list of keys: {}; give the rows by a \
             query with --spine, or in a file with --entity-rows",
            views.collect::<Vec<_>>().join(", ")
        )
    }
}

impl std::error::Error for DifferentKeys {}
