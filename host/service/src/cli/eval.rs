//! The command `portcullis policy eval`: one component, one settings file, one request, one
//! decision.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use portcullis_runtime::telemetry::Metrics;
use portcullis_types::{
    attributes::{Body, HeaderView, Headers, Peer},
    decision::{Allow, Deny, Header, Verdict},
    duration::HumanDuration,
    json::JsonObject,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{CliError, print};
use crate::{
    authorizer::DEFAULT_DEADLINE,
    config::{read_typed, read_yaml},
    policy::{self, Budget, HostConfig, Identity, Input, PolicyConfig, PolicyUse},
};

const NAME: &str = "policy";

#[derive(Debug, Args)]
pub(super) struct Eval {
    /// The component, a `.wasm` file.
    component: PathBuf,
    /// The settings, a YAML or JSON file.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The request, a YAML or JSON file: `method`, `path`, `headers`, `identity` and so on, as
    /// docs/policies.md lists them. What is left out has a default.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// How long the policy may take.
    #[arg(long, value_name = "DURATION", default_value_t = DEFAULT_DEADLINE)]
    deadline: HumanDuration,
}

/// A component cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file cannot be read.
    #[error("{}: cannot read the file: {source}; check the path and the permissions", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file does not say what it should.
    #[error("{}: {message}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// The component is no policy, or refuses the settings.
    #[error(transparent)]
    Policy(#[from] policy::PolicyBuildError),
    /// The policy gave no verdict.
    #[error("the policy gave no verdict, which denies the request: {0}")]
    NoVerdict(#[from] policy::EvaluateError),
    /// The runtime cannot be started.
    #[error("cannot start the runtime: {0}; check the limit on file descriptors")]
    Runtime(#[from] std::io::Error),
}

/// A request as people write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RequestFile {
    route: String,
    method: String,
    scheme: String,
    host: String,
    path: String,
    query: Option<String>,
    headers: BTreeMap<String, String>,
    context: BTreeMap<String, String>,
    metadata: Map<String, Value>,
    identity: Option<IdentityFile>,
    source: PeerFile,
    body: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IdentityFile {
    subject: Option<String>,
    issuer: Option<String>,
    token_id: Option<String>,
    scopes: Vec<String>,
    expires_at: Option<i64>,
    claims: Map<String, Value>,
}

/// What policies see of it.
struct CompleteIdentity {
    claims: JsonObject,
    scopes: String,
    expires_at: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PeerFile {
    address: String,
    port: u32,
    principal: String,
}

impl Default for RequestFile {
    fn default() -> Self {
        Self {
            route: "eval".to_owned(),
            method: "GET".to_owned(),
            scheme: "https".to_owned(),
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            query: None,
            headers: BTreeMap::new(),
            context: BTreeMap::new(),
            metadata: Map::new(),
            identity: None,
            source: PeerFile::default(),
            body: None,
        }
    }
}

impl Eval {
    pub(super) fn run(self) -> Result<(), CliError> {
        let decision = self.decide()?;
        print(&format!("{decision:#}\n"))
    }

    fn decide(&self) -> Result<Value, EvalError> {
        let mut request: RequestFile = read(&self.request)?;
        let identity = request.identity.take().map(IdentityFile::complete).transpose();
        let identity = identity.map_err(|error| EvalError::Malformed {
            path: self.request.clone(),
            message: format!("`identity.claims`: {error}"),
        })?;
        let settings: Value = self.settings.as_deref().map(read).transpose()?.unwrap_or_default();
        let host = HostConfig::default();
        let policies =
            BTreeMap::from([(NAME.to_owned(), PolicyConfig { file: self.component.clone() })]);
        let route_use = PolicyUse { route: request.route.clone(), settings: settings.to_string() };
        let uses = BTreeMap::from([(NAME.to_owned(), vec![route_use])]);
        let (policies, ..) = policy::build(&host, &policies, &uses, &Metrics::new(&[]))?;
        // The policy was built for this very route.
        let Some(policy) = policies.handle(NAME, &request.route) else { return Ok(Value::Null) };
        let budget = Budget::new(self.deadline.get(), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let evaluation = request.with_input(identity.as_ref(), |input| {
            runtime.block_on(policy.evaluate(input, budget))
        });
        let (verdict, reason) = evaluation.outcome?;
        Ok(show(&verdict, reason.as_deref(), &evaluation.digest))
    }
}

impl RequestFile {
    fn with_input<R>(
        self,
        identity: Option<&CompleteIdentity>,
        ask: impl FnOnce(&Input<'_>) -> R,
    ) -> R {
        let headers: Headers = self.headers.into_iter().collect();
        let context: Vec<_> = self.context.into_iter().collect();
        let source = Peer {
            address: self.source.address,
            port: self.source.port,
            principal: self.source.principal,
            certificate: String::new(),
        };
        let body = self.body.map(|text| Body { bytes: text.into_bytes(), truncated: false });
        let raw_path = match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        };
        ask(&Input {
            route: &self.route,
            method: &self.method,
            scheme: &self.scheme,
            host: &self.host,
            path: &self.path,
            raw_path: &raw_path,
            query: self.query.as_deref(),
            headers: &headers,
            header_view: HeaderView::default(),
            context: &context,
            metadata: &self.metadata,
            identity: identity.map(CompleteIdentity::as_input),
            source: &source,
            body: body.as_ref(),
        })
    }
}

impl IdentityFile {
    /// The standard claims may be given by their own keys or among the claims.
    fn complete(self) -> Result<CompleteIdentity, serde_json::Error> {
        let mut claims = self.claims;
        for (name, value) in [("sub", self.subject), ("iss", self.issuer), ("jti", self.token_id)] {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value.into());
            }
        }
        let claims = JsonObject::from_map(&claims)?;
        let scopes = self.scopes.join(" ");
        Ok(CompleteIdentity { claims, scopes, expires_at: self.expires_at })
    }
}

impl CompleteIdentity {
    fn as_input(&self) -> Identity<'_> {
        let text = |name| self.claims.get(name).and_then(|claim| claim.as_str());
        Identity {
            claims: &self.claims,
            subject: text("sub"),
            issuer: text("iss"),
            token_id: text("jti"),
            scopes: &self.scopes,
            expires_at: self.expires_at,
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, EvalError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| EvalError::Unreadable { path: path.to_owned(), source })?;
    let malformed = |message| EvalError::Malformed { path: path.to_owned(), message };
    let value = read_yaml(&text).map_err(|error| malformed(error.to_string()))?;
    read_typed(&value).map_err(|error| malformed(format!("`{}`: {}", error.key(), error.message())))
}

fn show(verdict: &Verdict, reason: Option<&str>, digest: &str) -> Value {
    match verdict {
        Verdict::Allow(allow) => {
            let Allow {
                set_request_headers,
                remove_request_headers,
                other_spellings: _,
                response_headers,
                set_query_parameters,
                remove_query_parameters,
                metadata,
            } = allow;
            json!({
                "decision": "allow",
                "set_request_headers": headers(set_request_headers),
                "remove_request_headers": remove_request_headers,
                "response_headers": headers(response_headers),
                "set_query_parameters": set_query_parameters,
                "remove_query_parameters": remove_query_parameters,
                "metadata": metadata.iter().cloned().collect::<Map<_, _>>(),
                "digest": digest,
            })
        }
        Verdict::Deny(Deny { status, body, headers: fields, metadata }) => json!({
            "decision": "deny",
            "status": status,
            "reason": reason,
            "body": body,
            "headers": headers(fields),
            "metadata": metadata.iter().cloned().collect::<Map<_, _>>(),
            "digest": digest,
        }),
    }
}

fn headers(headers: &[Header]) -> Value {
    headers.iter().map(|header| json!({ &header.name: header.value })).collect()
}
