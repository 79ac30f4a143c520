//! Chaos tests: revocations, checks and faults run against real replicas, every event is recorded
//! with its times, and a pure checker finds missed revocations in the record.
//!
//! Any other failure in this crate fails the run: it panics with the output of the processes
//! involved.
#![expect(clippy::expect_used, reason = "a panic is how a run reports")]

pub mod checker;
pub mod cluster;
pub mod coverage;
pub mod endpoints;
pub mod fault;
pub mod figures;
pub mod history;
pub mod inject;
pub mod load;
pub mod moment;
pub mod plan;
pub mod primary;
pub mod propagation;
pub mod random;
pub mod report;
pub mod run;
pub mod setup;
pub mod site;
pub mod svg;
pub mod table;
pub mod workload;
