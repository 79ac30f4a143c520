//! Random prober: checks random tokens at one replica. Good tokens must pass, and revoked tokens
//! must stay revoked.

use std::time::Duration;

use super::{Phase, Stop, ask::Asker};
use crate::{history::History, random::Random};

/// Shortest and longest pause between two checks.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];

/// Checks until the run is over, with pauses that are so many times as long.
pub(super) async fn run(mut asker: Asker, mut random: Random, stop: Stop, times: u32) -> History {
    while *stop.borrow() < Phase::Over {
        let token = asker.board().pick(&mut random);
        asker.ask(token).await;
        tokio::time::sleep(random.between(PAUSE[0], PAUSE[1]) * times).await;
    }
    asker.finish()
}
