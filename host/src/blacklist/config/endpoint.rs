//! Owns the address of another service, which may hold a password: it is never shown with it.

use std::{fmt, path::Path};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::secret::{ReadSecretError, Secret};

/// The address of another service, a URL. It is shown without its password.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Endpoint(String);

/// There is no one address.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// None, or two.
    #[error("`{section}`: give `url` or `url_file`, one of them")]
    NotOne {
        /// The section of the configuration.
        section: &'static str,
    },
    /// A file that belongs to it cannot be used.
    #[error("`{section}.{key}`: {source}")]
    File {
        /// The section of the configuration.
        section: &'static str,
        /// The key that names the file.
        key: &'static str,
        /// What is wrong with it.
        source: ReadSecretError,
    },
    /// A file that belongs to it is not text.
    #[error("`{section}.{key}`: the file is not UTF-8")]
    NotText {
        /// The section of the configuration.
        section: &'static str,
        /// The key that names the file.
        key: &'static str,
    },
    /// The file of certificates holds none.
    #[error("`{section}.ca_file`: the file holds no usable certificate; write PEM into it")]
    NoCertificates {
        /// The section of the configuration.
        section: &'static str,
    },
    /// It is not a URL of this kind.
    #[error("`{section}.url`: {message}")]
    Unusable {
        /// The section of the configuration.
        section: &'static str,
        /// What is wrong, without the address.
        message: String,
    },
}

// === impl Endpoint ===

impl Endpoint {
    /// The address that a section gives in one way or the other, with the password of
    /// `password_file` in it.
    ///
    /// # Errors
    /// When there is not exactly one, or a file cannot be read.
    pub fn resolve(
        section: &'static str,
        url: Option<&Self>,
        url_file: Option<&Path>,
        password_file: Option<&Path>,
    ) -> Result<Self, EndpointError> {
        let endpoint = match (url, url_file) {
            (Some(url), None) => url.clone(),
            (None, Some(file)) => Self(text(section, "url_file", file)?.trim().to_owned()),
            _ => return Err(EndpointError::NotOne { section }),
        };
        match password_file {
            Some(file) => endpoint
                .with_password(&text(section, "password_file", file)?)
                .ok_or_else(|| EndpointError::Unusable {
                    section,
                    message: "not a URL; write `scheme://user@host:port`".to_owned(),
                }),
            None => Ok(endpoint),
        }
    }

    /// Wraps a URL that was obtained in some other way.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// The URL itself, for the one place that connects to it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn with_password(&self, password: &str) -> Option<Self> {
        let (scheme, rest) = self.0.split_once("://")?;
        let (authority, path) = split_authority(rest);
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let user = user.split_once(':').map_or(user, |(user, _)| user);
        let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
        Some(Self(format!("{scheme}://{user}:{password}@{host}{path}")))
    }
}

fn text(section: &'static str, key: &'static str, file: &Path) -> Result<String, EndpointError> {
    let secret =
        Secret::read(file).map_err(|source| EndpointError::File { section, key, source })?;
    String::from_utf8(secret.expose().to_vec()).map_err(|_| EndpointError::NotText { section, key })
}

/// Where the authority of a URL (RFC 3986 section 3.2) ends.
fn split_authority(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str("[not a URL]");
        };
        // A query may hold a password as well.
        let (authority, path) = split_authority(rest);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        write!(f, "{scheme}://{host}{path}")
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_user_nor_password_nor_query_is_shown() {
        for url in [
            "amqp://user:hush@broker:5672/vhost?password=hush",
            "amqp://hush@broker:5672/vhost",
            "amqp://a@b:hush@broker:5672/vhost#hush",
        ] {
            assert_eq!(Endpoint::new(url).to_string(), "amqp://broker:5672/vhost");
        }
        assert_eq!(format!("{:?}", Endpoint::new("hush")), "[not a URL]");
    }

    #[test]
    fn a_password_file_replaces_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "p@ss/w:rd\n").unwrap();
        for (url, resolved) in [
            ("redis://store", "redis://:p%40ss%2Fw%3Ard@store"),
            ("redis://user@store/1", "redis://user:p%40ss%2Fw%3Ard@store/1"),
            ("redis://user:old@store?a=b", "redis://user:p%40ss%2Fw%3Ard@store?a=b"),
        ] {
            let url = Endpoint::new(url);
            let endpoint = Endpoint::resolve("s", Some(&url), None, Some(file.path())).unwrap();
            assert_eq!(endpoint.expose(), resolved);
        }
    }

    #[test]
    fn there_must_be_exactly_one_address() {
        let url = Endpoint::new("redis://store");
        let file = Path::new("/nonexistent/url");
        for (url, file) in [(None, None), (Some(&url), Some(file))] {
            let error = Endpoint::resolve("blacklist.redis", url, file, None).unwrap_err();
            assert!(error.to_string().contains("`blacklist.redis`: give `url`"), "{error}");
        }
        let error = Endpoint::resolve("blacklist.redis", None, Some(file), None).unwrap_err();
        assert!(error.to_string().contains("`blacklist.redis.url_file`: /nonexistent"), "{error}");
    }
}
