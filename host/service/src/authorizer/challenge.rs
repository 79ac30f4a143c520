//! Challenge of a denial for want of a good token: the header `www-authenticate` (RFC 6750 section 3).

use portcullis_types::decision::{Deny, Header, Reason};

use super::{
    challenge_config::ChallengeConfig,
    config::{RouteConfig, TokenMode},
    route_error::RouteCause,
};
use crate::fetch::FetchUrl;

/// The challenge of a route, as it is sent.
#[derive(Debug)]
pub(super) struct Challenge {
    without_token: String,
    invalid_token: String,
}

// === impl Challenge ===

impl Challenge {
    /// Takes the challenge of the route over, if it has one.
    pub(super) fn new(route: &RouteConfig) -> Result<Option<Self>, RouteCause> {
        let Some(config) = &route.challenge else { return Ok(None) };
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
        let is_url =
            |url: &String| url.bytes().all(is_quotable) && FetchUrl::new(url, false).is_ok();
        if resource_metadata.as_ref().is_some_and(|url| !is_url(url)) {
            return wrong("resource_metadata", "is not an `https` URL");
        }
        let scope = (!scope.is_empty()).then(|| scope.join(" "));
        let parameters = |error: Option<&str>| {
            let all = [
                ("realm", realm.as_deref()),
                ("scope", scope.as_deref()),
                ("error", error),
                ("resource_metadata", resource_metadata.as_deref()),
            ];
            let given = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
            let list: Vec<_> = given.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            if list.is_empty() {
                "Bearer".to_owned()
            } else {
                format!("Bearer {}", list.join(", "))
            }
        };
        if *config == ChallengeConfig::default() {
            return wrong("realm", "is missing, and so is everything else; leave `challenge` out");
        }
        Ok(Some(Self {
            without_token: parameters(None),
            invalid_token: parameters(Some("invalid_token")),
        }))
    }

    /// Puts the challenge into a denial for this reason, if it is one for want of a good token.
    pub(super) fn put(&self, reason: Reason, deny: &mut Deny) {
        const NAME: &str = "www-authenticate";
        let value = match reason {
            Reason::MissingToken => &self.without_token,
            Reason::InvalidToken => &self.invalid_token,
            _ => return,
        };
        deny.headers.retain(|header| header.name != NAME);
        deny.headers.push(Header { name: NAME.to_owned(), value: value.clone() });
    }
}

/// Whether a byte can stand in a quoted string without an escape.
fn is_quotable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}
