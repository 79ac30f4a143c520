//! Example cases: the format of `examples/*.yaml`, as `examples/README.md` describes it, what a policy
//! gets to see of a request, and what the upstream does.

use std::collections::BTreeMap;

use portcullis_policy::{
    Allowed, ContextEntry, Header, Identity, Manifest, Parts, Peer, Request, Value,
};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// A file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    pub(crate) route: CaseRoute,
    pub(crate) settings: Json,
    pub(crate) cases: Vec<Case>,
}

/// The keys of a route that concern the rules.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct CaseRoute {
    #[serde(default)]
    pub(crate) identity_headers: BTreeMap<String, Vec<String>>,
}

/// A request and what should become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) request: CaseRequest,
    pub(crate) expect: Expectation,
    #[serde(default)]
    pub(crate) upstream: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CaseRequest {
    route: String,
    method: String,
    scheme: String,
    host: String,
    path: String,
    raw_path: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
    context: BTreeMap<String, String>,
    identity: Option<CaseIdentity>,
    source: CasePeer,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaseIdentity {
    subject: Option<String>,
    issuer: Option<String>,
    token_id: Option<String>,
    scopes: Vec<String>,
    expires_at: Option<i64>,
    claims: Map<String, Json>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CasePeer {
    address: String,
    port: u32,
    principal: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expectation {
    Allow(ExpectedAllow),
    Deny(ExpectedDeny),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExpectedAllow {
    pub(crate) set_request_headers: BTreeMap<String, String>,
    pub(crate) remove_request_headers: Vec<String>,
    pub(crate) response_headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedDeny {
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    pub(crate) body: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
}

// === impl CaseRequest ===

impl Default for CaseRequest {
    fn default() -> Self {
        Self {
            route: "example".to_owned(),
            method: "GET".to_owned(),
            scheme: "https".to_owned(),
            host: "api.example.com".to_owned(),
            path: "/".to_owned(),
            raw_path: None,
            headers: BTreeMap::new(),
            context: BTreeMap::new(),
            identity: None,
            source: CasePeer::default(),
        }
    }
}

impl CaseRequest {
    /// The same request without a token.
    pub(crate) fn anonymous(mut self) -> Self {
        self.identity = None;
        self
    }

    /// What the upstream reads under `name` if the request passes with these changes.
    pub(crate) fn upstream(
        &self,
        name: &str,
        route: &CaseRoute,
        allowed: &Allowed,
    ) -> Option<String> {
        if let Some(sources) = route.identity_headers.get(name) {
            let identity = self.identity.as_ref()?;
            return sources.iter().find_map(|source| identity.text(source));
        }
        let set = allowed.set_request_headers.iter().find(|header| header.name == name);
        if let Some(header) = set {
            return Some(header.value.clone());
        }
        let is_removed = allowed.remove_request_headers.iter().any(|removed| removed == name);
        self.headers.get(name).filter(|_| !is_removed).cloned()
    }

    /// The request as Portcullis passes it to a policy with this manifest.
    pub(crate) fn seen_through(self, manifest: &Manifest) -> Request {
        let context = self.context.into_iter().map(|(key, value)| ContextEntry { key, value });
        let headers = manifest.headers.iter().filter_map(|name| {
            let value = self.headers.get(name)?.clone();
            Some(Header { name: name.clone(), value })
        });
        let CasePeer { address, port, principal } = self.source;
        Request {
            headers: headers.collect(),
            route: self.route,
            method: self.method,
            scheme: self.scheme,
            host: self.host,
            path: self.path.clone(),
            raw_path: has(manifest, Parts::RAW_PATH).then(|| self.raw_path.unwrap_or(self.path)),
            query: None,
            context: if has(manifest, Parts::CONTEXT) { context.collect() } else { Vec::new() },
            metadata: Vec::new(),
            identity: self.identity.map(|identity| identity.seen_through(manifest)),
            source: has(manifest, Parts::SOURCE).then_some(Peer { address, port, principal }),
            body: None,
        }
    }
}

impl CaseIdentity {
    /// A claim at the top, as text.
    fn text(&self, name: &str) -> Option<String> {
        match name {
            "sub" => self.subject.clone(),
            name => self.claims.get(name)?.as_str().map(ToOwned::to_owned),
        }
    }

    fn seen_through(self, manifest: &Manifest) -> Identity {
        let claims = manifest.claims.iter().map(|path| {
            let (last, parents) = path.split_last()?;
            let mut object = &self.claims;
            for name in parents {
                object = object.get(name)?.as_object()?;
            }
            object.get(last).map(value)
        });
        Identity {
            claims: claims.collect(),
            subject: self.subject,
            issuer: self.issuer,
            token_id: self.token_id,
            scopes: self.scopes,
            expires_at: self.expires_at,
        }
    }
}

fn has(manifest: &Manifest, part: Parts) -> bool {
    (manifest.parts & part).bits() != 0
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(boolean) => Value::Boolean(*boolean),
        Json::Number(number) => {
            let large = || {
                number.as_u64().map_or_else(
                    || Value::Number(number.as_f64().unwrap()),
                    |number| Value::Json(number.to_string()),
                )
            };
            number.as_i64().map_or_else(large, Value::Integer)
        }
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) if items.iter().all(Json::is_string) => {
            Value::Texts(items.iter().map(|item| item.as_str().unwrap().to_owned()).collect())
        }
        other => Value::Json(other.to_string()),
    }
}
