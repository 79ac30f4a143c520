//! TLS of the clients of Redis, RabbitMQ and PostgreSQL: errors that name the section.

use std::path::Path;

use portcullis_runtime::tls::{self, TlsError};
use rustls::ClientConfig;

use crate::config::EndpointError;

/// A TLS client configuration that trusts the certificates in `ca_file`, or without it those of the
/// system.
///
/// # Errors
/// When there is no certificate to trust.
pub(crate) fn client_config(
    section: &'static str,
    ca_file: Option<&Path>,
) -> Result<ClientConfig, EndpointError> {
    let unusable = |key, message: &str| EndpointError::new(section, key, message);
    tls::client_config(ca_file).map_err(|error| match error {
        TlsError::File(source) => unusable("ca_file", &source.to_string()),
        TlsError::NoCertificates => {
            unusable("ca_file", "the file holds no usable certificate; write PEM into it")
        }
        error => unusable("url", &format!("asks for TLS, but {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_its_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in ["nothing", broken, "-----BEGIN CERTIFICATE-----\n"] {
            std::fs::write(file.path(), content).unwrap();
            let error = client_config("blacklist.rabbitmq", Some(file.path())).unwrap_err();
            assert!(error.to_string().starts_with("`blacklist.rabbitmq.ca_file`"), "{error}");
        }
        let error = client_config("blacklist.redis", Some(Path::new("/nonexistent"))).unwrap_err();
        assert!(error.to_string().starts_with("`blacklist.redis.ca_file`: /nonexist"), "{error}");
    }
}
