//! Publishing of a revocation or an un-revocation, in each way that a broker and a store offer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use portcullis_integration_tests::{
    admin::Admin,
    client::Request,
    publisher::{Event, KEY_PREFIX, OUTBOX, Publisher},
    services::RedisClient,
};
use serde_json::{Value, json};

use super::Board;
use crate::{
    endpoints::RevokeCommand,
    history::{Target, Way},
    plan::Path,
    primary::PrimaryClient,
};

/// Revokes and unrevokes through a broker and a store.
#[derive(Debug)]
pub(super) struct Publishing {
    publisher: Publisher,
    store: Arc<PrimaryClient>,
    admins: Vec<Admin>,
    command: RevokeCommand,
    board: Arc<Board>,
}

/// How long to wait for a receipt.
const WAIT: &str = "5s";
/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(8);
/// How far behind a wrong time zone is, in hours.
const ZONE: i64 = 5;

// === impl Publishing ===

impl Publishing {
    /// With its own connections to the broker at a URL and to a Redis.
    pub(super) fn new(
        (broker, redis): (&str, SocketAddr),
        store: Arc<PrimaryClient>,
        admins: Vec<Admin>,
        command: RevokeCommand,
        board: Arc<Board>,
    ) -> Self {
        let publisher = Publisher::new(broker, RedisClient::new(redis, None));
        Self { publisher, store, admins, command, board }
    }

    /// Revokes; `None` without an acknowledgement.
    pub(super) async fn revoke(&self, target: Target, path: Path) -> Option<Way> {
        match (path, target) {
            (Path::EventThenKey, Target::Token(token)) => {
                let way = self.publish(&self.event(token)).await?;
                self.write_key(token).await.map(|()| way)
            }
            (Path::KeyThenEvent, Target::Token(token)) => {
                self.write_key(token).await?;
                self.publish(&self.event(token)).await
            }
            (Path::WrongZone, Target::Token(token)) => {
                self.write_key(token).await?;
                let expires_at = self.board.expiry(token) - jiff::SignedDuration::from_hours(ZONE);
                let event = Event::add(&self.board.names().jti(token), expires_at);
                self.publish(&event).await.map(|_| Way::Store)
            }
            (Path::Command, target) => {
                self.command.revoke(&self.arguments(target)).await.then_some(Way::Outbox)
            }
            (Path::Admin(replica), target) => self.post(replica, target, "").await,
            (Path::AdminWait(replica), target) => {
                self.post(replica, target, &format!("?wait={WAIT}")).await
            }
            // A plan has none of these.
            (Path::EventThenKey | Path::KeyThenEvent | Path::WrongZone, _) => None,
        }
    }

    /// Unrevokes a token; `None` without an acknowledgement.
    pub(super) async fn unrevoke(&self, token: usize, path: Path) -> Option<Way> {
        let jti = self.board.names().jti(token);
        match path {
            Path::EventThenKey | Path::WrongZone => {
                let way = self.publish(&Event::remove(&jti)).await?;
                self.delete_key(&jti).await.map(|()| way)
            }
            Path::KeyThenEvent => {
                self.delete_key(&jti).await?;
                self.publish(&Event::remove(&jti)).await
            }
            Path::Command => {
                let arguments = ["--jti".to_owned(), jti, "--remove".to_owned()];
                self.command.revoke(&arguments).await.then_some(Way::Outbox)
            }
            Path::Admin(replica) => self.delete(replica, &jti, "").await,
            Path::AdminWait(replica) => self.delete(replica, &jti, &format!("?wait={WAIT}")).await,
        }
    }

    fn event(&self, token: usize) -> Event {
        Event::add(&self.board.names().jti(token), self.board.expiry(token))
    }

    /// Publishes to the exchange; without a confirm, to the outbox.
    async fn publish(&self, event: &Event) -> Option<Way> {
        let wire = event.wire();
        if self.publisher.try_publish(&[wire.as_bytes()]).await.is_ok() {
            return Some(Way::Exchange);
        }
        let stored: Option<u64> = self.store.command(&["LPUSH", OUTBOX, &wire]).await;
        stored.map(|_| Way::Outbox)
    }

