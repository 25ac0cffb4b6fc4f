//! What one view has to say of a chunk's entity rows.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use arrow::array::ArrayRef;
use datafusion::{
    common::runtime::JoinSet,
    error::{DataFusionError, Result},
    execution::memory_pool::MemoryReservation,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use vintner_core::{Timestamp, VisibilityRule};
use vintner_join::{
    BestRows, EntityIndex, FeatureRows, JoinSpec, LintCounts, TieBreak, TiedRows, Values,
    ViewAnswer, ViewInput, Winners,
};

use super::counts::ViewCounts;
use crate::{
    delta::layout::{CREATED_TIMESTAMP, EVENT_TIMESTAMP},
    feature_table::{
        FeatureTable,
        read::{self, UnitRows, WantedColumn},
        units::{Needed, Unit, Units},
    },
};

/// How many parts of a table a worker reads at once: while one waits for its file, another is decoded.
const READ_AT_ONCE: usize = 2;
/// Rows that tie are kept in chunks of so many.
const TIED_ROWS: usize = 8192;

/// One view, and the entity rows that ask about it.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) spec: Arc<JoinSpec>,
    /// The view's place in the description.
    pub(super) view: usize,
    pub(super) table: FeatureTable,
    pub(super) index: Arc<EntityIndex>,
    pub(super) lint: Option<Lint>,
}

/// That leaks and gaps are counted too, and what is known for it of the view's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lint {
    /// The first event time of all rows.
    pub(super) first_event: Option<Timestamp>,
}

/// What is read of the table, and by how many workers. Each has a thread's work.
#[derive(Clone)]
struct Reading {
    question: Question,
    units: Arc<[Unit]>,
    workers: usize,
}

impl Question {
    fn input(&self) -> &ViewInput {
        &self.spec.views[self.view]
    }

    /// Which rows are matched with entity rows: for lint also those that are too old. The winners are the same.
    fn matched(&self) -> VisibilityRule {
        match self.lint {
            None => self.input().rule,
            Some(_) => self.input().rule.without_ttl(),
        }
    }

    /// Opens the files that can have rows that count.
    pub(super) async fn open(&self) -> Result<Units> {
        let Some((first, last)) = self.index.span() else {
            return Ok(Units::default());
        };
        let values = self.index.key_values().map_err(external)?;
        let keys = self.input().keys.join_keys().iter().zip(values);
        let needed = Needed {
            events: self.matched().event_window(first, last),
            event_column: EVENT_TIMESTAMP,
            keys: keys
                .map(|(key, values)| (key.name.to_string(), values))
                .collect(),
        };
        self.table.units(&needed).await
    }

    /// Reads the view on so many cores.
    pub(super) async fn answer(
        self,
        units: Units,
        workers: usize,
        reservation: &MemoryReservation,
    ) -> Result<(ViewAnswer, ViewCounts)> {
        let mut counts = ViewCounts::of(&self.input().view);
        counts.pruned = units.pruned;
        let asked = self.spec.asked(self.view);
        let reading = Reading {
            units: units.units.into(),
            workers: workers.max(1),
            question: self,
        };
        let started = Instant::now();
        let (winners, lint) = reading.winners(reservation).await?;
        let winners = Arc::new(winners);
        counts.match_time = started.elapsed();
        (counts.winners, counts.ties) = (winners.count(), winners.tied().len());
        let started = Instant::now();
        let mut values = reading.values(&winners, &asked, reservation).await?;
        if !winners.tied().is_empty() {
            let tied = reading.tied_rows(&winners).await?;
            values.put_tied(&winners, tied, &asked).map_err(external)?;
        }
        counts.values_time = started.elapsed();
        if !values.is_complete() {
            return Err(DataFusionError::Internal(format!(
                "a row of {} was found and then not read",
                counts.view
            )));
        }
        let answer = ViewAnswer {
            index: reading.question.index,
            winners: Arc::into_inner(winners).ok_or_else(|| {
                DataFusionError::Internal("the winners are still being read".to_owned())
            })?,
            values,
        };
        reservation.try_resize(answer.memory())?;
        counts.matched_rows = answer.matched_rows();
        counts.lint = lint.map(|lint| lint.with_values(&answer, asked.len()));
        Ok((answer, counts))
    }
}

impl Reading {
    fn input(&self) -> &ViewInput {
        self.question.input()
    }

