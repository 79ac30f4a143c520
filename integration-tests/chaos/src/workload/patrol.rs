//! Owns asking one replica about any token, time and again: good ones must pass, and revoked ones
//! must stay revoked.

use std::time::Duration;

use super::{Phase, Stop, ask::Asker};
use crate::{history::History, random::Random};

/// Shortest and longest pause between two questions.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];

/// Asks until it is told to stop.
pub(super) async fn run(mut asker: Asker, mut random: Random, stop: Stop) -> History {
    while *stop.borrow() < Phase::Over {
        let token = asker.board().pick(&mut random);
        asker.ask(token).await;
        tokio::time::sleep(random.between(PAUSE[0], PAUSE[1])).await;
    }
    asker.finish()
}
