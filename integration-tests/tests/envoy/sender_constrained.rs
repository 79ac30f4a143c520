//! Tests of tokens that are bound to a key of their client through Envoy: `DPoP` proofs, and certificates
//! of clients that connect with mutual TLS.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL};
use portcullis_integration_tests::{
    client::{Request, Response},
    envoy::{Envoy, EnvoyConfig},
    mtls::{Authority, Identity},
    portcullis::{Config, Portcullis, token_route},
    token::{Claims, SUBJECT},
    upstream::{Received, Upstream},
};
use serde_json::{Value, json};

use super::{Gate, http_edge::names};

const BOUND: &str = "issuers.test.sender_constrained";
const HEADER: &str = "X-Forwarded-Client-Cert";

fn config(bound: &Value) -> Config {
    Config::new([token_route("api", &["/api/*"])]).with(BOUND, bound.clone())
}

/// The key of a client.
struct Holder(EcdsaKeyPair);

impl Holder {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn coordinates(&self) -> [String; 2] {
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        [x, y].map(|half| BASE64_URL.encode(half))
    }

    fn token(&self) -> String {
        let [x, y] = self.coordinates();
        let key = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = BASE64_URL.encode(digest(&SHA256, key.as_bytes()));
        Claims::default().with("cnf", json!({ "jkt": thumbprint })).hs256()
    }

    fn proof(&self, token: &str, method: &str, uri: &str, more: &Value) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let [x, y] = self.coordinates();
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        let mut claims = json!({
            "jti": format!("proof-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            "htm": method, "htu": uri, "iat": jiff::Timestamp::now().as_second(),
            "ath": BASE64_URL.encode(digest(&SHA256, token.as_bytes())),
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let part = |json: &Value| BASE64_URL.encode(json.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL.encode(signature))
    }
}

fn with_proof(token: &str, proof: &str) -> Request {
    Request::get("/api/a?x=1")
        .header("Authorization", &format!("DPoP {token}"))
        .header("DPoP", proof)
}

#[tokio::test]
async fn a_proof_lets_one_request_through() {
    let gate = Gate::new(&config(&json!({"dpop": true}))).await;
    let holder = Holder::new();
    let token = holder.token();
    let proof = |method, uri| holder.proof(&token, method, uri, &json!({}));
    let (get, uri) = ("GET", "https://api.test/api/a");
    let good = proof(get, uri);
    let received = gate.pass(with_proof(&token, &good)).await;
    assert_eq!(received.all("x-user-id"), [SUBJECT]);

    let again = gate.refuse(with_proof(&token, &good), 401).await;
    let challenge = again.all("www-authenticate").concat();
    assert!(
        challenge.starts_with("DPoP error=\"invalid_dpop_proof\", algs=\"ES256 "),
        "{challenge}"
    );
    for bad in [
        with_proof(&token, &proof("POST", uri)),
        with_proof(&token, &proof(get, "https://api.test/api/b")),
        with_proof(&token, &proof(get, "https://evil.test/api/a")),
        with_proof(&token, &Holder::new().proof(&token, get, uri, &json!({}))),
        with_proof(&token, &proof(get, uri)).header("DPoP", &proof(get, uri)),
        Request::get("/api/a").header("Authorization", &format!("DPoP {token}")),
        Request::get("/api/a").bearer(&token),
        Request::get("/api/a").bearer(&token).header("DPoP", &proof(get, uri)),
    ] {
        gate.refuse(bad, 401).await;
    }
    // None of these has used up anything.
    gate.pass(with_proof(&token, &proof(get, uri))).await;
    assert!(!gate.portcullis.log().contains(&good), "a proof is in the log");
}

#[tokio::test]
async fn a_nonce_reaches_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("nonce");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let config = config(&json!({"dpop": true}))
        .with("tokens", json!({"dpop": {"nonce": {"secret_file": secret}}}));
    let gate = Gate::new(&config).await;
    let holder = Holder::new();
    let token = holder.token();
    let proof = |more: Value| holder.proof(&token, "GET", "https://api.test/api/a", &more);
    let asked = gate.refuse(with_proof(&token, &proof(json!({}))), 401).await;
    let challenge = asked.all("www-authenticate").concat();
    assert!(challenge.starts_with("DPoP error=\"use_dpop_nonce\""), "{challenge}");
    let nonce = asked.all("dpop-nonce");
    assert_eq!(nonce.len(), 1, "{asked:?}");
    gate.pass(with_proof(&token, &proof(json!({"nonce": nonce[0]})))).await;
}

/// An Envoy that asks clients for a certificate.
struct Mutual {
    authority: Authority,
    envoy: Envoy,
    _portcullis: Portcullis,
    _upstream: Upstream,
}

impl Mutual {
    async fn new(
        config: &Config,
        configure: impl FnOnce(&Portcullis, &Upstream) -> EnvoyConfig,
    ) -> Self {
        let (portcullis, upstream) = (Portcullis::start(config).await, Upstream::start().await);
        let authority = Authority::new();
        let socket = authority.transport_socket(&authority.server());
        let envoy = configure(&portcullis, &upstream).with_transport_socket(socket);
        let envoy = Envoy::start(&envoy).await;
        Self { authority, envoy, _portcullis: portcullis, _upstream: upstream }
    }

