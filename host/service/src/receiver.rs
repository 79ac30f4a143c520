//! The receiver: the HTTP edge where issuers report logouts (`OpenID` Connect Back-Channel Logout 1.0).
//!
//! A logout becomes an ordinary revocation: it goes through the store and the broker to all replicas. A
//! caller needs no secret, because the issuer's signature proves who it is.

mod logout;

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use portcullis_revocation as revocation;
use portcullis_runtime::{
    drain::Drain,
    listen::{self, BindError, Incoming, at_least_one},
    telemetry::{Edge, EdgeConnections, Metrics},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::logout::Logouts;
use crate::{
    http_api::{self, ApiLimits},
    token::{IssuerConfig, IssuerSetError, LogoutScope, Verifier},
};

/// Issuers send small requests at once.
const LIMITS: ApiLimits = ApiLimits {
    idle: Duration::from_secs(15),
    body_pause: Duration::from_secs(5),
    request: Duration::from_secs(20),
};

/// The receiver. Without this section it is switched off.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Receiver")]
pub struct ReceiverConfig {
    /// Address to listen on, for plain-text HTTP/1.1. Issuers with `backchannel_logout` send logouts to
    /// the path `/backchannel-logout`; a proxy before it ends TLS.
    pub listen: SocketAddr,
    /// Connections that may be open. Where all are open and a new one comes, an idle one is closed for
    /// it, as with `grpc.max_connections`.
    #[serde(default = "default_max_connections", deserialize_with = "at_least_one")]
    pub max_connections: u32,
}

/// The receiver cannot be used as it is configured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverError {
    /// Every logout would be refused.
    #[error(
        "`receiver`: no issuer has `backchannel_logout`, so no logout would be accepted; add it to an \
         issuer, or remove `receiver`"
    )]
    NoIssuer,
    /// No logout would arrive.
    #[error(
        "`issuers.{0}.backchannel_logout`: has no effect without `receiver.listen`, where the issuer \
         sends logouts; add it, or remove this"
    )]
    NoReceiver(String),
    /// A logout could belong to two issuers.
    #[error("`receiver`: {0}")]
    Issuers(#[from] IssuerSetError),
    /// Logouts could not be stored.
    #[error(
        "`receiver`: revocations come from a table (`blacklist.postgres`), which Portcullis only reads; \
         remove `receiver`, and have logouts written to the table"
    )]
    Table,
}

/// The receiver before its address is open.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    logouts: Logouts,
}

/// The receiver with its address open, before it serves.
pub struct ReceiverEdge {
    incoming: Incoming,
    logouts: Logouts,
}

/// The sections of the configuration that the receiver depends on.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverSections<'a> {
    /// `receiver`.
    pub receiver: Option<&'a ReceiverConfig>,
    /// `issuers`.
    pub issuers: &'a BTreeMap<String, IssuerConfig>,
    /// `blacklist`.
    pub blacklist: &'a revocation::Config,
}

const fn default_max_connections() -> u32 {
    64
}

/// Makes the receiver, if it is configured. Connects to nothing.
///
/// # Errors
/// When no logout could be accepted, or stored.
pub fn build(
    sections: ReceiverSections<'_>,
    verifier: &Verifier,
    revoker: &revocation::Revoker,
    metrics: &Metrics,
) -> Result<Option<Receiver>, ReceiverError> {
    let ReceiverSections { receiver, issuers, blacklist } = sections;
    let mut sending = issuers.iter().filter(|(_, issuer)| issuer.backchannel_logout.is_some());
    let (config, _) = match (receiver, sending.next()) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(ReceiverError::NoIssuer),
        (None, Some((name, _))) => return Err(ReceiverError::NoReceiver(name.clone())),
        (Some(config), Some(issuer)) => (config, issuer),
    };
    if blacklist.postgres.is_some() {
        return Err(ReceiverError::Table);
    }
    let logouts = Logouts {
        issuers: verifier.logout_issuers()?,
        verifier: verifier.clone(),
        revoker: revoker.clone(),
        longest_life: blacklist.longest_life(),
        metrics: metrics.logouts(),
    };
    Ok(Some(Receiver { config: config.clone(), logouts }))
}

/// What the configuration leaves open although it can be used.
#[must_use]
pub fn warnings(sections: ReceiverSections<'_>) -> Vec<String> {
    let ReceiverSections { receiver, issuers, blacklist } = sections;
    let goes_on = |issuer: &IssuerConfig| {
        let ends = issuer.backchannel_logout.as_ref().map(|logout| logout.ends);
        let claims = issuer.required_claims.as_deref().unwrap_or_default();
        ends == Some(LogoutScope::Session) && !claims.iter().any(|claim| claim == "sid")
    };
    let mut warnings = Vec::new();
    for (name, _) in issuers.iter().filter(|(_, issuer)| goes_on(issuer)) {
        warnings.push(format!(
            "issuers.{name}.backchannel_logout.ends: is `session`, and an access token without `sid` \
             outlives its logout; add `sid` to `required_claims`, or write `subject`"
        ));
    }
    if receiver.is_some() && blacklist.is_in_process() {
        warnings.push(
            "receiver: without `blacklist.redis`, a logout is effective only at the replica that \
             receives it, until it is restarted"
                .to_owned(),
        );
    }
    warnings
}

// === impl Receiver ===

impl Receiver {
    /// Opens the address.
    ///
    /// # Errors
    /// When the address is taken, is not one of this machine, or needs more rights.
    pub async fn bind(self) -> Result<ReceiverEdge, BindError> {
        let ReceiverConfig { listen, max_connections } = self.config;
        let incoming = listen::bind(Edge::Receiver, listen, max_connections).await?;
        Ok(ReceiverEdge { incoming, logouts: self.logouts })
    }
}

// === impl ReceiverEdge ===

impl ReceiverEdge {
    /// The address, with the port that the operating system chose if none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.incoming.local_addr()
    }

    /// The same with another limit for connections, which are counted in `metrics`.
    #[must_use]
    pub fn limited(self, limit: usize, metrics: EdgeConnections) -> Self {
        Self { incoming: self.incoming.limited(limit, metrics), ..self }
    }

    /// Serves until the drain begins and every logout under way is answered.
    pub async fn serve(self, drain: Drain) {
        let router = logout::router(self.logouts, drain.clone());
        http_api::serve(self.incoming, router, LIMITS, drain).await;
    }
}

impl fmt::Debug for ReceiverEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReceiverEdge").field(&self.incoming).finish()
    }
}
