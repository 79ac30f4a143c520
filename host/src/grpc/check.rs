//! Owns the `Check` call: HTTP/2 request in, HTTP/2 response out.
//!
//! tonic's generated service would answer an oversized, compressed or undecodable message with a
//! gRPC error, and a proxy that is set to fail open lets the request through on any gRPC error: a
//! client could break its own check to get in. So `Check` is read and answered here, and every
//! failure becomes an ordinary response that denies. There is no other kind of response.

use std::{
    convert::Infallible,
    future::Future,
    mem::take,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::service::Routes;
use tower::Service;

use super::{
    message,
    request::{self, Refusal},
    response,
    timeout::timeout,
};
use crate::{
    attributes::Attributes,
    authorizer::{Authorize, ask, refuse},
    decision::{Decision, Reason},
};

/// Where Envoy sends its checks.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Answers checks, and passes every other call on.
#[derive(Debug)]
pub(super) struct CheckService<A> {
    authorizer: Arc<A>,
    limits: Limits,
    others: Routes,
    underway: TaskTracker,
}

/// What a caller may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Size of a message.
    pub(super) message_bytes: usize,
    /// Time until a message has arrived.
    pub(super) read_timeout: Duration,
}

/// The body of an answer: one message, then the trailers.
#[derive(Debug)]
struct Answer {
    message: Bytes,
    is_done: bool,
    /// The call is under way until this is gone.
    _underway: TaskTrackerToken,
}

type Answered =
    Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, Infallible>> + Send>>;

// === impl CheckService ===

impl<A: Authorize> CheckService<A> {
    /// `underway` counts the calls that have begun and are not answered yet.
    pub(super) fn new(
        authorizer: Arc<A>,
        limits: Limits,
        others: Routes,
        underway: TaskTracker,
    ) -> Self {
        Self { authorizer, limits, others: others.prepare(), underway }
    }
}

impl<A> Clone for CheckService<A> {
    fn clone(&self) -> Self {
        Self {
            authorizer: Arc::clone(&self.authorizer),
            limits: self.limits,
            others: self.others.clone(),
            underway: self.underway.clone(),
        }
    }
}

impl<A: Authorize> Service<Request<tonic::body::Body>> for CheckService<A> {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<tonic::body::Body>>::poll_ready(&mut self.others, cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        if request.uri().path() != CHECK {
            return Box::pin(self.others.call(request));
        }
        let (authorizer, limits) = (Arc::clone(&self.authorizer), self.limits);
        let underway = self.underway.token();
        Box::pin(async move { Ok(answer(check(&*authorizer, limits, request).await, underway)) })
    }
}

/// From request to decision.
async fn check<A, B>(authorizer: &A, limits: Limits, request: Request<B>) -> Decision
where
    A: Authorize,
    B: Body<Data = Bytes> + Unpin,
{
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let deadline = timeout(&parts.headers);
    match read(&parts.headers, body, limits, deadline).await {
        Ok(attributes) => {
            let left = deadline.map(|deadline| deadline.saturating_sub(started.elapsed()));
            ask(authorizer, &attributes, left).await
        }
        Err((reason, detail)) => refuse(authorizer, reason, detail),
    }
}

async fn read<B>(
    headers: &HeaderMap,
    body: B,
    limits: Limits,
    deadline: Option<Duration>,
) -> Result<Attributes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    if !message::is_grpc(headers) {
        return Err((Reason::MalformedRequest, "content type"));
    }
    // tonic answers with a gRPC error when the caller's time is up, so a message that is late must
    // be refused before that.
    let patience = deadline.map_or(limits.read_timeout, |all| limits.read_timeout.min(all / 2));
    let message = tokio::time::timeout(patience, message::read(body, limits.message_bytes));
    let late = |_| (Reason::MalformedRequest, "message did not arrive in time");
    request::attributes(&message.await.map_err(late)??)
}

/// From decision to response.
fn answer(decision: Decision, underway: TaskTrackerToken) -> Response<tonic::body::Body> {
    let message = response::message(&response::check_response(decision));
    let mut response = Response::new(tonic::body::Body::new(Answer {
        message,
        is_done: false,
        _underway: underway,
    }));
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

// === impl Answer ===

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.message.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(take(&mut self.message)))));
        }
        if std::mem::replace(&mut self.is_done, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done
    }
}
