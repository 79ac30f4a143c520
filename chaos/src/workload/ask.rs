//! Check client of one replica: checks tokens and records each answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::auth::v3::{
    CheckResponse, authorization_client::AuthorizationClient, check_response::HttpResponse,
};
use tonic::transport::{Channel, Endpoint};

use super::board::Board;
use crate::{
    history::{Check, History, Reason, Verdict},
    moment::{Clock, Span},
};

/// Checks tokens at one replica.
#[derive(Debug)]
pub struct Asker {
    replica: usize,
    client: AuthorizationClient<Channel>,
    board: Arc<Board>,
    clock: Clock,
    history: History,
}

/// A check that takes longer has failed. Long, because a slow answer on a busy machine is no
/// failure.
const TIMEOUT: Duration = Duration::from_secs(5);

// === impl Asker ===

impl Asker {
    /// A client of the gRPC edge at `address`, which may be unavailable.
    #[must_use]
    pub fn new(replica: usize, address: SocketAddr, board: Arc<Board>, clock: Clock) -> Self {
        let client = AuthorizationClient::new(channel(address));
        Self { replica, client, board, clock, history: History::default() }
    }

    /// The tokens.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Checks a token, and records the answer.
    pub async fn ask(&mut self, token: usize) -> Verdict {
        let request = self.board.request(token);
        let began = self.clock.now();
        let answer = tokio::time::timeout(TIMEOUT, self.client.check(request)).await;
        let span = Span::new(began, self.clock.now());
        let verdict = match answer {
            Ok(Ok(response)) => verdict(&response.into_inner()),
            Ok(Err(_)) | Err(_) => Verdict::Failed,
        };
        self.history.checks.push(Check { token, replica: self.replica, verdict, span });
        verdict
    }

    /// The recorded checks.
    #[must_use]
    pub fn finish(self) -> History {
        self.history
    }
}

/// A connection that is established on first use and after each loss.
pub(super) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address makes a URI")
        .connect_timeout(TIMEOUT)
        .connect_lazy()
}

fn verdict(response: &CheckResponse) -> Verdict {
    let Some(status) = &response.status else {
        // Envoy treats this as an allow.
        return Verdict::Allow;
    };
    match (&response.http_response, status.code) {
        (_, 0) => Verdict::Allow,
        (Some(HttpResponse::DeniedResponse(_)) | None, _) => Verdict::Deny(reason(&status.message)),
        // An Envoy that looks at the response alone lets the request pass.
        (Some(_), _) => Verdict::Allow,
    }
}

/// The reason with this code.
fn reason(code: &str) -> Reason {
    match code {
        "token_revoked" => Reason::Revoked,
        "not_ready" => Reason::NotReady,
        "store_unavailable" => Reason::StoreUnavailable,
        "invalid_token" => Reason::InvalidToken,
        _ => Reason::Other,
    }
}
