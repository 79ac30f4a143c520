//! The session that a cut-off excepts, with its name, as events for broker and store need it.

use portcullis_types::timestamp::Timestamp;

use crate::event::extent::Exception;

/// A session of which a cut-off covers no token, or only those issued at some time or earlier.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ExceptedSession {
    id: String,
    except: Exception,
}

// === impl ExceptedSession ===

impl ExceptedSession {
    /// A session of which no token is covered. `None` if its id is blank.
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

    /// The time up to which its tokens are covered nevertheless.
    pub(super) const fn issued_before(&self) -> Option<Timestamp> {
        self.except.issued_before()
    }

    /// The same in the form of the blacklist.
    pub(super) const fn exception(&self) -> Exception {
        self.except
    }
}
