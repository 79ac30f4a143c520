//! Harness of the integration tests: Portcullis, Envoy, an upstream, the services that revocations
//! come through, tokens and clients.
//!
//! It knows Portcullis only from outside: a binary, a configuration file, addresses. Any failure in
//! the harness fails the test: it panics with the output of the processes involved.
#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test reports")]

pub mod admin;
pub mod client;
pub mod envoy;
pub mod eventually;
pub mod grpc_client;
pub mod http2;
pub mod http_stub;
pub mod issuer;
pub mod mtls;
pub mod places;
pub mod portcullis;
pub mod ports;
pub mod process;
pub mod publisher;
pub mod services;
pub mod stub;
pub mod token;
pub mod undisturbed;
pub mod upstream;
pub mod wall_clock;
pub mod wire;
