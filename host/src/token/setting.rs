//! Settings of issuers that no token can meet: they are refused, with the remedy, since every token would
//! be.

use std::time::Duration;

use super::config::IssuerConfig;

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
    for (setting, values) in [
        ("issuer", config.issuer.as_slice()),
        ("audiences", &config.audiences),
        ("required_claims", &config.required_claims),
        ("required_scopes", &config.required_scopes),
        ("header_types", &config.header_types),
        ("token_type.claim", token_type.map_or(&[], |rule| std::slice::from_ref(&rule.claim))),
        ("token_type.one_of", token_type.map_or(&[], |rule| &rule.one_of)),
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
    if config.keys.is_empty() {
        return Err(("keys", "is empty; name a secret_file, a pem_file or a jwks_file"));
    }
    if config.leeway.get() > LONGEST_LEEWAY {
        let problem = "is longer than 1h, and expired tokens would be accepted for as long; write what \
                       clocks may be off, such as 5s";
        return Err(("leeway", problem));
    }
    Ok(())
}

/// What is wrong with a text that is compared with that of a token.
fn wrong_text(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        Some("has a blank value; remove it or fill it in")
    } else if text.trim() != text {
        Some(
            "has a value with a blank at its beginning or end, which no token has; remove the blank",
        )
    } else if text.chars().any(char::is_control) {
        Some("has a value with a control character, which no token has; remove it")
    } else {
        None
    }
}

/// Whether a text can be the id of a key.
pub(super) fn is_key_id(text: &str) -> bool {
    wrong_text(text).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_no_token_has_is_refused() {
        for text in ["", " ", "sub ", "\u{a0}sub", "a\nb", "a\0"] {
            assert!(wrong_text(text).is_some(), "{text:?}");
        }
        for text in ["sub", "My API", "https://id.example/", "kubernetes.io"] {
            assert!(wrong_text(text).is_none(), "{text:?}");
        }
    }
}
