//! The sides: each asks for the same entities over a connection of its own.

use std::hash::{BuildHasher, RandomState};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use vintner_core::{EntityKey, JoinKey, KeySchema, KeyType, KeyValue};
use vintner_proto::v1::{
    self, online_service_client::OnlineServiceClient, stream_online_features_response::Answer,
};

use crate::Error;

/// One connection that can ask, and checks that the answer is one.
pub(crate) trait Side: Send + 'static {
    fn ask(&mut self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) entities: u64,
    pub(crate) batch: usize,
}

/// Numbers of entities, evenly spread, other ones for every connection.
struct Ids {
    work: Work,
    state: u64,
}

impl Ids {
    fn new(work: Work) -> Self {
        Self {
            work,
            state: RandomState::new().hash_one(0) | 1,
        }
    }

    fn next(&mut self) -> impl Iterator<Item = i64> {
        (0..self.work.batch).map(|_| {
            // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            i64::try_from(self.state % self.work.entities).unwrap_or(0)
        })
    }
}

/// Asks for a feature service's features of entities.
struct Questions {
    service: String,
    ids: Ids,
}

impl Questions {
    fn new(service: &str, work: Work) -> Self {
        Self {
            service: service.to_owned(),
            ids: Ids::new(work),
        }
    }

    fn next(&mut self) -> v1::GetOnlineFeaturesRequest {
        let values = self.ids.next().collect();
        v1::GetOnlineFeaturesRequest {
            features: Some(v1::FeatureSelection {
                selection: Some(v1::feature_selection::Selection::Service(
                    self.service.clone(),
                )),
            }),
            entities: vec![v1::EntityColumn {
                name: "id".to_owned(),
                values: Some(v1::Values {
                    column: Some(v1::values::Column::Int64s(v1::Int64s { values })),
                    nulls: vec![],
                }),
            }],
            ..Default::default()
        }
    }

    /// Whether an answer has all values.
    fn check(&self, answer: &v1::GetOnlineFeaturesResponse) -> Result<(), Error> {
        let (entities, present) = (self.ids.work.batch, v1::FeatureStatus::Present as i32);
        let good = answer
            .features
            .iter()
            .all(|f| f.statuses.len() == entities && f.statuses.iter().all(|s| *s == present));
        match good && !answer.features.is_empty() {
            true => Ok(()),
            false => Err("an answer has not every value; are all entities in the store?".into()),
        }
    }
}

async fn client(url: &str) -> Result<OnlineServiceClient<Channel>, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    let channel = endpoint.tcp_nodelay(true).connect().await?;
    Ok(OnlineServiceClient::new(channel))
}

/// `GetOnlineFeatures`: a call for each request.
pub(crate) struct Online {
    client: OnlineServiceClient<Channel>,
    questions: Questions,
}

/// `StreamOnlineFeatures`: one call for all requests of a connection.
pub(crate) struct OnlineStream {
    asked: mpsc::Sender<v1::StreamOnlineFeaturesRequest>,
    answers: Streaming<v1::StreamOnlineFeaturesResponse>,
    questions: Questions,
}

impl Online {
    pub(crate) async fn connect(url: &str, service: &str, work: Work) -> Result<Self, Error> {
        Ok(Self {
            client: client(url).await?,
            questions: Questions::new(service, work),
        })
    }
}

impl Side for Online {
    async fn ask(&mut self) -> Result<(), Error> {
        let request = self.questions.next();
        let answer = self.client.get_online_features(request).await?;
        self.questions.check(answer.get_ref())
    }
}

impl OnlineStream {
    pub(crate) async fn connect(url: &str, service: &str, work: Work) -> Result<Self, Error> {
        let (asked, requests) = mpsc::channel(1);
        let requests = ReceiverStream::new(requests);
        let answers = client(url).await?.stream_online_features(requests).await?;
        Ok(Self {
            asked,
            answers: answers.into_inner(),
            questions: Questions::new(service, work),
        })
    }
}

