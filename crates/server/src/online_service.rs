//! `OnlineService`: feature vectors by entity key, within a limit on entities.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vintner_ops::{Operations, api::OnlineRequest};
use vintner_proto::v1::{self, online_service_server::OnlineService};

use crate::{
    answer::{read, respond},
    convert::{Travels, row_count},
    status,
};

/// Online features as gRPC gives them.
pub(crate) struct OnlineHandlers {
    pub(crate) ops: Arc<dyn Operations>,
    pub(crate) max_batch: usize,
}

#[tonic::async_trait]
impl OnlineService for OnlineHandlers {
    async fn get_online_features(
        &self,
        request: Request<v1::GetOnlineFeaturesRequest>,
    ) -> Result<Response<v1::GetOnlineFeaturesResponse>, Status> {
        let request = request.into_inner();
        // Before the values are unpacked: they take far more room than their message.
        let entities = request.entities.iter();
        let entities = entities
            .filter_map(|column| column.values.as_ref().map(row_count))
            .max()
            .unwrap_or(0);
        if entities > self.max_batch {
            return Err(status::too_many_entities(entities, self.max_batch));
        }
        let request = read(OnlineRequest::from_message(request))?;
        respond(self.ops.get_online(request).await)
    }
}
