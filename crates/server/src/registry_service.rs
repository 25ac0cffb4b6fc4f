//! `RegistryService`: each call is one method of [`Operations`].

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vintner_core::RegistryVersion;
use vintner_ops::{Operations, api::ObjectKind};
use vintner_proto::v1::{self, registry_service_server::RegistryService};

use crate::{
    answer::{limit, read, respond, write, write_each},
    convert::{Travels, from_each, required},
    status,
};

/// The registry as gRPC gives it.
pub(crate) struct RegistryHandlers {
    pub(crate) ops: Arc<dyn Operations>,
}

#[tonic::async_trait]
impl RegistryService for RegistryHandlers {
    async fn check(
        &self,
        request: Request<v1::CheckRequest>,
    ) -> Result<Response<v1::CheckResponse>, Status> {
        let files = read(from_each("files", request.into_inner().files))?;
        respond(self.ops.check(&files).await)
    }

    async fn plan(
        &self,
        request: Request<v1::PlanRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let files = read(from_each("files", request.into_inner().files))?;
        respond(self.ops.plan(&files).await)
    }

    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let request = request.into_inner();
        let files = read(from_each("files", request.files))?;
        let base = RegistryVersion(request.base_version);
        respond(self.ops.apply(&files, base, &request.author).await)
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let kind = read(ObjectKind::from_message(request.into_inner().kind))?;
        let objects = write_each(self.ops.list(kind).await)?;
        Ok(Response::new(v1::ListResponse { objects }))
    }

    async fn show(
        &self,
        request: Request<v1::ShowRequest>,
    ) -> Result<Response<v1::ShowResponse>, Status> {
        let request = request.into_inner();
        let kind = read(ObjectKind::from_message(request.kind))?;
        respond(self.ops.show(kind, &request.name).await)
    }

    async fn join_keys(
        &self,
        request: Request<v1::JoinKeysRequest>,
    ) -> Result<Response<v1::JoinKeysResponse>, Status> {
        let features = read(required("features", request.into_inner().features))?;
        respond(self.ops.join_keys(&features).await)
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        let limit = limit(request.into_inner().limit);
        let versions = write_each(self.ops.history(limit).await)?;
        Ok(Response::new(v1::HistoryResponse { versions }))
    }

    async fn diff(
        &self,
        request: Request<v1::DiffRequest>,
    ) -> Result<Response<v1::DiffResponse>, Status> {
        let request = request.into_inner();
        let from = RegistryVersion(request.from_version);
        let to = RegistryVersion(request.to_version);
        let changes = Some(write(self.ops.diff(from, to).await)?);
        Ok(Response::new(v1::DiffResponse { changes }))
    }

    async fn plan_rollback(
        &self,
        request: Request<v1::PlanRollbackRequest>,
    ) -> Result<Response<v1::PlanRollbackResponse>, Status> {
        let to = RegistryVersion(request.into_inner().to_version);
        let changes = Some(write(self.ops.plan_rollback(to).await)?);
        Ok(Response::new(v1::PlanRollbackResponse { changes }))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        let request = request.into_inner();
        let to = RegistryVersion(request.to_version);
        let base = RegistryVersion(request.base_version);
        let version = self.ops.rollback(to, base, &request.author).await;
        let version = version.map_err(|error| status::from_error(&error))?.0;
        Ok(Response::new(v1::RollbackResponse { version }))
    }
}
