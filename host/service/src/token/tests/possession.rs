//! Tests of tokens that are bound to a key: tokens and requests in, verdicts out.

mod certificates;

use aws_lc_rs::digest::{SHA256, digest};
use portcullis_types::attributes::{HeaderView, Headers, HttpAttributes, Peer};

use super::{
    super::{BoundRequest, Possession, PossessionFault, TokenScheme, possession},
    *,
};

const URI: &str = "https://api.test/a";

/// An issuer whose tokens may be bound in both ways, and a client with a key.
struct Bound {
    verifier: Verifier,
    set: IssuerSet,
    possession: Possession,
    client: Signer,
    algorithm: Algorithm,
    _files: Files,
}

/// A request, good unless a test changes it.
#[derive(Clone)]
struct Sent {
    scheme: TokenScheme,
    proofs: Vec<String>,
    headers: Vec<(String, String)>,
    view: HeaderView,
    source: Peer,
    now: Timestamp,
}

impl Bound {
    /// With these settings of the issuer, and those of `tokens`.
    fn with(issuer: Value, tokens: Value) -> Self {
        Self::of(Signer::p256(), Algorithm::ES256, issuer, tokens)
    }

    fn of(client: Signer, algorithm: Algorithm, issuer: Value, tokens: Value) -> Self {
        let files = Files::new();
        let Signer::Hmac(secret) = Signer::hmac() else { unreachable!() };
        let mut config = members(tokens);
        let mut issuer = members(issuer);
        issuer.insert("keys".to_owned(), json!([files.secret("secret", &secret)]));
        config.insert("issuers".to_owned(), json!({ "main": issuer }));
        let config = Value::Object(config);
        let possession = try_possession(&config).unwrap();
        let (verifier, _) = built(config);
        let set = verifier.issuer_set(&["main".to_owned()]).unwrap();
        Self { verifier, set, possession, client, algorithm, _files: files }
    }

    fn both() -> Self {
        Self::with(json!({"sender_constrained": {"dpop": true, "mtls": true}}), json!({}))
    }

    fn jwk(&self) -> Value {
        self.client.jwk(json!({}))
    }

    /// RFC 7638, independently of the code.
    fn jkt(&self) -> String {
        let jwk = self.jwk();
        let text = |name: &str| jwk[name].as_str().unwrap().to_owned();
        let canonical = match text("kty").as_str() {
            "EC" => format!(
                r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
                text("crv"),
                text("x"),
                text("y")
            ),
            "OKP" => format!(r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#, text("crv"), text("x")),
            _ => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text("e"), text("n")),
        };
        base64url(digest(&SHA256, canonical.as_bytes()))
    }

    fn dpop_token(&self) -> String {
        bound_token(&json!({ "jkt": self.jkt() }))
    }

    /// A proof for `token`, with other members of its header and other claims.
    fn proof(&self, token: &str, header: Value, more: Value) -> String {
        let mut full = json!({"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.jwk()});
        for (name, value) in members(header) {
            full[name] = value;
        }
        let ath = base64url(digest(&SHA256, token.as_bytes()));
        let mut claims =
            json!({"jti": "p1", "htm": "GET", "htu": URI, "iat": NOW_SECS, "ath": ath});
        for (name, value) in members(more) {
            claims[name] = value;
        }
        self.client.token_of(self.algorithm, &full.to_string(), &claims.to_string())
    }

    fn sent(&self, token: &str) -> Sent {
        Sent { proofs: vec![self.proof(token, json!({}), json!({}))], ..Sent::bearer() }.dpop()
    }

    fn fault(&self, token: &str, sent: &Sent) -> Option<PossessionFault> {
        let verified = self.verifier.verify(token, &self.set, sent.now).unwrap();
        let proofs = sent.proofs.iter().map(|proof| ("dpop".to_owned(), proof.clone()));
        let http = HttpAttributes {
            method: "GET".to_owned(),
            headers: Headers::new(proofs.chain(sent.headers.clone())),
            header_view: sent.view,
            ..HttpAttributes::default()
        };
        let is_target = |uri: &str| uri == URI;
        let request = BoundRequest {
            token,
            scheme: sent.scheme,
            http: &http,
            source: &sent.source,
            is_target: &is_target,
        };
        self.possession.check(&verified, &request, sent.now).err()
    }

    /// `ok` or the code.
    fn check(&self, token: &str, sent: &Sent) -> &'static str {
        match self.fault(token, sent) {
            None => "ok",
            Some(PossessionFault::Token(error)) => error.code(),
            Some(PossessionFault::Certificate(fault)) => fault.code(),
            Some(PossessionFault::Proof(fault)) => fault.code(),
            Some(PossessionFault::NonceNeeded(_)) => "nonce_needed",
            Some(PossessionFault::Full) => "full",
        }
    }

    /// What comes of a proof with other members of its header and other claims.
    fn with_proof(&self, header: Value, claims: Value) -> &'static str {
        let token = self.dpop_token();
        let proof = self.proof(&token, header, claims);
        self.check(&token, &Sent { proofs: vec![proof], ..self.sent(&token) })
    }
}

