//! A revocation or un-revocation with its names, and its JSON forms for the broker and the store.
//!
//! An [`Event`] is the same in the form of the blacklist: digests, no names. A publisher still has
//! the names, and the store's keys and the events of other systems need them. `Debug` never shows
//! them.

use std::{fmt, time::Duration};

use portcullis_types::{
    json::JsonObject,
    timestamp::Timestamp,
    token_id::{EmptyTokenId, TokenId},
};
use serde_json::Value;

use super::{
    EntryKey, Event, ParseEventError,
    cutoff::{BlankTargetError, Cutoff, CutoffKind},
    extent::{Exception, Extent},
    wire_time,
};
use crate::event;

/// A target to revoke, or to un-revoke.
#[derive(Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The same in the form of the blacklist.
    event: Event,
    target: Target,
    /// The session that the event excepts.
    except_sid: Option<String>,
    user_id: Option<String>,
    reason: Option<String>,
}

/// Which tokens. No name in it is blank.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    entry: EntryKey,
    name: String,
    issuer: Option<String>,
}

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

/// No token was issued before this time.
const EPOCH: Timestamp = Timestamp::from_secs(0);

// === impl Target ===

impl Target {
    /// The token with this id.
    ///
    /// # Errors
    /// When the id is blank.
    pub fn token(jti: &str) -> Result<Self, BlankTargetError> {
        let token_id = TokenId::new(jti).map_err(|EmptyTokenId| BlankTargetError)?;
        Ok(Self { entry: EntryKey::Token(token_id), name: jti.to_owned(), issuer: None })
    }

    /// All tokens of a subject: those of `issuer` only, if one is given.
    ///
    /// # Errors
    /// When a name is blank.
    pub fn subject(issuer: Option<&str>, subject: &str) -> Result<Self, BlankTargetError> {
        Ok(Self::cut_off(Cutoff::subject(issuer, subject)?, subject, issuer))
    }

    /// All tokens of a session: those of `issuer` only, if one is given.
    ///
    /// # Errors
    /// When a name is blank.
    pub fn session(issuer: Option<&str>, session_id: &str) -> Result<Self, BlankTargetError> {
        Ok(Self::cut_off(Cutoff::session(issuer, session_id)?, session_id, issuer))
    }

    /// All tokens of an issuer.
    ///
    /// # Errors
    /// When the name is blank.
    pub fn issuer(issuer: &str) -> Result<Self, BlankTargetError> {
        Ok(Self::cut_off(Cutoff::issuer(issuer)?, issuer, None))
    }

    /// The id of the token, unless it is a cut-off.
    #[must_use]
    pub fn jti(&self) -> Option<&str> {
        matches!(self.entry, EntryKey::Token(_)).then_some(&self.name)
    }

    /// The cut-off, unless it is one token.
    #[must_use]
    pub const fn cutoff(&self) -> Option<Cutoff> {
        match self.entry {
            EntryKey::Token(_) => None,
            EntryKey::Cutoff(cutoff) => Some(cutoff),
        }
    }

    fn cut_off(cutoff: Cutoff, name: &str, issuer: Option<&str>) -> Self {
        let issuer = issuer.map(str::to_owned);
        Self { entry: EntryKey::Cutoff(cutoff), name: name.to_owned(), issuer }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.entry).finish_non_exhaustive()
    }
}

// === impl Revocation ===

impl Revocation {
    /// Revokes `target`: of a target with many tokens, those that were issued at the time
    /// `issued_before` or earlier. It lasts for ever, unless [`Revocation::expires_at`] limits it.
    #[must_use]
    pub fn revoke(target: Target, issued_before: Timestamp) -> Self {
        let event = match target.entry {
            // A single token is revoked whatever its time of issue.
            EntryKey::Token(token_id) => Event::Add { token_id, expires_at: None },
            EntryKey::Cutoff(cutoff) => {
                let issued_before = writable(issued_before);
                Event::CutOff { cutoff, issued_before, except: None, expires_at: None }
            }
        };
        Self { event, target, except_sid: None, user_id: None, reason: None }
    }

    /// Ends the revocation of `target`.
    #[must_use]
    pub const fn unrevoke(target: Target) -> Self {
        let event = match target.entry {
            EntryKey::Token(token_id) => Event::Unrevoke { token_id },
            EntryKey::Cutoff(cutoff) => Event::LiftCutoff { cutoff },
        };
        Self { event, target, except_sid: None, user_id: None, reason: None }
    }

