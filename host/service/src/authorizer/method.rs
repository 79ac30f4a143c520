//! Methods: what a request may have, and what the configuration may name.
//!
//! Any token is the method of some request. In the configuration, most tokens are a mistake that
//! leaves requests to the next route: `GET|POST`, `*` and `ANY` match none of the requests that they
//! are meant for.

/// Methods of RFC 9110 and RFC 5789. Two of them with `-` or `_` between are no method.
const COMMON: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Words for any method, which are the method of no request.
const WORDS: [&str; 2] = ["ALL", "ANY"];

/// `CONNECT` has no path that a route could match. `PRI` begins an HTTP/2 connection and is reserved
/// (RFC 9113 section 11.6).
const WITHOUT_ROUTE: [&str; 2] = ["CONNECT", "PRI"];

const REMEDY: &str = "list single methods in upper case, for example `[GET, POST]`, or leave \
                      `methods` out for any method";

/// What is wrong with the method of a request. Methods are case-sensitive (RFC 9110 section 9.1), but
/// some servers turn them into upper case, so one in lower case has two readings.
pub(super) fn wrong_in_request(method: &str) -> Option<&'static str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if method.is_empty() {
        Some("no method")
    } else if !method.bytes().all(is_token) {
        Some("method is not a token")
    } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        Some("method is not in upper case")
    } else {
        None
    }
}

/// What is wrong with a method of the configuration, and the remedy. The rules of the default policy
/// refuse the same.
pub(super) fn wrong_in_settings(method: &str) -> Option<String> {
    let upper = method.to_ascii_uppercase();
    let problem = if !is_one(&upper) {
        "is no method"
    } else if WORDS.contains(&upper.as_str()) {
        "stands for no other methods"
    } else if WITHOUT_ROUTE.contains(&upper.as_str()) {
        "is the method of no request that a route matches"
    } else if upper != method {
        return Some(format!("is not in upper case; write `{upper}`"));
    } else {
        return None;
    };
    Some(format!("{problem}; {REMEDY}"))
}

/// Whether a text in upper case names one method, as far as can be told.
fn is_one(upper: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let parts = || upper.split(['-', '_']);
    upper.starts_with(|first: char| first.is_ascii_uppercase())
        && upper.bytes().all(is_known)
        && !parts().any(str::is_empty)
        && (COMMON.contains(&upper) || !parts().all(|part| COMMON.contains(&part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_no_request_has_is_refused_with_the_remedy() {
        for (method, problem) in [
            ("", "is no method"),
            ("*", "is no method"),
            ("GET|POST", "is no method"),
            ("GET+POST", "is no method"),
            ("GET.*", "is no method"),
            ("GET,POST", "is no method"),
            ("GET/POST", "is no method"),
            ("GET POST", "is no method"),
            ("GET-POST", "is no method"),
            ("GET_POST_PUT", "is no method"),
            ("get-post", "is no method"),
            ("^GET$", "is no method"),
            ("!GET", "is no method"),
            ("-GET", "is no method"),
            ("GET-", "is no method"),
            ("~GET", "is no method"),
            ("GET ", "is no method"),
            ("\u{c9}", "is no method"),
            ("ANY", "stands for no other methods"),
            ("All", "stands for no other methods"),
            ("PRI", "is the method of no request"),
            ("CONNECT", "is the method of no request"),
        ] {
            let wrong = wrong_in_settings(method).unwrap();
            assert!(wrong.starts_with(problem), "{method}: {wrong}");
            assert!(wrong.ends_with("leave `methods` out for any method"), "{method}: {wrong}");
        }
        let wrong = wrong_in_settings("Get").unwrap();
        assert_eq!(wrong, "is not in upper case; write `GET`");
    }

    #[test]
    fn a_method_of_some_server_is_accepted() {
        for method in ["GET", "M-SEARCH", "VERSION-CONTROL", "MKCOL", "X_GET", "X1", "BCOPY"] {
            assert_eq!(wrong_in_settings(method), None, "{method}");
        }
    }

    #[test]
    fn a_request_may_have_any_token_in_upper_case() {
        for method in ["GET", "*", "GET|POST", "ANY", "!", "PRI"] {
            assert_eq!(wrong_in_request(method), None, "{method}");
        }
        for method in ["", "get", "GET ", "GET,POST", "G(ET", "\u{c9}"] {
            assert!(wrong_in_request(method).is_some(), "{method}");
        }
    }
}
