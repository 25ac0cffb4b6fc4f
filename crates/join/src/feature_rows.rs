//! The columns of one batch of a view's rows, as the join reads them.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::TimestampMicrosecondType,
};
use vintner_core::{RowTime, Timestamp, ViewId};

use crate::error::{JoinError, Result};

/// Keys and times of a batch of a view's rows.
#[derive(Debug)]
pub struct FeatureRows<'a> {
    pub(crate) keys: &'a [ArrayRef],
    event: &'a [i64],
    created: &'a [i64],
}

impl<'a> FeatureRows<'a> {
    /// The columns: join keys in the order of the key schema, of its types; the two times, in microseconds.
    ///
    /// # Errors
    /// [`JoinError::FeatureRow`] when one of them has a null, or a time is none.
    pub fn new(
        view: &ViewId,
        keys: &'a [ArrayRef],
        [event, created]: [(&str, &'a ArrayRef); 2],
    ) -> Result<Self> {
        let refuse = |column: &str| JoinError::FeatureRow {
            view: view.clone(),
            column: column.to_owned(),
        };
        let times = |(name, column): (&str, &'a ArrayRef)| {
            column
                .as_primitive_opt::<TimestampMicrosecondType>()
                .filter(|times| times.null_count() == 0)
                .map(|times| times.values().as_ref())
                .ok_or_else(|| refuse(name))
        };
        Ok(Self {
            keys,
            event: times(event)?,
            created: times(created)?,
        })
    }

    /// The times of every row, in order.
    pub(crate) fn times(&self) -> impl Iterator<Item = RowTime> {
        self.event
            .iter()
            .zip(self.created)
            .map(|(&event, &created)| RowTime {
                event: Timestamp::from_micros(event),
                created: Timestamp::from_micros(created),
            })
    }
}
