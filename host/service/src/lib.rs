//! Portcullis: external authorization for Envoy and Istio.
//!
//! One direction: an edge turns a protocol into [`attributes`], the authorizer turns them into a
//! [`decision`], the edge turns that back. Only `app` and the binary assume that the process is
//! theirs, so the library can be embedded.

pub use portcullis_revocation as revocation;
pub use portcullis_runtime as runtime;
pub use portcullis_types as types;

pub mod admin;
pub mod app;
pub mod authorizer;
pub mod cli;
pub mod config;
pub mod fetch;
pub mod grpc;
pub mod http;
mod http_api;
pub mod policy;
pub mod receiver;
pub mod token;
