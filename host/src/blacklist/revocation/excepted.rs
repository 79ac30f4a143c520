//! Owns the session that a cut-off excepts, with its name, as broker and store are told of it.

use crate::{blacklist::extent::Exception, timestamp::Timestamp};

/// A session of which a cut-off covers nothing, or only what was issued at some time or earlier.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ExceptedSession {
    id: String,
    except: Exception,
}

// === impl ExceptedSession ===

impl ExceptedSession {
    /// One of which nothing is covered, unless its id is blank.
    pub(super) fn new(id: &str) -> Option<Self> {
        let except = Exception::new(id, None).ok()?;
        Some(Self::named(id.to_owned(), except))
    }

    /// The exception that was read with this id.
    pub(super) const fn named(id: String, except: Exception) -> Self {
        Self { id, except }
    }

    /// This id with the bound of `except`, if both name the same `sid`.
    pub(super) fn limited_as(self, except: Exception) -> Option<Self> {
        self.except.is_of_the_session_of(except).then_some(Self { except, ..self })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Up to when its tokens are covered all the same.
    pub(super) const fn issued_before(&self) -> Option<Timestamp> {
        self.except.issued_before()
    }

    /// The same as the blacklist keeps it.
    pub(super) const fn exception(&self) -> Exception {
        self.except
    }
}
