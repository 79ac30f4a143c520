//! JWS reader: takes a token apart, as strictly as its specifications allow.
//!
//! Nothing in here proves that a token is genuine, so nothing of what it reads is visible outside
//! of token verification.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_types::json::{JsonObject, JsonRef, ParseJsonError};

use super::{algorithm::Algorithm, header_type, verify_error::VerifyError};

/// Header parameters that change what the token means. `crit` demands that its extensions be
/// understood, and none is; the others belong to `crit` extensions or to encrypted tokens.
const REFUSED_PARAMETERS: [&str; 4] = ["crit", "b64", "zip", "enc"];

/// A signed JWT in compact form, taken apart but not verified.
pub struct Jws<'t> {
    pub(super) signing_input: &'t str,
    pub(super) signature: &'t str,
    pub(super) header: Header,
    pub(super) claims: JsonObject,
}

/// What matters of a token's header.
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// `typ` in the form in which types are compared.
    pub(super) media_type: Option<String>,
}

/// Takes a token apart: three parts in canonical base64url without padding, the first two holding
/// JSON objects in which no name occurs twice, at any depth (RFC 7515 sections 3.1 and 4, RFC 7519
/// section 4). Otherwise the issuer, Portcullis and the service behind it could each take another
/// one of two `sub`.
///
/// `jku`, `x5u`, `x5c`, `jwk` and unknown header parameters have no effect.
///
/// # Errors
/// When the token is longer than `max_bytes`, or is not of that form, or its header asks for
/// something that is not supported.
pub fn split(token: &str, max_bytes: usize) -> Result<Jws<'_>, VerifyError> {
    if token.len() > max_bytes {
        return Err(VerifyError::TooLarge(max_bytes));
    }
    let not_three_parts = VerifyError::Malformed("it does not consist of three parts");
    let Some((signing_input, signature)) = token.rsplit_once('.') else {
        return Err(not_three_parts);
    };
    let Some((header, payload)) = signing_input.split_once('.') else {
        return Err(not_three_parts);
    };
    if payload.contains('.') {
        return Err(not_three_parts);
    }
    if header.is_empty() || payload.is_empty() || signature.is_empty() {
        return Err(VerifyError::Malformed("one of its parts is empty"));
    }
    decode(signature)?;
    let header = read_header(&object(header)?)?;
    Ok(Jws { signing_input, signature, header, claims: object(payload)? })
}

/// All parameters of the header of a token that was taken apart.
pub(super) fn header(jws: &Jws<'_>) -> Result<JsonObject, VerifyError> {
    object(jws.signing_input.split('.').next().unwrap_or_default())
}

fn decode(part: &str) -> Result<Vec<u8>, VerifyError> {
    // This engine refuses padding, white space and bits that are set behind the last byte.
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| VerifyError::Malformed("one of its parts is not canonical base64url"))
}

fn object(part: &str) -> Result<JsonObject, VerifyError> {
    JsonObject::parse(&decode(part)?).map_err(|error| {
        VerifyError::Malformed(match error {
            ParseJsonError::NotAnObject => "one of its parts is not a JSON object",
            ParseJsonError::DuplicateName => "a name occurs twice in one of its objects",
        })
    })
}

fn read_header(header: &JsonObject) -> Result<Header, VerifyError> {
    if let Some(name) = REFUSED_PARAMETERS.into_iter().find(|name| header.get(name).is_some()) {
        return Err(VerifyError::UnsupportedHeader(name));
    }
    let Some(JsonRef::Text(algorithm)) = header.get("alg") else {
        return Err(VerifyError::Malformed("`alg` in its header is not a string"));
    };
    let algorithm = Algorithm::from_name(algorithm).ok_or(VerifyError::UnsupportedAlgorithm)?;
    // As with claims, null is what some serializers write for what is not set.
    let text = |name, problem| match header.get(name) {
        None | Some(JsonRef::Null) => Ok(None),
        Some(JsonRef::Text(text)) => Ok(Some(text)),
        Some(_) => Err(VerifyError::Malformed(problem)),
    };
    let kid = text("kid", "`kid` in its header is not a string")?.map(str::to_owned);
    let media_type =
        text("typ", "`typ` in its header is not a string")?.map(header_type::comparable);
    Ok(Header { algorithm, kid, media_type })
}

