//! Which service a call goes to: what is asked most goes the shortest way.
//!
//! Online reads are called directly; everything else, and what there is not, goes through tonic's router.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::future::Either;
use http::{Request, Response};
use tonic::{body::Body, server::NamedService, service::Routes};
use tower_service::Service;

/// All services of a server.
#[derive(Clone)]
pub(crate) struct Dispatch<S> {
    /// The one that is called directly.
    pub(crate) first: S,
    pub(crate) others: Routes,
}

impl<S> Service<Request<Body>> for Dispatch<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, <Routes as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self.first.poll_ready(cx) {
            Poll::Ready(Ok(())) => Service::<Request<Body>>::poll_ready(&mut self.others, cx),
            other => other,
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().strip_prefix('/');
        let path = path.and_then(|path| path.strip_prefix(S::NAME));
        match path.is_some_and(|method| method.starts_with('/')) {
            true => Either::Left(self.first.call(request)),
            false => Either::Right(self.others.call(request)),
        }
    }
}
