//! `get-online`: feature vectors as of now.

use std::{sync::Arc, time::Instant};

use tokio::time::sleep_until;
use tracing::Instrument as _;
use vintner_core::{ProjectName, Timestamp, ViewId};
use vintner_online::{OnlineError, OnlineFeatures, OnlineStore, get_features, step};

use super::{
    Local, after,
    keys::Entities,
    serving::{AGAIN, Compiled, REFRESH, Served},
};
use crate::{
    api::{OnlineRequest, OnlineResponse, OnlineView},
    error::{Fault, OpsError},
};

impl Local {
    /// Looks up the features of every entity of the request, and counts it.
    pub(super) async fn read_online(
        &self,
        request: OnlineRequest,
    ) -> Result<OnlineResponse, OpsError> {
        let began = Instant::now();
        let answer = self.answer_online(request).await;
        self.meters.online_request(began, &answer);
        answer
    }

    async fn answer_online(&self, request: OnlineRequest) -> Result<OnlineResponse, OpsError> {
        let store = self.online().await?.as_ref();
        let plan = self.online_plan(store, &request).instrument(step!("plan"));
        let (mut served, mut compiled) = plan.await?;
        let fresh = !request.after.tokens.is_empty();
        if fresh {
            let views: Vec<_> = compiled.plan.views().map(|view| &view.id).collect();
            after::online(store, &self.project, &views, &request.after).await?;
        }
        let entities = compiled.entities.read(request.entities)?;
        self.meters.entities.observe(entities.count() as u64);
        let now = self.clock.now();
        let mut read = read(store, &self.project, &compiled, &entities, now, fresh).await;
        if let Err(OnlineError::UnknownLayout { .. }) = read {
            // The row is of a newer version of the registry.
            let newer = self.refreshed(store).await?;
            let again = newer.plan(&request.features, request.names)?;
            if newer.version() != served.version() && again.entities.reads_as(&compiled.entities) {
                (served, compiled) = (newer, again);
                read = self::read(store, &self.project, &compiled, &entities, now, fresh).await;
            }
        }
        let read = read.map_err(online_error);
        compiled.meters.count(&read);
        let features = read?;
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
                let served = self.refreshed(store).await?;
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

async fn read(
    store: &dyn OnlineStore,
    project: &ProjectName,
    compiled: &Compiled,
    entities: &Entities,
    now: Timestamp,
    fresh: bool,
) -> Result<OnlineFeatures, OnlineError> {
    let keys = {
        let _step = step!("entity keys").entered();
        compiled.entities.keys(&compiled.plan, entities)?
    };
    get_features(store, project, &compiled.plan, keys, now, fresh).await
}

/// The online store's errors, by whose fault they are. What it refuses has been checked before, so nothing that a
/// request can hold is among them.
pub(super) fn online_error(error: OnlineError) -> OpsError {
    OpsError::from_error(Fault::Store, error)
}