    /// With checks over gRPC.
    async fn grpc(config: &Config, configure: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Self {
        Self::new(config, |portcullis, upstream| {
            configure(EnvoyConfig::grpc(&[portcullis.addresses().grpc], upstream.address()))
        })
        .await
    }

    async fn send(&self, request: &Request, client: &Identity) -> Response {
        request.send_over(self.authority.connect(self.envoy.http(), client).await).await
    }

    async fn status(&self, request: &Request, client: &Identity) -> u16 {
        self.send(request, client).await.status
    }
}

/// A request with a token that is bound to this certificate.
fn with_token_of(client: &Identity) -> Request {
    let cnf = json!({"x5t#S256": client.thumbprint()});
    Request::get("/api/a").bearer(&Claims::default().with("cnf", cnf).hs256())
}

#[tokio::test]
async fn a_token_is_good_on_connections_with_its_certificate() {
    let config = config(&json!({"mtls": true}));
    let mutual =
        Mutual::grpc(&config, |envoy| envoy.with("include_peer_certificate", json!(true))).await;
    let client = |name: &str| mutual.authority.client(name);
    let (alice, mallory) = (client("spiffe://test/alice"), client("spiffe://test/mallory"));
    let request = with_token_of(&alice);
    let received = Received::from_response(&mutual.send(&request, &alice).await);
    assert_eq!(received.all("x-user-id"), [SUBJECT]);
    // Again, because the token is remembered.
    assert_eq!(mutual.status(&request, &alice).await, 200);
    let refused = mutual.send(&request, &mallory).await;
    assert_eq!((refused.status, refused.text().as_str()), (401, "invalid token"));
    // A header of the client says nothing.
    let forged = with_token_of(&alice).header(HEADER, &format!("Hash={}", alice.hex()));
    assert_eq!(mutual.status(&forged, &mallory).await, 401);
    // Another token of the same client with the same name has another certificate.
    let again = mutual.authority.client("spiffe://test/alice");
    assert_eq!(mutual.status(&request, &again).await, 401);
    assert_eq!(mutual.status(&Request::get("/api/a"), &alice).await, 401);
}

#[tokio::test]
async fn an_envoy_that_passes_no_certificate_lets_no_bound_token_through() {
    let mutual = Mutual::grpc(&config(&json!({"mtls": true})), |envoy| envoy).await;
    let alice = mutual.authority.client("spiffe://test/alice");
    assert_eq!(mutual.status(&with_token_of(&alice), &alice).await, 401);
    // Other tokens are what they were.
    let unbound = Request::get("/api/a").bearer(&Claims::default().hs256());
    assert_eq!(mutual.status(&unbound, &alice).await, 200);
}

/// Envoy writes the header, and everything that it can into it.
fn writing_header(envoy: EnvoyConfig, details: &str) -> EnvoyConfig {
    let all = json!({"subject": true, "cert": true, "chain": true, "dns": true, "uri": true});
    envoy
        .with_connection_manager("forward_client_cert_details", json!(details))
        .with_connection_manager("set_current_client_cert_details", all)
}

#[tokio::test]
async fn the_header_that_envoy_writes_is_read_over_grpc_and_http() {
    let config = config(&json!({"mtls": true})).with("tokens.x_forwarded_client_cert", json!({}));
    let over_grpc = Mutual::grpc(&config, |envoy| writing_header(envoy, "SANITIZE_SET")).await;
    let over_http = Mutual::new(&config, |portcullis, upstream| {
        let http = EnvoyConfig::http(portcullis.addresses().http(), upstream.address());
        let asked = names(&["authorization", "x-forwarded-client-cert"]);
        writing_header(http.with("allowed_headers", asked), "SANITIZE_SET")
    })
    .await;
    for mutual in [over_grpc, over_http] {
        let alice = mutual.authority.client("spiffe://test/alice");
        assert_eq!(mutual.status(&with_token_of(&alice), &alice).await, 200);
        for name in [
            "spiffe://test/mallory".to_owned(),
            // Names that look like more of the header.
            format!("urn:a,Hash={}", alice.hex()),
            format!("urn:a;Hash={}", alice.hex()),
            format!("urn:a\";Hash={};a=\"", alice.hex()),
        ] {
            let mallory = mutual.authority.client(&name);
            let forged = with_token_of(&alice).header(HEADER, &format!("Hash={}", alice.hex()));
            for request in [with_token_of(&alice), forged] {
                assert_eq!(mutual.status(&request, &mallory).await, 401, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn the_header_of_a_proxy_before_envoy_is_read_if_that_proxy_is_trusted() {
    let header = json!({"elements": 2, "trusted_peers": ["spiffe://test/gateway"]});
    let config = config(&json!({"mtls": true})).with("tokens.x_forwarded_client_cert", header);
    let mutual = Mutual::grpc(&config, |envoy| writing_header(envoy, "APPEND_FORWARD")).await;
    let client = |name: &str| mutual.authority.client(name);
    let (alice, gateway) = (client("spiffe://test/alice"), client("spiffe://test/gateway"));
    let of_alice = format!("By=spiffe://test/gateway;Hash={};Subject=\"\"", alice.hex());
    let forwarded = with_token_of(&alice).header(HEADER, &of_alice);
    assert_eq!(mutual.status(&forwarded, &gateway).await, 200);
    // A client that connects past the gateway.
    assert_eq!(mutual.status(&forwarded, &client("spiffe://test/mallory")).await, 401);
    assert_eq!(mutual.status(&with_token_of(&alice), &alice).await, 401);
    // The gateway's own token is not the client's.
    assert_eq!(
        mutual.status(&with_token_of(&gateway).header(HEADER, &of_alice), &gateway).await,
        401
    );
    let twice = forwarded.header(HEADER, &of_alice);
    assert_eq!(mutual.status(&twice, &gateway).await, 401);
}
