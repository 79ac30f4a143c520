//! Task that makes the verifier forget tokens that have expired.

use std::time::Duration;

use portcullis_runtime::drain::Drain;
use portcullis_types::timestamp::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::verifier::Verifier;

/// How often expired tokens are looked for.
const INTERVAL: Duration = Duration::from_mins(1);

/// Forgets expired tokens until the process drains. What is remembered is bounded anyway, so this
/// gives back only what no request will ask for again.
pub async fn forget_expired(verifier: Verifier, drain: Drain) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drain.stopping() => return,
            _ = ticks.tick() => {}
        }
        let verifier = verifier.clone();
        // It visits every remembered token, which no request must wait for.
        let swept =
            tokio::task::spawn_blocking(move || verifier.forget_expired(Timestamp::now())).await;
        // It panicked. Ending here lets the drain report it.
        if swept.is_err() {
            return;
        }
    }
}
