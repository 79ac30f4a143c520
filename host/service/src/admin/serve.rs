//! HTTP/1.1 connections of the admin edge, with a time limit for each step.

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

/// How long a body may pause.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take: to send a million revocations and to wait a minute for all replicas.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(5);

const LIMITS: Http1Limits = Http1Limits {
    // Scrapes are closer together.
    idle_timeout: Duration::from_secs(75),
    max_head_bytes: 32 * 1024,
    max_headers: 100,
};

/// A body that ends with an error if nothing more of it comes.
struct Timed {
    body: hyper::body::Incoming,
    late: Pin<Box<Sleep>>,
}

/// The rest of a body did not come.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
struct LateBody;

/// Serves the paths of `router` until the drain begins.
pub(super) async fn serve(incoming: Incoming, router: Router, drain: Drain) {
    let (metrics, draining) = (incoming.metrics().clone(), drain.clone());
    incoming
        .serve(drain, |accepted| {
            connection(accepted, router.clone(), metrics.clone(), draining.clone())
        })
        .await;
}

async fn connection(accepted: Connection, router: Router, metrics: EdgeConnections, drain: Drain) {
    let activity = accepted.activity.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (router, underway) = (router.clone(), activity.begin());
        async move {
            let answer = answer(router, request.map(Timed::body)).await;
            drop(underway);
            Ok::<_, Infallible>(answer)
        }
    });
    serve_http1(accepted, LIMITS, service, metrics, drain).await;
}

async fn answer(mut router: Router, request: Request) -> Response {
    match timeout(REQUEST_TIMEOUT, router.call(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(never)) => match never {},
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "this took too long\n").into_response(),
    }
}

// === impl Timed ===

impl Timed {
    fn body(body: hyper::body::Incoming) -> Body {
        Body::new(Self { body, late: Box::pin(sleep(BODY_TIMEOUT)) })
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
            timed.late.as_mut().reset(Instant::now() + BODY_TIMEOUT);
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
