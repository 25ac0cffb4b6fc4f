//! The one task that writes a view's pushes: one commit for all that wait, then the online store, then the answers.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::mpsc;
use vintner_core::{
    Clock, ProjectName, ViewId,
    waiting::{On, waiting},
};
use vintner_offline::{
    delta::{DeltaError, OfflineStore},
    materialize::MaterializeContext,
    push::{Appended, Push, PushTable},
    sources::Sources,
    stream::SessionContext,
};
use vintner_online::{Expiry, Lookup, OnlineStore};
use vintner_registry::model::ViewRevision;

use super::{
    Waiting,
    standing::{Counts, PushedRows, entities, standing},
};
use crate::{
    api::{PushOutcome, PushReport},
    error::{Fault, OpsError},
    local::{
        forget::{OnlineRows, those_of},
        materialize::{From, load_online},
        online::online_error,
    },
    token::WriteToken,
};

/// How many rows share a commit at the most.
const GROUP_ROWS: usize = 200_000;

/// What a writer works with.
pub(super) struct Deployment {
    pub(super) root: PathBuf,
    pub(super) project: ProjectName,
    pub(super) offline: OfflineStore,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) session: SessionContext,
}

/// Writes the pushes of one view version.
pub(super) struct Writer {
    deployment: Deployment,
    id: ViewId,
    table: PushTable,
    /// None when the view is not in the online store.
    online: Option<Arc<dyn OnlineStore>>,
    /// The version of the table up to which all is known to be online, and in which life of the store.
    through: Option<(u64, String)>,
}

/// What became of a group.
struct Done {
    appended: Appended,
    counts: Vec<Counts>,
    life: Option<String>,
}

impl Writer {
    pub(super) fn of(
        deployment: Deployment,
        online: Option<Arc<dyn OnlineStore>>,
        id: &ViewId,
    ) -> Result<Self, OpsError> {
        let table = PushTable::of(&deployment.offline, &deployment.project, id);
        let table = table.map_err(|error| OpsError::from_error(Fault::Store, error))?;
        Ok(Self {
            deployment,
            id: id.clone(),
            table,
            online,
            through: None,
        })
    }

