//! Certificate of a client (RFC 8705): where a request shows it, and whether it is the one that a token is
//! bound to.
//!
//! The proxy has verified that the client has the key. Of the certificate only its hash matters here.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_types::attributes::{HeaderView, HttpAttributes, Peer};

use super::{
    binding::Thumbprint,
    config::{PossessionError, XfccConfig},
    xfcc,
};

/// The header in which proxies pass certificates on.
const XFCC: &str = "x-forwarded-client-cert";

/// What begins and ends a certificate in PEM format (RFC 7468 section 5).
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// How many proxies a header may have passed.
const MAX_ELEMENTS: usize = 8;

/// Where the certificate of the client is.
#[derive(Debug, Default)]
pub(super) enum CertificateSource {
    /// That of the connection, as Envoy passes it.
    #[default]
    Connection,
    /// In the header of the proxies before.
    Header(XfccConfig),
}

/// A request does not show the certificate that its token is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It shows none.
    #[error("the request shows no certificate of the client")]
    Missing,
    /// The header comes from a proxy that is not listed.
    #[error("the header with the certificate comes from another peer than `trusted_peers` lists")]
    UntrustedPeer,
    /// There are several headers, or the header does not have as many elements as configured.
    #[error("the header does not have as many elements as `elements` says")]
    WrongElements,
    /// It cannot be read, or could be read in two ways.
    #[error("the certificate of the client cannot be read")]
    Malformed,
    /// It shows another one.
    #[error("the token is bound to another certificate")]
    Wrong,
}

// === impl CertificateSource ===

impl CertificateSource {
    /// The source that the configuration names.
    pub(super) fn new(config: Option<&XfccConfig>) -> Result<Self, PossessionError> {
        let Some(config) = config else { return Ok(Self::Connection) };
        let wrong = |setting, problem| Err(PossessionError::Setting { setting, problem });
        if !(1..=MAX_ELEMENTS).contains(&config.elements) {
            let setting = "x_forwarded_client_cert.elements";
            return wrong(setting, "must be 1 to 8: how many proxies have added an element");
        }
        let setting = "x_forwarded_client_cert.trusted_peers";
        if config.elements > 1 && config.trusted_peers.is_empty() {
            return wrong(
                setting,
                "is needed for several elements, or any client that connects past the first proxy \
                 could write the header; list the identity of the proxy before the Envoy that asks",
            );
        }
        if config.trusted_peers.iter().any(|peer| peer.trim() != peer || peer.is_empty()) {
            return wrong(setting, "has a blank identity; write it as in the proxy's certificate");
        }
        Ok(Self::Header(config.clone()))
    }

    /// Checks that the client has connected with the certificate of this thumbprint.
    pub(super) fn check(
        &self,
        bound_to: &Thumbprint,
        http: &HttpAttributes,
        source: &Peer,
    ) -> Result<(), CertificateFault> {
        let shown = match self {
            Self::Connection if source.certificate.is_empty() => {
                return Err(CertificateFault::Missing);
            }
            Self::Connection => of_pem(&source.certificate).ok_or(CertificateFault::Malformed)?,
            Self::Header(config) => of_headers(config, http, source)?,
        };
        if shown == *bound_to { Ok(()) } else { Err(CertificateFault::Wrong) }
    }
}

// === impl CertificateFault ===

impl CertificateFault {
    /// The stable code for logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "no_certificate",
            Self::UntrustedPeer => "untrusted_certificate_peer",
            Self::WrongElements => "wrong_certificate_elements",
            Self::Malformed => "malformed_certificate",
            Self::Wrong => "wrong_certificate",
        }
    }
}

fn of_headers(
    config: &XfccConfig,
    http: &HttpAttributes,
    source: &Peer,
) -> Result<Thumbprint, CertificateFault> {
    // nginx and the like do not know the header, and pass on what a client sends.
    if http.header_view == HeaderView::ReadOnly {
        return Err(CertificateFault::Missing);
    }
    let mut headers = http.headers.all(XFCC);
    let header = headers.next().filter(|header| !header.is_empty());
    let header = header.ok_or(CertificateFault::Missing)?;
    if headers.next().is_some() {
        return Err(CertificateFault::WrongElements);
    }
    let peers = &config.trusted_peers;
    if !peers.is_empty() && !peers.contains(&source.principal) {
        return Err(CertificateFault::UntrustedPeer);
    }
    of_header(header, config.elements)
}

/// The SHA-256 of the client's certificate, as a header `x-forwarded-client-cert` of exactly so many
/// elements tells it.
///
/// # Errors
/// When the header has another form, or names no certificate or several.
pub fn of_header(header: &str, elements: usize) -> Result<[u8; 32], CertificateFault> {
    let all = xfcc::elements(header).ok_or(CertificateFault::Malformed)?;
    // An identity in a certificate may have commas, and Envoy does not quote it. With a fixed number of
    // elements and one value of each name, a client cannot write an element of its own.
    let first = all.first().filter(|_| all.len() == elements);
    let first = first.ok_or(CertificateFault::WrongElements)?;
    let value = |name: &str| {
        let mut values = first.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (value, None) => Ok(value.map(|(_, value)| *value)),
            (_, Some(_)) => Err(CertificateFault::Malformed),
        }
    };
    let thumbprint = match (value("Hash")?, value("Cert")?) {
        (Some(hash), _) => of_hex(hash),
        (None, Some(certificate)) => of_pem(certificate),
        (None, None) => return Err(CertificateFault::Missing),
    };
    thumbprint.ok_or(CertificateFault::Malformed)
}

fn of_hex(text: &str) -> Option<Thumbprint> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = digits else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

/// The hash of the one certificate in percent-encoded PEM format.
fn of_pem(encoded: &str) -> Option<Thumbprint> {
    let pem = percent_decoded(encoded)?;
    let body = pem.trim_ascii().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: String = body.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let der = STANDARD.decode(body).ok().filter(|der| !der.is_empty())?;
    digest(&SHA256, &der).as_ref().try_into().ok()
}

/// The text that percent-encoded ASCII stands for. `+` stands for itself.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            decoded.push(c);
            continue;
        }
        let (high, low) = (chars.next()?.to_digit(16)?, chars.next()?.to_digit(16)?);
        decoded.push(char::from_u32(high << 4 | low).filter(char::is_ascii)?);
    }
    decoded.is_ascii().then_some(decoded)
}
