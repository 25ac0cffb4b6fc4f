//! `verify`: the online store compared with what a view's table says should be there, and mended.
//!
//! The table is read in parts of so many entities; the rows of each part are looked up in batches. Entities that only
//! the store has are found by listing its keys. What differs is looked at again, against a newer version of the table
//! if there is one, before it is called wrong: others write meanwhile.
//!
//! Memory: the rows of [`PART_KEYS`] entities and those of [`DOUBTS`] that differ, and eight bytes per entity of the
//! table. Cost: the table is read once per part; with a store in Redis all of its keys are listed once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use futures::StreamExt as _;
use vintner_core::{Clock, Column, EntityKey, FeatureField, RowTime, Timestamp};
use vintner_offline::{
    delta::KeyDigest,
    materialize::{
        ExpectedRows, KeyRange, MaterializeContext, OnlineCursor, OnlineLoad, key_hash, online_rows,
    },
};
use vintner_online::{
    Expiry, Lookup, OnlineRow, OnlineStore, PackedRow, Remaining, Replacement, RowLayout,
    row::{Field, RowReader},
    shown,
};
use vintner_registry::model::ViewRevision;

use super::{
    forget::OnlineRows,
    materialize::{cursor_of, micros_since, packed},
    online::online_error,
};
use crate::{
    api::{Difference, Example, KeysSeen, Repair, VerifyRequest, ViewVerification},
    error::{Fault, OpsError, chain},
};

/// Entities of the table per part.
const PART_KEYS: usize = 500_000;
/// Entities that differ, before they are looked at again.
const DOUBTS: usize = 50_000;
/// Entities per read of the store.
const READ_KEYS: usize = 4096;
/// Examples per kind of difference.
const EXAMPLES: usize = 3;
/// A row may leave the store so long before its time: clocks differ.
const EARLY_MICROS: i64 = 60_000_000;
/// A row that the table does not have is judged when it was made so long ago: younger ones may be on their way there.
const RECENT_MICROS: i64 = 5 * 60_000_000;

/// What a verification works with.
pub(super) struct Verifying<'a> {
    pub(super) context: &'a MaterializeContext<'a>,
    pub(super) online: &'a Arc<dyn OnlineStore>,
    pub(super) clock: &'a dyn Clock,
    pub(super) request: &'a VerifyRequest,
    pub(super) events: &'a (dyn Fn(KeysSeen) + Send + Sync),
}

/// One view that is being compared.
struct OfView<'a> {
    of: &'a Verifying<'a>,
    view: &'a ViewRevision,
    layout: RowLayout,
    reader: RowReader,
    not_loaded: NotLoaded,
    /// What came to the table since the version that is compared, is what comes after this.
    compared: Option<OnlineCursor>,
    doubts: Vec<Doubt>,
    found: ViewVerification,
    counts: BTreeMap<Difference, u64>,
}

/// An entity that differed when it was first looked at.
struct Doubt {
    key: EntityKey,
    wanted: Option<PackedRow>,
}

/// Of which entities the store has not been given the latest row yet.
enum NotLoaded {
    All,
    Keys(HashSet<u64>),
}

impl NotLoaded {
    fn has(&self, key: &EntityKey) -> bool {
        match self {
            Self::All => true,
            Self::Keys(keys) => keys.contains(&key_hash(key.as_bytes())),
        }
    }
}

/// What is stored of one entity, beside what should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// Nothing is wrong: the same row, or none on both sides.
    Same,
    /// The row has rightly left the store.
    Expired,
    Differs(Difference),
}

