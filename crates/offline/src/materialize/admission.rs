//! Which rows of a view's query go into its table, and how many do not.

use std::{ops::AddAssign, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray},
    compute::{filter, max, min},
    datatypes::TimestampMicrosecondType,
    error::ArrowError,
};
use vintner_core::{KeyColumns, KeySchema, Timestamp};
use vintner_registry::model::ViewRevision;

use super::request::EventWindow;
use crate::delta::{Deletions, ViewLayout};

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
    /// Rows of entities whose rows were deleted, of up to that moment; left out.
    pub deleted: u64,
    /// Rows at or after the end of the run; left for a later one.
    pub held_back: u64,
}

impl RowCounts {
    /// Rows that can never go into the table.
    pub fn left_out(&self) -> u64 {
        self.null_key + self.null_time + self.deleted
    }
}

impl AddAssign for RowCounts {
    fn add_assign(&mut self, more: Self) {
        self.read += more.read;
        self.written += more.written;
        self.null_key += more.null_key;
        self.null_time += more.null_time;
        self.deleted += more.deleted;
        self.held_back += more.held_back;
    }
}

/// Lets rows of the planner's columns through: those with all join keys and an event time, of the times asked for, whose
/// entity was not deleted.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    layout: ViewLayout,
    keys: KeySchema,
    deletions: Arc<Deletions>,
    created: Timestamp,
    window: EventWindow,
    /// Windows whose rows are there already.
    except: Vec<EventWindow>,
}

/// What became of some rows.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Those that were let through, with exactly the columns of the layout.
    pub(super) rows: RecordBatch,
    pub(super) counts: RowCounts,
    /// The greatest event time let through.
    pub(super) last_event: Option<Timestamp>,
}

impl Admission {
    /// Rows of the event times in `window`, none of them in a window of `except`, or of entities and times that were
    /// deleted. A row without a created time gets `created`.
    pub(super) fn new(
        view: &ViewRevision,
        deletions: Arc<Deletions>,
        window: EventWindow,
        except: Vec<EventWindow>,
        created: Timestamp,
    ) -> Self {
        Self {
            layout: ViewLayout::of(view),
            keys: view.join_keys.clone(),
            deletions,
            created,
            window,
            except,
        }
    }

    /// The rows of a batch that go into the table.
    ///
    /// # Errors
    /// When the batch does not have the layout's types.
    pub(super) fn admit(&self, batch: &RecordBatch) -> Result<Admitted, ArrowError> {
        let instants = |place: usize| {
            let column = batch.columns().get(place);
            let column = column.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            column.ok_or_else(|| ArrowError::SchemaError(format!("column {place} is no time")))
        };
        let events = instants(self.layout.event())?;
        let created = instants(self.layout.created())?;
        let keys = &batch.columns()[..self.layout.keys()];
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[self.layout.created()] = Arc::new(self.with_created(created));
        let admit_columns = |columns| RecordBatch::try_new(self.layout.arrow().clone(), columns);
        let mut counts = RowCounts {
            read: batch.num_rows() as u64,
            ..RowCounts::default()
        };
        // Most batches go through whole, and then no row is looked at for itself.
        if let Some(last_event) = self.admits_all(keys, events) {
            counts.written = counts.read;
            return Ok(Admitted {
                rows: admit_columns(columns)?,
                counts,
                last_event: Some(last_event),
            });
        }
        let key_columns: Vec<&ArrayRef> = keys.iter().collect();
        let encoded = KeyColumns::new(&self.keys, &key_columns);
        let encoded = encoded.map_err(|error| ArrowError::SchemaError(error.to_string()))?;
        let mut last_event = None;
        let mut key = Vec::new();
        let admitted: BooleanArray = (0..batch.num_rows())
            .map(|row| {
                let is_deleted = |event: Timestamp| {
                    !self.deletions.is_empty()
                        && encoded.encode_row(row, &mut key)
                        && self.deletions.leave_out(&key, event)
                };
                let event = self.admits(row, keys, events, is_deleted, &mut counts);
                last_event = last_event.max(event);
                Some(event.is_some())
            })
            .collect();
        let kept = columns.iter().map(|column| filter(column, &admitted));
        Ok(Admitted {
            rows: admit_columns(kept.collect::<Result<_, _>>()?)?,
            counts,
            last_event,
        })
    }

    /// The greatest event time, when it can be told at a glance that there are rows, and all of them are let through.
    fn admits_all(
        &self,
        keys: &[ArrayRef],
        events: &TimestampMicrosecondArray,
    ) -> Option<Timestamp> {
        let has_nulls = events.null_count() > 0 || keys.iter().any(|key| key.null_count() > 0);
        if has_nulls || !self.except.is_empty() || !self.deletions.is_empty() {
            return None;
        }
        let (first, last) = (min(events)?, max(events)?);
        let last = Timestamp::from_micros(last);
        let is_inside =
            self.window.contains(Timestamp::from_micros(first)) && self.window.contains(last);
        is_inside.then_some(last)
    }

    /// The event time of a row that is let through.
    fn admits(
        &self,
        row: usize,
        keys: &[ArrayRef],
        events: &TimestampMicrosecondArray,
        is_deleted: impl FnOnce(Timestamp) -> bool,
        counts: &mut RowCounts,
    ) -> Option<Timestamp> {
        if events.is_null(row) {
            counts.null_time += 1;
            return None;
        }
        if keys.iter().any(|key| key.is_null(row)) {
            counts.null_key += 1;
            return None;
        }
        let event = Timestamp::from_micros(events.value(row));
        if event < self.window.start || self.except.iter().any(|window| window.contains(event)) {
            return None;
        }
        if self.window.end.is_some_and(|until| until <= event) {
            counts.held_back += 1;
            return None;
        }
        if is_deleted(event) {
            counts.deleted += 1;
            return None;
        }
        counts.written += 1;
        Some(event)
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
