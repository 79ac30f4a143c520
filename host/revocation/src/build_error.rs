//! Errors of building the blacklist from its configuration.

use portcullis_types::secret::ReadSecretError;

use crate::{
    config::{ConfigError, EndpointError},
    random::RandomError,
    redis,
};

/// The blacklist cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Sections contradict each other, or a name is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another service cannot be addressed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The broker is configured in a way that cannot work.
    #[error("{0}")]
    Broker(String),
    /// The store is configured in a way that cannot work.
    #[error(transparent)]
    Redis(#[from] redis::RedisBuildError),
    /// The secret for refresh requests cannot be read.
    #[error("`blacklist.refresh.secret_file`: {0}")]
    RefreshSecret(#[from] ReadSecretError),
    /// No random name for this replica.
    #[error(transparent)]
    Random(#[from] RandomError),
}