impl Verifying<'_> {
    /// Compares one view.
    pub(super) async fn view(&self, view: &ViewRevision) -> Result<ViewVerification, OpsError> {
        let started = Instant::now();
        let now = self.clock.now();
        let loaded = self.online.load(self.context.project, &view.id).await;
        let loaded = cursor_of(&loaded.map_err(online_error)?);
        let expected = ExpectedRows::newest(self.context, view).await;
        let expected = expected.map_err(failed)?;
        let mut of_view = OfView {
            of: self,
            view,
            layout: RowLayout::new(&view.layout()),
            reader: RowReader::new(view, &view.features),
            not_loaded: NotLoaded::All,
            compared: None,
            doubts: Vec::new(),
            found: ViewVerification {
                view: view.id.clone(),
                table_version: expected.version(),
                loaded_version: loaded.as_ref().map(OnlineCursor::table_version),
                keys: 0,
                same: 0,
                expired: 0,
                settled: 0,
                recent: 0,
                differences: Vec::new(),
                not_loaded: 0,
                repaired: 0,
                held_back: 0,
                examples: Vec::new(),
                micros: 0,
            },
            counts: BTreeMap::new(),
        };
        let sample = KeyRange::of_a_million(self.request.sample.of_a_million);
        let mut in_table = Vec::new();
        let mut rest = Some(sample);
        while let Some(range) = rest {
            let part = expected.part(range, PART_KEYS, now).await.map_err(failed)?;
            rest = sample.after(part.range);
            if of_view.compared.is_none() {
                of_view.found.held_back = part.held_back;
                of_view.compared = part.cursor;
                of_view.find_not_loaded(loaded.as_ref(), now).await?;
            }
            let mut batches = part.batches;
            while let Some(batch) = batches.next().await {
                let batch = batch.map_err(|error| OpsError::from_error(Fault::Store, error))?;
                let rows = packed(view, &of_view.layout, &batch)?;
                in_table.extend(rows.iter().map(|row| key_hash(row.key.as_bytes())));
                of_view.compare(rows).await?;
            }
        }
        in_table.sort_unstable();
        of_view.find_extras(sample, &in_table).await?;
        of_view.settle().await?;
        of_view.forget().await?;
        let OfView {
            mut found, counts, ..
        } = of_view;
        found.differences = counts.into_iter().collect();
        found.examples.sort_by_key(|example| example.difference);
        found.micros = micros_since(started);
        Ok(found)
    }
}

