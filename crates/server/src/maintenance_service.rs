//! `MaintenanceService`: the care for the tables of the offline store.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vintner_ops::{Operations, api::VacuumRequest};
use vintner_proto::v1::{self, maintenance_service_server::MaintenanceService};

use crate::{
    answer::{read, respond, write_each},
    convert::{Travels, parse_each},
};

/// Maintenance as gRPC gives it.
pub(crate) struct MaintenanceHandlers {
    pub(crate) ops: Arc<dyn Operations>,
}

#[tonic::async_trait]
impl MaintenanceService for MaintenanceHandlers {
    async fn compact(
        &self,
        request: Request<v1::CompactRequest>,
    ) -> Result<Response<v1::CompactResponse>, Status> {
        let views = read(parse_each("views", &request.into_inner().views))?;
        let views = write_each(self.ops.compact(&views).await)?;
        Ok(Response::new(v1::CompactResponse { views }))
    }

    async fn vacuum(
        &self,
        request: Request<v1::VacuumRequest>,
    ) -> Result<Response<v1::VacuumResponse>, Status> {
        let request = read(VacuumRequest::from_message(request.into_inner()))?;
        respond(self.ops.vacuum(&request).await)
    }
}
