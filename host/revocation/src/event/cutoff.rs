//! The target of a cut-off: all tokens of a subject, of a session or of an issuer.
//!
//! A cut-off keeps a digest of those names, never the names themselves: so they cannot end up in a
//! log, and all keys have the same size.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use aws_lc_rs::digest::{Context, SHA256};
use portcullis_types::digest::DigestKey;

/// The tokens that a cut-off covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cutoff {
    kind: CutoffKind,
    key: DigestKey,
}

/// The kind of target of a cut-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutoffKind {
    /// The subject (`sub`), for any issuer.
    Subject,
    /// The subject (`sub`) at one issuer (`iss`).
    SubjectOfIssuer,
    /// The session (`sid`), for any issuer.
    Session,
    /// The session (`sid`) at one issuer (`iss`).
    SessionOfIssuer,
    /// The issuer (`iss`).
    Issuer,
}

/// A name of a target is blank. It would cover every token of an issuer that leaves the claim
/// blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token id, subject, session or issuer is blank; give one that is not")]
pub struct BlankTargetError;

// === impl Cutoff ===

impl Cutoff {
    /// All tokens of `subject`: those of `issuer` only, if one is given.
    ///
    /// # Errors
    /// When a name is blank.
    pub fn subject(issuer: Option<&str>, subject: &str) -> Result<Self, BlankTargetError> {
        match issuer {
            Some(issuer) => Self::checked(CutoffKind::SubjectOfIssuer, &[issuer, subject]),
            None => Self::checked(CutoffKind::Subject, &[subject]),
        }
    }

    /// All tokens of the session `session_id`: those of `issuer` only, if one is given.
    ///
    /// # Errors
    /// When a name is blank.
    pub fn session(issuer: Option<&str>, session_id: &str) -> Result<Self, BlankTargetError> {
        match issuer {
            Some(issuer) => Self::checked(CutoffKind::SessionOfIssuer, &[issuer, session_id]),
            None => Self::checked(CutoffKind::Session, &[session_id]),
        }
    }

    /// All tokens of `issuer`.
    ///
    /// # Errors
    /// When the name is blank.
    pub fn issuer(issuer: &str) -> Result<Self, BlankTargetError> {
        Self::checked(CutoffKind::Issuer, &[issuer])
    }

    /// The kind of its target.
    #[must_use]
    pub const fn kind(self) -> CutoffKind {
        self.kind
    }

    /// The digest that stands for it in a key of the store, where names would be too long or too
    /// sensitive.
    pub(crate) const fn digest(self) -> [u8; 16] {
        self.key.bytes()
    }

    fn checked(kind: CutoffKind, names: &[&str]) -> Result<Self, BlankTargetError> {
        if names.iter().any(|name| name.trim().is_empty()) {
            return Err(BlankTargetError);
        }
        Ok(Self { kind, key: kind.key(names) })
    }
}

impl Hash for Cutoff {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The kind is part of the digest already.
        self.key.hash(state);
    }
}

impl fmt::Debug for Cutoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cutoff({:?}, [redacted])", self.kind)
    }
}

// === impl CutoffKind ===

impl CutoffKind {
    /// All kinds, in the order of [`CutoffKind::index`].
    pub(crate) const ALL: [Self; 5] =
        [Self::Subject, Self::SubjectOfIssuer, Self::Session, Self::SessionOfIssuer, Self::Issuer];

    /// Its number, smaller than the number of kinds.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Its bit.
    pub(crate) const fn bit(self) -> u8 {
        1 << self.index()
    }

    /// The digest that stands for `names`. Kinds and lengths are part of it, so no two different
    /// cut-offs share one.
    fn key(self, names: &[&str]) -> DigestKey {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.index().to_le_bytes());
        for name in names {
            digest.update(&name.len().to_le_bytes());
            digest.update(name.as_bytes());
        }
        digest.finish().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_names_cover_nothing() {
        for blank in ["", " ", "\t\n"] {
            assert!(Cutoff::subject(None, blank).is_err());
            assert!(Cutoff::subject(Some(blank), "u").is_err());
            assert!(Cutoff::session(None, blank).is_err());
            assert!(Cutoff::session(Some(blank), "s").is_err());
            assert!(Cutoff::issuer(blank).is_err());
        }
    }

    #[test]
    fn different_cut_offs_have_different_keys() {
        let all = [
            Cutoff::subject(None, "a").unwrap(),
            Cutoff::subject(Some("a"), "a").unwrap(),
            Cutoff::subject(Some("aa"), "b").unwrap(),
            Cutoff::subject(Some("a"), "ab").unwrap(),
            Cutoff::session(None, "a").unwrap(),
            Cutoff::session(Some("a"), "a").unwrap(),
            Cutoff::issuer("a").unwrap(),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| one.key != other.key), "{index}");
        }
    }

    #[test]
    fn debug_shows_no_name() {
        let shown = format!("{:?}", Cutoff::subject(None, "alice").unwrap());
        assert_eq!(shown, "Cutoff(Subject, [redacted])");
    }

    #[test]
    fn every_kind_has_the_index_of_its_place() {
        for (index, kind) in CutoffKind::ALL.iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
    }
}