impl OfView<'_> {
    /// Which entities have a row that the store has not been given: those that a load would go on with.
    async fn find_not_loaded(
        &mut self,
        loaded: Option<&OnlineCursor>,
        now: Timestamp,
    ) -> Result<(), OpsError> {
        let (Some(loaded), Some(compared)) = (loaded, &self.compared) else {
            return Ok(());
        };
        if !loaded.is_of(compared) {
            return Ok(());
        }
        let mut keys = HashSet::new();
        if !loaded.is_complete(compared, now) {
            let load = online_rows(self.of.context, self.view, Some(loaded), now).await;
            let mut batches = load.map_err(failed)?.batches;
            while let Some(batch) = batches.next().await {
                let batch = batch.map_err(|error| OpsError::from_error(Fault::Store, error))?;
                let rows = packed(self.view, &self.layout, &batch)?;
                keys.extend(rows.iter().map(|row| key_hash(row.key.as_bytes())));
            }
        }
        self.not_loaded = NotLoaded::Keys(keys);
        Ok(())
    }

    /// Looks up the entities of rows of the table.
    async fn compare(&mut self, rows: Vec<OnlineRow>) -> Result<(), OpsError> {
        let keys: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
        let stored = self.read(&keys).await?;
        for (row, stored) in rows.into_iter().zip(stored) {
            self.found.keys += 1;
            match self.judge(Some(&row.row), stored.as_deref()) {
                Compared::Same => self.found.same += 1,
                Compared::Expired => self.found.expired += 1,
                Compared::Differs(_) => self.doubts.push(Doubt {
                    key: row.key,
                    wanted: Some(row.row),
                }),
            }
        }
        (self.of.events)(KeysSeen {
            view: self.view.id.clone(),
            keys: self.found.keys,
        });
        match self.doubts.len() < DOUBTS {
            true => Ok(()),
            false => self.settle().await,
        }
    }

    /// Lists the store's entities and doubts those that the table does not have.
    async fn find_extras(&mut self, sample: KeyRange, in_table: &[u64]) -> Result<(), OpsError> {
        let (mut from, mut seen) = (None, HashSet::new());
        loop {
            let Verifying {
                online, context, ..
            } = self.of;
            let page = online.keys(context.project, &self.view.id, from.as_ref());
            let page = page.await.map_err(online_error)?;
            for key in page.keys {
                let hash = key_hash(key.as_bytes());
                let extra = sample.has_hash(hash) && in_table.binary_search(&hash).is_err();
                // A key may be listed twice.
                if extra && seen.insert(hash) {
                    self.found.keys += 1;
                    self.doubts.push(Doubt { key, wanted: None });
                }
            }
            if self.doubts.len() >= DOUBTS {
                self.settle().await?;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Looks again at what differed, and mends what still does.
    async fn settle(&mut self) -> Result<(), OpsError> {
        let mut doubts = std::mem::take(&mut self.doubts);
        if doubts.is_empty() {
            return Ok(());
        }
        let now = self.of.clock.now();
        self.bring_up_to_date(&mut doubts, now).await?;
        let keys: Vec<_> = doubts.iter().map(|doubt| doubt.key.clone()).collect();
        let stored = self.read(&keys).await?;
        let (mut writes, mut replacements) = (Vec::new(), Vec::new());
        for (Doubt { key, wanted }, stored) in doubts.into_iter().zip(stored) {
            let difference = match self.judge(wanted.as_ref(), stored.as_deref()) {
                Compared::Same | Compared::Expired => {
                    self.found.settled += 1;
                    continue;
                }
                Compared::Differs(difference) => difference,
            };
            if self.is_recent(difference, stored.as_deref(), now) {
                self.found.recent += 1;
                continue;
            }
            self.tell(difference, &key, wanted.as_ref(), stored.as_deref(), now);
            let repair = self.of.request.repair;
            match (difference, wanted, stored) {
                _ if repair == Repair::No => {}
                (Difference::Newer, _, _) if repair == Repair::Safe => {}
                (Difference::Missing | Difference::Older | Difference::Different, Some(row), _) => {
                    writes.push(OnlineRow { key, row })
                }
                (_, row, Some(seen)) => replacements.push(Replacement { key, seen, row }),
                (_, _, None) => {}
            }
        }
        self.repair(&writes, &replacements, now).await
    }

    /// What should be there by a newer version of the table, if there is one.
    async fn bring_up_to_date(&self, doubts: &mut [Doubt], now: Timestamp) -> Result<(), OpsError> {
        let Verifying { context, .. } = self.of;
        let newest = ExpectedRows::newest(context, self.view).await;
        let newest = newest.map_err(failed)?.version();
        if newest == self.found.table_version {
            return Ok(());
        }
        let load = online_rows(context, self.view, self.compared.as_ref(), now).await;
        let OnlineLoad {
            mut batches,
            deleted,
            ..
        } = load.map_err(failed)?;
        let places = doubts.iter().enumerate();
        let places: HashMap<_, _> = places
            .map(|(place, doubt)| (doubt.key.clone(), place))
            .collect();
        for doubt in &mut *doubts {
            if deleted.contains(&KeyDigest::of(doubt.key.as_bytes())) {
                doubt.wanted = None;
            }
        }
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| OpsError::from_error(Fault::Store, error))?;
            for row in packed(self.view, &self.layout, &batch)? {
                let doubt = places
                    .get(&row.key)
                    .and_then(|&place| doubts.get_mut(place));
                // A row that came late may be older than the one that was there.
                if let Some(doubt) = doubt
                    && doubt
                        .wanted
                        .as_ref()
                        .is_none_or(|old| old.time() <= row.row.time())
                {
                    doubt.wanted = Some(row.row);
                }
            }
        }
        Ok(())
    }

    async fn read(&self, keys: &[EntityKey]) -> Result<Vec<Option<Bytes>>, OpsError> {
        let mut rows = Vec::with_capacity(keys.len());
        for keys in keys.chunks(READ_KEYS) {
            let view = &self.view.id;
            let lookups = [Lookup {
                view,
                keys,
                cache: None,
            }];
            let read = self.of.online.read(self.of.context.project, &lookups).await;
            rows.extend(read.map_err(online_error)?.into_iter().flatten());
        }
        Ok(rows)
    }

    fn judge(&self, wanted: Option<&PackedRow>, stored: Option<&[u8]>) -> Compared {
        let early =
            Timestamp::from_micros(self.of.clock.now().micros().saturating_add(EARLY_MICROS));
        let expiry = self.expiry(early);
        let gone = |row: &PackedRow| {
            expiry.is_some_and(|expiry| expiry.remaining(row.time().event) == Remaining::Gone)
        };
        Compared::Differs(match (wanted, stored) {
            (None, None) => return Compared::Same,
            (Some(wanted), Some(stored)) if wanted.as_bytes() == stored => return Compared::Same,
            (Some(wanted), None) if gone(wanted) => return Compared::Expired,
            (Some(_), None) => Difference::Missing,
            (wanted, Some(stored)) => match (self.time_of(stored), wanted) {
                (Err(_), _) => Difference::Corrupt,
                (Ok(_), None) => Difference::Extra,
                (Ok(time), Some(wanted)) if time < wanted.time() => Difference::Older,
                (Ok(time), Some(wanted)) if time > wanted.time() => Difference::Newer,
                (Ok(_), Some(_)) => Difference::Different,
            },
        })
    }

    fn expiry(&self, now: Timestamp) -> Option<Expiry> {
        self.view.ttl.map(|ttl| Expiry { ttl, now })
    }

    /// The time of a row of which everything can be read; else what cannot.
    fn time_of(&self, stored: &[u8]) -> Result<RowTime, String> {
        let row = self.reader.read(stored).map_err(|error| chain(&error))?;
        for (place, feature) in self.view.features.iter().enumerate() {
            let mut column = Column::with_capacity(feature.feature_type, 1);
            let read = row.append(place, &mut column);
            read.map_err(|error| chain(&error))?;
        }
        Ok(row.time())
    }

    /// Whether a row that the table does not have was made minutes ago.
    fn is_recent(&self, difference: Difference, stored: Option<&[u8]>, now: Timestamp) -> bool {
        let ahead = matches!(difference, Difference::Extra | Difference::Newer);
        let time = stored.and_then(|stored| self.time_of(stored).ok());
        ahead
            && time.is_some_and(|time| {
                now.micros().saturating_sub(time.created.micros()) < RECENT_MICROS
            })
    }

    /// Counts a difference, and keeps it as an example while there are few.
    fn tell(
        &mut self,
        difference: Difference,
        key: &EntityKey,
        wanted: Option<&PackedRow>,
        stored: Option<&[u8]>,
        now: Timestamp,
    ) {
        let count = self.counts.entry(difference).or_default();
        *count += 1;
        let first = *count <= EXAMPLES as u64;
        let behind = matches!(
            difference,
            Difference::Missing | Difference::Older | Difference::Different
        );
        let not_loaded = behind && self.not_loaded.has(key);
        self.found.not_loaded += u64::from(not_loaded);
        if !first {
            return;
        }
        let time = |time: RowTime| format!("{} (created {})", time.event, time.created);
        let has = stored.map(|stored| self.time_of(stored));
        let mut explanation = match (&has, wanted) {
            (Some(Err(what)), _) => what.clone(),
            (Some(Ok(has)), Some(wanted)) if difference == Difference::Different => format!(
                "both {}; {}",
                time(*has),
                self.differing_features(wanted, stored.unwrap_or_default())
            ),
            (Some(Ok(has)), Some(wanted)) => {
                format!("online {}, table {}", time(*has), time(wanted.time()))
            }
            (Some(Ok(has)), None) => format!("online {}", time(*has)),
            (None, Some(wanted)) => format!("table {}", time(wanted.time())),
            (None, None) => String::new(),
        };
        if matches!(&has, Some(Ok(has)) if has.event > now) {
            explanation += "; its event time has not come";
        }
        if not_loaded {
            explanation += "; not loaded yet";
        }
        self.found.examples.push(Example {
            difference,
            entity: shown(self.view, key),
            explanation,
        });
    }

    /// Which features differ in two rows of one time.
    fn differing_features(&self, wanted: &PackedRow, stored: &[u8]) -> String {
        let field = |bytes: &[u8], place: usize, feature: &FeatureField| {
            let row = self.reader.read(bytes).ok()?;
            let mut column = Column::with_capacity(feature.feature_type, 1);
            let field = row.append(place, &mut column).ok()?;
            Some((field, column))
        };
        let mut differ = Vec::new();
        for (place, feature) in self.view.features.iter().enumerate() {
            let found = field(stored, place, feature);
            match found {
                Some((Field::Absent, _)) => differ.push(format!(
                    "{} was not there when it was written",
                    feature.name
                )),
                found if found != field(wanted.as_bytes(), place, feature) => {
                    differ.push(format!("{} differs", feature.name));
                }
                _ => {}
            }
        }
        match differ.is_empty() {
            true => "it is written in an older layout".to_owned(),
            false => differ.join(", "),
        }
    }

    /// Takes back rows that were written, and deleted from the table since it was read.
    async fn forget(&self) -> Result<(), OpsError> {
        let Verifying {
            context, online, ..
        } = self.of;
        let Some(version) = self.found.table_version.filter(|_| self.found.repaired > 0) else {
            return Ok(());
        };
        let watch = context
            .store
            .deletions_after(context.project, &self.view.id, version);
        let mut watch = watch.map_err(|error| OpsError::from_error(Fault::Store, error))?;
        let deleted = watch.look().await;
        let deleted = deleted.map_err(|error| OpsError::from_error(Fault::Store, error))?;
        let rows = OnlineRows {
            context,
            store: online,
            view: self.view,
            now: self.of.clock.now(),
        };
        rows.forget_digests(&deleted).await.map(|_| ())
    }

    async fn repair(
        &mut self,
        writes: &[OnlineRow],
        replacements: &[Replacement],
        now: Timestamp,
    ) -> Result<(), OpsError> {
        let (online, expiry) = (self.of.online, self.expiry(now));
        let (project, view) = (self.of.context.project, &self.view.id);
        let written = online.write(project, view, expiry, writes).await;
        let written = written.map_err(online_error)?;
        let replaced = online.replace(project, view, expiry, replacements).await;
        // A row that was kept is newer than ours: someone wrote it since, and it is not wrong any more.
        self.found.repaired += written.written + written.kept + replaced.map_err(online_error)?;
        Ok(())
    }
}

fn failed(error: vintner_offline::materialize::MaterializeError) -> OpsError {
    OpsError::from_error(Fault::Store, error)
}
