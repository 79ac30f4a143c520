//! Announcement file: the addresses that the service listens on, for scripts.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// The addresses of a running service.
#[derive(Debug, Clone, Serialize)]
pub struct Announcement {
    /// The gRPC edge.
    pub grpc: SocketAddr,
    /// The HTTP edge, unless it is off.
    pub http: Option<SocketAddr>,
    /// The admin edge.
    pub admin: SocketAddr,
    /// The receiver, unless it is off.
    pub receiver: Option<SocketAddr>,
}

/// The addresses cannot be written down.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot write the addresses: {source}; check the path given to --announce", .path.display())]
pub struct AnnounceError {
    path: PathBuf,
    source: std::io::Error,
}

impl Announcement {
    /// Writes the addresses as JSON; the file appears whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, path: &Path) -> Result<(), AnnounceError> {
        let error = |source| AnnounceError { path: path.to_owned(), source };
        let json = serde_json::to_vec(self).map_err(|cause| error(cause.into()))?;
        let partial = path.with_extension("partial");
        std::fs::write(&partial, json).map_err(error)?;
        std::fs::rename(&partial, path).map_err(error)
    }
}
