//! Echo mode of the hostile guest: returns the inputs that it got of a request, so that a test can
//! compare them with what was sent.

use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};

use portcullis_policy::{Allowed, Decision, Identity, Manifest, Parts, Request, Value};
use serde_json::{Value as Json, json};

/// Requests one of every input that a manifest can name.
pub(crate) fn manifest() -> Manifest {
    Manifest::new()
        .with_header("x-asked")
        .with_claim(["realm_access", "roles"])
        .with_metadata("asked.filter", ["found", "deep"])
        .with_parts(Parts::RAW_PATH | Parts::QUERY | Parts::CONTEXT | Parts::SOURCE | Parts::BODY)
}

/// Allows the request, echoes it in the header `x-seen`, and changes everything else that a policy
/// may change: the query, and a value of each type in the metadata.
pub(crate) fn answer(request: &Request) -> Decision {
    let texts = vec!["a".to_string(), "b".to_string()];
    Allowed::new()
        .set_header("x-seen", seen(request).to_string())
        .set_query("added", "yes & no")
        .remove_query("debug")
        .metadata("null", Value::Null)
        .metadata("boolean", true)
        .metadata("integer", 7_i64)
        .metadata("number", Value::Number(0.5))
        .metadata("text", "plain")
        .metadata("texts", Value::Texts(texts))
        .metadata("json", Value::Json("{\"deep\":[1,null]}".to_string()))
        .into()
}

/// The whole request: a new field of the contract does not compile until it is echoed as well.
fn seen(request: &Request) -> Json {
    let Request {
        route,
        method,
        scheme,
        host,
        path,
        raw_path,
        query,
        headers,
        context,
        metadata,
        identity,
        source,
        body,
    } = request;
    let pair = |name: &String, value: &String| json!([name, value]);
    let headers: Vec<_> = headers.iter().map(|field| pair(&field.name, &field.value)).collect();
    let context: Vec<_> = context.iter().map(|entry| pair(&entry.key, &entry.value)).collect();
    let source = source.as_ref().map(|peer| json!([peer.address, peer.port, peer.principal]));
    let body = body.as_ref().map(|body| json!({"bytes": body.bytes, "truncated": body.truncated}));
    json!({
        "route": route,
        "method": method,
        "scheme": scheme,
        "host": host,
        "path": path,
        "raw_path": raw_path,
        "query": query,
        "headers": headers,
        "context": context,
        "metadata": values(metadata),
        "identity": identity.as_ref().map(caller),
        "source": source,
        "body": body,
    })
}

fn caller(identity: &Identity) -> Json {
    let Identity { subject, issuer, token_id, scopes, expires_at, claims } = identity;
    json!({
        "subject": subject,
        "issuer": issuer,
        "token_id": token_id,
        "scopes": scopes,
        "expires_at": expires_at,
        "claims": values(claims),
    })
}

/// Values with the names of their types, so that a text differs from the number in it.
fn values(values: &[Option<Value>]) -> Json {
    let typed = |value: &Value| match value {
        Value::Null => json!("null"),
        Value::Boolean(value) => json!({"boolean": value}),
        Value::Integer(value) => json!({"integer": value}),
        Value::Number(value) => json!({"number": value}),
        Value::Text(value) => json!({"text": value}),
        Value::Texts(value) => json!({"texts": value}),
        Value::Json(value) => json!({"json": value}),
    };
    values.iter().map(|value| value.as_ref().map(typed)).collect()
}
