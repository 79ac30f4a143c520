//! A revocation or un-revocation with its names, and its JSON forms for the broker and the store.
//!
//! An [`Event`] is the same in the form of the blacklist: digests, no names. A publisher still has
//! the names, and the store's keys and the events of other systems need them. `Debug` never shows
//! them.

mod excepted;

use std::{fmt, time::Duration};

use portcullis_types::timestamp::Timestamp;
use serde_json::{Map, Value};

use self::excepted::ExceptedSession;
use super::{Event, ParseEventError, cutoff::Cutoff, extent::Extent, wire_time};
use crate::event;

/// A target to revoke, or to un-revoke.
#[derive(Clone, PartialEq, Eq)]
pub struct Revocation {
    target: Target,
    action: Action,
    /// Applies to cut-offs of a subject only.
    excepted: Option<ExceptedSession>,
    user_id: Option<String>,
    reason: Option<String>,
}

/// Which tokens. No name in it is blank.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    kind: TargetKind,
    name: String,
    issuer: Option<String>,
}

/// A name of a target is blank. It would cover every token of an issuer that leaves the claim
/// blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token id, subject, session or issuer is blank; give one that is not")]
pub struct BlankTargetError;

/// How long the store has to keep a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// For ever.
    Permanent,
    /// Until every token that it covers has expired.
    For(Duration),
    /// Not at all: every token that it covers has expired already.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TargetKind {
    Token,
    Subject,
    Session,
    Issuer,
}

/// What to do with the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Revoke {
        /// Applies to cut-offs only.
        issued_before: Timestamp,
        expires_at: Option<Timestamp>,
    },
    Unrevoke,
}

/// No token was issued before this time.
const EPOCH: Timestamp = Timestamp::from_secs(0);

// === impl Target ===

impl Target {
    /// The token with this id.
    ///
    /// # Errors
    /// When the id is blank.
    pub fn token(jti: &str) -> Result<Self, BlankTargetError> {
        Self::checked(TargetKind::Token, jti, None)
    }

    /// All tokens of a subject: those of `issuer` only, if one is given.
    ///
    /// # Errors
    /// When a name is blank.
    pub fn subject(issuer: Option<&str>, subject: &str) -> Result<Self, BlankTargetError> {
        Self::checked(TargetKind::Subject, subject, issuer)
    }

    /// All tokens of a session: those of `issuer` only, if one is given.
    ///
    /// # Errors
    /// When a name is blank.
    pub fn session(issuer: Option<&str>, session_id: &str) -> Result<Self, BlankTargetError> {
        Self::checked(TargetKind::Session, session_id, issuer)
    }

    /// All tokens of an issuer.
    ///
    /// # Errors
    /// When the name is blank.
    pub fn issuer(issuer: &str) -> Result<Self, BlankTargetError> {
        Self::checked(TargetKind::Issuer, issuer, None)
    }

    /// The id of the token, unless it is a cut-off.
    #[must_use]
    pub fn jti(&self) -> Option<&str> {
        (self.kind == TargetKind::Token).then_some(&self.name)
    }

    /// The cut-off, unless it is one token.
    #[must_use]
    pub fn cutoff(&self) -> Option<Cutoff> {
        let issuer = self.issuer.as_deref();
        match self.kind {
            TargetKind::Token => None,
            TargetKind::Subject => Cutoff::subject(issuer, &self.name).ok(),
            TargetKind::Session => Cutoff::session(issuer, &self.name).ok(),
            TargetKind::Issuer => Cutoff::issuer(&self.name).ok(),
        }
    }

    fn checked(
        kind: TargetKind,
        name: &str,
        issuer: Option<&str>,
    ) -> Result<Self, BlankTargetError> {
        if name.trim().is_empty() || issuer.is_some_and(|issuer| issuer.trim().is_empty()) {
            return Err(BlankTargetError);
        }
        Ok(Self { kind, name: name.to_owned(), issuer: issuer.map(str::to_owned) })
    }

    /// The target of an event whose fields are valid.
    fn read(event: &Event, fields: &Map<String, Value>) -> Result<Self, BlankTargetError> {
        let text = |name| fields.get(name).and_then(Value::as_str);
        match event {
            Event::Add { .. } | Event::Unrevoke { .. } => Self::token(text("jti").unwrap_or("")),
            Event::CutOff { .. } | Event::LiftCutoff { .. } => {
                match (text("sub"), text("sid"), text("iss")) {
                    (Some(subject), _, issuer) => Self::subject(issuer, subject),
                    (None, Some(session_id), issuer) => Self::session(issuer, session_id),
                    (None, None, issuer) => Self::issuer(issuer.unwrap_or("")),
                }
            }
        }
    }

