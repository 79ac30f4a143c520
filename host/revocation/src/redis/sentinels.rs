//! Redis Sentinel: querying all sentinels for the primary, and counting their votes.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::ConnectionInfo;
use tokio::time::timeout;

use super::{address::RedisAddress, error::StoreError, open::open};

/// All sentinels, and the name of the primary.
pub(super) struct Sentinels {
    pub(super) master_name: String,
    pub(super) all: Vec<ConnectionInfo>,
    /// How long one may take to answer. All are queried at the same time.
    pub(super) limit: Duration,
}

// === impl Sentinels ===

impl Sentinels {
    /// The address of the primary. A quorum has to name it: a sentinel may be partitioned together
    /// with a primary that the others have replaced.
    pub(super) async fn primary(&self) -> Result<RedisAddress, StoreError> {
        let mut asked: FuturesUnordered<_> = self.all.iter().map(|info| self.ask(info)).collect();
        let majority = self.all.len() / 2 + 1;
        let mut votes: Vec<(usize, RedisAddress)> = Vec::new();
        let mut cause = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(address) => match votes.iter_mut().find(|(_, other)| *other == address) {
                    Some((count, _)) => *count += 1,
                    None => votes.push((1, address)),
                },
                Err(error) => cause = Some(error),
            }
            if let Some(most) = votes.iter().position(|(count, _)| *count >= majority) {
                return Ok(votes.swap_remove(most).1);
            }
        }
        let known = votes.iter().map(|(count, _)| count).max().unwrap_or(&0);
        let few = format!("a quorum of {majority} must name the same one, and {known} do");
        Err(StoreError::NoPrimary {
            master_name: self.master_name.clone(),
            cause: cause.map_or_else(|| few.clone(), |cause| format!("{few}; {cause}")),
        })
    }

    async fn ask(&self, sentinel: &ConnectionInfo) -> Result<RedisAddress, String> {
        let limit = self.limit;
        let asked = async {
            let mut connection = open(sentinel, limit).await.map_err(|error| error.to_string())?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("get-master-addr-by-name").arg(&self.master_name);
            let address: Option<(String, u16)> = question
                .query_async(&mut connection)
                .await
                .map_err(|error| StoreError::of(&error).to_string())?;
            let unknown =
                || format!("{} knows no primary of this name", RedisAddress::of(sentinel));
            address.map(|(host, port)| RedisAddress::new(host, port)).ok_or_else(unknown)
        };
        timeout(limit, asked).await.unwrap_or_else(|_| {
            Err(format!("{} did not answer within {limit:?}", RedisAddress::of(sentinel)))
        })
    }
}
