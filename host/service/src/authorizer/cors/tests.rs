//! Tests of CORS: what is a preflight, which settings are refused, and what answers depend on.

use portcullis_types::attributes::{Body, Headers};
use proptest::{prelude::*, sample::select};
use serde_json::json;

use super::*;

fn options(headers: &[(&str, &str)]) -> HttpAttributes {
    let owned = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    HttpAttributes {
        method: "OPTIONS".to_owned(),
        headers: Headers::new(owned),
        ..HttpAttributes::default()
    }
}

const ORIGIN: (&str, &str) = ("origin", "https://shop.test");
const METHOD: (&str, &str) = ("access-control-request-method", "PUT");

#[test]
fn what_browsers_send_is_a_preflight() {
    let asked = Some(PreflightRequest { origin: "https://shop.test", method: "PUT" });
    let names = |value| [ORIGIN, METHOD, ("access-control-request-headers", value)];
    assert_eq!(super::asked(&options(&[ORIGIN, METHOD])), asked);
    assert_eq!(super::asked(&options(&names("authorization,content-type"))), asked);
    assert_eq!(super::asked(&options(&names("X-A, x_b"))), asked);
    let others = [ORIGIN, METHOD, ("user-agent", "b"), ("accept", "*/*"), ("content-length", "0")];
    assert_eq!(super::asked(&options(&others)), asked);
    for origin in ["null", "http://127.0.0.1:8080", "https://[::1]", "moz-extension://0a-b"] {
        let http = options(&[("origin", origin), METHOD]);
        assert_eq!(super::asked(&http), Some(PreflightRequest { origin, method: "PUT" }));
    }
}

#[test]
fn what_no_browser_sends_is_none() {
    let method = |value| vec![ORIGIN, ("access-control-request-method", value)];
    let origin = |value| vec![("origin", value), METHOD];
    let names = |value| vec![ORIGIN, METHOD, ("access-control-request-headers", value)];
    let with = |name, value| vec![ORIGIN, METHOD, (name, value)];
    let mut cases = vec![vec![ORIGIN], vec![METHOD], vec![], with("origin", "https://shop.test")];
    cases.extend(
        ["", "x", "*", "P*", "put", "PuT", "PUT,GET", "P T", "TRACE", "CONNECT", "É"].map(method),
    );
    cases.extend(
        [
            "",
            "x",
            "*",
            "https://",
            "shop.test",
            "https://shop.test/",
            "https://shop.test:443",
            "HTTPS://shop.test",
            "https://Shop.test",
            "https://u@shop.test",
            "https://shop.test,https://evil.test",
            "https://shop.test https://evil.test",
            "https://a b",
            "file:///etc",
        ]
        .map(origin),
    );
    cases.extend(["", ",", "a,", "a b", "a:b", "a,,b", "(a)"].map(names));
    cases.push(with("access-control-request-method", "PUT"));
    for name in [
        "authorization",
        "cookie",
        "content-type",
        "content.type",
        "content-encoding",
        "expect",
        "proxy-authorization",
        "transfer-encoding",
        "transfer_encoding",
        "upgrade",
        "x-http-method-override",
        "X-HTTP-Method-Override",
        "x_http_method_override",
        "x-http_method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x_original_url",
        "x-rewrite-url",
        "x-original-host",
    ] {
        cases.extend([with(name, "DELETE"), with(name, "")]);
    }
    cases.extend(["1", "", "00", "0, 5"].map(|length| with("content-length", length)));
    for case in cases {
        assert_eq!(super::asked(&options(&case)), None, "{case:?}");
    }
    for method in ["GET", "options", "OPTIONSS", ""] {
        let http = HttpAttributes { method: method.to_owned(), ..options(&[ORIGIN, METHOD]) };
        assert_eq!(super::asked(&http), None, "{method}");
    }
    for (bytes, truncated) in [(b"hello".to_vec(), false), (Vec::new(), true)] {
        let body = Some(Body { bytes, truncated });
        let http = HttpAttributes { body, ..options(&[ORIGIN, METHOD]) };
        assert_eq!(super::asked(&http), None, "{truncated}");
    }
}

