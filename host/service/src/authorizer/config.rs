//! Settings of routes, and of the answers that Portcullis itself gives.

use std::collections::BTreeMap;

use portcullis_types::{
    decision::{Deny, Header, Reason},
    duration::HumanDuration,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use super::{
    challenge_config::ChallengeConfig, claim_path::ClaimPath, guard, path::Tolerance,
    pattern::Pattern,
};
use crate::token::Credential;

/// One route: which requests, and what they need to pass. The first route that matches decides; a
/// request that matches none is denied.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Name of the route, for logs, for policies, and for Envoy's `context_extensions.route`. A request
    /// for which Envoy names a route gets this one or none: what the route's `match` says must hold all
    /// the same, and routes before it do not count.
    pub name: String,
    /// Which requests belong to the route. Without it, all HTTP requests do.
    #[serde(default, rename = "match")]
    pub matches: MatchConfig,
    /// Whether a token is needed.
    pub token: TokenMode,
    /// Names of the issuers whose tokens are accepted. May be left out if there is only one.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Where the token of a request is; without it, where `token_from` of its issuers says. All places
    /// are looked at. Two different tokens, or two in one place, are refused, and so is a cookie or a
    /// parameter that servers could read in two ways. A place that is not listed is not looked at: what
    /// a client sends in `authorization` then is passed on as it is.
    #[serde(default)]
    pub token_from: Vec<Credential>,
    /// Name of the policy that decides.
    #[serde(default)]
    pub policy: Option<String>,
    /// Lets requests pass on the strength of the token and the blacklist alone. Exactly one of
    /// `policy` and this is needed.
    #[serde(default)]
    pub allow_without_policy: bool,
    /// Settings for the policy, in the policy's own format.
    #[serde(default)]
    pub settings: Value,
    /// How much processor time the policy may use for one request. The caller's own time limit ends a
    /// call too, or else four times the deadline and 100 ms.
    #[serde(default = "default_deadline")]
    pub deadline: HumanDuration,
    /// Authorization schemes, such as `Basic` or `Negotiate`, that count as no token. Needs
    /// `token: optional`. Without it, a request whose `authorization` is of another scheme than
    /// `Bearer` is denied. `forward_token` decides whether the upstream receives such a header.
    #[serde(default)]
    pub ignored_schemes: Vec<String>,
    /// Request headers that tell the upstream who is calling: for each header, the claims to take
    /// the value from, the first that the token has. `null`, `""` and `[]` count as absent.
    ///
    /// A string is sent as it is, a list of strings joined with commas, a whole number up to 64 bits
    /// and a boolean as JSON writes them. Every other value, and one that could arrive as another, has
    /// no header form: an object, a fraction, a blank at either end, a control character, a list with
    /// an empty element or one with a comma or a quotation mark. See `unusable_claims` and
    /// `identity_encoding`.
    ///
    /// Under these names the upstream receives Portcullis' value or nothing, on every route: what
    /// a client sends under one of them, or under a name that servers fold into one (`x_user_id`), is
    /// removed.
    #[serde(default)]
    pub identity_headers: BTreeMap<String, Vec<ClaimPath>>,
    /// What happens to a request whose token has a claim for an identity header that has no header
    /// form.
    #[serde(default)]
    pub unusable_claims: UnusableClaims,
    /// How text of claims is written into identity headers.
    #[serde(default)]
    pub identity_encoding: IdentityEncoding,
    /// Whether the upstream receives the token. With `false` each place of `token_from` is removed: the
    /// header, the one cookie among others, or the parameter of the query. A policy cannot set such a
    /// header then. Over HTTP no proxy removes a parameter, so a request with one is denied. With
    /// `token: ignored`, what is forwarded was not verified.
    #[serde(default = "yes")]
    pub forward_token: bool,
    /// A request header that carries the whole payload of the token to the upstream: its claims, as JSON
    /// in base64url, as the token has them. As with `identity_headers`, the upstream receives
    /// Portcullis' value or nothing under this name.
    #[serde(default)]
    pub payload_header: Option<String>,
    /// What the header `www-authenticate` of a denial says besides `Bearer` and the error.
    #[serde(default)]
    pub challenge: Option<ChallengeConfig>,
    /// Headers that override the method, the path or the host of a request in some frameworks, and
    /// that this route lets through: `x-http-method-override`, `x-http-method`,
    /// `x-method-override`, `x-original-url`, `x-original-uri`, `x-rewrite-url`,
    /// `x-http-host-override`, `x-host`. All others of them are removed, since a decision is made
    /// about the request line. List one only if the upstream does not read it, or if each method,
    /// path and host that it may name is open to each caller that this route lets through.
    #[serde(default)]
    pub keep_override_headers: Vec<String>,
}

