//! Issuer that publishes its metadata and keys over HTTP. Its keys rotate, and it fails on demand.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    serve::Listener,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::CertifiedKey;
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::token::Claims;

/// A running issuer. It stops when this is dropped.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    shared: Arc<Mutex<Published>>,
    _server: JoinSet<()>,
}

/// Accepts connections over TLS.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// A key of the issuer.
#[derive(Clone)]
pub struct IssuerKey {
    kid: String,
    private: EncodingKey,
    jwk: Value,
}

/// What the issuer answers in place of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, for this long.
    Slow(Duration),
    /// This status.
    Status(u16),
    /// A redirect to this URL.
    Redirect(String),
    /// This document.
    Document(String),
    /// As many bytes as this.
    Large(usize),
}

#[derive(Debug, Default)]
struct Published {
    keys: Vec<Value>,
    fault: Option<Fault>,
    cache_control: Option<String>,
    /// What the metadata have in place of the true values.
    metadata: BTreeMap<String, Value>,
    /// Requests by path.
    requests: BTreeMap<String, usize>,
}

// === impl Issuer ===

impl Issuer {
    /// Starts an issuer that publishes these keys.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(keys: &[&IssuerKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        Self::serve("http", listener, keys)
    }

    /// The same over TLS; and the certificate, in PEM format, by which it is known.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start_with_tls(keys: &[&IssuerKey]) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let CertifiedKey { cert, signing_key } = own.expect("a certificate can be made");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("it is a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)
            });
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("they belong together")));
        let issuer = Self::serve("https", TlsListener { listener, acceptor }, keys);
        (issuer, cert.pem())
    }

    fn serve<L>(scheme: &str, listener: L, keys: &[&IssuerKey]) -> Self
    where
        L: Listener<Addr = SocketAddr>,
    {
        let address = listener.local_addr().expect("a listener has an address");
        let url = format!("{scheme}://{address}/realm");
        let shared = Arc::new(Mutex::new(Published::default()));
        let state = (url.clone(), Arc::clone(&shared));
        let app = Router::new().route("/{*path}", axum::routing::get(answer)).with_state(state);
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, app).await.expect("the issuer serves until it is dropped");
        });
        let issuer = Self { url, shared, _server: server };
        issuer.publish(keys);
        issuer
    }

    /// What its tokens have as `iss`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Where its keys are.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}/certs", self.url())
    }

    /// Publishes these keys in place of those before.
    pub fn publish(&self, keys: &[&IssuerKey]) {
        self.published(|published| {
            published.keys = keys.iter().map(|key| key.jwk.clone()).collect();
        });
    }

    /// Answers with this fault instead of the keys, or with the keys again.
    pub fn fault(&self, fault: Option<Fault>) {
        self.published(|published| published.fault = fault);
    }

    /// Sends this `Cache-Control` with the keys.
    pub fn cache_control(&self, value: &str) {
        self.published(|published| published.cache_control = Some(value.to_owned()));
    }

    /// Publishes other metadata than the true ones.
    pub fn metadata(&self, name: &str, value: impl Into<Value>) {
        self.published(|published| published.metadata.insert(name.to_owned(), value.into()));
    }

    /// How often its keys were requested.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.published(|published| published.requests.get("realm/certs").copied().unwrap_or(0))
    }

    /// A token with these claims, signed with `key`.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn sign(&self, claims: Claims, key: &IssuerKey) -> String {
        key.sign(&claims.with("iss", self.url()))
    }

    /// A logout token for this client (`OpenID` Connect Back-Channel Logout 1.0 section 2.4), which says
    /// with `claims` what has ended, signed with `key`.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn logout_token(&self, client: &str, claims: Claims, key: &IssuerKey) -> String {
        let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        self.sign(claims.with("aud", client).with("events", events), key)
    }

    /// A security event token (RFC 8417) for this receiver: an event of CAEP about a subject of this
    /// issuer, signed with `key`.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn security_event(&self, to: &str, event: &str, subject: &str, key: &IssuerKey) -> String {
        let event = format!("https://schemas.openid.net/secevent/caep/event-type/{event}");
        let sub_id = json!({"format": "iss_sub", "iss": self.url(), "sub": subject});
        let claims = Claims::default().with("aud", to).without("sub");
        let claims = claims.with("sub_id", sub_id).with("events", json!({ event: {} }));
        self.sign(claims, key)
    }

    fn published<T>(&self, change: impl FnOnce(&mut Published) -> T) -> T {
        change(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn answer(
    State((issuer, shared)): State<(String, Arc<Mutex<Published>>)>,
    Path(path): Path<String>,
) -> Response {
    let (document, fault, cache_control) = {
        let mut published = shared.lock().unwrap_or_else(PoisonError::into_inner);
        *published.requests.entry(path.clone()).or_default() += 1;
        let document = match path.as_str() {
            "realm/certs" => json!({"keys": published.keys}),
            "realm/.well-known/openid-configuration" => {
                let mut document = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/certs")});
                for (name, value) in &published.metadata {
                    document[name] = value.clone();
                }
                document
            }
            _ => return StatusCode::NOT_FOUND.into_response(),
        };
        (document, published.fault.clone(), published.cache_control.clone())
    };
    let cache_control = cache_control.unwrap_or_else(|| "max-age=600".to_owned());
    let json = |body: String| ([(header::CACHE_CONTROL, cache_control)], body).into_response();
    match fault {
        None => json(document.to_string()),
        Some(Fault::Slow(pause)) => {
            tokio::time::sleep(pause).await;
            json(document.to_string())
        }
        Some(Fault::Status(status)) => {
            StatusCode::from_u16(status).expect("a status").into_response()
        }
        Some(Fault::Redirect(to)) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Some(Fault::Document(text)) => json(text),
        Some(Fault::Large(bytes)) => json(" ".repeat(bytes)),
    }
}

// === impl TlsListener ===

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, peer)) = self.listener.accept().await else { continue };
            // A client that does not trust the certificate goes away.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

// === impl IssuerKey ===

impl IssuerKey {
    /// A new key of this id.
    ///
    /// # Panics
    /// When none can be generated.
    #[must_use]
    pub fn new(kid: &str) -> Self {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .expect("a key can be generated");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
            .expect("likewise");
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let text = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Self {
            kid: kid.to_owned(),
            private: EncodingKey::from_ec_der(pkcs8.as_ref()),
            jwk: json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
                "x": text(x), "y": text(y),
            }),
        }
    }

    /// A token with these claims.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims.as_map(), &self.private).expect("signing works")
    }
}

impl std::fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}
