//! Type of a token by its header (`typ`, RFC 7515 section 4.1.9): which ones an issuer's access
//! tokens have.
//!
//! Every other JWT of the same issuer, such as a logout token or a proof of possession, has a genuine
//! signature too (RFC 8725 section 3.11).

use super::verify_error::{Shown, VerifyError};

/// Never the type of an access token: back-channel logout, Shared Signals and other security
/// events, and a proof that a client holds a key (RFC 9449).
const NEVER: [&str; 3] = ["logout+jwt", "secevent+jwt", "dpop+jwt"];

/// What stands for a header without `typ` in the configuration.
const ABSENT: &str = "absent";

/// Words that may be meant for a header without `typ`, or for any type.
const WORDS: [&str; 5] = ["*", "any", "missing", "none", "null"];

/// The types that an issuer's access tokens have.
#[derive(Debug)]
pub(super) struct HeaderTypes {
    /// In the form in which types are compared.
    named: Vec<String>,
    may_be_absent: bool,
}

/// The form in which types are compared: in lower case, as media types have no case, and without
/// the `application/` that may be left out (RFC 7515 section 4.1.9).
pub(super) fn comparable(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(rest) if !rest.contains('/') => rest.to_owned(),
        _ => lower,
    }
}

/// Whether a text is the name of a media type, or of one below `application` (RFC 6838 section 4.2).
fn is_media_type(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(is_known);
    match name.split_once('/') {
        Some((kind, subtype)) => is_name(kind) && is_name(subtype),
        None => is_name(name),
    }
}

// === impl HeaderTypes ===

impl HeaderTypes {
    /// Takes the types over from the configuration, or says what is wrong with them.
    pub(super) fn new(configured: &[String]) -> Result<Self, &'static str> {
        if configured.is_empty() {
            return Err("is empty, so no token would be accepted; leave it out for the default");
        }
        let mut named: Vec<String> = configured.iter().map(|name| comparable(name)).collect();
        if named.iter().any(|name| NEVER.contains(&name.as_str())) {
            return Err("names `logout+jwt`, `secevent+jwt` or `dpop+jwt`, none of which is an \
                        access token; remove it");
        }
        if named.iter().any(|name| WORDS.contains(&name.as_str())) {
            return Err(
                "names what is no type; write `absent` for a header without `typ`, and each \
                        type by its name: [at+jwt, JWT, absent]",
            );
        }
        if !named.iter().all(|name| is_media_type(name)) {
            return Err(
                "names what is no media type, so no token has it; write for example at+jwt",
            );
        }
        let count = named.len();
        named.retain(|name| name != ABSENT);
        Ok(Self { may_be_absent: named.len() < count, named })
    }

    /// Checks the `typ` of a header, which is in comparable form.
    pub(super) fn check(&self, kind: Option<&str>) -> Result<(), VerifyError> {
        let is_accepted = kind
            .map_or(self.may_be_absent, |kind| self.named.iter().any(|accepted| accepted == kind));
        if is_accepted { Ok(()) } else { Err(VerifyError::WrongHeaderType(Shown::or_absent(kind))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(names: &[&str]) -> Result<HeaderTypes, &'static str> {
        HeaderTypes::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn accepts(types: &HeaderTypes, kind: &str) -> bool {
        types.check(Some(&comparable(kind))).is_ok()
    }

    #[test]
    fn types_are_compared_as_media_types() {
        let types = types(&["at+jwt", "application/JWT"]).unwrap();
        for kind in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt", "jwt", "JWT"] {
            assert!(accepts(&types, kind), "{kind}");
        }
        for kind in ["", "at", "at+jwt ", "text/at+jwt", "application/x/at+jwt", "absent", "id+jwt"]
        {
            assert!(!accepts(&types, kind), "{kind}");
        }
        assert!(types.check(None).is_err());
    }

    #[test]
    fn a_missing_type_is_accepted_where_it_says_so_and_no_type_of_that_name() {
        let types = types(&["absent"]).unwrap();
        assert!(types.check(None).is_ok());
        assert!(!accepts(&types, "absent") && !accepts(&types, "JWT"));
    }

    #[test]
    fn types_that_are_never_access_tokens_cannot_be_configured() {
        for name in ["logout+jwt", "application/LOGOUT+jwt", "secevent+jwt", "DPoP+JWT"] {
            assert!(types(&["JWT", name]).unwrap_err().contains("remove it"), "{name}");
        }
        assert!(types(&[]).unwrap_err().contains("leave it out"));
    }
}
