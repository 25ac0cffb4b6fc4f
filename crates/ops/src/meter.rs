//! What is counted of a deployment that serves: reads by view, runs, freshness, and what the registry said last.
//!
//! Start at [`Meters`]. The counters of a view are looked up once, when a read plan is made or a run begins, and kept
//! there. A view that is no longer in the registry is told of no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use vintner_core::{
    Clock, RegistryVersion, ViewId,
    meter::{Count, Histogram, Moment},
};
use vintner_online::{OnlineStore, Status, StatusCounts, StoreMeter};

use crate::{
    api::ViewRun,
    error::{Fault, OpsError},
};

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Answered,
    /// A mistake of the caller's: the same request fails again.
    Refused,
    /// A failure of a store or of ours.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Answered, Self::Refused, Self::Failed];

    /// The word on every interface.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    fn of<T>(result: &Result<T, OpsError>) -> Self {
        match result {
            Ok(_) => Self::Answered,
            Err(error) => Self::of_error(error),
        }
    }

    fn of_error(error: &OpsError) -> Self {
        match error.fault {
            Fault::Request | Fault::NotFound | Fault::Stale | Fault::Data => Self::Refused,
            Fault::Behind | Fault::Busy | Fault::Full | Fault::Store | Fault::Internal => {
                Self::Failed
            }
        }
    }
}

/// How a run over a view ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// It did what it was to do, which may have been nothing.
    Succeeded,
    /// There was an error.
    Failed,
}

impl RunOutcome {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Succeeded, Self::Failed];

    /// The word on every interface.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// What became of rows that a run had in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFate {
    /// Read from the source.
    Read,
    /// Written to the Delta table.
    Written,
    /// Left out, without a join key or an event time.
    LeftOut,
    /// Written to the online store.
    OnlineWritten,
    /// Not written there, since it has newer ones.
    OnlineKept,
}

impl RowFate {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Read,
        Self::Written,
        Self::LeftOut,
        Self::OnlineWritten,
        Self::OnlineKept,
    ];

    /// The word on every interface.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Written => "written",
            Self::LeftOut => "left_out",
            Self::OnlineWritten => "online_written",
            Self::OnlineKept => "online_kept",
        }
    }
}

/// One view version.
#[derive(Debug)]
pub struct ViewMeter {
    statuses: [Count; Status::ALL.len()],
    requests: [Count; Outcome::ALL.len()],
    runs: [Histogram; RunOutcome::ALL.len()],
    rows: [Count; RowFate::ALL.len()],
    /// The newest event time that can be online, by the deployment's clock.
    pub newest_event: Moment,
    /// When the last run that succeeded ended, whoever made it.
    pub last_success: Moment,
}

impl Default for ViewMeter {
    fn default() -> Self {
        Self {
            statuses: Default::default(),
            requests: Default::default(),
            runs: RunOutcome::ALL.map(|_| Histogram::new(Histogram::RUNS)),
            rows: Default::default(),
            newest_event: Moment::default(),
            last_success: Moment::default(),
        }
    }
}

impl ViewMeter {
    /// Features of entities that were answered with this status.
    pub fn statuses(&self, status: Status) -> &Count {
        &self.statuses[status as usize]
    }

    /// Online requests for features of the view that ended so.
    pub fn requests(&self, outcome: Outcome) -> &Count {
        &self.requests[outcome as usize]
    }

    /// How long the runs of this process took that ended so.
    pub fn runs(&self, outcome: RunOutcome) -> &Histogram {
        &self.runs[outcome as usize]
    }

    /// Rows of the runs of this process.
    pub fn rows(&self, fate: RowFate) -> &Count {
        &self.rows[fate as usize]
    }

    pub(crate) fn ran(&self, time: Duration, run: &ViewRun, outcome: RunOutcome) {
        self.runs(outcome).observe_time(time);
        for (fate, rows) in [
            (RowFate::Read, run.rows_read),
            (RowFate::Written, run.rows_written),
            (RowFate::LeftOut, run.rows_left_out),
            (RowFate::OnlineWritten, run.online_written),
            (RowFate::OnlineKept, run.online_kept),
        ] {
            self.rows(fate).add(rows);
        }
    }
}

