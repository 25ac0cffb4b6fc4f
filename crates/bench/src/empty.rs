//! An empty handler: `GetOnlineFeatures` with an answer of the right size, made before it is asked for. It can read the
//! rows from Redis and leave them as they are, which is the floor under a service on Redis.

use std::{io::Write as _, net::SocketAddr};

use tokio::{net::TcpListener, sync::RwLock};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};
use vintner_proto::v1::{
    self,
    online_service_server::{OnlineService, OnlineServiceServer},
};

use crate::{Error, side::Rows};

struct Empty {
    features: usize,
    /// Where each entity's row is read before the answer is given, if it is.
    rows: Option<Rows>,
    /// The answers that have been made, by the number of entities.
    answers: RwLock<Vec<(usize, v1::GetOnlineFeaturesResponse)>>,
}

pub(crate) async fn serve(
    listen: SocketAddr,
    features: usize,
    redis: Option<String>,
) -> Result<(), Error> {
    let rows = match redis {
        Some(url) => Some(Rows::connect(&url, "bench", "wide@1").await?),
        None => None,
    };
    let listener = TcpListener::bind(listen).await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    let empty = Empty {
        features,
        rows,
        answers: RwLock::default(),
    };
    tonic::transport::Server::builder()
        .add_service(OnlineServiceServer::new(empty))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

#[tonic::async_trait]
impl OnlineService for Empty {
    type StreamOnlineFeaturesStream =
        tokio_stream::Empty<Result<v1::StreamOnlineFeaturesResponse, Status>>;

    async fn stream_online_features(
        &self,
        _: Request<tonic::Streaming<v1::StreamOnlineFeaturesRequest>>,
    ) -> Result<Response<Self::StreamOnlineFeaturesStream>, Status> {
        Err(Status::unimplemented("only single requests are measured"))
    }

    async fn get_online_features(
        &self,
        request: Request<v1::GetOnlineFeaturesRequest>,
    ) -> Result<Response<v1::GetOnlineFeaturesResponse>, Status> {
        let request = request.into_inner();
        let column = request.entities.first().and_then(|c| c.values.as_ref());
        let entities = match column.and_then(|values| values.column.as_ref()) {
            Some(v1::values::Column::Int64s(ids)) => ids.values.len(),
            _ => return Err(Status::invalid_argument("the entities are not int64")),
        };
        if let (Some(rows), Some(v1::values::Column::Int64s(ids))) =
            (&self.rows, column.and_then(|values| values.column.as_ref()))
        {
            let read = rows.clone().read(&ids.values).await;
            read.map_err(|error| Status::unavailable(error.to_string()))?;
        }
        let made = {
            let answers = self.answers.read().await;
            let found = answers.iter().find(|(n, _)| *n == entities);
            found.map(|(_, answer)| answer.clone())
        };
        if let Some(answer) = made {
            return Ok(Response::new(answer));
        }
        let answer = answer(self.features, entities, request.entities);
        self.answers.write().await.push((entities, answer.clone()));
        Ok(Response::new(answer))
    }
}

fn answer(
    features: usize,
    rows: usize,
    entities: Vec<v1::EntityColumn>,
) -> v1::GetOnlineFeaturesResponse {
    let column = |at: usize| v1::FeatureColumn {
        name: format!("f{at}"),
        values: Some(v1::Values {
            column: Some(v1::values::Column::Float64s(v1::Float64s {
                values: (0..rows).map(|row| row as f64 + 0.5).collect(),
            })),
            nulls: vec![],
        }),
        statuses: vec![v1::FeatureStatus::Present.into(); rows],
        event_timestamps: 0,
    };
    v1::GetOnlineFeaturesResponse {
        entities,
        features: (0..features).map(column).collect(),
        event_timestamps: vec![v1::EventTimestamps {
            micros: vec![1_700_000_000_000_000; rows],
            none: vec![],
            view: "wide@1".to_owned(),
        }],
        registry_version: 1,
    }
}