/// What happens to a request whose token has a claim that has no header form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnusableClaims {
    /// The header is left out, and with it whatever the client sent under its name. The decision's
    /// log line names the claim.
    #[default]
    Omit,
    /// The request is denied with `unusable_claim`.
    Deny,
}

/// How text of claims is written into identity headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityEncoding {
    /// As it is. Text beyond ASCII has no header form: many frameworks read headers as Latin-1, and
    /// would read another name.
    #[default]
    Ascii,
    /// As it is, in UTF-8. For upstreams that read headers as UTF-8.
    Utf8,
    /// Percent-encoded UTF-8: each blank, `%`, comma, quotation mark, control character and everything
    /// beyond ASCII. For upstreams that decode it. All strings but empty elements of lists have a
    /// header form then.
    Percent,
}

/// Which requests belong to a route. Every condition that is present must hold; within one
/// condition, one pattern must match. Patterns are exact, `prefix*`, `*suffix` or `*`. What no request
/// can match is refused when the configuration is read, and so is a route of which an earlier one takes
/// all requests.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatchConfig {
    /// Hosts, compared without regard to case, without dot at the end, and without port unless
    /// `hosts.port` is `match`. Names beyond ASCII are the same as their form with `xn--`.
    #[serde(deserialize_with = "not_empty")]
    pub hosts: Vec<Pattern>,
    /// Canonical paths: decoded, without query. `paths` says how case and a slash at the end count. The
    /// characters `*`, `?`, `#`, `{` and `}` of a path are written `%2A`, `%3F`, `%23`, `%7B`, `%7D`.
    #[serde(deserialize_with = "not_empty")]
    pub paths: Vec<Pattern>,
    /// Canonical paths that do not belong to the route.
    pub not_paths: Vec<Pattern>,
    /// Ambiguities that the upstream of this route reads as described, besides those of
    /// `paths.tolerate`; not `empty_segments` and `dot_segments`. The part of a path before the ambiguity
    /// must decide on the route: `paths` has a prefix of it, and neither `not_paths` nor an earlier route
    /// for the same host and method has a pattern that what follows could match.
    pub tolerate: Vec<Tolerance>,
    /// Methods, in upper case: letters, digits, `-` and `_`. Without this key, any method belongs to the
    /// route; `*`, `ANY` and `ALL` are refused, and so are `CONNECT` and `PRI`, which no route matches.
    #[serde(deserialize_with = "not_empty")]
    pub methods: Vec<String>,
    /// Matches checks of raw TCP connections, from Envoy's network filter, instead of HTTP requests.
    pub tcp: bool,
    /// Whether the route is found only if Envoy's `context_extensions.route` names it, and never by what
    /// it matches. The HTTP edge receives no such extensions.
    pub only_by_name: bool,
}

/// Whether a route needs a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenMode {
    /// A request without a valid token is denied.
    Required,
    /// A request without a token reaches the policy as anonymous; one with an invalid or revoked
    /// token is denied.
    Optional,
    /// Tokens are not looked at.
    Ignored,
}

/// The bodies and headers of denials that Portcullis itself writes.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DenialConfig {
    /// The set of bodies to start from.
    pub preset: DenialPreset,
    /// Bodies by reason code, for example `token_revoked`.
    #[serde(deserialize_with = "bodies")]
    pub bodies: BTreeMap<String, String>,
    /// Response headers by reason code. One takes the place of that of Portcullis with the same name:
    /// `missing_token: {www-authenticate: 'Bearer resource_metadata="https://…"'}` is what clients of
    /// MCP servers ask for.
    #[serde(deserialize_with = "headers")]
    pub headers: BTreeMap<String, BTreeMap<String, String>>,
}

