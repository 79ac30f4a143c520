//! The `Check` call: HTTP/2 request in, HTTP/2 response out.
//!
//! tonic's generated service would answer an oversized, compressed or undecodable message with a
//! gRPC error, and a proxy that is set to fail open lets the request through on any gRPC error: a
//! client could break its own check to get in. So `Check` is read and answered here, and every
//! failure becomes an ordinary response that denies. There is no other kind of response.

use std::{
    convert::Infallible,
    future::poll_fn,
    mem::{replace, take},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use portcullis_types::{
    attributes::Attributes,
    decision::{Decision, Reason},
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::service::Routes;
use tower::Service;

use super::{
    message::{self, Unread},
    request, response,
    timeout::timeout,
};
use crate::authorizer::{Authorize, Refusal, ask, refuse_known};

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

/// The body of a response.
#[derive(Debug)]
pub(super) enum Reply {
    /// Of a check.
    Check(ResponseBody),
    /// Of every other call.
    Other(tonic::body::Body),
}

/// The body of an answer: one message, then the trailers.
#[derive(Debug)]
pub(super) struct ResponseBody {
    message: Bytes,
    is_done: bool,
    /// The call is under way until this is gone.
    _underway: TaskTrackerToken,
}

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

    /// Answers one call.
    pub(super) async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Infallible> {
        if request.uri().path() == CHECK {
            let underway = self.underway.token();
            return Ok(answer(check(&*self.authorizer, self.limits, request).await, underway));
        }
        // What they do is rare and large; what every check carries along should be small.
        Box::pin(other(self.others.clone(), request)).await
    }
}

async fn other(
    mut routes: Routes,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let request = request.map(tonic::body::Body::new);
    poll_fn(|cx| Service::<Request<tonic::body::Body>>::poll_ready(&mut routes, cx)).await?;
    Ok(routes.call(request).await?.map(Reply::Other))
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
        Err((reason, detail)) => refuse_known(authorizer, &Attributes::default(), reason, detail),
    }
}

async fn read<B>(
    headers: &HeaderMap,
    body: B,
    limits: Limits,
    deadline: Option<Duration>,
) -> Result<Attributes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    if !message::is_grpc(headers) {
        return Err((Reason::MalformedRequest, "content type".to_owned()));
    }
    // The proxy stops waiting when its time is up, so a late message must be refused before that.
    let patience = deadline.map_or(limits.read_timeout, |all| limits.read_timeout.min(all / 2));
    let message = tokio::time::timeout(patience, message::read(body, limits.message_bytes));
    let late = |_| (Reason::MalformedRequest, "message did not arrive in time".to_owned());
    let unreadable = |(reason, detail): Refusal| (reason, detail.to_owned());
    request::attributes(&message.await.map_err(late)??).map_err(unreadable)
}

/// From decision to response.
fn answer(decision: Decision, underway: TaskTrackerToken) -> Response<Reply> {
    let message = response::message(&response::check_response(decision));
    let answer = ResponseBody { message, is_done: false, _underway: underway };
    let mut response = Response::new(Reply::Check(answer));
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

// === impl Reply ===

impl Body for Reply {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Check(answer) => Poll::Ready(answer.next_frame().map(Ok)),
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Check(answer) => answer.is_done,
            Self::Other(body) => body.is_end_stream(),
        }
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if !self.message.is_empty() {
            return Some(Frame::data(take(&mut self.message)));
        }
        if replace(&mut self.is_done, true) {
            return None;
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Frame::trailers(trailers))
    }
}
