//! Certificates of the tests for mutual TLS: an authority, the servers and clients that it knows, and the
//! connection of a client.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ::aws_lc_rs::digest::{Digest, SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Who signs the certificates of a test.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate, and the key to it.
#[derive(Debug)]
pub struct Identity {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

/// A certificate with this subject, which is another one than its issuer's: otherwise it would be taken
/// for one that has signed itself.
fn named(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("there is no name to be wrong");
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

// === impl Authority ===

impl Authority {
    /// A new authority.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new() -> Self {
        let mut params = named("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate can be made"))
    }

    /// A certificate of a server on loopback.
    ///
    /// # Panics
    /// When none can be made.
    #[must_use]
    pub fn server(&self) -> Identity {
        let mut params = named("server");
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        self.identity(&params)
    }

    /// A certificate of a client with this URI as its name.
    ///
    /// # Panics
    /// When the URI is not ASCII.
    #[must_use]
    pub fn client(&self, uri: &str) -> Identity {
        let mut params = named("client");
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("a URI is ASCII")));
        self.identity(&params)
    }

    fn identity(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate can be made");
        Identity { pem: certificate.pem(), der: certificate.der().clone(), key }
    }

    /// The transport socket of an Envoy that is this server, and asks clients for a certificate of this
    /// authority.
    #[must_use]
    pub fn transport_socket(&self, server: &Identity) -> Value {
        let types = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{types}.DownstreamTlsContext"),
                "require_client_certificate": true,
                "common_tls_context": {
                    "tls_certificates": [{
                        "certificate_chain": {"inline_string": server.pem},
                        "private_key": {"inline_string": server.key.serialize_pem()},
                    }],
                    "validation_context": {"trusted_ca": {"inline_string": self.0.pem()}},
                },
            },
        })
    }

    /// Connects to a server of this authority with a client's certificate.
    ///
    /// # Panics
    /// When the connection is refused.
    pub async fn connect(&self, to: SocketAddr, client: &Identity) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("it is the certificate of an authority");
        let key = PrivateKeyDer::try_from(client.key.serialize_der()).expect("it is a key");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let builder = builder.with_root_certificates(roots);
                builder.with_client_auth_cert(vec![client.der.clone()], key)
            });
        let connector = TlsConnector::from(Arc::new(config.expect("they belong together")));
        let stream = TcpStream::connect(to).await.expect("the server listens");
        let name = ServerName::IpAddress(to.ip().into());
        connector.connect(name, stream).await.expect("both have good certificates")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Identity ===

impl Identity {
    /// The thumbprint, as tokens have it (RFC 8705 section 3.1).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.hash())
    }

    /// The same, as Envoy writes it into headers.
    #[must_use]
    pub fn hex(&self) -> String {
        let hash = self.hash();
        let digits = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
    }

    fn hash(&self) -> Digest {
        digest(&SHA256, &self.der)
    }
}
