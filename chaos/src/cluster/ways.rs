//! Links of one replica to the services, each of which can be cut, frozen and slowed down.

use std::net::SocketAddr;

use portcullis_integration_tests::services::{Link, RedisSentinel, sentinel::Member};

/// The links of one replica.
#[derive(Debug)]
pub struct Ways {
    /// To the broker.
    pub broker: Link,
    /// To both Redis.
    pub redis: [Link; 2],
    /// To the sentinels, whose answers name the links in place of Redis.
    pub sentinels: Vec<Link>,
}

// === impl Ways ===

impl Ways {
    pub(super) async fn to(broker: SocketAddr, redis: &RedisSentinel) -> Self {
        let [first, second] = [Member::First, Member::Second].map(|member| redis.address(member));
        let links = [Link::to(first).await, Link::to(second).await];
        let ports: Vec<_> = [first, second]
            .iter()
            .zip(&links)
            .map(|(real, link)| (real.port(), link.address().port()))
            .collect();
        let mut sentinels = Vec::new();
        for address in redis.sentinels() {
            sentinels.push(Link::renaming(address, &ports).await);
        }
        Self { broker: Link::to(broker).await, redis: links, sentinels }
    }

    pub(super) fn sentinel_addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Link::address).collect()
    }

    /// Cuts the replica off from both Redis.
    pub async fn cut_redis(&self) {
        for link in &self.redis {
            link.cut().await;
        }
    }

    /// Freezes the links to both Redis.
    pub fn freeze_redis(&self) {
        for link in &self.redis {
            link.freeze();
        }
    }

    /// Cuts the replica off from all sentinels.
    pub async fn cut_sentinels(&self) {
        for link in &self.sentinels {
            link.cut().await;
        }
    }

    /// Restores the links to Redis and to the sentinels.
    pub async fn restore_store(&self) {
        for link in self.redis.iter().chain(&self.sentinels) {
            link.restore().await;
        }
    }
}
