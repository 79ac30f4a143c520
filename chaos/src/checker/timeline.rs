//! Timeline of a token: its revocations and un-revocations, and which revocations are in effect at
//! a moment.
//!
//! They are sequential. After a step without an acknowledgement there is no further step.

use crate::{
    history::{Check, History, Reason, Revocation, Unrevocation, Verdict},
    moment::Span,
};

/// The steps of one token. Each comes with its place in the history.
#[derive(Debug, Default)]
pub(super) struct Timeline<'a> {
    revocations: Vec<(usize, &'a Revocation)>,
    unrevocations: Vec<(usize, &'a Unrevocation)>,
}

/// The timelines of all tokens.
pub(super) fn all(history: &History) -> Vec<Timeline<'_>> {
    let of = |(place, token)| Timeline {
        revocations: history
            .revocations
            .iter()
            .enumerate()
            .filter(|(_, one)| one.target.covers(place, token))
            .collect(),
        unrevocations: history
            .unrevocations
            .iter()
            .enumerate()
            .filter(|(_, one)| one.token == place)
            .collect(),
    };
    history.tokens.iter().enumerate().map(of).collect()
}

/// Whether a check was denied because the token is revoked.
pub(super) fn is_revoked(check: &Check) -> bool {
    check.verdict == Verdict::Deny(Reason::Revoked)
}

// === impl Timeline ===

impl<'a> Timeline<'a> {
    /// The revocations that no un-revocation can have ended before the end of a span.
    pub(super) fn standing(&self, span: Span) -> impl Iterator<Item = (usize, &'a Revocation)> {
        self.revocations.iter().copied().filter(move |(_, revocation)| {
            let ends = |unrevocation: &Unrevocation| {
                unrevocation.began >= revocation.began && unrevocation.began <= span.ended
            };
            !self.unrevocations.iter().any(|(_, unrevocation)| ends(unrevocation))
        })
    }

    /// The un-revocations before a revocation.
    pub(super) fn before(&self, revocation: &Revocation) -> impl Iterator<Item = &'a Unrevocation> {
        let all = self.unrevocations.iter().map(|(_, unrevocation)| *unrevocation);
        all.filter(move |unrevocation| unrevocation.began < revocation.began)
    }

    /// Whether a denial in a span may come from a revocation.
    pub(super) fn may_be_revoked(&self, span: Span) -> bool {
        self.revocations.iter().any(|(_, revocation)| revocation.began <= span.ended)
    }

    /// The un-revocation after which the token is good during a span: it was acknowledged before
    /// the span, as were all earlier revocations, and no later revocation had begun.
    pub(super) fn unrevoked(&self, span: Span) -> Option<(usize, &'a Unrevocation)> {
        let last = self.unrevocations.iter().copied().filter(|(_, one)| one.began <= span.ended);
        let (place, unrevocation) = last.max_by_key(|(_, one)| one.began)?;
        unrevocation.acknowledged.filter(|at| *at < span.began)?;
        let begun = |one: &&(usize, &Revocation)| one.1.began <= span.ended;
        let over = |one: &(usize, &Revocation)| {
            one.1.acknowledged.is_some_and(|acknowledged| acknowledged <= unrevocation.began)
        };
        self.revocations.iter().filter(begun).all(over).then_some((place, unrevocation))
    }
}
