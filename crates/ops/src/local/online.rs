//! `get-online`: feature vectors as of now.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::time::sleep_until;
use tracing::Instrument as _;
use vintner_core::{ProjectName, ViewId};
use vintner_online::{Found, OnlineError, OnlineStore, ReadPlan, StatusCounts, find, step};

use super::{
    Local, after,
    keys::Entities,
    serving::{AGAIN, Compiled, REFRESH, Served},
};
use crate::{
    api::{OnlineRequest, OnlineResponse, OnlineView},
    error::{Fault, OpsError},
};

/// What a request was answered with.
struct Answer<T> {
    features: T,
    entities: Entities,
    served: Arc<Served>,
    compiled: Arc<Compiled>,
}

impl Local {
    /// Looks up the features of every entity of the request, and counts it.
    pub(super) async fn read_online(
        &self,
        request: OnlineRequest,
    ) -> Result<OnlineResponse, OpsError> {
        let began = Instant::now();
        let answer = self
            .answer_online(request, |project, plan, found| {
                let features = found.columns(project, plan)?;
                let counts = features.status_counts();
                Ok((features, counts))
            })
            .await;
        self.meters.online_request(began, &answer);
        let Answer {
            features,
            entities,
            served,
            compiled,
        } = answer?;
        let views = compiled.plan.views().zip(features.event_timestamps);
        Ok(OnlineResponse {
            features: features.columns,
            views: views
                .map(|(view, event_timestamps)| OnlineView {
                    view: view.id.clone(),
                    event_timestamps,
                })
                .collect(),
            entities: compiled.entities.named(entities),
            registry_version: served.version(),
        })
    }

    /// As [`Self::read_online`], in the bytes of a message.
    pub(super) async fn read_online_encoded(
        &self,
        request: OnlineRequest,
    ) -> Result<Bytes, OpsError> {
        let began = Instant::now();
        let answer = self
            .answer_online(request, |project, plan, found| found.encode(project, plan))
            .await;
        self.meters.online_request(began, &answer);
        let Answer {
            features: mut encoded,
            entities,
            served,
            compiled,
        } = answer?;
        for (name, column) in compiled.entities.columns(&entities) {
            encoded
                .entities(name, column)
                .map_err(|error| OpsError::from_error(Fault::Internal, error))?;
        }
        Ok(encoded.finish(served.version()).into())
    }

    /// What `finish` makes of the rows, which says what the statuses of each view are.
    async fn answer_online<T>(
        &self,
        request: OnlineRequest,
        finish: impl Fn(&ProjectName, &ReadPlan, &Found) -> Result<(T, Vec<StatusCounts>), OnlineError>,
    ) -> Result<Answer<T>, OpsError> {
        let store = self.online().await?.as_ref();
        let plan = self.online_plan(store, &request).instrument(step!("plan"));
        let (mut served, mut compiled) = plan.await?;
        let fresh = !request.after.tokens.is_empty();
        if fresh {
            let views: Vec<_> = compiled.plan.views().map(|view| &view.id).collect();
            Box::pin(after::online(store, &self.project, &views, &request.after)).await?;
        }
        let entities = compiled.entities.read(request.entities)?;
        self.meters.entities.observe(entities.count() as u64);
        let now = self.clock.now();
        let read = async |compiled: &Compiled| {
            let keys = {
                let _step = step!("entity keys").entered();
                compiled.entities.keys(&compiled.plan, &entities)?
            };
            let found = find(store, &self.project, &compiled.plan, keys, now, fresh).await?;
            let _step = step!("assemble").entered();
            finish(&self.project, &compiled.plan, &found)
        };
        let mut answer = read(&compiled).await;
        if let Err(OnlineError::UnknownLayout { .. }) = answer {
            // The row is of a newer version of the registry.
            let newer = Box::pin(self.refreshed(store)).await?;
            let again = newer.plan(&request.features, request.names)?;
            if newer.version() != served.version() && again.entities.reads_as(&compiled.entities) {
                (served, compiled) = (newer, again);
                answer = Box::pin(read(&compiled)).await;
            }
        }
        match answer {
            Ok((features, counts)) => {
                compiled.meters.answered(&counts);
                Ok(Answer {
                    features,
                    entities,
                    served,
                    compiled,
                })
            }
            Err(error) => {
                let error = online_error(error);
                compiled.meters.failed(&error);
                Err(error)
            }
        }
    }

    /// How the request is answered. What is not known is looked for in the newest version of the registry.
    async fn online_plan(
        &self,
        store: &dyn OnlineStore,
        request: &OnlineRequest,
    ) -> Result<(Arc<Served>, Arc<Compiled>), OpsError> {
        let served = self
            .serving
            .get(&self.project, store, || self.snapshot())
            .await?;
        match served.plan(&request.features, request.names) {
            Ok(compiled) => Ok((served, compiled)),
            Err(error) if error.fault == Fault::NotFound => {
                let served = Box::pin(self.refreshed(store)).await?;
                let compiled = served.plan(&request.features, request.names)?;
                Ok((served, compiled))
            }
            Err(error) => Err(error),
        }
    }

    /// What is served by the newest version of the registry, for a request that names what is not known.
    async fn refreshed(&self, store: &dyn OnlineStore) -> Result<Arc<Served>, OpsError> {
        self.serving
            .refresh(&self.project, store, AGAIN, || self.snapshot())
            .await
    }

    /// Keeps what online reads are answered with up to date, until it is dropped. A service runs it in the background,
    /// so that no request waits for the registry.
    pub async fn keep_serving_current(&self) {
        loop {
            if let Ok(store) = self.online().await {
                // An error is told by the request that meets it.
                let _ = self
                    .serving
                    .refresh(&self.project, store.as_ref(), REFRESH / 2, || {
                        self.snapshot()
                    })
                    .await;
            }
            sleep_until(tokio::time::Instant::now() + REFRESH).await;
        }
    }
}

/// A request that is about the online rows of a view that has none.
pub(super) fn not_online(view: &ViewId) -> OpsError {
    OpsError::new(
        Fault::Request,
        format!("the feature view `{view}` is not in the online store: it says `online: false`"),
    )
}

/// The online store's errors, by whose fault they are. What it refuses has been checked before, so nothing that a
/// request can hold is among them.
pub(super) fn online_error(error: OnlineError) -> OpsError {
    let fault = match error {
        OnlineError::Full { .. } => Fault::Full,
        _ => Fault::Store,
    };
    OpsError::from_error(fault, error)
}
