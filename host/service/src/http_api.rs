//! HTTP/1.1 server of the admin edge and of the receiver, with a time limit for each step.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use hyper::service::service_fn;
use portcullis_runtime::{
    drain::Drain,
    listen::{Connection, Http1Limits, Incoming, serve_http1},
    telemetry::EdgeConnections,
};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::Service;

/// How long clients may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApiLimits {
    /// Until the head of the next request is complete.
    pub(crate) idle: Duration,
    /// Between two parts of a body.
    pub(crate) body_pause: Duration,
    /// From the head of a request to the answer.
    pub(crate) request: Duration,
}

/// A body that ends with an error if nothing more of it comes.
struct Timed {
    body: hyper::body::Incoming,
    pause: Duration,
    late: Pin<Box<Sleep>>,
}

/// The rest of a body did not come.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
struct LateBody;

/// Serves the paths of `router` until the drain begins.
pub(crate) async fn serve(incoming: Incoming, router: Router, limits: ApiLimits, drain: Drain) {
    let (metrics, draining) = (incoming.metrics().clone(), drain.clone());
    incoming
        .serve(drain, |accepted| {
            connection(accepted, router.clone(), limits, metrics.clone(), draining.clone())
        })
        .await;
}

async fn connection(
    accepted: Connection,
    router: Router,
    limits: ApiLimits,
    metrics: EdgeConnections,
    drain: Drain,
) {
    let ApiLimits { idle, body_pause, request } = limits;
    let http1 = Http1Limits { idle_timeout: idle, max_head_bytes: 32 * 1024, max_headers: 100 };
    let activity = accepted.activity.clone();
    let service = service_fn(move |asked: hyper::Request<hyper::body::Incoming>| {
        let (router, underway) = (router.clone(), activity.begin());
        async move {
            let asked = asked.map(|body| Timed::body(body, body_pause));
            let answer = answer(router, asked, request).await;
            drop(underway);
            Ok::<_, Infallible>(answer)
        }
    });
    serve_http1(accepted, http1, service, metrics, drain).await;
}

async fn answer(mut router: Router, request: Request, limit: Duration) -> Response {
    match timeout(limit, router.call(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(never)) => match never {},
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "this took too long\n").into_response(),
    }
}

// === impl Timed ===

impl Timed {
    fn body(body: hyper::body::Incoming, pause: Duration) -> Body {
        Body::new(Self { body, pause, late: Box::pin(sleep(pause)) })
    }
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let timed = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut timed.body).poll_frame(cx) {
            timed.late.as_mut().reset(Instant::now() + timed.pause);
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        timed.late.as_mut().poll(cx).map(|()| Some(Err(axum::Error::new(LateBody))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
