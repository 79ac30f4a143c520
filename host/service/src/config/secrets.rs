//! Tests that no message about a configuration shows a value of it.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Env, parse};

/// Not a name, so that it is shown neither as a value nor as a key.
const SECRET: &str = "hunter2/+Secret";

/// Every section, with every kind of value.
fn configuration() -> Value {
    json!({
        "grpc": {"listen": "127.0.0.1:1", "max_connections": 1, "read_timeout": "5s", "reflection": true},
        "http": {"listen": "127.0.0.1:2", "request_from": "envoy", "path_prefix": "/a"},
        "admin": {"listen": "127.0.0.1:3", "token_file": "t"},
        "issuers": {"main": {
            "issuer": "https://id", "audiences": ["api"], "leeway": "1s",
            "sender_constrained": {"dpop": true, "mtls": true, "required": false},
            "keys": [
                {"jwks_file": "j"},
                {"secret_file": "s", "algorithm": "HS256", "kid": "k", "allow_short_secret": true},
                {"jwks_url": "https://u:p@h/j", "ca_file": "c"},
                {"discovery": true, "allow_http": true},
            ],
        }},
        "tokens": {
            "cache_capacity": 1, "key_reload_interval": "1s", "fetch": {"cache_dir": "d"},
            "dpop": {
                "window": "1m", "remembered_proofs": 1, "origins": ["https://a"],
                "nonce": {"secret_file": "s", "lasts": "5m"},
            },
            "x_forwarded_client_cert": {"elements": 1, "trusted_peers": ["spiffe://a/b"]},
        },
        "blacklist": {
            "mode": "redis-on-miss",
            "redis": {"url": "redis://u:p@h", "password_file": "p", "timeout": "1s"},
            "rabbitmq": {"url": "amqp://u:p@h", "exchange": "e", "topology": "stream"},
            "postgres": {"url": "postgres://u:p@h", "table": "t"},
            "refresh": {"enabled": false, "secret_file": "s"},
        },
        "policies": {"main": {"file": "f"}},
        "policy_host": {"reload_interval": "1s", "memory_limit_bytes": 1},
        "routes": [{
            "name": "a", "match": {"hosts": ["h"], "paths": ["/p"], "methods": ["GET"]},
            "token": "required", "issuers": ["main"], "policy": "main", "deadline": "5ms",
            "identity_headers": {"x-user-id": ["sub"]}, "settings": {"a": [1, {"b": null}]},
            "token_from": [
                {"header": "x-t", "scheme": "Token"}, {"cookie": "c"}, {"query": "q"},
            ],
            "forward_token": false,
        }],
        "paths": {"tolerate": []},
        "request_limits": {"max_headers": 1},
        "cors": {"allowed_origins": ["https://a"]},
        "denials": {"bodies": {"no_route": "b"}},
        "log": {"format": "json", "filter": "info", "allowed_one_in": 1},
        "shutdown": {"grace": "0s", "timeout": "1s"},
    })
}

/// Pointers to everything that can be replaced.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                places(
                    value,
                    &format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn assert_silent(text: &str, env: &[(&str, &str)]) {
    if let Err(error) = parse(text, Path::new("portcullis.yaml"), &Env::new(env.iter().copied())) {
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
}

#[test]
fn a_secret_at_any_place_is_never_shown() {
    let mut all = Vec::new();
    places(&configuration(), "", &mut all);
    for place in all {
        for secret in [
            json!(SECRET),
            json!(format!("redis://user:{SECRET}@host:6379")),
            json!(format!(" \t{SECRET}\"\n")),
            json!([SECRET]),
            json!({"a": SECRET}),
            json!([{"a": [SECRET]}]),
        ] {
            let mut config = configuration();
            *config.pointer_mut(&place).unwrap() = secret.clone();
            assert_silent(&config.to_string(), &[]);
            if let Some(name) = place.strip_prefix('/') {
                let name = format!("PORTCULLIS__{}", name.replace('/', "__").to_uppercase());
                let text = secret.to_string();
                assert_silent(&configuration().to_string(), &[(&name, &text)]);
                assert_silent(&configuration().to_string(), &[(&name, SECRET)]);
                assert_silent("", &[(&name, &format!("{SECRET}: [@"))]);
            }
        }
    }
}

/// The configuration as people write it, with secrets as its texts.
fn yaml() -> String {
    let redis = format!("redis://user:{SECRET}@host:6379/0");
    format!(
        "blacklist:\n  mode: redis-on-miss\n  redis:\n    url: {redis}\n    username: {SECRET}\n\
         issuers:\n  main:\n    issuer: \"{SECRET}\"\n    audiences: [{SECRET}, '{SECRET}']\n    \
         keys:\n    - {{ secret_file: {SECRET}, algorithm: HS256 }}\n\
         routes:\n- name: a\n  token: required # {SECRET}\n  settings: {{ a: |\n  {SECRET} }}\n"
    )
}

proptest! {
    #[test]
    fn a_secret_in_a_broken_file_is_never_shown(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[a-z0-9 \\n\\t:,{}\\[\\]'\"#&*!|>%@`-]{0,3}", 0..3_usize), 1..4),
        end in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut text: Vec<String> = Vec::new();
        // A secret is one piece, all else is cut into characters.
        for (index, part) in yaml().split(SECRET).enumerate() {
            if index > 0 {
                text.push(SECRET.to_owned());
            }
            text.extend(part.chars().map(String::from));
        }
        for (place, new, removed) in edits {
            let place = place.index(text.len());
            let removed = removed.min(text.len() - place);
            text.splice(place..place + removed, [new]);
        }
        if is_cut {
            text.truncate(end.index(text.len()) + 1);
        }
        assert_silent(&text.concat(), &[]);
    }
}
