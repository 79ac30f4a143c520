//! Headers of preflights: what browsers send, what proxies add on the way, and what neither does.
//!
//! None of the usual ones authenticates a caller or announces a body. `x-forwarded-user`,
//! `cf-access-jwt-assertion`, `sec-websocket-protocol` and `x-envoy-auth-*` do or may, so prefixes
//! are narrow.

use portcullis_types::attributes::fold_alike;

/// What no browser adds to a preflight, besides what overrides the request: credentials, and what
/// announces a body. A length of zero may come from a proxy.
const NEVER_SENT: [&str; 14] = [
    "authorization",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "cookie2",
    "dpop",
    "expect",
    "proxy-authorization",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What browsers send with a preflight. A length is there if it is zero, and `host` where a proxy shows it.
const OF_BROWSERS: [&str; 20] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-local-network",
    "access-control-request-method",
    "access-control-request-private-network",
    "cache-control",
    "connection",
    "content-length",
    "dnt",
    "host",
    "keep-alive",
    "origin",
    "pragma",
    "priority",
    "referer",
    "sec-gpc",
    "sec-purpose",
    "user-agent",
];

/// What proxies add to each request: who sent it, by which way, and as part of which trace.
const OF_PROXIES: [&str; 33] = [
    "b3",
    "cdn-loop",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ipcountry",
    "cf-ray",
    "cf-visitor",
    "fastly-client-ip",
    "forwarded",
    "te",
    "traceparent",
    "tracestate",
    "true-client-ip",
    "via",
    "x-amzn-trace-id",
    "x-client-ip",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-forwarded",
    "x-forwarded-by",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-ot-span-context",
    "x-real-ip",
    "x-request-id",
    "x-scheme",
];

/// Beginnings of what both send.
const BEGINNINGS: [&str; 5] = ["sec-ch-", "sec-fetch-", "x-b3-", "x-datadog-", "x-envoy-"];

/// What begins like this and is not Envoy's alone to set.
const NOT_USUAL: &str = "x-envoy-auth-";

/// Whether a server may take `name` for a header that no preflight has.
pub(super) fn is_never_sent(name: &str) -> bool {
    NEVER_SENT.iter().any(|never| fold_alike(name, never))
}

/// Whether a browser or a proxy sends the header of this name, in lower case, with any preflight.
pub(super) fn is_usual(name: &str) -> bool {
    let begins = |beginning: &&str| name.starts_with(*beginning);
    OF_BROWSERS.contains(&name)
        || OF_PROXIES.contains(&name)
        || BEGINNINGS.iter().any(begins) && !name.starts_with(NOT_USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_authenticates_or_tells_of_a_body_is_not_usual() {
        for name in [
            "authorization",
            "content-type",
            "cookie",
            "expect",
            "x-api-key",
            "x-auth-token",
            "x-amz-security-token",
            "x-csrf-token",
            "x-forwarded-user",
            "x-forwarded-email",
            "x-forwarded-access-token",
            "x-forwarded-client-cert",
            "cf-access-jwt-assertion",
            "sec-websocket-protocol",
            "x-envoy-auth-partial-body",
            "if-match",
            "range",
            "baggage",
            "x-request.id",
            "x_request_id",
            "",
        ] {
            assert!(!is_usual(name), "{name}");
        }
    }

    #[test]
    fn what_browsers_and_proxies_send_is_usual() {
        for name in [
            "origin",
            "sec-fetch-mode",
            "sec-ch-ua-platform",
            "x-forwarded-for",
            "x-request-id",
            "x-envoy-external-address",
            "x-b3-traceid",
            "traceparent",
            "cf-ray",
        ] {
            assert!(is_usual(name), "{name}");
        }
    }
}
