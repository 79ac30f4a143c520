//! Serving an HTTP/1.1 connection, for every edge that uses HTTP/1.1.

use std::{error::Error, pin::pin, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1::Builder, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connections::{Activity, Connection};
use crate::{
    drain::Drain,
    telemetry::{EdgeConnections, Refusal},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// Limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Http1Limits {
    /// How long it may take until the head of the next request has arrived.
    pub idle_timeout: Duration,
    /// The largest request line with its headers. More is answered with 431.
    pub max_head_bytes: usize,
    /// How many headers a request may have. More are answered with 431.
    pub max_headers: usize,
}

/// Answers the requests of a connection with `service`, until the peer closes it, or the drain
/// begins and the request in flight is answered. Counts requests that hyper refuses before
/// `service` sees them.
pub async fn serve<S, B>(
    Connection { socket, peer, activity }: Connection,
    limits: Http1Limits,
    service: S,
    metrics: EdgeConnections,
    drain: Drain,
) where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_head_bytes);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        ended = connection.as_mut() => {
            if let Some(refusal) = ended.err().and_then(|error| refusal(&error, &activity)) {
                metrics.refused(refusal, Some(peer));
            }
            return;
        }
        () = drain.stopping() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The refusal for a connection that has ended, if hyper refused a request or the peer never made
/// one. Other errors are ways in which peers close connections, and are ignored.
fn refusal(error: &hyper::Error, activity: &Activity) -> Option<Refusal> {
    if error.is_parse_version_h2() {
        Some(Refusal::Http2)
    } else if error.is_parse_too_large() {
        Some(Refusal::HeadTooLarge)
    } else if error.is_parse() {
        Some(Refusal::BadRequest)
    } else if error.is_timeout() && activity.begun() == 0 {
        Some(Refusal::Silent)
    } else {
        None
    }
}