/// Everything that is counted of a deployment.
#[derive(Debug)]
pub struct Meters {
    clock: Arc<dyn Clock>,
    /// Round trips to the online store.
    pub store: Arc<StoreMeter>,
    requests: [Histogram; Outcome::ALL.len()],
    /// How many entities requests asked for.
    pub entities: Histogram,
    /// The newest registry version that was seen; 0 before there is one.
    registry_version: AtomicU64,
    begun: Instant,
    /// When the registry last said which version is its newest: microseconds since `begun`.
    registry_checked: Moment,
    views: RwLock<BTreeMap<ViewId, Arc<ViewMeter>>>,
    opened: OnceLock<Arc<dyn OnlineStore>>,
}

impl Meters {
    /// Nothing has been counted yet. Ages are told by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            store: Arc::default(),
            requests: Outcome::ALL.map(|_| Histogram::new(Histogram::LATENCIES)),
            entities: Histogram::new(Histogram::SIZES),
            registry_version: AtomicU64::new(0),
            begun: Instant::now(),
            registry_checked: Moment::default(),
            views: RwLock::default(),
            opened: OnceLock::new(),
        }
    }

    /// How long ago a moment was; never negative.
    pub fn age(&self, moment: i64) -> Duration {
        let micros = i128::from(self.clock.now().micros()) - i128::from(moment);
        Duration::from_micros(u64::try_from(micros.max(0)).unwrap_or(u64::MAX))
    }

    /// How long online requests took that ended so.
    pub fn requests(&self, outcome: Outcome) -> &Histogram {
        &self.requests[outcome as usize]
    }

    /// The registry version that is served.
    pub fn registry_version(&self) -> Option<RegistryVersion> {
        Some(self.registry_version.load(Ordering::Relaxed))
            .filter(|version| *version > 0)
            .map(RegistryVersion)
    }

    /// How long ago the registry last said which version is its newest.
    pub fn registry_check_age(&self) -> Option<Duration> {
        let at = u64::try_from(self.registry_checked.get()?).unwrap_or(0);
        Some(
            self.begun
                .elapsed()
                .saturating_sub(Duration::from_micros(at)),
        )
    }

    /// Every view version that is counted, in order.
    pub fn views(&self) -> Vec<(ViewId, Arc<ViewMeter>)> {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        let views = views.iter();
        views
            .map(|(id, view)| (id.clone(), Arc::clone(view)))
            .collect()
    }

    /// The counters of a view version, which the registry has.
    pub(crate) fn view(&self, id: &ViewId) -> Arc<ViewMeter> {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(id) {
            return Arc::clone(view);
        }
        drop(views);
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(views.entry(id.clone()).or_default())
    }

    /// The registry was asked and has this version, in which there are these views.
    pub(crate) fn registry_is<'a>(
        &self,
        version: RegistryVersion,
        views: impl Iterator<Item = &'a ViewId>,
    ) {
        let now = i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.registry_checked.set(Some(now));
        if self.registry_version.swap(version.0, Ordering::Relaxed) == version.0 {
            return;
        }
        let known: BTreeSet<_> = views.collect();
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        views.retain(|id, _| known.contains(id));
    }

    pub(crate) fn opened(&self, store: &Arc<dyn OnlineStore>) {
        let _ = self.opened.set(Arc::clone(store));
    }

    /// The online store, once it was opened.
    pub fn online_store(&self) -> Option<&Arc<dyn OnlineStore>> {
        self.opened.get()
    }

    /// Counts an online request that has ended.
    pub fn online_request<T>(&self, began: Instant, answer: &Result<T, OpsError>) {
        self.requests(Outcome::of(answer))
            .observe_time(began.elapsed());
    }
}

