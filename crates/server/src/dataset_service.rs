//! `DatasetService`: how saved training datasets were made.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vintner_core::DatasetName;
use vintner_ops::Operations;
use vintner_proto::v1::{self, dataset_service_server::DatasetService};

use crate::{
    answer::{read, write, write_each},
    convert::parse,
};

/// Saved datasets as gRPC gives them.
pub(crate) struct DatasetHandlers {
    pub(crate) ops: Arc<dyn Operations>,
}

#[tonic::async_trait]
impl DatasetService for DatasetHandlers {
    async fn list_datasets(
        &self,
        _: Request<v1::ListDatasetsRequest>,
    ) -> Result<Response<v1::ListDatasetsResponse>, Status> {
        let datasets = write_each(self.ops.datasets().await)?;
        Ok(Response::new(v1::ListDatasetsResponse { datasets }))
    }

    async fn get_dataset(
        &self,
        request: Request<v1::GetDatasetRequest>,
    ) -> Result<Response<v1::GetDatasetResponse>, Status> {
        let name: DatasetName = read(parse("name", &request.into_inner().name))?;
        let dataset = Some(write(self.ops.dataset(&name).await)?);
        Ok(Response::new(v1::GetDatasetResponse { dataset }))
    }
}
