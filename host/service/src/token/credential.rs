//! Credential: a part of a request that holds the token. It is a header, a cookie or a parameter of the
//! query.

use portcullis_types::attributes::{
    HttpAttributes, cookie, fold_alike, is_end_to_end, parameters_alike, parameters_like,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bearer::{self, BearerError};

/// The header in which bearer tokens are sent (RFC 6750 section 2.1).
pub const AUTHORIZATION: &str = "authorization";
/// The scheme of tokens there.
const BEARER: &str = "Bearer";

/// Where the token of a request is: exactly one of `header`, `cookie` and `query`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "CredentialFields", untagged)]
#[schemars(!try_from, untagged)]
pub enum Credential {
    /// A header.
    Header(HeaderCredential),
    /// A cookie.
    Cookie(CookieCredential),
    /// A parameter of the query (RFC 6750 section 2.3). URLs end in logs and histories, so this is for
    /// clients that can send no header.
    Query(QueryCredential),
}

/// A header that holds the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HeaderCredential {
    /// The header's name, in lower case.
    pub header: String,
    /// The scheme before the token, such as `Bearer`, which is the default for `authorization`. By
    /// default, any other header holds the token alone. Letter case does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub scheme: Option<String>,
}

/// A cookie that holds the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CookieCredential {
    /// The cookie's name: letters, digits, `-`, `.`, `_` and `~`.
    pub cookie: String,
}

/// A parameter of the query that holds the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct QueryCredential {
    /// The parameter's name: letters, digits, `-`, `.`, `_` and `~`.
    pub query: String,
}

/// What the three kinds share in the file, so that errors can say what is missing or out of place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialFields {
    header: Option<String>,
    scheme: Option<String>,
    cookie: Option<String>,
    query: Option<String>,
}

/// A place cannot hold a token.
#[derive(Debug, thiserror::Error)]
enum ReadCredentialError {
    #[error("give exactly one of `header`, `cookie` and `query`")]
    NotOnePlace,
    #[error("`scheme` goes with `header` only; remove it")]
    SchemeWithoutHeader,
    #[error("`scheme` is not the name of a scheme; write `Bearer` or the like, without a blank")]
    Scheme,
    #[error(
        "`header` is not the name of a header that can hold a token; write it in lower case, and do \
         not name a pseudo header, `host`, `cookie`, a connection header or one that begins with \
         `x-envoy`; a cookie is `cookie: NAME`"
    )]
    Header,
    #[error("`cookie` is not the name of a cookie; use letters, digits, `-`, `.`, `_` and `~`")]
    Cookie,
    #[error("`query` is not the name of a parameter; use letters, digits, `-`, `.`, `_` and `~`")]
    Query,
}

/// The token in the parameter `name` of the path with query.
fn of_query<'a>(path: &'a str, name: &str) -> Result<&'a str, BearerError> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let found = parameters_like(query, &[name]).map_err(|_| BearerError::AmbiguousQuery)?;
    let value = match found.as_slice() {
        [] => return Err(BearerError::Missing),
        [(found, value)] if *found == name => value.unwrap_or_default(),
        _ => return Err(BearerError::AmbiguousQuery),
    };
    // To servers, a plus sign is a blank or itself.
    if value.contains('+') {
        return Err(BearerError::NotOneToken);
    }
    bearer::token(std::iter::once(value), None)
}

/// Whether every server reads a name as it is written.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_plain)
}

/// Whether a token may be sent in a header of this name.
fn can_hold_token(name: &str) -> bool {
    http::HeaderName::from_lowercase(name.as_bytes()).is_ok()
        && name != "cookie"
        && is_end_to_end(name)
        && !name.starts_with("x-envoy")
}

// === impl Credential ===

impl Credential {
    /// The token in this part of the request.
    ///
    /// # Errors
    /// [`BearerError::Missing`] if there are no credentials; anything else if there is not exactly
    /// one token.
    pub fn token<'a>(&self, http: &'a HttpAttributes) -> Result<&'a str, BearerError> {
        match self {
            Self::Header(HeaderCredential { header, scheme }) => {
                let token = bearer::token(http.headers.all(header), scheme.as_deref());
                token.map_err(|error| match error {
                    BearerError::SeveralTokens if header == AUTHORIZATION => {
                        BearerError::SeveralHeaders
                    }
                    error => error,
                })
            }
            Self::Cookie(CookieCredential { cookie: name }) => {
                let value = cookie(http.headers.all("cookie"), name);
                let value = value.map_err(|_| BearerError::AmbiguousCookie)?;
                bearer::token(value.into_iter(), None)
            }
            Self::Query(QueryCredential { query: name }) => of_query(&http.path, name),
        }
    }

    /// The scheme of credentials that are no token, such as `Basic`.
    #[must_use]
    pub fn other_scheme<'a>(&self, http: &'a HttpAttributes) -> Option<&'a str> {
        match self {
            Self::Header(HeaderCredential { header, scheme: Some(scheme) }) => {
                bearer::other_scheme(http.headers.all(header), scheme)
            }
            _ => None,
        }
    }

    /// The header that it is, if it is one.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Header(place) => Some(&place.header),
            Self::Cookie(_) | Self::Query(_) => None,
        }
    }

    /// The name of the cookie that it is, if it is one.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        match self {
            Self::Cookie(place) => Some(&place.cookie),
            Self::Header(_) | Self::Query(_) => None,
        }
    }

    /// Whether a server may take both for the same part of a request.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header(one), Self::Header(other)) => fold_alike(&one.header, &other.header),
            (Self::Cookie(one), Self::Cookie(other)) => {
                parameters_alike(&one.cookie, &other.cookie)
            }
            (Self::Query(one), Self::Query(other)) => parameters_alike(&one.query, &other.query),
            _ => false,
        }
    }
}

impl Default for Credential {
    fn default() -> Self {
        let (header, scheme) = (AUTHORIZATION.to_owned(), Some(BEARER.to_owned()));
        Self::Header(HeaderCredential { header, scheme })
    }
}

impl TryFrom<CredentialFields> for Credential {
    type Error = ReadCredentialError;

    fn try_from(fields: CredentialFields) -> Result<Self, Self::Error> {
        use ReadCredentialError::{
            Cookie, Header, NotOnePlace, Query, Scheme, SchemeWithoutHeader,
        };
        let CredentialFields { header, scheme, cookie, query } = fields;
        if scheme.is_some() && header.is_none() {
            return Err(SchemeWithoutHeader);
        }
        match (header, cookie, query) {
            (Some(header), None, None) => {
                if !can_hold_token(&header) {
                    return Err(Header);
                }
                if scheme.as_deref().is_some_and(|scheme| !bearer::is_scheme(scheme)) {
                    return Err(Scheme);
                }
                let of_header = (header == AUTHORIZATION).then(|| BEARER.to_owned());
                Ok(Self::Header(HeaderCredential { header, scheme: scheme.or(of_header) }))
            }
            (None, Some(cookie), None) => {
                if is_plain(&cookie) {
                    Ok(Self::Cookie(CookieCredential { cookie }))
                } else {
                    Err(Cookie)
                }
            }
            (None, None, Some(query)) => {
                if is_plain(&query) {
                    Ok(Self::Query(QueryCredential { query }))
                } else {
                    Err(Query)
                }
            }
            _ => Err(NotOnePlace),
        }
    }
}