    /// Keys and times of all units: which rows are seen, and what their times tell of leaks and gaps.
    async fn winners(
        &self,
        reservation: &MemoryReservation,
    ) -> Result<(Winners, Option<LintCounts>)> {
        let index = &self.question.index;
        let workers = self.workers.min(self.units.len()).max(1);
        reservation.try_resize(workers * BestRows::memory_of(index.slot_count()))?;
        let parts = self
            .work(workers, self.units.len(), Self::best_rows)
            .await?;
        let mut best: Option<BestRows> = None;
        for part in parts {
            match &mut best {
                Some(best) => best.merge(&part),
                None => best = Some(part),
            }
        }
        let best = match best {
            Some(best) => best,
            None => BestRows::new(index, 0).map_err(external)?,
        };
        let rule = self.input().rule;
        let lint = self.question.lint;
        let lint = lint.map(|lint| LintCounts::of_times(index, rule, &best, lint.first_event));
        Ok((best.resolve(index, rule).map_err(external)?, lint))
    }

    /// The values of the rows that are seen and have no rival.
    async fn values(
        &self,
        winners: &Winners,
        asked: &[usize],
        reservation: &MemoryReservation,
    ) -> Result<Values> {
        let columns: Arc<[WantedColumn]> = asked.iter().map(|&f| self.feature_column(f)).collect();
        let by_unit = Arc::new(winners.by_unit());
        let parts = self.work(self.workers, by_unit.len(), |this, next| {
            let (columns, by_unit) = (Arc::clone(&columns), Arc::clone(&by_unit));
            async move {
                let units = std::iter::from_fn(|| next.take());
                let values = stream::iter(units).map(|place| {
                    let (this, columns, unordered) = (&this, &columns, &by_unit[place]);
                    async move {
                        let wanted = unordered.by_row();
                        let (table, unit) =
                            (&this.question.table, &this.units[wanted.unit as usize]);
                        let values = read::values(table, unit, columns, &wanted.rows).await?;
                        Ok::<_, DataFusionError>((wanted, values))
                    }
                });
                let at_once = read_at_once(by_unit.len(), this.workers);
                values
                    .buffer_unordered(at_once)
                    .try_collect::<Vec<_>>()
                    .await
            }
        });
        let parts = parts.await?;
        let mut values = Values::new(winners);
        for (unit, columns) in parts.into_iter().flatten() {
            values.put(&unit, columns).map_err(external)?;
        }
        reservation.try_resize(winners.memory() + values.memory())?;
        Ok(values)
    }

    /// The rows that win against others of equal times, by the values of all of the view's features.
    async fn tied_rows(&self, winners: &Arc<Winners>) -> Result<TiedRows> {
        let features = &self.input().features;
        let order = TieBreak::new(features);
        let all = (0..features.len()).map(|feature| self.feature_column(feature));
        let columns: Arc<[WantedColumn]> = self.key_columns().iter().cloned().chain(all).collect();
        let units: Arc<[u32]> = winners.tied_units().into();
        let parts = self.work(self.workers, units.len(), |this, next| {
            let (columns, units) = (Arc::clone(&columns), Arc::clone(&units));
            let (winners, order) = (Arc::clone(winners), order.clone());
            async move {
                let tied = TiedRows::new(&winners, order, TIED_ROWS);
                this.compete(tied, &winners, &columns, &units, &next).await
            }
        });
        let parts = parts.await?;
        let mut tied = TiedRows::new(winners, order, TIED_ROWS);
        for part in parts {
            tied.merge(part).map_err(external)?;
        }
        Ok(tied)
    }

    /// One worker's part of [`Reading::winners`].
    async fn best_rows(self, next: Arc<Next>) -> Result<BestRows> {
        let (index, rule) = (&self.question.index, self.question.matched());
        let mut best = BestRows::new(index, self.units.len()).map_err(external)?;
        let columns = self.key_columns();
        let readers = read_at_once(self.units.len(), self.workers);
        let readers = (0..readers).map(|_| Box::pin(self.batches(&columns, &next)));
        let mut batches = stream::select_all(readers);
        while let Some((unit, batch, ranges)) = batches.try_next().await? {
            let rows = self.feature_rows(&batch)?;
            let offered = match ranges.as_slice() {
                [only] => {
                    let row_of = |i| row_number(only.start + i);
                    best.offer(index, rule, &rows, unit, row_of)
                }
                several => {
                    let numbers = several.iter().cloned().flatten().map(row_number);
                    let numbers: Vec<u32> = numbers.collect();
                    best.offer(index, rule, &rows, unit, |i| numbers[i])
                }
            };
            offered.map_err(external)?;
            tokio::task::consume_budget().await;
        }
        Ok(best)
    }

