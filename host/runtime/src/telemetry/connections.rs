//! Metrics of the connections of the edges: how many are open, and which were refused before a
//! request was read.
//!
//! Connections that are refused below the application have no decision line, so each cause is
//! counted here, and logged at most once a minute.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus::proto::MetricFamily;

use super::{
    exposition::{as_f64, counter, counters, gauge, gauges},
    log_limit::RateLimitedLog,
};

portcullis_types::listed_enum! {
    /// The ports of the process.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Edge: label {
        /// `grpc.listen`.
        Grpc = "grpc",
        /// `http.listen`.
        Http = "http",
        /// `admin.listen`.
        Admin = "admin",
        /// `receiver.listen`.
        Receiver = "receiver",
    }
}

portcullis_types::listed_enum! {
    /// Why a connection was closed, or its request refused, below the application.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Refusal: cause {
        /// The limit is reached, and each connection has a request in flight.
        Limit = "limit",
        /// The limit is reached, and this connection was idle for the longest.
        Idle = "idle",
        /// The process may open no more files.
        Descriptors = "descriptors",
        /// The peer sent nothing in time.
        Silent = "silent",
        /// HTTP/1.1 on the gRPC port.
        Http1 = "http1",
        /// HTTP/2 on an HTTP/1.1 port.
        Http2 = "http2",
        /// TLS on a plain-text port.
        Tls = "tls",
        /// None of these protocols, or an error in one.
        Protocol = "protocol",
        /// The request is malformed: status 400.
        BadRequest = "bad_request",
        /// Request line or headers are too large or too many: status 414 or 431.
        HeadTooLarge = "head_too_large",
    }
}

/// The connections of all edges. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics(Arc<[OfEdge; Edge::ALL.len()]>);

/// The connections of one edge. Clones count into the same place.
#[derive(Debug, Clone)]
pub struct EdgeConnections {
    edge: Edge,
    all: ConnectionMetrics,
}

#[derive(Debug, Default)]
struct OfEdge {
    /// Shown once the edge is served.
    limit: AtomicUsize,
    open: AtomicUsize,
    refused: [Refused; Refusal::ALL.len()],
}

#[derive(Debug, Default)]
struct Refused {
    count: AtomicU64,
    log: RateLimitedLog,
}

/// How often a refusal of one kind is logged.
const LOG_PERIOD: Duration = Duration::from_mins(1);

// === impl Refusal ===

impl Refusal {
    /// The log line.
    const fn message(self) -> &'static str {
        match self {
            Self::Limit => {
                "a connection was refused: `max_connections` are open, and all have requests under \
                 way"
            }
            Self::Idle => {
                "an idle connection was closed in favour of a new one: `max_connections` are open"
            }
            Self::Descriptors => {
                "cannot accept connections: the process may open no more files; raise `ulimit -n`"
            }
            Self::Silent => "a connection was closed: its peer said nothing in time",
            Self::Http1 => {
                "a connection was refused: it speaks HTTP/1.1, and this is the gRPC port; Envoy's \
                 cluster needs http2_protocol_options"
            }
            Self::Http2 => {
                "a connection was refused: it speaks HTTP/2, and HTTP/1.1 is expected here; gRPC has \
                 a port of its own, `grpc.listen`"
            }
            Self::Tls => {
                "a connection was refused: it speaks TLS, and plain text is expected here; let the \
                 mesh or a proxy in front end TLS"
            }
            Self::Protocol => "a connection was closed: its peer does not speak HTTP/2",
            Self::BadRequest => {
                "a request was answered with 400: it is malformed, or not HTTP/1.1 in plain text"
            }
            Self::HeadTooLarge => {
                "a request was answered with 414 or 431: its path or its headers are too long, \
                 or too many"
            }
        }
    }
}

// === impl ConnectionMetrics ===

impl ConnectionMetrics {
    /// The metrics of one edge.
    #[must_use]
    pub fn edge(&self, edge: Edge) -> EdgeConnections {
        EdgeConnections { edge, all: self.clone() }
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let (mut open, mut limits, mut refused) = (vec![], vec![], vec![]);
        for (edge, counts) in Edge::ALL.into_iter().zip(&*self.0) {
            let limit = counts.limit.load(Relaxed);
            if limit == 0 {
                continue;
            }
            let labels = [("edge", edge.label())];
            limits.push(gauge(&labels, as_f64(limit as u64)));
            open.push(gauge(&labels, as_f64(counts.open.load(Relaxed) as u64)));
            for (refusal, Refused { count, .. }) in Refusal::ALL.into_iter().zip(&counts.refused) {
                let labels = [("edge", edge.label()), ("cause", refusal.cause())];
                refused.push(counter(&labels, count.load(Relaxed)));
            }
        }
        vec![
            gauges("portcullis_connections", "Open connections.", open),
            gauges("portcullis_connections_limit", "Connections that may be open.", limits),
            counters(
                "portcullis_connections_refused_total",
                "Connections and requests that were refused before a request was read, by cause.",
                refused,
            ),
        ]
    }
}

// === impl EdgeConnections ===

impl EdgeConnections {
    /// Sets how many connections may be open.
    pub fn set_limit(&self, limit: usize) {
        self.counts().limit.store(limit, Relaxed);
    }

    /// Sets how many connections are open.
    pub fn set_open(&self, open: usize) {
        self.counts().open.store(open, Relaxed);
    }

    /// Counts a refusal, and logs it if none of the kind was logged for a minute.
    pub fn refused(&self, refusal: Refusal, peer: Option<SocketAddr>) {
        let Refused { count, log } = &self.counts().refused[refusal as usize];
        count.fetch_add(1, Relaxed);
        if let Some(held_back) = log.admit("", LOG_PERIOD) {
            let (edge, cause, message) = (self.edge.label(), refusal.cause(), refusal.message());
            let peer = peer.map(tracing::field::display);
            tracing::warn!(edge, cause, peer, held_back, "{message}");
        }
    }

    fn counts(&self) -> &OfEdge {
        &self.all.0[self.edge as usize]
    }
}
