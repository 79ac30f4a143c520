//! Tests of what reaches the upstream: headers in one spelling, claims as they are, and a query
//! that is read in one way.

use serde_json::{Value, json};

use crate::{
    check::{Ask, Client, SECRET, claims, sign, token},
    process::{Folder, Service, component},
};

/// A route for a path that takes a token or none, and tells the upstream who is calling.
fn optional(path: &str) -> Value {
    json!({
        "name": path, "match": {"paths": [path]}, "token": "optional",
        "allow_without_policy": true,
        "identity_headers": {"x-user-id": ["sub"], "x-roles": ["realm_access.roles"]},
    })
}

fn service(routes: &Value) -> Service {
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = routes.clone();
    Service::start(folder, &config)
}

/// A service with the guest that makes this attack everywhere.
fn service_of_guest(attack: &str) -> Service {
    let folder = Folder::new();
    let settings = json!({"attack": attack, "when_path": ""});
    let config = folder.config_with_policy(&component("hostile_guest"), &settings);
    Service::start(folder, &config)
}

fn signed(change: &Value) -> String {
    let mut claims = claims("alice");
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    sign(&claims, SECRET)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_spelling_of_an_identity_header_passes_on_any_route() {
    let mut public = optional("/public");
    public["token"] = json!("ignored");
    public["identity_headers"] = json!({});
    let service = service(&json!([optional("/optional"), public]));
    let client = Client::connect(service.addresses.grpc).await;
    let preflight = Ask::get("/optional")
        .method("OPTIONS")
        .header("origin", "https://app.test")
        .header("access-control-request-method", "GET");
    for ask in [
        Ask::get("/optional"),
        Ask::get("/optional").bearer(&token("alice")),
        Ask::get("/public"),
        preflight,
    ] {
        let plain = client.ask(&ask).await;
        let forged = ask.header("x_user_id", "root").header("x_user-id", "root");
        let forged = forged.header("x.roles", "admin").header("x_other", "kept");
        let answer = client.ask(&forged.clone()).await;
        assert!(answer.allowed, "{answer:?}");
        let mut more = answer.remove_request_headers;
        more.retain(|name| !plain.remove_request_headers.contains(name));
        more.sort_unstable();
        assert_eq!(more, ["x.roles", "x_user-id", "x_user_id"], "{forged:?}");
        assert_eq!(answer.set_request_headers, plain.set_request_headers);
        // Under `encode_raw_headers` they come in another field.
        let answer = client.ask(&Ask::get("/public").raw_header("X_User_Id", "root")).await;
        assert!(answer.remove_request_headers.contains(&"x_user_id".to_owned()), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_spelling_of_a_header_that_a_policy_reads_or_changes_passes() {
    // It reads `x-asked` and sets `x-seen`.
    let service = service_of_guest("echo");
    let client = Client::connect(service.addresses.grpc).await;
    let ask = Ask::get("/").header("x-asked", "good").header("x_asked", "bad");
    let answer = client.ask(&ask.header("x_seen", "bad").header("x_unasked", "kept")).await;
    assert_eq!(answer.seen()["headers"], json!([["x-asked", "good"]]));
    assert_eq!(answer.remove_request_headers, ["x_asked", "x_seen"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_override_what_was_decided_on_pass_only_where_a_route_keeps_them() {
    let mut keeps = optional("/keeps");
    keeps["keep_override_headers"] = json!(["x-http-method-override"]);
    let service = service(&json!([optional("/strips"), keeps]));
    let client = Client::connect(service.addresses.grpc).await;
    let ask = |path| {
        Ask::get(path)
            .header("x-http-method-override", "DELETE")
            .header("x_http_method", "DELETE")
            .header("x-original-url", "/admin")
            .header("x-rewrite-url", "/admin")
            .header("x-forwarded-host", "admin.test")
    };
    for (path, kept) in [("/strips", None), ("/keeps", Some("x-http-method-override"))] {
        let answer = client.ask(&ask(path)).await;
        assert!(answer.allowed, "{answer:?}");
        let mut removed = answer.remove_request_headers;
        removed.retain(|name| !["x-user-id", "x-roles"].contains(&name.as_str()));
        removed.sort_unstable();
        let mut expected =
            vec!["x-http-method-override", "x-original-url", "x-rewrite-url", "x_http_method"];
        expected.retain(|name| Some(*name) != kept);
        assert_eq!(removed, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_could_arrive_as_another_is_left_out_or_denied_as_the_route_says() {
    let mut denies = optional("/denies");
    denies["unusable_claims"] = json!("deny");
    let service = service(&json!([optional("/omits"), denies]));
    let client = Client::connect(service.addresses.grpc).await;
    for roles in [
        json!(" admin"),
        json!(["staff", "x,admin"]),
        json!(["staff", ""]),
        json!("a\r\nx-admin: 1"),
        json!("Jos\u{e9}"),
        json!(1.5),
        json!({"admin": true}),
    ] {
        let token = signed(&json!({"realm_access": {"roles": roles}}));
        let answer = client.ask(&Ask::get("/omits").bearer(&token)).await;
        assert_eq!(json!(answer.set_request_headers), json!({"x-user-id": "alice"}), "{roles}");
        assert!(answer.remove_request_headers.contains(&"x-roles".to_owned()), "{roles}");
        let answer = client.ask(&Ask::get("/denies").bearer(&token)).await;
        let refusal = (answer.status, answer.reason.as_str(), answer.body.as_str());
        assert_eq!(refusal, (403, "unusable_claim", "access denied"), "{roles}");
    }
    service.has_logged(1, "x-roles: the claim realm_access.roles has no header form");
    let log = service.log();
    assert!(!log.contains("staff") && !log.contains("Jos"), "a claim's value is logged: {log}");
    let absent = signed(&json!({"realm_access": {"roles": null}}));
    for path in ["/omits", "/denies"] {
        let answer = client.ask(&Ask::get(path).bearer(&absent)).await;
        assert_eq!(json!(answer.set_request_headers), json!({"x-user-id": "alice"}), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_unusable_is_not_replaced_by_the_next() {
    let mut route = optional("/");
    route["identity_headers"] = json!({"x-user-id": ["email", ["urn:a.b", "id"], "sub"]});
    let service = service(&json!([route]));
    let client = Client::connect(service.addresses.grpc).await;
    for (claims, expected) in [
        (json!({"email": "alice@a.test"}), json!({"x-user-id": "alice@a.test"})),
        (json!({"email": "alice@a.test "}), json!({})),
        (json!({"email": null, "urn:a.b": {"id": 7}}), json!({"x-user-id": "7"})),
        (json!({"email": "", "urn:a": {"b": {"id": 7}}}), json!({"x-user-id": "alice"})),
    ] {
        let answer = client.ask(&Ask::get("/").bearer(&signed(&claims))).await;
        assert_eq!(json!(answer.set_request_headers), expected, "{claims}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_claims_is_read_in_one_way() {
    let service = service(&json!([optional("/")]));
    let client = Client::connect(service.addresses.grpc).await;
    for (claims, roles) in [
        (json!({"realm_access.roles": "admin", "realm_access": {"roles": ["user"]}}), Some("user")),
        (json!({"realm_access.roles": "admin"}), None),
    ] {
        let answer = client.ask(&Ask::get("/").bearer(&signed(&claims))).await;
        let sent = answer.set_request_headers.get("x-roles").map(String::as_str);
        assert_eq!(sent, roles, "{claims}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_beyond_ascii_is_encoded_as_the_route_says() {
    let routes = [("/ascii", None), ("/utf8", Some("utf8")), ("/percent", Some("percent"))];
    let routes = routes.map(|(path, encoding)| {
        let mut route = optional(path);
        if let Some(encoding) = encoding {
            route["identity_encoding"] = json!(encoding);
        }
        route
    });
    let service = service(&json!(routes));
    let client = Client::connect(service.addresses.grpc).await;
    let token =
        signed(&json!({"realm_access": {"roles": ["Jos\u{e9}", "a,b"]}, "sub": "\u{5f35}"}));
    for (path, expected) in [
        ("/ascii", json!({})),
        ("/utf8", json!({"x-user-id": "\u{5f35}"})),
        ("/percent", json!({"x-user-id": "%E5%BC%B5", "x-roles": "Jos%C3%A9,a%2Cb"})),
    ] {
        let answer = client.ask(&Ask::get(path).bearer(&token)).await;
        assert_eq!(json!(answer.set_request_headers), expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_reach_a_policy_with_all_of_their_digits() {
    let folder = Folder::new();
    let settings = json!({"attack": "echo", "when_path": ""});
    let mut config = folder.config_with_policy(&component("hostile_guest"), &settings);
    config["routes"][0]["token"] = json!("optional");
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    for (number, expected) in [
        (json!(i64::MAX), json!({"integer": i64::MAX})),
        (json!(u64::MAX), json!({"json": "18446744073709551615"})),
        (json!(u64::MAX - 1), json!({"json": "18446744073709551614"})),
        (json!(0.5), json!({"number": 0.5})),
    ] {
        let token = signed(&json!({"realm_access": {"roles": number}}));
        let seen = client.ask(&Ask::get("/").bearer(&token)).await.seen();
        assert_eq!(seen["identity"]["claims"], json!([expected]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_says_of_the_query_holds_for_every_spelling_in_it() {
    let service = service_of_guest("query_values");
    let client = Client::connect(service.addresses.grpc).await;
    let ask = Ask::get("/a?%72ole=admin&role=root&x=1&%64ebug=1&debug[]=2&r%6Fle%5B%5D=3");
    let answer = client.ask(&ask).await;
    let set = json!({"user": "a%26role%3Dadmin", "next": "a%20b%23c", "role": "user"});
    assert_eq!(json!(answer.set_query), set);
    let removed = ["%72ole", "%64ebug", "debug[]", "r%6Fle%5B%5D"];
    assert_eq!(answer.remove_query, removed);
    for path in ["/a?x=1;role=admin", "/a?ro%ze=1", "/a?role%00=1"] {
        let answer = client.ask(&Ask::get(path)).await;
        let denied = (answer.status, answer.reason.as_str());
        assert_eq!(denied, (400, "malformed_request"), "{path}");
    }
    assert!(client.ask(&Ask::get("/a")).await.remove_query.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_scheme_that_a_route_ignores_are_no_token() {
    let mut ignores = optional("/ignores");
    ignores["ignored_schemes"] = json!(["Basic", "Negotiate"]);
    let service = service(&json!([optional("/strict"), ignores]));
    let client = Client::connect(service.addresses.grpc).await;
    for (path, credentials, allowed) in [
        ("/strict", "Basic dTpw", false),
        ("/ignores", "Basic dTpw", true),
        ("/ignores", "negotiate YII=", true),
        ("/ignores", "Digest dTpw", false),
        ("/ignores", "Basic dTpw, Bearer a", false),
        ("/ignores", "Bearer dTpw", false),
        ("/ignores", "dTpw", false),
    ] {
        let ask = Ask::get(path).header("authorization", credentials);
        let answer = client.ask(&ask).await;
        assert_eq!(answer.allowed, allowed, "{path} {credentials}: {answer:?}");
        assert!(allowed || answer.reason == "invalid_token", "{answer:?}");
        assert_eq!(json!(answer.set_request_headers), json!({}), "{path} {credentials}");
    }
    let answer = client.ask(&Ask::get("/ignores").bearer(&token("alice"))).await;
    assert_eq!(json!(answer.set_request_headers), json!({"x-user-id": "alice"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payload_of_a_token_reaches_the_upstream_as_it_was_sent() {
    let mut route = optional("/a");
    route["payload_header"] = json!("x-jwt-payload");
    let service = service(&json!([route, optional("/b")]));
    let client = Client::connect(service.addresses.grpc).await;
    let alice = token("alice");
    let payload = alice.split('.').nth(1).unwrap();
    let answer = client.ask(&Ask::get("/a").bearer(&alice).header("x-jwt-payload", "forged")).await;
    assert_eq!(answer.set_request_headers["x-jwt-payload"], payload);
    for ask in [Ask::get("/a"), Ask::get("/b").bearer(&alice)] {
        let forged = ask.header("x-jwt-payload", "forged").header("x_jwt_payload", "forged");
        let answer = client.ask(&forged).await;
        assert!(answer.allowed && !answer.set_request_headers.contains_key("x-jwt-payload"));
        for name in ["x-jwt-payload", "x_jwt_payload"] {
            assert!(answer.remove_request_headers.contains(&name.to_owned()), "{name}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_challenge_of_a_route_says_what_token_is_needed() {
    let metadata = "https://api.test/.well-known/oauth-protected-resource";
    let mut all = optional("/all");
    all["token"] = json!("required");
    let mut plain = optional("/plain");
    plain["token"] = json!("required");
    all["challenge"] =
        json!({"realm": "api", "scope": ["read", "write"], "resource_metadata": metadata});
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = json!([all, plain]);
    config["denials"] =
        json!({"headers": {"missing_token": {"www-authenticate": "Bearer realm=\"all\""}}});
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let full =
        format!("Bearer realm=\"api\", scope=\"read write\", resource_metadata=\"{metadata}\"");
    let with_error = full.replace(", resource", ", error=\"invalid_token\", resource");
    for (ask, expected) in [
        (Ask::get("/all"), full.as_str()),
        (Ask::get("/all").bearer("nonsense"), with_error.as_str()),
        (Ask::get("/plain"), "Bearer realm=\"all\""),
        (Ask::get("/plain").bearer("nonsense"), "Bearer error=\"invalid_token\""),
    ] {
        let answer = client.ask(&ask).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.response_headers["www-authenticate"], expected);
    }
}

#[test]
fn settings_of_headers_that_say_nothing_are_refused() {
    for (changes, parts) in [
        (json!({"identity_headers": {"x-a": ["sub"], "x_a": ["sub"]}}), &["x-a", "x_a"] as &[_]),
        (json!({"identity_headers": {"authorization": ["sub"]}}), &["`authorization`"]),
        (json!({"identity_headers": {"x-envoy-auth-x": ["sub"]}}), &["x-envoy-auth-x"]),
        (json!({"identity_headers": {"x-envoy-user": ["sub"]}}), &["x-envoy-user", "`x-envoy`"]),
        (json!({"identity_headers": {"x_envoy_user": ["sub"]}}), &["x_envoy_user"]),
        (
            json!({"identity_headers": {"x-a": ["https://a.test/b"]}}),
            &["identity_headers.x-a[0]", "list of names"],
        ),
        (
            json!({"identity_headers": {"x-a": ["a..b"]}}),
            &["identity_headers.x-a[0]", "empty name"],
        ),
        (json!({"identity_headers": {"x-a": [[]]}}), &["empty name"]),
        (json!({"identity_headers": {}, "unusable_claims": "deny"}), &["unusable_claims"]),
        (json!({"identity_headers": {}, "identity_encoding": "utf8"}), &["identity_encoding"]),
        (json!({"keep_override_headers": ["x-user-id"]}), &["x-user-id", "x-original-url"]),
        (json!({"payload_header": "X-Payload"}), &["payload_header"]),
        (json!({"payload_header": "x-user-id"}), &["payload_header"]),
        (json!({"payload_header": "x_user_id"}), &["x-user-id", "x_user_id"]),
        (json!({"challenge": {}}), &["challenge", "leave"]),
        (json!({"challenge": {"realm": "a\"b"}}), &["challenge.realm"]),
        (json!({"challenge": {"scope": ["a b"]}}), &["challenge.scope"]),
        (json!({"challenge": {"resource_metadata": "/a"}}), &["challenge.resource_metadata"]),
        (
            json!({"challenge": {"realm": "a"}, "token": "ignored", "identity_headers": {}}),
            &["`challenge` needs a token"],
        ),
        (json!({"ignored_schemes": ["Bearer"]}), &["ignored_schemes[0]", "Bearer"]),
        (json!({"ignored_schemes": ["Basic", "Basic x"]}), &["ignored_schemes[1]"]),
        (json!({"ignored_schemes": ["Basic"], "token": "required"}), &["ignored_schemes"]),
    ] {
        let folder = Folder::new();
        let mut config = folder.config();
        let mut route = optional("/");
        for (key, value) in changes.as_object().unwrap() {
            route[key] = value.clone();
        }
        config["routes"] = json!([route]);
        folder.check_config(&config).assert_refused(parts);
    }
}
