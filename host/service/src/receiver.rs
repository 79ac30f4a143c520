//! The receiver: the HTTP edge where issuers report logouts (`OpenID` Connect Back-Channel Logout 1.0)
//! and security events (Shared Signals 1.0, RFC 8935).
//!
//! A report becomes an ordinary revocation: it goes through the store and the broker to all replicas. A
//! caller needs no secret, because the issuer's signature proves who it is.

mod intake;
mod logout;
mod security_event;

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode, header},
};
use portcullis_revocation as revocation;
use portcullis_runtime::{
    drain::Drain,
    listen::{self, BindError, Incoming, at_least_one},
    telemetry::{Edge, EdgeConnections, Metrics},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::intake::{Intake, IntakeDeps};
use crate::{
    http_api::{self, ApiLimits},
    token::{IssuerConfig, IssuerSetError, ReportConfig, ReportKind, ReportScope, Verifier},
};

/// Issuers send small requests at once.
const LIMITS: ApiLimits = ApiLimits {
    idle: Duration::from_secs(15),
    body_pause: Duration::from_secs(5),
    request: Duration::from_secs(20),
};

/// The largest token that can be configured fits, and some more fields.
const MAX_BODY_BYTES: usize = 128 * 1024;
/// A wrong path at the issuer or at a proxy would lose every report, so it is logged.
const NOT_FOUND: &str = "there is nothing else here; send logouts to `/backchannel-logout`, events to `/security-events`";

/// The receiver. Without this section it is switched off.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Receiver")]
pub struct ReceiverConfig {
    /// Address to listen on, for plain-text HTTP/1.1. Issuers with `backchannel_logout` send logouts to
    /// the path `/backchannel-logout`, and those with `security_events` send events to
    /// `/security-events`; a proxy before it ends TLS.
    pub listen: SocketAddr,
    /// Connections that may be open. Where all are open and a new one comes, an idle one is closed for
    /// it, as with `grpc.max_connections`.
    #[serde(default = "default_max_connections", deserialize_with = "at_least_one")]
    pub max_connections: u32,
}

/// The receiver cannot be used as it is configured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverError {
    /// Every report would be refused.
    #[error(
        "`receiver`: no issuer has `backchannel_logout` or `security_events`, so no report would be \
         accepted; add one to an issuer, or remove `receiver`"
    )]
    NoIssuer,
    /// No report would arrive.
    #[error(
        "`issuers.{issuer}.{section}`: has no effect without `receiver.listen`, where the issuer sends \
         its reports; add it, or remove this"
    )]
    NoReceiver {
        /// The name of the issuer.
        issuer: String,
        /// Its section that has no effect.
        section: &'static str,
    },
    /// A report could belong to two issuers.
    #[error("`receiver`: {0}")]
    Issuers(#[from] IssuerSetError),
    /// Reports could not be stored.
    #[error(
        "`receiver`: revocations come from a table (`blacklist.postgres`), which Portcullis only reads; \
         remove `receiver`, and have revocations written to the table"
    )]
    Table,
}

/// The receiver before its address is open.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    intakes: Vec<(ReportKind, Intake)>,
}

/// The receiver with its address open, before it serves.
pub struct ReceiverEdge {
    incoming: Incoming,
    intakes: Vec<(ReportKind, Intake)>,
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
/// When no report could be accepted, or stored.
pub fn build(
    sections: ReceiverSections<'_>,
    verifier: &Verifier,
    revoker: &revocation::Revoker,
    metrics: &Metrics,
) -> Result<Option<Receiver>, ReceiverError> {
    let ReceiverSections { receiver, issuers, blacklist } = sections;
    let reporting = ReportKind::ALL.into_iter().find_map(|kind| {
        let (name, _) = issuers.iter().find(|(_, issuer)| reports(issuer, kind).is_some())?;
        Some((name.clone(), kind.section()))
    });
    let config = match (receiver, reporting) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(ReceiverError::NoIssuer),
        (None, Some((issuer, section))) => {
            return Err(ReceiverError::NoReceiver { issuer, section });
        }
        (Some(config), Some(_)) => config.clone(),
    };
    if blacklist.postgres.is_some() {
        return Err(ReceiverError::Table);
    }
    let deps = IntakeDeps::new(verifier.clone(), revoker.clone(), blacklist.longest_life());
    let mut intakes = Vec::new();
    for kind in ReportKind::ALL {
        let issuers = verifier.report_issuers(kind)?;
        if issuers.is_empty() {
            continue;
        }
        let metrics = match kind {
            ReportKind::Logout => metrics.logouts(),
            ReportKind::SecurityEvent => metrics.security_events(),
        };
        intakes.push((kind, Intake::new(deps.clone(), kind, issuers, metrics)));
    }
    Ok(Some(Receiver { config, intakes }))
}

/// What the configuration leaves open although it can be used.
#[must_use]
pub fn warnings(sections: ReceiverSections<'_>) -> Vec<String> {
    let ReceiverSections { receiver, issuers, blacklist } = sections;
    let mut warnings = Vec::new();
    for (name, issuer) in issuers {
        let claims = issuer.required_claims.as_deref().unwrap_or_default();
        let needs_sid = !claims.iter().any(|claim| claim == "sid");
        for kind in ReportKind::ALL {
            let ends = reports(issuer, kind).map(|reports| reports.ends);
            if needs_sid && ends == Some(ReportScope::Session) {
                let section = kind.section();
                warnings.push(format!(
                    "issuers.{name}.{section}.ends: is `session`, and an access token without `sid` \
                     outlives its session; add `sid` to `required_claims`, or write `subject`"
                ));
            }
        }
    }
    if receiver.is_some() && blacklist.is_in_process() {
        warnings.push(
            "receiver: without `blacklist.redis`, a report is effective only at the replica that \
             receives it, until it is restarted"
                .to_owned(),
        );
    }
    warnings
}

/// Which reports of this kind an issuer sends.
const fn reports(issuer: &IssuerConfig, kind: ReportKind) -> Option<&ReportConfig> {
    match kind {
        ReportKind::Logout => issuer.backchannel_logout.as_ref(),
        ReportKind::SecurityEvent => issuer.security_events.as_ref(),
    }
}

/// The media type of a request, without its parameters.
fn essence(headers: &HeaderMap) -> &str {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

/// The paths of the receiver. What has begun is finished before the drain ends.
fn router(intakes: Vec<(ReportKind, Intake)>, drain: &Drain) -> Router {
    let mut router = Router::new();
    let mut all = Vec::new();
    for (kind, intake) in intakes {
        let intake = Arc::new(intake);
        all.push(Arc::clone(&intake));
        router = router.merge(match kind {
            ReportKind::Logout => logout::router(intake, drain.clone()),
            ReportKind::SecurityEvent => security_event::router(intake, drain.clone()),
        });
    }
    let not_found = move || {
        if let Some(intake) = all.first() {
            intake.refuse(NOT_FOUND);
        }
        std::future::ready(StatusCode::NOT_FOUND)
    };
    router.fallback(not_found).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
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
        Ok(ReceiverEdge { incoming, intakes: self.intakes })
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

    /// Serves until the drain begins and every report under way is answered.
    pub async fn serve(self, drain: Drain) {
        let router = router(self.intakes, &drain);
        http_api::serve(self.incoming, router, LIMITS, drain).await;
    }
}

impl fmt::Debug for ReceiverEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReceiverEdge").field(&self.incoming).finish()
    }
}