    /// Writes what comes, until nobody is left to push.
    pub(super) async fn run(mut self, mut incoming: mpsc::UnboundedReceiver<Waiting>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(waiting) => waiting,
                None => match incoming.recv().await {
                    Some(waiting) => waiting,
                    None => return,
                },
            };
            let mut rows = first.rows.num_rows();
            let view = Arc::clone(&first.view);
            let mut group = vec![first];
            while let Ok(waiting) = incoming.try_recv() {
                rows += waiting.rows.num_rows();
                // Rows of other columns are another commit, and so are too many.
                if rows > GROUP_ROWS || waiting.view.features != view.features {
                    next = Some(waiting);
                    break;
                }
                group.push(waiting);
            }
            // Whoever has gone would not know what became of it.
            group.retain(|waiting| !waiting.answer.is_closed());
            if !group.is_empty() {
                self.write(group).await;
            }
        }
    }

    async fn write(&mut self, group: Vec<Waiting>) {
        let done = self.write_all(&group).await;
        match done {
            Ok(done) => {
                let written = done.appended.written.iter().zip(&done.counts);
                for (waiting, (is_written, counts)) in group.into_iter().zip(written) {
                    let token = WriteToken::new(
                        self.deployment.project.clone(),
                        self.id.clone(),
                        done.appended.version,
                        done.life.as_deref(),
                    );
                    let report = PushReport {
                        view: self.id.clone(),
                        rows: waiting.rows.num_rows() as u64,
                        outcome: match is_written {
                            true => PushOutcome::Written,
                            false => PushOutcome::AlreadyThere,
                        },
                        online: counts.online,
                        late: counts.late,
                        token,
                        micros: 0,
                    };
                    // Nobody may be there to hear it.
                    let _ = waiting.answer.send(Ok(report));
                }
            }
            Err(error) => {
                let message = error.chain();
                for waiting in group {
                    let error = OpsError::new(error.fault, message.clone());
                    let _ = waiting.answer.send(Err(error));
                }
            }
        }
    }

    async fn write_all(&mut self, group: &[Waiting]) -> Result<Done, OpsError> {
        let Some(Waiting { view, .. }) = group.last() else {
            return Err(OpsError::new(Fault::Internal, "there is nothing to write"));
        };
        let pushes: Vec<_> = group
            .iter()
            .map(|waiting| Push {
                rows: &waiting.rows,
                producer: waiting.producer.as_ref(),
            })
            .collect();
        let table = On::Table(self.id.clone());
        let appended = waiting(&table, self.table.append(view, &pushes)).await;
        let appended = appended.map_err(table_error)?;
        let version = appended.version;
        match self.bring_online(view, group, &appended).await {
            Ok((counts, life)) => Ok(Done {
                appended,
                counts,
                life,
            }),
            Err(error) => Err(OpsError::new(
                error.fault,
                format!(
                    "the rows are in version {version} of the table of {}, but not all of them in the online store: {}; \
                     push them again with the same producer and sequence, or run `vintner materialize {}`",
                    self.id,
                    error.chain(),
                    self.id.name
                ),
            )),
        }
    }

    /// Puts the rows into the online store, and gives the life of it in which they are there.
    async fn bring_online(
        &mut self,
        view: &ViewRevision,
        group: &[Waiting],
        appended: &Appended,
    ) -> Result<(Vec<Counts>, Option<String>), OpsError> {
        let mut counts = vec![Counts::default(); group.len()];
        let Some(store) = self.online.clone().filter(|_| view.online) else {
            return Ok((counts, None));
        };
        let project = &self.deployment.project;
        // Before anything is written: what is written in a later life is not said to be of this one.
        let life = store.load(project, &self.id).await;
        let life = life.map_err(online_error)?.life;
        let before = self.through.take();
        let is_through = |version: u64| before.as_ref() == Some(&(version, life.clone()));
        let mut is_all_there = appended.after.is_some_and(is_through);
        let has_old = appended.written.contains(&false);
        if has_old && !is_through(appended.version) {
            // What was written before may have been written by one who has died, with other created times.
            self.load_online(&store, view).await?;
            is_all_there = true;
        }
        let new = group.iter().zip(&appended.written).enumerate();
        let new = new.filter(|(_, (_, is_new))| **is_new);
        let (numbers, rows): (Vec<_>, Vec<_>) = new
            .map(|(number, (waiting, _))| {
                let rows = PushedRows {
                    rows: &waiting.rows,
                    online: &waiting.online,
                };
                (number, rows)
            })
            .unzip();
        for (number, found) in numbers
            .into_iter()
            .zip(self.put(&store, view, &rows).await?)
        {
            counts[number] = found;
        }
        self.forget_deleted(&store, view, group, appended.version, has_old)
            .await?;
        if is_all_there || is_through(appended.version) {
            self.through = Some((appended.version, life.clone()));
        }
        Ok((counts, Some(life)))
    }

    /// Puts rows where no later one is.
    async fn put(
        &self,
        store: &Arc<dyn OnlineStore>,
        view: &ViewRevision,
        pushes: &[PushedRows<'_>],
    ) -> Result<Vec<Counts>, OpsError> {
        let keys = entities(pushes);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let project = &self.deployment.project;
        let lookup = Lookup {
            view: &self.id,
            keys: &keys,
            cache: None,
        };
        let found = store.read(project, &[lookup]).await.map_err(online_error)?;
        let stored: HashMap<_, _> = keys
            .into_iter()
            .zip(found.into_iter().flatten())
            .filter_map(|(key, row)| Some((key, row?)))
            .collect();
        let standing = standing(view, pushes, stored)
            .map_err(|error| OpsError::from_error(Fault::Internal, error))?;
        let now = self.deployment.clock.now();
        let expiry = view.ttl.map(|ttl| Expiry { ttl, now });
        let written = store.write(project, &self.id, expiry, &standing.rows).await;
        written.map_err(online_error)?;
        Ok(standing.counts)
    }

    /// Takes back rows of the group that were deleted after they came into the table, which was in `version`. What had been
    /// written `before` came there earlier, nobody knows when, and its writer may have put it online later.
    async fn forget_deleted(
        &self,
        store: &Arc<dyn OnlineStore>,
        view: &ViewRevision,
        group: &[Waiting],
        version: u64,
        before: bool,
    ) -> Result<(), OpsError> {
        let Deployment {
            project, offline, ..
        } = &self.deployment;
        let deleted = match before {
            true => {
                let deletions = offline.deletions(project, &self.id).await;
                deletions.map_err(table_error)?.after(None)
            }
            false => {
                let watch = offline.deletions_after(project, &self.id, version);
                let mut watch = watch.map_err(table_error)?;
                watch.look().await.map_err(table_error)?
            }
        };
        if deleted.is_empty() {
            return Ok(());
        }
        let keys = group.iter().flat_map(|waiting| &waiting.online);
        let keys = those_of(keys.map(|row| row.key.clone()), &deleted);
        let keys: HashSet<_> = keys.collect();
        let sources = Sources::new(&self.deployment.root);
        let rows = OnlineRows {
            context: &self.context(&sources),
            store,
            view,
            now: self.deployment.clock.now(),
        };
        rows.forget(keys.into_iter().collect(), None)
            .await
            .map(|_| ())
    }

    fn context<'a>(&'a self, sources: &'a Sources) -> MaterializeContext<'a> {
        MaterializeContext {
            store: &self.deployment.offline,
            project: &self.deployment.project,
            sources,
            session: &self.deployment.session,
        }
    }

    /// Brings the online store up to the table, as a run does.
    async fn load_online(
        &self,
        store: &Arc<dyn OnlineStore>,
        view: &ViewRevision,
    ) -> Result<(), OpsError> {
        let sources = Sources::new(&self.deployment.root);
        let context = self.context(&sources);
        let now = self.deployment.clock.now();
        let from = From::LastLoad;
        load_online(&context, store, view, from, now, &|_| {}).await?;
        Ok(())
    }
}

fn table_error(error: DeltaError) -> OpsError {
    OpsError::from_error(Fault::Store, error)
}
