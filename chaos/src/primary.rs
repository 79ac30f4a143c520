//! Client of the primary Redis. It looks for the new primary when the known one is lost.

use std::time::{Duration, Instant};

use portcullis_integration_tests::services::{RedisClient, RedisSentinel, sentinel::Member};
use redis::FromRedisValue;
use tokio::sync::RwLock;

/// Sends commands to the primary.
#[derive(Debug)]
pub struct PrimaryClient {
    clients: [RedisClient; 2],
    primary: RwLock<usize>,
}

/// How long a command is retried. A failover takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

// === impl PrimaryClient ===

impl PrimaryClient {
    /// A client that tries the first of the two Redis first.
    #[must_use]
    pub fn new(redis: &RedisSentinel) -> Self {
        let clients = [Member::First, Member::Second].map(|member| redis.client(member));
        Self { clients, primary: RwLock::new(0) }
    }

    /// Runs a command on the primary; `None` if no primary is found in time.
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

    /// Looks for the primary after the known one failed.
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
