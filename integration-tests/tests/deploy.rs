//! Tests of the files in `deploy`, without a cluster: each is parsed with its type, which rejects
//! unknown fields, and everything about Portcullis is compared with the binary.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports"
)]

mod backend;
mod binary;
mod compose;
mod configuration;
mod container_file;
mod documents;
mod envoy;
mod images;
mod istio;
mod kubernetes;
mod kustomize;
mod metrics;
mod pods;
mod postgres;
mod promql;
mod types;
