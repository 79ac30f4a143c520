//! TLS client configuration: trust roots from a file or from the system.
//!
//! The cryptography provider is named here, so that no library chooses it by setting a default
//! first.

use std::{path::Path, sync::Arc};

use portcullis_types::secret::{ReadSecretError, Secret};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

/// There is no TLS configuration for a client.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates cannot be read.
    #[error(transparent)]
    File(#[from] ReadSecretError),
    /// The file holds no certificate.
    #[error("the file holds no usable certificate; write PEM into it")]
    NoCertificates,
    /// The system trusts nothing.
    #[error("the system has no certificates; name some with `ca_file`")]
    NoSystemCertificates,
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A TLS client configuration that trusts the certificates in `ca_file`, or without it those of the
/// system.
///
/// # Errors
/// When there is no certificate to trust.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for certificate in read(file)? {
                roots.add(certificate).map_err(|_| TlsError::NoCertificates)?;
            }
        }
        // Certificates that cannot be parsed are skipped; the others are still trusted.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(match ca_file {
            Some(_) => TlsError::NoCertificates,
            None => TlsError::NoSystemCertificates,
        });
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = Secret::read(file)?;
    CertificateDer::pem_slice_iter(pem.expose())
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::NoCertificates)
}
