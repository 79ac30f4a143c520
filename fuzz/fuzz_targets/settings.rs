//! Fuzz target of the settings of the default policy. Those that are accepted then decide on a few
//! requests, and their decisions are ones that Portcullis can carry out.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use portcullis_policy::{
    ContextEntry, Decision, Header, Identity, Manifest, Peer, Policy, Request, Value,
};
use portcullis_rules::Rules;

fuzz_target!(|text: &str| {
    let Ok((rules, manifest)) = Rules::configure(text) else { return };
    let again = Rules::configure(text).map(|(_, manifest)| manifest);
    assert!(again.is_ok_and(|again| again == manifest), "the same settings, the same manifest");
    let long = "/a".repeat(4096);
    let paths =
        ["", "/", "/users/u1", "/a/b/c/d", "/users/u1/", "/é/%", "/g%2Fp/%252F", "/%E9", &*long];
    let mut names = BTreeSet::new();
    let mut allows = Vec::new();
    for (turn, path) in paths.iter().enumerate() {
        for identity in [None, Some(identity(&manifest, turn))] {
            let decision = rules.evaluate(&request(&manifest, path, identity));
            let decision = decision.expect("rules always decide");
            check(&decision);
            if let Decision::Allow(allowed) = decision {
                let set = allowed.set_request_headers.iter().map(|header| header.name.clone());
                names.extend(set);
                allows.push(allowed);
            }
        }
    }
    // What one answer sets, no other leaves to the client.
    for allowed in allows {
        let is_set =
            |name: &String| allowed.set_request_headers.iter().any(|header| header.name == *name);
        for name in &names {
            assert!(is_set(name) || allowed.remove_request_headers.contains(name), "{name}");
        }
    }
});

fn request(manifest: &Manifest, path: &str, identity: Option<Identity>) -> Request {
    let header = |name: &String| Header { name: name.clone(), value: "allow".to_owned() };
    let peer = Peer { address: "10.0.0.1".to_owned(), port: 1, principal: "x/sa/a".to_owned() };
    Request {
        route: "fuzz".to_owned(),
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: "api.example.com".to_owned(),
        path: path.to_owned(),
        raw_path: Some(format!("{path}?q")),
        query: None,
        headers: manifest.headers.iter().map(header).collect(),
        context: vec![ContextEntry { key: "a".to_owned(), value: "b".to_owned() }],
        metadata: Vec::new(),
        identity,
        source: Some(peer),
        body: None,
    }
}

/// A caller whose claims are of every type in turn.
fn identity(manifest: &Manifest, turn: usize) -> Identity {
    let value = |position: usize| {
        Some(match (position + turn) % 9 {
            0 => return None,
            1 => Value::Null,
            2 => Value::Boolean(true),
            3 => Value::Integer(i64::MIN),
            4 => Value::Number(0.5),
            5 => Value::Text("L3VzZXJz".to_owned()),
            6 => Value::Texts(vec!["u1".to_owned(), "a,b".to_owned()]),
            7 => Value::Text(" u1 ".to_owned()),
            _ => Value::Json("[1,\"u1\",{\"a\":[]}]".to_owned()),
        })
    };
    Identity {
        subject: Some("u1".to_owned()),
        issuer: (turn % 2 == 0).then(|| "https://issuer.example".to_owned()),
        token_id: Some("t1".to_owned()),
        scopes: vec!["read".to_owned()],
        expires_at: Some(1_700_000_600),
        claims: (0..manifest.claims.len()).map(value).collect(),
    }
}

fn check(decision: &Decision) {
    let lists = match decision {
        Decision::Allow(allowed) => {
            let set = &allowed.set_request_headers;
            let removed = &allowed.remove_request_headers;
            assert!(set.iter().all(|header| !removed.contains(&header.name)));
            [set, &allowed.response_headers]
        }
        Decision::Deny(denied) => {
            assert!((200..=599).contains(&denied.status));
            assert!(denied.body.is_empty() || ![204, 205, 304].contains(&denied.status));
            assert!(!denied.reason.is_empty());
            [&denied.headers, &denied.headers]
        }
    };
    for header in lists.into_iter().flatten() {
        assert!(!header.value.is_empty());
        assert_eq!(header.value, header.value.trim());
        assert!(!header.value.chars().any(char::is_control));
        assert!(!header.name.is_empty() && !header.name.contains([':', ' ']));
        assert!(!header.name.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
}
