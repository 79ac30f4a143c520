//! Owns hearing of changes, and noticing that nothing could be heard any more.
//!
//! A connection that is dead looks like one on which nothing happens. TCP tells them apart only if the
//! other machine is gone, not if its server hangs, so the server is asked for a sign of life. Its
//! answer proves more: PostgreSQL delivers what was committed before.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_postgres::{Client, Error};

use super::{
    fault::Fault,
    link::{Link, Wire},
};

/// Between two questions. With [`PROBE_TIMEOUT`], a connection that died is noticed within 1.5 s.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a sign of life may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Listens.
pub(super) struct Listener {
    client: Arc<Client>,
    wire: Wire,
    proven: Instant,
    asked: Option<Question>,
}

/// A question that is under way.
struct Question {
    at: Instant,
    answer: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
}

// === impl Listener ===

impl Listener {
    /// Listens on a channel, given as SQL, from now on.
    pub(super) async fn start(link: Link, channel: &str) -> Result<Self, Fault> {
        let Link { client, mut wire } = link;
        let at = Instant::now();
        let listen = format!("LISTEN {channel}");
        let listen = wire.during(client.batch_execute(&listen));
        let listens = tokio::time::timeout(PROBE_TIMEOUT, listen).await;
        listens.map_err(|_| Fault::Silent)??;
        Ok(Self { client, wire, proven: at, asked: None })
    }

    /// Everything that was committed before this moment has been heard.
    pub(super) const fn proven(&self) -> Instant {
        self.proven
    }

    /// What the next notification says. May be dropped and called again without losing any.
    ///
    /// # Errors
    /// When nothing can be heard any more.
    pub(super) async fn next(&mut self) -> Result<String, Fault> {
        loop {
            let next_probe = self.proven + PROBE_INTERVAL;
            let deadline = self.asked.as_ref().map_or(next_probe, |asked| asked.at + PROBE_TIMEOUT);
            tokio::select! {
                biased;
                notification = self.wire.notification() => {
                    return notification.map(|notification| notification.payload().to_owned());
                }
                answered = answer(&mut self.asked) => {
                    answered?;
                    if let Some(asked) = self.asked.take() {
                        self.proven = asked.at;
                    }
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    if self.asked.is_some() {
                        return Err(Fault::Silent);
                    }
                    self.ask();
                }
            }
        }
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
