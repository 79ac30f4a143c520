//! Checks of issuer settings that no token can meet: they are refused, with the remedy, since every
//! token would be.

use std::time::Duration;

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
    if logout.is_some_and(|logout| logout.audiences.is_empty()) {
        let problem = "is empty, so no logout would be accepted; name the client at the issuer";
        return Err(("backchannel_logout.audiences", problem));
    }
    let lasts = logout.and_then(|logout| logout.lasts);
    if lasts.zip(config.max_lifetime).is_some_and(|(lasts, life)| lasts.get() < life.get()) {
        let problem =
            "is shorter than `max_lifetime`, so tokens would outlive their logout; raise it";
        return Err(("backchannel_logout.lasts", problem));
    }
    if logout.is_some() && config.issuer.is_none() {
        let problem = "needs the `iss` of the issuer's tokens; add `issuer`";
        return Err(("backchannel_logout", problem));
    }
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
