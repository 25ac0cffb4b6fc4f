//! What online reads are answered with: one registry version, every feature service resolved to a read plan.
//!
//! It is made when the registry has a new version, and swapped whole, so a request sees one version or the next. A
//! request costs no look at the registry: whether there is a new version is asked in the background, every
//! [`REFRESH`], and by requests only when nobody has asked for [`STALE`]. While the registry does not answer, requests
//! go on with the version last seen.
//!
//! A view's new version takes the place of the one before once it has been loaded into the online store whole. Until
//! then a reference without a version means the newest version that has been, so that readers see the old one complete
//! or the new one complete. A request for a feature that only the new one has is answered by the new one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use vintner_core::{FeatureRef, ProjectName, RegistryVersion, ViewName, ViewVersion};
use vintner_online::{OnlineError, OnlineStore, ReadPlan};
use vintner_registry::{
    model::{Project, Snapshot, View},
    selection::{FeatureRequest, NameStyle, Selection, SelectionError, select},
};

use super::{keys::EntityReader, online::not_online};
use crate::{
    error::{Fault, OpsError},
    meter::{Meters, PlanMeters},
};

/// How often the registry is asked for a new version, and the store whether a new version of a view is complete.
pub(super) const REFRESH: Duration = Duration::from_millis(500);
/// After how long without that a request asks itself.
const STALE: Duration = Duration::from_secs(2);
/// A request that names what is not known asks again, but not sooner than so long after the last time.
pub(super) const AGAIN: Duration = Duration::from_millis(20);
/// Requests that name features one by one can be of any number; this many are remembered.
const MOST_PLANS: usize = 1_024;

/// What is served now.
#[derive(Debug)]
pub(super) struct Serving {
    served: ArcSwapOption<Served>,
    /// When the registry was last asked: microseconds since `begun`; 0 is never.
    asked: AtomicU64,
    begun: Instant,
    /// Held by the one that asks.
    asking: Mutex<()>,
    meters: Arc<Meters>,
}

/// One registry version, ready to answer.
#[derive(Debug)]
pub(super) struct Served {
    snapshot: Arc<Snapshot>,
    project: ProjectName,
    /// The views whose newest version is not complete, with the version that is read in its place.
    held: BTreeMap<ViewName, ViewVersion>,
    services: HashMap<FeatureRequest, Arc<Compiled>>,
    others: RwLock<HashMap<(FeatureRequest, NameStyle), Arc<Compiled>>>,
    meters: Arc<Meters>,
}

/// The features of a request, resolved.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) plan: ReadPlan,
    pub(super) entities: EntityReader,
    /// The counters of the plan's views.
    pub(super) meters: PlanMeters,
}

impl Serving {
    /// Counts what it is told and what it compiles for with `meters`.
    pub(super) fn new(meters: Arc<Meters>) -> Self {
        Self {
            served: ArcSwapOption::empty(),
            asked: AtomicU64::new(0),
            begun: Instant::now(),
            asking: Mutex::new(()),
            meters,
        }
    }

    /// What a request is answered with. `latest` reads the registry.
    pub(super) async fn get<F>(
        &self,
        project: &ProjectName,
        store: &dyn OnlineStore,
        latest: impl FnOnce() -> F,
    ) -> Result<Arc<Served>, OpsError>
    where
        F: Future<Output = Result<Arc<Snapshot>, OpsError>>,
    {
        let Some(served) = self.served.load_full() else {
            // Boxed, here and below, since what it holds is large and seldom needed.
            return Box::pin(self.refresh(project, store, STALE, latest)).await;
        };
        if self.asked_within(STALE) {
            return Ok(served);
        }
        // One request asks, the others go on.
        match self.asking.try_lock() {
            Ok(_asking) => Box::pin(self.ask(project, store, latest)).await,
            Err(_) => Ok(served),
        }
    }

    /// Asks the registry unless somebody has within `recent`.
    pub(super) async fn refresh<F>(
        &self,
        project: &ProjectName,
        store: &dyn OnlineStore,
        recent: Duration,
        latest: impl FnOnce() -> F,
    ) -> Result<Arc<Served>, OpsError>
    where
        F: Future<Output = Result<Arc<Snapshot>, OpsError>>,
    {
        let _asking = self.asking.lock().await;
        match self.served.load_full() {
            Some(served) if self.asked_within(recent) => Ok(served),
            _ => self.ask(project, store, latest).await,
        }
    }

    /// Makes the next request ask the registry: it has a new version.
    pub(super) fn outdate(&self) {
        self.asked.store(0, Ordering::Release);
    }

    async fn ask<F>(
        &self,
        project: &ProjectName,
        store: &dyn OnlineStore,
        latest: impl FnOnce() -> F,
    ) -> Result<Arc<Served>, OpsError>
    where
        F: Future<Output = Result<Arc<Snapshot>, OpsError>>,
    {
        let before = self.served.load_full();
        // From here on, so that what is written meanwhile is asked for again.
        let at = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let next = async {
            let snapshot = latest().await?;
            let views = snapshot.projects.get(project).into_iter();
            let views = views.flat_map(|project| project.views.values());
            let views = views.flat_map(|view| view.revisions.values());
            let ids = views.map(|revision| &revision.id);
            self.meters.registry_is(snapshot.version, ids);
            match &before {
                Some(served)
                    if served.snapshot.version == snapshot.version && served.held.is_empty() =>
                {
                    Ok(Arc::clone(served))
                }
                _ => {
                    let made = Served::make(snapshot, project, store, &self.meters);
                    made.await.map(Arc::new)
                }
            }
        };
        let served = match (next.await, before) {
            (Ok(next), _) => next,
            (Err(error), None) => return Err(error),
            (Err(error), Some(before)) => {
                tracing::warn!(
                    error = %error.chain(),
                    version = before.snapshot.version.0,
                    "it cannot be told whether the registry has a new version; serving the one last seen"
                );
                before
            }
        };
        self.served.store(Some(Arc::clone(&served)));
        self.asked.store(at.max(1), Ordering::Release);
        Ok(served)
    }

