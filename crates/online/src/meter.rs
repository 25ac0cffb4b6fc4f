//! What an online store is asked, how long its answers take, and what it does not do.
//!
//! [`Metered`] stands next to the store itself, so that what it counts are round trips: behind a near cache, not in
//! front of it.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use vintner_core::{
    EntityKey, ProjectName, ViewId,
    meter::{Count, Histogram},
    waiting::{On, waiting},
};

use crate::{
    error::OnlineError,
    near_cache::{CacheStats, TrackedServer, TrackedStore},
    store::{
        Expiry, KeyCursor, KeyPage, Load, Lookup, OnlineRow, OnlineStore, Probe, Replacement,
        StoreInfo, WriteReport,
    },
};

/// What can be asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Rows of entities.
    Read,
    /// To take rows.
    Write,
    /// To put rows in the place of what was seen.
    Replace,
    /// How far a view is loaded; the beginning of a load, its end, and that there was none.
    Load,
    /// Which entities have rows.
    List,
    /// To delete rows.
    Delete,
    /// Whether it is there.
    Check,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Write,
        Self::Replace,
        Self::Load,
        Self::List,
        Self::Delete,
        Self::Check,
    ];

    /// The word on every interface.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Replace => "replace",
            Self::Load => "load",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Check => "check",
        }
    }
}

/// How a store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It cannot be reached, or does not answer in time.
    Unavailable,
    /// It does not let this process in.
    Denied,
    /// It has no room.
    Full,
    /// It has lost rows of a load.
    LostRows,
    /// Anything else: it did not do it, or what it has cannot be read.
    Failed,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unavailable,
        Self::Denied,
        Self::Full,
        Self::LostRows,
        Self::Failed,
    ];

    /// The word on every interface.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::LostRows => "lost_rows",
            Self::Failed => "failed",
        }
    }

    fn of(error: &OnlineError) -> Self {
        match error {
            OnlineError::Unavailable { .. } => Self::Unavailable,
            OnlineError::Denied { .. } => Self::Denied,
            OnlineError::Full { .. } => Self::Full,
            OnlineError::LostRows { .. } => Self::LostRows,
            _ => Self::Failed,
        }
    }
}

/// What a store has been asked so far.
#[derive(Debug)]
pub struct StoreMeter {
    operations: [OperationMeter; Operation::ALL.len()],
    /// Rows that took their place.
    pub rows_written: Count,
    /// Rows that came too late: what was stored was newer and has been kept.
    pub rows_kept: Count,
}

/// One operation.
#[derive(Debug)]
pub struct OperationMeter {
    /// Of answers and failures alike, in nanoseconds.
    pub times: Histogram,
    failures: [Count; FailureKind::ALL.len()],
}

impl OperationMeter {
    /// How often it failed so.
    pub fn failures(&self, kind: FailureKind) -> &Count {
        &self.failures[kind as usize]
    }
}

impl Default for StoreMeter {
    fn default() -> Self {
        Self {
            operations: Operation::ALL.map(|_| OperationMeter {
                times: Histogram::new(Histogram::LATENCIES),
                failures: Default::default(),
            }),
            rows_written: Count::default(),
            rows_kept: Count::default(),
        }
    }
}

impl StoreMeter {
    /// What is known of one operation.
    pub fn operation(&self, operation: Operation) -> &OperationMeter {
        &self.operations[operation as usize]
    }
}

/// A store whose round trips are counted, and which says what the calls wait for that wait for it.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    meter: Arc<StoreMeter>,
    on: On,
}

impl<S> Metered<S> {
    /// Counts what `inner` is asked, which has this name in messages.
    pub fn new(inner: S, name: &str, meter: Arc<StoreMeter>) -> Self {
        Self {
            inner,
            meter,
            on: On::OnlineStore(name.into()),
        }
    }

    async fn during<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, OnlineError>>,
    ) -> Result<T, OnlineError> {
        let began = Instant::now();
        let done = waiting(&self.on, work).await;
        let meter = self.meter.operation(operation);
        meter.times.observe_time(began.elapsed());
        if let Err(error) = &done {
            meter.failures(FailureKind::of(error)).increment();
        }
        done
    }
}

#[async_trait]
impl<S: OnlineStore> OnlineStore for Metered<S> {
    async fn write(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        rows: &[OnlineRow],
    ) -> Result<WriteReport, OnlineError> {
        let work = self.inner.write(project, view, expiry, rows);
        let report = self.during(Operation::Write, work).await?;
        self.meter.rows_written.add(report.written);
        self.meter.rows_kept.add(report.kept);
        Ok(report)
    }

    async fn read(
        &self,
        project: &ProjectName,
        lookups: &[Lookup<'_>],
    ) -> Result<Vec<Vec<Option<Bytes>>>, OnlineError> {
        let work = self.inner.read(project, lookups);
        self.during(Operation::Read, work).await
    }

    async fn load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        let work = self.inner.load(project, view);
        self.during(Operation::Load, work).await
    }

    async fn begin_load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError> {
        let work = self.inner.begin_load(project, view);
        self.during(Operation::Load, work).await
    }

    async fn end_load(
        &self,
        project: &ProjectName,
        view: &ViewId,
        load: &Load,
        progress: &[u8],
    ) -> Result<(), OnlineError> {
        let work = self.inner.end_load(project, view, load, progress);
        self.during(Operation::Load, work).await
    }

    async fn keys(
        &self,
        project: &ProjectName,
        view: &ViewId,
        from: Option<&KeyCursor>,
    ) -> Result<KeyPage, OnlineError> {
        let work = self.inner.keys(project, view, from);
        self.during(Operation::List, work).await
    }

    async fn delete_rows(
        &self,
        project: &ProjectName,
        view: &ViewId,
        keys: &[EntityKey],
    ) -> Result<u64, OnlineError> {
        let work = self.inner.delete_rows(project, view, keys);
        self.during(Operation::Delete, work).await
    }

    async fn replace(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        replacements: &[Replacement],
    ) -> Result<u64, OnlineError> {
        let work = self.inner.replace(project, view, expiry, replacements);
        self.during(Operation::Replace, work).await
    }

    async fn forget(&self, project: &ProjectName, view: &ViewId) -> Result<(), OnlineError> {
        let work = self.inner.forget(project, view);
        self.during(Operation::Load, work).await
    }

    fn cache_stats(&self) -> Option<CacheStats> {
        self.inner.cache_stats()
    }

    async fn probe(&self) -> Result<Probe, OnlineError> {
        self.during(Operation::Check, self.inner.probe()).await
    }

    async fn check(&self) -> Result<StoreInfo, OnlineError> {
        self.during(Operation::Check, self.inner.check()).await
    }
}

#[async_trait]
impl<S: TrackedStore> TrackedStore for Metered<S> {
    async fn servers(&self) -> Result<Vec<TrackedServer>, OnlineError> {
        self.inner.servers().await
    }
}
