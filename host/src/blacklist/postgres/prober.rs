//! Owns sending probes, on a connection of its own.
//!
//! A probe that is sent on the connection that listens proves nothing: behind a pooler, which hands out
//! the server's connections for a transaction each, it may come back on a connection on which
//! nothing else is ever heard.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};
use tokio_postgres::error::{Severity, SqlState};

use super::{
    fault::{Fault, chain},
    link::Link,
    probes::{Moment, Probe},
};
use crate::blacklist::nonce;

/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(500);

/// How many probes may wait until the listener takes notice of them.
const WAITING: usize = 16;

/// Sends probes.
pub(super) struct Prober {
    link: Link,
    channel: String,
    sent: mpsc::Sender<Probe>,
}

// === impl Prober ===

impl Prober {
    /// A prober for a channel, given as SQL, and where the probes can be taken that it has sent: each
    /// before it can be heard.
    pub(super) fn new(link: Link, channel: &str) -> (Self, mpsc::Receiver<Probe>) {
        let (sent, probes) = mpsc::channel(WAITING);
        (Self { link, channel: channel.to_owned(), sent }, probes)
    }

    /// Sends until something goes wrong. That notifications cannot be sent is nothing wrong with the
    /// connection: nothing is proven then.
    pub(super) async fn run(mut self) -> Fault {
        let mut is_refused = false;
        loop {
            let next = Instant::now() + INTERVAL;
            let answer = self.send().await;
            let was_refused = std::mem::replace(&mut is_refused, answer.is_err());
            match answer {
                Err(fault) if !is_refusal(&fault) => return fault,
                Err(Fault::Client(error)) if !was_refused => {
                    tracing::warn!(error = chain(&error), "PostgreSQL refuses to notify");
                }
                _ => {}
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn send(&mut self) -> Result<(), Fault> {
        // Without chance a probe can be guessed. That is better than none.
        let id = nonce::random_name().unwrap_or_default();
        let probe = Probe { id, sent: Moment::now() };
        // The id has letters and digits only, so that nothing in the message needs an escape.
        let notify = format!("NOTIFY {}, '{}'", self.channel, probe.message());
        if self.sent.try_send(probe).is_err() {
            // The listener is busy, and has enough of them.
            return Ok(());
        }
        let Link { client, wire } = &mut self.link;
        wire.during(client.batch_execute(&notify)).await
    }
}

/// Whether the server takes no notification, and is well otherwise. A server that is no primary any
/// more is not.
fn is_refusal(fault: &Fault) -> bool {
    let Fault::Client(error) = fault else { return false };
    error.as_db_error().is_some_and(|error| {
        error.parsed_severity() == Some(Severity::Error)
            && *error.code() != SqlState::READ_ONLY_SQL_TRANSACTION
    })
}
