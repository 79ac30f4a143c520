//! Admin edge of a relay: its health and its metrics. It has no API.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use portcullis_runtime::{readiness::Readiness, telemetry::RelayMetrics};

use super::{METRICS_TYPE, readiness_answer};

/// Every path of a relay's admin edge.
pub fn relay_router(readiness: Readiness, metrics: RelayMetrics) -> Router {
    let ready = move || async move { readiness_answer(&readiness) };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/health", get(|| async { "ok\n" }))
        .route("/readyz", get(ready.clone()))
        .route("/ready", get(ready))
        .route("/metrics", get(show))
        .with_state(metrics)
}

async fn show(State(metrics): State<RelayMetrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
