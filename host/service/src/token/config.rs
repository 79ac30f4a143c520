//! Settings of token verification: which issuers there are, and how each one's tokens are checked.

use std::path::PathBuf;

use portcullis_types::duration::{HumanDuration, longer_than_zero, longer_than_zero_if_any};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    credential::Credential,
    key_config::KeyConfig,
    possession::{BindingRules, DpopConfig, SenderConstrainedConfig, XfccConfig},
    preset::{IssuerPreset, PresetSettings},
    report::{ReportRules, ReportScope},
};

/// How tokens of all issuers are verified.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokensConfig {
    /// How many verified tokens are remembered, so that a token that comes again costs no signature
    /// check. Expiry and revocation are checked each time all the same. At most 1,200 bytes each are
    /// taken: a larger token counts as several, and 100,000 take at most 120 MB. Expired tokens
    /// are dropped. 0 remembers none.
    pub cache_capacity: usize,
    /// The largest token that is read, in bytes; 256 to 65,536. Tokens with hundreds of groups need
    /// more than the default. Envoy's `max_request_headers_kb` limits all headers together, and
    /// `grpc.max_message_bytes` the whole request.
    pub max_bytes: usize,
    /// How often key files are checked for changes, and those that could not be read or used are
    /// retried.
    #[serde(deserialize_with = "longer_than_zero")]
    pub key_reload_interval: HumanDuration,
    /// How keys are fetched from issuers (`jwks_url`, `discovery`). Without it, the defaults hold.
    pub fetch: Option<FetchConfig>,
    /// How `DPoP` proofs are checked. Without it, the defaults hold. Needs an issuer with
    /// `sender_constrained.dpop`.
    pub dpop: Option<DpopConfig>,
    /// Has the certificate of the client read from the header `x-forwarded-client-cert`. Without it, it is
    /// that of the connection, which Envoy passes over gRPC. Needs an issuer with
    /// `sender_constrained.mtls`.
    pub x_forwarded_client_cert: Option<XfccConfig>,
}

/// How keys are fetched from issuers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// How long the fetch of one document may take.
    #[serde(deserialize_with = "longer_than_zero")]
    pub timeout: HumanDuration,
    /// Keys are fetched again after the time that the issuer gives in `Cache-Control` (`max-age`), or
    /// up to half of it sooner; but no sooner than after half of this.
    #[serde(deserialize_with = "longer_than_zero")]
    pub shortest_refresh: HumanDuration,
    /// The same, at the latest after this. It is the time without `Cache-Control`, too. A key that the
    /// issuer withdraws is accepted for this long at most.
    #[serde(deserialize_with = "longer_than_zero")]
    pub longest_refresh: HumanDuration,
    /// A token with an unknown key has keys fetched at once, but no more often than this for each
    /// source. The request waits for it.
    #[serde(deserialize_with = "longer_than_zero")]
    pub cooldown: HumanDuration,
    /// How long keys are used after they were fetched last, if the issuer does not answer. After that,
    /// its tokens are denied.
    #[serde(deserialize_with = "longer_than_zero")]
    pub max_stale: HumanDuration,
    /// An existing folder in which key sets are kept, so that a restart can serve while an issuer is
    /// down. A process that can write there can add keys.
    pub cache_dir: Option<PathBuf>,
}

/// One issuer: its keys, and what its tokens must look like.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Issuer")]
pub struct IssuerConfig {
    /// A well-known issuer, whose tokens have a known form.
    #[serde(default)]
    pub preset: Option<IssuerPreset>,
    /// What the token's `iss` must be, exactly. Without it, `iss` is not checked.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The token's `aud` must name one of these. Empty: `aud` is not checked, so that a token of
    /// this issuer for any other service is accepted too, an ID token for instance; there is a
    /// warning at start.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Where the keys come from. Only these keys can verify this issuer's tokens.
    pub keys: Vec<KeyConfig>,
    /// Where its tokens are in a request, if a route does not say it with its own `token_from`. Without a
    /// preset that says it, `[{header: authorization}]`, with the scheme `Bearer`.
    #[serde(default)]
    pub token_from: Vec<Credential>,
    /// How far the issuer's clock may be off, at most 1h: a token is still good this long after
    /// `exp`, and already good this long before `nbf`. Its `iat` may be as far ahead, or by
    /// `blacklist.skew` if that is more.
    #[serde(default = "default_leeway")]
    pub leeway: HumanDuration,
    /// The claims that a token must have. A token without `jti` cannot be revoked one by one, and
    /// a token without `exp` is good forever, so leave those out only if you must. Without a preset,
    /// `[exp, sub, jti]`.
    #[serde(default)]
    pub required_claims: Option<Vec<String>>,
    /// The scopes that a token must have, all of them, in `scope` or `scp`.
    #[serde(default)]
    pub required_scopes: Vec<String>,
    /// The clients whose tokens are accepted: the token's `azp`, or without that its `client_id`, `cid`
    /// or `appid`, must be one of these. Empty: tokens of all clients are.
    #[serde(default)]
    pub authorized_parties: Vec<String>,
    /// How long after it was issued (`iat`) a token is accepted, whatever its `exp`. Needs `iat`.
    #[serde(default, deserialize_with = "longer_than_zero_if_any")]
    pub max_age: Option<HumanDuration>,
    /// For how long a token may be issued: from `iat` to `exp`. Needs both.
    #[serde(default, deserialize_with = "longer_than_zero_if_any")]
    pub max_lifetime: Option<HumanDuration>,
    /// The types that the header of an access token may name (`typ`), `absent` standing for none.
    /// Letter case and a leading `application/` do not matter. With `[at+jwt]` alone, ID tokens are
    /// refused too (RFC 9068), if the issuer writes that type. `logout+jwt`, `secevent+jwt` and
    /// `dpop+jwt` are refused always, and so are tokens with a claim `events`. Without a preset,
    /// `[at+jwt, JWT, absent]`.
    #[serde(default)]
    pub header_types: Option<Vec<String>>,
    /// Distinguishes access tokens from other tokens of the same issuer, such as refresh tokens, by
    /// a claim.
    #[serde(default)]
    pub token_type: Option<TokenTypeConfig>,
    /// Accepts tokens that are bound to a key of their client (claim `cnf`), and checks that the client has
    /// it. Without it, such tokens are refused.
    #[serde(default)]
    pub sender_constrained: Option<SenderConstrainedConfig>,
    /// Accepts tokens that are bound to a key of their client (claim `cnf`, as with `DPoP` or mTLS)
    /// and does not check that the client has it. Only right where something before Portcullis checks
    /// the proof: otherwise a stolen token is as good as its owner's. Not with `sender_constrained`.
    #[serde(default)]
    pub accept_sender_constrained: bool,
    /// Accepts this issuer's logout tokens at `receiver.listen` (`OpenID` Connect Back-Channel Logout
    /// 1.0). Needs `issuer`.
    #[serde(default)]
    pub backchannel_logout: Option<ReportConfig>,
    /// Accepts this issuer's security event tokens at `receiver.listen` (Shared Signals 1.0, pushed as in
    /// RFC 8935): its events of CAEP and RISC end sessions and subjects. Needs `issuer`.
    #[serde(default)]
    pub security_events: Option<ReportConfig>,
}

