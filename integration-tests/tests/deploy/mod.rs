//! Owns the tests of the files in `deploy`, without a cluster: each is read as what it is, fields that
//! its type does not have are refused, and whatever it says of Portcullis is compared with the binary.
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
