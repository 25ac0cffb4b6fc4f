//! What a join has counted and timed.

use std::time::Duration;

use vintner_core::ViewId;
use vintner_join::LintCounts;

use crate::feature_table::units::Pruned;

/// What a join has counted so far; all there is once its stream has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinCounts {
    /// Rows given out.
    pub rows: usize,
    /// Entity rows whose time, or a join key of some view, is null. They have nulls or defaults.
    pub rows_without_key: usize,
    /// In how many chunks the entity rows were joined.
    pub chunks: usize,
    /// How long entity rows were read and indexed.
    pub entity_rows_time: Duration,
    /// How long the result was put together.
    pub output_time: Duration,
    /// Per view, in the description's order.
    pub views: Vec<ViewCounts>,
}

/// What a join has counted of one view, over all chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewCounts {
    /// The view.
    pub view: ViewId,
    /// What was read of its table, and what was left out.
    pub pruned: Pruned,
    /// Bytes of files that were read.
    pub bytes_read: u64,
    /// Entity rows that have a visible row.
    pub matched_rows: usize,
    /// Rows whose values were read.
    pub winners: usize,
    /// Of these, those that were told by their values from others of equal times.
    pub ties: usize,
    /// How long files were opened and parts of them chosen.
    pub open_time: Duration,
    /// How long keys and times were read and matched.
    pub match_time: Duration,
    /// How long values were read.
    pub values_time: Duration,
    /// What tells of leaks and gaps, when that was asked for.
    pub lint: Option<LintCounts>,
}

impl ViewCounts {
    /// Nothing yet.
    pub(super) fn of(view: &ViewId) -> Self {
        Self {
            view: view.clone(),
            pruned: Pruned::default(),
            bytes_read: 0,
            matched_rows: 0,
            winners: 0,
            ties: 0,
            open_time: Duration::ZERO,
            match_time: Duration::ZERO,
            values_time: Duration::ZERO,
            lint: None,
        }
    }

    /// Adds what another chunk has counted.
    pub(super) fn add(&mut self, chunk: &Self) {
        self.pruned.add(&chunk.pruned);
        self.matched_rows += chunk.matched_rows;
        self.winners += chunk.winners;
        self.ties += chunk.ties;
        self.open_time += chunk.open_time;
        self.match_time += chunk.match_time;
        self.values_time += chunk.values_time;
        if let (Some(sum), Some(chunk)) = (&mut self.lint, &chunk.lint) {
            sum.add(chunk);
        }
    }
}
