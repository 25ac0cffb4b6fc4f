//! What every online store does, and what goes in and out of it.

use std::{fmt, ops::AddAssign, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use vintner_core::{ByteSize, EntityKey, ProjectName, Timestamp, Ttl, ViewId};

use crate::{error::OnlineError, near_cache::CacheStats, row::PackedRow};

/// A store of one packed row per (project, view version, entity).
///
/// Holds always, for every implementation, and tested by one suite: the stored row is the one with the greatest row
/// time ever written, whoever wrote in whatever order; of equal ones the last written. A failing store is an error
/// and never a missing row.
#[async_trait]
pub trait OnlineStore: fmt::Debug + Send + Sync {
    /// Writes rows of one view version. A row replaces the stored one when its row time is greater or equal; the
    /// store itself compares, atomically.
    ///
    /// Cost: bounded batches, whatever the number of rows. On an error some of the rows are written; writing all of
    /// them again ends as if there had been none.
    async fn write(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        rows: &[OnlineRow],
    ) -> Result<WriteReport, OnlineError>;

    /// The rows of all these views and entities: per lookup, per key, what is stored. One round trip.
    async fn read(
        &self,
        project: &ProjectName,
        lookups: &[Lookup<'_>],
    ) -> Result<Vec<Vec<Option<Bytes>>>, OnlineError>;

    /// How far the rows of a view version have been loaded, and in which life of the store. Changes nothing of the view.
    async fn load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError>;

    /// Begins to load rows of a view version, and says how far an earlier load has come. Any number of loads may go
    /// on at one time, and one need not be ended.
    async fn begin_load(&self, project: &ProjectName, view: &ViewId) -> Result<Load, OnlineError>;

    /// Notes how far the rows of a view version have been loaded, all of which have been written since `load` began
    /// or before the progress that it found. The store does not look into `progress`; an empty one is none.
    ///
    /// # Errors
    /// [`OnlineError::LostRows`] when the store was started again or emptied, or the view deleted, since the load
    /// began: rows of the load may be gone then, and nothing is noted, so that the next load finds them missing.
    async fn end_load(
        &self,
        project: &ProjectName,
        view: &ViewId,
        load: &Load,
        progress: &[u8],
    ) -> Result<(), OnlineError>;

    /// The next entities that have a row of a view version, from a place in the list on. An entity that has its row
    /// from the first page to the last is given, perhaps more than once; one whose row comes or goes meanwhile may be.
    ///
    /// Cost: a page is bounded, and may be empty before the last one. Redis looks through all of its keys, also those
    /// of others; the embedded store through the view's alone.
    async fn keys(
        &self,
        project: &ProjectName,
        view: &ViewId,
        from: Option<&KeyCursor>,
    ) -> Result<KeyPage, OnlineError>;

    /// Deletes the rows of these entities, whatever they are, in bounded batches; says how many there were.
    async fn delete_rows(
        &self,
        project: &ProjectName,
        view: &ViewId,
        keys: &[EntityKey],
    ) -> Result<u64, OnlineError>;

    /// Puts rows in the place of what was seen, newer or not, or deletes it. What is no longer what was seen stays: the
    /// store itself compares, atomically, so that whoever wrote since is not overwritten. Says how many changed.
    async fn replace(
        &self,
        project: &ProjectName,
        view: &ViewId,
        expiry: Option<Expiry>,
        replacements: &[Replacement],
    ) -> Result<u64, OnlineError>;

    /// Forgets that a view version was ever loaded: for when its rows are deleted.
    async fn forget(&self, project: &ProjectName, view: &ViewId) -> Result<(), OnlineError>;

    /// Tries the store out: writes, reads and deletes something of no view, and asks what it says of itself.
    async fn probe(&self) -> Result<Probe, OnlineError>;

    /// Asks the store whether it is there and fit for use.
    async fn check(&self) -> Result<StoreInfo, OnlineError>;

    /// What its near cache tells of itself; none when it has none.
    fn cache_stats(&self) -> Option<CacheStats> {
        None
    }
}

/// One row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineRow {
    /// Its entity.
    pub key: EntityKey,
    /// The row, which carries its row time.
    pub row: PackedRow,
}

/// Where the loading of a view version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// What [`OnlineStore::end_load`] last noted; none before the first load and after the store was emptied.
    pub progress: Option<Vec<u8>>,
    /// Whether a load has ever begun, ended or not, since the view version was last forgotten: it may have rows.
    pub begun: bool,
    /// What the store calls the time in which it keeps what it has acknowledged: since it was started, made, or emptied.
    /// Rows that were acknowledged in another life may be gone. Empty when it has no name for it.
    pub life: String,
}

/// Entities that have a row, and where the list goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The entities, in no particular order.
    pub keys: Vec<EntityKey>,
    /// The place of the next page; none after the last one.
    pub next: Option<KeyCursor>,
}

/// A place in a list of entities. Only the store that gave it knows what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCursor(pub(crate) Vec<u8>);

/// What takes the place of a stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Its entity.
    pub key: EntityKey,
    /// What was read, which may be damaged.
    pub seen: Bytes,
    /// The row; none deletes.
    pub row: Option<PackedRow>,
}