    /// Writes the key of a revoked token, unless the token has expired.
    async fn write_key(&self, token: usize) -> Option<()> {
        let key = format!("{KEY_PREFIX}{}", self.board.names().jti(token));
        let expires_at = self.board.expiry(token);
        let ttl = expires_at.as_second() - jiff::Timestamp::now().as_second();
        if ttl <= 0 {
            return Some(());
        }
        let value = json!({
            "user_id": "", "reason": "logout",
            "blacklisted_at": jiff::Timestamp::now().to_string(),
            "expires_at": expires_at.to_string(),
        });
        let set = ["SETEX", &key, &ttl.to_string(), &value.to_string()];
        self.store.command::<String>(&set).await.map(drop)
    }

    async fn delete_key(&self, jti: &str) -> Option<()> {
        let key = format!("{KEY_PREFIX}{jti}");
        self.store.command::<u64>(&["DEL", &key]).await.map(drop)
    }

    /// Revokes through the admin API of a replica.
    async fn post(&self, replica: usize, target: Target, query: &str) -> Option<Way> {
        let event = self.admin_event(target).to_string();
        let request = Request::post(&format!("/v1/revocations{query}"), event)
            .header("Content-Type", "application/json");
        let answer = self.call(replica, request).await?;
        // A token that has expired by the clock of the replica is not revoked.
        let expired = answer["expired"].as_u64().unwrap_or_default();
        (expired == 0).then_some(if query.is_empty() { Way::Outbox } else { Way::Receipt })
    }

    /// Unrevokes through the admin API of a replica.
    async fn delete(&self, replica: usize, jti: &str, query: &str) -> Option<Way> {
        let request = Request::new("DELETE", &format!("/v1/revocations/{jti}{query}"));
        self.call(replica, request).await?;
        Some(if query.is_empty() { Way::Outbox } else { Way::Receipt })
    }

    /// The body of a successful answer, `null` if it is empty.
    async fn call(&self, replica: usize, request: Request) -> Option<Value> {
        let call = self.admins.get(replica)?.try_call(request);
        let response = tokio::time::timeout(TIMEOUT, call).await.ok()?.ok()?;
        if !(200..300).contains(&response.status) {
            return None;
        }
        Some(if response.body.is_empty() { Value::Null } else { response.json() })
    }

    fn admin_event(&self, target: Target) -> Value {
        let names = self.board.names();
        let expires_at = names.expires_at().to_string();
        match target {
            Target::Token(token) => {
                let expires_at = self.board.expiry(token).to_string();
                json!({"type": "add", "jti": names.jti(token), "expires_at": expires_at})
            }
            Target::Subject { subject, issued_before } => json!({
                "type": "cutoff", "sub": names.subject(subject), "expires_at": expires_at,
                "issued_before": names.time(issued_before),
            }),
            Target::Session { session, issued_before } => json!({
                "type": "cutoff", "sid": names.session(session), "expires_at": expires_at,
                "issued_before": names.time(issued_before),
            }),
        }
    }

    /// The arguments of `portcullis revoke`.
    fn arguments(&self, target: Target) -> Vec<String> {
        let names = self.board.names();
        let mut expires_at = names.expires_at();
        let what = match target {
            Target::Token(token) => {
                expires_at = self.board.expiry(token);
                vec!["--jti".to_owned(), names.jti(token)]
            }
            Target::Subject { subject, issued_before } => {
                let time = names.time(issued_before).to_string();
                vec!["--sub".to_owned(), names.subject(subject), "--issued-before".to_owned(), time]
            }
            Target::Session { session, issued_before } => {
                let time = names.time(issued_before).to_string();
                vec!["--sid".to_owned(), names.session(session), "--issued-before".to_owned(), time]
            }
        };
        let expires_at = ["--expires-at".to_owned(), expires_at.to_string()];
        what.into_iter().chain(expires_at).collect()
    }
}
