//! Sending probes, on a separate connection.
//!
//! A probe that is sent on the connection that listens proves nothing: behind a pooler that assigns
//! a server connection for each transaction, it may come back on a connection on which no other
//! notification ever arrives.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};
use tokio_postgres::error::{Severity, SqlState};

use super::{
    fault::{Fault, chain},
    link::PgLink,
    probes::{Moment, TableProbe},
};
use crate::random;

/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(500);

/// How many probes may wait until the listener takes them.
const WAITING: usize = 16;

/// Sends probes.
pub(super) struct Prober {
    link: PgLink,
    channel: String,
    sent: mpsc::Sender<TableProbe>,
}

// === impl Prober ===

impl Prober {
    /// A prober for a channel, given as SQL, and the queue of the probes that it sends: each is in
    /// the queue before it can come back.
    pub(super) fn new(link: PgLink, channel: &str) -> (Self, mpsc::Receiver<TableProbe>) {
        let (sent, probes) = mpsc::channel(WAITING);
        (Self { link, channel: channel.to_owned(), sent }, probes)
    }

    /// Sends until the connection fails. A refusal to send notifications is not a failure of the
    /// connection: then nothing is proven.
    pub(super) async fn run(mut self) -> Fault {
        let mut is_refused = false;
        loop {
            let next = Instant::now() + INTERVAL;
            let answer = self.send().await;
            let was_refused = std::mem::replace(&mut is_refused, answer.is_err());
            match answer {
                Err(fault) if !is_refusal(&fault) => return fault,
                Err(Fault::Client(error)) if !was_refused => {
                    tracing::warn!(error = chain(&error), "PostgreSQL refuses notifications");
                }
                _ => {}
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn send(&mut self) -> Result<(), Fault> {
        // Without a random number the probe can be guessed. That is better than no probe.
        let id = random::random_name().unwrap_or_default();
        let probe = TableProbe { id, sent: Moment::now() };
        // The id has only letters and digits, so that the message needs no escapes.
        let notify = format!("NOTIFY {}, '{}'", self.channel, probe.message());
        if self.sent.try_send(probe).is_err() {
            // The listener is busy, and has enough probes.
            return Ok(());
        }
        let PgLink { client, wire } = &mut self.link;
        wire.during(client.batch_execute(&notify)).await
    }
}

/// Whether the server refuses notifications but works otherwise. A server that is no longer the
/// primary does not count as working.
fn is_refusal(fault: &Fault) -> bool {
    let Fault::Client(error) = fault else { return false };
    error.as_db_error().is_some_and(|error| {
        error.parsed_severity() == Some(Severity::Error)
            && *error.code() != SqlState::READ_ONLY_SQL_TRANSACTION
    })
}
