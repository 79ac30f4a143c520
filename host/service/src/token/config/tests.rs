//! Tests of what the configuration of issuers and keys is taken to mean.

use serde_json::{Value, json};

use super::{super::algorithm::Algorithm, *};

fn key(value: Value) -> Result<KeyConfig, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn each_kind_of_key_is_known_by_its_name() {
    let secret = key(json!({"secret_file": "s", "algorithm": "HS256"})).unwrap();
    assert!(matches!(secret, KeyConfig::Secret(key) if !key.allow_short_secret));
    let pem = key(json!({"pem_file": "p", "algorithm": "EdDSA", "kid": "k"})).unwrap();
    assert!(matches!(pem, KeyConfig::Pem(key) if key.algorithm == Algorithm::EdDsa));
    let jwks = key(json!({"jwks_file": "j"})).unwrap();
    assert!(matches!(&jwks, KeyConfig::Jwks(keys) if keys.jwks_file.as_os_str() == "j"));
    let url = key(json!({"jwks_url": "https://id.test/a", "ca_file": "c"})).unwrap();
    assert!(
        matches!(&url, KeyConfig::Url(keys) if keys.jwks_url.to_string() == "https://id.test/a")
    );
    let discovered = key(json!({"discovery": true, "allow_http": true})).unwrap();
    assert!(matches!(&discovered, KeyConfig::Discovered(keys) if keys.allow_http));
    assert!(url.is_remote() && discovered.is_remote() && !jwks.is_remote());
}

#[test]
fn a_key_that_makes_no_sense_says_what_to_change() {
    let one_of = "exactly one of `secret_file`, `pem_file`, `jwks_file`, `jwks_url` and `disc";
    for (value, message) in [
        (json!({}), one_of),
        (json!({"secret_file": "s", "pem_file": "p", "algorithm": "HS256"}), one_of),
        (json!({"secret_file": "s"}), "`algorithm` is missing"),
        (json!({"pem_file": "p"}), "such as RS256"),
        (json!({"jwks_file": "j", "algorithm": "RS256"}), "`algorithm` does not go with"),
        (json!({"pem_file": "p", "algorithm": "RS256", "allow_short_secret": true}), "remove"),
        (json!({"jwks_url": "https://x", "discovery": true}), one_of),
        (json!({"discovery": false}), one_of),
        (json!({"jwks_url": "https://x", "algorithm": "RS256"}), "`algorithm` does not go with"),
        (json!({"jwks_file": "j", "ca_file": "c"}), "`ca_file` does not go with `jwks_file`"),
        (json!({"jwks_url": "http://[::1]/a", "ca_file": "c"}), "`ca_file` does not go with"),
        (json!({"jwks_url": "http://id.test/a"}), "`jwks_url` begins with `http://`"),
        (json!({"jwks_url": "https://id.test/a", "allow_http": true}), "needs no `allow_http`"),
        (json!({"jwks_url": "https://u:p@id.test/a"}), "`jwks_url` has a user"),
        (json!({"jwks_url": "https://169.254.169.254/a"}), "link-local"),
        (json!({"pem_file": "p", "algorithm": "RS256", "kid": ""}), "`kid` is empty"),
        (json!({"secret_file": "s", "algorithm": "HS256", "kid": "k "}), "`kid` is empty, or"),
        (json!({"pem_file": "p", "algorithm": "ES512"}), "unknown variant `ES512`"),
        (json!({"pem_file": "p", "algorithm": "none"}), "unknown variant `none`"),
    ] {
        let error = key(value.clone()).unwrap_err();
        assert!(error.contains(message), "{value}: {error}");
    }
}

#[test]
fn an_issuer_has_safe_defaults() {
    let issuer: IssuerConfig = serde_json::from_value(json!({"keys": []})).unwrap();
    assert_eq!(issuer.filled().required_claims.unwrap(), ["exp", "sub", "jti"]);
    assert_eq!(issuer.filled().header_types.unwrap(), ["at+jwt", "JWT", "absent"]);
    assert_eq!(issuer.leeway.get(), std::time::Duration::from_secs(5));
    let error = serde_json::from_value::<IssuerConfig>(json!({"keys": [], "audience": "a"}));
    assert!(error.unwrap_err().to_string().contains("unknown field `audience`"));
}

#[test]
fn names_and_algorithms_agree() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        assert_eq!(json!(algorithm), json!(algorithm.name()));
        assert_eq!(format!("{:?}", algorithm.jose()), algorithm.name());
    }
    assert_eq!(Algorithm::from_name("Ed25519"), Some(Algorithm::EdDsa));
    assert_eq!(serde_json::from_value::<Algorithm>(json!("Ed25519")).unwrap(), Algorithm::EdDsa);
    for name in ["none", "NONE", "hs256", "HS256 ", "", "ES512", "ES256K", "ed25519", "Ed448"] {
        assert_eq!(Algorithm::from_name(name), None, "{name}");
    }
}

#[test]
fn the_schema_knows_the_kinds_of_key() {
    let schema = schemars::schema_for!(IssuerConfig).to_value().to_string();
    for name in ["secret_file", "pem_file", "jwks_file", "jwks_url", "discovery", "anyOf"] {
        assert!(schema.contains(name), "{name}: {schema}");
    }
}
