//! Logouts that an issuer sends over its back channel: from the form to the stored revocation
//! (`OpenID` Connect Back-Channel Logout 1.0 sections 2.5 to 2.8).
//!
//! The answer is a success only when the revocation is stored. It depends on the token alone, so a
//! repeated logout changes nothing.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use portcullis_revocation::{
    BlankTargetError, Revocation, RevokeError, RevokeOptions, Revoker, Target,
};
use portcullis_runtime::{
    drain::Drain,
    telemetry::{LogoutMetrics, LogoutResult, RateLimitedLog},
};
use portcullis_types::timestamp::Timestamp;
use serde_json::json;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};
use url::form_urlencoded;

use crate::token::{IssuerSet, KeysFetched, LoggedOut, LogoutRefusal, LogoutToken, Verifier};

/// Where issuers send logouts.
const PATH: &str = "/backchannel-logout";
/// The largest token that can be configured fits, and some more fields.
const MAX_BODY_BYTES: usize = 128 * 1024;
/// The media type of the request.
const FORM: &str = "application/x-www-form-urlencoded";
/// The field of the form that holds the token.
const FIELD: &str = "logout_token";
/// How long a logout waits for the issuer's keys and for the store, together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Logouts that may be under way. One goes on when its caller has left, so connections do not limit them.
const UNDERWAY: usize = 256;
/// Between two attempts to store a logout.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Times of issue are whole seconds at most issuers: a token of the same second is covered.
const SECOND: Duration = Duration::from_millis(999);
/// How often refusals are logged that a caller without a signature can cause.
const LOG_PERIOD: Duration = Duration::from_mins(1);

/// Takes logouts.
#[derive(Debug)]
pub(super) struct Logouts {
    pub(super) verifier: Verifier,
    pub(super) issuers: IssuerSet,
    pub(super) revoker: Revoker,
    /// How long a revocation lasts where the issuer's configuration does not say it.
    pub(super) longest_life: Duration,
    pub(super) metrics: LogoutMetrics,
}

/// A logout is not effective.
#[derive(Debug, thiserror::Error)]
enum LogoutError {
    #[error("the body is not a form; send `{FORM}`")]
    NotAForm,
    #[error("the form does not have the field `{FIELD}` exactly once")]
    NoToken,
    #[error("there is nothing else here; logouts are sent to `{PATH}`")]
    NotFound,
    #[error("the logout token is not acceptable: {}", .0.cause().detail())]
    Token(LogoutRefusal),
    #[error("the logout token has a blank name")]
    Blank(#[from] BlankTargetError),
    #[error("too many logouts are under way; repeat the request later")]
    Overloaded,
    #[error("the keys of the issuer are not known; repeat the request later")]
    NoKeys,
    #[error("the logout is not stored, or that is unknown; repeat the request later")]
    NotStored(Option<RevokeError>),
}

/// What requests share.
struct ReceiverState {
    logouts: Logouts,
    drain: Drain,
    underway: Arc<Semaphore>,
    /// Limits the lines about requests that anyone can send, for each cause.
    unproven: Mutex<BTreeMap<&'static str, RateLimitedLog>>,
}

/// The paths of the receiver. What has begun is finished before the drain ends.
pub(super) fn router(logouts: Logouts, drain: Drain) -> Router {
    let underway = Arc::new(Semaphore::new(UNDERWAY));
    let state = ReceiverState { logouts, drain, underway, unproven: Mutex::default() };
    Router::new()
        .route(PATH, post(receive))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(state))
}

