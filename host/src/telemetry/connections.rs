//! Connections of the edges: how many are open, and which were refused before a request was read.
//!
//! What is refused below the application has no decision line, so each cause is counted here, and
//! logged once a minute at the most.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use prometheus::proto::{MetricFamily, MetricType};

use super::{
    exposition::{as_f64, counter, family, gauge},
    log_limit::LogLimit,
};

/// Where peers connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// `grpc.listen`.
    Grpc,
    /// `http.listen`.
    Http,
    /// `admin.listen`.
    Admin,
}

/// Why a connection was closed, or what it asked was refused, below the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As many as may be are open, and each has a request under way.
    Limit,
    /// As many as may be are open, and this one was idle for the longest.
    Idle,
    /// The process may open no more files.
    Descriptors,
    /// The peer said nothing in time.
    Silent,
    /// HTTP/1.1 where gRPC is spoken.
    Http1,
    /// HTTP/2 where HTTP/1.1 is spoken.
    Http2,
    /// TLS where plain text is spoken.
    Tls,
    /// None of these protocols, or an error in one.
    Protocol,
    /// The request is not one: status 400.
    BadRequest,
    /// Request line or headers are too large or too many: status 414 or 431.
    HeadTooLarge,
}

/// The connections of all edges. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics(Arc<[OfEdge; EDGES.len()]>);

/// The connections of one edge. Clones count into the same place.
#[derive(Debug, Clone)]
pub struct EdgeConnections {
    edge: Edge,
    all: ConnectionMetrics,
}

#[derive(Debug, Default)]
struct OfEdge {
    /// Shown once it is known, which is when the edge is served.
    limit: AtomicUsize,
    open: AtomicUsize,
    refused: [Refused; REFUSALS.len()],
}

#[derive(Debug, Default)]
struct Refused {
    count: AtomicU64,
    log: LogLimit,
}

const EDGES: [(Edge, &str); 3] =
    [(Edge::Grpc, "grpc"), (Edge::Http, "http"), (Edge::Admin, "admin")];

/// The label `cause`, and what the log says to it.
const REFUSALS: [(Refusal, &str, &str); 10] = [
    (
        Refusal::Limit,
        "limit",
        "a connection was refused: `max_connections` are open, and all have requests under way",
    ),
    (
        Refusal::Idle,
        "idle",
        "an idle connection was closed in favour of a new one: `max_connections` are open",
    ),
    (
        Refusal::Descriptors,
        "descriptors",
        "cannot accept connections: the process may open no more files; raise `ulimit -n`",
    ),
    (Refusal::Silent, "silent", "a connection was closed: its peer said nothing in time"),
    (
        Refusal::Http1,
        "http1",
        "a connection was refused: it speaks HTTP/1.1, and this is the gRPC port; Envoy's cluster \
         needs http2_protocol_options",
    ),
    (
        Refusal::Http2,
        "http2",
        "a connection was refused: it speaks HTTP/2, and HTTP/1.1 is expected here; gRPC has a port \
         of its own, `grpc.listen`",
    ),
    (
        Refusal::Tls,
        "tls",
        "a connection was refused: it speaks TLS, and plain text is expected here; let the mesh or \
         a proxy in front end TLS",
    ),
    (Refusal::Protocol, "protocol", "a connection was closed: its peer does not speak HTTP/2"),
    (
        Refusal::BadRequest,
        "bad_request",
        "a request was answered with 400: it is malformed, or not HTTP/1.1 in plain text",
    ),
    (
        Refusal::HeadTooLarge,
        "head_too_large",
        "a request was answered with 414 or 431: its path or its headers are too long, or too many",
    ),
];

// === impl ConnectionMetrics ===

impl ConnectionMetrics {
    /// Those of one edge.
    #[must_use]
    pub fn edge(&self, edge: Edge) -> EdgeConnections {
        EdgeConnections { edge, all: self.clone() }
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let (mut open, mut limits, mut refused) = (vec![], vec![], vec![]);
        for ((_, edge), counts) in EDGES.iter().zip(&*self.0) {
            let limit = counts.limit.load(Relaxed);
            if limit == 0 {
                continue;
            }
            let labels = [("edge", *edge)];
            limits.push(gauge(&labels, as_f64(limit as u64)));
            open.push(gauge(&labels, as_f64(counts.open.load(Relaxed) as u64)));
            for ((_, cause, _), refusal) in REFUSALS.iter().zip(&counts.refused) {
                let labels = [("edge", *edge), ("cause", *cause)];
                refused.push(counter(&labels, refusal.count.load(Relaxed)));
            }
        }
        vec![
            family("portcullis_connections", "Open connections.", MetricType::GAUGE, open),
            family(
                "portcullis_connections_limit",
                "Connections that may be open.",
                MetricType::GAUGE,
                limits,
            ),
            family(
                "portcullis_connections_refused_total",
                "Connections and requests that were refused before a request was read, by cause.",
                MetricType::COUNTER,
                refused,
            ),
        ]
    }
}

// === impl EdgeConnections ===

impl EdgeConnections {
    /// Says how many connections may be open.
    pub fn set_limit(&self, limit: usize) {
        self.counts().limit.store(limit, Relaxed);
    }

    /// Says how many connections are open.
    pub fn set_open(&self, open: usize) {
        self.counts().open.store(open, Relaxed);
    }

    /// Counts a refusal, and logs it if none of the kind was logged for a minute.
    pub fn refused(&self, refusal: Refusal, peer: Option<SocketAddr>) {
        let Refused { count, log } = &self.counts().refused[refusal as usize];
        count.fetch_add(1, Relaxed);
        if let Some(held_back) = log.pass() {
            let (_, edge) = EDGES[self.edge as usize];
            let (_, cause, message) = REFUSALS[refusal as usize];
            let peer = peer.map(tracing::field::display);
            tracing::warn!(edge, cause, peer, held_back, "{message}");
        }
    }

    fn counts(&self) -> &OfEdge {
        &self.all.0[self.edge as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edge_and_cause_has_its_own_place() {
        for (place, (edge, _)) in EDGES.iter().enumerate() {
            assert_eq!(*edge as usize, place);
        }
        for (place, (refusal, ..)) in REFUSALS.iter().enumerate() {
            assert_eq!(*refusal as usize, place);
        }
    }
}
