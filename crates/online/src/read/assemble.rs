//! Packed rows become an answer, in columns or in bytes, without a value of their own per cell.

use vintner_core::{
    Boundary, Column, EntityKey, FeatureType, Knowledge, ProjectName, RowTime, ScalarType,
    Timestamp, Ttl, VisibilityRule,
};
use vintner_registry::model::ViewRevision;

use super::{
    Found, OnlineColumn, OnlineFeatures, Status, StatusCounts,
    keys::Distinct,
    plan::{PlannedColumn, PlannedView, ReadPlan},
    wire::{EncodedAnswer, WireColumn, status_byte},
};
use crate::{
    error::OnlineError,
    row::{CellSink, Field, ReadRow, RowDecodeError},
};

/// Where a row's life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    NotYet,
    Counts,
    Expired,
}

/// The rows of one view, decoded as far as their headers.
struct ViewRows<'a> {
    view: &'a PlannedView,
    distinct: &'a Distinct,
    /// Per distinct key.
    rows: Vec<Option<(Age, ReadRow<'a>)>>,
}

impl Found {
    /// The answer as columns.
    ///
    /// # Errors
    /// [`OnlineError`] for a row that cannot be read.
    pub fn columns(
        &self,
        project: &ProjectName,
        plan: &ReadPlan,
    ) -> Result<OnlineFeatures, OnlineError> {
        let views = self.views(project, plan)?;
        let entities = self.entities();
        let columns = plan.columns.iter().map(|column| {
            let mut values = Column::with_capacity(column.feature_type, entities);
            let mut statuses = Vec::with_capacity(entities);
            let view = &views[column.view];
            view.fill(column, project, &mut values, |status| statuses.push(status))?;
            Ok(OnlineColumn {
                name: column.name.clone(),
                values,
                statuses,
                view: column.view,
            })
        });
        Ok(OnlineFeatures {
            columns: columns.collect::<Result<_, OnlineError>>()?,
            event_timestamps: views
                .iter()
                .map(|view| view.event_timestamps().collect())
                .collect(),
        })
    }

    /// The answer as bytes, but for the entities and the registry version; and, per view of the plan, how many features
    /// of entities have each status.
    ///
    /// # Errors
    /// [`OnlineError`] for a row that cannot be read.
    pub fn encode(
        &self,
        project: &ProjectName,
        plan: &ReadPlan,
    ) -> Result<(EncodedAnswer, Vec<StatusCounts>), OnlineError> {
        let views = self.views(project, plan)?;
        let entities = self.entities();
        let mut counts = vec![StatusCounts::default(); views.len()];
        // Eight bytes of a value, its status, and a name, which is mostly short.
        let room = plan.columns.len() * (entities * 9 + 48) + views.len() * (entities * 8 + 48);
        let mut answer = EncodedAnswer::with_capacity(room + entities * 12 + 32);
        let mut values =
            WireColumn::with_capacity(FeatureType::Scalar(ScalarType::Float64), entities * 8);
        let mut statuses = Vec::with_capacity(entities);
        for column in &plan.columns {
            values.begin(column.feature_type);
            statuses.clear();
            let view = &views[column.view];
            let counts = &mut counts[column.view];
            view.fill(column, project, &mut values, |status| {
                counts.add(status);
                statuses.push(status_byte(status));
            })?;
            answer.feature(&column.name, &values, &statuses, column.view);
        }
        for view in &views {
            answer.event_timestamps(&view.view.revision.id, view.event_timestamps());
        }
        Ok((answer, counts))
    }

    /// How many entities the request has.
    fn entities(&self) -> usize {
        let first = self.distinct.first();
        first.map_or(0, |distinct| distinct.of_entity.len())
    }

    fn views<'a>(
        &'a self,
        project: &ProjectName,
        plan: &'a ReadPlan,
    ) -> Result<Vec<ViewRows<'a>>, OnlineError> {
        let views = plan.views.iter().zip(&self.distinct).zip(&self.rows);
        let views = views.map(|((view, distinct), rows)| {
            let read = distinct.keys.iter().zip(rows).map(|(key, row)| {
                let Some(bytes) = row else { return Ok(None) };
                match view.reader.read(bytes) {
                    Ok(row) => Ok(Some((age(row.time(), view.revision.ttl, self.now), row))),
                    Err(err) => Err(bad_row(project, &view.revision, key, err)),
                }
            });
            Ok(ViewRows {
                view,
                distinct,
                rows: read.collect::<Result<_, OnlineError>>()?,
            })
        });
        views.collect()
    }
}

impl<'a> ViewRows<'a> {
    /// Per entity of the request its row.
    fn of_entities(&self) -> impl ExactSizeIterator<Item = Option<(usize, &(Age, ReadRow<'a>))>> {
        let indices = self.distinct.of_entity.iter();
        indices.map(|index| {
            let index = (*index)?;
            Some((index, self.rows.get(index)?.as_ref()?))
        })
    }

    fn event_timestamps(&self) -> impl ExactSizeIterator<Item = Option<Timestamp>> {
        let rows = self.of_entities();
        rows.map(|row| match row {
            None | Some((_, (Age::NotYet, _))) => None,
            Some((_, (Age::Counts | Age::Expired, row))) => Some(row.time().event),
        })
    }

    /// Gives one feature of all entities of the request to a sink, and their statuses to `tell`.
    fn fill(
        &self,
        column: &PlannedColumn,
        project: &ProjectName,
        sink: &mut impl CellSink,
        mut tell: impl FnMut(Status),
    ) -> Result<(), OnlineError> {
        let is_as_stored = sink.is_as_stored();
        let mut place = None;
        for found in self.of_entities() {
            // What nearly all cells are: a number that goes from the row to the answer as it is.
            if let Some((_, (Age::Counts, row))) = found
                && is_as_stored
                && let Some(value) = row.stored(column.feature, &mut place)
            {
                sink.stored(value);
                tell(Status::Present);
                continue;
            }
            let status = match found {
                None | Some((_, (Age::NotYet, _))) => Status::NotFound,
                Some((_, (Age::Expired, row))) if row.has(column.feature) => Status::OutsideMaxAge,
                Some((_, (Age::Expired, _))) => Status::NotFound,
                Some((index, (Age::Counts, row))) => {
                    let field = row.append(column.feature, sink);
                    match field.map_err(|err| self.bad_row(project, index, err))? {
                        Field::Value => Status::Present,
                        Field::Null => Status::NullValue,
                        Field::Absent => Status::NotFound,
                    }
                }
            };
            if status != Status::Present {
                // The registry holds that a default is of its feature's type.
                let taken = sink.other(column.default.as_ref());
                taken.map_err(|source| OnlineError::Default {
                    view: self.view.revision.id.clone(),
                    column: column.name.clone(),
                    source,
                })?;
            }
            tell(status);
        }
        Ok(())
    }

    fn bad_row(&self, project: &ProjectName, index: usize, err: RowDecodeError) -> OnlineError {
        let unknown = EntityKey::from_bytes([]);
        let key = self.distinct.keys.get(index).unwrap_or(&unknown);
        bad_row(project, &self.view.revision, key, err)
    }
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
pub fn shown(revision: &ViewRevision, key: &EntityKey) -> String {
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
