//! Queries for the entries of tokens and cut-offs, in one round trip.

use std::{collections::HashMap, future::Future, time::Duration};

use portcullis_types::token_id::TokenId;
use redis::{FromRedisValue, Pipeline, Value};

use super::{
    Delivery, Redis,
    entries::{self, Wanted},
    error::StoreError,
};
use crate::{
    ambient,
    event::{Cutoff, Event, Unrevocation, UnrevocationTarget},
};

/// A connection for read-only commands.
pub(super) trait Ask: Sync {
    /// Sends commands and returns the answer.
    fn ask<T: FromRedisValue + Send>(
        &self,
        commands: &Pipeline,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;
}

/// One token to look up.
pub(crate) struct Query {
    /// The token's id, with its text as it occurs in the keys of the store.
    pub(crate) token_id: Option<(TokenId, String)>,
    /// The cut-offs that would cover it.
    pub(crate) cutoffs: Vec<Cutoff>,
}

/// The shared connection, with the time limit of one command.
pub(super) struct Patience<'a> {
    pub(super) redis: &'a Redis,
    pub(super) limit: Duration,
}

// === impl Redis ===

impl Redis {
    /// The revocations in the store for each of `queries`. Keys that occur in several of them are
    /// read once.
    ///
    /// # Errors
    /// When the store does not answer within `limit`.
    pub(crate) async fn ask(
        &self,
        queries: &[&Query],
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
        let asked_for: Vec<Vec<usize>> = queries
            .iter()
            .map(|query| {
                let token = query.token_id.as_ref();
                let token = token.map(|(id, jti)| Wanted::token(*id, keys.token(jti)));
                let cutoffs = query.cutoffs.iter();
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

    /// Which of the revocations that `unrevocations` end are gone. Only a server that has just been
    /// verified as the primary is queried.
    ///
    /// # Errors
    /// When the store does not answer within `limit`.
    pub(crate) async fn are_gone(
        &self,
        unrevocations: &[Unrevocation],
        limit: Duration,
    ) -> Result<Vec<bool>, StoreError> {
        let keys = self.keys();
        let mut commands = redis::pipe();
        for unrevocation in unrevocations {
            commands.cmd("EXISTS").arg(match &unrevocation.target {
                UnrevocationTarget::Token(_, jti) => keys.token(jti),
                UnrevocationTarget::Cutoff(cutoff) => keys.cutoff(*cutoff),
            });
        }
        let there: Vec<bool> = self.send(&commands, limit, Delivery::CONFIRMED).await?;
        if there.len() != unrevocations.len() {
            return Err(StoreError::nonsense());
        }
        Ok(there.into_iter().map(|there| !there).collect())
    }

    async fn entries(
        &self,
        wanted: &[Wanted],
        limit: Duration,
    ) -> Result<Vec<Option<Event>>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let answers: Vec<Value> =
            self.send(&entries::commands(wanted), limit, Delivery::RETRIED).await?;
        entries::events(self.keys(), wanted, answers, ambient::now())
    }
}

// === impl Patience ===

impl Ask for Patience<'_> {
    async fn ask<T: FromRedisValue + Send>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        self.redis.send(commands, self.limit, Delivery::RETRIED).await
    }
}
