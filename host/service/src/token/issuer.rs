//! Rules of one issuer: what its tokens must look like, beyond their signature.

use std::{sync::Arc, time::Duration};

use portcullis_types::{
    duration::HumanDuration,
    json::{JsonObject, JsonRef},
    timestamp::Timestamp,
};

use super::{
    build_error::TokenBuildError,
    claims::{VerifiedToken, check_audience, present, text},
    config::{IssuerConfig, ReportConfig},
    credential::Credential,
    header_type::HeaderTypes,
    logout,
    parse::Jws,
    possession::BindingRules,
    report::{Report, ReportKind, ReportRules},
    security_event, setting,
    verify_error::{Shown, VerifyError},
};

/// An issuer's rules.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    /// What `iss` must be; `None` if it is not checked.
    pub(super) iss: Option<String>,
    /// Where its tokens are in a request.
    pub(super) token_from: Vec<Credential>,
    audiences: Vec<String>,
    leeway: Duration,
    required_claims: Vec<Arc<str>>,
    required_scopes: Vec<Arc<str>>,
    header_types: HeaderTypes,
    token_type: Option<TokenType>,
    binding: BindingRules,
    authorized_parties: Vec<String>,
    max_age: Option<Duration>,
    max_lifetime: Option<Duration>,
    logouts: Option<ReportRules>,
    security_events: Option<ReportRules>,
}

/// The claims that name the client to which a token was issued; the first that a token has decides.
/// `azp` is `OpenID`'s, `client_id` that of RFC 9068, `cid` is Okta's, and `appid` that of older tokens
/// of Entra.
const PARTY_CLAIMS: [&str; 4] = ["azp", "client_id", "cid", "appid"];

#[derive(Debug)]
struct TokenType {
    claim: Arc<str>,
    one_of: Vec<String>,
}

impl Issuer {
    /// Takes the rules over from the configuration, where tokens can meet them.
    pub(super) fn new(name: &str, config: &IssuerConfig) -> Result<Self, TokenBuildError> {
        let error =
            |setting, problem| TokenBuildError::Setting { issuer: name.into(), setting, problem };
        let config = &config.filled();
        setting::check(config).map_err(|(setting, problem)| error(setting, problem))?;
        let token_type = config.token_type.as_ref();
        let header_types = HeaderTypes::new(config.header_types.as_deref().unwrap_or_default())
            .map_err(|problem| error("header_types", problem))?;
        let shared = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        Ok(Self {
            name: name.into(),
            iss: config.issuer.clone(),
            token_from: config.token_from.clone(),
            audiences: config.audiences.clone(),
            leeway: config.leeway.get(),
            required_claims: shared(config.required_claims.as_deref().unwrap_or_default()),
            required_scopes: shared(&config.required_scopes),
            header_types,
            token_type: token_type.map(|rule| TokenType {
                claim: rule.claim.as_str().into(),
                one_of: rule.one_of.clone(),
            }),
            binding: config.binding(),
            authorized_parties: config.authorized_parties.clone(),
            max_age: config.max_age.map(HumanDuration::get),
            max_lifetime: config.max_lifetime.map(HumanDuration::get),
            logouts: config.backchannel_logout.as_ref().map(ReportConfig::rules),
            security_events: config.security_events.as_ref().map(ReportConfig::rules),
        })
    }

    /// Checks the type and the claims of a token that this issuer has signed.
    pub(super) fn admit(
        &self,
        jws: Jws<'_>,
        now: Timestamp,
        skew: Duration,
    ) -> Result<VerifiedToken, VerifyError> {
        self.check_use(&jws)?;
        let token = VerifiedToken::read(jws.claims, &self.name, self.leeway)?;
        let token = token.with_max_age(self.max_age)?;
        token.check_times(now, skew)?;
        if let Some(max_lifetime) = self.max_lifetime {
            token.check_lifetime(max_lifetime)?;
        }
        check_audience(token.claims(), &self.audiences)?;
        self.check_party(token.claims())?;
        let is_missing = |name: &&Arc<str>| present(token.claims(), name).is_none();
        if let Some(missing) = self.required_claims.iter().find(is_missing) {
            return Err(VerifyError::MissingClaim(Arc::clone(missing)));
        }
        let has_scope = |name: &str| token.scopes().split(' ').any(|scope| scope == name);
        if let Some(missing) = self.required_scopes.iter().find(|name| !has_scope(name)) {
            return Err(VerifyError::MissingScope(Arc::clone(missing)));
        }
        if let Some(rule) = &self.token_type {
            rule.check(token.claims())?;
        }
        Ok(token)
    }

    /// Which reports of this kind are accepted, if any.
    pub(super) const fn report_rules(&self, kind: ReportKind) -> Option<&ReportRules> {
        match kind {
            ReportKind::Logout => self.logouts.as_ref(),
            ReportKind::SecurityEvent => self.security_events.as_ref(),
        }
    }

    /// Checks the type and the claims of a report that this issuer has signed.
    pub(super) fn admit_report(
        &self,
        kind: ReportKind,
        jws: Jws<'_>,
        now: Timestamp,
        skew: Duration,
    ) -> Result<Report, VerifyError> {
        let Some(rules) = self.report_rules(kind) else {
            return Err(VerifyError::UnknownIssuer(Shown::default()));
        };
        rules.check(kind, &jws)?;
        let token = VerifiedToken::read(jws.claims, &self.name, self.leeway)?;
        token.check_times(now, skew)?;
        let event = match kind {
            ReportKind::Logout => logout::read(rules, &token, now)?,
            ReportKind::SecurityEvent => security_event::read(rules, &token)?,
        };
        let issuer = token.issuer().ok_or_else(|| VerifyError::MissingClaim("iss".into()))?;
        let (issuer_name, issuer) = (token.issuer_name().to_owned(), issuer.to_owned());
        Ok(Report { issuer_name, issuer, event, lasts: rules.lasts })
    }

    /// Whether the token was issued to be presented by its bearer, and not for something else that
    /// the issuer signs with the same keys.
    fn check_use(&self, jws: &Jws<'_>) -> Result<(), VerifyError> {
        self.header_types.check(jws.header.media_type.as_deref())?;
        // Security events and logout tokens, whatever their `typ`: RFC 8417 section 2.2.
        if present(&jws.claims, "events").is_some() {
            return Err(VerifyError::WrongTokenType("events".into()));
        }
        // RFC 7800: the issuer wants it presented together with a proof.
        self.binding.check(&jws.claims)
    }

    /// Whether the token was issued to one of the configured clients.
    fn check_party(&self, claims: &JsonObject) -> Result<(), VerifyError> {
        if self.authorized_parties.is_empty() {
            return Ok(());
        }
        for claim in PARTY_CLAIMS {
            let Some(party) = text(claims, claim)? else { continue };
            let is_ours = self.authorized_parties.iter().any(|ours| ours == party);
            return if is_ours { Ok(()) } else { Err(VerifyError::WrongParty(claim)) };
        }
        Err(VerifyError::MissingClaim("azp".into()))
    }
}

impl TokenType {
    fn check(&self, claims: &JsonObject) -> Result<(), VerifyError> {
        let is_accepted = |value: &str| self.one_of.iter().any(|accepted| accepted == value);
        match claims.get(&self.claim) {
            Some(JsonRef::Text(value)) if is_accepted(value) => Ok(()),
            _ => Err(VerifyError::WrongTokenType(Arc::clone(&self.claim))),
        }
    }
}
