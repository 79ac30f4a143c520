//! Credentials of a route: where its tokens are, who may have issued those of each place, and how they
//! are removed from a request.

use portcullis_types::{
    attributes::{HeaderView, HttpAttributes, without_cookie},
    decision::Allow,
};

use super::{
    config::{RouteConfig, TokenMode},
    headers::{self, Names, OwnHeader},
    route_error::RouteCause,
};
use crate::token::{BearerError, CookieCredential, Credential, IssuerSet, Verifier};

/// The places of a route's tokens, in order.
#[derive(Debug)]
pub(super) struct Credentials {
    places: Vec<Place>,
    ignored_schemes: Vec<String>,
    /// The headers among the places. A server must not find a token under another spelling.
    pub(super) headers: Names,
}

#[derive(Debug)]
struct Place {
    credential: Credential,
    issuers: IssuerSet,
}

/// A token, and who may have issued it.
pub(super) struct Presented<'a> {
    pub(super) token: &'a str,
    pub(super) issuers: &'a IssuerSet,
}

// === impl Credentials ===

impl Credentials {
    /// The places that the route names, or else those that its issuers name.
    pub(super) fn new(route: &RouteConfig, verifier: &Verifier) -> Result<Self, RouteCause> {
        let names = issuers(route, verifier)?;
        let accepted = |names: &[String]| {
            verifier.issuer_set(names).map_err(|error| RouteCause::Issuers(error.to_string()))
        };
        // Checked for all of them together, wherever their tokens are.
        accepted(&names)?;
        let mut places: Vec<(Credential, Vec<String>)> = Vec::new();
        for name in if route.token_from.is_empty() { &names[..] } else { &[] } {
            for credential in verifier.token_from(name) {
                match places.iter_mut().find(|(known, _)| known == credential) {
                    Some((_, issuers)) => issuers.push(name.clone()),
                    None => places.push((credential.clone(), vec![name.clone()])),
                }
            }
        }
        places.extend(route.token_from.iter().map(|place| (place.clone(), names.clone())));
        if places.is_empty() {
            places.push((Credential::default(), names));
        }
        check(route, &places)?;
        let headers = places.iter().filter_map(|(credential, _)| credential.header());
        Ok(Self {
            headers: headers.map(str::to_owned).collect(),
            ignored_schemes: route.ignored_schemes.clone(),
            places: places
                .into_iter()
                .map(|(credential, names)| Ok(Place { credential, issuers: accepted(&names)? }))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The one token of a request.
    ///
    /// # Errors
    /// [`BearerError::Missing`] if there is none; anything else if there is not exactly one.
    pub(super) fn find<'a>(
        &'a self,
        http: &'a HttpAttributes,
    ) -> Result<Presented<'a>, BearerError> {
        let mut found: Option<Presented<'a>> = None;
        for Place { credential, issuers } in &self.places {
            match (credential.token(http), &found) {
                (Ok(token), None) => found = Some(Presented { token, issuers }),
                // The same token in two places, as some proxies send it, has one reading.
                (Ok(token), Some(earlier)) if earlier.token == token => {}
                (Ok(_), Some(_)) => return Err(BearerError::SeveralTokens),
                (Err(BearerError::Missing), _) => {}
                (Err(BearerError::WrongScheme), _) if self.ignores_scheme(credential, http) => {}
                (Err(error), _) => return Err(error),
            }
        }
        found.ok_or(BearerError::Missing)
    }

    /// Has `allow` and the headers of Portcullis' own remove all places from the request.
    pub(super) fn remove(
        &self,
        http: &HttpAttributes,
        allow: &mut Allow,
        own: &mut Vec<OwnHeader>,
    ) {
        let mut cookies: Option<String> = None;
        for Place { credential, .. } in &self.places {
            match credential {
                Credential::Header(place) => own.push((place.header.clone(), None)),
                Credential::Cookie(CookieCredential { cookie }) => {
                    let others = match &cookies {
                        Some(left) => without_cookie([left.as_str()].into_iter(), cookie),
                        None => without_cookie(http.headers.all("cookie"), cookie),
                    };
                    cookies = others.or(cookies);
                }
                Credential::Query(place) => {
                    allow.remove_query_parameters.push(place.query.clone());
                }
            }
        }
        let has_cookies = || self.places.iter().any(|place| place.credential.is_cookie());
        let is_unseen =
            http.header_view == HeaderView::Listed && http.headers.first("cookie").is_none();
        if let Some(left) = cookies {
            own.push(("cookie".to_owned(), Some(left)));
        } else if is_unseen && has_cookies() {
            // The proxy may have one that it does not show.
            own.push(("cookie".to_owned(), None));
        }
    }

    /// Whether the request's credentials are of another scheme that counts as no token here.
    fn ignores_scheme(&self, credential: &Credential, http: &HttpAttributes) -> bool {
        if self.ignored_schemes.is_empty() {
            return false;
        }
        credential.other_scheme(http).is_some_and(|scheme| {
            self.ignored_schemes.iter().any(|ignored| ignored.eq_ignore_ascii_case(scheme))
        })
    }
}

/// The names of the issuers whose tokens the route accepts.
fn issuers(route: &RouteConfig, verifier: &Verifier) -> Result<Vec<String>, RouteCause> {
    let known = verifier.issuer_names();
    if !route.issuers.is_empty() || route.token == TokenMode::Ignored {
        return Ok(route.issuers.clone());
    }
    if known.len() > 1 {
        return Err(RouteCause::IssuersNeeded(known.join(", ")));
    }
    Ok(known)
}

/// Checks the places of a route, wherever they are named.
fn check(route: &RouteConfig, places: &[(Credential, Vec<String>)]) -> Result<(), RouteCause> {
    if !route.token_from.is_empty() && route.token == TokenMode::Ignored && route.forward_token {
        return Err(RouteCause::PlacesWithoutToken);
    }
    let all: Vec<&Credential> = places.iter().map(|(credential, _)| credential).collect();
    for (index, credential) in all.iter().enumerate() {
        if all.iter().take(index).any(|earlier| earlier.is_beside(credential)) {
            return Err(RouteCause::PlaceTwice);
        }
        if let Some(name) = credential.header().filter(|name| headers::is_override(name)) {
            return Err(RouteCause::OverrideAsPlace(name.to_owned()));
        }
    }
    Ok(())
}