    /// Reads it from an event.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn parse(message: &[u8]) -> Result<Self, ParseEventError> {
        let fields = event::fields(message)?;
        Self::of(&Event::from_fields(&fields, None)?, &fields)
    }

    /// The same as `event`, with the names in its fields.
    pub(crate) fn of(event: &Event, fields: &JsonObject) -> Result<Self, ParseEventError> {
        let text = |name| fields.get(name)?.as_str().map(str::to_owned);
        let entry = event.entry();
        // The event is valid, so its name is there; an error is the safe answer.
        let name = text(name_field(entry)).ok_or(ParseEventError::NoTokenId)?;
        let issuer = match entry {
            EntryKey::Cutoff(cutoff) if cutoff.kind() != CutoffKind::Issuer => text("iss"),
            _ => None,
        };
        let mut revocation = Self {
            event: *event,
            target: Target { entry, name, issuer },
            except_sid: None,
            user_id: text("user_id"),
            reason: text("reason"),
        };
        if let Event::CutOff { issued_before, except, .. } = &mut revocation.event {
            *issued_before = writable(*issued_before);
            revocation.except_sid = except.and_then(|_| text("except_sid"));
        }
        Ok(revocation.expires_at(event.expires_at()))
    }

    /// Excepts the session with this id. Applies to cut-offs of a subject only.
    ///
    /// # Errors
    /// When the id is blank.
    pub fn except_session(mut self, session_id: Option<&str>) -> Result<Self, BlankTargetError> {
        let Some(session_id) = session_id else { return Ok(self) };
        let exception = Exception::new(session_id, None)?;
        if let Event::CutOff { cutoff, except, .. } = &mut self.event
            && matches!(cutoff.kind(), CutoffKind::Subject | CutoffKind::SubjectOfIssuer)
        {
            *except = Some(exception);
            self.except_sid = Some(session_id.to_owned());
        }
        Ok(self)
    }

    /// Sets when the last token that it covers expires by itself: never, if the time is too early
    /// for an expiry, as zero is.
    #[must_use]
    pub fn expires_at(mut self, time: Option<Timestamp>) -> Self {
        if let Event::Add { expires_at, .. } | Event::CutOff { expires_at, .. } = &mut self.event {
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
        self.event.revokes()
    }

    /// How long the store has to keep it from `now` on, if `margin` is how long it must outlive the
    /// tokens that it covers.
    #[must_use]
    pub fn lifetime(&self, now: Timestamp, margin: Duration) -> Lifetime {
        let Some(expires_at) = self.event.expires_at() else {
            return if self.revokes() { Lifetime::Permanent } else { Lifetime::Over };
        };
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
        let extent = self.event.extent();
        let except = extent.and_then(Extent::except);
        object(vec![
            ("type", Some(Value::from(self.event.kind()))),
            (name_field(self.target.entry), Some(Value::from(self.target.name.as_str()))),
            ("iss", text(&self.target.issuer)),
            ("issued_before", extent.map(|extent| written(extent.issued_before()))),
            ("except_sid", text(&self.except_sid)),
            ("except_issued_before", except.and_then(Exception::issued_before).map(written)),
            ("expires_at", self.written_expiry()),
            ("timestamp", wire_time::write_naive(now).map(Value::from)),
            ("user_id", text(&self.user_id)),
            ("reason", text(&self.reason)),
            ("receipt", receipt.map(Value::from)),
        ])
    }

    /// The value for the store.
    #[must_use]
    pub fn to_stored_json(&self, now: Timestamp) -> String {
        if self.target.jti().is_none() {
            return self.to_event_json(now, None);
        }
        let text = |text: Option<&str>| Some(text.map_or(Value::Null, Value::from));
        object(vec![
            ("user_id", text(self.user_id.as_deref())),
            ("reason", text(self.reason.as_deref())),
            ("blacklisted_at", text(wire_time::write(now).as_deref())),
            ("expires_at", Some(self.written_expiry().unwrap_or_default())),
        ])
    }

    /// A cut-off that covers the union of this one and the one in the store. Both have the same
    /// target, or one of them covers nothing.
    #[must_use]
    pub fn join(mut self, stored: &[u8]) -> Self {
        let Ok(stored) = Self::parse(stored) else { return self };
        if let Some((own, other)) = self.event.extent().zip(stored.event.extent())
            && let Event::CutOff { issued_before, except, expires_at, .. } = &mut self.event
            && self.target == stored.target
        {
            let joined = own.join(other);
            *issued_before = joined.issued_before();
            *except = joined.except();
            let until = stored.event.expires_at();
            *expires_at = expires_at.zip(until).map(|(one, other)| one.max(other));
            self.except_sid = match (joined.except(), own.except()) {
                (Some(left), Some(own)) if own.is_of_the_session_of(left) => self.except_sid,
                (Some(_), _) => stored.except_sid,
                (None, _) => None,
            };
        }
        self
    }

    /// The written form of its expiry, if it has one.
    fn written_expiry(&self) -> Option<Value> {
        self.event.expires_at().and_then(wire_time::write).map(Value::from)
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation").field("event", &self.event).finish_non_exhaustive()
    }
}

/// The field of an event that holds the name of this entry.
const fn name_field(entry: EntryKey) -> &'static str {
    match entry {
        EntryKey::Token(_) => "jti",
        EntryKey::Cutoff(cutoff) => match cutoff.kind() {
            CutoffKind::Subject | CutoffKind::SubjectOfIssuer => "sub",
            CutoffKind::Session | CutoffKind::SessionOfIssuer => "sid",
            CutoffKind::Issuer => "iss",
        },
    }
}

/// The written form of a time that limits what a cut-off covers.
fn written(time: Timestamp) -> Value {
    wire_time::write(time).map_or_else(|| Value::from(time.as_secs()), Value::from)
}

/// Times beyond the range of dates are written in seconds. Rounding up to the next second is the
/// safe side.
fn writable(time: Timestamp) -> Timestamp {
    let time = time.max(EPOCH);
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
