//! The operations on the stores of one deployment.

mod after;
mod catalog;
mod datasets;
mod delete;
mod deployment;
mod doctor;
mod forget;
mod freshness;
#[cfg(test)]
mod histories;
mod keys;
mod maintenance;
mod materialize;
mod online;
mod push;
mod readiness;
mod records;
mod resolve;
mod serving;
mod spine;
mod tables;
mod teardown;
mod training;
mod verify;
#[cfg(test)]
mod world;

use std::{
    collections::BTreeSet,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use catalog::StoredView;
use materialize::{self as load, load_online, micros_since};
pub use readiness::Readiness;
use serving::Serving;
use spine::Stores;
use tokio::sync::OnceCell;
pub(crate) use training::historical_error;
use vintner_core::{
    Clock, DatasetName, KeySchema, ProjectName, RegistryVersion, Timestamp, ViewName,
};
use vintner_offline::{
    delta::OfflineStore,
    materialize as offline,
    planner::session::{EngineConfig, SharedMemory, session_sharing},
    runs::Kind,
    sources::Sources,
    stream::SessionContext,
};
use vintner_online::{OnlineError, OnlineStore, OnlineStoreConfig};
use vintner_registry::{
    change::{self, Diff, diff},
    model::{Project, Snapshot, ViewRevision},
    plan::{self, Plan},
    selection::{FeatureRequest, NameStyle, select},
    store::{Counts, RegistryError, RegistryStore, WriteError},
};
use vintner_repo::{Deployment, RepoFile};

use crate::{
    api::{
        ApplyReport, Change, Changes, CheckReport, Checkup, Dataset, DeleteRequest, Deleted,
        Detail, HistoricalRequest, KeysSeen, MaterializeEvent, MaterializeRequest, ObjectKind,
        OnlineRequest, OnlineResponse, Operations, Phase, PlanReport, PushReport, PushRequest, Run,
        Scope, Spine, Summary, TeardownRequest, TeardownScope, TrainingRows, VacuumRequest,
        Vacuumed, VerifyRequest, Version, ViewCompaction, ViewRun, ViewTeardown, ViewVerification,
    },
    error::{Fault, OpsError},
    meter::{Meters, RunOutcome},
};

/// A deployment: its registry, its stores and its clock.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    project: ProjectName,
    registry: RegistryStore,
    offline: OfflineStore,
    online_config: OnlineStoreConfig,
    online: OnceCell<Arc<dyn OnlineStore>>,
    serving: Serving,
    meters: Arc<Meters>,
    writers: push::Writers,
    clock: Arc<dyn Clock>,
    memory: SharedMemory,
}

/// Parses and plans a repo without any store: what `check` does.
///
/// # Errors
/// None but a bug; mistakes in the repo are in the report.
pub async fn check(root: &Path, files: &[RepoFile]) -> Result<CheckReport, OpsError> {
    let resolved = resolve::resolve(root, files, &Snapshot::empty()).await;
    Ok(CheckReport {
        problems: resolved.problems,
        objects: resolved.objects,
    })
}

impl Local {
    /// Opens the deployment that `vintner.yaml` among `files` describes. `root` is its folder. No store is contacted
    /// yet. `memory` is what all joins and runs together may hold, in bytes.
    ///
    /// # Errors
    /// [`Fault::Request`] with every mistake in `vintner.yaml`.
    pub fn open(
        root: &Path,
        files: &[RepoFile],
        clock: Arc<dyn Clock>,
        memory: NonZeroUsize,
    ) -> Result<Self, OpsError> {
        let deployment = deployment(files)?;
        let registry = RegistryStore::open(&deployment.registry, root)
            .map_err(|e| OpsError::from_error(Fault::Request, e))?;
        let offline = OfflineStore::open(&deployment.offline_store, root)
            .map_err(|e| OpsError::from_error(Fault::Request, e))?;
        let meters = Arc::new(Meters::new(Arc::clone(&clock)));
        Ok(Self {
            root: root.to_owned(),
            project: deployment.project,
            registry,
            offline,
            online_config: deployment::online_config(&deployment.online_store)?,
            online: OnceCell::new(),
            serving: Serving::new(Arc::clone(&meters)),
            meters,
            writers: push::Writers::default(),
            clock,
            memory: SharedMemory::of(memory),
        })
    }

