//! Owns one who revokes, in all the ways in which tokens are revoked, and writes down when it was
//! told that the revocation holds.

use std::{sync::Arc, time::Duration};

use portcullis_integration_tests::{
    admin::Admin,
    client::Request,
    publisher::{Event, KEY_PREFIX, OUTBOX, Publisher},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Board, Phase, Stop, store::Store};
use crate::{
    cluster::Endpoints,
    history::{Clock, History, Revocation, Target, Way},
    plan::{Path, PlannedRevocation},
};

/// One who revokes.
#[derive(Debug)]
pub(super) struct Revoker {
    publisher: Publisher,
    store: Arc<Store>,
    admins: Vec<Admin>,
    command: crate::cluster::Command,
    board: Arc<Board>,
    prey: Vec<mpsc::UnboundedSender<usize>>,
    clock: Clock,
}

/// How long a receipt is waited for.
const WAIT: &str = "5s";
/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(8);

// === impl Revoker ===

impl Revoker {
    /// Whoever hunts for tokens is told of each through `prey`.
    pub(super) fn new(
        endpoints: &Endpoints,
        board: Arc<Board>,
        prey: Vec<mpsc::UnboundedSender<usize>>,
        clock: Clock,
    ) -> Self {
        Self {
            publisher: endpoints.publisher(),
            store: Arc::clone(&endpoints.store),
            admins: endpoints.admins.clone(),
            command: endpoints.command.clone(),
            board,
            prey,
            clock,
        }
    }

    /// Revokes as planned, until it is told to stop.
    pub(super) async fn run(self, plan: Vec<PlannedRevocation>, mut stop: Stop) -> History {
        let mut history = History::default();
        for planned in plan {
            tokio::select! {
                _ = stop.wait_for(|phase| *phase > Phase::Running) => break,
                () = tokio::time::sleep(planned.after) => {}
            }
            let covered = self.board.covered(planned.target);
            let began = self.clock.now();
            for (prey, token) in
                self.prey.iter().flat_map(|prey| covered.iter().map(move |token| (prey, *token)))
            {
                // The hunter may have stopped already.
                let _ = prey.send(token);
            }
            let way = self.revoke(&planned).await;
            let acknowledged = way.map(|_| self.clock.now());
            if acknowledged.is_some() {
                self.board.revoke(&covered);
            }
            let way = way.unwrap_or(Way::Exchange);
            let revocation = Revocation { target: planned.target, way, began, acknowledged };
            history.revocations.push(revocation);
        }
        history
    }

    /// Revokes; `None` if nobody acknowledged it.
    async fn revoke(&self, planned: &PlannedRevocation) -> Option<Way> {
        match (planned.path, planned.target) {
            (Path::EventThenKey, Target::Token(token)) => {
                let way = self.publish(token).await?;
                self.store(token).await.map(|()| way)
            }
            (Path::KeyThenEvent, Target::Token(token)) => {
                self.store(token).await?;
                self.publish(token).await
            }
            (Path::Command, target) => {
                self.command.revoke(&self.arguments(target)).await.then_some(Way::Outbox)
            }
            (Path::Admin(replica), target) => self.post(replica, target, "").await,
            (Path::AdminWait(replica), target) => {
                self.post(replica, target, &format!("?wait={WAIT}")).await
            }
            // A plan has none of these.
            (Path::EventThenKey | Path::KeyThenEvent, _) => None,
        }
    }

    fn event(&self, token: usize) -> Event {
        let names = self.board.names();
        Event::add(&names.jti(token), names.expires_at())
    }

    /// To the exchange, and if it does not confirm, to the outbox.
    async fn publish(&self, token: usize) -> Option<Way> {
        let wire = self.event(token).wire();
        if self.publisher.try_publish(&[wire.as_bytes()]).await.is_ok() {
            return Some(Way::Exchange);
        }
        let parked: Option<u64> = self.store.command(&["LPUSH", OUTBOX, &wire]).await;
        parked.map(|_| Way::Outbox)
    }

    async fn store(&self, token: usize) -> Option<()> {
        let names = self.board.names();
        let key = format!("{KEY_PREFIX}{}", names.jti(token));
        let ttl = names.expires_at().as_second() - jiff::Timestamp::now().as_second();
        let value = json!({
            "user_id": "", "reason": "logout",
            "blacklisted_at": jiff::Timestamp::now().to_string(),
            "expires_at": names.expires_at().to_string(),
        });
        let set = ["SETEX", &key, &ttl.to_string(), &value.to_string()];
        self.store.command::<String>(&set).await.map(drop)
    }

    /// Through the admin API of a replica.
    async fn post(&self, replica: usize, target: Target, query: &str) -> Option<Way> {
        let event = self.admin_event(target).to_string();
        let request = Request::post(&format!("/v1/revocations{query}"), event)
            .header("Content-Type", "application/json");
        let call = self.admins[replica].try_call(request);
        let response = tokio::time::timeout(TIMEOUT, call).await.ok()?.ok()?;
        if !(200..300).contains(&response.status) {
            return None;
        }
        Some(if query.is_empty() { Way::Outbox } else { Way::Receipt })
    }

    fn admin_event(&self, target: Target) -> Value {
        let names = self.board.names();
        let expires_at = names.expires_at().to_string();
        match target {
            Target::Token(token) => {
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

    /// What `portcullis revoke` is told.
    fn arguments(&self, target: Target) -> Vec<String> {
        let names = self.board.names();
        let whom = match target {
            Target::Token(token) => vec!["--jti".to_owned(), names.jti(token)],
            Target::Subject { subject, issued_before } => {
                let time = names.time(issued_before).to_string();
                vec!["--sub".to_owned(), names.subject(subject), "--issued-before".to_owned(), time]
            }
            Target::Session { session, issued_before } => {
                let time = names.time(issued_before).to_string();
                vec!["--sid".to_owned(), names.session(session), "--issued-before".to_owned(), time]
            }
        };
        let expires_at = ["--expires-at".to_owned(), names.expires_at().to_string()];
        whom.into_iter().chain(expires_at).collect()
    }
}
