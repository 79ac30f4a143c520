//! Endpoints of a site: addresses of the replicas, and what a revoker revokes with.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use portcullis_integration_tests::{admin::Admin, portcullis};

use crate::primary::PrimaryClient;

/// The addresses and clients that the workload uses.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The gRPC edges of the replicas.
    pub grpc: Vec<SocketAddr>,
    /// Their admin APIs.
    pub admins: Vec<Admin>,
    /// The source of revocations.
    pub source: Source,
}

/// The source of revocations.
#[derive(Debug, Clone)]
pub enum Source {
    /// A broker and a store.
    Broker {
        /// The primary Redis.
        store: Arc<PrimaryClient>,
        /// `portcullis revoke`.
        command: RevokeCommand,
        /// The URL of the broker.
        broker: String,
        /// A Redis.
        redis: SocketAddr,
    },
    /// A table in the PostgreSQL at this address.
    Table(SocketAddr),
}

/// The command line `portcullis revoke`, with the configuration of the relay.
#[derive(Debug, Clone)]
pub struct RevokeCommand {
    config: PathBuf,
}

/// How long a command may take; then it is killed.
const TIMEOUT: Duration = Duration::from_secs(10);

// === impl RevokeCommand ===

impl RevokeCommand {
    /// The command with the configuration file at this path.
    #[must_use]
    pub const fn new(config: PathBuf) -> Self {
        Self { config }
    }

    /// The path of the configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Revokes, and returns whether the command succeeded.
    pub async fn revoke(&self, arguments: &[String]) -> bool {
        let mut revoke = tokio::process::Command::from(portcullis::command());
        revoke.arg("revoke").arg("--config").arg(&self.config).args(arguments);
        revoke.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(TIMEOUT, revoke.status()).await;
        ended.is_ok_and(|ended| ended.is_ok_and(|status| status.success()))
    }
}