    /// What is counted of it.
    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.meters)
    }

    fn session(&self) -> Result<SessionContext, OpsError> {
        session_sharing(&EngineConfig::default(), &self.memory)
            .map_err(|error| OpsError::from_error(Fault::Internal, error))
    }

    async fn online(&self) -> Result<&Arc<dyn OnlineStore>, OpsError> {
        let open = async || {
            let opened = vintner_online::open(&self.online_config, &self.root, &self.meters.store);
            opened.await.inspect(|store| self.meters.opened(store))
        };
        match self.online.get() {
            Some(store) => Ok(store),
            // Boxed, so that the calls which find it open need not carry it.
            None => Box::pin(self.online.get_or_try_init(open))
                .await
                .map_err(online::online_error),
        }
    }

    async fn snapshot(&self) -> Result<Arc<Snapshot>, OpsError> {
        self.registry.latest().await.map_err(registry_error)
    }

    /// The project as applied.
    fn project<'a>(&self, snapshot: &'a Snapshot) -> Result<&'a Project, OpsError> {
        applied(snapshot, &self.project)
    }

    async fn write(
        &self,
        plan: &Plan,
        current: &Snapshot,
        author: &str,
        reason: &str,
    ) -> Result<RegistryVersion, OpsError> {
        let next = plan::apply(plan, current, author, reason, self.clock.now())
            .map_err(|error| OpsError::from_error(Fault::Stale, error))?;
        self.registry.write(&next).await.map_err(write_error)?;
        self.serving.outdate();
        Ok(next.version)
    }

    /// The views that a request names, in the order of the registry; all when it names none.
    fn wanted<'a>(
        project: &'a Project,
        names: &[ViewName],
    ) -> Result<Vec<&'a ViewRevision>, OpsError> {
        for name in names {
            catalog::view(project, name.as_str())?;
        }
        let current = project.views.values().filter_map(|view| view.current());
        Ok(current
            .filter(|view| names.is_empty() || names.contains(&view.id.name))
            .collect())
    }

    /// One view: first its Delta table, then the online store from it, then the record of it.
    async fn materialize_view(
        &self,
        project: &Project,
        view: &ViewRevision,
        request: &MaterializeRequest,
        events: &(dyn Fn(MaterializeEvent) + Send + Sync),
    ) -> Result<ViewRun, OpsError> {
        let began = self.begin();
        let mut run = ViewRun::nothing(view.id.clone());
        let ended = self
            .materialize_into(project, view, request, events, &mut run)
            .await;
        let outcome = match ended {
            Ok(()) => RunOutcome::Succeeded,
            Err(_) => RunOutcome::Failed,
        };
        let meter = self.meters.view(&view.id);
        meter.ran(began.instant.elapsed(), &run, outcome);
        let work = records::materialized(&run, request.window, view.online);
        let error = ended.as_ref().err();
        self.record(&view.id, work, run.plan.clone(), began, error)
            .await;
        ended.map(|()| run)
    }

    async fn materialize_into(
        &self,
        project: &Project,
        view: &ViewRevision,
        request: &MaterializeRequest,
        events: &(dyn Fn(MaterializeEvent) + Send + Sync),
        run: &mut ViewRun,
    ) -> Result<(), OpsError> {
        let now = self.clock.now();
        let session = self.session()?;
        let sources = Sources::new(&self.root);
        let context = offline::MaterializeContext {
            store: &self.offline,
            project: &self.project,
            sources: &sources,
            session: &session,
        };
        let asked = offline::MaterializeRequest {
            views: offline::ViewSelection::All,
            start: request.window.map(|(start, _)| start),
            end: request.window.map(|(_, end)| end),
            full_refresh: request.scope == Scope::FullRefresh,
        };
        let observe = |event: offline::RunEvent<'_>| match event {
            offline::RunEvent::Planned(plan) => {
                events(MaterializeEvent::Started {
                    view: view.id.clone(),
                    plan: told(plan),
                });
            }
            offline::RunEvent::Rows(counts) => events(MaterializeEvent::Progress {
                view: view.id.clone(),
                phase: Phase::Offline,
                rows: counts.written,
            }),
        };
        if request.scope == Scope::OnlineOnly {
            run.plan =
                "loaded the whole table into the online store, since that was asked for".to_owned();
            events(MaterializeEvent::Started {
                view: view.id.clone(),
                plan: run.plan.clone(),
            });
            return self
                .load(&context, view, load::From::Beginning, now, events, run)
                .await;
        }
        let started = Instant::now();
        let done = Box::pin(offline::materialize_view(
            &context,
            view,
            &project.sources,
            &asked,
            now,
            &observe,
        ))
        .await;
        run.offline_micros = micros_since(started);
        let done = done.map_err(materialize_error)?;
        run.plan = told(&done.plan);
        run.rows_read = done.counts.read;
        run.rows_written = done.counts.written;
        run.rows_left_out = done.counts.left_out();
        if view.online {
            self.load(&context, view, load::From::LastLoad, now, events, run)
                .await?;
        }
        Ok(())
    }

    /// The online store from the Delta table.
    async fn load(
        &self,
        context: &offline::MaterializeContext<'_>,
        view: &ViewRevision,
        from: load::From,
        now: Timestamp,
        events: &(dyn Fn(MaterializeEvent) + Send + Sync),
        run: &mut ViewRun,
    ) -> Result<(), OpsError> {
        let loaded = load_online(context, self.online().await?, view, from, now, events).await?;
        run.online_written = loaded.report.written;
        run.online_kept = loaded.report.kept;
        run.online_held_back = loaded.held_back;
        run.online_micros = loaded.micros;
        Ok(())
    }

    /// An error when a view was loaded and the online store knows nothing of it any more.
    async fn still_loaded(&self, view: &ViewRevision) -> Result<(), OpsError> {
        let online = self.online().await?;
        let load = online.load(&self.project, &view.id).await;
        if load.map_err(online::online_error)?.progress.is_some() {
            return Ok(());
        }
        let failed = |error| OpsError::from_error(Fault::Store, error);
        let table = self.offline.table(&self.project, &view.id);
        let table = table.map_err(failed)?.newest().await.map_err(failed)?;
        match table {
            None => Ok(()),
            Some(_) => Err(online::online_error(OnlineError::LostRows {
                store: online.check().await.map_err(online::online_error)?.store,
                view: view.id.clone(),
            })),
        }
    }

    /// The views that a request names, or all, as far as they are in the online store.
    fn wanted_online<'a>(
        project: &'a Project,
        names: &[ViewName],
    ) -> Result<Vec<&'a ViewRevision>, OpsError> {
        let mut views = Self::wanted(project, names)?;
        if let Some(view) = views.iter().find(|view| !view.online && !names.is_empty()) {
            return Err(online::not_online(&view.id));
        }
        views.retain(|view| view.online);
        Ok(views)
    }

    /// Deletes the online rows of the project's view versions that are retired, at most `rate` entities a second, and
    /// says what was deleted. `serve` does so from time to time.
    ///
    /// # Errors
    /// [`Fault::Store`] when a store fails; what was not deleted is found again.
    pub async fn delete_retired(&self, rate: NonZeroU32) -> Result<Vec<ViewTeardown>, OpsError> {
        let snapshot = self.snapshot().await?;
        let Some(project) = snapshot.projects.get(&self.project) else {
            return Ok(vec![]);
        };
        let mut done = Vec::new();
        for id in project.retired.keys() {
            let load = self.online().await?.load(&self.project, id).await;
            if load.map_err(online::online_error)?.begun {
                let online_rows = self
                    .delete_online(id, rate, teardown::Reason::Retired(&self.registry), &|_| {})
                    .await?;
                done.push(ViewTeardown {
                    view: id.clone(),
                    online: true,
                    online_rows,
                    files: 0,
                    bytes: 0,
                });
            }
        }
        Ok(done)
    }

    async fn delete_online(
        &self,
        view: &vintner_core::ViewId,
        rate: NonZeroU32,
        reason: teardown::Reason<'_>,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<u64, OpsError> {
        let session = self.session()?;
        let rows = teardown::OnlineRows {
            store: self.online().await?.as_ref(),
            offline: &self.offline,
            session: &session,
            project: &self.project,
            view,
            rate,
        };
        rows.delete(reason, events).await
    }

    /// What the offline store says of a view.
    async fn stored(&self, view: &ViewRevision) -> Result<StoredView, OpsError> {
        let failed = |error| OpsError::from_error(Fault::Store, error);
        let table = self
            .offline
            .table(&self.project, &view.id)
            .map_err(failed)?
            .newest()
            .await
            .map_err(failed)?;
        let last_run = self
            .records(Some(&view.id.name), Some(Kind::Materialize), 1)
            .await?
            .into_iter()
            .next();
        Ok(StoredView {
            delta_version: table.as_ref().map(|table| table.version()),
            rows: table.as_ref().map(|table| table.rows()),
            newest_event: table.as_ref().and_then(|table| table.newest_event()),
            last_run,
        })
    }
}