impl Sent {
    fn bearer() -> Self {
        Self {
            scheme: TokenScheme::Bearer,
            proofs: Vec::new(),
            headers: Vec::new(),
            view: HeaderView::Whole,
            source: Peer::default(),
            now: NOW,
        }
    }

    fn dpop(self) -> Self {
        Self { scheme: TokenScheme::Dpop, ..self }
    }

    fn certificate(mut self, certificate: &str) -> Self {
        certificate.clone_into(&mut self.source.certificate);
        self
    }

    fn forwarded(mut self, header: &str) -> Self {
        self.headers.push(("x-forwarded-client-cert".to_owned(), header.to_owned()));
        self
    }

    fn from(mut self, principal: &str) -> Self {
        principal.clone_into(&mut self.source.principal);
        self
    }
}

/// A token with this binding.
fn bound_token(cnf: &Value) -> String {
    Signer::hmac().token(Algorithm::HS256, &claims(json!({ "cnf": cnf })))
}

fn try_possession(config: &Value) -> Result<Possession, TokenBuildError> {
    let mut tokens = members(config.clone());
    let issuers = tokens.remove("issuers").unwrap();
    let tokens: TokensConfig = serde_json::from_value(Value::Object(tokens)).unwrap();
    possession(&serde_json::from_value(issuers).unwrap(), &tokens)
}

#[test]
fn a_bound_token_needs_its_scheme_and_a_proof_each_time() {
    let bound = Bound::both();
    let token = bound.dpop_token();
    let sent = bound.sent(&token);
    assert_eq!(bound.check(&token, &sent), "ok");
    // The token is remembered by now, and that makes no difference.
    assert_eq!(bound.check(&token, &sent), "replayed");
    assert_eq!(bound.check(&token, &Sent::bearer()), "sender_constrained");
    let bearer = Sent { scheme: TokenScheme::Bearer, ..bound.sent(&token) };
    assert_eq!(bound.check(&token, &bearer), "sender_constrained");
    assert_eq!(bound.check(&token, &Sent::bearer().dpop()), "no_proof");
    let twice = Sent { proofs: vec![sent.proofs[0].clone(); 2], ..sent.clone() };
    assert_eq!(bound.check(&token, &twice), "several_proofs");
    let joined = Sent { proofs: vec![sent.proofs.concat() + "," + &sent.proofs[0]], ..sent };
    assert_eq!(bound.check(&token, &joined), "several_proofs");
}

#[test]
fn a_token_that_is_not_bound_is_a_bearer_token_only() {
    let bound = Bound::both();
    let token = bound_token(&Value::Null);
    assert_eq!(bound.check(&token, &Sent::bearer()), "ok");
    assert_eq!(bound.check(&token, &bound.sent(&token)), "not_sender_constrained");
    let required = json!({"sender_constrained": {"dpop": true, "required": true}});
    let bound = Bound::with(required, json!({}));
    let refused = bound.verifier.verify(&token, &bound.set, NOW).unwrap_err();
    assert_eq!(refused.code(), "not_sender_constrained");
}

