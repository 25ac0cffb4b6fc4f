//! Packed rows become columns, without a value of their own per cell.

use bytes::Bytes;
use vintner_core::{
    Boundary, Column, EntityKey, Knowledge, ProjectName, RowTime, Timestamp, Ttl, VisibilityRule,
};
use vintner_registry::model::ViewRevision;

use super::{
    OnlineColumn, OnlineFeatures, Status,
    keys::Distinct,
    plan::{PlannedColumn, PlannedView, ReadPlan},
};
use crate::{
    error::OnlineError,
    row::{Field, ReadRow, RowDecodeError},
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

/// The answer that the stored rows make at the moment `now`; per view of the plan its distinct keys, and their rows.
pub(super) fn assemble(
    project: &ProjectName,
    plan: &ReadPlan,
    distinct: &[Distinct],
    rows: &[Vec<Option<Bytes>>],
    now: Timestamp,
) -> Result<OnlineFeatures, OnlineError> {
    let views = plan.views.iter().zip(distinct).zip(rows);
    let views = views.map(|((view, distinct), rows)| {
        let read = distinct.keys.iter().zip(rows).map(|(key, row)| {
            let Some(bytes) = row else { return Ok(None) };
            match view.reader.read(bytes) {
                Ok(row) => Ok(Some((age(row.time(), view.revision.ttl, now), row))),
                Err(err) => Err(bad_row(project, &view.revision, key, err)),
            }
        });
        Ok(ViewRows {
            view,
            distinct,
            rows: read.collect::<Result<_, OnlineError>>()?,
        })
    });
    let views = views.collect::<Result<Vec<_>, OnlineError>>()?;
    let columns = plan.columns.iter().map(|column| {
        let (values, statuses) = views[column.view].column(column, project)?;
        Ok(OnlineColumn {
            name: column.name.clone(),
            values,
            statuses,
            view: column.view,
        })
    });
    Ok(OnlineFeatures {
        columns: columns.collect::<Result<_, OnlineError>>()?,
        event_timestamps: views.iter().map(ViewRows::event_timestamps).collect(),
    })
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

    fn event_timestamps(&self) -> Vec<Option<Timestamp>> {
        let rows = self.of_entities();
        rows.map(|row| match row {
            None | Some((_, (Age::NotYet, _))) => None,
            Some((_, (Age::Counts | Age::Expired, row))) => Some(row.time().event),
        })
        .collect()
    }

    /// One feature of all entities of the request.
    fn column(
        &self,
        column: &PlannedColumn,
        project: &ProjectName,
    ) -> Result<(Column, Vec<Status>), OnlineError> {
        let entities = self.distinct.of_entity.len();
        let mut values = Column::with_capacity(column.feature_type, entities);
        let mut statuses = Vec::with_capacity(entities);
        for found in self.of_entities() {
            let status = match found {
                None | Some((_, (Age::NotYet, _))) => Status::NotFound,
                Some((_, (Age::Expired, row))) if row.has(column.feature) => Status::OutsideMaxAge,
                Some((_, (Age::Expired, _))) => Status::NotFound,
                Some((index, (Age::Counts, row))) => {
                    let field = row.append(column.feature, &mut values);
                    match field.map_err(|err| self.bad_row(project, index, err))? {
                        Field::Value => Status::Present,
                        Field::Null => Status::NullValue,
                        Field::Absent => Status::NotFound,
                    }
                }
            };
            if status != Status::Present {
                // The registry holds that a default is of its feature's type.
                let pushed = values.push(column.default.as_ref());
                pushed.map_err(|source| OnlineError::Default {
                    view: self.view.revision.id.clone(),
                    column: column.name.clone(),
                    source,
                })?;
            }
            statuses.push(status);
        }
        Ok((values, statuses))
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
