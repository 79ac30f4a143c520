//! The admin edge: health and metrics for anyone who can reach it, and the authenticated API under
//! `/v1` for revocations, policies and issuers.
//!
//! It never decides on a request, and never shows a token or a token id.

mod relay;
mod revocations;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use portcullis_revocation::{Blacklist, Revoker, Status};
use portcullis_runtime::{
    drain::Drain,
    listen::{self, BindError, Incoming, at_least_one},
    readiness::Readiness,
    telemetry::{Edge, EdgeConnections, Metrics},
};
use portcullis_types::secret::Secret;
pub use relay::relay_router;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    http_api::{self, ApiLimits},
    policy::{Policies, PolicyStatus, Reload},
    token::{IssuerStatus, Verifier},
};

/// Settings of the admin edge.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Admin")]
pub struct AdminConfig {
    /// Address to listen on. Loopback unless you say otherwise.
    pub listen: SocketAddr,
    /// Connections that may be open: probes, Prometheus, operators. Where all are open and a new one
    /// comes, an idle one is closed for it, as with `grpc.max_connections`.
    #[serde(deserialize_with = "at_least_one")]
    pub max_connections: u32,
    /// File with the bearer token for `/v1`. Without it, `/v1` is switched off.
    pub token_file: Option<std::path::PathBuf>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            max_connections: 64,
            token_file: None,
        }
    }
}

/// What the admin edge shows and drives.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// The bearer token of `/v1`; without it, `/v1` is switched off.
    pub token: Option<Secret>,
    /// Whether traffic may come.
    pub readiness: Readiness,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The issuers and their keys.
    pub verifier: Verifier,
    /// The policies.
    pub policies: Policies,
    /// Asks for a reload of the policies.
    pub reload: Reload,
    /// Where revocations go.
    pub revocations: Revoker,
    /// What this replica is called in the store, if there is one.
    pub replica: Option<String>,
    /// The state of the blacklist.
    pub feed: Status,
    /// The blacklist itself.
    pub blacklist: Blacklist,
}

const LIMITS: ApiLimits = ApiLimits {
    // Scrapes are closer together.
    idle: Duration::from_secs(75),
    body_pause: Duration::from_secs(10),
    // To send a million revocations, and to wait a minute for all replicas.
    request: Duration::from_mins(5),
};

/// The media type of metrics.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The admin edge with its address open, before it serves.
#[derive(Debug)]
pub struct AdminEdge(Incoming);

/// Opens the address.
///
/// # Errors
/// When the address is taken, is not one of this machine, or needs more rights.
pub async fn bind(config: &AdminConfig) -> Result<AdminEdge, BindError> {
    Ok(AdminEdge(listen::bind(Edge::Admin, config.listen, config.max_connections).await?))
}

impl AdminEdge {
    /// The address, with the port that the operating system chose if none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// The same with another limit for connections, which are counted in `metrics`.
    #[must_use]
    pub fn limited(self, limit: usize, metrics: EdgeConnections) -> Self {
        Self(self.0.limited(limit, metrics))
    }

    /// Serves until the drain begins.
    pub async fn serve(self, state: AdminState, drain: Drain) {
        self.serve_router(router(state), drain).await;
    }

    /// Serves the paths of `router` until the drain begins.
    pub async fn serve_router(self, router: Router, drain: Drain) {
        http_api::serve(self.0, router, LIMITS, drain).await;
    }
}

/// Every path of the admin edge.
pub fn router(state: AdminState) -> Router {
    let state = Arc::new(state);
    let v1 = Router::new()
        .route("/v1/issuers", get(issuers))
        .route("/v1/policies", get(policies))
        .route("/v1/policies/reload", post(reload))
        .merge(revocations::router())
        .layer(middleware::from_fn_with_state(Arc::clone(&state), authenticate));
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/health", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .merge(v1)
        .with_state(state)
}

async fn ready(State(state): State<Arc<AdminState>>) -> Response {
    readiness_answer(&state.readiness)
}

fn readiness_answer(readiness: &Readiness) -> Response {
    let causes = readiness.causes();
    if causes.is_empty() {
        return "ready\n".into_response();
    }
    let body = format!("not ready: {}\n", causes.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(state): State<Arc<AdminState>>) -> Response {
    match state.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn issuers(State(state): State<Arc<AdminState>>) -> Json<Vec<IssuerStatus>> {
    Json(state.verifier.status())
}

async fn policies(State(state): State<Arc<AdminState>>) -> Json<Vec<PolicyStatus>> {
    Json(state.policies.status())
}

/// Answers with the state after the attempt; 409 if a policy was refused and the old one serves on,
/// 504 if one did not load in time.
async fn reload(State(state): State<Arc<AdminState>>) -> Response {
    if let Err(error) = state.reload.reload().await {
        return (StatusCode::GATEWAY_TIMEOUT, format!("{error}\n")).into_response();
    }
    let status = state.policies.status();
    let code = if status.iter().any(|policy| policy.last_error.is_some()) {
        StatusCode::CONFLICT
    } else {
        StatusCode::OK
    };
    (code, Json(status)).into_response()
}

async fn authenticate(
    State(state): State<Arc<AdminState>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let Some(secret) = &state.token else {
        let hint = "the API is switched off; set `admin.token_file` to switch it on\n";
        return (StatusCode::FORBIDDEN, hint).into_response();
    };
    let presented = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_first_chunk::<7>())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    match presented {
        Some((_, token)) if secret.matches(token) => next.run(request).await,
        _ => {
            let hint = "send `authorization: Bearer` and the content of `admin.token_file`\n";
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, hint).into_response()
        }
    }
}
