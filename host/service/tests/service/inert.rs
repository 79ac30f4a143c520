//! Tests of routes that can never apply, of parts of them, and of settings that deny every request:
//! `check-config` refuses each with the remedy.

use serde_json::{Value, json};

use crate::process::{Finished, Folder};

/// A route with this match, and one for the rest.
fn check_match(matches: &Value) -> Finished {
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = json!([
        {"name": "admin", "match": matches, "token": "required", "allow_without_policy": true},
        {"name": "rest", "token": "ignored", "allow_without_policy": true},
    ]);
    folder.check_config(&config)
}

#[test]
fn what_no_request_matches_is_refused_with_route_key_and_remedy() {
    for (key, pattern, remedy) in [
        ("hosts", "admin.test:8443", "hosts.port: match"),
        ("hosts", "admin.test.", "write `admin.test`"),
        ("hosts", "https://admin.test", "without scheme"),
        ("hosts", "::1", "write `[::1]`"),
        ("hosts", "/admin", "without scheme"),
        ("hosts", "127.1", "IPv4"),
        ("paths", "/caf%C3%A9/*", "`é`"),
        ("paths", "/a%20b/*", "write ` `"),
        ("paths", "admin/*", "write `/admin/*`"),
        ("paths", "//admin/*", "write one slash"),
        ("paths", "/admin/../x", "dot segment"),
        ("paths", "/admin;x", "`semicolon`"),
        ("paths", "/admin?x=1", "`%3F`"),
        ("paths", "/admin/{id}", "braces"),
        ("paths", "/a\\b", "`backslash`"),
        ("not_paths", "/a%2Fb", "`encoded_slash`"),
        ("not_paths", "admin", "write `/admin`"),
        ("methods", "GET,POST", "[GET, POST]"),
        ("methods", "GET ", "[GET, POST]"),
        ("methods", "", "[GET, POST]"),
        ("methods", "GET|POST", "[GET, POST]"),
        ("methods", "GET+POST", "[GET, POST]"),
        ("methods", "GET-POST", "[GET, POST]"),
        ("methods", "GET.*", "[GET, POST]"),
        ("methods", "*", "leave `methods` out"),
        ("methods", "ANY", "leave `methods` out"),
        ("methods", "all", "leave `methods` out"),
        ("methods", "PRI", "leave `methods` out"),
        ("methods", "CONNECT", "leave `methods` out"),
    ] {
        let refused = check_match(&json!({key: [pattern]}));
        refused.assert_refused(&["route `admin`", &format!("match.{key}"), pattern, remedy]);
    }
    for key in ["hosts", "paths", "methods"] {
        check_match(&json!({key: []})).assert_refused(&[
            "routes[0].match",
            key,
            "leave the key out",
        ]);
    }
    for tolerance in ["dot_segments", "empty_segments"] {
        let refused = check_match(&json!({"paths": ["/a/*"], "tolerate": [tolerance]}));
        refused.assert_refused(&["route `admin`", tolerance, "set it in `paths.tolerate`"]);
    }
    let exact = json!({"paths": ["/a%2Fb"], "tolerate": ["encoded_slash"]});
    check_match(&exact).assert_refused(&["route `admin`", "`match.tolerate`", "`prefix*`"]);
    for matches in [
        json!({"paths": ["/a", "/b/*"], "not_paths": ["/b*"]}),
        json!({"paths": ["/a/"], "not_paths": ["/a"]}),
        json!({"not_paths": ["/*"]}),
    ] {
        check_match(&matches).assert_refused(&["route `admin`", "`match.not_paths`", "remove one"]);
    }
    for matches in [
        json!({"hosts": ["münchen.example", "*.Example.com", "[::1]"], "paths": ["/café*", "/a b"]}),
        json!({"paths": ["/a/*"], "not_paths": ["/a/b%2Fc"], "tolerate": ["encoded_slash"]}),
        json!({"paths": ["/100%"], "not_paths": ["/x"], "methods": ["GET", "M-SEARCH"]}),
    ] {
        assert_eq!(check_match(&matches).code, Some(0), "{matches}");
    }
}

