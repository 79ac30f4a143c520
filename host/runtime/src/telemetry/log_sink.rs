//! Decision sink of the process log: one event of the level `info` for each line.

use tracing::Level;

use super::{
    decision_sink::{DecisionLine, DecisionSink},
    log_filter::DECISION,
};

/// Writes lines to the log of the process. `decision=off` in `log.filter` turns it off.
#[derive(Debug)]
pub(super) struct LogSink;

impl DecisionSink for LogSink {
    fn is_on(&self) -> bool {
        tracing::enabled!(target: DECISION, Level::INFO)
    }

    fn write(&self, is_allowed: bool, line: &DecisionLine<'_>) {
        tracing::info!(
            target: DECISION,
            result = if is_allowed { "allow" } else { "deny" },
            reason = line.reason,
            detail = line.detail,
            route = line.route,
            revision = line.revision,
            request_id = line.request_id,
            method = line.method,
            host = line.host,
            path = line.path,
            status = line.status,
            latency_us = u64::try_from(line.latency.as_micros()).unwrap_or(u64::MAX),
        );
    }
}