/// Handles a logout to its end, even if the issuer stops waiting.
async fn receive(
    State(state): State<Arc<ReceiverState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let drain = state.drain.clone();
    let turn = Arc::clone(&state.underway).try_acquire_owned();
    let work = async move {
        let outcome = match &turn {
            Ok(_) => state.logouts.receive(&headers, &body).await,
            Err(_) => Err(LogoutError::Overloaded),
        };
        state.report(&outcome);
        outcome
    };
    match drain.finish(work).await {
        Some(Ok(_)) => (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response(),
        Some(Err(error)) => refusal(&error),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A wrong path at the issuer or at a proxy would lose every logout, so it is logged.
async fn not_found(State(state): State<Arc<ReceiverState>>) -> Response {
    state.report(&Err(LogoutError::NotFound));
    StatusCode::NOT_FOUND.into_response()
}

fn refusal(error: &LogoutError) -> Response {
    // Section 2.8 has 400 for all failures. Senders and proxies repeat a request only after 503.
    let (status, code) = match error.result() {
        LogoutResult::Failed => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    };
    let body = Json(json!({ "error": code, "error_description": error.to_string() }));
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// The token of the form. Other fields do not matter (section 2.5).
fn token_of_form<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Cow<'b, str>, LogoutError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case(FORM) {
        return Err(LogoutError::NotAForm);
    }
    let mut tokens = form_urlencoded::parse(body).filter(|(name, _)| name == FIELD);
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(token),
        _ => Err(LogoutError::NoToken),
    }
}

// === impl ReceiverState ===

impl ReceiverState {
    /// Counts and logs an outcome.
    fn report(&self, outcome: &Result<LogoutToken, LogoutError>) {
        let error = match outcome {
            Ok(token) => {
                let (issuer, ended) = (&token.issuer_name, token.ended.kind());
                tracing::info!(issuer, ended, "logout stored");
                return self.logouts.metrics.count(LogoutResult::Stored);
            }
            Err(error) => error,
        };
        self.logouts.metrics.count(error.result());
        match error {
            LogoutError::NotStored(Some(cause)) => {
                tracing::error!(error = %cause, "logout is not stored, or that is unknown");
            }
            LogoutError::NotStored(None) => {
                tracing::error!("logout is not stored, or that is unknown: no answer in time");
            }
            LogoutError::Token(LogoutRefusal::Rejected { issuer, .. }) => {
                let hint = "see `backchannel_logout` of this issuer";
                tracing::error!(issuer, %error, hint, "logout is not effective");
            }
            // Anyone can cause the others.
            _ => {
                let Some(suppressed) = self.admit(error.code()) else { return };
                if error.result() == LogoutResult::Unproven {
                    tracing::warn!(%error, suppressed, "request without a genuine logout refused");
                } else {
                    tracing::error!(%error, suppressed, "logout is not effective");
                }
            }
        }
    }

    /// Whether to log a cause. What a token says of itself makes no other cause.
    fn admit(&self, code: &'static str) -> Option<u64> {
        // A map of plain values is never half-changed.
        let mut causes = self.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        causes.entry(code).or_default().admit(code, LOG_PERIOD)
    }
}

// === impl Logouts ===

impl Logouts {
    /// Resolves when the logout is stored.
    async fn receive(&self, headers: &HeaderMap, body: &[u8]) -> Result<LogoutToken, LogoutError> {
        let deadline = Instant::now() + PATIENCE;
        let token = self.verify(&token_of_form(headers, body)?, deadline).await?;
        self.store(&self.revocation(&token)?, deadline).await?;
        Ok(token)
    }

    async fn verify(&self, token: &str, deadline: Instant) -> Result<LogoutToken, LogoutError> {
        let verify = || self.verifier.verify_logout(token, &self.issuers, Timestamp::now());
        match verify() {
            Err(error) if error.cause().may_lack_key() && self.verifier.fetches_keys() => {}
            verified => return verified.map_err(LogoutError::Token),
        }
        let fetching = timeout_at(deadline, self.verifier.fetch_keys(token, &self.issuers));
        match (fetching.await, verify()) {
            (_, Ok(verified)) => Ok(verified),
            (Err(_) | Ok(KeysFetched::Unavailable), Err(error)) if error.cause().may_lack_key() => {
                Err(LogoutError::NoKeys)
            }
            (_, Err(error)) => Err(LogoutError::Token(error)),
        }
    }

    /// The revocation of all tokens that the logout ends. It lasts for as long as they can live.
    fn revocation(&self, token: &LogoutToken) -> Result<Revocation, BlankTargetError> {
        let issuer = Some(token.issuer.as_str());
        let until = Timestamp::from_secs(token.issued_at.as_secs()).plus(SECOND);
        let end = until.plus(token.lasts.unwrap_or(self.longest_life));
        let (target, until) = match &token.ended {
            // Whenever a token with it is issued: by an offline session, for instance.
            LoggedOut::Session(id) => (Target::session(issuer, id)?, end),
            // The subject may log in again at once.
            LoggedOut::Subject(name) => (Target::subject(issuer, name)?, until),
        };
        let revocation = Revocation::revoke(target, until).expires_at(Some(end));
        Ok(revocation.reason(Some("back-channel logout".to_owned())))
    }

    /// Stores a revocation. Retries until the deadline, because few issuers do.
    async fn store(&self, revocation: &Revocation, deadline: Instant) -> Result<(), LogoutError> {
        // A session has ended for good, and the issuer's clock may be ahead, as its tokens show.
        let options = RevokeOptions { wait: None, future: true };
        let mut cause = None;
        let storing = async {
            loop {
                match self.revoker.revoke(revocation, options).await {
                    Ok(_) => return Ok(()),
                    Err(error @ RevokeError::Write { .. }) => cause = Some(error),
                    Err(error) => return Err(LogoutError::NotStored(Some(error))),
                }
                sleep(RETRY_PAUSE).await;
            }
        };
        let stored = timeout_at(deadline, storing).await;
        stored.unwrap_or(Err(LogoutError::NotStored(cause)))
    }
}

// === impl LogoutError ===

impl LogoutError {
    const fn result(&self) -> LogoutResult {
        match self {
            Self::NotStored(_) | Self::NoKeys | Self::Overloaded => LogoutResult::Failed,
            Self::Blank(_) | Self::Token(LogoutRefusal::Rejected { .. }) => LogoutResult::Rejected,
            Self::NotAForm
            | Self::NoToken
            | Self::NotFound
            | Self::Token(LogoutRefusal::Unproven(_)) => LogoutResult::Unproven,
        }
    }

    /// A stable code.
    const fn code(&self) -> &'static str {
        match self {
            Self::NotAForm => "not_a_form",
            Self::NoToken => "no_token",
            Self::NotFound => "not_found",
            Self::Token(refusal) => refusal.cause().code(),
            Self::Blank(_) => "blank",
            Self::Overloaded => "overloaded",
            Self::NoKeys => "no_keys",
            Self::NotStored(_) => "not_stored",
        }
    }
}

#[cfg(test)]
mod tests;