#[async_trait]
impl Operations for Local {
    async fn check(&self, files: &[RepoFile]) -> Result<CheckReport, OpsError> {
        check(&self.root, files).await
    }

    async fn plan(&self, files: &[RepoFile]) -> Result<PlanReport, OpsError> {
        self.own_project(files)?;
        let current = self.snapshot().await?;
        let resolved = resolve::resolve(&self.root, files, &current).await;
        Ok(PlanReport {
            problems: resolved.problems,
            changes: resolved.plan.as_ref().map(changes_of),
        })
    }

    async fn apply(
        &self,
        files: &[RepoFile],
        base: RegistryVersion,
        author: &str,
    ) -> Result<ApplyReport, OpsError> {
        self.own_project(files)?;
        let current = self.snapshot().await?;
        agreed(base, &current)?;
        let resolved = resolve::resolve(&self.root, files, &current).await;
        let mut report = ApplyReport {
            problems: resolved.problems,
            changes: resolved.plan.as_ref().map(changes_of),
            version: None,
        };
        if let Some(plan) = resolved.plan.filter(|plan| !plan.is_empty()) {
            report.version = Some(self.write(&plan, &current, author, "apply").await?);
        }
        Ok(report)
    }

    async fn materialize(
        &self,
        request: &MaterializeRequest,
        events: &(dyn Fn(MaterializeEvent) + Send + Sync),
    ) -> Result<Vec<ViewRun>, OpsError> {
        if let Some((start, end)) = request.window
            && start >= end
        {
            return Err(OpsError::new(
                Fault::Request,
                format!(
                    "the window's start {start} is not before its end {end}; the end is exclusive"
                ),
            ));
        }
        let snapshot = self.snapshot().await?;
        let project = self.project(&snapshot)?;
        let views = match request.scope {
            Scope::OnlineOnly => Self::wanted_online(project, &request.views)?,
            Scope::Incremental | Scope::FullRefresh => Self::wanted(project, &request.views)?,
        };
        let (mut runs, mut failed) = (vec![], vec![]);
        for &view in &views {
            // One view's failure is no reason to leave the others stale.
            match self.materialize_view(project, view, request, events).await {
                Ok(run) => {
                    events(MaterializeEvent::Finished(run.clone()));
                    runs.push(run);
                }
                Err(error) => failed.push((&view.id, error)),
            }
        }
        // A store that was emptied while a later view was loaded has lost the earlier ones.
        for view in views.into_iter().filter(|view| view.online) {
            let is_done = !failed.iter().any(|(id, _)| **id == view.id);
            if is_done && let Err(error) = self.still_loaded(view).await {
                runs.retain(|run| run.view != view.id);
                failed.push((&view.id, error));
            }
        }
        match failed.len() {
            0 => Ok(runs),
            count => Err(failed_views(failed, count + runs.len())),
        }
    }

