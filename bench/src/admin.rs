//! Client of the admin edge: readiness, revocations and reload of policies.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::{StatusCode, blocking::Client, header::CONTENT_TYPE};

use crate::revocations;

/// How long a server may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Events per request; about 1.1 MB.
const BATCH: u64 = 10_000;

/// The admin edge of one server.
pub(crate) struct Admin {
    client: Client,
    base: String,
    token: String,
}

/// A call to the admin edge failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("{path} cannot be reached: {source}")]
    Send { path: &'static str, source: reqwest::Error },
    #[error("{path} answered {status}: {body}")]
    Refused { path: &'static str, status: StatusCode, body: String },
    #[error("not ready after {} seconds", READY_WITHIN.as_secs())]
    NotReady,
}

// === impl Admin ===

impl Admin {
    /// A client of the admin edge at `address` with its bearer `token`.
    pub(crate) fn new(address: SocketAddr, token: &str) -> Result<Self, AdminError> {
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_mins(1))
            .build()
            .map_err(|source| AdminError::Send { path: "/", source })?;
        Ok(Self { client, base: format!("http://{address}"), token: token.to_owned() })
    }

    /// Waits until the server reports that it is ready.
    pub(crate) fn wait_until_ready(&self) -> Result<(), AdminError> {
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            let answer = self.client.get(format!("{}/readyz", self.base)).send();
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(AdminError::NotReady)
    }

    /// The latency of `/livez`; `None` without an answer.
    pub(crate) fn livez(&self) -> Option<Duration> {
        let begun = Instant::now();
        let answer = self.client.get(format!("{}/livez", self.base)).send().ok()?;
        answer.status().is_success().then(|| begun.elapsed())
    }

    /// Reloads the policies, and returns when they serve.
    pub(crate) fn reload_policies(&self) -> Result<(), AdminError> {
        const PATH: &str = "/v1/policies/reload";
        let answer = self.client.post(format!("{}{PATH}", self.base)).bearer_auth(&self.token);
        let answer = answer.send().map_err(|source| AdminError::Send { path: PATH, source })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = answer.text().unwrap_or_default();
        Err(AdminError::Refused { path: PATH, status, body })
    }

    /// Adds the first `entries` token ids to the blacklist.
    pub(crate) fn revoke(&self, entries: u64) -> Result<(), AdminError> {
        const PATH: &str = "/v1/revocations";
        let now = Timestamp::now();
        let mut from = 0;
        while from < entries {
            let to = entries.min(from + BATCH);
            let answer = self
                .client
                .post(format!("{}{PATH}", self.base))
                .bearer_auth(&self.token)
                .header(CONTENT_TYPE, "application/x-ndjson")
                .body(revocations::events(now, from, to))
                .send()
                .map_err(|source| AdminError::Send { path: PATH, source })?;
            let status = answer.status();
            if !status.is_success() {
                let body = answer.text().unwrap_or_default();
                return Err(AdminError::Refused { path: PATH, status, body });
            }
            from = to;
        }
        Ok(())
    }
}
