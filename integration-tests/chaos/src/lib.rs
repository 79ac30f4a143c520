//! Owns the checker of histories: revokers, checks and faults run against real replicas, everything
//! is written down with its times, and a pure judge says whether a revocation was missed.
//!
//! Whatever goes wrong in here besides is a failed run, so it panics, with the output of the
//! processes involved.
#![expect(clippy::expect_used, reason = "a panic is how a run reports")]

pub mod checker;
pub mod cluster;
pub mod fault;
pub mod figures;
pub mod history;
pub mod inject;
pub mod plan;
pub mod propagation;
pub mod random;
pub mod report;
pub mod run;
pub mod svg;
pub mod workload;