impl std::fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jws").field("algorithm", &self.header.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_BYTES: usize = 16 * 1024;

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.{}", encode(header), encode(payload), encode("signature"))
    }

    fn code(token: &str) -> &'static str {
        split(token, MAX_BYTES).map_or_else(|error| error.code(), |_| "accepted")
    }

    #[test]
    fn a_proper_token_is_taken_apart() {
        let token = token(r#"{"alg":"RS256","kid":"a","jku":"http://x"}"#, r#"{"sub":"u"}"#);
        let jws = split(&token, MAX_BYTES).unwrap();
        assert_eq!(
            (jws.header.algorithm, jws.header.kid.as_deref()),
            (Algorithm::RS256, Some("a"))
        );
        assert_eq!(jws.claims.get("sub").and_then(|sub| sub.as_str()), Some("u"));
        assert_eq!(format!("{}.{}", jws.signing_input, jws.signature), token);
    }

    #[test]
    fn every_spelling_of_no_algorithm_is_refused() {
        for alg in ["none", "None", "NONE", "nOnE", "none ", "", "hs256", "RS256\u{0}"] {
            let header = serde_json::json!({ "alg": alg }).to_string();
            assert_eq!(code(&token(&header, "{}")), "unsupported_algorithm", "{alg}");
        }
        for header in [r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"typ":"JWT"}"#, "{}"] {
            assert_eq!(code(&token(header, "{}")), "malformed", "{header}");
        }
    }

    #[test]
    fn parameters_that_change_the_meaning_are_refused() {
        for parameter in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""b64":false"#,
            r#""b64":true"#,
            r#""zip":"DEF""#,
            r#""enc":"A256GCM""#,
        ] {
            let header = format!(r#"{{"alg":"HS256",{parameter}}}"#);
            assert_eq!(code(&token(&header, "{}")), "unsupported_header", "{header}");
        }
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        for (header, payload) in [
            (r#"{"alg":"HS256","alg":"none"}"#, "{}"),
            (r#"{"alg":"HS256","\u0061lg":"HS256"}"#, "{}"),
            (r#"{"alg":"HS256","kid":"a","kid":"b"}"#, "{}"),
            (r#"{"alg":"HS256","jwk":{"kty":"RSA","kty":"EC"}}"#, "{}"),
            (r#"{"alg":"HS256"}"#, r#"{"sub":"a","sub":"b"}"#),
            (r#"{"alg":"HS256"}"#, r#"{"realm_access":{"roles":["a"],"roles":["b"]}}"#),
            (r#"{"alg":"HS256"}"#, r#"{"groups":[{"id":1,"i\u0064":2}]}"#),
        ] {
            assert_eq!(code(&token(header, payload)), "malformed", "{header} {payload}");
        }
    }

    #[test]
    fn only_three_parts_of_canonical_base64url_are_a_token() {
        let good = token(r#"{"alg":"HS256"}"#, r#"{"a":1}"#);
        let [header, payload, signature]: [&str; 3] =
            good.split('.').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(code(&good), "accepted");
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "...".to_owned(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!(".{payload}.{signature}"),
            format!("{header}..{signature}"),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.{signature}"),
            format!("{header}.{payload}.{signature}.{signature}.{signature}"),
            format!("{header}.{payload}.{signature}="),
            format!("{header}=.{payload}.{signature}"),
            format!("{header}\n.{payload}.{signature}"),
            format!("{header}.{payload}.{signature}\n"),
            format!(" {good}"),
            format!("{header}.{payload}.+/+/"),
            format!("{header}.{payload}.A"),
            format!("{header}.{payload}.AB"), // bits behind the last byte
            format!("{header}.{payload}.caf\u{e9}"),
            format!(r#"{{"protected":"{header}","payload":"{payload}"}}"#),
        ] {
            assert_eq!(code(&bad), "malformed", "{bad:?}");
        }
    }

    #[test]
    fn only_json_objects_are_headers_and_claims() {
        for text in ["", "[]", "null", "\"a\"", "1", "{", "{}{}", "{} x", "\u{feff}{}", "{'a':1}"] {
            assert_eq!(code(&token(text, "{}")), "malformed", "{text:?}");
            assert_eq!(code(&token(r#"{"alg":"HS256"}"#, text)), "malformed", "{text:?}");
        }
        let latin1 = URL_SAFE_NO_PAD.encode(b"{\"sub\":\"\xe9\"}");
        assert_eq!(code(&format!("{}.{latin1}.AA", encode(r#"{"alg":"HS256"}"#))), "malformed");
        let deep = format!(r#"{{"a":{}}}"#, "[".repeat(5000));
        assert_eq!(code(&token(r#"{"alg":"HS256"}"#, &deep)), "malformed");
    }

    #[test]
    fn a_key_id_or_a_type_that_is_not_a_string_is_refused() {
        for kid in ["1", "{}", "[\"a\"]", "true"] {
            for name in ["kid", "typ"] {
                let header = format!(r#"{{"alg":"HS256","{name}":{kid}}}"#);
                assert_eq!(code(&token(&header, "{}")), "malformed", "{name} {kid}");
            }
        }
        assert_eq!(code(&token(r#"{"alg":"HS256","kid":null,"typ":null}"#, "{}")), "accepted");
    }

    #[test]
    fn a_huge_token_is_not_looked_at() {
        let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(1024 * 1024));
        assert_eq!(code(&token(&header, "{}")), "too_large");
        let token = token(r#"{"alg":"HS256"}"#, "{}");
        assert!(split(&token, token.len()).is_ok());
        let error = split(&token, token.len() - 1).unwrap_err();
        assert_eq!(error, VerifyError::TooLarge(token.len() - 1));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = split(&text, MAX_BYTES);
        }

        #[test]
        fn no_header_and_payload_make_it_panic(header in "\\PC{0,80}", payload in "\\PC{0,80}") {
            let _ = split(&token(&header, &payload), MAX_BYTES);
        }

        #[test]
        fn two_texts_never_stand_for_one_signature(bytes in prop::collection::vec(any::<u8>(), 1..65), last in 0..64_usize) {
            let encoded = URL_SAFE_NO_PAD.encode(&bytes);
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let mut other = encoded.clone();
            other.pop();
            other.push(char::from(alphabet[last]));
            if other != encoded {
                prop_assert_ne!(decode(&other).ok(), Some(bytes));
            }
        }
    }
}
