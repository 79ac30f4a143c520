//! Binding of a token to a key of its client: the claim `cnf` (RFC 7800), and in which ways the tokens of
//! an issuer may be bound.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_types::json::{JsonObject, JsonRef};

use super::{
    super::{claims::present, verify_error::VerifyError},
    config::SenderConstrainedConfig,
};

/// SHA-256 of a public key (RFC 7638) or of a certificate.
pub(in crate::token) type Thumbprint = [u8; 32];

/// In which ways the tokens of an issuer may be bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::token) enum BindingRules {
    /// In none: a token that is bound is refused.
    #[default]
    Refused,
    /// In any: something before Portcullis checks the proof.
    Unchecked,
    /// In these, and the proof is checked.
    Checked(SenderConstrainedConfig),
}

/// What a token is bound to. At least one of them is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    /// The key of proofs.
    pub(super) key: Option<Thumbprint>,
    /// The certificate of the client.
    pub(super) certificate: Option<Thumbprint>,
}

// === impl BindingRules ===

impl BindingRules {
    /// The rules of an issuer with these settings.
    pub(in crate::token) fn new(
        accept_unchecked: bool,
        checked: Option<SenderConstrainedConfig>,
    ) -> Self {
        match checked {
            Some(checked) => Self::Checked(checked),
            None if accept_unchecked => Self::Unchecked,
            None => Self::Refused,
        }
    }

    /// Checks that a token with these claims is bound in a way that is accepted.
    pub(in crate::token) fn check(self, claims: &JsonObject) -> Result<(), VerifyError> {
        self.read(claims).map(drop)
    }

    /// What a token with these claims is bound to, as far as Portcullis has to check it.
    ///
    /// A `cnf` with a member that is not checked is refused, though RFC 7800 section 3.1 would have it
    /// ignored: the issuer may have meant that the client proves that one, too.
    pub(super) fn read(self, claims: &JsonObject) -> Result<Option<Binding>, VerifyError> {
        let (accepted, members) = match (self, present(claims, "cnf")) {
            (Self::Refused, Some(_)) => return Err(VerifyError::SenderConstrained),
            (Self::Checked(accepted), None) if accepted.required => {
                return Err(VerifyError::NotSenderConstrained);
            }
            (Self::Unchecked, _) | (_, None) => return Ok(None),
            (Self::Checked(accepted), Some(JsonRef::Object(members))) => (accepted, members),
            (Self::Checked(_), Some(_)) => return Err(VerifyError::MalformedClaim("cnf")),
        };
        let mut binding = Binding { key: None, certificate: None };
        for (name, value) in members.iter() {
            let place = match name {
                "jkt" if accepted.dpop => &mut binding.key,
                "x5t#S256" if accepted.mtls => &mut binding.certificate,
                _ => return Err(VerifyError::SenderConstrained),
            };
            let thumbprint = value.as_str().and_then(thumbprint);
            *place = Some(thumbprint.ok_or(VerifyError::MalformedClaim("cnf"))?);
        }
        if binding.key.is_none() && binding.certificate.is_none() {
            return Err(VerifyError::MalformedClaim("cnf"));
        }
        Ok(Some(binding))
    }

    /// Whether proofs of the issuer's tokens are checked.
    pub(super) fn checks_proofs(self) -> bool {
        matches!(self, Self::Checked(SenderConstrainedConfig { dpop: true, .. }))
    }

    /// Whether certificates are compared with the issuer's tokens.
    pub(super) fn checks_certificates(self) -> bool {
        matches!(self, Self::Checked(SenderConstrainedConfig { mtls: true, .. }))
    }

    /// Whether a token of the issuer may be sent with the scheme `Bearer`.
    pub(super) fn accepts_bearer(self) -> bool {
        let only_proofs = SenderConstrainedConfig { dpop: true, mtls: false, required: true };
        self != Self::Checked(only_proofs)
    }
}

/// Reads a thumbprint in base64url.
pub(super) fn thumbprint(text: &str) -> Option<Thumbprint> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TEXT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    /// `key`, `certificate`, `both`, `none` or the error's code.
    fn read(rules: BindingRules, claims: Value) -> &'static str {
        let Value::Object(claims) = claims else { unreachable!("claims are an object") };
        match rules.read(&JsonObject::from_map(&claims).unwrap()) {
            Ok(None) => "none",
            Ok(Some(Binding { key: Some(_), certificate: Some(_) })) => "both",
            Ok(Some(Binding { key: Some(_), .. })) => "key",
            Ok(Some(_)) => "certificate",
            Err(error) => error.code(),
        }
    }

    fn checked(dpop: bool, mtls: bool, required: bool) -> BindingRules {
        BindingRules::new(false, Some(SenderConstrainedConfig { dpop, mtls, required }))
    }

    #[test]
    fn a_token_is_bound_in_the_ways_that_are_checked_and_in_no_other() {
        let (jkt, x5t) = (json!({"jkt": TEXT}), json!({"x5t#S256": TEXT}));
        let both = json!({"jkt": TEXT, "x5t#S256": TEXT});
        for (cnf, dpop, mtls, all) in [
            (jkt, "key", "sender_constrained", "key"),
            (x5t, "sender_constrained", "certificate", "certificate"),
            (both, "sender_constrained", "sender_constrained", "both"),
            (
                json!({"jkt": TEXT, "kid": "k"}),
                "sender_constrained",
                "sender_constrained",
                "sender_constrained",
            ),
            (json!({"jwk": {}}), "sender_constrained", "sender_constrained", "sender_constrained"),
            (json!({}), "malformed_claim", "malformed_claim", "malformed_claim"),
            (json!([]), "malformed_claim", "malformed_claim", "malformed_claim"),
            (json!(TEXT), "malformed_claim", "malformed_claim", "malformed_claim"),
            (Value::Null, "none", "none", "none"),
        ] {
            let claims = json!({ "cnf": cnf });
            assert_eq!(read(checked(true, false, false), claims.clone()), dpop, "{claims}");
            assert_eq!(read(checked(false, true, false), claims.clone()), mtls, "{claims}");
            assert_eq!(read(checked(true, true, false), claims.clone()), all, "{claims}");
            assert_eq!(read(BindingRules::new(true, None), claims.clone()), "none", "{claims}");
            let refused = if claims["cnf"].is_null() { "none" } else { "sender_constrained" };
            assert_eq!(read(BindingRules::default(), claims.clone()), refused, "{claims}");
        }
    }

    #[test]
    fn a_thumbprint_is_32_bytes_in_canonical_base64url() {
        let padded = format!("{TEXT}=");
        let standard = TEXT.replace('-', "+");
        for text in ["", "AAAA", &padded, &standard, &TEXT[1..], &format!("{TEXT}AA")] {
            let claims = json!({"cnf": {"jkt": text}});
            assert_eq!(read(checked(true, false, false), claims), "malformed_claim", "{text}");
        }
        for value in [json!(1), Value::Null, json!([TEXT])] {
            let claims = json!({"cnf": {"jkt": value}});
            assert_eq!(read(checked(true, false, false), claims.clone()), "malformed_claim");
        }
    }

    #[test]
    fn a_token_that_is_not_bound_is_refused_where_it_must_be() {
        for claims in [json!({}), json!({"cnf": null})] {
            let required = read(checked(true, true, true), claims.clone());
            assert_eq!(required, "not_sender_constrained");
            assert_eq!(read(checked(true, true, false), claims), "none");
        }
        assert!(!checked(true, false, true).accepts_bearer());
        assert!(checked(true, true, true).accepts_bearer());
        assert!(checked(true, false, false).accepts_bearer());
    }
}
