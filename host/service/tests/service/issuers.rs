//! Tests of two issuers in one service: each signs for the routes that name it, with its own key,
//! and for no others.

use serde_json::{Value, json};

use crate::{
    check::{self, Ask, Client},
    process::{Folder, Service, component, eventually, example_file},
};

const TM: &str = "https://tm.example.com";
const TM_SECRET: &str = "what tm signs with in tests, long enough for HS256";
const MS: &str = "https://login.microsoftonline.com/tenant/v2.0";
const MS_SECRET: &str = "what ms signs with in tests, long enough for HS256";

/// A configuration with both issuers, and no route.
fn config(folder: &Folder) -> Value {
    let issuer = |name: &str, iss: &str, secret: &str| {
        let file = folder.put(name, secret);
        json!({"issuer": iss, "keys": [{"secret_file": file, "algorithm": "HS256"}]})
    };
    let mut config = folder.config();
    config["issuers"] =
        json!({"tm": issuer("tm", TM, TM_SECRET), "ms": issuer("ms", MS, MS_SECRET)});
    config
}

/// A route without policy.
fn route(name: &str, token: &str) -> Value {
    json!({"name": name, "token": token, "allow_without_policy": true})
}

/// A token for Mary, whose user id is 42, that says it is from `iss`.
fn token(iss: &str, secret: &str) -> String {
    let mut claims = check::claims("subject-of-mary");
    claims["iss"] = json!(iss);
    claims["user_id"] = json!("42");
    claims["unique_name"] = json!("mary");
    check::sign(&claims, secret)
}

/// Tokens that neither issuer has signed.
fn forged() -> [String; 4] {
    [
        token(TM, MS_SECRET),
        token(MS, TM_SECRET),
        token(check::ISSUER, TM_SECRET),
        token(MS, check::SECRET),
    ]
}