/// A set of bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenialPreset {
    /// Short and lower case, such as `token revoked`.
    #[default]
    Portcullis,
    /// Those of the Eco² service, for clients that compare them.
    Eco2,
}

impl DenialConfig {
    /// Gives the denial for `reason` its configured body and headers.
    pub(super) fn word(&self, reason: Reason, deny: &mut Deny) {
        self.body(reason).clone_into(&mut deny.body);
        for (name, value) in self.headers.get(reason.code()).into_iter().flatten() {
            deny.headers.retain(|header| header.name != *name);
            deny.headers.push(Header { name: name.clone(), value: value.clone() });
        }
    }

    /// The body for `reason`.
    fn body(&self, reason: Reason) -> &str {
        if let Some(body) = self.bodies.get(reason.code()) {
            return body;
        }
        match (self.preset, reason) {
            (DenialPreset::Eco2, Reason::MissingToken) => "Missing Authorization header",
            (DenialPreset::Eco2, Reason::InvalidToken) => "Invalid token",
            (DenialPreset::Eco2, Reason::TokenRevoked) => "Token is blacklisted",
            (DenialPreset::Eco2, Reason::MalformedRequest) => "Malformed request",
            (DenialPreset::Eco2, reason) if reason.status() >= 500 => {
                "Internal Authorization Error"
            }
            (_, reason) => reason.message(),
        }
    }
}

/// How long a policy may take where its route does not say.
pub const DEFAULT_DEADLINE: HumanDuration = HumanDuration::from_millis(50);

fn default_deadline() -> HumanDuration {
    DEFAULT_DEADLINE
}

/// Bodies of denials that there are, and whose words are not a policy's.
fn bodies<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let bodies = BTreeMap::deserialize(deserializer)?;
    check_reasons(bodies.keys()).map_err(D::Error::custom)?;
    Ok(bodies)
}

/// The same for headers, under the rules for those of a policy.
fn headers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, D::Error> {
    let headers = BTreeMap::<String, BTreeMap<String, String>>::deserialize(deserializer)?;
    check_reasons(headers.keys()).map_err(D::Error::custom)?;
    for (reason, headers) in &headers {
        check_headers(headers).map_err(|cause| D::Error::custom(format!("{reason}: {cause}")))?;
    }
    Ok(headers)
}

fn check_reasons<'a>(mut codes: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let known: Vec<_> = Reason::ALL.into_iter().filter(|reason| has_body(*reason)).collect();
    let unknown = |code: &&String| !known.iter().any(|reason| reason.code() == code.as_str());
    let Some(code) = codes.find(unknown) else { return Ok(()) };
    let codes: Vec<_> = known.iter().map(|reason| reason.code()).collect();
    Err(format!(
        "`{code}` is no reason for which Portcullis writes the answer; those are {}",
        codes.join(", ")
    ))
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in headers {
        if !guard::is_response_name(name) {
            return Err(format!(
                "`{name}` is not a permitted header name; write it in lower case, and do not name a \
                 connection header"
            ));
        }
        if name.starts_with("access-control-") {
            return Err(format!("`{name}` is for the section `cors` to set; list origins there"));
        }
        if value.bytes().all(guard::is_blank) {
            return Err(format!("`{name}` has no value; write one, or remove it"));
        }
    }
    let fields = headers.iter();
    let deny = Deny {
        status: Reason::PolicyDenied.status(),
        body: String::new(),
        headers: fields
            .map(|(name, value)| Header { name: name.clone(), value: value.clone() })
            .collect(),
        metadata: Vec::new(),
    };
    guard::deny(deny).map(drop).map_err(|cause| cause.to_string())
}

const fn has_body(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Allowed | Reason::CorsPreflight | Reason::PolicyDenied | Reason::CacheRefreshed
    )
}

/// A list with something in it: an empty one would match nothing, or everything to other readers.
fn not_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom(
            "is an empty list; leave the key out to match everything, or list what to match",
        ));
    }
    Ok(list)
}

fn yes() -> bool {
    true
}