impl Side for OnlineStream {
    async fn ask(&mut self) -> Result<(), Error> {
        let request = v1::StreamOnlineFeaturesRequest {
            request: Some(self.questions.next()),
            ..Default::default()
        };
        self.asked.send(request).await?;
        let answer = self
            .answers
            .message()
            .await?
            .and_then(|answer| answer.answer);
        match answer {
            Some(Answer::Features(features)) => self.questions.check(&features),
            other => Err(format!("the stream answers {other:?}").into()),
        }
    }
}

/// Rows in Redis, read by the redis crate over one connection.
#[derive(Clone)]
pub(crate) struct Rows {
    connection: redis::aio::MultiplexedConnection,
    schema: KeySchema,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Rows {
    pub(crate) async fn connect(url: &str, project: &str, view: &str) -> Result<Self, Error> {
        let join_key = JoinKey {
            name: "id".parse()?,
            key_type: KeyType::Int64,
        };
        Ok(Self {
            connection: redis::Client::open(url)?
                .get_multiplexed_async_connection()
                .await?,
            schema: KeySchema::new(vec![join_key])?,
            before: format!("vn:{{{project}|").into_bytes(),
            after: format!("}}:{view}").into_bytes(),
        })
    }

    fn key(&self, id: i64) -> Result<Vec<u8>, Error> {
        let entity = EntityKey::encode(&self.schema, &[KeyValue::Int64(id)])?;
        Ok([&self.before, entity.as_bytes(), &self.after].concat())
    }

    /// GET of one, MGET of many; all must be there.
    pub(crate) async fn read(&mut self, ids: &[i64]) -> Result<(), Error> {
        let complete = match ids {
            [id] => {
                let get = redis::cmd("GET").arg(self.key(*id)?).to_owned();
                let value: Option<Vec<u8>> = get.query_async(&mut self.connection).await?;
                value.is_some()
            }
            ids => {
                let mut get = redis::cmd("MGET");
                for id in ids {
                    get.arg(self.key(*id)?);
                }
                let values: Vec<Option<Vec<u8>>> = get.query_async(&mut self.connection).await?;
                values.len() == ids.len() && values.iter().all(Option::is_some)
            }
        };
        match complete {
            true => Ok(()),
            false => Err("Redis has not every row".into()),
        }
    }
}

/// The plain client: rows over a connection of its own.
pub(crate) struct RedisGet {
    rows: Rows,
    ids: Ids,
}

impl RedisGet {
    pub(crate) async fn connect(
        url: &str,
        project: &str,
        view: &str,
        work: Work,
    ) -> Result<Self, Error> {
        Ok(Self {
            rows: Rows::connect(url, project, view).await?,
            ids: Ids::new(work),
        })
    }
}

impl Side for RedisGet {
    async fn ask(&mut self) -> Result<(), Error> {
        let ids: Vec<i64> = self.ids.next().collect();
        self.rows.read(&ids).await
    }
}

/// Feast's `POST /get-online-features` over HTTP/1.1 with a connection that is kept.
pub(crate) struct Http {
    stream: BufStream<TcpStream>,
    address: String,
    service: String,
    ids: Ids,
}

impl Http {
    pub(crate) async fn connect(address: &str, service: &str, work: Work) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufStream::new(stream),
            address: address.to_owned(),
            service: service.to_owned(),
            ids: Ids::new(work),
        })
    }
}

impl Side for Http {
    async fn ask(&mut self) -> Result<(), Error> {
        let ids: Vec<i64> = self.ids.next().collect();
        let body =
            serde_json::json!({ "feature_service": self.service, "entities": { "id": ids } })
                .to_string();
        let head = format!(
            "POST /get-online-features HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body.as_bytes()).await?;
        self.stream.flush().await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        if !line.starts_with("HTTP/1.1 200") {
            return Err(format!("Feast answers {line:?}").into());
        }
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let length = length.ok_or("Feast's answer has no length")?;
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let results = answer["results"]
            .as_array()
            .ok_or("Feast's answer has no results")?;
        let complete = results.iter().all(|column| {
            let statuses = column["statuses"].as_array();
            statuses.is_some_and(|all| all.len() == ids.len() && all.iter().all(|s| s == "PRESENT"))
        });
        match complete && results.len() > 1 {
            true => Ok(()),
            false => Err("Feast's answer has not every value".into()),
        }
    }
}
