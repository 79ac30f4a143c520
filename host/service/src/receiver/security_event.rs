//! Security event tokens that a transmitter pushes: the request and its answers (RFC 8935).

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use portcullis_runtime::{drain::Drain, telemetry::ReportResult};
use serde_json::json;

use super::{
    essence,
    intake::{Intake, IntakeError},
};
use crate::token::VerifyError;

/// Where transmitters push events.
pub(super) const PATH: &str = "/security-events";
/// The media type of the request (section 2.1).
const MEDIA_TYPE: &str = "application/secevent+jwt";
const NOT_A_SET: &str = "the body is not a security event token; send `application/secevent+jwt`";

/// The path for security events.
pub(super) fn router(intake: Arc<Intake>, drain: Drain) -> Router {
    Router::new().route(PATH, post(receive)).with_state((intake, drain))
}

async fn receive(
    State((intake, drain)): State<(Arc<Intake>, Drain)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = match token_of_body(&headers, &body) {
        Ok(token) => token.to_owned(),
        Err(cause) => return refusal(&intake.refuse(cause)),
    };
    match intake.handle(token, &drain).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => refusal(&error),
    }
}

/// Section 2.3. A transmitter repeats an event after 503, and gives it up after 400.
fn refusal(error: &IntakeError) -> Response {
    let status = match error.result() {
        ReportResult::Failed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = Json(json!({ "err": code(error), "description": error.to_string() }));
    (status, [(header::CONTENT_LANGUAGE, "en")], body).into_response()
}

/// The code of an error (section 2.4).
fn code(error: &IntakeError) -> &'static str {
    let IntakeError::Token(refusal) = error else { return "invalid_request" };
    match refusal.cause() {
        VerifyError::UnknownIssuer(_) => "invalid_issuer",
        VerifyError::WrongAudience => "invalid_audience",
        VerifyError::UnknownKey(_) | VerifyError::TooManyKeys(_) | VerifyError::WrongAlgorithm => {
            "invalid_key"
        }
        VerifyError::BadSignature => "authentication_failed",
        _ => "invalid_request",
    }
}

fn token_of_body<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<&'b str, &'static str> {
    if !essence(headers).eq_ignore_ascii_case(MEDIA_TYPE) {
        return Err(NOT_A_SET);
    }
    // What comes after it, such as a line feed, is refused with the token.
    std::str::from_utf8(body).map_err(|_| NOT_A_SET)
}
