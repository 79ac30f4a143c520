//! Telemetry: metrics and log lines.
//!
//! It sits below everything that it reports on, so it takes plain values and knows neither
//! decisions nor policies. It must never see a token, a token id or a header value.

mod connections;
mod decision_log;
mod decision_sink;
mod exposition;
mod feed;
mod histogram;
mod keys;
pub mod log;
mod log_filter;
mod log_limit;
mod log_sink;
pub mod log_writer;
mod metrics;
mod policy;
mod postgres;
mod redis;
mod relay;
mod reports;
mod shards;

pub use connections::{ConnectionMetrics, Edge, EdgeConnections, Refusal};
pub use decision_log::DecisionLog;
pub use decision_sink::DecisionLine;
pub use feed::{FeedMetrics, FeedReading, Received};
pub use keys::{IssuerKeyMetrics, KeyMetrics};
pub use log::Config as LogConfig;
pub use log_limit::RateLimitedLog;
pub use log_writer::{DroppedLines, LogThread, LogWriter};
pub use metrics::{EncodeError, Event, InFlight, Metrics, Observation};
pub use policy::{Outcome, PolicyMetrics};
pub use postgres::{Notified, PostgresMetrics};
pub use relay::{RelayCounts, RelayMetrics};
pub use reports::{ReportMetrics, ReportResult};

pub use self::redis::{Lookup, RedisMetrics};