/// The counters of the views of a read plan, in its order.
#[derive(Debug)]
pub struct PlanMeters(Vec<Arc<ViewMeter>>);

impl PlanMeters {
    /// Of views that the registry has.
    pub fn new<'a>(meters: &Meters, views: impl Iterator<Item = &'a ViewId>) -> Self {
        Self(views.map(|view| meters.view(view)).collect())
    }

    /// Counts an answer by the statuses in it, per view.
    pub fn answered(&self, counts: &[StatusCounts]) {
        for (view, counts) in self.0.iter().zip(counts) {
            view.requests(Outcome::Answered).increment();
            for (status, count) in counts.iter().filter(|(_, count)| *count > 0) {
                view.statuses(status).add(count);
            }
        }
    }

    /// Counts that there is no answer.
    pub fn failed(&self, error: &OpsError) {
        for view in &self.0 {
            view.requests(Outcome::of_error(error)).increment();
        }
    }
}

#[cfg(test)]
mod tests {
    use vintner_core::{FixedClock, Timestamp};

    use super::*;

    fn meters_at(micros: i64) -> Meters {
        Meters::new(Arc::new(FixedClock(Timestamp::from_micros(micros))))
    }

    fn id(text: &str) -> ViewId {
        text.parse().unwrap()
    }

    fn counts(statuses: &[Status]) -> StatusCounts {
        let mut counts = StatusCounts::default();
        statuses.iter().for_each(|status| counts.add(*status));
        counts
    }

    #[test]
    fn statuses_are_counted_by_view() {
        use Status::{NotFound, NullValue, OutsideMaxAge, Present};
        let meters = meters_at(0);
        let (one, two) = (id("one@1"), id("two@3"));
        let plan = PlanMeters::new(&meters, [&one, &two].into_iter());
        plan.answered(&[
            counts(&[Present, NotFound, Present, Present]),
            counts(&[NullValue]),
        ]);
        plan.answered(&[counts(&[Present, NullValue]), counts(&[OutsideMaxAge])]);
        plan.failed(&OpsError::new(Fault::Store, "down"));
        plan.failed(&OpsError::new(Fault::Request, "no such key"));
        for (view, want) in [(&one, [4, 1, 1, 0]), (&two, [0, 1, 0, 1])] {
            let meter = meters.view(view);
            assert_eq!(
                Status::ALL.map(|status| meter.statuses(status).get()),
                want,
                "{view}"
            );
            assert_eq!(
                Outcome::ALL.map(|outcome| meter.requests(outcome).get()),
                [2, 1, 1]
            );
        }
    }

    #[test]
    fn a_view_that_the_registry_does_not_have_is_told_of_no_more() {
        let meters = meters_at(0);
        let (old, new) = (id("view@1"), id("view@2"));
        for view in [&old, &new] {
            meters.view(view).requests(Outcome::Answered).increment();
        }
        meters.registry_is(RegistryVersion(7), [&old, &new].into_iter());
        assert_eq!(meters.views().len(), 2);
        meters.registry_is(RegistryVersion(9), [&new].into_iter());
        let left: Vec<_> = meters.views().into_iter().map(|(id, _)| id).collect();
        assert_eq!(
            (left, meters.registry_version()),
            (vec![new], Some(RegistryVersion(9)))
        );
        assert!(meters.registry_check_age().is_some());
    }

    #[test]
    fn an_age_is_never_negative() {
        for (now, moment, want) in [
            (5, 3, 2),
            (3, 5, 0),
            (-5, -7, 2),
            (i64::MAX, i64::MIN, u64::MAX),
        ] {
            let age = meters_at(now).age(moment);
            assert_eq!(age, Duration::from_micros(want), "{now} {moment}");
        }
    }

    #[test]
    fn every_word_has_its_place() {
        for (index, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, index);
        }
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        for (index, fate) in RowFate::ALL.into_iter().enumerate() {
            assert_eq!(fate as usize, index);
        }
    }
}
