//! The size of a request after an allow has changed it: how many headers, and how many bytes of them.
//!
//! Envoy counts both once it has applied an answer, with the limits that it has for requests of clients,
//! and answers 500 without a word of why. So what the client sent counts here, with what is set beside it.

use portcullis_types::{
    attributes::{HeaderView, HttpAttributes},
    decision::Allow,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::UnsafeDecision;

/// How large a request may be after an allow has changed it. What Envoy would refuse is denied with
/// `unsafe_decision`. A request that does not grow is not measured, nor is one of nginx, Traefik or Caddy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestLimits {
    /// Headers, those of the client included, and method, scheme, host and path, which Envoy counts as
    /// headers: Envoy's `max_headers_count`, which is 100 unless it is set.
    #[serde(deserialize_with = "not_zero")]
    pub max_headers: u32,
    /// Bytes of the names and values of all of them: 1024 times Envoy's `max_request_headers_kb`. The
    /// default fits Envoy's own, 60, which Istio leaves. The shipped Envoy files have 24: write 24576 there.
    #[serde(deserialize_with = "not_zero")]
    pub max_header_bytes: u32,
}

/// A number of headers, and of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    headers: usize,
    bytes: usize,
}

/// What Envoy has as headers and Portcullis as attributes.
const PSEUDO: [&str; 4] = [":authority", ":method", ":path", ":scheme"];

/// Checks how large `http` is after `allow` has changed it.
///
/// # Errors
/// When Envoy would refuse it.
pub(in crate::authorizer) fn check(
    allow: &Allow,
    http: &HttpAttributes,
    limits: RequestLimits,
) -> Result<(), UnsafeDecision> {
    if http.header_view == HeaderView::ReadOnly {
        return Ok(());
    }
    let before = Size::of(http);
    let most = before.and(Size::of_changes(allow));
    if limits.are_kept(most, before) {
        return Ok(());
    }
    // Rarely reached: only now does it matter which headers of the client are gone.
    let is_gone = |name: &str| {
        allow.set_request_headers.iter().any(|header| header.name == name)
            || allow.remove_request_headers.iter().any(|removed| removed == name)
    };
    let gone = http.headers.iter().filter(|(name, _)| is_gone(name));
    let after = gone.fold(most, |size, (name, value)| size.without(name.len() + value.len()));
    if limits.are_kept(after, before) {
        return Ok(());
    }
    Err(UnsafeDecision::Request { headers: after.headers, bytes: after.bytes })
}

// === impl RequestLimits ===

impl RequestLimits {
    /// Whether a request of this size passes. One that has not grown has passed the proxy already.
    fn are_kept(self, after: Size, before: Size) -> bool {
        let is_kept = |limit: u32, after: usize, before: usize| {
            after <= before || u32::try_from(after).is_ok_and(|after| after <= limit)
        };
        is_kept(self.max_headers, after.headers, before.headers)
            && is_kept(self.max_header_bytes, after.bytes, before.bytes)
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { max_headers: 100, max_header_bytes: 60 * 1024 }
    }
}

// === impl Size ===

impl Size {
    /// The request as the client sent it, as far as it is shown.
    fn of(http: &HttpAttributes) -> Self {
        let attributes = [&http.host, &http.method, &http.path, &http.scheme];
        let bytes: usize = attributes.iter().map(|value| value.len()).sum();
        let names: usize = PSEUDO.iter().map(|name| name.len()).sum();
        Self {
            headers: http.headers.len() + PSEUDO.len(),
            bytes: http.headers.bytes() + bytes + names,
        }
    }

    /// What an allow adds at most.
    fn of_changes(allow: &Allow) -> Self {
        let headers = &allow.set_request_headers;
        let bytes = headers.iter().map(|header| header.name.len() + header.value.len());
        // Each has `=`, and `&` or `?` before it.
        let query =
            allow.set_query_parameters.iter().map(|(key, value)| key.len() + value.len() + 2);
        Self { headers: headers.len(), bytes: bytes.chain(query).sum() }
    }

