//! What tells whether a view's values leak into the result, or starve it: counts of entity rows.
//!
//! * Holds always: the counts are exact, and depend on the rows alone.
//! * Not here: what is too much (`vintner_ops::lint`).

use vintner_core::{RowTime, Timestamp, VisibilityRule};

use crate::{best_rows::BestRows, entity_index::EntityIndex, output::ViewAnswer};

/// Counts of entity rows, of one view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LintCounts {
    /// The first event time in the view's table; none when it has no rows.
    pub first_event: Option<Timestamp>,
    /// Those that have a time and all of the view's join keys.
    pub asking: usize,
    /// Of these, those at whose time no row of the view has begun, of whatever key.
    pub before_first: usize,
    /// Those that see nothing, and would see a row if there were no ttl.
    pub expired: usize,
    /// Those that see a row which became known after their time.
    pub late: usize,
    /// Those that see a row of exactly their own time.
    pub own_time: usize,
    /// Those for which a feature is null or missing: one count for each feature that is asked for, as
    /// [`crate::JoinSpec::asked`] has them. Defaults do not count.
    pub nulls: Vec<usize>,
}

impl LintCounts {
    /// None yet, of so many features.
    pub fn new(features: usize) -> Self {
        Self {
            nulls: vec![0; features],
            ..Self::default()
        }
    }

    /// What times tell. `best` must have been offered the view's rows under the rule without its ttl; `first_event` is
    /// the first event time of the view's whole table.
    pub fn of_times(
        index: &EntityIndex,
        rule: VisibilityRule,
        best: &BestRows,
        first_event: Option<Timestamp>,
    ) -> Self {
        let rows = index.rows_by_slot();
        let mut counts = Self {
            first_event,
            asking: rows.iter().map(|rows| *rows as usize).sum(),
            ..Self::default()
        };
        // A row that was known from the beginning, so that `rule.knowledge` does not matter.
        let begins = rule.without_ttl();
        for (slot, time) in index.walks().flatten() {
            let has_begun = first_event.is_some_and(|event| {
                let created = event;
                begins.visible(RowTime { event, created }, time)
            });
            if !has_begun {
                counts.before_first += rows[slot] as usize;
            }
        }
        for carried in best.carried(index) {
            let rows = rows[carried.slot] as usize;
            if !rule.visible(carried.row, carried.time) {
                counts.expired += rows;
                continue;
            }
            if carried.row.created > carried.time {
                counts.late += rows;
            }
            if carried.row.event == carried.time {
                counts.own_time += rows;
            }
        }
        counts
    }

    /// Adds what values tell, of so many features that are asked for.
    #[must_use]
    pub fn with_values(self, answer: &ViewAnswer, features: usize) -> Self {
        Self {
            nulls: answer.nulls(features),
            ..self
        }
    }

    /// Adds what was counted of other entity rows.
    pub fn add(&mut self, other: &Self) {
        self.first_event = other.first_event;
        self.asking += other.asking;
        self.before_first += other.before_first;
        self.expired += other.expired;
        self.late += other.late;
        self.own_time += other.own_time;
        for (sum, nulls) in self.nulls.iter_mut().zip(&other.nulls) {
            *sum += nulls;
        }
    }
}
