//! Credentials of a route: where its tokens are, who may have issued those of each place, and how they
//! are removed from a request.

use portcullis_types::{
    attributes::{HeaderView, HttpAttributes, parameters_alike, without_cookie},
    decision::Allow,
};

use super::{
    config::{RouteConfig, TokenMode},
    headers::{self, Names, OwnHeader},
    route_error::RouteCause,
};
use crate::token::{
    BearerError, Credential, DPOP, HeaderCredential, IssuerSet, Possession, TokenScheme, Verifier,
};

/// The scheme of tokens that are sent with a proof.
const DPOP_SCHEME: &str = "DPoP";

/// The places of a route's tokens, in order.
#[derive(Debug)]
pub(super) struct Credentials {
    places: Vec<Place>,
    ignored_schemes: Vec<String>,
    /// The headers among the places, and that of proofs. A server must not find a token under another
    /// spelling.
    pub(super) headers: Names,
    /// With which schemes a client may send a token.
    pub(super) schemes: Schemes,
}

/// The schemes with which a client may send a token.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Schemes {
    /// `Bearer`.
    pub(super) bearer: bool,
    /// `DPoP`, with a proof that is checked.
    pub(super) dpop: bool,
}

#[derive(Debug)]
struct Place {
    credential: Credential,
    /// The same with the scheme `DPoP`, where a token may have that in place of `Bearer`.
    with_proof: Option<Credential>,
    issuers: IssuerSet,
}

/// A token, and who may have issued it.
pub(super) struct Presented<'a> {
    pub(super) token: &'a str,
    pub(super) scheme: TokenScheme,
    pub(super) issuers: &'a IssuerSet,
}

// === impl Place ===

impl Place {
    /// The token in this place, and how it was sent.
    fn token<'a>(&self, http: &'a HttpAttributes) -> Result<(&'a str, TokenScheme), BearerError> {
        match (self.credential.token(http), &self.with_proof) {
            (Err(BearerError::WrongScheme), Some(with_proof)) => {
                with_proof.token(http).map(|token| (token, TokenScheme::Dpop))
            }
            (Ok(token), _) if has_dpop_scheme(&self.credential) => Ok((token, TokenScheme::Dpop)),
            (token, _) => token.map(|token| (token, TokenScheme::Bearer)),
        }
    }
}

fn has_dpop_scheme(credential: &Credential) -> bool {
    let scheme = match credential {
        Credential::Header(place) => place.scheme.as_deref(),
        Credential::Cookie(_) | Credential::Query(_) => None,
    };
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(DPOP_SCHEME))
}

/// The same place with the scheme `DPoP`, if it is one for bearer tokens with their scheme.
fn with_proof(credential: &Credential) -> Option<Credential> {
    let Credential::Header(HeaderCredential { header, scheme: Some(scheme) }) = credential else {
        return None;
    };
    scheme.eq_ignore_ascii_case("Bearer").then(|| {
        let (header, scheme) = (header.clone(), Some(DPOP_SCHEME.to_owned()));
        Credential::Header(HeaderCredential { header, scheme })
    })
}

// === impl Credentials ===

impl Credentials {
    /// The places that the route names, or else those that its issuers name.
    pub(super) fn new(
        route: &RouteConfig,
        verifier: &Verifier,
        possession: &Possession,
    ) -> Result<Self, RouteCause> {
        let names = issuers(route, verifier)?;
        let accepted = |names: &[String]| {
            verifier.issuer_set(names).map_err(|error| RouteCause::Issuers(error.to_string()))
        };
        // Checked for all of them together, wherever their tokens are.
        accepted(&names)?;
        let places = places(route, &names, verifier);
        check(route, &places)?;
        let schemes = schemes(route, &places, possession)?;
        let headers = places.iter().filter_map(|(credential, _)| credential.header());
        let headers = headers.chain(schemes.dpop.then_some(DPOP));
        let place = |(credential, names): (Credential, Vec<String>)| {
            let accepts_proofs = names.iter().any(|name| possession.checks_proofs(name));
            let with_proof = with_proof(&credential).filter(|_| accepts_proofs);
            Ok(Place { with_proof, credential, issuers: accepted(&names)? })
        };
        Ok(Self {
            headers: headers.map(str::to_owned).collect(),
            ignored_schemes: route.ignored_schemes.clone(),
            schemes,
            places: places.into_iter().map(place).collect::<Result<_, _>>()?,
        })
    }

