//! Challenge of a denial for want of a good token or proof: the header `www-authenticate` (RFC 6750 section
//! 3, RFC 9449 section 7.1).

use portcullis_types::decision::{Deny, Header, Reason};

use super::{
    challenge_config::ChallengeConfig,
    config::{RouteConfig, TokenMode},
    credentials::Schemes,
    route_error::RouteCause,
};
use crate::{fetch::FetchUrl, token::PROOF_ALGORITHMS};

/// The challenge of a route, as it is sent.
#[derive(Debug)]
pub(super) struct Challenge {
    /// Whether the route has its own. The other ones stand back behind `denials.headers`.
    pub(super) is_configured: bool,
    without_token: String,
    invalid_token: String,
    invalid_proof: String,
    nonce_needed: String,
}

// === impl Challenge ===

impl Challenge {
    /// Takes the challenge of the route over, if it has one or needs one for proofs.
    pub(super) fn new(route: &RouteConfig, schemes: Schemes) -> Result<Option<Self>, RouteCause> {
        let config = match &route.challenge {
            None if !schemes.dpop => return Ok(None),
            None => &ChallengeConfig::default(),
            Some(config) => {
                check(route, config)?;
                config
            }
        };
        let has_bearer = schemes.bearer || !schemes.dpop;
        let bearer = |error| has_bearer.then(|| one("Bearer", config, error));
        let dpop = |error| schemes.dpop.then(|| one("DPoP", config, error));
        let join =
            |all: [Option<String>; 2]| all.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let both = |error| join([bearer(error), dpop(error)]);
        let proof = |error| join([None, dpop(Some(error))]);
        Ok(Some(Self {
            is_configured: route.challenge.is_some(),
            without_token: both(None),
            invalid_token: both(Some("invalid_token")),
            invalid_proof: proof("invalid_dpop_proof"),
            nonce_needed: proof("use_dpop_nonce"),
        }))
    }

    /// Puts the challenge into a denial for this reason, if it is one for want of a good token or proof.
    pub(super) fn put(&self, reason: Reason, deny: &mut Deny) {
        const NAME: &str = "www-authenticate";
        let value = match reason {
            Reason::MissingToken => &self.without_token,
            Reason::InvalidToken => &self.invalid_token,
            Reason::InvalidProof => &self.invalid_proof,
            Reason::NonceNeeded => &self.nonce_needed,
            _ => return,
        };
        deny.headers.retain(|header| header.name != NAME);
        deny.headers.push(Header { name: NAME.to_owned(), value: value.clone() });
    }
}

/// The challenge of one scheme.
fn one(scheme: &str, config: &ChallengeConfig, error: Option<&str>) -> String {
    let scope = (!config.scope.is_empty()).then(|| config.scope.join(" "));
    let all = [
        ("realm", config.realm.as_deref()),
        ("scope", scope.as_deref()),
        ("error", error),
        ("algs", (scheme == "DPoP").then_some(PROOF_ALGORITHMS)),
        ("resource_metadata", config.resource_metadata.as_deref()),
    ];
    let given = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let list: Vec<_> = given.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    if list.is_empty() { scheme.to_owned() } else { format!("{scheme} {}", list.join(", ")) }
}

/// Checks that a challenge can be sent.
fn check(route: &RouteConfig, config: &ChallengeConfig) -> Result<(), RouteCause> {
    if route.token == TokenMode::Ignored {
        return Err(RouteCause::ChallengeWithoutToken);
    }
    let ChallengeConfig { realm, scope, resource_metadata } = config;
    let wrong = |key, what| Err(RouteCause::Challenge(key, what));
    if realm.as_ref().is_some_and(|realm| realm.is_empty() || !realm.bytes().all(is_quotable)) {
        return wrong("realm", "needs printable ASCII without quotation mark and backslash");
    }
    let is_scope = |scope: &String| {
        !scope.is_empty() && scope.bytes().all(|byte| is_quotable(byte) && byte != b' ')
    };
    if !scope.iter().all(is_scope) {
        return wrong("scope", "lists something that is no scope (RFC 6749 section 3.3)");
    }
    let is_url = |url: &String| url.bytes().all(is_quotable) && FetchUrl::new(url, false).is_ok();
    if resource_metadata.as_ref().is_some_and(|url| !is_url(url)) {
        return wrong("resource_metadata", "is not an `https` URL");
    }
    if *config == ChallengeConfig::default() {
        return wrong("realm", "is missing, and so is everything else; leave `challenge` out");
    }
    Ok(())
}

/// Whether a byte can stand in a quoted string without an escape.
fn is_quotable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}
