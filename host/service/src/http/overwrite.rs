//! Request headers of a client that a proxy cannot be asked to remove or to overwrite.
//!
//! Envoy removes what an answer lists. nginx, Traefik and Caddy take over only what their own
//! configuration names; whatever else a client sent reaches the upstream, the name of a user included.

use portcullis_types::{
    attributes::{Attributes, fold_alike},
    decision::{Decision, Reason, Verdict},
};

use super::{HttpConfig, RequestFrom};
use crate::authorizer::Refusal;

const LEFT: Refusal = (
    Reason::MalformedRequest,
    "the client sent a header that the answer sets or removes; see http.proxy_overwrites",
);

/// Refuses an allow after which a header of the client's would reach the upstream in place of what
/// the decision says.
pub(super) fn check(
    asked: &Attributes,
    decision: &Decision,
    config: &HttpConfig,
) -> Result<(), Refusal> {
    let (Some(http), Verdict::Allow(allow)) = (&asked.http, &decision.verdict) else {
        return Ok(());
    };
    if config.request_from == RequestFrom::Envoy {
        return Ok(());
    }
    let set = allow.set_request_headers.iter().map(|header| header.name.as_str());
    let changed = || set.clone().chain(allow.remove_request_headers.iter().map(String::as_str));
    let is_left = |sent: &str| {
        changed().any(|name| fold_alike(name, sent))
            && !config.proxy_overwrites.iter().any(|overwritten| overwritten == sent)
    };
    if http.headers.iter().any(|(sent, _)| is_left(sent)) { Err(LEFT) } else { Ok(()) }
}
