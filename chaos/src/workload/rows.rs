//! Table rows as revocations: an insert revokes, a delete unrevokes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use portcullis_integration_tests::services::postgres::PostgresClient;
use tokio::sync::Mutex;

use super::Board;
use crate::history::{Target, Way};

/// Writes the rows.
#[derive(Debug)]
pub(super) struct Rows {
    address: SocketAddr,
    board: Arc<Board>,
    connection: Mutex<Option<PostgresClient>>,
}

/// How long a statement may take; a table can be locked.
const TIMEOUT: Duration = Duration::from_secs(8);
const INSERT: &str = "INSERT INTO revoked_tokens VALUES ($1) ON CONFLICT DO NOTHING";
const DELETE: &str = "DELETE FROM revoked_tokens WHERE token_id = $1";

// === impl Rows ===

impl Rows {
    pub(super) fn new(address: SocketAddr, board: Arc<Board>) -> Self {
        Self { address, board, connection: Mutex::default() }
    }

    /// Inserts the row of a token; `None` if it was not committed.
    pub(super) async fn revoke(&self, target: Target) -> Option<Way> {
        match target {
            Target::Token(token) => self.execute(INSERT, token).await,
            // A table has no cut-offs.
            Target::Subject { .. } | Target::Session { .. } => None,
        }
    }

    /// Deletes the row of a token; `None` if the delete was not committed.
    pub(super) async fn unrevoke(&self, token: usize) -> Option<Way> {
        self.execute(DELETE, token).await
    }

    async fn execute(&self, statement: &str, token: usize) -> Option<Way> {
        let jti = self.board.names().jti(token);
        let executing = async {
            let mut kept = self.connection.lock().await;
            let client = match kept.take() {
                Some(client) => client,
                None => PostgresClient::connect(self.address).await.ok()?,
            };
            client.try_execute(statement, &[&jti]).await.ok()?;
            *kept = Some(client);
            Some(Way::Exchange)
        };
        tokio::time::timeout(TIMEOUT, executing).await.ok()?
    }
}
