//! Owns the primary Redis as a publisher sees it: whichever it is, found anew when it is lost.

use std::time::{Duration, Instant};

use portcullis_integration_tests::services::{RedisClient, RedisSentinel, sentinel::Member};
use redis::FromRedisValue;
use tokio::sync::RwLock;

/// Writes to the primary.
#[derive(Debug)]
pub struct Store {
    clients: [RedisClient; 2],
    primary: RwLock<usize>,
}

/// For how long a write is tried. A failover takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

// === impl Store ===

impl Store {
    /// A store that begins with the first of the two.
    #[must_use]
    pub fn new(redis: &RedisSentinel) -> Self {
        let clients = [Member::First, Member::Second].map(|member| redis.client(member));
        Self { clients, primary: RwLock::new(0) }
    }

    /// Runs a command at the primary; `None` if there is none for a long time.
    pub async fn command<T: FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let primary = *self.primary.read().await;
            if let Ok(answer) = self.clients[primary].try_command(command).await {
                return Some(answer);
            }
            self.find(primary).await;
        }
        None
    }

    /// Looks for another primary than the one that failed.
    async fn find(&self, failed: usize) {
        tokio::time::sleep(PAUSE).await;
        for place in [1 - failed, failed] {
            if self.clients[place].role().await.is_ok_and(|role| role == "master") {
                *self.primary.write().await = place;
                return;
            }
        }
    }
}
