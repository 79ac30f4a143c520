//! Publisher of revocations, as in existing systems: the same bytes to the same places.
//!
//! It uses nothing that Portcullis introduced, so a reader of its events works with existing
//! systems.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use lapin::{
    BasicProperties, Channel, Connection, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::FieldTable,
};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    eventually,
    services::{RedisClient, rabbitmq},
};

/// The exchange of the events.
pub const EXCHANGE: &str = "blacklist.events";
/// The list of events that could not be published.
pub const OUTBOX: &str = "outbox:blacklist";
/// The prefix of the key of a revoked token, before the token id.
pub const KEY_PREFIX: &str = "blacklist:";
/// How long a broker may take before the event goes to the outbox; see also [`Publisher::patient`].
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many entries are written to Redis at once.
const BATCH: usize = 10_000;

/// A revocation or an un-revocation.
#[derive(Debug, Clone)]
pub struct Event {
    jti: String,
    what: What,
    user: Option<(String, String)>,
}

#[derive(Debug, Clone)]
enum What {
    Add { expires_at: Timestamp },
    Remove,
}

/// Where an event went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the exchange, which confirmed it.
    Exchange,
    /// To the outbox, because the broker did not confirm it.
    Outbox,
}

/// A publisher. It connects on first use, and reconnects after a loss.
#[derive(Debug)]
pub struct Publisher {
    broker: String,
    redis: RedisClient,
    timeout: Duration,
    connection: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    channel: Channel,
    // It closes when it is dropped.
    _connection: Connection,
}

// === impl Event ===

impl Event {
    /// A token is revoked that expires at `expires_at`.
    #[must_use]
    pub fn add(jti: &str, expires_at: Timestamp) -> Self {
        Self { jti: jti.to_owned(), what: What::Add { expires_at }, user: None }
    }

    /// A token is revoked that expires in an hour.
    ///
    /// # Panics
    /// If the expiry is out of range.
    #[must_use]
    pub fn add_for_an_hour(jti: &str) -> Self {
        let expires_at = Timestamp::now().checked_add(1.hour()).expect("the expiry is in range");
        Self::add(jti, expires_at)
    }

    /// A token is no longer revoked.
    #[must_use]
    pub fn remove(jti: &str) -> Self {
        Self { jti: jti.to_owned(), what: What::Remove, user: None }
    }

    /// The same event as newer publishers send it, with a user and a reason.
    #[must_use]
    pub fn with_user(mut self, user_id: &str, reason: &str) -> Self {
        self.user = Some((user_id.to_owned(), reason.to_owned()));
        self
    }

