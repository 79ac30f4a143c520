//! Owns hearing of changes, and noticing that nothing can be heard any more.
//!
//! A connection that is dead looks like one on which nothing happens. TCP tells them apart only if the
//! other machine is gone, not if its server hangs, so the server is asked for a sign of life. That it
//! lives does not prove that notifications arrive: a pooler may swallow them. Probes prove it; see
//! [`Probes`].

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
    link::{Link, Wire},
    probes::{Probe, Probes, Proof},
};

/// Between two questions. With [`CHECK_TIMEOUT`], a connection that died is noticed within 1.5 s.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a sign of life may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Listens.
pub(super) struct Listener {
    client: Arc<Client>,
    wire: Wire,
    /// When the server was asked for the last sign of life that it gave.
    alive: Instant,
    asked: Option<Question>,
    probes: Probes,
    /// Those that were sent.
    sent: mpsc::Receiver<Probe>,
    is_deaf: bool,
}

/// What is heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// A notification that is no probe.
    Message(String),
    /// A probe of ours.
    Proof(Proof),
    /// Nothing of the probes for too long. Said once.
    Silence,
}

/// A question that is under way.
struct Question {
    at: Instant,
    answer: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
}

// === impl Listener ===

impl Listener {
    /// Listens on a channel, given as SQL, from now on. The probes for it come out of `sent`.
    pub(super) async fn start(
        link: Link,
        channel: &str,
        sent: mpsc::Receiver<Probe>,
    ) -> Result<Self, Fault> {
        let Link { client, mut wire } = link;
        let alive = Instant::now();
        let listen = format!("LISTEN {channel}");
        let listen = wire.during(client.batch_execute(&listen));
        let listens = tokio::time::timeout(CHECK_TIMEOUT, listen).await;
        listens.map_err(|_| Fault::Silent)??;
        let probes = Probes::new(Instant::now());
        Ok(Self { client, wire, alive, asked: None, probes, sent, is_deaf: false })
    }

    /// What is heard next. May be dropped and called again without losing any.
    ///
    /// # Errors
    /// When nothing can be heard any more.
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
        let Some(id) = Probe::id_in(message) else {
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

    /// When something has to be done, unless something is heard before.
    fn deadline(&self) -> Instant {
        let next_check = self.alive + CHECK_INTERVAL;
        let check = self.asked.as_ref().map_or(next_check, |asked| asked.at + CHECK_TIMEOUT);
        if self.is_deaf { check } else { check.min(self.probes.deaf_at()) }
    }

    /// Does what is due. Nothing else was to be heard.
    fn reach(&mut self, now: Instant) -> Result<Option<Heard>, Fault> {
        // Also where none is ever heard, so that more are sent.
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
        self.asked = Some(Question { at: Instant::now(), answer });
    }
}

/// Resolves when the question is answered; pending for ever without one.
async fn answer(asked: &mut Option<Question>) -> Result<(), Error> {
    match asked {
        Some(asked) => asked.answer.as_mut().await,
        None => std::future::pending().await,
    }
}
