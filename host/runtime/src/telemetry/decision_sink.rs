//! Decision sink: what the decision log needs of each place that its lines go to. `decision_log.rs`
//! registers the kinds.

use std::{fmt, time::Duration};

/// The content of the line about a decision. A sink gets it with texts that are clipped.
#[derive(Debug, Clone, Copy)]
pub struct DecisionLine<'a> {
    /// The stable reason code.
    pub reason: &'a str,
    /// A more specific reason; never a token or a token id.
    pub detail: Option<&'a str>,
    /// The route that matched.
    pub route: Option<&'a str>,
    /// The digest of the policy revision that was evaluated.
    pub revision: Option<&'a str>,
    /// The request's id, `x-request-id`, as the client or the proxy chose it.
    pub request_id: Option<&'a str>,
    /// HTTP method.
    pub method: &'a str,
    /// The authority of the request.
    pub host: &'a str,
    /// The path; the log cuts a query off, in case there is one.
    pub path: &'a str,
    /// The status of a deny.
    pub status: Option<u16>,
    /// How long the answer took.
    pub latency: Duration,
}

/// A place that lines about decisions go to. Its methods run while a request waits, so they must not
/// block.
pub(super) trait DecisionSink: fmt::Debug + Send + Sync {
    /// Whether lines are wanted at all. It is asked before a line is made.
    fn is_on(&self) -> bool;

    /// Takes the line about an allow or a deny. A sink that is off ignores it.
    fn write(&self, is_allowed: bool, line: &DecisionLine<'_>);
}
