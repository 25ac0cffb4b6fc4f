//! `get-online`: feature vectors as of now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use vintner_core::{ProjectName, RegistryVersion, Timestamp};
use vintner_online::{OnlineError, OnlineStore, ReadPlan, get_features, view_keys};
use vintner_registry::{
    model::{Project, Snapshot},
    selection::{FeatureRequest, NameStyle, Selection, select},
};

use super::keys::Entities;
use crate::{
    api::{OnlineColumn, OnlineRequest, OnlineResponse},
    error::{Fault, OpsError},
};

/// A request's features, resolved once per registry version.
#[derive(Debug)]
struct Compiled {
    selection: Selection,
    plan: ReadPlan,
}

/// What has been resolved for the registry version last seen. Emptied when the version moves, and when it is full.
#[derive(Debug, Default)]
pub(super) struct ReadPlans {
    of_version: Mutex<(RegistryVersion, HashMap<PlanKey, Arc<Compiled>>)>,
}

type PlanKey = (FeatureRequest, NameStyle);

/// Requests that name features one by one can be of any number; this many are remembered.
const MOST_PLANS: usize = 1_024;

impl ReadPlans {
    fn get(
        &self,
        snapshot: &Snapshot,
        project: &Project,
        request: &OnlineRequest,
    ) -> Result<Arc<Compiled>, OpsError> {
        let key = (request.features.clone(), request.names);
        if let Ok(plans) = self.of_version.lock()
            && plans.0 == snapshot.version
            && let Some(compiled) = plans.1.get(&key)
        {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Arc::new(compile(project, request)?);
        if let Ok(mut plans) = self.of_version.lock() {
            if plans.0 != snapshot.version || plans.1.len() >= MOST_PLANS {
                *plans = (snapshot.version, HashMap::new());
            }
            plans.1.insert(key, Arc::clone(&compiled));
        }
        Ok(compiled)
    }
}

fn compile(project: &Project, request: &OnlineRequest) -> Result<Compiled, OpsError> {
    let selection = select(project, &request.features, request.names)
        .map_err(|error| OpsError::from_error(Fault::NotFound, error))?;
    if let Some(view) = selection.views.iter().find(|view| !view.online) {
        return Err(OpsError::new(
            Fault::Request,
            format!(
                "the feature view `{}` is not in the online store: it says `online: false`",
                view.id
            ),
        ));
    }
    let plan = ReadPlan::new(&selection);
    Ok(Compiled { selection, plan })
}

/// Looks up the features of every entity of the request.
pub(super) async fn get_online(
    store: &dyn OnlineStore,
    snapshot: &Snapshot,
    project: (&ProjectName, &Project),
    plans: &ReadPlans,
    request: &OnlineRequest,
    now: Timestamp,
) -> Result<OnlineResponse, OpsError> {
    let compiled = plans.get(snapshot, project.1, request)?;
    let entities = Entities::read(&compiled.selection, &request.entities)?;
    let batch = entities.batch()?;
    let keys = compiled.plan.views().map(|view| view_keys(view, &batch));
    let keys = keys.collect::<Result<Vec<_>, _>>().map_err(online_error)?;
    let features = get_features(store, project.0, &compiled.plan, &keys, now)
        .await
        .map_err(online_error)?;
    Ok(OnlineResponse {
        entities: entities.into_columns(),
        features: features
            .columns
            .into_iter()
            .map(|column| OnlineColumn {
                name: column.name,
                feature_type: column.feature_type,
                values: column.values,
                statuses: column.statuses,
                event_timestamps: column.event_timestamps,
            })
            .collect(),
        registry_version: snapshot.version,
    })
}

/// The online store's errors, by whose fault they are. What it refuses has been checked before, so nothing that a
/// request can hold is among them.
pub(super) fn online_error(error: OnlineError) -> OpsError {
    OpsError::from_error(Fault::Store, error)
}
