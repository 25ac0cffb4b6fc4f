//! What is answered to plain HTTP/1.1 and HTTP/2 next to gRPC, on the same port: `/metrics`, `/healthz`, `/readyz`.
//!
//! [`Front`] stands before everything else. It lets pass what is for gRPC, and takes none of its slots: a service that
//! is busy can still be looked at.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::Either;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower_service::Service;
use vintner_ops::Readiness;

use crate::metrics::{Form, Metrics};

const TEXT: &str = "text/plain; charset=utf-8";

/// Stands before the services of a server.
#[derive(Clone)]
pub(crate) struct Front<S> {
    inner: S,
    pages: Arc<Pages>,
}

/// What can be read.
pub(crate) struct Pages {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: watch::Receiver<Readiness>,
    /// The service stops, so it is not ready.
    pub(crate) draining: CancellationToken,
}

impl<S> Front<S> {
    pub(crate) fn new(inner: S, pages: Arc<Pages>) -> Self {
        Self { inner, pages }
    }
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let page = match request.uri().path() {
            "/metrics" => Pages::metrics,
            "/healthz" => Pages::alive,
            "/readyz" => Pages::ready,
            // gRPC is HTTP/2.
            _ if request.version() == Version::HTTP_2 => {
                return Either::Right(self.inner.call(request));
            }
            _ => Pages::nothing,
        };
        let answer = match *request.method() {
            Method::GET | Method::HEAD => page(&self.pages, &request),
            _ => {
                let mut refusal = text(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "only GET and HEAD\n".to_owned(),
                );
                let allowed = HeaderValue::from_static("GET, HEAD");
                refusal.headers_mut().insert(ALLOW, allowed);
                refusal
            }
        };
        Either::Left(ready(Ok(answer)))
    }
}

impl Pages {
    fn metrics(&self, request: &Request<Body>) -> Response<Body> {
        let mut accepts = request.headers().get_all(ACCEPT).iter();
        let form = match accepts.any(|accept| {
            accept
                .to_str()
                .is_ok_and(|accept| accept.contains("application/openmetrics-text"))
        }) {
            true => Form::OpenMetrics,
            false => Form::Prometheus,
        };
        match self.metrics.text(form) {
            Ok(metrics) => {
                let mut answer = text(StatusCode::OK, metrics);
                let form = HeaderValue::from_static(form.content_type());
                answer.headers_mut().insert(CONTENT_TYPE, form);
                answer
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn alive(&self, _: &Request<Body>) -> Response<Body> {
        text(StatusCode::OK, "alive\n".to_owned())
    }

    fn ready(&self, _: &Request<Body>) -> Response<Body> {
        let not = |why: &str| {
            text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: {why}\n"),
            )
        };
        if self.draining.is_cancelled() {
            return not("the service stops");
        }
        match &*self.readiness.borrow() {
            Readiness::Ready => text(StatusCode::OK, "ready\n".to_owned()),
            Readiness::NotReady(why) => not(why),
        }
    }

    fn nothing(&self, _: &Request<Body>) -> Response<Body> {
        let pages = "here are /metrics, /healthz and /readyz; all else is gRPC\n";
        text(StatusCode::NOT_FOUND, pages.to_owned())
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut answer = Response::new(Body::new(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
