//! The extent of a cut-off: which tokens of its target it covers, by the time at which they were
//! issued.
//!
//! One session may be excepted: an earlier time, or none, counts for its tokens. Two cut-offs of
//! the same target join to one that covers exactly the union of both, in any order: of two
//! exceptions at most one can still spare a token.

use portcullis_types::timestamp::Timestamp;

use super::{
    cutoff::{BlankTargetError, Cutoff},
    presented_token::PresentedToken,
};

/// Which tokens of its target a cut-off covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    issued_before: Timestamp,
    /// Present only if it spares a token.
    except: Option<Exception>,
}

/// A session of which a cut-off covers fewer tokens, or no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    session: Cutoff,
    issued_before: Option<Timestamp>,
}

// === impl Extent ===

impl Extent {
    /// Tokens that were issued at the time `issued_before` or earlier, except those of the excepted
    /// session.
    pub(crate) fn new(issued_before: Timestamp, except: Option<Exception>) -> Self {
        let spares = |except: &Exception| except.issued_before < Some(issued_before);
        Self { issued_before, except: except.filter(spares) }
    }

    pub(crate) const fn issued_before(self) -> Timestamp {
        self.issued_before
    }

    /// The exception, if it spares a token.
    pub(crate) const fn except(self) -> Option<Exception> {
        self.except
    }

    /// Whether it covers `token`, which is one of its target.
    pub(crate) fn covers(self, token: &PresentedToken<'_>) -> bool {
        // First the check that needs no digest.
        token.is_as_old_as(self.issued_before)
            && self.except.is_none_or(|except| except.covers(token))
    }

    /// The union of both.
    pub(crate) fn join(self, other: Self) -> Self {
        let (farther, nearer) =
            if self.issued_before >= other.issued_before { (self, other) } else { (other, self) };
        // The exception of the earlier one spares no token that the later one does not cover.
        let except = farther.except.map(|except| {
            let issued_before = except.issued_before.max(nearer.issued_before_of(except.session));
            Exception { issued_before, ..except }
        });
        Self::new(farther.issued_before, except)
    }

    /// The time up to which tokens of one session are covered.
    fn issued_before_of(self, session: Cutoff) -> Option<Timestamp> {
        match self.except {
            Some(except) if except.session == session => except.issued_before,
            _ => Some(self.issued_before),
        }
    }
}

// === impl Exception ===

impl Exception {
    /// The session `session_id`. Its tokens are covered if they were issued at the time
    /// `issued_before` or earlier; without a time, none is.
    ///
    /// # Errors
    /// When the id is blank.
    pub fn new(
        session_id: &str,
        issued_before: Option<Timestamp>,
    ) -> Result<Self, BlankTargetError> {
        Ok(Self { session: Cutoff::session(None, session_id)?, issued_before })
    }

    /// The time up to which tokens of the session are covered nevertheless.
    pub(crate) const fn issued_before(self) -> Option<Timestamp> {
        self.issued_before
    }

    pub(crate) fn is_of_the_session_of(self, other: Self) -> bool {
        self.session == other.session
    }

    /// Whether a token that is old enough is covered.
    fn covers(self, token: &PresentedToken<'_>) -> bool {
        let session = token.session_id.and_then(|id| Cutoff::session(None, id).ok());
        session != Some(self.session)
            || self.issued_before.is_some_and(|issued_before| token.is_as_old_as(issued_before))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SESSIONS: [&str; 3] = ["a", "b", "c"];

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn extent(issued_before: i64, except: Option<(&str, Option<i64>)>) -> Extent {
        let except = except.map(|(session, until)| Exception::new(session, until.map(at)).unwrap());
        Extent::new(at(issued_before), except)
    }

    /// Every token that these tests can distinguish.
    fn tokens() -> impl Iterator<Item = PresentedToken<'static>> {
        let sessions = SESSIONS.into_iter().map(Some).chain([None]);
        sessions.flat_map(|session_id| {
            let times = (-1..8).map(|secs| Some(at(secs))).chain([None]);
            times.map(move |issued_at| PresentedToken {
                session_id,
                issued_at,
                ..PresentedToken::default()
            })
        })
    }

    fn extents() -> impl Strategy<Value = Extent> {
        let except = prop::option::weighted(
            0.8,
            (prop::sample::select(&SESSIONS[..]), prop::option::of(0..6_i64)),
        );
        (0..6_i64, except).prop_map(|(issued_before, except)| extent(issued_before, except))
    }

    #[test]
    fn the_excepted_session_is_spared_and_no_other() {
        let token = |session_id, issued_at: Option<i64>| PresentedToken {
            session_id,
            issued_at: issued_at.map(at),
            ..PresentedToken::default()
        };
        let cutoff = extent(5, Some(("a", None)));
        assert!(!cutoff.covers(&token(Some("a"), Some(1))));
        assert!(!cutoff.covers(&token(Some("a"), None)), "its age does not matter");
        assert!(cutoff.covers(&token(Some("b"), Some(5))));
        assert!(cutoff.covers(&token(None, Some(5))), "a token without session is of no session");
        assert!(cutoff.covers(&token(None, None)));
        assert!(!cutoff.covers(&token(Some("b"), Some(6))));
    }

    #[test]
    fn an_earlier_cut_off_still_covers_the_session_that_a_later_one_spares() {
        let joined = extent(3, None).join(extent(5, Some(("a", None))));
        assert_eq!(joined, extent(5, Some(("a", Some(3)))));
        let same_time = extent(5, Some(("b", None))).join(extent(5, Some(("a", None))));
        assert_eq!(same_time, extent(5, None));
        let later = extent(5, Some(("a", None))).join(extent(6, Some(("b", None))));
        assert_eq!(later, extent(6, Some(("b", Some(5)))));
        let same_session = extent(5, Some(("a", None))).join(extent(6, Some(("a", None))));
        assert_eq!(same_session, extent(6, Some(("a", None))));
    }

    #[test]
    fn an_exception_that_spares_nothing_is_dropped() {
        assert_eq!(extent(5, Some(("a", Some(5)))), extent(5, None));
        assert_eq!(extent(5, Some(("a", Some(9)))), extent(5, None));
        assert!(Exception::new(" ", None).is_err());
    }

    #[test]
    fn debug_shows_no_session() {
        let shown = format!("{:?}", extent(5, Some(("hush", None))));
        assert!(!shown.contains("hush"), "{shown}");
    }

    proptest! {
        #[test]
        fn a_join_covers_what_either_covers_and_nothing_else(one in extents(), other in extents()) {
            let joined = one.join(other);
            for token in tokens() {
                let either = one.covers(&token) || other.covers(&token);
                prop_assert_eq!(joined.covers(&token), either, "{:?} {:?}", joined, token.session_id);
            }
        }

        #[test]
        fn the_order_and_the_number_of_joins_do_not_matter(
            one in extents(),
            other in extents(),
            third in extents(),
        ) {
            prop_assert_eq!(one.join(other), other.join(one));
            prop_assert_eq!(one.join(one), one);
            prop_assert_eq!(one.join(other).join(other), one.join(other));
            prop_assert_eq!(one.join(other).join(third), one.join(other.join(third)));
        }
    }
}
