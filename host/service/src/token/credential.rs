//! Credential: the part of a request that holds the token, how to read it, and how to remove it.

use portcullis_types::{attributes::Headers, listed_enum};

use super::bearer::{self, BearerError};

listed_enum! {
    /// Where the token of a request is. A new place is a variant here.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum Credential: header {
        /// The header `Authorization`, with the scheme `Bearer`.
        #[default]
        Authorization = "authorization",
    }
}

// === impl Credential ===

impl Credential {
    /// The token of a request with these headers.
    ///
    /// # Errors
    /// [`BearerError::Missing`] if there are no credentials; anything else if there is not exactly
    /// one token.
    pub fn token(self, headers: &Headers) -> Result<&str, BearerError> {
        bearer::bearer(headers.all(self.header()))
    }

    /// The scheme of credentials that are no token, such as `Basic`.
    #[must_use]
    pub fn other_scheme(self, headers: &Headers) -> Option<&str> {
        bearer::other_scheme(headers.all(self.header()))
    }

    /// The change that removes the token from a request: the name of a header, and its new value, or
    /// `None` to remove the header.
    #[must_use]
    pub fn removal(self) -> (String, Option<String>) {
        (self.header().to_owned(), None)
    }

    /// Whether a token may be in the header `name`, in lower case. Configuration gives no other
    /// header that name.
    #[must_use]
    pub fn may_be_in(name: &str) -> bool {
        Self::ALL.iter().any(|place| name == place.header())
    }
}