#[test]
fn what_reaches_the_upstream_has_only_headers_of_browsers_and_proxies() {
    let usual = |proxy_headers: &[&str], name: &str| {
        let settings = json!({"preflight": "forward", "proxy_headers": proxy_headers});
        let cors = Cors::new(serde_json::from_value(settings).unwrap());
        let http = options(&[ORIGIN, METHOD, (name, "v")]);
        assert!(super::asked(&http).is_some(), "{name}");
        cors.is_usual(&http)
    };
    for name in ["x-forwarded-for", "User-Agent", "sec-fetch-mode", "x-request-id"] {
        assert!(usual(&[], name), "{name}");
    }
    for name in ["x-api-key", "x-user-id", "x-forwarded-user", "x-edge", "if-match"] {
        assert!(!usual(&[], name), "{name}");
    }
    assert!(usual(&["X-Edge"], "x-edge") && !usual(&["x-edge"], "x-edges"));
}

/// Header fields of all kinds, good and bad, in any number.
fn field() -> impl Strategy<Value = (String, String)> {
    let name = select(vec![
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
        "content-length",
        "cookie",
        "authorization",
        "transfer-encoding",
        "x-http-method-override",
        "x_original_url",
        "X-Rewrite_Url",
        "accept",
        "x-other",
    ]);
    let value = prop_oneof![
        select(vec![
            "https://shop.test",
            "null",
            "PUT",
            "delete",
            "0",
            "5",
            "x-a,x-b",
            "",
            "https://Shop.test/",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    (name.prop_map(str::to_owned), value)
}

proptest! {
    #[test]
    fn whatever_is_a_preflight_can_be_produced_by_a_browser(
        fields in prop::collection::vec(field(), 0..3),
        usual in any::<bool>(),
        body in prop::option::of((prop::collection::vec(any::<u8>(), 0..3), any::<bool>())),
    ) {
        let usual = if usual { vec![ORIGIN, METHOD] } else { Vec::new() };
        let mut http = options(&usual);
        for (name, value) in &fields {
            http.headers.push(name, value);
        }
        http.body = body.map(|(bytes, truncated)| Body { bytes, truncated });
        if let Some(asked) = super::asked(&http) {
            let all = |name: &str| http.headers.iter().filter(|(n, _)| *n == name).count();
            prop_assert_eq!((all("origin"), all("access-control-request-method")), (1, 1));
            prop_assert!(all("access-control-request-headers") <= 1);
            for (name, value) in http.headers.iter() {
                let name = name.replace('_', "-");
                let is_never_sent = ["cookie", "authorization", "transfer-encoding"]
                    .contains(&name.as_str()) || name.contains("override") || name.ends_with("-url");
                prop_assert!(!is_never_sent, "{}", name);
                prop_assert!(name != "content-length" || value == "0");
            }
            prop_assert!(http.body.as_ref().is_none_or(|b| b.bytes.is_empty() && !b.truncated));
            prop_assert!(asked.origin == "null" || asked.origin.contains("://"));
            prop_assert!(!asked.method.is_empty());
            prop_assert!(asked.method.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_lowercase()));
        }
    }

    #[test]
    fn the_origin_of_every_page_is_one(
        scheme in "https?",
        host in "[a-zA-Z0-9]{1,8}(\\.[a-z]{2,5}){0,2}|\\[[0-9a-f]{1,4}::[0-9a-f]{1,4}\\]",
        port in prop::option::of(any::<u16>()),
        path in "[a-z/?#]{0,5}",
    ) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let Ok(url) = url::Url::parse(&format!("{scheme}://{host}{port}/{path}")) else {
            return Ok(());
        };
        let origin = url.origin().ascii_serialization();
        prop_assert!(is_origin(&origin), "{}", origin);
        prop_assert_eq!(canonical_origin(&origin), Some(origin.clone()));
        serde_json::from_value::<CorsConfig>(json!({"allowed_origins": [origin]})).unwrap();
    }
}

fn refusal(settings: &serde_json::Value) -> Option<String> {
    let config = match serde_json::from_value::<CorsConfig>(settings.clone()) {
        Ok(config) => config,
        Err(error) => return Some(error.to_string()),
    };
    config.check_written(settings).err().map(|error| error.to_string())
}

#[test]
fn an_origin_that_no_browser_sends_is_refused_with_the_remedy() {
    for (origin, remedy) in [
        ("*", "list every origin"),
        ("null", "sandboxed"),
        ("https://Shop.test", "write `https://shop.test`"),
        ("HTTPS://shop.test", "write `https://shop.test`"),
        ("https://shop.test/", "write `https://shop.test`"),
        ("https://shop.test/app", "write `https://shop.test`"),
        ("https://shop.test:443", "write `https://shop.test`"),
        ("http://shop.test:80", "write `http://shop.test`"),
        ("https://shop.test:08443", "write `https://shop.test:8443`"),
        ("https://bücher.test", "write `https://xn--bcher-kva.test`"),
        ("https://[0:0:0:0:0:0:0:1]", "write `https://[::1]`"),
        ("http://127.1", "write `http://127.0.0.1`"),
        (" https://shop.test", "write `https://shop.test`"),
        ("https://shop.test?", "write `https://shop.test`"),
        ("https://user:hush@shop.test", "write `https://shop.test`"),
        ("chrome-extension://abc/", "write `chrome-extension://abc`"),
        ("https://*.shop.test", "such as https://app.example.com"),
        ("wss://shop.test", "such as https://app.example.com"),
        ("file:///app", "such as https://app.example.com"),
        ("shop.test", "such as https://app.example.com"),
        ("//shop.test", "such as https://app.example.com"),
        ("https://", "such as https://app.example.com"),
        ("", "such as https://app.example.com"),
    ] {
        let refused = refusal(&json!({"allowed_origins": [origin]}));
        let refused = refused.unwrap_or_else(|| panic!("{origin} is accepted"));
        assert!(refused.contains(remedy), "{origin}: {refused}");
        assert!(!refused.contains("hush"), "{refused}");
    }
    for good in
        ["https://shop.test", "http://localhost:3000", "https://shop.test.", "app://localhost"]
    {
        assert_eq!(refusal(&json!({"allowed_origins": [good]})), None, "{good}");
    }
}

#[test]
fn settings_that_no_browser_or_no_other_setting_has_a_use_for_are_refused() {
    let with = |key: &str, value: serde_json::Value| json!({"allowed_origins": ["https://shop.test"], key: value});
    for method in ["*", "put", "TRACE", "CONNECT", "", "A B", "GET|POST", "ANY", "PRI"] {
        assert!(refusal(&with("allowed_methods", json!([method]))).is_some(), "{method}");
    }
    for name in ["*", "cookie", "Cookie", "sec-fetch-mode", "origin", "", "a b", "a,b"] {
        assert!(refusal(&with("allowed_headers", json!([name]))).is_some(), "{name}");
    }
    assert!(refusal(&with("exposed_headers", json!(["set-cookie"]))).is_some());
    assert!(refusal(&with("max_age", json!("1500ms"))).is_some());
    assert!(refusal(&with("max_age", json!("25h"))).is_some());
    assert!(refusal(&with("max_age", json!("24h"))).is_none());
    for (settings, key) in [
        (json!({"preflight": "answer"}), "cors.preflight"),
        (json!({"max_age": "1h"}), "cors.max_age"),
        (json!({"allow_credentials": false}), "cors.allow_credentials"),
        (json!({"allowed_origins": [], "exposed_headers": []}), "cors.exposed_headers"),
        (json!({"preflight": "forward", "max_age": "1h"}), "cors.max_age"),
        (
            json!({"preflight": "deny", "allowed_origins": ["https://a"], "allowed_methods": []}),
            "cors.allowed_methods",
        ),
    ] {
        let refused = refusal(&settings);
        let named = refused.as_ref().is_some_and(|refused| refused.contains(key));
        assert!(named, "{settings}: {refused:?}");
    }
    for settings in [
        json!({}),
        json!({"preflight": "deny"}),
        json!({"preflight": "strict", "allowed_origins": ["https://a"], "allow_credentials": false}),
        with("allowed_headers", json!(["X-A"])),
    ] {
        assert_eq!(refusal(&settings), None, "{settings}");
    }
}

#[test]
fn the_former_name_of_forward_is_read() {
    let config: CorsConfig = serde_json::from_value(json!({"preflight": "strict"})).unwrap();
    assert_eq!(config.preflight, Preflight::Forward);
}

#[test]
fn what_depends_on_the_origin_says_so_once() {
    let vary = |own: &[&str]| {
        let header = |value: &&str| Header { name: "vary".to_owned(), value: (*value).to_owned() };
        super::vary(&own.iter().map(header).collect::<Vec<_>>())
    };
    assert_eq!(vary(&[]), "origin");
    assert_eq!(vary(&["accept-language", "cookie"]), "accept-language, cookie, origin");
    assert_eq!(vary(&["Accept, Origin"]), "Accept, Origin");
}
