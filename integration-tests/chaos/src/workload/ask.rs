//! Owns asking one replica about tokens, and writing down each answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::auth::v3::{
    CheckResponse, authorization_client::AuthorizationClient, check_response::HttpResponse,
};
use tonic::transport::{Channel, Endpoint};

use super::board::Board;
use crate::history::{Check, Clock, History, Span, Verdict};

/// Asks one replica.
#[derive(Debug)]
pub struct Asker {
    replica: usize,
    client: AuthorizationClient<Channel>,
    board: Arc<Board>,
    clock: Clock,
    history: History,
}

/// A check that takes longer has failed: Envoy waits for a fraction of it.
const TIMEOUT: Duration = Duration::from_secs(2);

// === impl Asker ===

impl Asker {
    /// Asks the replica whose gRPC edge is at `address`, which need not be there.
    #[must_use]
    pub fn new(replica: usize, address: SocketAddr, board: Arc<Board>, clock: Clock) -> Self {
        let client = AuthorizationClient::new(channel(address));
        Self { replica, client, board, clock, history: History::default() }
    }

    /// The tokens.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Asks about a token, and writes the answer down.
    pub async fn ask(&mut self, token: usize) -> Verdict {
        let question = self.board.question(token);
        let began = self.clock.now();
        let answer = tokio::time::timeout(TIMEOUT, self.client.check(question)).await;
        let span = Span::new(began, self.clock.now());
        let verdict = match answer {
            Ok(Ok(response)) => verdict(&response.into_inner()),
            Ok(Err(_)) | Err(_) => Verdict::Failed,
        };
        self.history.checks.push(Check { token, replica: self.replica, verdict, span });
        verdict
    }

    /// What was written down.
    #[must_use]
    pub fn finish(self) -> History {
        self.history
    }
}

/// A connection that is made when it is needed, and again when it is lost.
pub(super) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address makes a URI")
        .connect_timeout(TIMEOUT)
        .connect_lazy()
}

fn verdict(response: &CheckResponse) -> Verdict {
    let Some(status) = &response.status else {
        // Envoy takes it as an allow.
        return Verdict::Allow;
    };
    match (&response.http_response, status.code) {
        (_, 0) => Verdict::Allow,
        (Some(HttpResponse::DeniedResponse(denied)), _) => {
            let code = denied.status.as_ref().map_or(403, |status| status.code);
            Verdict::Deny(u16::try_from(code).unwrap_or_default())
        }
        _ => Verdict::Deny(403),
    }
}
