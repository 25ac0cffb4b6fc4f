//! Object stores that are named by a URL: S3 and what speaks its protocol.
//!
//! Credentials, region and endpoint come from the environment, by the names that the AWS tools use. Requests are
//! repeated a few times, so that a store that is down is an error in seconds. Nothing else is asked of a store than
//! that it honours `If-None-Match: *` when an object is to be written that must not be there yet.
//!
//! * Holds always: a bucket that is not there is an error and never an empty store; what a store is asked not to
//!   overwrite it does not overwrite, or the write is an error.
//! * Not here: what is written; local folders ([`super::folder`]).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    BackoffConfig, CopyOptions, CredentialProvider, Error, GetOptions, GetResult, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, RetryConfig, UploadPart,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider},
    client::{ClientConfigKey, HttpError, HttpErrorKind},
    memory::InMemory,
    path::Path as ObjectPath,
};
use url::Url;

const STORE: &str = "S3";

/// How often and how long a request is tried again.
const RETRIES: usize = 5;
const RETRY_FOR: Duration = Duration::from_secs(20);
/// How often a write is tried again that S3 gave up because of another one under the same name.
const CONFLICTS: usize = 3;

/// Why a URL opens no store.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It is of no kind that is known, or names no bucket.
    #[error("it is not the URL of a known object store; write s3://bucket/path")]
    Unknown,
    /// Credentials would go over the network for everybody to read.
    #[error(
        "the endpoint {endpoint} is plain HTTP; set AWS_ALLOW_HTTP=true to use it all the same"
    )]
    PlainHttp {
        /// The endpoint.
        endpoint: String,
    },
    /// The settings in the environment do not fit together.
    #[error(transparent)]
    Settings(#[from] Error),
}

/// The store of a URL's bucket, whose paths begin at the bucket. Nothing is contacted.
///
/// # Errors
/// [`RemoteError`] when the URL is of no known kind or a setting is missing.
pub fn open(url: &Url) -> Result<Arc<dyn ObjectStore>, RemoteError> {
    match (url.scheme(), url.host_str()) {
        ("memory", _) => Ok(Arc::new(InMemory::new())),
        ("s3" | "s3a", Some(bucket)) if !bucket.is_empty() => {
            open_bucket(bucket, AmazonS3Builder::from_env())
        }
        _ => Err(RemoteError::Unknown),
    }
}

/// A bucket with given settings, whatever the environment says. Nothing is contacted.
///
/// # Errors
/// [`RemoteError`] when a setting is missing.
pub fn open_bucket(
    bucket: &str,
    settings: AmazonS3Builder,
) -> Result<Arc<dyn ObjectStore>, RemoteError> {
    Ok(Arc::new(Bucket::open(bucket, settings)?))
}

/// What is wrong with a store, in the words of those who can do something about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("{endpoint} does not answer ({reason}); check AWS_ENDPOINT_URL and the network")]
    Silent { endpoint: String, reason: String },
    #[error(
        "there are no credentials ({reason}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where AWS gives out those of a role"
    )]
    NoCredentials { reason: String },
    #[error(
        "{endpoint} does not take the credentials ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION"
    )]
    BadCredentials { endpoint: String, code: String },
    #[error(
        "the bucket `{bucket}` at {endpoint} may not be used with these credentials; give them the right to list, read, write and delete"
    )]
    Denied { endpoint: String, bucket: String },
    #[error(
        "there is no bucket `{bucket}` at {endpoint}; make it, or correct the URL or AWS_ENDPOINT_URL"
    )]
    NoBucket { endpoint: String, bucket: String },
    #[error(
        "{endpoint} overwrites objects that it is asked not to overwrite (`If-None-Match: *`), so writers would undo each other's work; use a store with conditional writes"
    )]
    Overwrites { endpoint: String },
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Generic {
            store: STORE,
            source: Box::new(problem),
        }
    }
}

/// A bucket.
#[derive(Debug)]
struct Bucket {
    store: AmazonS3,
    place: Place,
    /// Whether it is known that the store does not overwrite what it is asked not to.
    keeps: AtomicBool,
}

/// Where a bucket is, for people.
#[derive(Clone, Debug)]
struct Place {
    endpoint: Arc<str>,
    bucket: Arc<str>,
}

impl Bucket {
    fn open(bucket: &str, settings: AmazonS3Builder) -> Result<Self, RemoteError> {
        let set = |key| settings.get_config_value(&key);
        let region = set(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = set(AmazonS3ConfigKey::S3Endpoint)
            .or_else(|| set(AmazonS3ConfigKey::Endpoint))
            .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let allows_http = set(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        if endpoint.starts_with("http://") && !allows_http.is_some_and(|text| is_true(&text)) {
            return Err(RemoteError::PlainHttp { endpoint });
        }
        let has_key = set(AmazonS3ConfigKey::AccessKeyId).is_some();
        let settings = settings.with_bucket_name(bucket).with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
        });
        let mut store = settings.clone().build()?;
        if !has_key {
            // Where they come from is asked later, and what goes wrong there would read as if the bucket did not answer.
            let credentials = Arc::new(Found(Arc::clone(store.credentials())));
            store = settings.with_credentials(credentials).build()?;
        }
        Ok(Self {
            store,
            place: Place {
                endpoint: endpoint.into(),
                bucket: bucket.into(),
            },
            keeps: AtomicBool::new(false),
        })
    }