/// Status and reason of a deny; `(200, "")` of an allow.
async fn outcome(client: &Client, ask: &Ask) -> (i32, String) {
    let answer = client.ask(ask).await;
    if answer.allowed { (200, String::new()) } else { (answer.status, answer.reason) }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_takes_the_tokens_of_the_issuers_that_it_names() {
    let folder = Folder::new();
    let mut config = config(&folder);
    let matching = |mut route: Value, paths: &[&str], issuers: &[&str]| {
        route["match"] = json!({"paths": paths});
        route["issuers"] = json!(issuers);
        route
    };
    config["routes"] = json!([
        matching(route("public", "ignored"), &["/public*"], &[]),
        matching(
            route("tm", "required"),
            &["/some/more/path/1*", "/some/more/path/2*", "/some/more/path/3*"],
            &["tm"],
        ),
        matching(route("either", "required"), &["/either"], &["ms", "tm"]),
        matching(route("optional", "optional"), &["/optional"], &["tm"]),
        matching(route("ms", "required"), &["*"], &["ms"]),
    ]);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let (tm, ms) = (token(TM, TM_SECRET), token(MS, MS_SECRET));
    let allowed = || (200, String::new());
    let missing = || (401, "missing_token".to_owned());
    let invalid = || (401, "invalid_token".to_owned());
    // Twice: what one route remembers of a token must not open another.
    for _ in 0..2 {
        for (path, without, with_tm, with_ms, with_forged) in [
            ("/public/page", allowed(), allowed(), allowed(), allowed()),
            ("/some/more/path/1", missing(), allowed(), invalid(), invalid()),
            ("/some/more/path/23/deep", missing(), allowed(), invalid(), invalid()),
            ("/some/more/path/4", missing(), invalid(), allowed(), invalid()),
            ("/either", missing(), allowed(), allowed(), invalid()),
            ("/optional", allowed(), allowed(), invalid(), invalid()),
            ("/", missing(), invalid(), allowed(), invalid()),
        ] {
            let ask = Ask::get(path);
            assert_eq!(outcome(&client, &ask).await, without, "{path} without token");
            let ask = Ask::get(path).bearer(&tm);
            assert_eq!(outcome(&client, &ask).await, with_tm, "{path} with the token of tm");
            let ask = Ask::get(path).bearer(&ms);
            assert_eq!(outcome(&client, &ask).await, with_ms, "{path} with the token of ms");
            for forged in forged() {
                let ask = Ask::get(path).bearer(&forged);
                assert_eq!(outcome(&client, &ask).await, with_forged, "{path} with {forged}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn geminis_rules_tell_by_a_signed_token_which_paths_it_opens() {
    let folder = Folder::new();
    let example = example_file("gemini.yaml");
    let with_policy =
        folder.config_with_policy(&component("portcullis_rules"), &example["settings"]);
    let mut config = config(&folder);
    config["policies"] = with_policy["policies"].clone();
    config["routes"] = with_policy["routes"].clone();
    for key in ["token", "identity_headers"] {
        config["routes"][0][key] = example["route"][key].clone();
    }
    config["routes"][0]["issuers"] = json!(["tm", "ms"]);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let (tm, ms) = (token(TM, TM_SECRET), token(MS, MS_SECRET));
    for (method, path, without, with_tm, with_ms) in [
        ("GET", "/some/path1/thing", 200, 200, 200),
        ("GET", "/xpath2y", 200, 200, 200),
        ("GET", "/path3", 200, 200, 200),
        ("GET", "/some/more/path/1", 401, 200, 401),
        ("GET", "/some/more/path/23/deep", 401, 200, 401),
        ("GET", "/some/more/path/3", 401, 200, 401),
        ("GET", "/some/more/path/4", 401, 401, 403),
        ("POST", "/users", 401, 401, 200),
        ("GET", "/users/42", 401, 401, 200),
        ("GET", "/users/43", 401, 401, 403),
        ("DELETE", "/users/42", 401, 401, 403),
        ("GET", "/orders", 401, 401, 403),
    ] {
        let ask = Ask::get(path).method(method);
        assert_eq!(outcome(&client, &ask).await.0, without, "{method} {path} without token");
        let with = |token: &str| ask.clone().bearer(token);
        assert_eq!(outcome(&client, &with(&tm)).await.0, with_tm, "{method} {path} of tm");
        assert_eq!(outcome(&client, &with(&ms)).await.0, with_ms, "{method} {path} of ms");
        // A token that is sent is verified, where none is needed too.
        for forged in forged() {
            let (status, reason) = outcome(&client, &with(&forged)).await;
            assert_eq!((status, reason.as_str()), (401, "invalid_token"), "{method} {path}");
        }
    }
    for (path, token) in [("/some/more/path/1", &tm), ("/users/42", &ms)] {
        let ask = Ask::get(path).bearer(token).header("header-you-need", "spoofed");
        let answer = client.ask(&ask).await;
        assert_eq!(answer.set_request_headers["header-you-need"], "mary", "{path}");
    }
}

#[test]
fn a_route_that_reads_tokens_says_whose_where_there_are_several() {
    let folder = Folder::new();
    let mut config = config(&folder);
    for token in ["required", "optional"] {
        config["routes"] = json!([route("public", "ignored"), route("api", token)]);
        let refused = folder.check_config(&config);
        refused.assert_refused(&["route `api`", "`issuers` is needed", "ms, tm"]);
    }
    config["routes"] = json!([route("public", "ignored")]);
    let checked = folder.check_config(&config);
    assert_eq!(checked.code, Some(0), "no route reads a token: {checked:?}");
}

#[test]
fn an_issuer_that_does_not_exist_is_named_with_those_that_do() {
    let folder = Folder::new();
    let mut config = config(&folder);
    config["routes"] = json!([route("api", "required")]);
    config["routes"][0]["issuers"] = json!(["tm", "sm"]);
    folder.check_config(&config).assert_refused(&["route `api`", "`issuers`", "`sm`", "ms, tm"]);
}

#[test]
fn issuers_that_one_token_could_be_from_do_not_share_a_route() {
    let folder = Folder::new();
    let mut config = config(&folder);
    config["issuers"]["tm"]["issuer"] = json!(MS);
    config["routes"] = json!([route("api", "required")]);
    config["routes"][0]["issuers"] = json!(["tm", "ms"]);
    folder.check_config(&config).assert_refused(&["route `api`", "`ms`", "`tm`", "told apart"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_other_clients_old_ones_and_long_ones_are_refused() {
    let folder = Folder::new();
    let mut config = folder.config();
    for (name, value) in [
        ("authorized_parties", json!(["shop", "app"])),
        ("max_age", json!("1h")),
        ("max_lifetime", json!("2h")),
    ] {
        config["issuers"]["test"][name] = value;
    }
    config["routes"] = json!([{"name": "api", "token": "required", "allow_without_policy": true}]);
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let now = jiff::Timestamp::now().as_second();
    for (changes, detail) in [
        (json!({"azp": "shop"}), None),
        (json!({"client_id": "app"}), None),
        (json!({"azp": "app", "client_id": "other"}), None),
        (json!({"azp": "shop", "iat": now - 3590}), None),
        (json!({}), Some("missing_claim: azp")),
        (json!({"azp": "other"}), Some("wrong_party: azp")),
        (json!({"azp": null, "cid": "other"}), Some("wrong_party: cid")),
        (json!({"azp": ["shop"]}), Some("malformed_claim: azp")),
        (json!({"azp": "shop", "iat": null}), Some("missing_claim: iat")),
        (json!({"azp": "shop", "iat": now - 3700}), Some("too_old: iat")),
        (json!({"azp": "shop", "exp": now + 7300}), Some("lives_too_long: exp")),
    ] {
        let mut claims = check::claims("alice");
        claims["iat"] = json!(now);
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let answer = client.ask(&Ask::get("/").bearer(&check::sign(&claims, check::SECRET))).await;
        assert_eq!(answer.allowed, detail.is_none(), "{changes}: {answer:?}");
        if let Some(detail) = detail {
            eventually("the log has the detail", || service.log().contains(detail).then_some(()));
        }
    }
}