    async fn get_historical(
        &self,
        request: &HistoricalRequest,
        spine: Spine,
    ) -> Result<TrainingRows, OpsError> {
        let snapshot = self.snapshot().await?;
        let project = self.project(&snapshot)?;
        let stores = Stores {
            offline: &self.offline,
            sources: &Sources::new(&self.root),
            project: &self.project,
        };
        let of = (snapshot.as_ref(), project);
        let (session, now) = (self.session()?, self.clock.now());
        training::get_historical(stores, session, of, request, spine, now).await
    }

    async fn datasets(&self) -> Result<Vec<Dataset>, OpsError> {
        datasets::of(&self.offline, &self.project)?
            .list()
            .await
            .map_err(datasets::dataset_error)
    }

    async fn dataset(&self, name: &DatasetName) -> Result<Dataset, OpsError> {
        datasets::of(&self.offline, &self.project)?
            .get(name)
            .await
            .map_err(datasets::dataset_error)
    }

    async fn reproduce(&self, name: &DatasetName) -> Result<TrainingRows, OpsError> {
        datasets::reproduce(
            self.session()?,
            &self.offline,
            &self.registry,
            &self.project,
            name,
        )
        .await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushReport, OpsError> {
        // Boxed, since what it holds while it waits is large.
        Box::pin(push::push(self, request)).await
    }

    async fn get_online(&self, request: OnlineRequest) -> Result<OnlineResponse, OpsError> {
        self.read_online(request).await
    }

    async fn get_online_encoded(&self, request: OnlineRequest) -> Result<Bytes, OpsError> {
        self.read_online_encoded(request).await
    }

    async fn list(&self, kind: ObjectKind) -> Result<Vec<Summary>, OpsError> {
        let snapshot = self.snapshot().await?;
        Ok(snapshot
            .projects
            .get(&self.project)
            .map_or(vec![], |project| catalog::list(project, kind)))
    }

    async fn show(&self, kind: ObjectKind, name: &str) -> Result<Detail, OpsError> {
        let snapshot = self.snapshot().await?;
        let project = self.project(&snapshot)?;
        let stored = match kind {
            ObjectKind::FeatureView => self.stored(catalog::view(project, name)?).await?,
            ObjectKind::Entity | ObjectKind::Source | ObjectKind::FeatureService => {
                StoredView::default()
            }
        };
        catalog::show(project, kind, name, stored)
    }

    async fn join_keys(&self, features: &FeatureRequest) -> Result<KeySchema, OpsError> {
        let snapshot = self.snapshot().await?;
        let project = self.project(&snapshot)?;
        // Full names, since how columns are named has no part in which keys there are.
        select(project, features, NameStyle::Full)
            .and_then(|selection| selection.join_keys())
            .map_err(|error| OpsError::from_error(Fault::NotFound, error))
    }

    async fn history(&self, limit: usize) -> Result<Vec<Version>, OpsError> {
        let versions = self.registry.history(limit).await.map_err(registry_error)?;
        let versions = versions.into_iter().map(|info| Version {
            version: info.version,
            created_at: info.created_at,
            author: info.author,
            reason: info.reason,
            summary: summary(&info.counts),
        });
        Ok(versions.collect())
    }

    async fn diff(&self, from: RegistryVersion, to: RegistryVersion) -> Result<Changes, OpsError> {
        let before = self.registry.at(from).await.map_err(registry_error)?;
        let after = self.registry.at(to).await.map_err(registry_error)?;
        let nothing = Project::default();
        let project = |snapshot: &Snapshot| {
            snapshot
                .projects
                .get(&self.project)
                .unwrap_or(&nothing)
                .clone()
        };
        let difference: Diff = diff(&project(&before), &project(&after));
        Ok(Changes {
            project: self.project.clone(),
            base: from,
            text: difference.to_string(),
            changes: difference.changes.iter().map(change_of).collect(),
        })
    }

    async fn plan_rollback(&self, to: RegistryVersion) -> Result<Changes, OpsError> {
        let current = self.snapshot().await?;
        let old = self.registry.at(to).await.map_err(registry_error)?;
        Ok(changes_of(&plan::rollback(&current, &old, &self.project)))
    }

    async fn rollback(
        &self,
        to: RegistryVersion,
        base: RegistryVersion,
        author: &str,
    ) -> Result<RegistryVersion, OpsError> {
        let current = self.snapshot().await?;
        agreed(base, &current)?;
        let old = self.registry.at(to).await.map_err(registry_error)?;
        let plan = plan::rollback(&current, &old, &self.project);
        if plan.is_empty() {
            return Ok(current.version);
        }
        self.write(&plan, &current, author, &format!("rollback to {to}"))
            .await
    }

    async fn runs(&self, view: Option<&ViewName>, limit: usize) -> Result<Vec<Run>, OpsError> {
        self.records(view, None, limit).await
    }

    async fn compact(&self, views: &[ViewName]) -> Result<Vec<ViewCompaction>, OpsError> {
        let snapshot = self.snapshot().await?;
        let views = Self::wanted(self.project(&snapshot)?, views)?;
        maintenance::compact(&self.offline, &self.project, &views).await
    }

    async fn vacuum(&self, request: &VacuumRequest) -> Result<Vacuumed, OpsError> {
        let snapshot = self.snapshot().await?;
        let project = self.project(&snapshot)?;
        let current: BTreeSet<_> = Self::wanted(project, &request.views)?
            .into_iter()
            .map(|view| view.id.clone())
            .collect();
        let other = project
            .views
            .values()
            .flat_map(|view| view.revisions.values());
        let other = other.map(|view| &view.id).chain(project.retired.keys());
        let other = other
            .filter(|id| request.views.is_empty() || request.views.contains(&id.name))
            .filter(|id| !current.contains(id));
        let other: BTreeSet<_> = other.cloned().collect();
        // What saved datasets need. When that cannot be found out, nothing is deleted.
        let datasets = datasets::of(&self.offline, &self.project)?;
        let pins = datasets.pins().await.map_err(datasets::dataset_error)?;
        let now = self.clock.now();
        let vacuum = maintenance::Vacuuming {
            store: &self.offline,
            project: &self.project,
            request,
            pins: &pins,
            now,
        };
        let mut done = Vacuumed::default();
        for id in &current {
            done.views.push(vacuum.view(id).await?);
        }
        for id in &other {
            done.views.extend(vacuum.other_view(id).await?);
        }
        if request.views.is_empty() {
            done.folders.extend(vacuum.datasets(&datasets).await?);
            done.folders.extend(vacuum.runs().await?);
        }
        Ok(done)
    }

    async fn verify(
        &self,
        request: &VerifyRequest,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<Vec<ViewVerification>, OpsError> {
        let snapshot = self.snapshot().await?;
        let views = Self::wanted_online(self.project(&snapshot)?, &request.views)?;
        let (session, sources) = (self.session()?, Sources::new(&self.root));
        let context = offline::MaterializeContext {
            store: &self.offline,
            project: &self.project,
            sources: &sources,
            session: &session,
        };
        let verifying = verify::Verifying {
            context: &context,
            online: self.online().await?,
            clock: self.clock.as_ref(),
            request,
            events,
        };
        let mut done = Vec::new();
        for view in views {
            done.push(verifying.view(view).await?);
        }
        Ok(done)
    }

    async fn teardown(
        &self,
        request: &TeardownRequest,
        events: &(dyn Fn(KeysSeen) + Send + Sync),
    ) -> Result<Vec<ViewTeardown>, OpsError> {
        let snapshot = self.snapshot().await?;
        let targets = teardown::targets(self.project(&snapshot)?, &request.target, request.scope)?;
        let everything = request.scope == TeardownScope::Everything;
        if everything {
            let saved = datasets::of(&self.offline, &self.project)?.list().await;
            let saved = saved.map_err(datasets::dataset_error)?;
            teardown::check_datasets(&targets, &saved)?;
        }
        let mut done = Vec::new();
        for target in targets {
            let id = &target.id;
            let files = || maintenance::files_of(&self.offline, &self.project, id, everything);
            let load = self.online().await?.load(&self.project, id).await;
            let mut torn = ViewTeardown {
                view: id.clone(),
                online: load.map_err(online::online_error)?.begun,
                online_rows: 0,
                files: files().await?.files,
                bytes: files().await?.bytes,
            };
            if !request.dry_run {
                if target.to_retire {
                    let current = self.snapshot().await?;
                    let plan = plan::retire(&current, &self.project, id);
                    self.write(&plan, &current, "teardown", &format!("teardown of {id}"))
                        .await?;
                }
                // Rows that were pushed to a view that no run has loaded are known from the table alone.
                if torn.online || torn.files > 0 {
                    torn.online_rows = self
                        .delete_online(id, request.rate, teardown::Reason::Asked, events)
                        .await?;
                }
                if everything {
                    maintenance::drop(&self.offline, &self.project, id).await?;
                }
            }
            done.push(torn);
        }
        Ok(done)
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, OpsError> {
        Box::pin(delete::delete(self, request)).await
    }

    async fn doctor(&self) -> Result<Vec<Checkup>, OpsError> {
        let mut found = vec![
            doctor::registry(&self.registry).await,
            doctor::offline(&self.offline).await,
        ];
        let online = self.online().await;
        found.push(
            doctor::online(
                online,
                (&self.online_config, &self.root),
                self.clock.as_ref(),
            )
            .await,
        );
        Ok(found)
    }
}

impl Local {
    /// Refuses the files of another project: they are not this deployment's.
    fn own_project(&self, files: &[RepoFile]) -> Result<(), OpsError> {
        match deployment(files) {
            Ok(deployment) if deployment.project != self.project => Err(OpsError::new(
                Fault::Request,
                format!(
                    "the repo is of the project `{}`, the deployment of `{}`",
                    deployment.project, self.project
                ),
            )),
            // Mistakes in the files are found, with their places, when the files are looked at.
            _ => Ok(()),
        }
    }
}

/// A project as applied.
fn applied<'a>(snapshot: &'a Snapshot, project: &ProjectName) -> Result<&'a Project, OpsError> {
    snapshot.projects.get(project).ok_or_else(|| {
        OpsError::new(
            Fault::NotFound,
            format!("nothing has been applied for the project `{project}`; `vintner apply` does"),
        )
    })
}

fn deployment(files: &[RepoFile]) -> Result<Deployment, OpsError> {
    let missing = || OpsError::new(Fault::Request, "the repo has no vintner.yaml");
    let file = files
        .iter()
        .find(|file| file.path == vintner_repo::DEPLOYMENT_FILE)
        .ok_or_else(missing)?;
    let (deployment, diagnostics) =
        vintner_repo::parse_deployment(file, &|name| std::env::var(name).ok());
    deployment.ok_or_else(|| {
        let errors = diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error());
        let rendered: Vec<String> = errors
            .map(|d| d.render(vintner_repo::Rendering::default()))
            .collect();
        OpsError::new(
            Fault::Request,
            format!(
                "the deployment is not described rightly\n{}",
                rendered.join("\n")
            ),
        )
    })
}

