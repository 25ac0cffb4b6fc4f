//! Reading feature values with their statuses.
//!
//! A [`ReadPlan`] says what to read and is made once for any number of requests. [`get_features`] fetches the packed
//! rows in one call to the store; [`ReadPlan::assemble`] turns rows into columns and is pure.
//!
//! Not here: which features a request means and what their columns are called; that is the registry's selection.

use std::{collections::HashMap, sync::Arc};

use arrow_array::RecordBatch;
use bytes::Bytes;
use vintner_core::{
    Boundary, EntityKey, FeatureField, FeatureType, KeyColumns, Knowledge, ProjectName, RowTime,
    Timestamp, Ttl, Value, VisibilityRule,
};
use vintner_registry::{model::ViewRevision, selection::Selection};

use crate::{
    error::OnlineError,
    row::{Field, ReadRow, RowDecodeError, RowReader},
    store::{Lookup, OnlineStore},
};

/// What was found for one feature of one entity. Only [`Status::Present`] carries a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// A value that counts now.
    Present,
    /// A null that counts now.
    NullValue,
    /// Nothing: no row of the entity, a row that is not true yet, or one from before the view had the feature.
    NotFound,
    /// A value or a null whose ttl has run out.
    OutsideMaxAge,
}

impl Status {
    /// The name on every interface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Present => "PRESENT",
            Self::NullValue => "NULL_VALUE",
            Self::NotFound => "NOT_FOUND",
            Self::OutsideMaxAge => "OUTSIDE_MAX_AGE",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What to read, with the layouts of its views worked out.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    views: Vec<PlannedView>,
    columns: Vec<PlannedColumn>,
}

#[derive(Clone, Debug)]
struct PlannedView {
    revision: Arc<ViewRevision>,
    reader: RowReader,
}

#[derive(Clone, Debug)]
struct PlannedColumn {
    view: usize,
    /// Its index among the features that the view's reader reads.
    feature: usize,
    name: String,
    feature_type: FeatureType,
    default: Option<Value>,
}

/// One column of an answer; all three lists have one entry per entity, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineColumn {
    /// What it is called.
    pub name: String,
    /// The type of its values.
    pub feature_type: FeatureType,
    /// The stored value where the status is [`Status::Present`], and the feature's default, if any, elsewhere.
    pub values: Vec<Option<Value>>,
    /// What was found.
    pub statuses: Vec<Status>,
    /// When what was found was true; none exactly where the status is [`Status::NotFound`].
    pub event_timestamps: Vec<Option<Timestamp>>,
}

/// An answer: the columns in the order that they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineFeatures {
    /// The columns.
    pub columns: Vec<OnlineColumn>,
}

/// The entities of a request as one view keys them: one per entity, none where a join key is null.
pub type EntityKeys = Vec<Option<EntityKey>>;

impl ReadPlan {
    /// The plan of a selection.
    ///
    /// # Panics
    /// When a column's view is not among the selection's views.
    pub fn new(selection: &Selection) -> Self {
        let mut features: Vec<Vec<FeatureField>> = vec![Vec::new(); selection.views.len()];
        let mut columns = Vec::with_capacity(selection.columns.len());
        for column in &selection.columns {
            let features = &mut features[column.view];
            columns.push(PlannedColumn {
                view: column.view,
                feature: features.len(),
                name: column.name.clone(),
                feature_type: column.feature.feature_type,
                default: column.feature.default.clone(),
            });
            features.push(column.feature.clone());
        }
        let views = selection.views.iter().zip(&features);
        let views = views.map(|(revision, features)| PlannedView {
            reader: RowReader::new(revision, features),
            revision: Arc::clone(revision),
        });
        Self {
            views: views.collect(),
            columns,
        }
    }

    /// The views, in the order in which [`get_features`] wants the entities' keys.
    pub fn views(&self) -> impl ExactSizeIterator<Item = &ViewRevision> {
        self.views.iter().map(|view| &*view.revision)
    }

    /// The keys that every view gives to the entities of a batch, for [`get_features`].
    ///
    /// # Errors
    /// As [`view_keys`].
    pub fn keys(&self, entities: &RecordBatch) -> Result<Vec<EntityKeys>, OnlineError> {
        self.views()
            .map(|revision| view_keys(revision, entities))
            .collect()
    }

