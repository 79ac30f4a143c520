//! Tests of the service from outside: the real binary, its command line, its ports, its signals and
//! the policies that are handed to it.
//!
//! Nothing here may reach into the library; a test that wants to belongs beside the code.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test reports"
)]

mod check;
mod process;
#[path = "../../src/grpc/response/readable.rs"]
mod readable;
mod structure;

mod answers;
mod cli;
mod connections;
mod cors;
mod credentials;
mod dev;
mod drain;
mod forwarded;
mod frames;
mod hostile;
mod inert;
mod inputs;
mod isolation;
mod issuers;
mod keys;
mod log;
mod metrics;
mod process_end;
mod raw_guest;
mod reading;
mod receiver;
mod refused;
mod revoke;
mod routes;
mod sender_constrained;
mod swap;