    /// All places of these routes, for requests without a route. No token is accepted in them.
    pub(super) fn of_all<'a>(routes: impl Iterator<Item = &'a Self>, none: &IssuerSet) -> Self {
        let mut places: Vec<Place> = Vec::new();
        let default = Credential::default();
        let mut schemes = Schemes::default();
        let all = routes.flat_map(|route| {
            schemes.dpop |= route.schemes.dpop;
            route.places.iter().map(|place| &place.credential)
        });
        for credential in all.chain(std::iter::once(&default)) {
            if !places.iter().any(|known| known.credential == *credential) {
                let (credential, issuers) = (credential.clone(), none.clone());
                places.push(Place { credential, with_proof: None, issuers });
            }
        }
        let headers = places.iter().filter_map(|place| place.credential.header());
        let headers = headers.chain(schemes.dpop.then_some(DPOP)).map(str::to_owned).collect();
        Self { headers, ignored_schemes: Vec::new(), schemes, places }
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
        for place in &self.places {
            let Place { credential, issuers, .. } = place;
            match (place.token(http), &mut found) {
                (Ok((token, scheme)), None) => found = Some(Presented { token, scheme, issuers }),
                // The same token in two places, as some proxies send it, has one reading. If one of them
                // says that there is a proof, there must be one.
                (Ok((token, scheme)), Some(earlier))
                    if earlier.token == token && earlier.issuers.is_same(issuers) =>
                {
                    if scheme == TokenScheme::Dpop {
                        earlier.scheme = scheme;
                    }
                }
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
        if self.schemes.dpop {
            own.push((DPOP.to_owned(), None));
        }
        for Place { credential, .. } in &self.places {
            match credential {
                Credential::Header(place) => own.push((place.header.clone(), None)),
                Credential::Cookie(_) => {}
                Credential::Query(place) => {
                    let is_it = |key: &str| parameters_alike(key, &place.query);
                    allow.set_query_parameters.retain(|(key, _)| !is_it(key));
                    allow.remove_query_parameters.push(place.query.clone());
                }
            }
        }
        own.extend(self.other_cookies(http, allow));
    }

    /// The header `cookie` without the places among the cookies: of the policy, if it sets or removes
    /// the header, or else of the request. `None` if it stays as it is.
    fn other_cookies(&self, http: &HttpAttributes, allow: &Allow) -> Option<OwnHeader> {
        let names = || self.places.iter().filter_map(|place| place.credential.cookie());
        names().next()?;
        let own = |cookies: Option<String>| ("cookie".to_owned(), cookies);
        let is_cookie = |name: &str| name.eq_ignore_ascii_case("cookie");
        let mut set = allow.set_request_headers.iter().rev();
        if let Some(header) = set.find(|header| is_cookie(&header.name)) {
            let without = |left: String, name| {
                without_cookie(std::iter::once(left.as_str()), name).unwrap_or(left)
            };
            return Some(own(Some(names().fold(header.value.clone(), without))));
        }
        if allow.remove_request_headers.iter().any(|name| is_cookie(name)) {
            return Some(own(None));
        }
        if http.headers.first("cookie").is_none() {
            // The proxy may have one that it does not show.
            return (http.header_view == HeaderView::Listed).then(|| own(None));
        }
        let mut left: Option<String> = None;
        for name in names() {
            let others = match &left {
                Some(left) => without_cookie(std::iter::once(left.as_str()), name),
                None => without_cookie(http.headers.all("cookie"), name),
            };
            left = others.or(left);
        }
        left.map(|left| own(Some(left)))
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

/// The places of the route, each with the issuers whose tokens are accepted in it.
fn places(
    route: &RouteConfig,
    names: &[String],
    verifier: &Verifier,
) -> Vec<(Credential, Vec<String>)> {
    if !route.token_from.is_empty() {
        return route.token_from.iter().map(|place| (place.clone(), names.to_vec())).collect();
    }
    // Where no token is read, those of all issuers are removed.
    let is_ignored = route.token == TokenMode::Ignored;
    let known = verifier.issuer_names();
    let mut places: Vec<(Credential, Vec<String>)> = Vec::new();
    for name in if is_ignored && !route.forward_token { &known } else { names } {
        for credential in verifier.token_from(name) {
            match places.iter_mut().find(|(known, _)| known == credential) {
                Some((_, issuers)) => issuers.push(name.clone()),
                None => places.push((credential.clone(), vec![name.clone()])),
            }
        }
    }
    if is_ignored {
        for (_, issuers) in &mut places {
            issuers.clear();
        }
    }
    if places.is_empty() {
        places.push((Credential::default(), names.to_vec()));
    }
    places
}

/// The schemes with which tokens may be sent to a route, as far as its settings go together.
fn schemes(
    route: &RouteConfig,
    places: &[(Credential, Vec<String>)],
    possession: &Possession,
) -> Result<Schemes, RouteCause> {
    if route.token == TokenMode::Ignored {
        // As with the places, what goes with tokens of any issuer is removed.
        let checks_proofs = possession.remembered_proofs().is_some();
        return Ok(Schemes { bearer: false, dpop: checks_proofs && !route.forward_token });
    }
    let mut schemes = Schemes::default();
    for (credential, names) in places {
        let is_accepted = |accepts: &dyn Fn(&str) -> bool| names.iter().any(|name| accepts(name));
        let checks_proofs = is_accepted(&|name| possession.checks_proofs(name));
        let is_unchecked = is_accepted(&|name| possession.is_unchecked(name));
        let is_dpop = has_dpop_scheme(credential);
        if is_dpop && !checks_proofs && !is_unchecked {
            return Err(RouteCause::SchemeWithoutProofs);
        }
        schemes.dpop |= checks_proofs && (is_dpop || with_proof(credential).is_some());
        schemes.bearer |= !is_dpop && is_accepted(&|name| possession.accepts_bearer(name));
    }
    let names_dpop = |scheme: &String| scheme.eq_ignore_ascii_case(DPOP_SCHEME);
    if schemes.dpop && route.ignored_schemes.iter().any(names_dpop) {
        return Err(RouteCause::IgnoredProofs);
    }
    let has_issuers = places.iter().any(|(_, names)| !names.is_empty());
    if has_issuers && !schemes.dpop && !schemes.bearer {
        return Err(RouteCause::NoPlaceWithProof);
    }
    Ok(schemes)
}

/// Checks the places of a route, wherever they are named.
fn check(route: &RouteConfig, places: &[(Credential, Vec<String>)]) -> Result<(), RouteCause> {
    if !route.token_from.is_empty() && route.token == TokenMode::Ignored && route.forward_token {
        return Err(RouteCause::PlacesWithoutToken);
    }
    let all: Vec<&Credential> = places.iter().map(|(credential, _)| credential).collect();
    for (index, credential) in all.iter().enumerate() {
        let is_read = route.token != TokenMode::Ignored;
        if is_read && all.iter().take(index).any(|earlier| earlier.is_beside(credential)) {
            return Err(RouteCause::PlaceTwice);
        }
        if let Some(name) = credential.header().filter(|name| headers::is_override(name)) {
            return Err(RouteCause::OverrideAsPlace(name.to_owned()));
        }
    }
    Ok(())
}
