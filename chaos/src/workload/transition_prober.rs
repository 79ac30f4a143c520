//! Transition prober: checks a token at one replica from the start of its revocation until the
//! replica denies it, or from the start of its un-revocation until the replica allows it. This
//! measures the propagation time.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use super::{Phase, Stop, ask::Asker};
use crate::history::{History, Reason, Verdict};

/// A transition of the answer about a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transition {
    pub(super) token: usize,
    /// Whether the token is revoked; otherwise it is unrevoked.
    pub(super) revokes: bool,
}

/// After this long without the expected answer, the prober pauses between rounds: many transitions
/// can be pending in a fault, and the recovery needs the processors.
const BUSY_LOOP: Duration = Duration::from_millis(60);
/// The pause.
const PAUSE: Duration = Duration::from_millis(4);

/// Probes every transition that it receives, with pauses that are so many times as long. In a run
/// that shares the machine with others, no time is measured, and it always pauses.
pub(super) async fn run(
    mut asker: Asker,
    mut transitions: mpsc::UnboundedReceiver<Transition>,
    mut stop: Stop,
    times: u32,
) -> History {
    let busy_loop = if times > 1 { Duration::ZERO } else { BUSY_LOOP };
    let mut pending: Vec<(Transition, Instant)> = Vec::new();
    while *stop.borrow() < Phase::Over {
        if pending.is_empty() {
            tokio::select! {
                _ = stop.wait_for(|phase| *phase == Phase::Over) => break,
                Some(transition) = transitions.recv() => pending.push((transition, Instant::now())),
            }
        }
        while let Ok(transition) = transitions.try_recv() {
            // An earlier transition of this token may never be visible now.
            pending.retain(|(other, _)| other.token != transition.token);
            pending.push((transition, Instant::now()));
        }
        let mut unfinished = Vec::new();
        for (transition, since) in pending {
            if !transition.is_done(asker.ask(transition.token).await) {
                unfinished.push((transition, since));
            }
        }
        pending = unfinished;
        if pending.iter().any(|(_, since)| since.elapsed() > busy_loop) {
            tokio::time::sleep(PAUSE * times).await;
        }
    }
    asker.finish()
}

// === impl Transition ===

impl Transition {
    /// Whether an answer shows that the transition is complete. An expired token has no more
    /// transitions.
    fn is_done(self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Deny(Reason::InvalidToken) => true,
            Verdict::Deny(Reason::Revoked) => self.revokes,
            Verdict::Allow => !self.revokes,
            Verdict::Deny(_) | Verdict::Failed => false,
        }
    }
}
