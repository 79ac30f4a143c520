//! Tests with a real Envoy.
//!
//! `facts` is about Envoy alone, in front of a stub: behaviour that Portcullis relies on. All other
//! modules have Portcullis behind Envoy.

mod bodies;
mod connections;
mod cors;
mod credentials;
mod drain;
mod facts;
mod fail_closed;
mod grpc_traffic;
mod hardening;
mod hosts;
mod http_edge;
mod identity;
mod isolation;
mod paths;
mod policies;
mod raw_headers;
mod revocation;
mod sender_constrained;
mod tokens;

use std::net::SocketAddr;

use portcullis_integration_tests::{
    client::{Request, Response},
    envoy::{self, Envoy},
    portcullis::{self, Portcullis},
    upstream::{Received, Upstream},
};

/// Envoy between a client and an upstream, with checks by Portcullis.
pub(crate) struct Gate {
    pub(crate) envoy: Envoy,
    pub(crate) portcullis: Portcullis,
    upstream: Upstream,
}

impl Gate {
    /// Envoy with the default configuration.
    pub(crate) async fn new(config: &portcullis::Config) -> Self {
        Self::with(config, |envoy| envoy).await
    }

    /// Envoy with another configuration.
    pub(crate) async fn with(
        config: &portcullis::Config,
        configure: impl FnOnce(envoy::EnvoyConfig) -> envoy::EnvoyConfig,
    ) -> Self {
        let (portcullis, upstream) = (Portcullis::start(config).await, Upstream::start().await);
        let grpc = portcullis.addresses().grpc;
        let envoy = configure(envoy::EnvoyConfig::grpc(&[grpc], upstream.address()));
        Self { envoy: Envoy::start(&envoy).await, portcullis, upstream }
    }

    /// The address for clients.
    fn address(&self) -> SocketAddr {
        self.envoy.http()
    }

    /// Sends a request through Envoy.
    pub(crate) async fn send(&self, request: Request) -> Response {
        request.send(self.address()).await
    }

    /// Sends a request that must pass, and returns it as the upstream received it.
    pub(crate) async fn pass(&self, request: Request) -> Received {
        Received::from_response(&self.send(request).await)
    }

    /// Sends a request that must be refused with `status`, and returns the response.
    pub(crate) async fn refuse(&self, request: Request, status: u16) -> Response {
        let before = self.upstream.requests();
        let response = self.send(request).await;
        assert_eq!(response.status, status, "{}", response.text());
        assert_eq!(self.upstream.requests(), before, "a refused request reached the upstream");
        response
    }
}