    fn and(self, other: Self) -> Self {
        Self { headers: self.headers + other.headers, bytes: self.bytes + other.bytes }
    }

    /// Without one header of so many bytes.
    fn without(self, bytes: usize) -> Self {
        Self { headers: self.headers.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }
}

fn not_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(D::Error::custom("must be at least 1, or no request could be changed")),
        limit => Ok(limit),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_types::{attributes::Headers, decision::Header};

    use super::*;

    const LIMITS: RequestLimits = RequestLimits { max_headers: 10, max_header_bytes: 1_000 };

    /// A request with so many headers besides the four of each, each with a value of so many bytes.
    fn request(headers: usize, bytes: usize) -> HttpAttributes {
        let fields = (0..headers).map(|number| (format!("x-{number}"), "a".repeat(bytes)));
        HttpAttributes { headers: Headers::new(fields), ..HttpAttributes::default() }
    }

    fn setting(headers: &[(&str, usize)]) -> Allow {
        let header = |(name, bytes): &(&str, usize)| Header {
            name: (*name).to_owned(),
            value: "b".repeat(*bytes),
        };
        Allow { set_request_headers: headers.iter().map(header).collect(), ..Allow::default() }
    }

    #[test]
    fn headers_of_the_client_count_with_those_that_are_set() {
        let passes = |allow: &Allow, http| check(allow, &http, LIMITS).is_ok();
        assert!(passes(&setting(&[("y-1", 1)]), request(5, 1)));
        assert!(!passes(&setting(&[("y-1", 1)]), request(6, 1)));
        // In the place of one that is there, or of one that is removed.
        assert!(passes(&setting(&[("x-1", 1)]), request(6, 1)));
        let mut allow = setting(&[("y-1", 1)]);
        allow.remove_request_headers = vec!["x-1".to_owned(), "x-other".to_owned()];
        assert!(passes(&allow, request(6, 1)));
        let refused = check(&setting(&[("y-1", 1), ("y-2", 1)]), &request(6, 1), LIMITS);
        assert!(matches!(refused, Err(UnsafeDecision::Request { headers: 12, .. })));
    }

    #[test]
    fn so_do_their_bytes_and_the_query() {
        let names: usize = PSEUDO.iter().map(|name| name.len()).sum();
        // `x-0`, `y-1` and the four names.
        let left = 1_000 - names - "x-0".len() - "y-1".len();
        let passes = |allow: &Allow| check(allow, &request(1, left - 100), LIMITS).is_ok();
        assert!(passes(&setting(&[("y-1", 100)])));
        assert!(!passes(&setting(&[("y-1", 101)])));
        assert!(passes(&setting(&[("x-0", 500)])));
        let query = |bytes: usize| Allow {
            set_query_parameters: vec![("k".to_owned(), "v".repeat(bytes))],
            ..Allow::default()
        };
        assert!(passes(&query(100)));
        assert!(!passes(&query(101)));
    }

    #[test]
    fn a_request_that_does_not_grow_has_passed_the_proxy() {
        let http = request(50, 100);
        assert_eq!(check(&Allow::default(), &http, LIMITS), Ok(()));
        assert_eq!(check(&setting(&[("x-1", 100)]), &http, LIMITS), Ok(()));
        assert!(check(&setting(&[("x-1", 101)]), &http, LIMITS).is_err());
        let read_only = HttpAttributes { header_view: HeaderView::ReadOnly, ..http };
        assert_eq!(check(&setting(&[("y-1", 1)]), &read_only, LIMITS), Ok(()));
    }

    #[test]
    fn limits_of_zero_are_refused() {
        for settings in [r#"{"max_headers": 0}"#, r#"{"max_header_bytes": 0}"#, r#"{"a": 1}"#] {
            assert!(serde_json::from_str::<RequestLimits>(settings).is_err(), "{settings}");
        }
        assert_eq!(serde_json::from_str::<RequestLimits>("{}").unwrap(), RequestLimits::default());
    }
}
