//! The columns of a view's rows, found once and read batch by batch.

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Schema, TimestampMicrosecondType},
};
use datafusion::error::{DataFusionError, Result};
use vintner_core::{KeyColumns, RowTime, ScalarType, Timestamp};

use super::spec::{CREATED_TIMESTAMP, EVENT_TIMESTAMP, ViewInput};

/// Where a plan that delivers a view's rows has its columns.
#[derive(Debug, Clone)]
pub(super) struct ViewColumns {
    keys: Vec<usize>,
    event: usize,
    created: usize,
    features: Vec<usize>,
}

impl ViewColumns {
    /// Finds the columns by their names.
    ///
    /// # Errors
    /// When one is missing or has another type than Vintner's columns have.
    pub(super) fn find(view: &ViewInput, schema: &Schema) -> Result<Self> {
        let find = |name: &str, wanted: DataType| {
            let (place, field) = schema.column_with_name(name).ok_or_else(|| {
                DataFusionError::Plan(format!("the rows of {} have no column `{name}`", view.view))
            })?;
            match *field.data_type() == wanted {
                true => Ok(place),
                false => Err(DataFusionError::Plan(format!(
                    "the column `{name}` of the rows of {} has the type {}, not {wanted}",
                    view.view,
                    field.data_type()
                ))),
            }
        };
        let keys = view.keys.join_keys().iter();
        let time = ScalarType::Timestamp.arrow();
        Ok(Self {
            keys: keys
                .map(|key| find(key.name.as_str(), key.key_type.arrow()))
                .collect::<Result<_>>()?,
            event: find(EVENT_TIMESTAMP, time.clone())?,
            created: find(CREATED_TIMESTAMP, time)?,
            features: view
                .features
                .iter()
                .map(|(name, feature_type)| find(name.as_str(), feature_type.arrow()))
                .collect::<Result<_>>()?,
        })
    }

    /// The columns of one batch.
    pub(super) fn of<'a>(&self, view: &ViewInput, batch: &'a RecordBatch) -> Result<ViewRows<'a>> {
        let keys: Vec<&ArrayRef> = self.keys.iter().map(|&i| batch.column(i)).collect();
        let keys = KeyColumns::new(&view.keys, &keys)
            .map_err(|err| DataFusionError::External(Box::new(err)))?;
        let times = |place: usize, name: &str| {
            let column = batch.column(place);
            column
                .as_primitive_opt::<TimestampMicrosecondType>()
                .filter(|times| times.null_count() == 0)
                .map(|times| times.values().as_ref())
                .ok_or_else(|| {
                    DataFusionError::Execution(format!(
                        "the rows of {} have a null, or no timestamps, in the column `{name}`; \
                         nothing but Vintner may write to its table",
                        view.view
                    ))
                })
        };
        Ok(ViewRows {
            keys,
            event: times(self.event, EVENT_TIMESTAMP)?,
            created: times(self.created, CREATED_TIMESTAMP)?,
            features: self
                .features
                .iter()
                .map(|&i| ArrayRef::clone(batch.column(i)))
                .collect(),
        })
    }
}

/// The columns of one batch of a view's rows.
#[derive(Debug)]
pub(super) struct ViewRows<'a> {
    pub(super) keys: KeyColumns<'a>,
    event: &'a [i64],
    created: &'a [i64],
    pub(super) features: Vec<ArrayRef>,
}

impl ViewRows<'_> {
    /// The times of every row, in order.
    pub(super) fn times(&self) -> impl Iterator<Item = RowTime> {
        self.event
            .iter()
            .zip(self.created)
            .map(|(&event, &created)| RowTime {
                event: Timestamp::from_micros(event),
                created: Timestamp::from_micros(created),
            })
    }
}