/// What a run does and why, without the view's name.
fn told(plan: &offline::RunPlan) -> String {
    format!("{}, since {}", plan.action, plan.reason)
}

fn agreed(base: RegistryVersion, current: &Snapshot) -> Result<(), OpsError> {
    if base == current.version {
        return Ok(());
    }
    Err(OpsError::from_error(
        Fault::Stale,
        plan::Stale {
            planned: base,
            current: current.version,
        },
    ))
}

fn changes_of(plan: &Plan) -> Changes {
    Changes {
        project: plan.project.clone(),
        base: plan.base,
        changes: plan.changes.iter().map(change_of).collect(),
        text: plan.to_string(),
    }
}

fn change_of(change: &change::Change) -> Change {
    Change {
        kind: change.object.kind,
        name: change.object.name.clone(),
        action: match change.action {
            change::Action::Create => "create",
            change::Action::Update => "update",
            change::Action::NewVersion { .. } => "new_version",
            change::Action::Backfill => "backfill",
            change::Action::Delete => "delete",
        }
        .to_owned(),
        reasons: change.reasons.clone(),
        data: change.data.clone(),
    }
}

fn failed_views(mut failed: Vec<(&vintner_core::ViewId, OpsError)>, count: usize) -> OpsError {
    // Two runs that fail in the same way say the same, whichever view failed first.
    failed.sort_by_key(|(view, _)| *view);
    // The gravest fault tells whether the same call can work later.
    let fault = failed
        .iter()
        .map(|(_, error)| error.fault)
        .max()
        .unwrap_or(Fault::Internal);
    let told = failed
        .iter()
        .map(|(view, error)| format!("{view}: {}", error.chain()))
        .collect::<Vec<_>>();
    match (told.as_slice(), count) {
        ([one], 1) => OpsError::new(fault, one.clone()),
        _ => OpsError::new(
            fault,
            format!(
                "{} of {count} views failed\n{}",
                told.len(),
                told.join("\n")
            ),
        ),
    }
}