    /// The fields of an event that name it.
    fn fields(&self) -> [(&'static str, Option<Value>); 4] {
        let name = |kind| (self.kind == kind).then(|| Value::from(self.name.as_str()));
        let issuer = self.issuer.as_deref().map(Value::from);
        [
            ("jti", name(TargetKind::Token)),
            ("sub", name(TargetKind::Subject)),
            ("sid", name(TargetKind::Session)),
            ("iss", issuer.or_else(|| name(TargetKind::Issuer))),
        ]
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({:?}, [redacted])", self.kind)
    }
}

// === impl Revocation ===

impl Revocation {
    /// Revokes `target`: of a target with many tokens, those that were issued at the time
    /// `issued_before` or earlier. It lasts for ever, unless [`Revocation::expires_at`] limits it.
    #[must_use]
    pub fn revoke(target: Target, issued_before: Timestamp) -> Self {
        // A single token is revoked whatever its time of issue.
        let issued_before = match target.kind {
            TargetKind::Token => EPOCH,
            _ => writable(issued_before.max(EPOCH)),
        };
        let action = Action::Revoke { issued_before, expires_at: None };
        Self { target, action, excepted: None, user_id: None, reason: None }
    }

    /// Ends the revocation of `target`.
    #[must_use]
    pub const fn unrevoke(target: Target) -> Self {
        let action = Action::Unrevoke;
        Self { target, action, excepted: None, user_id: None, reason: None }
    }

    /// Reads it from an event.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn parse(message: &[u8]) -> Result<Self, ParseEventError> {
        let fields = event::fields(message)?;
        Self::of(&Event::from_fields(&fields)?, &fields)
    }

    /// The same as `event`, with the names in its fields.
    pub(crate) fn of(event: &Event, fields: &Map<String, Value>) -> Result<Self, ParseEventError> {
        let target = Target::read(event, fields).map_err(|BlankTargetError| {
            // The event is valid, so this is not reached; an error is the safe answer.
            ParseEventError::NoTokenId
        })?;
        let text = |name| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let revocation = match *event {
            Event::Add { expires_at, .. } => Self::revoke(target, EPOCH).expires_at(expires_at),
            Event::CutOff { issued_before, except, expires_at, .. } => {
                let cutoff = Self::revoke(target, issued_before).expires_at(expires_at);
                let session = text("except_sid").zip(except);
                let excepted = session.map(|(id, except)| ExceptedSession::named(id, except));
                Self { excepted, ..cutoff }
            }
            Event::Unrevoke { .. } | Event::LiftCutoff { .. } => Self::unrevoke(target),
        };
        Ok(revocation.user_id(text("user_id")).reason(text("reason")))
    }

    /// Excepts the session with this id. Applies to cut-offs of a subject only.
    ///
    /// # Errors
    /// When the id is blank.
    pub fn except_session(mut self, session_id: Option<&str>) -> Result<Self, BlankTargetError> {
        let Some(session_id) = session_id else { return Ok(self) };
        let excepted = ExceptedSession::new(session_id).ok_or(BlankTargetError)?;
        let can_spare = self.revokes() && self.target.kind == TargetKind::Subject;
        self.excepted = can_spare.then_some(excepted);
        Ok(self)
    }

    /// Sets when the last token that it covers expires by itself: never, if the time is too early
    /// for an expiry, as zero is.
    #[must_use]
    pub fn expires_at(mut self, time: Option<Timestamp>) -> Self {
        if let Action::Revoke { expires_at, .. } = &mut self.action {
            // A time that cannot be written is later than the expiry of any token.
            *expires_at = time
                .filter(|time| wire_time::is_expiry(*time) && wire_time::write(*time).is_some());
        }
        self
    }

    /// Sets the user of the token, for people who read the store.
    #[must_use]
    pub fn user_id(mut self, user_id: Option<String>) -> Self {
        self.user_id = user_id;
        self
    }

    /// Sets the reason, for people who read the store.
    #[must_use]
    pub fn reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// The tokens that it revokes or un-revokes.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it revokes something.
    #[must_use]
    pub const fn revokes(&self) -> bool {
        matches!(self.action, Action::Revoke { .. })
    }

    /// How long the store has to keep it from `now` on, if `margin` is how long it must outlive the
    /// tokens that it covers.
    #[must_use]
    pub fn lifetime(&self, now: Timestamp, margin: Duration) -> Lifetime {
        let Action::Revoke { expires_at, .. } = self.action else { return Lifetime::Over };
        let Some(expires_at) = expires_at else { return Lifetime::Permanent };
        let millis = expires_at.plus(margin).as_millis().saturating_sub(now.as_millis());
        match u64::try_from(millis) {
            Ok(millis) if millis > 0 => Lifetime::For(Duration::from_millis(millis)),
            _ => Lifetime::Over,
        }
    }