#[test]
fn a_route_that_is_never_reached_is_refused_with_the_one_before_it() {
    let folder = Folder::new();
    let mut config = folder.config();
    let mut check = |first: &Value, second: &Value| {
        let route = |name, matches: &Value| {
            json!({
                "name": name, "match": matches, "token": "ignored", "allow_without_policy": true,
            })
        };
        config["routes"] = json!([route("first", first), route("second", second)]);
        folder.check_config(&config)
    };
    for (first, second) in [
        (json!({}), json!({"paths": ["/admin/*"]})),
        (json!({"paths": ["/*"]}), json!({"hosts": ["admin.test"]})),
        (json!({"hosts": ["*"], "paths": ["*"]}), json!({})),
        (json!({"paths": ["/a/*"]}), json!({"paths": ["/a/b", "/a"], "methods": ["GET"]})),
        (json!({"hosts": ["*.test"]}), json!({"hosts": ["a.test"], "not_paths": ["/x"]})),
        (json!({"tcp": true}), json!({"tcp": true})),
    ] {
        let refused = check(&first, &second);
        refused.assert_refused(&["route `second`", "route `first`", "match.only_by_name"]);
        let mut by_name = second.clone();
        by_name["only_by_name"] = json!(true);
        assert_eq!(check(&first, &by_name).code, Some(0), "{by_name}");
    }
    for (first, second) in [
        (json!({"paths": ["/a/*"]}), json!({"paths": ["/a/b", "/b"]})),
        (json!({"methods": ["GET"]}), json!({})),
        (json!({"not_paths": ["/a"]}), json!({"paths": ["/a"]})),
        (json!({}), json!({"tcp": true})),
    ] {
        assert_eq!(check(&first, &second).code, Some(0), "{first} {second}");
    }
}

#[test]
fn a_setting_that_denies_every_request_is_refused_with_the_remedy() {
    let folder = Folder::new();
    for (section, key, value, remedy) in [
        ("tokens", "max_bytes", json!(1), "256 to 65536"),
        ("grpc", "max_message_bytes", json!(1), "at least 1024"),
        ("grpc", "max_header_list_bytes", json!(1), "at least 1024"),
        ("grpc", "max_concurrent_streams", json!(0), "at least 1"),
        ("paths", "max_bytes", json!(1), "at least 64"),
        ("http", "path_prefix", json!("/a?b"), "without query"),
        ("http", "path_prefix", json!("/a b"), "without query"),
        ("cors", "max_age", json!("100d"), "24h"),
    ] {
        let mut config = folder.config();
        config[section][key] = value;
        folder.check_config(&config).assert_refused(&[&format!("{section}.{key}"), remedy]);
    }
    for (key, value, remedy) in [
        ("issuer", json!("https://id "), "remove the blank"),
        ("audiences", json!(["api "]), "remove the blank"),
        ("required_claims", json!(["sub "]), "remove the blank"),
        ("required_scopes", json!(["a b"]), "one by one"),
        ("header_types", json!(["at+jwt "]), "remove the blank"),
        ("header_types", json!(["none"]), "write `absent`"),
        ("header_types", json!(["application/"]), "at+jwt"),
        ("leeway", json!("100d"), "such as 5s"),
        ("token_type", json!({"one_of": ["access "]}), "remove the blank"),
    ] {
        let mut config = folder.config();
        config["issuers"]["test"][key] = value;
        folder.check_config(&config).assert_refused(&[&format!("issuers.test.{key}"), remedy]);
    }
    let mut config = folder.config();
    config["routes"] = json!([{
        "name": "a", "token": "required", "allow_without_policy": true,
        "identity_headers": {"x-user-id": ["sub "]},
    }]);
    folder.check_config(&config).assert_refused(&["routes[0].identity_headers", "remove it"]);
}
