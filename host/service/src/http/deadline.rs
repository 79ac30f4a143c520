//! Deadline of an HTTP check: how much time the proxy gives for an answer.

use std::time::Duration;

use http::HeaderMap;

use super::{HttpConfig, RequestFrom};

/// The header in which Envoy states how long it waits, in milliseconds. It replaces that of a
/// client.
const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";

/// How long the proxy waits, from the head of its request on.
pub(super) fn deadline(headers: &HeaderMap, config: &HttpConfig) -> Duration {
    let configured = config.timeout.get();
    match config.request_from {
        RequestFrom::Envoy => {
            expected(headers).map_or(configured, |expected| expected.min(configured))
        }
        // Other proxies pass on what the client sent.
        RequestFrom::XForwarded | RequestFrom::XOriginal => configured,
    }
}

/// The shortest, should there be several.
fn expected(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(EXPECTED).iter();
    values.filter_map(|value| value.to_str().ok()?.parse().ok()).min().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use portcullis_types::duration::HumanDuration;

    use super::*;

    fn given(request_from: RequestFrom, values: &[&'static str]) -> Duration {
        let name = HeaderName::from_static(EXPECTED);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        let timeout = HumanDuration::from_millis(2_000);
        deadline(&headers, &HttpConfig { request_from, timeout, ..HttpConfig::default() })
    }

    #[test]
    fn envoy_can_shorten_what_is_configured() {
        for (values, expected) in [
            (vec![], 2_000),
            (vec!["200"], 200),
            (vec!["0"], 0),
            (vec!["5000"], 2_000),
            (vec!["300", "200", "400"], 200),
            (vec!["soon"], 2_000),
            (vec!["-1"], 2_000),
            (vec!["99999999999999999999999"], 2_000),
        ] {
            let given = given(RequestFrom::Envoy, &values);
            assert_eq!(given, Duration::from_millis(expected), "{values:?}");
        }
    }

    #[test]
    fn a_client_behind_another_proxy_cannot() {
        for proxy in [RequestFrom::XForwarded, RequestFrom::XOriginal] {
            assert_eq!(given(proxy, &["1"]), Duration::from_secs(2), "{proxy:?}");
        }
    }
}
