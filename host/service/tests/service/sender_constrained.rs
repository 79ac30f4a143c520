//! Tests of tokens that are bound to a key of their client: proofs, replays, nonces and certificates in
//! requests, challenges in answers.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    check::{Answer, Ask, Client, SECRET, claims, sign, token},
    process::{Folder, Service},
};

/// As a challenge lists them.
const ALGS: &str = "algs=\"ES256 ES384 EdDSA PS256 PS384 PS512 RS256 RS384 RS512\"";

/// The key of a client.
struct Holder(EcdsaKeyPair);

impl Holder {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn coordinates(&self) -> [String; 2] {
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        [x, y].map(|half| URL_SAFE_NO_PAD.encode(half))
    }

    /// A token that is bound to the key.
    fn token(&self, subject: &str) -> String {
        let [x, y] = self.coordinates();
        let key = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        bound_token(subject, &json!({"jkt": hash(key.as_bytes())}))
    }

    /// A proof of this kind of request with the token, with other claims.
    fn proof(&self, token: &str, method: &str, uri: &str, more: &Value) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let [x, y] = self.coordinates();
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        let mut claims = json!({
            "jti": format!("proof-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            "htm": method, "htu": uri, "iat": jiff::Timestamp::now().as_second(),
            "ath": hash(token.as_bytes()),
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A request for `/a` with a new proof.
    fn ask(&self, token: &str) -> Ask {
        dpop(token, &self.proof(token, "GET", "https://api.test/a", &json!({})))
    }
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

/// A token with this binding.
fn bound_token(subject: &str, cnf: &Value) -> String {
    let mut claims = claims(subject);
    claims["cnf"] = cnf.clone();
    sign(&claims, SECRET)
}

fn dpop(token: &str, proof: &str) -> Ask {
    Ask::get("/a?x=1").header("authorization", &format!("DPoP {token}")).header("dpop", proof)
}

/// A service whose issuer has this setting, with these settings of `tokens`.
fn service(folder: Folder, bound: &Value, tokens: &Value) -> Service {
    let config = config(&folder, bound, tokens);
    Service::start(folder, &config)
}

fn config(folder: &Folder, bound: &Value, tokens: &Value) -> Value {
    let mut config = folder.config();
    config["issuers"]["test"]["sender_constrained"] = bound.clone();
    config["tokens"] = tokens.clone();
    config["routes"] = json!([
        {
            "name": "removes", "match": {"paths": ["/removes"]}, "token": "required",
            "forward_token": false, "allow_without_policy": true,
        },
        {
            "name": "optional", "match": {"paths": ["/optional"]}, "token": "optional",
            "allow_without_policy": true, "challenge": {"realm": "api"},
        },
        {
            "name": "api", "token": "required", "allow_without_policy": true,
            "identity_headers": {"x-user-id": ["sub"]},
        },
    ]);
    config
}

fn challenge(answer: &Answer) -> &str {
    &answer.response_headers["www-authenticate"]
}

/// The reason of a deny; `allowed` if it is none.
fn reason(answer: &Answer) -> &str {
    if answer.allowed { "allowed" } else { &answer.reason }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_lets_one_request_pass() {
    let service = service(Folder::new(), &json!({"dpop": true}), &json!({}));
    let client = Client::connect(service.addresses.grpc).await;
    let (alice, mallory) = (Holder::new(), Holder::new());
    let token = alice.token("alice");
    let ask = alice.ask(&token);
    let answer = client.ask(&ask).await;
    assert_eq!(answer.set_request_headers["x-user-id"], "alice", "{answer:?}");
    // The token is remembered, and each request needs its own proof all the same.
    assert_eq!(reason(&client.ask(&ask).await), "invalid_proof");
    assert_eq!(reason(&client.ask(&alice.ask(&token)).await), "allowed");
    service.has_logged(1, r#""detail":"replayed""#);

    let uri = "https://api.test/a";
    let with = |method, uri, more| alice.proof(&token, method, uri, &more);
    for (proof, detail) in [
        (with("POST", uri, json!({})), "wrong_method"),
        (with("GET", "https://api.test/b", json!({})), "wrong_uri: https://api.test/b"),
        (with("GET", "https://other.test/a", json!({})), "wrong_uri: https://other.test/a"),
        (with("GET", uri, json!({"ath": hash(b"other")})), "wrong_token"),
        (with("GET", uri, json!({"iat": 1})), "outside_window"),
        (with("GET", uri, json!({"jti": null})), "malformed_proof: missing_claim: jti"),
        (mallory.proof(&token, "GET", uri, &json!({})), "wrong_proof_key"),
        (token.clone(), "wrong_proof_type"),
        (format!("{0},{0}", with("GET", uri, json!({}))), "several_proofs"),
        (String::new(), "no_proof"),
    ] {
        let answer = client.ask(&dpop(&token, &proof)).await;
        assert_eq!((answer.status, reason(&answer)), (401, "invalid_proof"), "{detail}");
        let expected = format!("DPoP error=\"invalid_dpop_proof\", {ALGS}");
        assert_eq!(challenge(&answer), expected);
        assert_eq!(answer.body, "invalid proof", "the client does not learn why");
        service.has_logged(1, &format!(r#""detail":"{detail}""#));
        assert!(proof.is_empty() || !service.log().contains(&proof), "a proof is in the log");
    }
    let twice = Ask::get("/a").raw_header("authorization", &format!("DPoP {token}"));
    let twice = twice.raw_header("dpop", &with("GET", uri, json!({})));
    let twice = twice.raw_header("dpop", &with("GET", uri, json!({})));
    assert_eq!(reason(&client.ask(&twice).await), "invalid_proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_is_no_bearer_token_and_the_other_way_round() {
    let service = service(Folder::new(), &json!({"dpop": true}), &json!({}));
    let client = Client::connect(service.addresses.grpc).await;
    let alice = Holder::new();
    let (bound, unbound) = (alice.token("alice"), token("alice"));
    let both = format!("Bearer error=\"invalid_token\", DPoP error=\"invalid_token\", {ALGS}");
    let proof = alice.proof(&bound, "GET", "https://api.test/a", &json!({}));
    for ask in [
        Ask::get("/a").bearer(&bound),
        Ask::get("/a").bearer(&bound).header("dpop", &proof),
        alice.ask(&unbound),
        Ask::get("/a").bearer(&bound_token("alice", &json!({"x5t#S256": hash(b"")}))),
        Ask::get("/a").header("authorization", &format!("DPoP {bound}, Bearer {unbound}")),
    ] {
        let answer = client.ask(&ask).await;
        assert_eq!((answer.status, reason(&answer)), (401, "invalid_token"), "{ask:?}");
        assert_eq!(challenge(&answer), both);
    }
    assert_eq!(reason(&client.ask(&Ask::get("/a").bearer(&unbound)).await), "allowed");
    let answer = client.ask(&Ask::get("/a")).await;
    assert_eq!(reason(&answer), "missing_token");
    assert_eq!(challenge(&answer), format!("Bearer, DPoP {ALGS}"));
    let answer = client.ask(&Ask::get("/optional").bearer(&bound)).await;
    let realm = "realm=\"api\", error=\"invalid_token\"";
    assert_eq!(challenge(&answer), format!("Bearer {realm}, DPoP {realm}, {ALGS}"));
    assert_eq!(reason(&client.ask(&Ask::get("/optional")).await), "allowed");
    // Revocation counts for bound tokens, too.
    let mut of_alice = claims("alice");
    of_alice["cnf"] = json!({"jkt": hash(b"")});
    of_alice["jti"] = json!("revoked");
    let revoked = sign(&of_alice, SECRET);
    service.revoke("revoked");
    // Without a proof, not even that shows.
    assert_eq!(reason(&client.ask(&dpop(&revoked, &proof)).await), "invalid_proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_with_a_good_proof() {
    let service = service(Folder::new(), &json!({"dpop": true, "required": true}), &json!({}));
    let client = Client::connect(service.addresses.grpc).await;
    let alice = Holder::new();
    let token = alice.token("alice");
    assert_eq!(reason(&client.ask(&alice.ask(&token)).await), "allowed");
    let payload = token.split('.').nth(1).unwrap();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    service.revoke(claims["jti"].as_str().unwrap());
    assert_eq!(reason(&client.ask(&alice.ask(&token)).await), "token_revoked");
    // Where all tokens must be bound, no challenge speaks of others.
    let answer = client.ask(&Ask::get("/a").bearer(&crate::check::token("alice"))).await;
    assert_eq!(reason(&answer), "invalid_token");
    assert_eq!(challenge(&answer), format!("DPoP error=\"invalid_token\", {ALGS}"));
    assert_eq!(service.metric("portcullis_dpop_proofs"), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_is_removed_with_the_token() {
    let service = service(Folder::new(), &json!({"dpop": true}), &json!({}));
    let client = Client::connect(service.addresses.grpc).await;
    let alice = Holder::new();
    let token = alice.token("alice");
    let proof = alice.proof(&token, "GET", "https://api.test/removes", &json!({}));
    let ask = Ask::get("/removes")
        .header("authorization", &format!("dpop {token}"))
        .header("dpop", &proof);
    let answer = client.ask(&ask).await;
    assert!(answer.allowed, "{answer:?}");
    for name in ["authorization", "dpop"] {
        assert!(answer.remove_request_headers.contains(&name.to_owned()), "{answer:?}");
    }
    let answer = client.ask(&alice.ask(&token)).await;
    assert!(!answer.remove_request_headers.contains(&"dpop".to_owned()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_asked_for_and_good_at_every_replica() {
    let start = || {
        let folder = Folder::new();
        let secret = folder.put("nonce", "0123456789abcdef0123456789abcdef\n");
        let tokens = json!({"dpop": {"nonce": {"secret_file": secret}}});
        service(folder, &json!({"dpop": true}), &tokens)
    };
    let services = [start(), start()];
    let client = Client::connect(services[0].addresses.grpc).await;
    let other = Client::connect(services[1].addresses.grpc).await;
    let alice = Holder::new();
    let token = alice.token("alice");
    let answer = client.ask(&alice.ask(&token)).await;
    assert_eq!((answer.status, reason(&answer)), (401, "nonce_needed"));
    assert_eq!(challenge(&answer), format!("DPoP error=\"use_dpop_nonce\", {ALGS}"));
    let nonce = json!({"nonce": answer.response_headers["dpop-nonce"]});
    let ask = || dpop(&token, &alice.proof(&token, "GET", "https://api.test/a", &nonce));
    assert_eq!(reason(&client.ask(&ask()).await), "allowed");
    assert_eq!(reason(&other.ask(&ask()).await), "allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_say_how_clients_reach_the_service() {
    let tokens = json!({"dpop": {"origins": ["https://public.test:8443"]}});
    let service = service(Folder::new(), &json!({"dpop": true}), &tokens);
    let client = Client::connect(service.addresses.grpc).await;
    let alice = Holder::new();
    let token = alice.token("alice");
    let ask = |uri: &str| dpop(&token, &alice.proof(&token, "GET", uri, &json!({})));
    assert_eq!(reason(&client.ask(&ask("https://public.test:8443/a")).await), "allowed");
    assert_eq!(reason(&client.ask(&ask("https://api.test/a")).await), "invalid_proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_certificate_is_compared_with_the_token() {
    let header = json!({"x_forwarded_client_cert": {"trusted_peers": ["spiffe://test/gateway"]}});
    let service = service(Folder::new(), &json!({"mtls": true}), &header);
    let client = Client::connect(service.addresses.grpc).await;
    let token = bound_token("alice", &json!({"x5t#S256": hash(b"certificate")}));
    let hex = |bytes: &[u8]| -> String {
        let hash = digest(&SHA256, bytes);
        let digits = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
    };
    let ask = |certificate: &[u8], peer: &str| {
        let header = format!("By=spiffe://test/envoy;Hash={};Subject=\"\"", hex(certificate));
        let ask = Ask::get("/a").bearer(&token).header("x-forwarded-client-cert", &header);
        ask.peer("10.0.0.1", 5000, peer)
    };
    let gateway = "spiffe://test/gateway";
    assert_eq!(reason(&client.ask(&ask(b"certificate", gateway)).await), "allowed");
    for (ask, detail) in [
        (ask(b"other", gateway), "wrong_certificate"),
        (ask(b"certificate", "spiffe://test/other"), "untrusted_certificate_peer"),
        (Ask::get("/a").bearer(&token).peer("10.0.0.1", 1, gateway), "no_certificate"),
    ] {
        let answer = client.ask(&ask).await;
        assert_eq!((answer.status, reason(&answer)), (401, "invalid_token"), "{detail}");
        service.has_logged(1, &format!(r#""detail":"{detail}""#));
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = |bound: Value, change: &dyn Fn(&mut Value), parts: &[&str]| {
        let folder = Folder::new();
        let mut config = config(&folder, &bound, &json!({}));
        change(&mut config);
        folder.check_config(&config).assert_refused(parts);
    };
    let dpop = || json!({"dpop": true});
    let route = |key: &'static str, value: Value| {
        move |config: &mut Value| config["routes"][2][key] = value.clone()
    };
    let places = |places: Value| route("token_from", places);
    refused(json!({}), &|_| (), &["issuers.test.sender_constrained", "dpop: true"]);
    let unchecked =
        |config: &mut Value| config["issuers"]["test"]["accept_sender_constrained"] = json!(true);
    refused(dpop(), &unchecked, &["accept_sender_constrained", "remove one"]);
    let named = places(json!([{"header": "authorization", "scheme": "DPoP"}]));
    refused(json!({"mtls": true}), &named, &["route `api`", "scheme `DPoP`"]);
    let cookie = places(json!([{"cookie": "session"}]));
    let required = json!({"dpop": true, "required": true});
    refused(required, &cookie, &["route `api`", "no place for tokens with a proof"]);
    let ignored = |config: &mut Value| config["routes"][1]["ignored_schemes"] = json!(["dpop"]);
    refused(dpop(), &ignored, &["route `optional`", "`ignored_schemes` names `DPoP`"]);
    let identity = route("identity_headers", json!({"dpop": ["sub"]}));
    refused(dpop(), &identity, &["`dpop`", "identity_headers"]);
    let dpop_unused = |config: &mut Value| config["tokens"] = json!({"dpop": {"window": "5s"}});
    refused(json!({"mtls": true}), &dpop_unused, &["tokens.dpop", "no effect"]);
}
