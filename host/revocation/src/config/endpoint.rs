//! The address of another service. It may hold a password, which is never shown.

use std::{fmt, path::Path};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis_types::secret::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// The address of another service, a URL. It is shown without user and password. In these, `/`,
/// `?`, `#` and `@` are written as `%2F`, `%3F`, `%23` and `%40`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Endpoint(String);

/// What a URL consists of (RFC 3986 section 3).
struct UrlParts<'a> {
    scheme: &'a str,
    /// User name and password.
    user: &'a str,
    /// Host and port; PostgreSQL may have several.
    host: &'a str,
    /// Everything from the first `/`, `?` or `#` behind the host.
    rest: &'a str,
}

/// An `@` may stand behind the host, but then the host may be the beginning of a password.
const TWO_READINGS: &str = "the end of user and password is ambiguous, since an `@` stands behind a `/`, \
     `?` or `#`; write %2F, %3F, %23 and %40 for these in a user or password, and %40 \
     for any `@` behind the host";

const NOT_A_URL: &str = "not a URL; write `scheme://user@host:port`";

/// The address cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// None is given, or two are.
    #[error("`{section}`: give `url` or `url_file`, one of them")]
    NotOne {
        /// The section of the configuration.
        section: &'static str,
    },
    /// One of the keys, or the file that it names, cannot be used.
    #[error("`{section}.{key}`: {message}")]
    Unusable {
        /// The section of the configuration.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// What is wrong, without the address.
        message: String,
    },
}

// === impl EndpointError ===

impl EndpointError {
    pub(crate) fn new(section: &'static str, key: &'static str, message: &str) -> Self {
        Self::Unusable { section, key, message: message.to_owned() }
    }
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
        if UrlParts::of(&endpoint.0).is_some_and(|parts| parts.have_two_readings()) {
            return Err(EndpointError::new(section, "url", TWO_READINGS));
        }
        match password_file {
            Some(file) => endpoint
                .with_password(&text(section, "password_file", file)?)
                .ok_or_else(|| EndpointError::new(section, "url", NOT_A_URL)),
            None => Ok(endpoint),
        }
    }

    /// Wraps a URL that was obtained in some other way.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// The URL itself, with the password, for the code that connects to it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn with_password(&self, password: &str) -> Option<Self> {
        let UrlParts { scheme, user, host, rest } = UrlParts::of(&self.0)?;
        let user = user.split_once(':').map_or(user, |(user, _)| user);
        let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
        Some(Self(format!("{scheme}://{user}:{password}@{host}{rest}")))
    }
}

fn text(section: &'static str, key: &'static str, file: &Path) -> Result<String, EndpointError> {
    let unusable = |message: &str| EndpointError::new(section, key, message);
    let secret = Secret::read(file).map_err(|error| unusable(&error.to_string()))?;
    String::from_utf8(secret.expose().to_vec()).map_err(|_| unusable("the file is not UTF-8"))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UrlParts::of(&self.0) {
            None => f.write_str("[not a URL]"),
            Some(parts) if parts.may_show_user() => write!(f, "{}://[redacted]", parts.scheme),
            Some(UrlParts { scheme, host, rest, .. }) => {
                // A query may hold a password as well.
                let path = rest.split(['?', '#']).next().unwrap_or_default();
                write!(f, "{scheme}://{host}{path}")
            }
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl UrlParts ===

impl<'a> UrlParts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.bytes().all(is_scheme) {
            return None;
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        Some(Self { scheme, user, host, rest })
    }

    /// Whether the URL could also hold a user or password with an unescaped `/`, `?` or `#`.
    fn have_two_readings(&self) -> bool {
        self.rest.contains('@')
    }

    /// Whether the apparent host and port may be a user and a password.
    fn may_show_user(&self) -> bool {
        self.have_two_readings() || !self.host.split(',').all(has_number_as_port)
    }
}

/// Whether the part after the colon is a port, if there is a colon outside of brackets.
fn has_number_as_port(host: &str) -> bool {
    let behind_brackets = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    let port = behind_brackets.split_once(':').map_or("", |(_, port)| port);
    port.bytes().all(|byte| byte.is_ascii_digit())
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

    /// Passwords with unescaped characters, and whether the URL is then ambiguous.
    const PASSWORDS: [(&str, bool); 12] = [
        ("hu%2Fsh", false),
        ("hu@sh", false),
        ("hu:sh", false),
        ("@:hush", false),
        ("hu/sh", true),
        ("12/hush", true),
        ("/hush", true),
        ("hush//", true),
        ("hu#sh", true),
        ("hu?sh", true),
        ("hu@sh/hush", true),
        ("hu://sh@hush?#", true),
    ];

    const HOSTS: [&str; 5] =
        ["broker:5672", "10.0.0.1", "[::1]", "[2001:db8::1]:5672", "one:5432,two:5432"];

    #[test]
    fn nothing_of_a_password_is_shown_whatever_is_not_escaped_in_it() {
        for (password, has_two_readings) in PASSWORDS {
            for host in HOSTS {
                for user in ["user", "", "hu@sh"] {
                    let endpoint = Endpoint::new(&format!("amqp://{user}:{password}@{host}/vhost"));
                    let shown = if has_two_readings {
                        "amqp://[redacted]".to_owned()
                    } else {
                        format!("amqp://{host}/vhost")
                    };
                    assert_eq!(endpoint.to_string(), shown, "{}", endpoint.expose());
                    assert_eq!(format!("{endpoint:?}"), shown, "{}", endpoint.expose());
                }
            }
        }
    }

    #[test]
    fn an_address_with_two_readings_is_refused_with_the_remedy() {
        for (password, has_two_readings) in PASSWORDS {
            for host in HOSTS {
                let url = Endpoint::new(&format!("redis://user:{password}@{host}/1"));
                let resolved = Endpoint::resolve("s", Some(&url), None, None);
                assert_eq!(resolved.is_err(), has_two_readings, "{}", url.expose());
                if let Err(error) = resolved {
                    let error = error.to_string();
                    assert!(error.starts_with("`s.url`: ") && error.contains("%2F"), "{error}");
                    assert!(!error.contains("hu") && !error.contains("sh"), "{error}");
                }
            }
        }
    }

    #[test]
    fn what_may_be_a_password_without_its_host_is_not_shown() {
        for url in ["redis://user:hush", "redis://:hush/1", "redis://one:1,two:hush"] {
            assert_eq!(Endpoint::new(url).to_string(), "redis://[redacted]", "{url}");
        }
        for url in ["user:hu://sh", "hu@sh://host"] {
            assert_eq!(Endpoint::new(url).to_string(), "[not a URL]", "{url}");
        }
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