    fn asked_within(&self, time: Duration) -> bool {
        match self.asked.load(Ordering::Acquire) {
            0 => false,
            at => self.begun.elapsed() < Duration::from_micros(at).saturating_add(time),
        }
    }
}

impl Served {
    async fn make(
        snapshot: Arc<Snapshot>,
        project: &ProjectName,
        store: &dyn OnlineStore,
        meters: &Arc<Meters>,
    ) -> Result<Self, OpsError> {
        let mut served = Self {
            snapshot,
            project: project.clone(),
            held: BTreeMap::new(),
            services: HashMap::new(),
            others: RwLock::default(),
            meters: Arc::clone(meters),
        };
        let Some(applied) = served.snapshot.projects.get(project) else {
            return Ok(served);
        };
        let mut held = BTreeMap::new();
        for view in applied.views.values() {
            let complete = complete(project, view, store)
                .await
                .map_err(super::online::online_error)?;
            held.extend(complete.map(|version| (view.name.clone(), version)));
        }
        let services: HashMap<_, _> = applied
            .services
            .keys()
            .map(|name| FeatureRequest::Service(name.clone()))
            .filter_map(|request| {
                // One that does not resolve says why when it is asked for.
                let compiled = compile(applied, &held, &request, NameStyle::Short, meters).ok()?;
                Some((request, Arc::new(compiled)))
            })
            .collect();
        (served.held, served.services) = (held, services);
        Ok(served)
    }

    /// The registry version.
    pub(super) fn version(&self) -> RegistryVersion {
        self.snapshot.version
    }

    /// How a request is answered.
    pub(super) fn plan(
        &self,
        request: &FeatureRequest,
        names: NameStyle,
    ) -> Result<Arc<Compiled>, OpsError> {
        if names == NameStyle::Short
            && let Some(compiled) = self.services.get(request)
        {
            return Ok(Arc::clone(compiled));
        }
        let key = (request.clone(), names);
        if let Ok(others) = self.others.read()
            && let Some(compiled) = others.get(&key)
        {
            return Ok(Arc::clone(compiled));
        }
        let project = super::applied(&self.snapshot, &self.project)?;
        let compiled = Arc::new(compile(project, &self.held, request, names, &self.meters)?);
        if let Ok(mut others) = self.others.write() {
            if others.len() >= MOST_PLANS {
                others.clear();
            }
            others.insert(key, Arc::clone(&compiled));
        }
        Ok(compiled)
    }
}

/// The version that is read in place of a view's newest one, which has not been loaded whole. None when the newest is
/// complete, and when none is.
async fn complete(
    project: &ProjectName,
    view: &View,
    store: &dyn OnlineStore,
) -> Result<Option<ViewVersion>, OnlineError> {
    let mut newest_first = view.revisions.values().rev().filter(|view| view.online);
    let (Some(newest), true) = (newest_first.next(), view.revisions.len() > 1) else {
        return Ok(None);
    };
    if store.load(project, &newest.id).await?.progress.is_some() {
        return Ok(None);
    }
    for older in newest_first {
        if store.load(project, &older.id).await?.progress.is_some() {
            return Ok(Some(older.id.version));
        }
    }
    Ok(None)
}

fn compile(
    project: &Project,
    held: &BTreeMap<ViewName, ViewVersion>,
    request: &FeatureRequest,
    names: NameStyle,
    meters: &Meters,
) -> Result<Compiled, OpsError> {
    let failed = |error: SelectionError| OpsError::from_error(Fault::NotFound, error);
    let selection = match pinned(project, held, request) {
        // A feature that the old version does not have is the new version's.
        Some(old) => select(project, &old, names).or_else(|_| select(project, request, names)),
        None => select(project, request, names),
    };
    let selection: Selection = selection.map_err(failed)?;
    if let Some(view) = selection.views.iter().find(|view| !view.online) {
        return Err(not_online(&view.id));
    }
    let plan = ReadPlan::new(&selection);
    let join_keys = selection
        .join_keys()
        .map_err(|error| OpsError::from_error(Fault::Request, error))?;
    Ok(Compiled {
        entities: EntityReader::new(&plan, join_keys),
        meters: PlanMeters::new(meters, plan.views().map(|view| &view.id)),
        plan,
    })
}

/// The request with the versions that are held written out; none when it names no such view.
fn pinned(
    project: &Project,
    held: &BTreeMap<ViewName, ViewVersion>,
    request: &FeatureRequest,
) -> Option<FeatureRequest> {
    if held.is_empty() {
        return None;
    }
    let references = match request {
        FeatureRequest::Features(references) => references,
        FeatureRequest::Service(name) => &project.services.get(name)?.features,
    };
    let holds =
        |reference: &FeatureRef| reference.version.is_none() && held.contains_key(&reference.view);
    references.iter().any(holds).then(|| {
        let references = references.iter().map(|reference| FeatureRef {
            version: reference
                .version
                .or_else(|| held.get(&reference.view).copied()),
            ..reference.clone()
        });
        FeatureRequest::Features(references.collect())
    })
}
