//! Listening for notifications, and detecting that they no longer arrive.
//!
//! A dead connection looks like an idle one. TCP detects it only if the other machine is gone, not
//! if its server hangs, so the server is pinged. An answer does not prove that notifications
//! arrive: a pooler may drop them. Probes prove it; see [`ProbeLog`].

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_postgres::{Client, Error};

use super::{
    fault::Fault,
    link::{PgLink, Wire},
    probes::{ProbeLog, Proof, TableProbe},
};

/// Between two pings. With [`CHECK_TIMEOUT`], a dead connection is noticed within 1.5 s.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How long the answer to a ping may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Listens on a channel.
pub(super) struct Listener {
    client: Arc<Client>,
    wire: Wire,
    /// When the last ping that was answered was sent.
    alive: Instant,
    asked: Option<Ping>,
    probes: ProbeLog,
    /// Probes that were sent.
    sent: mpsc::Receiver<TableProbe>,
    is_deaf: bool,
}

/// What the listener reports.
#[derive(Debug)]
pub(super) enum Heard {
    /// A notification that is not a probe.
    Message(String),
    /// A probe of this replica.
    Proof(Proof),
    /// No probe has come back for too long. Reported once.
    Silence,
}

/// A ping in flight.
struct Ping {
    at: Instant,
    answer: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
}

// === impl Listener ===

impl Listener {
    /// Listens on a channel, given as SQL, from now on. `sent` yields the probes that were sent to
    /// it.
    pub(super) async fn start(
        link: PgLink,
        channel: &str,
        sent: mpsc::Receiver<TableProbe>,
    ) -> Result<Self, Fault> {
        let PgLink { client, mut wire } = link;
        let alive = Instant::now();
        let listen = format!("LISTEN {channel}");
        let listen = wire.during(client.batch_execute(&listen));
        let listens = tokio::time::timeout(CHECK_TIMEOUT, listen).await;
        listens.map_err(|_| Fault::Silent)??;
        let probes = ProbeLog::new(Instant::now());
        Ok(Self { client, wire, alive, asked: None, probes, sent, is_deaf: false })
    }

    /// The next report. Cancel safe.
    ///
    /// # Errors
    /// When the connection is dead.
    pub(super) async fn next(&mut self) -> Result<Heard, Fault> {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                biased;
                notification = self.wire.notification() => {
                    let notification = notification?;
                    if let Some(heard) = self.heard(notification.payload()) {
                        return Ok(heard);
                    }
                }
                answered = answer(&mut self.asked) => {
                    answered?;
                    if let Some(asked) = self.asked.take() {
                        self.alive = asked.at;
                    }
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    if let Some(heard) = self.reach(Instant::now())? {
                        return Ok(heard);
                    }
                }
            }
        }
    }

    fn heard(&mut self, message: &str) -> Option<Heard> {
        let Some(id) = TableProbe::id_in(message) else {
            return Some(Heard::Message(message.to_owned()));
        };
        self.take_sent();
        let proof = self.probes.heard(id)?;
        self.is_deaf = false;
        Some(Heard::Proof(proof))
    }

    fn take_sent(&mut self) {
        while let Ok(probe) = self.sent.try_recv() {
            self.probes.sent(probe);
        }
    }

    /// When the next action is due, if nothing arrives before.
    fn deadline(&self) -> Instant {
        let next_check = self.alive + CHECK_INTERVAL;
        let check = self.asked.as_ref().map_or(next_check, |asked| asked.at + CHECK_TIMEOUT);
        if self.is_deaf { check } else { check.min(self.probes.deaf_at()) }
    }

    /// Performs due actions, after everything that arrived was handled.
    fn reach(&mut self, now: Instant) -> Result<Option<Heard>, Fault> {
        // Also if no probe ever comes back, so that the prober is not blocked.
        self.take_sent();
        match &self.asked {
            Some(asked) if asked.at + CHECK_TIMEOUT <= now => return Err(Fault::Silent),
            None if self.alive + CHECK_INTERVAL <= now => self.ask(),
            _ => {}
        }
        if !self.is_deaf && self.probes.deaf_at() <= now {
            self.is_deaf = true;
            return Ok(Some(Heard::Silence));
        }
        Ok(None)
    }

    fn ask(&mut self) {
        let client = Arc::clone(&self.client);
        let answer = Box::pin(async move { client.check_connection().await });
        self.asked = Some(Ping { at: Instant::now(), answer });
    }
}

/// Resolves when the ping is answered; pending for ever without one.
async fn answer(asked: &mut Option<Ping>) -> Result<(), Error> {
    match asked {
        Some(asked) => asked.answer.as_mut().await,
        None => std::future::pending().await,
    }
}