/// The entities to read of one view version.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The view version.
    pub view: &'a ViewId,
    /// The entities.
    pub keys: &'a [EntityKey],
    /// How many bytes of the view's rows may be kept in a near cache; none when the rows must be those that the store
    /// itself has now. Stores without such a cache take no notice.
    pub cache: Option<ByteSize>,
}

/// What became of the rows that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteReport {
    /// Rows that took their place, or that were too old to be kept and removed an older one.
    pub written: u64,
    /// Rows that came too late: what was stored was newer and has been kept.
    pub kept: u64,
}

/// What [`OnlineStore::check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// What it is and where, without secrets.
    pub store: String,
    /// The version of its software.
    pub version: String,
    /// What should be changed about it, for people.
    pub warnings: Vec<String>,
}

/// What [`OnlineStore::probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The median time to write, to read and to delete.
    pub latencies: [Duration; 3],
    /// What the clocks of the store's servers said at the end, each with the words that tell which server's it is: none
    /// where there is only one.
    pub clocks: Vec<(String, Timestamp)>,
    /// What it says of itself: a name and a value each.
    pub facts: Vec<(String, String)>,
}

/// When the rows that are written may leave the store.
///
/// A row may leave when its ttl has run out and a grace after it: within the grace a read can still say that there is
/// a value and that it is too old. Until then every store gives the same answers; afterwards one store may say that
/// the row is expired and another that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The view's ttl.
    pub ttl: Ttl,
    /// The present moment by the clock that the run goes by. The rest of a row's life is counted from here, so a run
    /// with a clock in the past fills a store whose own clock is in the present.
    pub now: Timestamp,
}

/// How long a row may stay in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// Not at all: its ttl and the grace have run out.
    Gone,
    /// For so long.
    For(Duration),
    /// Longer than anyone waits.
    Forever,
}

impl Expiry {
    /// The shortest grace: an hour.
    const SHORTEST_GRACE: u64 = 3_600_000_000;
    /// The longest grace: seven days.
    const LONGEST_GRACE: u64 = 7 * 24 * Self::SHORTEST_GRACE;
    /// What counts as for ever: a hundred years. Stores need not count further.
    const FOREVER: u64 = 100 * 365 * 24 * Self::SHORTEST_GRACE;

    /// How long a row stays after its ttl, in microseconds: a quarter of the ttl, at least an hour and at most seven
    /// days.
    pub fn grace_micros(self) -> u64 {
        (self.ttl.micros() / 4).clamp(Self::SHORTEST_GRACE, Self::LONGEST_GRACE)
    }

    /// How long a row with this event time may stay.
    pub fn remaining(self, event: Timestamp) -> Remaining {
        let end = i128::from(event.micros())
            + i128::from(self.ttl.micros())
            + i128::from(self.grace_micros());
        let remaining = end - i128::from(self.now.micros());
        match u64::try_from(remaining) {
            Err(_) if remaining < 0 => Remaining::Gone,
            Ok(micros) if micros < Self::FOREVER => {
                // The end is inclusive, as the ttl's is.
                Remaining::For(Duration::from_micros(micros + 1))
            }
            _ => Remaining::Forever,
        }
    }
}

impl AddAssign for WriteReport {
    fn add_assign(&mut self, other: Self) {
        self.written += other.written;
        self.kept += other.kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn the_grace_is_a_quarter_of_the_ttl_between_an_hour_and_seven_days() {
        for (ttl, grace) in [
            (1, HOUR),
            (4 * HOUR, HOUR),
            (8 * HOUR, 2 * HOUR),
            (28 * 24 * HOUR, 7 * 24 * HOUR),
            (365 * 24 * HOUR, 7 * 24 * HOUR),
        ] {
            let expiry = Expiry {
                ttl: Ttl::from_micros(ttl.unsigned_abs()).unwrap(),
                now: Timestamp::from_micros(0),
            };
            assert_eq!(expiry.grace_micros(), grace.unsigned_abs(), "ttl {ttl}");
        }
    }

    #[test]
    fn a_row_stays_until_ttl_and_grace_have_run_out_by_the_given_clock() {
        let long = i64::MAX.unsigned_abs();
        let stays = |micros| Remaining::For(Duration::from_micros(micros));
        for (ttl, event, now, want) in [
            (1, 0, 0, stays(2 + HOUR.unsigned_abs())),
            (1, 0, HOUR + 1, stays(1)), // its last moment
            (1, 0, HOUR + 2, Remaining::Gone),
            (1, -5, HOUR, Remaining::Gone),
            (1, 5, -5, stays(12 + HOUR.unsigned_abs())),
            (long, i64::MIN, i64::MAX, Remaining::Gone),
            (long, i64::MAX, i64::MIN, Remaining::Forever),
            (1, i64::MAX, 0, Remaining::Forever),
        ] {
            let expiry = Expiry {
                ttl: Ttl::from_micros(ttl).unwrap(),
                now: Timestamp::from_micros(now),
            };
            let got = expiry.remaining(Timestamp::from_micros(event));
            assert_eq!(got, want, "ttl {ttl} event {event} now {now}");
        }
    }
}