    /// The answer that the stored rows make at the moment `now`; one [`ViewRows`] per view.
    fn assemble(
        &self,
        project: &ProjectName,
        views: &[ViewRows<'_>],
        now: Timestamp,
    ) -> Result<OnlineFeatures, OnlineError> {
        let mut read = Vec::with_capacity(views.len());
        for (view, stored) in self.views.iter().zip(views) {
            let rows = stored
                .distinct
                .keys
                .iter()
                .zip(stored.rows)
                .map(|(key, row)| {
                    let Some(bytes) = row else { return Ok(None) };
                    match view.reader.read(bytes) {
                        Ok(row) => Ok(Some((age(row.time(), view.revision.ttl, now), row))),
                        Err(err) => Err(bad_row(project, &view.revision, key, err)),
                    }
                });
            read.push(rows.collect::<Result<Vec<_>, _>>()?);
        }
        let columns = self.columns.iter().map(|column| {
            let revision = &self.views[column.view].revision;
            let distinct = views[column.view].distinct;
            let cells = read[column.view]
                .iter()
                .zip(&distinct.keys)
                .map(|(row, key)| {
                    cell(row.as_ref(), column.feature)
                        .map_err(|err| bad_row(project, revision, key, err))
                });
            let cells = cells.collect::<Result<Vec<_>, _>>()?;
            let of_entity = |index: &Option<usize>| index.and_then(|index| cells.get(index));
            Ok(column.collect(distinct.of_entity.iter().map(of_entity)))
        });
        Ok(OnlineFeatures {
            columns: columns.collect::<Result<_, OnlineError>>()?,
        })
    }
}

impl PlannedColumn {
    /// The column of these cells; none is an entity without a key.
    fn collect<'a>(&self, cells: impl ExactSizeIterator<Item = Option<&'a Cell>>) -> OnlineColumn {
        let mut column = OnlineColumn {
            name: self.name.clone(),
            feature_type: self.feature_type,
            values: Vec::with_capacity(cells.len()),
            statuses: Vec::with_capacity(cells.len()),
            event_timestamps: Vec::with_capacity(cells.len()),
        };
        for cell in cells {
            let cell = cell.unwrap_or(&Cell::NotFound);
            let (value, status, event) = match cell {
                Cell::Present(value, event) => (Some(value), Status::Present, Some(*event)),
                Cell::NullValue(event) => (None, Status::NullValue, Some(*event)),
                Cell::NotFound => (None, Status::NotFound, None),
                Cell::OutsideMaxAge(event) => (None, Status::OutsideMaxAge, Some(*event)),
            };
            column.values.push(value.or(self.default.as_ref()).cloned());
            column.statuses.push(status);
            column.event_timestamps.push(event);
        }
        column
    }
}

/// Reads the plan's columns for some entities as they are at the moment `now`.
///
/// `entities` has, per view of the plan and in its order, the key of every entity; an entity may come more than once.
/// Out: every column has exactly the entities, in their order. Cost: one call to the store, each entity asked for
/// once per view.
///
/// # Errors
/// [`OnlineError`]; a store that fails is never a null, and a row that cannot be read fails the request.
pub async fn get_features(
    store: &dyn OnlineStore,
    project: &ProjectName,
    plan: &ReadPlan,
    entities: &[EntityKeys],
    now: Timestamp,
) -> Result<OnlineFeatures, OnlineError> {
    check_counts(plan, entities)?;
    let distinct: Vec<Distinct> = entities.iter().map(|keys| Distinct::of(keys)).collect();
    let lookups: Vec<Lookup<'_>> = plan
        .views()
        .zip(&distinct)
        .map(|(revision, distinct)| Lookup {
            view: &revision.id,
            keys: &distinct.keys,
        })
        .collect();
    let rows = store.read(project, &lookups).await?;
    let views: Vec<ViewRows<'_>> = distinct
        .iter()
        .zip(&rows)
        .map(|(distinct, rows)| ViewRows { distinct, rows })
        .collect();
    plan.assemble(project, &views, now)
}

