//! Owns how much time the proxy gives for an answer.

use std::time::Duration;

use http::HeaderMap;

use super::{Config, RequestFrom};

/// In which Envoy says how long it waits, in milliseconds. It replaces what a client sent.
const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";

/// How long the proxy waits, from the head of its request on.
pub(super) fn deadline(headers: &HeaderMap, config: &Config) -> Duration {
    let configured = config.timeout.get();
    match config.request_from {
        RequestFrom::Envoy => expected(headers).map_or(configured, |said| said.min(configured)),
        // From other proxies this is the client's word.
        RequestFrom::XForwarded | RequestFrom::XOriginal => configured,
    }
}

/// The shortest, should there be several.
fn expected(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get_all(EXPECTED).iter();
    said.filter_map(|value| value.to_str().ok()?.parse().ok()).min().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::duration::HumanDuration;

    fn given(request_from: RequestFrom, said: &[&'static str]) -> Duration {
        let name = HeaderName::from_static(EXPECTED);
        let mut headers = HeaderMap::new();
        for value in said {
            headers.append(&name, HeaderValue::from_static(value));
        }
        let timeout = HumanDuration::from_millis(2_000);
        deadline(&headers, &Config { request_from, timeout, ..Config::default() })
    }

    #[test]
    fn envoy_can_shorten_what_is_configured() {
        for (said, expected) in [
            (vec![], 2_000),
            (vec!["200"], 200),
            (vec!["0"], 0),
            (vec!["5000"], 2_000),
            (vec!["300", "200", "400"], 200),
            (vec!["soon"], 2_000),
            (vec!["-1"], 2_000),
            (vec!["99999999999999999999999"], 2_000),
        ] {
            let given = given(RequestFrom::Envoy, &said);
            assert_eq!(given, Duration::from_millis(expected), "{said:?}");
        }
    }

    #[test]
    fn a_client_behind_another_proxy_cannot() {
        for proxy in [RequestFrom::XForwarded, RequestFrom::XOriginal] {
            assert_eq!(given(proxy, &["1"]), Duration::from_secs(2), "{proxy:?}");
        }
    }
}