    /// The batches of units that nobody else takes: the unit, the wanted columns, and which rows of the unit these are.
    fn batches(
        &self,
        columns: &Arc<[WantedColumn]>,
        next: &Next,
    ) -> impl Stream<Item = Result<(u32, Vec<ArrayRef>, Vec<Range<usize>>)>> {
        stream::try_unfold(None, move |mut open: Option<(u32, UnitRows)>| async move {
            loop {
                if let Some((unit, mut rows)) = open.take()
                    && let Some((batch, ranges)) = rows.next().await?
                {
                    return Ok(Some(((unit, batch, ranges), Some((unit, rows)))));
                }
                let Some(unit) = next.take() else {
                    return Ok(None);
                };
                let rows = UnitRows::open(&self.question.table, &self.units[unit], columns)?;
                open = Some((row_number(unit), rows));
            }
        })
    }

    /// One worker's part of [`Reading::tied_rows`].
    async fn compete(
        &self,
        mut tied: TiedRows,
        winners: &Winners,
        columns: &Arc<[WantedColumn]>,
        units: &[u32],
        next: &Next,
    ) -> Result<TiedRows> {
        let (index, rule) = (&self.question.index, self.input().rule);
        let times_end = columns.len() - self.input().features.len();
        while let Some(place) = next.take() {
            let unit = &self.units[units[place] as usize];
            let mut rows = UnitRows::open(&self.question.table, unit, columns)?;
            while let Some((batch, _)) = rows.next().await? {
                let (times, features) = batch.split_at(times_end);
                let rows = self.feature_rows(times)?;
                let offered = tied.offer(index, rule, winners, &rows, features);
                offered.map_err(external)?;
                tokio::task::consume_budget().await;
            }
        }
        Ok(tied)
    }

    /// The columns of keys and times, in this order.
    fn key_columns(&self) -> Arc<[WantedColumn]> {
        let keys = self
            .input()
            .keys
            .join_keys()
            .iter()
            .map(|key| WantedColumn {
                name: key.name.to_string(),
                data_type: key.key_type.arrow(),
            });
        let times = [EVENT_TIMESTAMP, CREATED_TIMESTAMP].map(|name| WantedColumn {
            name: name.to_owned(),
            data_type: vintner_core::ScalarType::Timestamp.arrow(),
        });
        keys.chain(times).collect()
    }

    fn feature_column(&self, feature: usize) -> WantedColumn {
        let (name, feature_type) = &self.input().features[feature];
        WantedColumn {
            name: name.to_string(),
            data_type: feature_type.arrow(),
        }
    }

    /// Keys and times of a batch whose columns are [`Self::key_columns`].
    fn feature_rows<'a>(&self, batch: &'a [ArrayRef]) -> Result<FeatureRows<'a>> {
        let keys = self.input().keys.len();
        let times = [
            (EVENT_TIMESTAMP, &batch[keys]),
            (CREATED_TIMESTAMP, &batch[keys + 1]),
        ];
        FeatureRows::new(&self.input().view, &batch[..keys], times).map_err(external)
    }

    /// What each of so many workers has made of the items that it took.
    async fn work<T, F>(
        &self,
        workers: usize,
        items: usize,
        each: impl Fn(Self, Arc<Next>) -> F,
    ) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let next = Arc::new(Next::new(items));
        let mut running = JoinSet::new();
        for _ in 0..workers.min(items) {
            running.spawn(each(self.clone(), Arc::clone(&next)));
        }
        let mut found = Vec::new();
        while let Some(ended) = running.join_next().await {
            found.push(ended.map_err(|err| match err.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(err) => DataFusionError::ExecutionJoin(Box::new(err)),
            })??);
        }
        Ok(found)
    }
}

/// How many of so many parts each of so many workers reads at once: not more than leave some for the others.
fn read_at_once(parts: usize, workers: usize) -> usize {
    (parts / workers.max(1)).clamp(1, READ_AT_ONCE)
}

/// Hands out numbers, each once.
struct Next {
    next: AtomicUsize,
    end: usize,
}

impl Next {
    fn new(end: usize) -> Self {
        Self {
            next: AtomicUsize::new(0),
            end,
        }
    }

    fn take(&self) -> Option<usize> {
        let taken = self.next.fetch_add(1, Ordering::Relaxed);
        (taken < self.end).then_some(taken)
    }
}

/// The number of a row in its row group, or of a unit: [`BestRows::new`] has refused more units than that, and a row
/// group has no more rows.
fn row_number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

fn external(err: vintner_join::JoinError) -> DataFusionError {
    DataFusionError::External(Box::new(err))
}