    /// The event for the broker, in the format of existing publishers. Replicas that apply it
    /// confirm the receipt, if there is one.
    #[must_use]
    pub fn to_event_json(&self, now: Timestamp, receipt: Option<&str>) -> String {
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        let (issued_before, expires_at) = self.times();
        let excepted = self.excepted.as_ref();
        let except_before = excepted.and_then(ExceptedSession::issued_before);
        let mut fields = vec![("type", Some(Value::from(self.kind())))];
        fields.extend(self.target.fields());
        fields.extend([
            ("issued_before", issued_before),
            ("except_sid", excepted.map(|session| Value::from(session.id()))),
            ("except_issued_before", except_before.map(written)),
            ("expires_at", expires_at),
            ("timestamp", wire_time::write_naive(now).map(Value::from)),
            ("user_id", text(&self.user_id)),
            ("reason", text(&self.reason)),
            ("receipt", receipt.map(Value::from)),
        ]);
        object(fields)
    }

    /// The value for the store.
    #[must_use]
    pub fn to_stored_json(&self, now: Timestamp) -> String {
        if self.target.kind != TargetKind::Token {
            return self.to_event_json(now, None);
        }
        let text = |text: Option<&str>| Some(text.map_or(Value::Null, Value::from));
        object(vec![
            ("user_id", text(self.user_id.as_deref())),
            ("reason", text(self.reason.as_deref())),
            ("blacklisted_at", text(wire_time::write(now).as_deref())),
            ("expires_at", Some(self.times().1.unwrap_or_default())),
        ])
    }

    /// A cut-off that covers the union of this one and the one in the store. Both have the same
    /// target, or one of them covers nothing.
    #[must_use]
    pub fn join(mut self, stored: &[u8]) -> Self {
        let Ok(stored) = Self::parse(stored) else { return self };
        if let Some(joined) = self.extent().zip(stored.extent()).map(|(one, other)| one.join(other))
            && let Action::Revoke { issued_before, expires_at } = &mut self.action
            && let Action::Revoke { expires_at: until, .. } = stored.action
            && self.target == stored.target
        {
            *issued_before = joined.issued_before();
            *expires_at = expires_at.zip(until).map(|(one, other)| one.max(other));
            let mut known = [self.excepted.take(), stored.excepted].into_iter().flatten();
            self.excepted = joined
                .except()
                .and_then(|except| known.find_map(|session| session.limited_as(except)));
        }
        self
    }

    /// Which tokens of its target it covers, if it revokes.
    fn extent(&self) -> Option<Extent> {
        let Action::Revoke { issued_before, .. } = self.action else { return None };
        let except = self.excepted.as_ref().map(ExceptedSession::exception);
        Some(Extent::new(issued_before, except))
    }

    /// Its `type` on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match (self.target.kind, self.action) {
            (TargetKind::Token, Action::Revoke { .. }) => "add",
            (TargetKind::Token, Action::Unrevoke) => "remove",
            (_, Action::Revoke { .. }) => "cutoff",
            (_, Action::Unrevoke) => "lift",
        }
    }

    /// `issued_before` and `expires_at` in their written form, if they are written.
    fn times(&self) -> (Option<Value>, Option<Value>) {
        let Action::Revoke { issued_before, expires_at } = self.action else { return (None, None) };
        let issued_before = (self.target.kind != TargetKind::Token).then(|| written(issued_before));
        (issued_before, expires_at.and_then(wire_time::write).map(Value::from))
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation")
            .field("target", &self.target)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// The written form of a time that limits what a cut-off covers.
fn written(time: Timestamp) -> Value {
    wire_time::write(time).map_or_else(|| Value::from(time.as_secs()), Value::from)
}

/// Times beyond the range of dates are written in seconds. Rounding up to the next second is the
/// safe side.
fn writable(time: Timestamp) -> Timestamp {
    match wire_time::write(time) {
        Some(_) => time,
        None => Timestamp::from_secs(time.plus(Duration::from_millis(999)).as_secs()),
    }
}

/// Writes an object in the given order, with the spacing of existing publishers, so that their
/// events and those of Portcullis look the same to people.
fn object(fields: Vec<(&str, Option<Value>)>) -> String {
    let present = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let members: Vec<_> = present.map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

#[cfg(test)]
mod tests;
