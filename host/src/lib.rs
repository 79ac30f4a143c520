//! Portcullis: external authorization for Envoy and Istio.
//!
//! One direction: an edge turns a protocol into [`attributes`], the authorizer turns them into a
//! [`decision`], the edge turns that back. Only `app` and the binary assume that the process is
//! theirs, so the library can be embedded.

pub mod admin;
pub mod app;
pub mod attributes;
pub mod authorizer;
pub mod blacklist;
pub mod boot_clock;
pub mod cli;
pub mod config;
pub mod decision;
pub mod drain;
pub mod duration;
pub mod failpoint;
pub mod file_watch;
pub mod grpc;
pub mod http;
pub mod json;
pub mod listen;
pub mod policy;
pub mod readiness;
pub mod secret;
pub mod telemetry;
pub mod timestamp;
pub mod token;
pub mod token_id;
