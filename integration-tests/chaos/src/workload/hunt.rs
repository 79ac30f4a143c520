//! Owns asking one replica about each token from the moment at which its revocation begins until
//! the replica denies it: that is how the time in between is measured.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use super::{Phase, Stop, ask::Asker};
use crate::history::{History, Verdict};

/// After this long without a denial, tokens are asked about with pauses: many can pile up in a
/// fault, and the machine is needed for its end.
const HASTE: Duration = Duration::from_millis(60);
/// The pause.
const PAUSE: Duration = Duration::from_millis(4);

/// Hunts for what comes through `prey`.
pub(super) async fn run(
    mut asker: Asker,
    mut prey: mpsc::UnboundedReceiver<usize>,
    mut stop: Stop,
) -> History {
    let mut hunted: Vec<(usize, Instant)> = Vec::new();
    while *stop.borrow() < Phase::Over {
        if hunted.is_empty() {
            tokio::select! {
                _ = stop.wait_for(|phase| *phase == Phase::Over) => break,
                Some(token) = prey.recv() => hunted.push((token, Instant::now())),
            }
        }
        while let Ok(token) = prey.try_recv() {
            hunted.push((token, Instant::now()));
        }
        let mut missing = Vec::new();
        for (token, since) in hunted {
            if !matches!(asker.ask(token).await, Verdict::Deny(_)) {
                missing.push((token, since));
            }
        }
        hunted = missing;
        if hunted.iter().any(|(_, since)| since.elapsed() > HASTE) {
            tokio::time::sleep(PAUSE).await;
        }
    }
    asker.finish()
}