fn registry_error(error: RegistryError) -> OpsError {
    let fault = match error {
        RegistryError::Unknown { .. } => Fault::NotFound,
        RegistryError::Store { .. }
        | RegistryError::Decode { .. }
        | RegistryError::Misplaced { .. } => Fault::Store,
    };
    OpsError::from_error(fault, error)
}

fn write_error(error: WriteError) -> OpsError {
    let fault = match error {
        WriteError::Stale(_) => Fault::Stale,
        WriteError::Gap { .. } | WriteError::Store { .. } => Fault::Store,
        WriteError::Empty => Fault::Internal,
    };
    OpsError::from_error(fault, error)
}

/// What a version holds, in words.
fn summary(counts: &Counts) -> String {
    let count = |number: usize, noun: &str, nouns: &str| match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {nouns}"),
    };
    [
        count(counts.entities, "entity", "entities"),
        count(counts.sources, "source", "sources"),
        count(counts.views, "feature view", "feature views"),
        count(counts.services, "feature service", "feature services"),
    ]
    .join(", ")
}

fn materialize_error(error: offline::MaterializeError) -> OpsError {
    let fault = match error {
        offline::MaterializeError::Plan(_) => Fault::Request,
        offline::MaterializeError::Source { .. } | offline::MaterializeError::Query { .. } => {
            Fault::Data
        }
        offline::MaterializeError::Compute { .. } | offline::MaterializeError::Delta { .. } => {
            Fault::Store
        }
    };
    OpsError::from_error(fault, error)
}