/// Which reports of an issuer are accepted: its logout tokens, or its security event tokens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reports")]
pub struct ReportConfig {
    /// The report's `aud` must name one of these: the client that has Portcullis as its back-channel
    /// logout URL, or the audience of the stream of events.
    pub audiences: Vec<String>,
    /// What a logout ends, or an event that names a session.
    pub ends: ReportScope,
    /// How long the revocation lasts: longer than the issuer's tokens live. Without it, as long as
    /// `blacklist.rabbitmq.stream_max_age`.
    #[serde(default, deserialize_with = "longer_than_zero_if_any")]
    pub lasts: Option<HumanDuration>,
}

/// A claim that says what a token is for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenType")]
pub struct TokenTypeConfig {
    /// The claim's name.
    #[serde(default = "default_token_type_claim")]
    pub claim: String,
    /// The values with which a token is accepted.
    pub one_of: Vec<String>,
}

fn default_leeway() -> HumanDuration {
    HumanDuration::from_millis(5000)
}

fn default_token_type_claim() -> String {
    "type".to_owned()
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            timeout: HumanDuration::from_millis(5_000),
            shortest_refresh: HumanDuration::from_millis(30_000),
            longest_refresh: HumanDuration::from_millis(15 * 60_000),
            cooldown: HumanDuration::from_millis(5_000),
            max_stale: HumanDuration::from_millis(24 * 60 * 60_000),
            cache_dir: None,
        }
    }
}

impl Default for TokensConfig {
    fn default() -> Self {
        Self {
            cache_capacity: 100_000,
            max_bytes: 16 * 1024,
            key_reload_interval: HumanDuration::from_millis(1_000),
            fetch: None,
            dpop: None,
            x_forwarded_client_cert: None,
        }
    }
}

// === impl IssuerConfig ===

impl IssuerConfig {
    /// An issuer with these keys and the default for everything else.
    #[must_use]
    pub fn new(keys: Vec<KeyConfig>) -> Self {
        Self {
            preset: None,
            issuer: None,
            audiences: Vec::new(),
            keys,
            token_from: Vec::new(),
            leeway: default_leeway(),
            required_claims: None,
            required_scopes: Vec::new(),
            authorized_parties: Vec::new(),
            max_age: None,
            max_lifetime: None,
            header_types: None,
            token_type: None,
            sender_constrained: None,
            accept_sender_constrained: false,
            backchannel_logout: None,
            security_events: None,
        }
    }

    /// In which ways its tokens may be bound to a key of their client.
    pub(super) fn binding(&self) -> BindingRules {
        BindingRules::new(self.accept_sender_constrained, self.sender_constrained)
    }

    /// The same, with the settings of its preset, or the general ones, in place of those that are left
    /// out.
    pub(super) fn filled(&self) -> Self {
        let preset = PresetSettings::of(self.preset);
        let list = |texts: &[&str]| texts.iter().copied().map(str::to_owned).collect();
        let mut filled = self.clone();
        filled.required_claims.get_or_insert_with(|| list(preset.required_claims));
        filled.header_types.get_or_insert_with(|| list(preset.header_types));
        if filled.token_type.is_none() {
            filled.token_type = preset.token_type.map(|(claim, values)| TokenTypeConfig {
                claim: claim.to_owned(),
                one_of: list(values),
            });
        }
        if filled.token_from.is_empty() {
            filled.token_from.push(preset.credential());
        }
        filled
    }
}

// === impl ReportConfig ===

impl ReportConfig {
    pub(super) fn rules(&self) -> ReportRules {
        let Self { audiences, ends, lasts } = self.clone();
        ReportRules { audiences, ends, lasts: lasts.map(HumanDuration::get) }
    }
}

#[cfg(test)]
mod tests;