    /// The key of the revoked token in Redis.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{KEY_PREFIX}{}", self.jti)
    }

    /// The event on the wire.
    #[must_use]
    pub fn wire(&self) -> String {
        let jti = quoted(&self.jti);
        let what = match self.what {
            What::Add { expires_at } => {
                format!(r#""type": "add", "jti": {jti}, "expires_at": "{}""#, aware(expires_at))
            }
            What::Remove => format!(r#""type": "remove", "jti": {jti}"#),
        };
        let user = self.user.as_ref().map(|(user_id, reason)| {
            format!(r#", "user_id": {}, "reason": {}"#, quoted(user_id), quoted(reason))
        });
        let now = naive(Timestamp::now());
        format!(r#"{{{what}{}, "timestamp": "{now}"}}"#, user.unwrap_or_default())
    }

    /// The key, its time to live in seconds, and its value; `None` if the token has expired.
    fn entry(&self) -> Option<(String, u64, String)> {
        let What::Add { expires_at } = self.what else { return None };
        let now = Timestamp::now();
        let seconds = u64::try_from(expires_at.as_second() - now.as_second()).ok()?;
        let (user_id, reason) =
            self.user.as_ref().map_or(("", "logout"), |(user, reason)| (user, reason));
        let value = format!(
            r#"{{"user_id": {}, "reason": {}, "blacklisted_at": "{}", "expires_at": "{}"}}"#,
            quoted(user_id),
            quoted(reason),
            aware(now),
            aware(expires_at),
        );
        (seconds > 0).then(|| (self.key(), seconds, value))
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A timestamp with a zone, in the format of Python.
fn aware(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// A timestamp without a zone, in the format of Python.
fn naive(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

// === impl Publisher ===

impl Publisher {
    /// A publisher for the broker at a URL, and for a Redis.
    #[must_use]
    pub fn new(broker: &str, redis: RedisClient) -> Self {
        Self { broker: broker.to_owned(), redis, timeout: TIMEOUT, connection: Mutex::default() }
    }

    /// Uses a timeout for the broker that suits a busy machine.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { timeout: eventually::PATIENCE, ..self }
    }

    /// Revokes a token as a logout does: the key first, then the event.
    ///
    /// # Panics
    /// When Redis is unavailable.
    pub async fn revoke(&self, event: &Event) -> Way {
        self.store(std::slice::from_ref(event)).await;
        self.publish(event).await
    }

    /// Writes the keys of revoked tokens, and publishes nothing.
    ///
    /// # Panics
    /// When Redis is unavailable.
    pub async fn store(&self, events: &[Event]) {
        for batch in events.chunks(BATCH) {
            let mut commands = redis::pipe();
            for (key, seconds, value) in batch.iter().filter_map(Event::entry) {
                commands.set_ex(key, value, seconds).ignore();
            }
            self.redis.try_pipeline(&commands).await.expect("Redis stores keys");
        }
    }

    /// Publishes an event, or writes it to the outbox if the broker does not confirm it in time.
    ///
    /// # Panics
    /// When Redis is unavailable, too.
    pub async fn publish(&self, event: &Event) -> Way {
        let wire = event.wire();
        if self.try_publish(&[wire.as_bytes()]).await.is_ok() {
            return Way::Exchange;
        }
        self.push_to_outbox(&wire).await;
        Way::Outbox
    }

    /// Publishes many events, which the broker must confirm. They arrive in order.
    ///
    /// # Panics
    /// When the broker does not.
    pub async fn publish_all(&self, events: &[Event]) {
        let wires: Vec<_> = events.iter().map(Event::wire).collect();
        let bodies: Vec<_> = wires.iter().map(String::as_bytes).collect();
        for bodies in bodies.chunks(BATCH) {
            self.try_publish(bodies).await.expect("the broker confirms events");
        }
    }

    /// Publishes arbitrary bytes, which the broker must confirm.
    ///
    /// # Panics
    /// When the broker does not.
    pub async fn publish_raw(&self, bytes: &[u8]) {
        self.try_publish(&[bytes]).await.expect("the broker confirms events");
    }

    /// Writes arbitrary text to the outbox.
    ///
    /// # Panics
    /// When Redis is unavailable.
    pub async fn push_to_outbox(&self, text: &str) {
        let _: u64 = self.redis.command(&["LPUSH", OUTBOX, text]).await;
    }

    /// Publishes messages in order, and waits until the broker has confirmed all of them.
    ///
    /// # Errors
    /// When the broker is unavailable, silent, or refuses. Some messages may have arrived.
    pub async fn try_publish(&self, bodies: &[&[u8]]) -> lapin::Result<()> {
        let mut kept = self.connection.lock().await;
        let open = match kept.take() {
            Some(open) if open.channel.status().connected() => open,
            _ => self.open().await?,
        };
        // The timeout grows with the number of messages: it is for a broker that does not answer.
        let limit =
            self.timeout + Duration::from_millis(1) * u32::try_from(bodies.len()).unwrap_or(0);
        let sending = tokio::time::timeout(limit, send(&open.channel, bodies));
        sending.await.unwrap_or_else(|_| Err(rabbitmq::timed_out()))?;
        *kept = Some(open);
        Ok(())
    }

    async fn open(&self) -> lapin::Result<Open> {
        let opening = async {
            let connection = rabbitmq::connect(&self.broker, self.timeout).await?;
            let channel = connection.create_channel().await?;
            declare_exchange(&channel).await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Open { channel, _connection: connection })
        };
        let opened = tokio::time::timeout(self.timeout, opening).await;
        opened.unwrap_or_else(|_| Err(rabbitmq::timed_out()))
    }
}

/// Declares the exchange, as existing publishers and consumers do.
///
/// # Errors
/// When the broker has another exchange of that name, or is unavailable.
pub async fn declare_exchange(channel: &Channel) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (kind, arguments) = (ExchangeKind::Fanout, FieldTable::default());
    channel.exchange_declare(EXCHANGE.into(), kind, options, arguments).await
}

async fn send(channel: &Channel, bodies: &[&[u8]]) -> lapin::Result<()> {
    let properties = || {
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
    };
    let mut confirmations = Vec::with_capacity(bodies.len());
    for body in bodies {
        let options = BasicPublishOptions::default();
        let sent =
            channel.basic_publish(EXCHANGE.into(), "".into(), options, body, properties()).await?;
        confirmations.push(sent);
    }
    for confirmation in confirmations {
        if confirmation.await?.is_nack() {
            return Err(std::io::Error::other("the broker refused an event").into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_format_of_existing_systems() {
        let time = "2033-05-18T03:33:19Z".parse().unwrap();
        let wire = Event::add("jti-0", time).wire();
        let (event, timestamp) = wire.split_once(r#", "timestamp": ""#).unwrap();
        assert_eq!(
            event,
            r#"{"type": "add", "jti": "jti-0", "expires_at": "2033-05-18T03:33:19+00:00""#
        );
        // 2026-11-22T03:32:40.069443, without a zone.
        assert_eq!(timestamp.trim_end_matches(r#""}"#).len(), 26, "{timestamp}");
        let unrevocation = Event::remove("jti-0").with_user("user", "logout").wire();
        let prefix =
            r#"{"type": "remove", "jti": "jti-0", "user_id": "user", "reason": "logout", "#;
        assert!(unrevocation.starts_with(prefix), "{unrevocation}");
    }

    #[test]
    fn an_expired_token_gets_no_key() {
        let now = Timestamp::now();
        assert!(Event::add("a", now).entry().is_none());
        let (key, seconds, value) = Event::add_for_an_hour("a").entry().unwrap();
        assert_eq!(key, "blacklist:a");
        assert!((3590..=3600).contains(&seconds));
        let value: Value = serde_json::from_str(&value).unwrap();
        assert_eq!(value["reason"], "logout");
    }
}
