//! Errors of a route: what is wrong with its settings, and the remedy.

use super::pattern::Pattern;

/// A route does not make sense.
#[derive(Debug, thiserror::Error)]
#[error("routes: route `{route}`: {cause}")]
pub struct RouteError {
    /// Name of the route.
    pub route: String,
    /// What is wrong.
    pub cause: RouteCause,
}

/// What is wrong with a route.
#[derive(Debug, thiserror::Error)]
pub enum RouteCause {
    /// Two routes have one name.
    #[error("the name is used twice; names are unique")]
    DuplicateName,
    /// Neither or both of the ways to decide.
    #[error("give either `policy: NAME` or `allow_without_policy: true`")]
    NoVerdict,
    /// The policy is not configured.
    #[error("`policy: {0}` is not listed under `policies`")]
    UnknownPolicy(String),
    /// Settings without a policy.
    #[error("`settings` needs a `policy` to read them")]
    SettingsWithoutPolicy,
    /// An issuer is not configured.
    #[error("`issuers`: {0}")]
    Issuers(String),
    /// Several issuers to choose from, and no choice.
    #[error("`issuers` is needed, because several are configured: {0}")]
    IssuersNeeded(String),
    /// A method that no request has.
    #[error("`match.methods`: `{0}` {1}")]
    Method(String, String),
    /// A pattern that no request matches.
    #[error("`match.{key}`: no request matches `{}`: it {fault}", without_user(.pattern))]
    Unmatchable {
        /// `hosts`, `paths` or `not_paths`.
        key: &'static str,
        /// The pattern.
        pattern: Pattern,
        /// What is wrong with it, and the remedy.
        fault: String,
    },
    /// A path that belongs to the route and does not.
    #[error(
        "`match.not_paths`: `{1}` excludes all that `{0}` of `match.paths` matches; remove one"
    )]
    Excluded(Pattern, Pattern),
    /// A reading of the path that must be the same for all routes.
    #[error(
        "`match.tolerate`: `{0}` changes which route a path belongs to; set it in `paths.tolerate`"
    )]
    Tolerance(&'static str),
    /// No part of a path decides on the route before an ambiguity.
    #[error(
        "`match.tolerate` needs a `prefix*` in `match.paths` for the part before the ambiguity"
    )]
    NoPrefix,
    /// No request is left for the route.
    #[error(
        "every request that matches belongs to the route `{0}` before it; put the narrower route \
         first, or remove one; if Envoy names it in `context_extensions.route`, set \
         `match.only_by_name: true`"
    )]
    Unreachable(String),
    /// Headers from claims of a token that the route does not read.
    #[error("`identity_headers` needs a token; set `token: required` or `optional`")]
    HeadersWithoutToken,
    /// A name that cannot be set.
    #[error(
        "`identity_headers`: `{0}` is not a permitted header name; write it in lower case, and \
             do not name a pseudo header, `host`, `authorization`, a connection header or one that \
             begins with `x-envoy`"
    )]
    HeaderName(String),
    /// No claim to take the value from.
    #[error("`identity_headers.{0}` lists no claim")]
    NoClaim(String),
    /// Settings of identity headers that there are not.
    #[error("`unusable_claims` and `identity_encoding` need `identity_headers`; leave them out")]
    NothingToEncode,
    /// A header to keep that would not be removed.
    #[error(
        "`keep_override_headers`: `{name}` is not one of the headers that are removed, which are \
         {known}"
    )]
    NoOverride {
        /// The name.
        name: String,
        /// The headers that are removed.
        known: String,
    },
    /// Schemes that are looked at on no or on every request.
    #[error("`ignored_schemes` needs `token: optional`; leave it out")]
    SchemesWithoutOption,
    /// A text is not an authorization scheme, or is that of the tokens.
    #[error(
        "`ignored_schemes[{0}]` is not the name of another scheme than `Bearer`; write `Basic`, \
         `Negotiate` or the like, without credentials"
    )]
    Scheme(usize),
    /// A scheme of tokens with proofs, which no issuer accepts.
    #[error(
        "`token_from` names the scheme `DPoP`, and none of the issuers has `sender_constrained.dpop` or \
         `accept_sender_constrained`; set one of them, or remove the scheme"
    )]
    SchemeWithoutProofs,
    /// A scheme that counts as no token, and as one.
    #[error("`ignored_schemes` names `DPoP`, with which tokens of an issuer are sent; remove it")]
    IgnoredProofs,
    /// All tokens need proofs, and no place has them.
    #[error(
        "`token_from` has no place for tokens with a proof, and all issuers need one; add \
         `{{header: authorization}}`"
    )]
    NoPlaceWithProof,
    /// A challenge for a token that is not read.
    #[error("`challenge` needs a token; set `token: required` or `optional`, or leave it out")]
    ChallengeWithoutToken,
    /// A part of the challenge that cannot be sent.
    #[error("`challenge.{0}` {1}")]
    Challenge(&'static str, &'static str),
    /// A payload of a token that the route does not read, or under a name that cannot be set.
    #[error(
        "`payload_header` needs a token and a permitted header name; write it in lower case, and do \
         not name `host`, `authorization`, a connection header or one that begins with `x-envoy`"
    )]
    PayloadHeader,
    /// Places of a token that is neither read nor removed.
    #[error(
        "`token_from` has no effect with `token: ignored` and `forward_token: true`; leave it out, or \
         set `forward_token: false` to have tokens removed"
    )]
    PlacesWithoutToken,
    /// One place is named twice.
    #[error("`token_from` names one place twice; name each once")]
    PlaceTwice,
    /// A header that is removed from requests.
    #[error("`token_from`: `{0}` is removed from every request; see `keep_override_headers`")]
    OverrideAsPlace(String),
    /// A header for the token that is set or removed as an identity header.
    #[error(
        "`token_from`: some route lists `{0}`, or a name that servers take for it, in \
         `identity_headers`, so it never reaches an upstream as the client sent it; use another name"
    )]
    PlaceOfIdentity(String),
    /// Servers would take one identity header for the other.
    #[error(
        "`identity_headers`: servers in the tradition of CGI take `{0}` and `{1}` for one header; \
         use one name on all routes"
    )]
    Alike(String, String),
    /// A raw connection has neither token nor path.
    #[error(
        "`match.tcp` takes no other condition but `only_by_name`, no token, no identity headers and \
         keeps no headers"
    )]
    Tcp,
    /// A zero deadline denies everything.
    #[error("`deadline` is zero; write at least 1ms")]
    ZeroDeadline,
}

/// A pattern as messages show it: what stands before an `@` may be a password.
fn without_user(pattern: &Pattern) -> String {
    let pattern = pattern.to_string();
    pattern.rsplit_once('@').map_or_else(|| pattern.clone(), |(_, host)| format!("…@{host}"))
}
