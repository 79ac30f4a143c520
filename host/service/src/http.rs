//! The HTTP edge: the same question as over gRPC, asked by an HTTP request.
//!
//! Envoy's `http_service`, nginx' `auth_request`, Traefik's `ForwardAuth`, Caddy's `forward_auth`
//! and a person with `curl` all ask this way, and all take 200 for an allow. So nothing but an allow
//! may ever be answered with 200: tonic's server, which answers a `grpc-timeout` that has run out
//! with 200 and an error in a header, must never serve this edge. And an Envoy that fails open lets
//! pass what is answered with 5xx or too late, so it gets neither.

mod config;
mod deadline;
mod overwrite;
mod request;
mod response;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
pub use config::{HttpConfig, HttpError, ParsePrefixError, PathPrefix, RequestFrom};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper_util::service::TowerToHyperService;
use portcullis_runtime::{
    drain::Drain,
    listen::{self, Activity, BindError, Http1Limits, Incoming},
    telemetry::{Edge, EdgeConnections, RateLimitedLog},
};
use portcullis_types::decision::Decision;
use tower::Service;

use crate::authorizer::{Authorize, ask, refuse, refuse_known};

/// The HTTP edge with its address open, before it serves.
#[derive(Debug)]
pub struct HttpEdge {
    config: HttpConfig,
    incoming: Incoming,
}

/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Envoy lets 60 KiB of headers through, nginx 32 KiB. More is answered with 431.
const MAX_HEAD_BYTES: usize = 128 * 1024;

/// Envoy lets 100 headers of a client through, and adds its own; the others count bytes only. More is
/// answered with 431.
const MAX_HEADERS: usize = 256;

/// Opens the address, if there is one.
///
/// # Errors
/// When it is taken, is not one of this machine, or needs more rights.
pub async fn bind(config: &HttpConfig) -> Result<Option<HttpEdge>, BindError> {
    let Some(address) = config.listen else { return Ok(None) };
    let incoming = listen::bind(Edge::Http, address, config.max_connections).await?;
    Ok(Some(HttpEdge { config: config.clone(), incoming }))
}

// === impl HttpEdge ===

impl HttpEdge {
    /// The address, with the port that the operating system chose if none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.incoming.local_addr()
    }

    /// The same with another limit for connections, which are counted in `metrics`.
    #[must_use]
    pub fn limited(self, limit: usize, metrics: EdgeConnections) -> Self {
        Self { incoming: self.incoming.limited(limit, metrics), ..self }
    }

    /// Serves until the drain begins and every request under way is answered.
    pub async fn serve(self, authorizer: Arc<impl Authorize>, drain: Drain) {
        let (config, metrics) = (Arc::new(self.config), self.incoming.metrics().clone());
        let draining = drain.clone();
        let left_out = Arc::new(RateLimitedLog::default());
        let limits = Http1Limits {
            idle_timeout: config.idle_timeout.get(),
            max_head_bytes: MAX_HEAD_BYTES,
            max_headers: MAX_HEADERS,
        };
        self.incoming
            .serve(drain, |accepted| {
                let asker = Asker {
                    authorizer: Arc::clone(&authorizer),
                    config: Arc::clone(&config),
                    peer: accepted.peer,
                    activity: accepted.activity.clone(),
                    left_out: Arc::clone(&left_out),
                };
                let service = TowerToHyperService::new(asker);
                listen::serve_http1(accepted, limits, service, metrics.clone(), draining.clone())
            })
            .await;
    }
}

/// Asks on behalf of one connection.
#[derive(Debug)]
struct Asker<A> {
    authorizer: Arc<A>,
    config: Arc<HttpConfig>,
    peer: SocketAddr,
    activity: Activity,
    /// Limits the lines about denials without headers.
    left_out: Arc<RateLimitedLog>,
}

impl<A> Clone for Asker<A> {
    fn clone(&self) -> Self {
        Self {
            authorizer: Arc::clone(&self.authorizer),
            config: Arc::clone(&self.config),
            peer: self.peer,
            activity: self.activity.clone(),
            left_out: Arc::clone(&self.left_out),
        }
    }
}

impl<A, B> Service<Request<B>> for Asker<A>
where
    A: Authorize,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (asker, underway) = (self.clone(), self.activity.begin());
        Box::pin(async move {
            let answer = asker.answer(request).await;
            drop(underway);
            Ok(answer)
        })
    }
}

impl<A: Authorize> Asker<A> {
    async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let decision = self.decide(request).await;
        let proxy = self.config.request_from;
        let write = |decision| response::response(decision, proxy, &self.left_out);
        write(decision).unwrap_or_else(|(reason, detail)| {
            let refused = refuse(&*self.authorizer, reason, detail);
            write(refused).unwrap_or_else(|_| response::last_resort(proxy))
        })
    }

    async fn decide<B>(&self, request: Request<B>) -> Decision
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let deadline = deadline::deadline(&parts.headers, &self.config);
        // The proxy stops waiting when its time is up, so a body that is late must be refused before.
        let patience = BODY_TIMEOUT.min(deadline / 2);
        let read = tokio::time::timeout(patience, request::body(&parts, body, &self.config));
        let attributes = match read.await {
            Ok(Ok(body)) => request::attributes(&parts, body, &self.config, self.peer),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(request::LATE),
        };
        match attributes {
            Ok(attributes) => {
                let left = deadline.saturating_sub(started.elapsed());
                let decision = ask(&*self.authorizer, &attributes, Some(left)).await;
                match overwrite::check(&attributes, &decision, &self.config) {
                    Ok(()) => decision,
                    Err((reason, detail)) => refuse(&*self.authorizer, reason, detail),
                }
            }
            Err((reason, detail)) => {
                // Its line may well be readable.
                let known = request::attributes(&parts, None, &self.config, self.peer);
                let known = known.unwrap_or_default();
                refuse_known(&*self.authorizer, &known, reason, detail.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests;