#[test]
fn proofs_may_be_signed_with_each_kind_of_public_key() {
    let issuer = || json!({"sender_constrained": {"dpop": true}});
    for (client, algorithm) in [
        (Signer::p256(), Algorithm::ES256),
        (Signer::p384(), Algorithm::ES384),
        (Signer::ed25519(), Algorithm::EdDsa),
        (Signer::new_rsa(), Algorithm::PS256),
    ] {
        let bound = Bound::of(client, algorithm, issuer(), json!({}));
        let token = bound.dpop_token();
        assert_eq!(bound.check(&token, &bound.sent(&token)), "ok", "{algorithm}");
        let other = Bound::of(Signer::p256(), Algorithm::ES256, issuer(), json!({}));
        let stolen = other.sent(&token);
        assert_eq!(bound.check(&token, &stolen), "wrong_proof_key", "{algorithm}");
        // Signed with another key than the header names.
        let mut forged =
            other.proof(&token, json!({"alg": algorithm, "jwk": bound.jwk()}), json!({}));
        if algorithm != Algorithm::ES256 {
            forged = forged.replace("ES256", algorithm.name());
        }
        let forged = Sent { proofs: vec![forged], ..stolen };
        assert_eq!(bound.check(&token, &forged), "bad_proof_signature", "{algorithm}");
    }
}

#[test]
fn the_header_of_a_proof_says_what_it_is_and_holds_a_public_key_alone() {
    let bound = Bound::both();
    let jwk = |more: Value| bound.client.jwk(more);
    for (header, code) in [
        (json!({"typ": "JWT"}), "wrong_proof_type"),
        (json!({"typ": "at+jwt"}), "wrong_proof_type"),
        (json!({"typ": Value::Null}), "wrong_proof_type"),
        (json!({"alg": "none"}), "malformed_proof"),
        (json!({"alg": "HS256"}), "wrong_proof_algorithm"),
        (json!({"alg": "ES384"}), "unusable_proof_key"),
        (json!({"alg": "RS256"}), "unusable_proof_key"),
        (json!({"crit": ["b64"], "b64": false}), "malformed_proof"),
        (json!({"jwk": Value::Null}), "unusable_proof_key"),
        (json!({"jwk": "a"}), "unusable_proof_key"),
        (json!({"jwk": {}}), "unusable_proof_key"),
        (json!({"jwk": jwk(json!({"d": "AA"}))}), "unusable_proof_key"),
        (json!({"jwk": jwk(json!({"k": "AA"}))}), "unusable_proof_key"),
        (json!({"jwk": jwk(json!({"oth": []}))}), "unusable_proof_key"),
        (json!({"jwk": {"kty": "oct", "k": "AA"}}), "unusable_proof_key"),
        (json!({"jwk": jwk(json!({"x": "AA"}))}), "wrong_proof_key"),
        // What it is for, and what it is called, is the client's affair.
        (json!({"kid": "k", "jwk": jwk(json!({"kid": "k", "use": "sig"}))}), "ok"),
    ] {
        assert_eq!(bound.with_proof(header.clone(), json!({})), code, "{header}");
    }
    // A proof that is signed with what every client knows.
    let secret = Signer::Hmac(bound.jwk().to_string().into_bytes());
    let token = bound.dpop_token();
    let header = json!({"typ": "dpop+jwt", "alg": "HS256", "jwk": bound.jwk()});
    let forged = secret.token_of(Algorithm::HS256, &header.to_string(), "{}");
    let sent = Sent { proofs: vec![forged], ..bound.sent(&token) };
    assert_eq!(bound.check(&token, &sent), "wrong_proof_algorithm");
    // The token itself is not a proof, and a proof is not a token.
    let sent = Sent { proofs: vec![token.clone()], ..sent };
    assert_eq!(bound.check(&token, &sent), "wrong_proof_type");
    let proof = bound.proof(&token, json!({}), json!({}));
    assert!(bound.verifier.verify(&proof, &bound.set, NOW).is_err());
}

