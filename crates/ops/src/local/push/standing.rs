//! Which rows of some pushes take their place in the online store: a plain value, worked out from what it holds.

use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, new_null_array},
    error::ArrowError,
};
use bytes::Bytes;
use vintner_core::{Column, EntityKey, FeatureField, RowTime, Value, arrow_values};
use vintner_offline::{delta::ViewLayout, push::wins_or_equals};
use vintner_online::{
    OnlineRow,
    row::{Field, RowHeader, RowReader},
};
use vintner_registry::model::ViewRevision;

/// The rows of one push, in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct PushedRows<'a> {
    pub(super) rows: &'a RecordBatch,
    /// One per row.
    pub(super) online: &'a [OnlineRow],
}

/// What is to be written, and what became of the rows of each push.
#[derive(Debug)]
pub(super) struct Standing {
    /// At most one row per entity.
    pub(super) rows: Vec<OnlineRow>,
    pub(super) counts: Vec<Counts>,
}

/// What became of the rows of a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Rows that took their place.
    pub(super) online: u64,
    /// Rows that came when there was a later one.
    pub(super) late: u64,
}

/// Every entity once.
pub(super) fn entities(pushes: &[PushedRows<'_>]) -> Vec<EntityKey> {
    let mut seen = std::collections::HashSet::new();
    let keys = pushes.iter().flat_map(|push| push.online);
    keys.filter(|row| seen.insert(&row.key))
        .map(|row| row.key.clone())
        .collect()
}

/// Lets the rows take their places one after the other, over those that are stored. A row takes the place of one that
/// is not later; of equal times, of one whose values do not win over its own, as in the join.
///
/// # Errors
/// When a batch does not have the layout of `view`.
pub(super) fn standing(
    view: &ViewRevision,
    pushes: &[PushedRows<'_>],
    stored: HashMap<EntityKey, Bytes>,
) -> Result<Standing, ArrowError> {
    let stored = stored.into_iter().filter_map(|(key, bytes)| {
        // What cannot be read is replaced.
        let time = RowHeader::parse(&bytes).ok()?.time;
        Some((key, (time, Place::Stored(bytes))))
    });
    let mut places: HashMap<EntityKey, (RowTime, Place)> = stored.collect();
    let mut counts = vec![Counts::default(); pushes.len()];
    for (number, push) in pushes.iter().enumerate() {
        for (row, online) in push.online.iter().enumerate() {
            let time = online.row.time();
            let here = Place::Pushed(number, row);
            let takes = match places.entry(online.key.clone()) {
                Entry::Vacant(place) => {
                    place.insert((time, here));
                    true
                }
                Entry::Occupied(mut place) => {
                    let (other, there) = place.get();
                    let takes = match time.cmp(other) {
                        Ordering::Greater => true,
                        Ordering::Less => false,
                        Ordering::Equal => match there {
                            Place::Pushed(push, its_row) => {
                                let other = (pushes[*push].rows, *its_row);
                                wins_or_equals(view, (pushes[number].rows, row), other)?
                            }
                            Place::Stored(bytes) => match batch_of(view, bytes)? {
                                Some(other) => {
                                    wins_or_equals(view, (pushes[number].rows, row), (&other, 0))?
                                }
                                None => true,
                            },
                        },
                    };
                    if takes {
                        place.insert((time, here));
                    }
                    takes
                }
            };
            match takes {
                true => counts[number].online += 1,
                false => counts[number].late += 1,
            }
        }
    }
    let winners = places.into_values().filter_map(|(_, place)| match place {
        Place::Pushed(push, row) => pushes[push].online.get(row).cloned(),
        Place::Stored(_) => None,
    });
    Ok(Standing {
        rows: winners.collect(),
        counts,
    })
}

/// Where the row is that an entity has.
#[derive(Clone, Debug)]
enum Place {
    Stored(Bytes),
    /// A push, by its number, and a row of it.
    Pushed(usize, usize),
}

/// A stored row as a batch with the layout of the view, whose keys and times say nothing. None for a row that cannot be
/// read.
fn batch_of(view: &ViewRevision, bytes: &[u8]) -> Result<Option<RecordBatch>, ArrowError> {
    let features: Vec<FeatureField> = view.features.clone();
    let reader = RowReader::new(view, &features);
    let Ok(row) = reader.read(bytes) else {
        return Ok(None);
    };
    let layout = ViewLayout::of(view);
    let schema = layout.arrow();
    let values = features.iter().enumerate().map(|(place, feature)| {
        let mut column = Column::with_capacity(feature.feature_type, 1);
        match row.append(place, &mut column).ok()? {
            Field::Value => Some(column.get(0)),
            Field::Null | Field::Absent => Some(None),
        }
    });
    let Some(values) = values.collect::<Option<Vec<Option<Value>>>>() else {
        return Ok(None);
    };
    let head = schema.fields()[..layout.features().start].iter();
    let head = head.map(|field| new_null_array(field.data_type(), 1));
    let features = features.iter().zip(&values).map(|(feature, value)| {
        arrow_values::column(feature.feature_type, std::iter::once(value.as_ref()))
    });
    let columns: Vec<ArrayRef> = head.chain(features).collect();
    let fields = schema.fields().iter();
    let fields: Vec<_> = fields
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    RecordBatch::try_new(schema, columns).map(Some)
}
