//! HTTP/1.1 connections of the admin edge, with a time limit for each step.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
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
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::Service;

use crate::{
    drain::Drain,
    listen::{self, Connection, Incoming},
    telemetry::EdgeConnections,
};

/// How long a connection may take until its next request has begun. Scrapes are closer together.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a body may pause.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take: to send a million revocations and to wait a minute for all replicas.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(5);

const MAX_HEAD_BYTES: usize = 32 * 1024;

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

async fn connection(
    Connection { socket, peer, activity }: Connection,
    router: Router,
    metrics: EdgeConnections,
    drain: Drain,
) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let (router, underway) = (router.clone(), activity.begin());
        async move {
            let answer = answer(router, request.map(Timed::body)).await;
            drop(underway);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        ended = connection.as_mut() => {
            if let Some(refusal) = listen::http1_refusal(ended, &activity) {
                metrics.refused(refusal, Some(peer));
            }
            return;
        }
        () = drain.stopping() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
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
