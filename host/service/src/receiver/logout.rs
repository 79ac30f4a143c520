//! Logouts that an issuer sends over its back channel: the form that brings a logout token, and the
//! answers (`OpenID` Connect Back-Channel Logout 1.0 sections 2.5 and 2.8).

use std::{borrow::Cow, sync::Arc};

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
use url::form_urlencoded;

use super::{
    essence,
    intake::{Intake, IntakeError},
};

/// Where issuers send logouts.
pub(super) const PATH: &str = "/backchannel-logout";
/// The media type of the request.
const FORM: &str = "application/x-www-form-urlencoded";
/// The field of the form that holds the token.
const FIELD: &str = "logout_token";
const NOT_A_FORM: &str = "the body is not a form; send `application/x-www-form-urlencoded`";
const NO_TOKEN: &str = "the form does not have the field `logout_token` exactly once";

/// The path for logouts.
pub(super) fn router(intake: Arc<Intake>, drain: Drain) -> Router {
    Router::new().route(PATH, post(receive)).with_state((intake, drain))
}

async fn receive(
    State((intake, drain)): State<(Arc<Intake>, Drain)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = match token_of_form(&headers, &body) {
        Ok(token) => token.into_owned(),
        Err(cause) => return refusal(&intake.refuse(cause)),
    };
    match intake.handle(token, &drain).await {
        Ok(()) => (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response(),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &IntakeError) -> Response {
    // Section 2.8 has 400 for all failures. Senders and proxies repeat a request only after 503.
    let (status, code) = match error.result() {
        ReportResult::Failed => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    };
    let body = Json(json!({ "error": code, "error_description": error.to_string() }));
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// The token of the form. Other fields do not matter (section 2.5).
fn token_of_form<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Cow<'b, str>, &'static str> {
    if !essence(headers).eq_ignore_ascii_case(FORM) {
        return Err(NOT_A_FORM);
    }
    let mut tokens = form_urlencoded::parse(body).filter(|(name, _)| name == FIELD);
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(token),
        _ => Err(NO_TOKEN),
    }
}

#[cfg(test)]
mod tests;