    /// Writes an object that must not be there yet.
    async fn create(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let put = || {
            self.store
                .put_opts(location, payload.clone(), options.clone())
        };
        let mut written = put().await;
        for _ in 0..CONFLICTS {
            match &written {
                Err(error) if is_conflict(error) => written = put().await,
                _ => break,
            }
        }
        let written = written?;
        // Old servers pass over the condition in silence. The first object of all that is written tells.
        if !self.keeps.load(Ordering::Relaxed) {
            match put().await {
                Err(Error::AlreadyExists { .. }) => self.keeps.store(true, Ordering::Relaxed),
                Ok(_) => {
                    self.store.delete(location).await?;
                    return Err(Problem::Overwrites {
                        endpoint: self.place.endpoint.to_string(),
                    }
                    .into());
                }
                // The next one will tell.
                Err(_) => {}
            }
        }
        Ok(written)
    }
}

impl Place {
    /// The error in words that say what to do, where that is known.
    fn explain(&self, error: Error) -> Error {
        if let Some(problem) = cause::<Problem>(&error) {
            return problem.clone().into();
        }
        let endpoint = self.endpoint.to_string();
        let bucket = self.bucket.to_string();
        let told = error.to_string();
        let problem = match (code(&told), error) {
            (Some("NoSuchBucket"), _) => Problem::NoBucket { endpoint, bucket },
            (
                Some(
                    code @ ("AuthorizationHeaderMalformed"
                    | "ExpiredToken"
                    | "InvalidAccessKeyId"
                    | "InvalidToken"
                    | "SignatureDoesNotMatch"),
                ),
                _,
            ) => Problem::BadCredentials {
                endpoint,
                code: code.to_owned(),
            },
            (_, Error::PermissionDenied { path, .. }) => {
                return Error::PermissionDenied {
                    path,
                    source: Box::new(Problem::Denied { endpoint, bucket }),
                };
            }
            (Some("AccessDenied"), _) => Problem::Denied { endpoint, bucket },
            (_, error) => match cause::<HttpError>(&error) {
                Some(http)
                    if matches!(http.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout) =>
                {
                    Problem::Silent {
                        endpoint,
                        reason: deepest(http),
                    }
                }
                _ => return error,
            },
        };
        tracing::debug!(error = told, "S3 failed");
        problem.into()
    }
}

/// Credentials that are asked for when they are needed.
#[derive(Debug)]
struct Found(AwsCredentialProvider);

#[async_trait]
impl CredentialProvider for Found {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        self.0.get_credential().await.map_err(|error| {
            let reason = deepest(&error);
            tracing::debug!(%error, "no credentials");
            Problem::NoCredentials { reason }.into()
        })
    }
}

/// How `object_store` reads switches.
fn is_true(text: &str) -> bool {
    ["1", "true", "on", "yes", "y"].contains(&text.to_ascii_lowercase().as_str())
}

/// S3 gives up a write when another one under its name is on its way, and asks to try again.
fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. })
        && code(&error.to_string()) == Some("ConditionalRequestConflict")
}

/// The code that S3 gives an error in its answer.
fn code(told: &str) -> Option<&str> {
    let (_, rest) = told.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

/// The first error of that type in the chain.
fn cause<E: std::error::Error + 'static>(error: &Error) -> Option<&E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What the last error of the chain says.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let put = match opts.mode {
            PutMode::Create => self.create(location, payload, opts).await,
            _ => self.store.put_opts(location, payload, opts).await,
        };
        put.map_err(|error| self.place.explain(error))
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.store.put_multipart_opts(location, opts).await;
        let place = self.place.clone();
        match inner {
            Ok(inner) => Ok(Box::new(Upload { inner, place })),
            Err(error) => Err(place.explain(error)),
        }
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        let got = self.store.get_opts(location, options).await;
        got.map_err(|error| self.place.explain(error))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        let place = self.place.clone();
        let deleted = self.store.delete_stream(locations);
        deleted.map_err(move |error| place.explain(error)).boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        let place = self.place.clone();
        let listed = self.store.list(prefix);
        listed.map_err(move |error| place.explain(error)).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&ObjectPath>,
        offset: &ObjectPath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let place = self.place.clone();
        let listed = self.store.list_with_offset(prefix, offset);
        listed.map_err(move |error| place.explain(error)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        let listed = self.store.list_with_delimiter(prefix).await;
        listed.map_err(|error| self.place.explain(error))
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> Result<()> {
        let copied = self.store.copy_opts(from, to, options).await;
        copied.map_err(|error| self.place.explain(error))
    }

    async fn rename_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: RenameOptions,
    ) -> Result<()> {
        let renamed = self.store.rename_opts(from, to, options).await;
        renamed.map_err(|error| self.place.explain(error))
    }
}

/// An object that arrives in parts.
#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    place: Place,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let place = self.place.clone();
        let part = self.inner.put_part(data);
        part.map(move |put| put.map_err(|error| place.explain(error)))
            .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.inner.complete().await;
        put.map_err(|error| self.place.explain(error))
    }

    async fn abort(&mut self) -> Result<()> {
        let aborted = self.inner.abort().await;
        aborted.map_err(|error| self.place.explain(error))
    }
}
