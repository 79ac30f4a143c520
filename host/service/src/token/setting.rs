//! Checks of issuer settings that no token can meet: they are refused, with the remedy, since every
//! token would be.

use std::time::Duration;

use portcullis_types::duration::HumanDuration;

use super::{config::IssuerConfig, token_text::wrong_text};

/// How far the clock of an issuer may be off. Expired tokens are accepted for as long.
const LONGEST_LEEWAY: Duration = Duration::from_hours(1);

/// A setting, and what is wrong with it.
pub(super) type Problem = (&'static str, &'static str);

/// Checks every setting by itself, but for the types of headers.
///
/// # Errors
/// The first one that makes no sense.
pub(super) fn check(config: &IssuerConfig) -> Result<(), Problem> {
    let token_type = config.token_type.as_ref();
    let logout = config.backchannel_logout.as_ref();
    let events = config.security_events.as_ref();
    for (setting, values) in [
        ("issuer", config.issuer.as_slice()),
        ("audiences", &config.audiences),
        ("required_claims", config.required_claims.as_deref().unwrap_or_default()),
        ("required_scopes", &config.required_scopes),
        ("header_types", config.header_types.as_deref().unwrap_or_default()),
        ("authorized_parties", &config.authorized_parties),
        ("token_type.claim", token_type.map_or(&[], |rule| std::slice::from_ref(&rule.claim))),
        ("token_type.one_of", token_type.map_or(&[], |rule| &rule.one_of)),
        ("backchannel_logout.audiences", logout.map_or(&[], |logout| &logout.audiences)),
        ("security_events.audiences", events.map_or(&[], |events| &events.audiences)),
    ] {
        if let Some(problem) = values.iter().find_map(|value| wrong_text(value)) {
            return Err((setting, problem));
        }
    }
    if config.required_scopes.iter().any(|scope| scope.contains(char::is_whitespace)) {
        let problem = "has a blank within a scope; list scopes one by one: [read, write]";
        return Err(("required_scopes", problem));
    }
    if token_type.is_some_and(|rule| rule.one_of.is_empty()) {
        return Err(("token_type.one_of", "is empty, so no token would be accepted"));
    }
    check_reports(config)?;
    check_binding(config)?;
    if config.keys.is_empty() {
        return Err((
            "keys",
            "is empty; name a secret_file, a pem_file, a jwks_file or a jwks_url, or discovery",
        ));
    }
    if config.leeway.get() > LONGEST_LEEWAY {
        let problem = "is longer than 1h, and expired tokens would be accepted for as long; write what \
                       clocks may be off, such as 5s";
        return Err(("leeway", problem));
    }
    Ok(())
}

/// Checks in which ways tokens may be bound.
fn check_binding(config: &IssuerConfig) -> Result<(), Problem> {
    let Some(bound) = &config.sender_constrained else { return Ok(()) };
    if !bound.dpop && !bound.mtls {
        let problem = "has neither `dpop: true` nor `mtls: true`, so nothing is checked; set one, or leave \
                       the section out";
        return Err(("sender_constrained", problem));
    }
    if config.accept_sender_constrained {
        let problem =
            "accepts without a check what `sender_constrained` checks; remove one of them";
        return Err(("accept_sender_constrained", problem));
    }
    Ok(())
}

/// Checks which logouts and security events are accepted.
fn check_reports(config: &IssuerConfig) -> Result<(), Problem> {
    let logouts = (
        config.backchannel_logout.as_ref(),
        ["backchannel_logout", "backchannel_logout.audiences", "backchannel_logout.lasts"],
    );
    let events = (
        config.security_events.as_ref(),
        ["security_events", "security_events.audiences", "security_events.lasts"],
    );
    for (reports, [section, audiences, lasts]) in [logouts, events] {
        let Some(reports) = reports else { continue };
        if reports.audiences.is_empty() {
            return Err((
                audiences,
                "is empty, so no report would be accepted; name the client, or \
                                    the audience of the stream, at the issuer",
            ));
        }
        let is_shorter = |(lasts, life): (HumanDuration, HumanDuration)| lasts.get() < life.get();
        if reports.lasts.zip(config.max_lifetime).is_some_and(is_shorter) {
            let problem = "is shorter than `max_lifetime`, so tokens would outlive their revocation; raise it";
            return Err((lasts, problem));
        }
        if config.issuer.is_none() {
            return Err((section, "needs the `iss` of the issuer's tokens; add `issuer`"));
        }
    }
    Ok(())
}
