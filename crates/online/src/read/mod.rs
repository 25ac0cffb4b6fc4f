//! Reading feature values with their statuses.
//!
//! A [`ReadPlan`] says what to read and is made once for any number of requests. [`find`] fetches the packed rows in one
//! call to the store. [`Found`] decodes them straight into columns, or into the bytes that a service answers with; both
//! are pure.
//!
//! Not here: which features a request means and what their columns are called; that is the registry's selection.

mod assemble;
mod keys;
mod plan;
mod wire;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use tracing::Instrument as _;
use vintner_core::{Column, ProjectName, Timestamp};

pub use assemble::shown;
pub use keys::{EntityKeys, view_keys};
pub use plan::ReadPlan;
pub use wire::EncodedAnswer;

use crate::{
    error::OnlineError,
    step,
    store::{Lookup, OnlineStore},
};
use keys::{Distinct, check_counts};

/// What was found for one feature of one entity. Only [`Status::Present`] carries a stored value.
/// As large as the number that it travels as, so that a column of them becomes one of numbers in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
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
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 4] = [
        Self::Present,
        Self::NullValue,
        Self::NotFound,
        Self::OutsideMaxAge,
    ];

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

/// One column of an answer; both lists have one entry per entity, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineColumn {
    /// What it is called.
    pub name: String,
    /// The stored value where the status is [`Status::Present`], and the feature's default, if any, elsewhere.
    pub values: Column,
    /// What was found.
    pub statuses: Vec<Status>,
    /// Which of the answer's views it is of.
    pub view: usize,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineFeatures {
    /// The columns, in the order that they were asked for.
    pub columns: Vec<OnlineColumn>,
    /// Per view of the plan, per entity: when the row that was found was true. None where there is no row, or one that
    /// is not true yet.
    pub event_timestamps: Vec<Vec<Option<Timestamp>>>,
}

/// How many features of entities have each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts([u64; Status::ALL.len()]);

impl StatusCounts {
    /// One more has this status.
    pub fn add(&mut self, status: Status) {
        self.0[status as usize] += 1;
    }

    /// How many have each.
    pub fn iter(&self) -> impl Iterator<Item = (Status, u64)> {
        Status::ALL.into_iter().zip(self.0)
    }
}

impl OnlineFeatures {
    /// The statuses of the columns, per view.
    pub fn status_counts(&self) -> Vec<StatusCounts> {
        let mut counts = vec![StatusCounts::default(); self.event_timestamps.len()];
        for column in &self.columns {
            if let Some(counts) = counts.get_mut(column.view) {
                column
                    .statuses
                    .iter()
                    .for_each(|status| counts.add(*status));
            }
        }
        counts
    }
}

/// The packed rows of a request's entities, at the moment that it asks about.
#[derive(Debug)]
pub struct Found {
    /// Per view of the plan.
    distinct: Vec<Distinct>,
    /// Per view of the plan, per distinct key.
    rows: Vec<Vec<Option<Bytes>>>,
    now: Timestamp,
}

/// Fetches the rows of some entities, for the plan's columns as they are at the moment `now`.
///
/// `entities` has, per view of the plan and in its order, the key of every entity; an entity may come more than once.
/// `fresh` goes past caches, for a caller that must see what it has written.
/// Cost: one call to the store, each entity asked for once per view.
///
/// # Errors
/// [`OnlineError`]; a store that fails is never a null.
pub async fn find(
    store: &dyn OnlineStore,
    project: &ProjectName,
    plan: &ReadPlan,
    entities: Vec<EntityKeys>,
    now: Timestamp,
    fresh: bool,
) -> Result<Found, OnlineError> {
    check_counts(plan, &entities)?;
    let distinct: Vec<Distinct> = entities.into_iter().map(Distinct::of).collect();
    let lookups: Vec<Lookup<'_>> = plan
        .views()
        .zip(&distinct)
        .map(|(revision, distinct)| Lookup {
            view: &revision.id,
            keys: &distinct.keys,
            cache: revision.near_cache.filter(|_| !fresh),
        })
        .collect();
    let rows = store
        .read(project, &lookups)
        .instrument(step!("store read"))
        .await?;
    Ok(Found {
        distinct,
        rows,
        now,
    })
}
