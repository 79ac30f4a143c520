//! Metadata of issuers: `OpenID` Connect Discovery 1.0 section 4 and RFC 8414 section 3.

use serde::Deserialize;

use crate::fetch::{FetchError, FetchUrl, FetchUrlError};

/// The metadata of an issuer do not lead to its keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MetadataFault {
    /// They could not be fetched.
    #[error("{0}")]
    Fetch(#[from] FetchError),
    /// They are another document.
    #[error("this is not a JSON object with the texts `issuer` and `jwks_uri`")]
    NotMetadata,
    /// They are those of another issuer (RFC 8414 section 3.3).
    #[error("their `issuer` is not exactly the configured one; set `issuer` as they have it")]
    OtherIssuer,
    /// The URL of the keys cannot be used.
    #[error("their `jwks_uri` {0}")]
    Url(FetchUrlError),
}

#[derive(Deserialize)]
struct IssuerMetadata {
    issuer: String,
    jwks_uri: String,
}

/// Where the metadata of an issuer are: after its path for `OpenID`, before it for OAuth.
pub(super) fn urls(issuer: &str, allow_http: bool) -> Result<[FetchUrl; 2], FetchUrlError> {
    const OPENID: &str = "/.well-known/openid-configuration";
    const OAUTH: &str = "/.well-known/oauth-authorization-server";
    // `allow_http` may be for the URL of the keys alone.
    let allow_http = allow_http && !issuer.starts_with("https:");
    if FetchUrl::new(issuer, allow_http)?.has_query() {
        return Err(FetchUrlError::Query);
    }
    let path_at = issuer.find("://").map_or(0, |scheme| {
        let host = scheme + "://".len();
        issuer[host..].find('/').map_or(issuer.len(), |path| host + path)
    });
    let (origin, path) = issuer.split_at(path_at);
    let path = path.trim_end_matches('/');
    Ok([
        FetchUrl::new(&format!("{origin}{path}{OPENID}"), allow_http)?,
        FetchUrl::new(&format!("{origin}{OAUTH}{path}"), allow_http)?,
    ])
}

/// The URL of the keys in a document of metadata.
pub(super) fn jwks_uri(
    document: &[u8],
    issuer: &str,
    allow_http: bool,
) -> Result<FetchUrl, MetadataFault> {
    let metadata: IssuerMetadata =
        serde_json::from_slice(document).map_err(|_| MetadataFault::NotMetadata)?;
    if metadata.issuer != issuer {
        return Err(MetadataFault::OtherIssuer);
    }
    let is_encrypted = metadata.jwks_uri.starts_with("https:");
    let url = FetchUrl::new(&metadata.jwks_uri, allow_http && !is_encrypted)
        .map_err(MetadataFault::Url)?;
    // An issuer elsewhere must not lead to a service of this machine.
    if !url.is_encrypted() && !allow_http && issuer.starts_with("https:") {
        return Err(MetadataFault::Url(FetchUrlError::NotEncrypted));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_are_after_or_before_the_path_of_the_issuer() {
        for (issuer, openid, oauth) in [
            (
                "https://id.test",
                "https://id.test/.well-known/openid-configuration",
                "https://id.test/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.test/",
                "https://id.test/.well-known/openid-configuration",
                "https://id.test/.well-known/oauth-authorization-server",
            ),
            (
                "http://127.0.0.1:8080/realms/app",
                "http://127.0.0.1:8080/realms/app/.well-known/openid-configuration",
                "http://127.0.0.1:8080/.well-known/oauth-authorization-server/realms/app",
            ),
        ] {
            let found = urls(issuer, false).unwrap().map(|url| url.to_string());
            assert_eq!(found, [openid, oauth]);
        }
        for issuer in [
            "main",
            "http://id.test",
            "https://169.254.0.1",
            "https://id.test?x=1",
            "https://u@id.test",
        ] {
            assert!(urls(issuer, false).is_err(), "{issuer}");
        }
        assert!(urls("https://id.test", true).is_ok());
    }

    #[test]
    fn only_the_metadata_of_this_issuer_lead_to_keys() {
        let read = |document: serde_json::Value| {
            let document = document.to_string();
            jwks_uri(document.as_bytes(), "https://id.test", false).map(|url| url.to_string())
        };
        let metadata = |issuer: &str, uri: &str| json!({"issuer": issuer, "jwks_uri": uri});
        assert_eq!(
            read(metadata("https://id.test", "https://keys.test/a")),
            Ok("https://keys.test/a".to_owned())
        );
        for other in ["https://id.test/", "https://ID.test", "https://id.test.evil"] {
            let found = read(metadata(other, "https://id.test/a"));
            assert_eq!(found, Err(MetadataFault::OtherIssuer), "{other}");
        }
        for uri in [
            "http://id.test/a",
            "http://127.0.0.1/a",
            "https://169.254.169.254/",
            "/a",
            "file:///a",
        ] {
            let found = read(metadata("https://id.test", uri));
            assert!(matches!(found, Err(MetadataFault::Url(_))), "{uri}");
        }
        for document in [json!([]), json!({"issuer": "https://id.test"}), json!({"jwks_uri": 1})] {
            assert_eq!(read(document), Err(MetadataFault::NotMetadata));
        }
    }
}
