//! Owns asking for what one request needs to know, in one round trip.

use std::{collections::HashMap, future::Future, time::Duration};

use redis::{FromRedisValue, Pipeline, Value};

use super::{
    super::{
        event::Event,
        lookup::Question,
        source::{Removal, Target},
    },
    Redis,
    entries::{self, Wanted},
    error::StoreError,
    parked::Parked,
};
use crate::timestamp::Timestamp;

/// Somewhere to send commands to that change nothing.
pub(super) trait Ask: Sync {
    /// What it answers.
    fn ask<T: FromRedisValue + Send>(
        &self,
        commands: &Pipeline,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;
}

/// The shared connection, with the patience that one question has.
pub(super) struct Patience<'a> {
    redis: &'a Redis,
    limit: Duration,
}

// === impl Redis ===

impl Redis {
    /// What the store holds against each of those in question. What several ask for is read once.
    ///
    /// # Errors
    /// When the store does not answer within `limit`.
    pub(in crate::blacklist) async fn ask(
        &self,
        questions: &[Question],
        limit: Duration,
    ) -> Result<Vec<Vec<Event>>, StoreError> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut place = |entry: Wanted| {
            *places.entry(entry.key().to_owned()).or_insert_with(|| {
                wanted.push(entry);
                wanted.len() - 1
            })
        };
        let keys = self.keys();
        let asked_for: Vec<Vec<usize>> = questions
            .iter()
            .map(|question| {
                let token = question.token_id.as_ref();
                let token = token.map(|(id, jti)| Wanted::token(*id, keys.token(jti)));
                let cutoffs = question.cutoffs.iter();
                let cutoffs = cutoffs.map(|cutoff| Wanted::cutoff(keys.cutoff(*cutoff)));
                token.into_iter().chain(cutoffs).map(&mut place).collect()
            })
            .collect();
        let held = self.entries(&wanted, limit).await?;
        let events = |places: Vec<usize>| {
            places.into_iter().filter_map(|place| held.get(place).copied().flatten()).collect()
        };
        Ok(asked_for.into_iter().map(events).collect())
    }

    /// Which of the revocations are gone that `removals` are about. Only a server that has just been
    /// seen to be the primary is believed.
    ///
    /// # Errors
    /// When the store does not answer within `limit`.
    pub(in crate::blacklist) async fn are_gone(
        &self,
        removals: &[Removal],
        limit: Duration,
    ) -> Result<Vec<bool>, StoreError> {
        let keys = self.keys();
        let mut commands = redis::pipe();
        for removal in removals {
            commands.cmd("EXISTS").arg(match &removal.target {
                Target::Token(_, jti) => keys.token(jti),
                Target::Cutoff(cutoff) => keys.cutoff(*cutoff),
            });
        }
        let there: Vec<bool> = self.read_confirmed(&commands, limit).await?;
        if there.len() != removals.len() {
            return Err(StoreError::nonsense());
        }
        Ok(there.into_iter().map(|there| !there).collect())
    }

    /// Reads what publishers have left for the relay since `parked` was last read, and leaves it
    /// there. What could be read is in `parked` even after an error.
    ///
    /// # Errors
    /// When the store does not answer within `limit`.
    pub(in crate::blacklist) async fn parked(
        &self,
        parked: &mut Parked,
        limit: Duration,
    ) -> Result<(), StoreError> {
        let patience = Patience { redis: self, limit };
        tokio::time::timeout(limit, parked.read(self.keys(), &patience))
            .await
            .unwrap_or(Err(StoreError::Timeout(limit)))
    }

    async fn entries(
        &self,
        wanted: &[Wanted],
        limit: Duration,
    ) -> Result<Vec<Option<Event>>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let answers: Vec<Value> = self.read(&entries::commands(wanted), limit).await?;
        entries::events(self.keys(), wanted, answers, Timestamp::now())
    }
}

// === impl Patience ===

impl Ask for Patience<'_> {
    async fn ask<T: FromRedisValue + Send>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        self.redis.read(commands, self.limit).await
    }
}
