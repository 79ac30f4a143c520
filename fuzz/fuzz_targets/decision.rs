//! Fuzz target of answers: a policy's verdict about a request, to the answer that Envoy reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::{authorizer::guard_verdict, grpc};
use portcullis_types::{
    attributes::{Headers, HttpAttributes},
    decision::{Allow, Deny, Header, Verdict},
};
use serde_json::Value;

#[path = "../../host/service/src/grpc/response/readable.rs"]
mod readable;

type Pairs = Vec<(String, String)>;
/// What a policy sets and removes on the request, adds to the response, sets and removes in the query.
type Changes = (Pairs, Vec<String>, Pairs, Pairs, Vec<String>);

fuzz_target!(|input: (Option<u16>, Changes, String, Pairs, String, Pairs)| {
    let (status, changes, body, metadata, query, sent) = input;
    let (set, removed, response, set_query, removed_query) = changes;
    let metadata = metadata.into_iter().map(|(key, text)| {
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (key, value)
    });
    let metadata = metadata.collect();
    let verdict = match status {
        Some(status) => Verdict::Deny(Deny { status, body, headers: headers(response), metadata }),
        None => Verdict::Allow(Allow {
            set_request_headers: headers(set),
            remove_request_headers: removed,
            response_headers: headers(response),
            set_query_parameters: set_query,
            remove_query_parameters: removed_query,
            metadata,
            ..Allow::default()
        }),
    };
    // Envoy takes no other names.
    let sent = sent.into_iter().filter(|(name, _)| http::HeaderName::try_from(name).is_ok());
    let request = HttpAttributes {
        path: format!("/?{query}"),
        headers: Headers::new(sent),
        ..HttpAttributes::default()
    };
    let answer = readable::decode(&grpc::encode(guard_verdict(verdict, &request)));
    readable::check(&answer);
});

fn headers(pairs: Pairs) -> Vec<Header> {
    pairs.into_iter().map(|(name, value)| Header { name, value }).collect()
}
