//! The API `/v1/revocations`: adding, removing and looking up entries of the blacklist.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use portcullis_revocation as revocation;
use portcullis_revocation::{Revocation, RevokeError, RevokeOptions, Revoked, Target};
use portcullis_types::{duration::HumanDuration, timestamp::Timestamp, token_id::TokenId};
use serde::Deserialize;
use serde_json::json;

use super::AdminState;

/// A million revocations in one request, roughly.
const MAX_BODY_BYTES: usize = 256 << 20;
/// The media type of many events, one a line.
const NDJSON: &str = "application/x-ndjson";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeQuery {
    /// How long to wait for all ready replicas.
    wait: Option<HumanDuration>,
    /// Whether a cut-off may cover logins of the future.
    #[serde(default)]
    future: bool,
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new()
        .route("/v1/revocations", get(summary).post(add))
        .route("/v1/revocations/{jti}", get(show).delete(remove))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

impl From<RevokeQuery> for RevokeOptions {
    fn from(RevokeQuery { wait, future }: RevokeQuery) -> Self {
        Self { wait: wait.map(HumanDuration::get), future }
    }
}

async fn summary(State(state): State<Arc<AdminState>>) -> Response {
    let status = state.feed.get();
    Json(json!({
        "replica": state.replica,
        "state": status.state.to_string(),
        "since": status.since.as_secs(),
        "staleness_ms": status.staleness.as_millis(),
        "lost": status.lost,
        "connected": status.connected,
        "reconnects": status.reconnects,
        "offset": status.offset,
        "last_event_at": status.last_event_at.map(Timestamp::as_secs),
        "entries": status.entries,
        "cutoffs": status.cutoffs,
    }))
    .into_response()
}

/// Revokes as one event says, or many as NDJSON. Answers when it is applied here and, with a store,
/// known to it; with `?wait=5s` when all ready replicas have applied it.
async fn add(
    State(state): State<Arc<AdminState>>,
    Query(asked): Query<RevokeQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let many = content_type.is_some_and(|value| value.starts_with(NDJSON));
    let events: Vec<(usize, &[u8])> = if many {
        let lines = body.split(|byte| *byte == b'\n').zip(1..).map(|(line, number)| (number, line));
        lines.filter(|(_, line)| !line.trim_ascii().is_empty()).collect()
    } else {
        vec![(1, &body)]
    };
    match state.revocations.revoke_events(&events, asked.into()).await {
        Ok(revoked) => revoked_answer(StatusCode::CREATED, revoked),
        Err(error) => refusal(&error),
    }
}

async fn show(State(state): State<Arc<AdminState>>, Path(jti): Path<String>) -> Response {
    let Ok(token_id) = TokenId::new(&jti) else { return empty_id() };
    match state.blacklist.until(&token_id) {
        Some(Timestamp::MAX) => Json(json!({ "revoked": true, "until": null })).into_response(),
        Some(until) if Timestamp::now() < until => {
            Json(json!({ "revoked": true, "until": until.as_secs() })).into_response()
        }
        _ => (StatusCode::NOT_FOUND, Json(json!({ "revoked": false }))).into_response(),
    }
}

async fn remove(
    State(state): State<Arc<AdminState>>,
    Path(jti): Path<String>,
    Query(asked): Query<RevokeQuery>,
) -> Response {
    let Ok(target) = Target::token(&jti) else { return empty_id() };
    match state.revocations.revoke(&Revocation::unrevoke(target), asked.into()).await {
        Ok(Revoked { receipt: None, .. }) => StatusCode::NO_CONTENT.into_response(),
        Ok(revoked) => revoked_answer(StatusCode::OK, revoked),
        Err(error) => refusal(&error),
    }
}

/// `success`, or 504 where not all have confirmed in time.
fn revoked_answer(success: StatusCode, revoked: Revoked) -> Response {
    let mut answer = json!({ "applied": revoked.applied });
    if revoked.over > 0 {
        answer["expired"] = revoked.over.into();
    }
    if let Some(time) = revoked.logins_from.and_then(revocation::write_time) {
        answer["logins_from"] = time.into();
    }
    let Some(receipt) = revoked.receipt else { return (success, Json(answer)).into_response() };
    answer["replicas"] = receipt.replicas.into();
    answer["missing"] = receipt.missing.into();
    if receipt.replicas_unknown {
        answer["may_lack_some"] = true.into();
    }
    let millis = u64::try_from(receipt.took.as_millis()).unwrap_or(u64::MAX);
    answer["milliseconds"] = millis.into();
    let code = if receipt.is_complete() { success } else { StatusCode::GATEWAY_TIMEOUT };
    (code, Json(answer)).into_response()
}

fn refusal(error: &RevokeError) -> Response {
    let code = match error {
        RevokeError::Parse { .. } | RevokeError::Future { .. } => StatusCode::BAD_REQUEST,
        RevokeError::Table(_) => StatusCode::CONFLICT,
        RevokeError::Unconfirmed(_) => StatusCode::GATEWAY_TIMEOUT,
        RevokeError::Closed(_) | RevokeError::Write { .. } | RevokeError::Random(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (code, format!("{error}\n")).into_response()
}

fn empty_id() -> Response {
    (StatusCode::BAD_REQUEST, "the token id is empty\n").into_response()
}