#[test]
fn a_key_under_which_others_could_sign_proves_nothing() {
    let weak = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url([0; 32])});
    let issuer = json!({"sender_constrained": {"dpop": true}});
    let bound = Bound::of(Signer::ed25519(), Algorithm::EdDsa, issuer, json!({}));
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url([0; 32]));
    let jkt = base64url(digest(&SHA256, canonical.as_bytes()));
    let token = bound_token(&json!({ "jkt": jkt }));
    let proof = bound.proof(&token, json!({ "jwk": weak }), json!({}));
    let sent = Sent { proofs: vec![proof], ..bound.sent(&token) };
    assert_eq!(bound.check(&token, &sent), "unusable_proof_key");
}

#[test]
fn each_claim_of_a_proof_is_needed_and_typed() {
    let bound = Bound::both();
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        for value in [Value::Null, json!([]), json!({}), json!(true), json!("")] {
            let claims = json!({ name: value });
            assert_eq!(bound.with_proof(json!({}), claims.clone()), "malformed_proof", "{claims}");
        }
    }
    for (claims, code) in [
        (json!({"htm": "get"}), "wrong_method"),
        (json!({"htm": "POST"}), "wrong_method"),
        (json!({"htu": "https://api.test/b"}), "wrong_uri"),
        (json!({"ath": base64url(digest(&SHA256, b"other"))}), "wrong_token"),
        (json!({"iat": NOW_SECS - 60}), "outside_window"),
        (json!({"iat": NOW_SECS + 61}), "outside_window"),
        (json!({"jti": "p".repeat(257)}), "long_id"),
        (json!({"jti": "p".repeat(256)}), "ok"),
        (json!({"jti": "old", "iat": NOW_SECS - 59}), "ok"),
        (json!({"jti": "new", "iat": NOW_SECS + 60, "nonce": "any", "exp": 1}), "ok"),
    ] {
        assert_eq!(bound.with_proof(json!({}), claims.clone()), code, "{claims}");
    }
    // None of the bad ones is remembered.
    assert_eq!(bound.possession.remembered_proofs(), Some(3));
    let token = bound.dpop_token();
    for (uri, shown) in [
        (format!("https://evil.test/?access_token={token}"), "https://evil.test/"),
        ("https://alice:secret@evil.test/".to_owned(), "(not shown)"),
    ] {
        let proof = bound.proof(&token, json!({}), json!({"htu": uri}));
        let fault = bound.fault(&token, &Sent { proofs: vec![proof], ..bound.sent(&token) });
        let Some(PossessionFault::Proof(fault)) = fault else { panic!("{fault:?}") };
        assert_eq!(fault.detail(), format!("wrong_uri: {shown}"));
    }
}

#[test]
fn when_no_more_proofs_of_a_key_can_be_remembered_none_is_accepted() {
    let dpop = json!({"dpop": {"remembered_proofs": 20}});
    let bound = Bound::with(json!({"sender_constrained": {"dpop": true}}), dpop);
    let with = |jti: &str| bound.with_proof(json!({}), json!({ "jti": jti }));
    assert_eq!([with("a"), with("b"), with("c"), with("a")], ["ok", "ok", "full", "replayed"]);
    // When those are over, others are accepted; by then, the token has to be another one.
    let later = NOW_SECS + 90;
    let binding = json!({"exp": later + 60, "cnf": {"jkt": bound.jkt()}});
    let long = Signer::hmac().token(Algorithm::HS256, &claims(binding));
    let proof = bound.proof(&long, json!({}), json!({"iat": later, "jti": "c"}));
    let sent = Sent { proofs: vec![proof], now: Timestamp::from_secs(later), ..bound.sent(&long) };
    assert_eq!(bound.check(&long, &sent), "ok");
}

