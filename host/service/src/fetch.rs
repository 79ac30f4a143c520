//! HTTP client for documents of issuers: key sets and metadata. Each request is limited in time, size,
//! redirects and addresses.
//!
//! Only URLs of the configuration and of an issuer's metadata are requested, never one that a token
//! names.

mod address;

use std::{error::Error, path::Path, sync::Arc, time::Duration};

pub use address::{FetchUrl, FetchUrlError};
use bytes::{Bytes, BytesMut};
use http::{StatusCode, header::CACHE_CONTROL};
use portcullis_runtime::tls::{self, TlsError};
use reqwest::{Client, ClientBuilder, Response, redirect};
use tokio::time::{Instant, timeout_at};

/// Fetches documents. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    /// Without the proxy, for loopback.
    direct: Client,
    /// For a whole document.
    limit: Duration,
}

/// A document, and how long it may be used without another request.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its content.
    pub body: Bytes,
    /// `max-age` of its `Cache-Control` (RFC 9111 section 5.2.2.1); zero if it must not be stored.
    pub max_age: Option<Duration>,
}

/// A document could not be fetched. The text names the cause, not the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There was no answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// There was no connection, or it broke.
    #[error("the request failed: {0}")]
    Connection(String),
    /// Another status than 200.
    #[error("the answer has the status {0}; it must be 200")]
    Status(u16),
    /// A redirect that is not followed.
    #[error(
        "the answer redirects to another origin, which is not followed; configure the final URL"
    )]
    Redirect,
    /// The document is larger than its limit.
    #[error("the document is larger than {0} bytes")]
    TooLarge(usize),
}

/// The largest document.
const MAX_BYTES: usize = 1024 * 1024;
/// How many redirects are followed within one origin.
const MAX_REDIRECTS: usize = 3;

// === impl Fetcher ===

impl Fetcher {
    /// A client that trusts the certificates in `ca_file`, or without it those of the system. It
    /// uses the proxy that the environment names (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`),
    /// but for loopback.
    ///
    /// # Errors
    /// When there is no certificate to trust.
    pub fn new(ca_file: Option<&Path>, limit: Duration) -> Result<Self, TlsError> {
        let tls = tls::client_config(ca_file)?;
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Arc::new(address::Resolver))
                .redirect(redirect::Policy::custom(same_origin))
                .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(limit)
                // Requests are minutes apart.
                .pool_max_idle_per_host(0)
        };
        // Nothing but TLS is set up here that could fail.
        let build = |builder: ClientBuilder| builder.build().map_err(|_| TlsError::NoCertificates);
        Ok(Self { client: build(builder())?, direct: build(builder().no_proxy())?, limit })
    }

    /// Fetches the document at `url`.
    ///
    /// # Errors
    /// When it cannot be fetched within the limits.
    pub async fn get(&self, url: &FetchUrl) -> Result<Document, FetchError> {
        let deadline = Instant::now() + self.limit;
        timeout_at(deadline, self.get_without_limit(url))
            .await
            .unwrap_or(Err(FetchError::Timeout(self.limit)))
    }

    async fn get_without_limit(&self, url: &FetchUrl) -> Result<Document, FetchError> {
        let client = if url.is_loopback() { &self.direct } else { &self.client };
        let request = client.get(url.as_url().clone());
        let mut response = request.send().await.map_err(|error| self.failed(&error))?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect),
            status => return Err(FetchError::Status(status.as_u16())),
        }
        let max_age = max_age(&response);
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge(MAX_BYTES));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Document { body: body.freeze(), max_age })
    }

    fn failed(&self, error: &reqwest::Error) -> FetchError {
        if error.is_timeout() {
            return FetchError::Timeout(self.limit);
        }
        if error.is_redirect() {
            return FetchError::Redirect;
        }
        // The message of the library has the URL; the cause is below it.
        let mut cause: &dyn Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        FetchError::Connection(cause.to_string())
    }
}

/// Follows redirects within one origin.
fn same_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let is_same = attempt.previous().iter().all(|url| url.origin() == attempt.url().origin());
    if is_same && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn max_age(response: &Response) -> Option<Duration> {
    let values = response.headers().get_all(CACHE_CONTROL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let directives: Vec<&str> = texts.flat_map(|text| text.split(',')).map(str::trim).collect();
    let is_uncached =
        |name: &&str| ["no-store", "no-cache"].iter().any(|no| name.eq_ignore_ascii_case(no));
    if directives.iter().any(is_uncached) {
        return Some(Duration::ZERO);
    }
    directives.into_iter().find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let secs = value.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age").then_some(Duration::from_secs(secs))
    })
}
