//! The gRPC edge: Envoy's `Check`, health, and reflection on request.
//!
//! The only place that knows Envoy's protobuf. It turns a message into attributes and a decision
//! into a message; it decides nothing, except to deny what cannot be read.

mod calls;
mod check;
mod connection;
mod health;
mod message;
mod reflection;
mod request;
mod response;
mod timeout;
mod wire;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use check::{CheckService, Limits};
use portcullis_runtime::{
    drain::Drain,
    listen::{self, BindError, Incoming, at_least_one},
    readiness::Readiness,
    telemetry::{Edge, EdgeConnections},
};
use portcullis_types::{
    attributes::Attributes,
    decision::{Decision, Reason},
    duration::{HumanDuration, longer_than_zero, longer_than_zero_if_any},
};
use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::authorizer::Authorize;

/// The smallest limit in bytes: a check of Envoy has some hundred bytes.
const LEAST_BYTES: u32 = 1024;

/// The `grpc` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Grpc")]
pub struct GrpcConfig {
    /// Address to listen on, for plain-text HTTP/2.
    pub listen: SocketAddr,
    /// The largest `CheckRequest`, in bytes. A larger one is denied with `request_too_large`. The
    /// default fits the 60 KiB of headers that Envoy lets through by default, of which it sends the
    /// path twice. Raise it together with Envoy's `max_request_headers_kb` and with
    /// `with_request_body.max_request_bytes`. At least 1,024.
    #[serde(deserialize_with = "enough_bytes")]
    pub max_message_bytes: u32,
    /// Connections that may be open. Each worker thread of each Envoy that asks holds one. Where all
    /// are open and a new one comes, the one that has been idle for the longest is closed, first of
    /// all those that have never asked; if none is idle, the new one is refused. The limits of all
    /// edges together must stay below the number of files that the process may open (`ulimit -n`);
    /// if they do not, each edge gets a share, with a warning at the start.
    #[serde(deserialize_with = "at_least_one")]
    pub max_connections: u32,
    /// Checks that one connection may have under way. Envoy queues what exceeds it.
    #[serde(deserialize_with = "at_least_one")]
    pub max_concurrent_streams: u32,
    /// The largest set of HTTP/2 headers of a call, in bytes. The headers that are to be authorized
    /// are part of the message and do not count.
    #[serde(deserialize_with = "enough_bytes")]
    pub max_header_list_bytes: u32,
    /// Time for a new connection to send the preface of HTTP/2, and for a message to arrive once
    /// its call has begun.
    #[serde(deserialize_with = "longer_than_zero")]
    pub read_timeout: HumanDuration,
    /// How often a silent connection is asked for a sign of life.
    #[serde(deserialize_with = "longer_than_zero")]
    pub keepalive_interval: HumanDuration,
    /// Time for that sign of life, after which the connection is closed.
    #[serde(deserialize_with = "longer_than_zero")]
    pub keepalive_timeout: HumanDuration,
    /// How long a connection may last, a tenth more or less, so that clients come back to another
    /// replica. Calls that have begun are answered before it closes. Without it, connections last as
    /// long as their clients want; Envoy needs none, where it knows every replica and chooses one for
    /// each check.
    #[serde(deserialize_with = "longer_than_zero_if_any")]
    pub max_connection_age: Option<HumanDuration>,
    /// Whether to describe the service to tools such as `grpcurl`.
    pub reflection: bool,
}

/// The gRPC edge with its address open, before it serves.
#[derive(Debug)]
pub struct GrpcEdge {
    config: GrpcConfig,
    incoming: Incoming,
}

/// Time for peers to read their last answers and close, once all are written.
const LINGER: Duration = Duration::from_secs(1);

/// Reads a `CheckRequest` (`envoy.service.auth.v3`), a protobuf message without its gRPC prefix, into
/// what it asks about. For embedding and fuzzing; the edge does the same with each call.
///
/// The caller bounds the size of the message.
///
/// # Errors
/// The reason to deny when the message is not one, or has no attributes.
pub fn decode(message: &[u8]) -> Result<Attributes, Reason> {
    request::attributes(message).map_err(|(reason, _)| reason)
}

/// Writes a decision as a `CheckResponse`, without its gRPC prefix. For embedding and fuzzing; the edge
/// does the same with each answer.
#[must_use]
pub fn encode(decision: Decision) -> Vec<u8> {
    response::check_response(decision).encode_to_vec()
}

/// Opens the address.
///
/// # Errors
/// When it is taken, is not one of this machine, or needs more rights.
pub async fn bind(config: &GrpcConfig) -> Result<GrpcEdge, BindError> {
    let incoming = listen::bind(Edge::Grpc, config.listen, config.max_connections).await?;
    Ok(GrpcEdge { config: config.clone(), incoming })
}

// === impl GrpcConfig ===

fn enough_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0..LEAST_BYTES => Err(D::Error::custom(
            "must be at least 1024, or no question would be read; write bytes",
        )),
        bytes => Ok(bytes),
    }
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 9191)),
            max_connections: 1024,
            max_message_bytes: 192 * 1024,
            max_concurrent_streams: 1024,
            max_header_list_bytes: 16 * 1024,
            read_timeout: HumanDuration::from_millis(5_000),
            keepalive_interval: HumanDuration::from_millis(30_000),
            keepalive_timeout: HumanDuration::from_millis(10_000),
            max_connection_age: None,
            reflection: false,
        }
    }
}

// === impl GrpcEdge ===

impl GrpcEdge {
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

    /// Serves until the drain begins and every call under way is answered.
    pub async fn serve(self, authorizer: Arc<impl Authorize>, readiness: Readiness, drain: Drain) {
        let (serving, health) = health::pair(&readiness);
        let mut others = Routes::new(health);
        if self.config.reflection {
            others = reflection::add_to(others);
        }
        let limits = Limits {
            message_bytes: usize::try_from(self.config.max_message_bytes).unwrap_or(usize::MAX),
            read_timeout: self.config.read_timeout.get(),
        };
        let underway = TaskTracker::new();
        let service = CheckService::new(authorizer, limits, others, underway.clone());
        let answered = all_answered(drain.clone(), underway);
        let serve = async {
            tokio::select! {
                () = connection::serve(self.incoming, &self.config, service, drain.clone()) => {}
                () = answered => {}
            }
        };
        tokio::join!(serve, health::follow(serving, readiness, drain.clone()));
    }
}

/// Once the drain has begun: every call is answered, and peers had time to hang up. Those that have
/// not, because they never spoke or do not listen, are not waited for.
async fn all_answered(drain: Drain, underway: TaskTracker) {
    drain.stopping().await;
    underway.close();
    underway.wait().await;
    tokio::time::sleep(LINGER).await;
}

#[cfg(test)]
mod tests;