#[test]
fn a_proof_has_the_nonce_that_was_asked_for() {
    let files = Files::new();
    let secret = files.write("nonce", "0123456789abcdef0123456789abcdef");
    let nonce = json!({"secret_file": secret, "lasts": "1m"});
    let dpop = json!({"dpop": {"nonce": nonce}});
    let issuer = || json!({"sender_constrained": {"dpop": true}});
    let bound = Bound::with(issuer(), dpop.clone());
    let token = bound.dpop_token();
    let Some(PossessionFault::NonceNeeded(nonce)) = bound.fault(&token, &bound.sent(&token)) else {
        panic!("a proof without nonce is answered with one");
    };
    assert_eq!(bound.with_proof(json!({}), json!({"nonce": "other"})), "nonce_needed");
    assert_eq!(bound.with_proof(json!({}), json!({"nonce": 1})), "malformed_proof");
    // Nothing of that was used up.
    assert_eq!(bound.with_proof(json!({}), json!({ "nonce": nonce })), "ok");
    assert_eq!(bound.with_proof(json!({}), json!({ "nonce": nonce })), "replayed");
    // Another replica with the secret knows the nonce.
    let replica = Bound::with(issuer(), dpop);
    assert_eq!(replica.with_proof(json!({}), json!({ "nonce": nonce })), "ok");
    // A bad proof is not worth a nonce.
    assert_eq!(bound.with_proof(json!({}), json!({"htm": "PUT"})), "wrong_method");
}

#[test]
fn settings_without_effect_or_sense_are_refused() {
    let files = Files::new();
    let short = files.write("short", "too short");
    let error = |bound: Value, tokens: Value| {
        let mut config = members(tokens);
        let mut issuer = json!({"keys": []});
        issuer["sender_constrained"] = bound;
        config.insert("issuers".to_owned(), json!({ "main": issuer }));
        try_possession(&Value::Object(config)).unwrap_err().to_string()
    };
    let (dpop, mtls) = (json!({"dpop": true}), json!({"mtls": true}));
    let xfcc = |header: Value| json!({ "x_forwarded_client_cert": header });
    for (bound, tokens, part) in [
        (mtls.clone(), json!({"dpop": {}}), "tokens.dpop: has no effect"),
        (Value::Null, json!({"dpop": {}}), "tokens.dpop: has no effect"),
        (dpop.clone(), xfcc(json!({})), "tokens.x_forwarded_client_cert: has no effect"),
        (mtls.clone(), xfcc(json!({"elements": 0})), "x_forwarded_client_cert.elements"),
        (mtls.clone(), xfcc(json!({"elements": 9})), "x_forwarded_client_cert.elements"),
        (mtls.clone(), xfcc(json!({"elements": 2})), "trusted_peers: is needed"),
        (mtls, xfcc(json!({"trusted_peers": [" a"]})), "trusted_peers: has a blank"),
        (dpop.clone(), json!({"dpop": {"origins": ["https://a/"]}}), "tokens.dpop.origins"),
        (
            dpop.clone(),
            json!({"dpop": {"nonce": {"secret_file": short}}}),
            "nonce.secret_file: has fewer",
        ),
        (
            dpop.clone(),
            json!({"dpop": {"nonce": {"secret_file": "/none", "lasts": "5m"}}}),
            "tokens.dpop.nonce.secret_file",
        ),
        (
            dpop,
            json!({"dpop": {"nonce": {"secret_file": short, "lasts": "1ms"}}}),
            "tokens.dpop.nonce.lasts",
        ),
    ] {
        let error = error(bound, tokens);
        assert!(error.contains(part), "{part}: {error}");
    }
    for (settings, part) in [
        (json!({"sender_constrained": {}}), "main.sender_constrained: has neither"),
        (json!({"sender_constrained": {"required": true}}), "main.sender_constrained: has neither"),
        (
            json!({"sender_constrained": {"dpop": true}, "accept_sender_constrained": true}),
            "main.accept_sender_constrained: accepts without a check",
        ),
    ] {
        let error = build_error(json!({"issuers": {"main": with_keys(settings)}}));
        assert!(error.contains(part), "{part}: {error}");
    }
}

fn with_keys(mut issuer: Value) -> Value {
    issuer["keys"] = json!([]);
    issuer
}
