//! Runtime services that every part of Portcullis uses: tasks and shutdown, readiness, listening,
//! file watching, clocks, backoff, TLS of clients, metrics and logs.

pub mod backoff;
pub mod boot_clock;
pub mod drain;
pub mod failpoint;
pub mod file_watch;
pub mod listen;
pub mod readiness;
pub mod telemetry;
pub mod tls;
