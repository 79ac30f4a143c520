//! Writer of a [`Decision`] as an HTTP response.
//!
//! Envoy treats a response with too many headers as no response, and then the request passes where
//! the filter fails open. So all that is written is counted: a deny that is too large is answered
//! without its headers, an allow is denied.
//!
//! What the proxies make of it: Envoy takes 200 for an allow, and everything from 500 on for a failure
//! to answer, which lets the request pass where the filter fails open. The others take everything from
//! 200 to 299 for an allow; nginx passes 401 and 403 on and makes 500 of the rest. A header of an allow
//! reaches the upstream if the proxy is configured to copy it.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
};
use http_body_util::Full;
use portcullis_runtime::telemetry::RateLimitedLog;
use portcullis_types::{
    attributes::fold_alike,
    decision::{Allow, Decision, Deny, Header, Reason, Verdict},
};

use super::RequestFrom;
use crate::authorizer::Refusal;

/// Prefix of headers that control what Envoy does with the request. Only this file sets them.
const TO_ENVOY: &str = "x-envoy-auth-";
/// Envoy removes the request headers that this one lists.
const REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Envoy takes 100 headers of a response by default (`max_headers_count`), among them those that hyper
/// adds: `content-length`, `date` and, at the end, `connection`.
const MAX_HEADERS: usize = 90;
/// Envoy takes 60 KiB of them by default (`max_response_headers_kb`).
const MAX_HEADER_BYTES: usize = 60_000;
/// What the line of a header has besides name and value.
const PER_HEADER: usize = ": \r\n".len();

const TOO_LARGE: Refusal = (
    Reason::UnsafeDecision,
    "more than 90 headers, or 60000 bytes of them, in an answer over HTTP",
);
const TAKEN_BY_ENVOY: Refusal =
    (Reason::UnsafeDecision, "a header whose name begins with x-envoy-auth-");
const UNWRITABLE: Refusal = (Reason::InternalError, "a header that cannot be written");

/// How often a denial without headers is logged.
const LOG_PERIOD: Duration = Duration::from_mins(1);

/// A decision as this proxy understands it. `left_out` limits the lines about denials without headers.
pub(super) fn response(
    decision: Decision,
    proxy: RequestFrom,
    left_out: &RateLimitedLog,
) -> Result<Response<Full<Bytes>>, Refusal> {
    match decision.verdict {
        Verdict::Allow(allow) => allowed(&allow, proxy),
        Verdict::Deny(deny) => denied(deny, proxy, left_out),
    }
}

/// What is left if even a refusal cannot be written.
pub(super) fn last_resort(proxy: RequestFrom) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = denied_status(Reason::InternalError.status(), proxy);
    response
}

fn allowed(allow: &Allow, proxy: RequestFrom) -> Result<Response<Full<Bytes>>, Refusal> {
    if !allow.set_query_parameters.is_empty() || !allow.remove_query_parameters.is_empty() {
        // To let the request through unchanged would be to ignore what the policy asked for.
        return Err((Reason::UnsafeDecision, "the query cannot be changed over HTTP"));
    }
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    check_names(allow)?;
    for header in allow.response_headers.iter().chain(&allow.set_request_headers) {
        append(headers, header)?;
    }
    if proxy == RequestFrom::Envoy && !allow.remove_request_headers.is_empty() {
        let list = allow.remove_request_headers.join(",");
        headers.insert(REMOVE, HeaderValue::try_from(list).map_err(|_| UNWRITABLE)?);
    }
    if fits(headers) { Ok(response) } else { Err(TOO_LARGE) }
}

/// Whether Envoy takes a response with these headers.
fn fits(headers: &HeaderMap) -> bool {
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_HEADER);
    headers.len() <= MAX_HEADERS && bytes.sum::<usize>() <= MAX_HEADER_BYTES
}

/// Headers for the client share one list with those for the upstream: one under the name of a header
/// that is set or removed would take its place, and one to Envoy would change what is removed.
fn check_names(allow: &Allow) -> Result<(), Refusal> {
    let set = allow.set_request_headers.iter().map(|header| header.name.as_str());
    let changed = || set.clone().chain(allow.remove_request_headers.iter().map(String::as_str));
    let is_taken = |header: &Header| changed().any(|name| fold_alike(name, &header.name));
    if allow.response_headers.iter().any(is_taken) {
        return Err((
            Reason::UnsafeDecision,
            "a response header has the name of a request header that is set or removed",
        ));
    }
    let mut all = allow.response_headers.iter().chain(&allow.set_request_headers);
    if all.any(is_to_envoy) { Err(TAKEN_BY_ENVOY) } else { Ok(()) }
}

fn is_to_envoy(header: &Header) -> bool {
    header.name.get(..TO_ENVOY.len()).is_some_and(|begin| fold_alike(begin, TO_ENVOY))
}

fn denied(
    deny: Deny,
    proxy: RequestFrom,
    left_out: &RateLimitedLog,
) -> Result<Response<Full<Bytes>>, Refusal> {
    if deny.headers.iter().any(is_to_envoy) {
        return Err(TAKEN_BY_ENVOY);
    }
    let has_body = !deny.body.is_empty();
    let mut response = Response::new(Full::from(deny.body));
    *response.status_mut() = denied_status(deny.status, proxy);
    let headers = response.headers_mut();
    for header in &deny.headers {
        append(headers, header)?;
    }
    if !fits(headers) {
        if let Some(held_back) = left_out.admit("", LOG_PERIOD) {
            tracing::warn!(
                headers = headers.len(),
                held_back,
                "a denial has more headers than Envoy takes over HTTP; it is answered without them"
            );
        }
        headers.clear();
    }
    if has_body && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    Ok(response)
}

/// A status that this proxy takes for a deny, whatever else it is set to: this one, or 403.
fn denied_status(status: u16, proxy: RequestFrom) -> StatusCode {
    let is_deny = match proxy {
        RequestFrom::Envoy => (201..500).contains(&status),
        RequestFrom::XForwarded | RequestFrom::XOriginal => (300..600).contains(&status),
    };
    match StatusCode::from_u16(status) {
        Ok(code) if is_deny => code,
        _ => StatusCode::FORBIDDEN,
    }
}

fn append(headers: &mut HeaderMap, header: &Header) -> Result<(), Refusal> {
    let name = HeaderName::try_from(header.name.as_str()).map_err(|_| UNWRITABLE)?;
    let value = HeaderValue::try_from(header.value.as_str()).map_err(|_| UNWRITABLE)?;
    // These describe this very response, not the one that the policy has in mind.
    if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
        headers.append(name, value);
    }
    Ok(())
}
