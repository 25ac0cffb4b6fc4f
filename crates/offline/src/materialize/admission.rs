//! Which rows of a view's query go into its table, and how many do not.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray},
    compute::filter,
    datatypes::TimestampMicrosecondType,
    error::ArrowError,
};
use vintner_core::Timestamp;

use super::request::EventWindow;
use crate::delta::ViewLayout;

/// How many rows a run has seen, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows that the query gave.
    pub read: u64,
    /// Rows that went into the table.
    pub written: u64,
    /// Rows without a value of some join key; left out.
    pub null_key: u64,
    /// Rows without an event time; left out.
    pub null_time: u64,
    /// Rows at or after the end of the run; left for a later one.
    pub held_back: u64,
}

impl RowCounts {
    /// Rows that can never go into the table.
    pub fn left_out(&self) -> u64 {
        self.null_key + self.null_time
    }
}

/// Lets rows of the planner's columns through: those with all join keys and an event time, of the times asked for.
#[derive(Debug)]
pub(super) struct Admission {
    layout: ViewLayout,
    created: Timestamp,
    from: Timestamp,
    until: Option<Timestamp>,
    pub(super) counts: RowCounts,
    /// The greatest event time let through.
    pub(super) last_event: Option<Timestamp>,
}

impl Admission {
    /// Rows of the event times in `window`. A row without a created time gets `created`.
    pub(super) fn new(layout: ViewLayout, window: EventWindow, created: Timestamp) -> Self {
        Self {
            layout,
            created,
            from: window.start,
            until: window.end,
            counts: RowCounts::default(),
            last_event: None,
        }
    }

    /// The rows of a batch that go into the table, none of them in a window of `except`, with exactly the columns of
    /// the layout.
    ///
    /// # Errors
    /// When the batch does not have the layout's types.
    pub(super) fn admit(
        &mut self,
        batch: &RecordBatch,
        except: &[EventWindow],
    ) -> Result<RecordBatch, ArrowError> {
        let instants = |place: usize| {
            let column = batch.columns().get(place);
            let column = column.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            column.ok_or_else(|| ArrowError::SchemaError(format!("column {place} is no time")))
        };
        let events = instants(self.layout.event())?;
        let created = instants(self.layout.created())?;
        let keys = &batch.columns()[..self.layout.keys()];
        self.counts.read += batch.num_rows() as u64;
        let admitted: BooleanArray = (0..batch.num_rows())
            .map(|row| Some(self.admits(row, keys, events, except)))
            .collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[self.layout.created()] = Arc::new(self.with_created(created));
        if admitted.true_count() < admitted.len() {
            let kept = columns.iter().map(|column| filter(column, &admitted));
            columns = kept.collect::<Result<_, _>>()?;
        }
        RecordBatch::try_new(self.layout.arrow().clone(), columns)
    }

    fn admits(
        &mut self,
        row: usize,
        keys: &[ArrayRef],
        events: &TimestampMicrosecondArray,
        except: &[EventWindow],
    ) -> bool {
        if events.is_null(row) {
            self.counts.null_time += 1;
            return false;
        }
        if keys.iter().any(|key| key.is_null(row)) {
            self.counts.null_key += 1;
            return false;
        }
        let event = Timestamp::from_micros(events.value(row));
        if event < self.from || except.iter().any(|window| window.contains(event)) {
            return false;
        }
        if self.until.is_some_and(|until| until <= event) {
            self.counts.held_back += 1;
            return false;
        }
        self.counts.written += 1;
        self.last_event = self.last_event.max(Some(event));
        true
    }

    fn with_created(&self, created: &TimestampMicrosecondArray) -> TimestampMicrosecondArray {
        if created.null_count() == 0 {
            return created.clone();
        }
        let now = self.created.micros();
        let filled = created.iter().map(|at| at.unwrap_or(now));
        TimestampMicrosecondArray::from_iter_values(filled).with_timezone("UTC")
    }
}
