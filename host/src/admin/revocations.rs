//! Owns `/v1/revocations`: adding, removing and looking up entries of the blacklist.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::Parts;
use crate::{blacklist::Event, timestamp::Timestamp, token_id::TokenId};

/// A million revocations in one request, roughly.
const MAX_BODY_BYTES: usize = 256 << 20;
/// The media type of many events, one a line.
const NDJSON: &str = "application/x-ndjson";

pub(super) fn router() -> Router<Arc<Parts>> {
    Router::new()
        .route("/v1/revocations", get(summary).post(add))
        .route("/v1/revocations/{jti}", get(show).delete(remove))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

async fn summary(State(parts): State<Arc<Parts>>) -> Response {
    let status = parts.feed.get();
    Json(json!({
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

/// Applies one event, or many as NDJSON. Answers when they are in force.
async fn add(State(parts): State<Arc<Parts>>, headers: HeaderMap, body: Bytes) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let many = content_type.is_some_and(|value| value.starts_with(NDJSON));
    // All are read before any is applied: a typing mistake in the last line changes nothing.
    let parsed: Result<Vec<Event>, (usize, String)> = if many {
        body.split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .map(|(index, line)| Event::parse(line).map_err(|error| (index + 1, error.to_string())))
            .collect()
    } else {
        Event::parse(&body).map(|event| vec![event]).map_err(|error| (1, error.to_string()))
    };
    let events = match parsed {
        Ok(events) => events,
        Err((line, error)) => {
            return (StatusCode::BAD_REQUEST, format!("line {line}: {error}\n")).into_response();
        }
    };
    let count = events.len();
    for event in events {
        if parts.revocations.apply(event).await.is_err() {
            return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
        }
    }
    (StatusCode::CREATED, Json(json!({ "applied": count }))).into_response()
}

async fn show(State(parts): State<Arc<Parts>>, Path(jti): Path<String>) -> Response {
    let Ok(token_id) = TokenId::new(&jti) else { return empty_id() };
    match parts.blacklist.until(&token_id) {
        Some(Timestamp::MAX) => Json(json!({ "revoked": true, "until": null })).into_response(),
        Some(until) if Timestamp::now() < until => {
            Json(json!({ "revoked": true, "until": until.as_secs() })).into_response()
        }
        _ => (StatusCode::NOT_FOUND, Json(json!({ "revoked": false }))).into_response(),
    }
}

async fn remove(State(parts): State<Arc<Parts>>, Path(jti): Path<String>) -> Response {
    let Ok(token_id) = TokenId::new(&jti) else { return empty_id() };
    match parts.revocations.apply(Event::Remove { token_id }).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response(),
    }
}

fn empty_id() -> Response {
    (StatusCode::BAD_REQUEST, "the token id is empty\n").into_response()
}
