//! TLS client configuration: trust roots from a file or from the system.
//!
//! The cryptography provider is named here, so that no library chooses it by setting a default
//! first.

use std::{path::Path, sync::Arc};

use portcullis_types::secret::Secret;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

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
    let unusable = |message: String| EndpointError::Unusable { section, message };
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for certificate in read(section, file)? {
                roots.add(certificate).map_err(|_| no_certificates(section))?;
            }
        }
        // Certificates that cannot be parsed are skipped; the others are still trusted.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(match ca_file {
            Some(_) => no_certificates(section),
            None => unusable(
                "asks for TLS, but the system has no certificates; name some with `ca_file`"
                    .to_owned(),
            ),
        });
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(format!("TLS cannot be set up: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn read(section: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let pem = Secret::read(file).map_err(|source| EndpointError::File {
        section,
        key: "ca_file",
        source,
    })?;
    CertificateDer::pem_slice_iter(pem.expose())
        .collect::<Result<_, _>>()
        .map_err(|_| no_certificates(section))
}

const fn no_certificates(section: &'static str) -> EndpointError {
    EndpointError::NoCertificates { section }
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
