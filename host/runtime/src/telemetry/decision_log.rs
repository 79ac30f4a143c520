//! Decision log: samples the decisions, clips what clients choose, and hands each line to the sinks.
//!
//! A line never holds a token, a query, or the value of a header other than the request id.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{
    decision_sink::{DecisionLine, DecisionSink},
    log::Config,
    log_sink::LogSink,
};

/// Hands the line about a decision to every sink, for all denied and some of the allowed.
#[derive(Debug)]
pub struct DecisionLog {
    allowed_one_in: u64,
    allowed: AtomicU64,
    sinks: Vec<Box<dyn DecisionSink>>,
}

/// The longest logged path, since clients choose how long their paths are.
pub(super) const MAX_FIELD_BYTES: usize = 512;

/// The longest logged request id. A request id is a UUID, or not much longer.
const MAX_ID_BYTES: usize = 128;

// === impl DecisionLog ===

impl DecisionLog {
    /// A log that samples allowed decisions as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            allowed_one_in: u64::from(config.allowed_one_in),
            allowed: AtomicU64::default(),
            // Each kind of sink is registered here.
            sinks: vec![Box::new(LogSink)],
        }
    }

    /// Whether this decision is sampled.
    fn wants(&self, is_allowed: bool) -> bool {
        if is_allowed {
            self.allowed_one_in > 0
                && self.allowed.fetch_add(1, Relaxed).is_multiple_of(self.allowed_one_in)
        } else {
            true
        }
    }

    /// Hands `line` to the sinks if a decision with this result is sampled.
    pub fn write<'a>(&self, is_allowed: bool, line: impl FnOnce() -> DecisionLine<'a>) {
        if !self.wants(is_allowed) || !self.sinks.iter().any(|sink| sink.is_on()) {
            return;
        }
        let line = clipped(line());
        for sink in &self.sinks {
            sink.write(is_allowed, &line);
        }
    }
}

fn clipped(line: DecisionLine<'_>) -> DecisionLine<'_> {
    DecisionLine {
        detail: line.detail.map(clip),
        request_id: line.request_id.and_then(shown_id),
        method: clip(line.method),
        host: clip(line.host),
        path: clip(line.path.split(['?', '#']).next().unwrap_or_default()),
        ..line
    }
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FIELD_BYTES)]
}

/// An id that can be searched for in the proxy's log.
pub(super) fn shown_id(id: &str) -> Option<&str> {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic());
    let shown = &id[..id.floor_char_boundary(MAX_ID_BYTES)];
    (is_plain && !id.is_empty()).then_some(shown)
}