/// The keys that a view gives to the entities of a batch, from the columns that are called as its join keys are, each
/// of exactly the key type's Arrow type. Other columns are left alone.
///
/// # Errors
/// [`OnlineError::MissingKey`] and [`OnlineError::Keys`].
pub fn view_keys(
    revision: &ViewRevision,
    entities: &RecordBatch,
) -> Result<EntityKeys, OnlineError> {
    let columns = revision.keys().iter().map(|join_key| {
        entities
            .column_by_name(join_key.name.as_str())
            .ok_or_else(|| OnlineError::MissingKey {
                view: revision.id.clone(),
                column: join_key.name.clone(),
            })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let keys =
        KeyColumns::new(&revision.join_keys, &columns).map_err(|source| OnlineError::Keys {
            view: revision.id.clone(),
            source,
        })?;
    Ok((0..entities.num_rows()).map(|row| keys.key(row)).collect())
}

fn check_counts(plan: &ReadPlan, entities: &[EntityKeys]) -> Result<(), OnlineError> {
    let wanted = entities.first().map_or(0, Vec::len);
    for (index, revision) in plan.views().enumerate() {
        // A view without a list of keys is as wrong as one with a shorter list.
        let found = entities.get(index).map(Vec::len);
        if found != Some(wanted) {
            return Err(OnlineError::EntityCount {
                view: revision.id.clone(),
                wanted,
                found: found.unwrap_or(0),
            });
        }
    }
    Ok(())
}

/// The entities of one view, each once.
#[derive(Debug)]
struct Distinct {
    keys: Vec<EntityKey>,
    /// Per entity of the request, its index among `keys`.
    of_entity: Vec<Option<usize>>,
}

/// The stored rows of one view.
struct ViewRows<'a> {
    distinct: &'a Distinct,
    /// Per distinct key.
    rows: &'a [Option<Bytes>],
}

impl Distinct {
    fn of(entities: &[Option<EntityKey>]) -> Self {
        let mut keys = Vec::with_capacity(entities.len());
        let mut indices: HashMap<&EntityKey, usize> = HashMap::with_capacity(entities.len());
        let of_entity = entities.iter().map(|key| {
            key.as_ref().map(|key| {
                *indices.entry(key).or_insert_with(|| {
                    keys.push(key.clone());
                    keys.len() - 1
                })
            })
        });
        let of_entity = of_entity.collect();
        Self { keys, of_entity }
    }
}

/// Where a row's life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    NotYet,
    Counts,
    Expired,
}

/// What was found for one feature of one entity, with its event time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    Present(Value, Timestamp),
    NullValue(Timestamp),
    NotFound,
    OutsideMaxAge(Timestamp),
}

/// Online answers are the point-in-time answer at the moment of asking.
fn age(time: RowTime, ttl: Option<Ttl>, now: Timestamp) -> Age {
    let rule = VisibilityRule {
        ttl,
        knowledge: Knowledge::Event,
        boundary: Boundary::At,
    };
    match rule.lifetime(time) {
        Some((_, until)) if until < now => Age::Expired,
        Some((from, _)) if from <= now => Age::Counts,
        _ => Age::NotYet,
    }
}

fn cell(row: Option<&(Age, ReadRow<'_>)>, feature: usize) -> Result<Cell, RowDecodeError> {
    let Some((age, row)) = row else {
        return Ok(Cell::NotFound);
    };
    let event = row.time().event;
    Ok(match age {
        Age::NotYet => Cell::NotFound,
        Age::Expired if row.has(feature) => Cell::OutsideMaxAge(event),
        Age::Expired => Cell::NotFound,
        Age::Counts => match row.field(feature)? {
            Field::Value(value) => Cell::Present(value, event),
            Field::Null => Cell::NullValue(event),
            Field::Absent => Cell::NotFound,
        },
    })
}

fn bad_row(
    project: &ProjectName,
    revision: &ViewRevision,
    key: &EntityKey,
    err: RowDecodeError,
) -> OnlineError {
    let view = revision.id.clone();
    match err {
        RowDecodeError::UnknownLayout(fingerprint) => {
            OnlineError::UnknownLayout { view, fingerprint }
        }
        source => OnlineError::CorruptRow {
            project: project.clone(),
            view,
            entity: shown(revision, key),
            source,
        },
    }
}

/// An entity for people: `carrier=AA, origin=JFK`.
fn shown(revision: &ViewRevision, key: &EntityKey) -> String {
    match key.decode(&revision.join_keys) {
        Ok(values) => {
            let pairs = revision.keys().iter().zip(values);
            let pairs: Vec<_> = pairs
                .map(|(key, value)| format!("{}={value}", key.name))
                .collect();
            pairs.join(", ")
        }
        Err(_) => format!("{key:?}"),
    }
}

#[cfg(test)]
mod tests;
