//! Tests of where a route finds the token of a request, and of how it is removed on the way.

use serde_json::{Value, json};

use crate::{
    check::{Answer, Ask, Client, SECRET, claims, sign, token},
    process::{Folder, Service, component},
};

/// A route with these places and further settings.
fn route(path: &str, places: &Value, more: &Value) -> Value {
    let mut route = json!({
        "name": path, "match": {"paths": [path]}, "token": "required", "token_from": places,
        "allow_without_policy": true, "identity_headers": {"x-user-id": ["sub"]},
    });
    for (key, value) in more.as_object().unwrap() {
        route[key] = value.clone();
    }
    route
}

fn service(routes: &Value) -> Service {
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = routes.clone();
    Service::start(folder, &config)
}

fn everywhere() -> Value {
    json!([
        {"header": "authorization"}, {"header": "x-forwarded-access-token"},
        {"header": "x-auth", "scheme": "Token"}, {"cookie": "session"}, {"query": "access_token"},
    ])
}

/// Who the upstream is told to be calling.
fn caller(answer: &Answer) -> Option<&str> {
    answer.set_request_headers.get("x-user-id").map(String::as_str)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_found_in_each_place_that_the_route_lists_and_in_no_other() {
    let cookie = route("/cookie", &json!([{"cookie": "session"}]), &json!({}));
    let service = service(&json!([route("/all", &everywhere(), &json!({})), cookie]));
    let client = Client::connect(service.addresses.grpc).await;
    let alice = token("alice");
    for path in ["/all", "/cookie"] {
        let cookie = format!("a=1; session={alice}; b=\"2, 3\"");
        let answer = client.ask(&Ask::get(path).header("cookie", &cookie)).await;
        assert_eq!(caller(&answer), Some("alice"), "{answer:?}");
    }
    let elsewhere = |path: &str| {
        let in_query = format!("{path}?a=1&access_token={alice}");
        [
            Ask::get(path).bearer(&alice),
            Ask::get(path).header("x-forwarded-access-token", &alice),
            Ask::get(path).header("x-auth", &format!("token {alice}")),
            Ask::get(&in_query),
        ]
    };
    for ask in elsewhere("/all") {
        assert_eq!(caller(&client.ask(&ask).await), Some("alice"), "{ask:?}");
    }
    for ask in elsewhere("/cookie") {
        let answer = client.ask(&ask).await;
        assert_eq!((answer.status, answer.reason.as_str()), (401, "missing_token"), "{ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_or_one_that_could_be_read_in_two_ways_are_refused() {
    let service = service(&json!([route("/", &everywhere(), &json!({"token": "optional"}))]));
    let client = Client::connect(service.addresses.grpc).await;
    let (alice, bob) = (token("alice"), token("bob"));
    let cookie = |text: &str| Ask::get("/").header("cookie", text);
    // The same token in two places has one reading.
    let twice = cookie(&format!("session={alice}")).bearer(&alice);
    assert_eq!(caller(&client.ask(&twice).await), Some("alice"));

    for ask in vec![
        cookie(&format!("session={alice}")).bearer(&bob),
        Ask::get(&format!("/?access_token={alice}")).header("x-forwarded-access-token", &bob),
        cookie(&format!("session={alice}; session={bob}")),
        cookie(&format!("session={alice}; session={alice}")),
        cookie(&format!("session={alice}, session={bob}")),
        cookie(&format!("session={alice}; x=1 session={bob}")),
        cookie(&format!("session={alice}; x=\"1\" session={bob}")),
        cookie(&format!("session={alice}; \u{a0}session={bob}")),
        cookie(&format!("SESSION={alice}")),
        cookie(&format!("s%65ssion={alice}")),
        cookie(&format!("session=\"{alice}\"")),
        Ask::get(&format!("/?access_token={alice}&access_token={bob}")),
        Ask::get(&format!("/?access%5Ftoken={alice}")),
        Ask::get(&format!("/?access.token={alice}")),
        Ask::get(&format!("/?access_token[]={alice}")),
        Ask::get(&format!("/?Access_Token={alice}")),
        Ask::get(&format!("/?a=1;access_token={alice}")),
        Ask::get(&format!("/?access_token=+{alice}")),
        Ask::get("/").header("x-forwarded-access-token", &format!("Bearer {alice}")),
        Ask::get("/").header("x-auth", &alice),
    ] {
        let answer = client.ask(&ask).await;
        assert_eq!((answer.status, answer.reason.as_str()), (401, "invalid_token"), "{ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_removed_and_nothing_else() {
    let removes = json!({"forward_token": false, "token": "optional"});
    let routes = json!([
        route("/removes", &everywhere(), &removes),
        route("/passes", &everywhere(), &json!({"token": "optional"})),
    ]);
    let service = service(&routes);
    let client = Client::connect(service.addresses.grpc).await;
    let alice = token("alice");
    let ask = |path: &str| {
        Ask::get(&format!("{path}?a=1&access_token={alice}&b=2"))
            .header("cookie", &format!("a=1; session={alice}; b=\"2\""))
            .header("x-forwarded-access-token", &alice)
            .header("x_forwarded_access_token", "other")
    };
    let answer = client.ask(&ask("/removes")).await;
    assert_eq!(caller(&answer), Some("alice"));
    assert_eq!(answer.set_request_headers["cookie"], "a=1; b=\"2\"");
    assert_eq!(answer.remove_query, ["access_token"]);
    for name in ["authorization", "x-forwarded-access-token", "x-auth", "x_forwarded_access_token"]
    {
        assert!(answer.remove_request_headers.iter().any(|removed| removed == name), "{name}");
    }
    // A cookie that is alone leaves no header behind.
    let alone = Ask::get("/removes").header("cookie", &format!("session={alice}"));
    let answer = client.ask(&alone).await;
    assert!(answer.remove_request_headers.contains(&"cookie".to_owned()), "{answer:?}");
    // Other cookies stay as they are.
    let answer = client.ask(&Ask::get("/removes").header("cookie", "a=1;b=2")).await;
    assert!(answer.allowed && !answer.set_request_headers.contains_key("cookie"), "{answer:?}");
    assert!(!answer.remove_request_headers.contains(&"cookie".to_owned()), "{answer:?}");

    let answer = client.ask(&ask("/passes")).await;
    assert_eq!(caller(&answer), Some("alice"));
    assert!(answer.remove_query.is_empty() && !answer.set_request_headers.contains_key("cookie"));
    assert!(!answer.remove_request_headers.contains(&"x-forwarded-access-token".to_owned()));
    assert!(answer.remove_request_headers.contains(&"x_forwarded_access_token".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_says_where_its_tokens_are() {
    let folder = Folder::new();
    let mut config = folder.config();
    let mut issuers = config["issuers"].clone();
    let main = issuers.as_object().unwrap().keys().next().unwrap().clone();
    let mut gateway = issuers[&main].clone();
    gateway["issuer"] = json!("https://gateway.test");
    gateway["token_from"] = json!([{"header": "x-assertion"}]);
    issuers["gateway"] = gateway;
    config["issuers"] = issuers;
    config["routes"] = json!([{
        "name": "all", "token": "required", "issuers": [main, "gateway"],
        "allow_without_policy": true, "identity_headers": {"x-user-id": ["sub"]},
    }]);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let mut assertion = claims("bob");
    assertion["iss"] = json!("https://gateway.test");
    let (bob, alice) = (sign(&assertion, SECRET), token("alice"));
    let answer = client.ask(&Ask::get("/").bearer(&alice)).await;
    assert_eq!(caller(&answer), Some("alice"));
    let answer = client.ask(&Ask::get("/").header("x-assertion", &bob)).await;
    assert_eq!(caller(&answer), Some("bob"));
    // Each in the other's place, and one in both.
    for ask in [
        Ask::get("/").bearer(&bob),
        Ask::get("/").header("x-assertion", &alice),
        Ask::get("/").header("x-assertion", &alice).bearer(&alice),
    ] {
        let answer = client.ask(&ask).await;
        assert_eq!((answer.status, answer.reason.as_str()), (401, "invalid_token"), "{ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_removed_where_none_is_read() {
    let folder = Folder::new();
    let mut config = folder.config();
    let issuers = config["issuers"].as_object_mut().unwrap();
    issuers.values_mut().for_each(|issuer| issuer["token_from"] = json!([{"cookie": "session"}]));
    config["routes"] = json!([
        {"name": "public", "match": {"paths": ["/public"]}, "token": "ignored",
         "forward_token": false, "allow_without_policy": true},
        {"name": "api", "token": "required", "allow_without_policy": true},
    ]);
    config["cors"] = json!({"preflight": "forward"});
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let ask = Ask::get("/public").header("cookie", "a=1; session=anything");
    let answer = client.ask(&ask).await;
    assert_eq!(answer.set_request_headers["cookie"], "a=1", "{answer:?}");
    // Nor where a preflight has no route.
    let preflight = Ask::get("/api?x=1")
        .method("OPTIONS")
        .header("origin", "https://app.test")
        .header("access-control-request-method", "GET");
    let answer = client.ask(&preflight).await;
    assert!(answer.allowed, "{answer:?}");
    assert!(answer.remove_request_headers.contains(&"authorization".to_owned()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_puts_no_token_back_and_has_the_last_word_on_other_cookies() {
    let start = |attack: &str| {
        let folder = Folder::new();
        let settings = json!({"attack": attack, "when_path": ""});
        let mut config = folder.config_with_policy(&component("hostile_guest"), &settings);
        config["routes"][0]["token"] = json!("optional");
        config["routes"][0]["token_from"] = json!([{"cookie": "session"}, {"query": "role"}]);
        config["routes"][0]["forward_token"] = json!(false);
        Service::start(folder, &config)
    };
    let service = start("set_cookies");
    let client = Client::connect(service.addresses.grpc).await;
    for cookies in ["tenant=b".to_owned(), format!("session={}; tenant=b", token("alice"))] {
        let answer = client.ask(&Ask::get("/").header("cookie", &cookies)).await;
        assert_eq!(answer.set_request_headers["cookie"], "tenant=a", "{cookies}");
    }
    // It sets `role` and others.
    let service = start("query_values");
    let client = Client::connect(service.addresses.grpc).await;
    let answer = client.ask(&Ask::get(&format!("/?role={}", token("alice")))).await;
    assert!(answer.allowed && answer.set_query.contains_key("user"), "{answer:?}");
    assert!(!answer.set_query.contains_key("role"), "{answer:?}");
    assert!(answer.remove_query.contains(&"role".to_owned()), "{answer:?}");
}

#[test]
fn places_that_say_nothing_or_two_things_are_refused() {
    for (places, more, parts) in [
        (json!([{}]), json!({}), &["token_from[0]", "exactly one of"] as &[_]),
        (json!([{"header": "a", "cookie": "b"}]), json!({}), &["token_from[0]", "exactly one of"]),
        (json!([{"cookie": "a", "scheme": "Bearer"}]), json!({}), &["`scheme` goes with `header`"]),
        (json!([{"header": "x-a", "scheme": "Bearer "}]), json!({}), &["`scheme`"]),
        (json!([{"header": "X-Token"}]), json!({}), &["lower case"]),
        (json!([{"header": "cookie"}]), json!({}), &["token_from[0]", "pseudo header"]),
        (json!([{"header": "x-envoy-token"}]), json!({}), &["`x-envoy`"]),
        (json!([{"header": "host"}]), json!({}), &["token_from[0]", "connection header"]),
        (json!([{"cookie": "a b"}]), json!({}), &["`cookie`"]),
        (json!([{"query": "a[b]"}]), json!({}), &["`query`"]),
        (json!([{"query": "a"}, {"query": "a"}]), json!({}), &["one place twice"]),
        (json!([{"query": "a.b"}, {"query": "a_b"}]), json!({}), &["one place twice"]),
        (json!([{"cookie": "a"}, {"cookie": "A"}]), json!({}), &["one place twice"]),
        (json!([{"header": "x-a"}, {"header": "x_a"}]), json!({}), &["one place twice"]),
        (json!([{"cookie": "a+b"}]), json!({}), &["`cookie`"]),
        (json!([{"cookie": "a%41"}]), json!({}), &["`cookie`"]),
        (json!([{"cookie": "a"}]), json!({"payload_header": "cookie"}), &["payload_header"]),
        (
            json!([{"header": "x-a"}, {"header": "x-a", "scheme": "Token"}]),
            json!({}),
            &["one place twice"],
        ),
        (json!([{"header": "x-original-url"}]), json!({}), &["x-original-url"]),
        (json!([{"header": "x_user_id"}]), json!({}), &["x_user_id", "identity_headers"]),
        (
            json!([{"cookie": "a"}]),
            json!({"token": "ignored", "identity_headers": {}}),
            &["token_from", "forward_token: false"],
        ),
    ] {
        let folder = Folder::new();
        let mut config = folder.config();
        config["routes"] = json!([route("/", &places, &more)]);
        folder.check_config(&config).assert_refused(parts);
    }
}
